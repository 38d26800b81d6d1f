package rest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// Limits bound what a server can make an export do.
type limits struct {
	response int64         // bytes of one answer, after decompression
	download int64         // bytes of one streamed download, after decompression
	patience time.Duration // all waits of one request together
	timeout  time.Duration // one answer, from dialling to its last byte
}

// maxRatio is how many times larger than its compressed form an answer may be, once
// it is above a few MiB. DEFLATE cannot do more than 1,032.
const maxRatio = 400

const maxRedirects = 10

// A client talks to the hosts that the manifest and the options name, and to no other.
type client struct {
	http    *http.Client // with the service's cookies
	bare    *http.Client // without, for other hosts
	limits  limits
	extra   map[string]bool // origins that the options allow besides the manifest's
	secrets *redactor

	mu      sync.Mutex
	touched map[string]bool // origins talked to
}

// clientOptions are the settings of a client.
type clientOptions struct {
	limits  limits
	hosts   []string // further origins or hosts
	private bool     // names may resolve to private addresses
	proxy   *url.URL
	roots   *x509.CertPool
	secrets *redactor
}

func newClient(o clientOptions) (*client, error) {
	c := &client{limits: o.limits, extra: map[string]bool{}, touched: map[string]bool{}, secrets: o.secrets}
	for _, h := range o.hosts {
		if !strings.Contains(h, "://") {
			h = "https://" + h
		}
		u, err := parseURL(h)
		if err != nil {
			return nil, fmt.Errorf("hosts: %w", err)
		}
		c.extra[origin(u)] = true
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{
		DialContext:            dialer(o.private, o.proxy),
		TLSClientConfig:        &tls.Config{RootCAs: o.roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  o.limits.timeout,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true, // we bound it ourselves
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
	}
	if o.proxy != nil {
		tr.Proxy = http.ProxyURL(o.proxy)
	}
	c.http = &http.Client{
		Transport:     tr,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.bare = &http.Client{Transport: tr, CheckRedirect: c.http.CheckRedirect}
	return c, nil
}

// dialer refuses addresses that a public name must not lead to, whatever DNS says at
// the moment of dialling. A host given as an address, and localhost, mean themselves.
func dialer(private bool, proxy *url.URL) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		_, literal := netip.ParseAddr(host)
		named := literal != nil && host != "localhost" && (proxy == nil || host != proxy.Hostname())
		d := net.Dialer{Timeout: 20 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if ip := ap.Addr().Unmap(); named && !allowed(ip, private) {
				return &refusedError{fmt.Sprintf("%s resolves to %s, an address that is not public", host, ip)}
			}
			return nil
		}}
		return d.DialContext(ctx, network, addr)
	}
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// allowed reports whether a name may lead to ip.
func allowed(ip netip.Addr, private bool) bool {
	switch {
	case ip.IsLoopback(), ip.IsLinkLocalUnicast(), ip.IsLinkLocalMulticast(), ip.IsMulticast(), ip.IsUnspecified():
		return false
	case ip.IsPrivate(), carrierNAT.Contains(ip):
		return private
	}
	return true
}

// A refusedError is a request that was not made because of where it would have gone.
// Trying again does not help.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return "refused: " + e.why }

// A call is one request to make. Its credentials are in header and query, and it may
// go to the origins in pinned.
type call struct {
	method string
	url    *url.URL
	header http.Header
	body   []byte
	pinned []string // origins; the first is where credentials belong

	learn func(*answer) // takes what the answer says of a quota; may be nil
	spare func() bool   // whether another credential could be used at once; may be nil
}

// An answer is a response with its whole body, decompressed. It is safe for concurrent
// use once made.
type answer struct {
	status int
	header http.Header
	body   []byte
	url    *url.URL
	kept   bool // it was asked for earlier

	once sync.Once
	doc  jinja.Value
	err  error
}

// document parses the body as JSON, once.
func (a *answer) document() (jinja.Value, error) {
	a.once.Do(func() { a.doc, a.err = jinja.ParseJSON(trimBOM(a.body)) })
	return a.doc, a.err
}

func (c *client) check(u *url.URL, pinned []string) error {
	o := origin(u)
	if slices.Contains(pinned, o) || c.extra[o] {
		return nil
	}
	return &refusedError{fmt.Sprintf("%s is not a host of the manifest (%s); the option hosts can allow it", o, strings.Join(pinned, ", "))}
}

// do makes a call and reads its whole answer. Redirects are followed within the
// pinned origins; to another allowed one they carry no header, cookie or body.
func (c *client) do(ctx context.Context, cl call) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.timeout)
	defer cancel()
	resp, u, err := c.open(ctx, cl)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := c.decoded(resp, c.limits.response)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, c.clean(fmt.Errorf("read the answer: %w", err))
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: b, url: u}, nil
}

