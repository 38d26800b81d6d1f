package rest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// headers is what templates see: names as HTTP writes them, found in any case, and
// "link" as the parsed Link header.
func (r *answer) headers() *jinja.Dict {
	d := &jinja.Dict{Fold: true}
	d.Set("link", parseLink(r.header.Values("Link")))
	for k, vs := range r.header {
		if k != "Link" {
			d.Set(k, strings.Join(vs, ", "))
		}
	}
	return d
}

// parseLink parses Link headers (RFC 8288) to a map of rel to its parts.
func parseLink(values []string) *jinja.Dict {
	d := new(jinja.Dict)
	for _, v := range strings.Split(strings.Join(values, ", "), "<") {
		ref, params, ok := strings.Cut(v, ">")
		if !ok {
			continue
		}
		link := jinja.NewDict("url", strings.TrimSpace(ref))
		for _, p := range strings.Split(params, ";") {
			k, val, ok := strings.Cut(p, "=")
			if ok {
				link.Set(strings.TrimSpace(k), strings.Trim(strings.Trim(strings.TrimSpace(val), ","), `" '`))
			}
		}
		rel := link.Text("rel")
		if rel == "" {
			rel = link.Text("url")
		}
		d.Set(rel, link)
	}
	return d
}

// first is the first element of a JSON answer: the object, or the first of a list.
// What is no JSON is an empty map here; the decoder makes it an error.
func (r *answer) first() jinja.Value {
	v, err := r.document()
	if err != nil {
		return new(jinja.Dict)
	}
	if l, ok := v.(*jinja.List); ok {
		if len(l.Items) == 0 {
			return new(jinja.Dict)
		}
		return l.Items[0]
	}
	return v
}

var messageKeys = []string{"message", "messages", "error", "errors", "failures", "failure", "detail", "err", "error_message", "msg", "reason", "status_message"}

// errorMessage digs a message out of a JSON answer.
func (r *answer) errorMessage() string {
	v, err := r.document()
	if err != nil {
		return string(r.body[:min(len(r.body), 4096)])
	}
	return findMessage(v, 0)
}

func findMessage(v jinja.Value, depth int) string {
	if depth > 20 {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case *jinja.List:
		var parts []string
		for _, e := range v.Items {
			if m := findMessage(e, depth+1); m != "" {
				parts = append(parts, m)
			}
		}
		return strings.Join(parts, ", ")
	case *jinja.Dict:
		for _, k := range messageKeys {
			if x, ok := v.Get(k); ok {
				if m := findMessage(x, depth+1); m != "" {
					return m
				}
			}
		}
	}
	return ""
}

// A statusError is an answer that the handlers call a failure.
type statusError struct {
	status  int
	url     string
	message string
	body    string
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s answered %d %s", e.url, e.status, http.StatusText(e.status))
	if e.message != "" {
		s += ": " + e.message
	} else if e.body != "" {
		s += ": " + e.body
	}
	return s
}

func (e *statusError) Unwrap() error {
	switch e.status {
	case 401:
		return exporters.ErrCredentials
	case 403:
		return &dataset.Gap{Code: dataset.Denied, Detail: "the source answered 403"}
	}
	return nil
}
