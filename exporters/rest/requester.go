package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// options are what the parts of a retriever add to a request.
type options struct {
	params, headers, data, json *jinja.Dict
}

func newOptions() options {
	return options{new(jinja.Dict), new(jinja.Dict), new(jinja.Dict), new(jinja.Dict)}
}

// merge adds o to p. A name in both is an error; in a JSON body, equal values and
// maps merge.
func (p options) merge(o options) error {
	for _, m := range []struct {
		what      string
		into, add *jinja.Dict
	}{{"parameter", p.params, o.params}, {"header", p.headers, o.headers}, {"form field", p.data, o.data}} {
		if m.add == nil {
			continue
		}
		for i := range m.add.Len() {
			k, v := m.add.At(i)
			if m.into.Has(k) {
				return fmt.Errorf("two parts of the manifest set the %s %q", m.what, jinja.Str(k))
			}
			m.into.Set(k, v)
		}
	}
	if o.json == nil {
		return nil
	}
	return mergeJSON(p.json, o.json)
}

func mergeJSON(into, add *jinja.Dict) error {
	for i := range add.Len() {
		k, v := add.At(i)
		old, ok := into.Get(k)
		a, okA := old.(*jinja.Dict)
		b, okB := v.(*jinja.Dict)
		switch {
		case !ok:
			into.Set(k, v)
		case okA && okB:
			if err := mergeJSON(a, b); err != nil {
				return err
			}
		case !jinja.Equal(old, v):
			return fmt.Errorf("two parts of the manifest set %q of the body", jinja.Str(k))
		}
	}
	return nil
}

// A requestOption says where a value goes in a request.
type requestOption struct {
	into string
	name *expr
	path []*expr
}

func (n node) requestOption() *requestOption {
	if !n.check() {
		return nil
	}
	o := &requestOption{into: n.d.Text("inject_into"), name: n.expr("field_name"), path: n.exprs("field_path")}
	if o.name == nil && o.path == nil {
		n.problem("field_name", "or field_path is required")
	}
	if o.path != nil && o.into != "body_json" {
		n.problem("field_path", "is for body_json only")
	}
	return o
}

// inject puts v into o.
func (r *requestOption) inject(s scope, o options, v jinja.Value) error {
	if r == nil {
		return nil
	}
	var names []string
	for _, x := range append(slices.Clone(r.path), r.name) {
		if x == nil {
			continue
		}
		t, err := s.text(x)
		if err != nil {
			return err
		}
		names = append(names, t)
	}
	if r.path != nil && r.name != nil {
		names = names[:len(names)-1]
	}
	into := map[string]*jinja.Dict{"request_parameter": o.params, "header": o.headers, "body_data": o.data, "body_json": o.json}[r.into]
	for _, n := range names[:len(names)-1] {
		next, ok := into.Get(n)
		d, isDict := next.(*jinja.Dict)
		if !ok || !isDict {
			d = new(jinja.Dict)
			into.Set(n, d)
		}
		into = d
	}
	into.Set(names[len(names)-1], v)
	return nil
}

// A requester makes the requests of an HttpRequester.
type requester struct {
	path, base *expr
	method     string
	params     *template
	headers    *template
	data       *template
	json       *template
	plain      *expr
	auth       authenticator
	authKey    string // its definition, by which kept answers are told apart
	handler    *errorHandler
	cached     bool // answers are kept
	uncached   bool // the manifest says that they are not to be
	props      *properties
}