// open makes a call and returns the final response, whose body the caller closes.
func (c *client) open(ctx context.Context, cl call) (*http.Response, *url.URL, error) {
	u, header, method, body := cl.url, cl.header, cl.method, cl.body
	home := "" // where credentials belong
	if len(cl.pinned) > 0 {
		home = cl.pinned[0]
	}
	for range maxRedirects {
		if err := c.check(u, cl.pinned); err != nil {
			return nil, nil, err
		}
		req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
		if err != nil {
			return nil, nil, errors.New("malformed request")
		}
		if len(body) == 0 {
			req.Body, req.GetBody, req.ContentLength = nil, nil, 0
		}
		req.Header = header.Clone()
		if req.Header.Get("Accept-Encoding") == "" {
			req.Header.Set("Accept-Encoding", "gzip, deflate")
		}
		if req.Header.Get("User-Agent") == "" {
			req.Header.Set("User-Agent", "sallyport")
		}
		if h := req.Header.Get("Host"); h != "" {
			req.Host = h
			req.Header.Del("Host")
		}
		c.touch(origin(u))
		hc := c.http
		if origin(u) != home {
			hc = c.bare
		}
		resp, err := hc.Do(req)
		if err != nil {
			return nil, nil, c.clean(err)
		}
		loc := resp.Header.Get("Location")
		if !slices.Contains([]int{301, 302, 303, 307, 308}, resp.StatusCode) || loc == "" {
			return resp, u, nil
		}
		io.CopyN(io.Discard, resp.Body, 64<<10)
		resp.Body.Close()
		next, err := u.Parse(loc)
		if err != nil || next.Scheme != "http" && next.Scheme != "https" {
			return nil, nil, &refusedError{"a redirect to what is no http URL"}
		}
		if resp.StatusCode == 303 || method == http.MethodPost && resp.StatusCode < 303 {
			method, body = http.MethodGet, nil
			header = header.Clone()
			header.Del("Content-Type")
		}
		if origin(next) != home {
			header, body = http.Header{"Accept": header["Accept"]}, nil
		}
		u = next
	}
	return nil, nil, &refusedError{fmt.Sprintf("more than %d redirects", maxRedirects)}
}

func (c *client) touch(o string) {
	c.mu.Lock()
	c.touched[o] = true
	c.mu.Unlock()
}

// decoded returns the body without its content encoding, bounded in size and ratio.
func (c *client) decoded(resp *http.Response, limit int64) (io.Reader, error) {
	raw := &countingReader{r: resp.Body}
	var r io.Reader = raw
	switch enc := strings.ToLower(strings.TrimSpace(strings.Join(resp.Header.Values("Content-Encoding"), ","))); enc {
	case "", "identity":
		return &boundedReader{r: r, left: limit}, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		r = z
	case "deflate":
		head := make([]byte, 2)
		n, err := io.ReadFull(r, head)
		if err != nil && n == 0 {
			return nil, fmt.Errorf("deflate: %w", err)
		}
		r = io.MultiReader(bytes.NewReader(head[:n]), r)
		if n == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
			if r, err = zlib.NewReader(r); err != nil {
				return nil, fmt.Errorf("deflate: %w", err)
			}
		} else {
			r = flate.NewReader(r)
		}
	default:
		return nil, &refusedError{fmt.Sprintf("content encoding %q was not asked for", cut(enc, 100))}
	}
	return &boundedReader{r: r, left: limit, compressed: raw}, nil
}

// countingReader counts the bytes read.
type countingReader struct {
	r io.Reader
	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	return n, err
}

// errTooLarge says that an answer is larger than the limits allow.
var errTooLarge = errors.New("the answer is larger than the limit")

// boundedReader fails, and does not end, beyond its limits.
type boundedReader struct {
	r          io.Reader
	left       int64
	got        int64
	compressed *countingReader // nil if there is no compression
}

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		var one [1]byte
		if n, err := r.r.Read(one[:]); n == 0 && err != nil {
			return 0, err
		}
		return 0, errTooLarge
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	r.got += int64(n)
	if r.compressed != nil && r.got > 4<<20 && r.got > maxRatio*(r.compressed.n+1) {
		return n, fmt.Errorf("%w: it is compressed more than %d times", errTooLarge, maxRatio)
	}
	return n, err
}

// clean removes what may hold a credential from an error of the HTTP package: its
// text quotes URLs.
func (c *client) clean(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if refused := (*refusedError)(nil); errors.As(err, &refused) {
		return refused
	}
	if text := err.Error(); c.secrets.clean(text) != text {
		return errors.New(c.secrets.clean(text))
	}
	return err
}

// A redactor removes secrets from texts. It is safe for concurrent use.
type redactor struct {
	mu      sync.Mutex
	secrets []string          // oldest first
	stars   *strings.Replacer // of all of them, nil if it is to be made anew
}

// maxSecrets bounds what is remembered. Those of the configuration come first and
// stay; of tokens that a service gives, the oldest go.
const maxSecrets = 1000

// add registers a secret, in the forms in which it may come back.
func (r *redactor) add(s string) {
	if len(s) < 4 {
		return // removing so short a text would garble everything and protect nothing
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
		if slices.Contains(r.secrets, f) {
			continue
		}
		r.stars = nil
		if r.secrets = append(r.secrets, f); len(r.secrets) > maxSecrets {
			r.secrets = slices.Delete(r.secrets, maxSecrets/2, maxSecrets/2+1)
		}
	}
}

func (r *redactor) clean(s string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stars == nil {
		longest := slices.Clone(r.secrets) // first, or a short one would leave the rest of a long one
		slices.SortFunc(longest, func(a, b string) int { return len(b) - len(a) })
		var pairs []string
		for _, x := range longest {
			pairs = append(pairs, x, "***")
		}
		r.stars = strings.NewReplacer(pairs...)
	}
	return r.stars.Replace(s)
}

// quoted makes bytes of a server fit for an error message: redacted, cut, escaped.
func (r *redactor) quoted(b []byte) string {
	return fmt.Sprintf("%q", r.clean(string(b[:min(len(b), 300)])))
}

// cut shortens s to n bytes.
func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
