package rest

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A pair is one parameter or header. Their order is that of the manifest.
type pair struct{ name, value string }

// pairs turns a map of evaluated options into pairs: None is left out, a list repeats
// its key, everything else is Python's str().
func pairs(d *jinja.Dict) []pair {
	var out []pair
	for i := range d.Len() {
		k, v := d.At(i)
		name := jinja.Str(k)
		switch v := v.(type) {
		case nil:
		case *jinja.List:
			for _, e := range v.Items {
				if e != nil {
					out = append(out, pair{name, jinja.Str(e)})
				}
			}
		default:
			out = append(out, pair{name, jinja.Str(v)})
		}
	}
	return out
}

// encode writes pairs as Python's urlencode does.
func encode(ps []pair) string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(jinja.QuotePlus(p.name) + "=" + jinja.QuotePlus(p.value))
	}
	return b.String()
}

// addQuery appends parameters to a URL, but for those that it has already with the
// same value.
func addQuery(u *url.URL, ps []pair) error {
	have, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("the query of the URL is malformed")
	}
	var add []pair
	for _, p := range ps {
		if vs := have[p.name]; len(vs) == 1 && vs[0] == p.value {
			continue
		}
		add = append(add, p)
	}
	if len(add) == 0 {
		return nil
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += encode(add)
	return nil
}

// joinURL joins a base and a path as the framework does: RFC 3986 after the base got
// its closing slash and the path lost its opening ones. No path is the base itself.
func joinURL(base, path string) (*url.URL, error) {
	if strings.TrimSpace(path) == "" {
		return parseURL(base)
	}
	if !strings.HasSuffix(base, "/") {
		base += "/"
	}
	b, err := parseURL(base)
	if err != nil {
		return nil, err
	}
	ref, err := url.Parse(strings.TrimLeft(path, "/"))
	if err != nil {
		if ref, err = url.Parse("./" + strings.TrimLeft(path, "/")); err != nil {
			return nil, fmt.Errorf("malformed path")
		}
	}
	u := b.ResolveReference(ref)
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("the path makes a URL of scheme %q", cut(u.Scheme, 20))
	}
	return u, nil
}

// parseURL parses an absolute http or https URL. Its errors do not quote the URL,
// which may hold credentials.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		return nil, fmt.Errorf("malformed URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("a URL of scheme %q and host %q is not http or https", u.Scheme, u.Hostname())
	}
	return u, nil
}

// origin is scheme, host and port of a URL, always with the port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// publicURL is a URL without user, query and fragment, for reports.
func publicURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