func (n node) requester() *requester {
	r := &requester{method: http.MethodGet, auth: noAuth{}, handler: node{}.errorHandler()}
	if n.typ() != "HttpRequester" {
		n.check()
		return r
	}
	if !n.check() {
		return r
	}
	r.base, r.path = n.expr("url", jobNames...), n.expr("path", jobNames...)
	if r.base == nil {
		r.base = n.expr("url_base", jobNames...)
	}
	if r.base == nil {
		n.problem("url", "or url_base is required")
	}
	if m := n.d.Text("http_method"); m != "" {
		r.method = strings.ToUpper(m)
	}
	r.params, r.headers = n.options("request_parameters"), n.options("request_headers")
	r.data, r.json = n.options("request_body_data"), n.options("request_body_json")
	if q, ok := n.d.Get("request_parameters"); ok {
		r.queryProperties(n, q)
	}
	if c, ok := n.child("query_properties"); ok {
		r.props = c.properties("")
	}
	if c, ok := n.child("fetch_properties_from_endpoint"); ok {
		r.props = &properties{}
		c.endpoint(r.props)
	}
	if body, ok := n.child("request_body"); ok && body.check() {
		switch body.typ() {
		case "RequestBodyPlainText":
			r.plain = body.expr("value", jobNames...)
		case "RequestBodyUrlEncodedForm":
			r.data = body.options("value")
		default:
			r.json = body.options("value")
		}
	}
	if a, ok := n.child("authenticator"); ok {
		r.auth, r.authKey = a.authenticator(), a.definition()
		if l, ok := r.auth.(*legacySession); ok {
			l.base = r.base
		}
	}
	if h, ok := n.child("error_handler"); ok {
		r.handler = h.errorHandler()
	}
	r.cached = n.flag("use_cache", false)
	r.uncached = n.has("use_cache") && !r.cached
	return r
}

// queryProperties takes QueryProperties out of the request parameters.
func (r *requester) queryProperties(n node, v jinja.Value) {
	d, ok := v.(*jinja.Dict)
	if !ok {
		return
	}
	for i := range d.Len() {
		k, v := d.At(i)
		if q, ok := v.(*jinja.Dict); ok && q.Text("type") == "QueryProperties" {
			r.props = n.b.node(q, n.path+".request_parameters."+jinja.Str(k)).properties(jinja.Str(k))
		}
	}
}

// options compiles a map of options, or a text that evaluates to one.
func (n node) options(field string) *template {
	v := n.value(field)
	if d, ok := v.(*jinja.Dict); ok {
		plain := new(jinja.Dict)
		for i := range d.Len() {
			k, v := d.At(i)
			if q, ok := v.(*jinja.Dict); ok && q.Text("type") == "QueryProperties" || k == "type" && field == "value" {
				continue
			}
			plain.Set(k, v)
		}
		v = plain
	}
	if v == nil {
		return nil
	}
	return n.template(field, v, jobNames...)
}

// A target is what a retriever adds to a requester's own settings.
type target struct {
	path    string // of a RequestPath token; replaces the requester's own
	options options
}

// build makes the call for one page, with the credentials of auth.
func (r *requester) build(ctx context.Context, v *view, s scope, t target, auth authenticator) (call, error) {
	base, err := s.text(r.base)
	if err != nil {
		return call{}, fmt.Errorf("url: %w", err)
	}
	path := t.path
	if path == "" {
		if path, err = s.text(r.path); err != nil {
			return call{}, fmt.Errorf("path: %w", err)
		}
	}
	u, err := joinURL(base, path)
	if err != nil {
		return call{}, err
	}
	home, err := r.home(v, base)
	if err != nil {
		return call{}, err
	}
	trusted := home != "" && origin(u) == home
	cl := call{method: r.method, url: u, header: http.Header{}}
	if home != "" {
		cl.pinned = []string{home}
	}
	if !trusted {
		// Another host gets the bare URL: any header or parameter of the manifest may
		// hold a credential.
		cl.method = http.MethodGet
		return cl, cl.fill(newOptions(), "")
	}
	all, plain, err := r.evaluate(s)
	if err != nil {
		return call{}, err
	}
	signed, err := auth.options(ctx, v, s)
	if err != nil {
		return call{}, err
	}
	if err := all.merge(signed); err != nil {
		return call{}, err
	}
	if err := all.merge(t.options); err != nil {
		return call{}, err
	}
	if err := addQuery(u, pairs(all.params)); err != nil {
		return call{}, err
	}
	if err := cl.fill(all, plain); err != nil {
		return call{}, err
	}
	if a, ok := auth.(signer); ok {
		err = a.sign(ctx, v, &cl)
	}
	return cl, err
}

// home is the origin that the credentials of this requester belong to: that of its
// URL if that is the configuration's, or one that another requester's is. It is empty
// if a server chose the URL.
func (r *requester) home(v *view, base string) (string, error) {
	u, err := parseURL(base)
	if err != nil {
		return "", err
	}
	o := origin(u)
	if r.ofConfig() || v.homes[o] {
		return o, nil
	}
	return "", nil
}

// ofConfig reports whether only the configuration decides the requester's base URL.
func (r *requester) ofConfig() bool {
	for _, n := range jobNames {
		if r.base.Uses(n) {
			return false
		}
	}
	return true
}

// evaluate evaluates the requester's own options.
func (r *requester) evaluate(s scope) (options, string, error) {
	o := newOptions()
	var plain string
	for _, m := range []struct {
		what  string
		t     *template
		types jinja.Types
		into  *jinja.Dict
	}{{"request_parameters", r.params, jinja.TextOrList, o.params}, {"request_headers", r.headers, nil, o.headers},
		{"request_body_data", r.data, jinja.TextOrList, o.data}, {"request_body_json", r.json, nil, o.json}} {
		if m.t == nil {
			continue
		}
		types := m.types
		if m.t.kind == 'x' {
			types = nil // a text that evaluates to a map
		}
		val, err := s.tree(m.t, types, m.what == "request_body_json")
		if err != nil {
			return o, "", fmt.Errorf("%s: %w", m.what, err)
		}
		switch val := val.(type) {
		case nil:
		case *jinja.Dict:
			for i := range val.Len() {
				k, x := val.At(i)
				if x == nil && m.what == "request_headers" {
					x = "None" // as the framework sends it
				}
				m.into.Set(k, x)
			}
		case string:
			if m.what != "request_body_data" && m.what != "request_body_json" {
				return o, "", fmt.Errorf("%s: %q is no map", m.what, m.t.x.Source())
			}
			plain = val
		default:
			return o, "", fmt.Errorf("%s: %q is no map", m.what, m.t.x.Source())
		}
	}
	if r.plain != nil {
		var err error
		if plain, err = s.text(r.plain); err != nil {
			return o, "", fmt.Errorf("request_body: %w", err)
		}
	}
	return o, plain, nil
}

// fill sets headers and body.
func (c *call) fill(o options, plain string) error {
	for _, p := range pairs(o.headers) {
		if strings.ContainsAny(p.value, "\r\n\x00") || p.name == "" || strings.ContainsAny(p.name, " :\r\n\x00") {
			return fmt.Errorf("header %q has a line break or no name", p.name)
		}
		c.header.Set(p.name, p.value)
	}
	kinds := 0
	typ := ""
	if o.json.Len() > 0 {
		b, err := jinja.AppendJSON(nil, o.json)
		if err != nil {
			return fmt.Errorf("body: %w", err)
		}
		c.body, typ, kinds = b, "application/json", kinds+1
	}
	if o.data.Len() > 0 {
		c.body, typ, kinds = []byte(encode(pairs(o.data))), "application/x-www-form-urlencoded", kinds+1
	}
	if plain != "" {
		c.body, typ, kinds = []byte(plain), "", kinds+1
	}
	if kinds > 1 {
		return fmt.Errorf("two kinds of body are set at once")
	}
	if typ != "" && c.header.Get("Content-Type") == "" {
		c.header.Set("Content-Type", typ)
	}
	if c.header.Get("Accept") == "" {
		c.header.Set("Accept", "*/*")
	}
	return nil
}

// send makes the request of one page, through the cache if the requester has one.
func (r *requester) send(ctx context.Context, v *view, s scope, t target) (*answer, resolution, error) {
	ask := func() (*answer, resolution, error) {
		return v.send(ctx, s, r.handler, func(ctx context.Context) (call, error) { return r.build(ctx, v, s, t, r.auth) },
			func(ctx context.Context) error { return r.auth.refresh(ctx, v, s) })
	}
	if !r.cached {
		return ask()
	}
	cl, err := r.build(ctx, v, s, t, noAuth{})
	if err != nil {
		return nil, resolution{}, err
	}
	return v.cache.answer(ctx, cl.key(r.authKey), ask)
}
