package rest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A Problem is a reason why a manifest cannot run as it is.
type Problem struct {
	Path       string `json:"path"`                 // where, as streams[0].retriever.requester
	Component  string `json:"component,omitempty"`  // its type
	Field      string `json:"field,omitempty"`      //
	Expression string `json:"expression,omitempty"` // the template, if that is the reason
	Message    string `json:"message"`
}

func (p Problem) Error() string {
	s := p.Path
	if p.Component != "" {
		s += " (" + p.Component + ")"
	}
	if p.Field != "" {
		s += ": " + p.Field
	}
	if p.Expression != "" {
		s += fmt.Sprintf(" %q", p.Expression)
	}
	return s + ": " + p.Message
}

// A builder turns nodes into what runs, and collects problems instead of stopping at
// the first.
type builder struct {
	cat      *catalogue
	problems []Problem
	used     map[string]int  // components by type
	parents  map[string]bool // names of streams that others are partitioned by
}

func newBuilder(cat *catalogue) *builder {
	return &builder{cat: cat, used: map[string]int{}, parents: map[string]bool{}}
}

// A node is one component, or a map, of the manifest.
type node struct {
	b      *builder
	d      *jinja.Dict
	path   string
	params *jinja.Dict
}

func (b *builder) node(d *jinja.Dict, path string) node {
	n := node{b: b, d: d, path: path, params: new(jinja.Dict)}
	if p, ok := d.Get("$parameters"); ok {
		if p, ok := p.(*jinja.Dict); ok {
			n.params = p
		}
	}
	return n
}

func (n node) typ() string { return n.d.Text("type") }

func (n node) problem(field, format string, args ...any) {
	n.b.problems = append(n.b.problems, Problem{Path: n.path, Component: n.typ(), Field: field, Message: fmt.Sprintf(format, args...)})
}

// check compares a component with the table: its type runs, required fields are
// there, words are of their lists.
func (n node) check() bool {
	typ := n.typ()
	n.b.used[typ]++
	if strings.HasPrefix(typ, "Custom") {
		n.problem("class_name", "Python class %q has no replacement in Go", n.d.Text("class_name"))
		return false
	}
	fields, ok := n.b.cat.components[typ]
	if !ok {
		n.problem("", "there is no component of type %q", typ)
		return false
	}
	ok = true
	for name, f := range fields {
		v, has := n.d.Get(name)
		if f.required && (!has || v == nil) && !(typ == "MinMaxDatetime" && name == "datetime") {
			n.problem(name, "is required")
			ok = false
		}
		words := f.enum
		if len(f.types) == 1 && enums[f.types[0]] != nil {
			words = enums[f.types[0]]
		}
		if s, isText := v.(string); isText && words != nil && !slices.Contains(words, s) {
			n.problem(name, "%q is none of %s", s, strings.Join(words, ", "))
			ok = false
		}
	}
	return ok
}

// child returns the component in a field.
func (n node) child(name string) (node, bool) {
	v, ok := n.d.Get(name)
	if !ok || v == nil {
		return node{}, false
	}
	d, ok := v.(*jinja.Dict)
	if !ok {
		n.problem(name, "is not a component")
		return node{}, false
	}
	return n.b.node(d, n.path+"."+name), true
}

// children returns the components in a field that holds one or a list.
func (n node) children(name string) []node {
	v, _ := n.d.Get(name)
	var items []jinja.Value
	switch v := v.(type) {
	case nil:
		return nil
	case *jinja.List:
		items = v.Items
	default:
		items = []jinja.Value{v}
	}
	var out []node
	for i, e := range items {
		d, ok := e.(*jinja.Dict)
		if !ok {
			n.problem(name, "item %d is not a component", i)
			continue
		}
		path := n.path + "." + name
		if _, isList := v.(*jinja.List); isList {
			path = fmt.Sprintf("%s[%d]", path, i)
		}
		out = append(out, n.b.node(d, path))
	}
	return out
}

// value returns a field as it is, nil if absent.
func (n node) value(name string) jinja.Value {
	v, _ := n.d.Get(name)
	return v
}

func (n node) has(name string) bool { return n.value(name) != nil }

// flag returns a boolean field.
func (n node) flag(name string, def bool) bool {
	switch v := n.value(name).(type) {
	case nil:
		return def
	case bool:
		return v
	case string:
		return strings.EqualFold(v, "true")
	}
	n.problem(name, "is not a boolean")
	return def
}

// texts returns a field that is a list of plain texts.
func (n node) texts(name string) []string {
	switch v := n.value(name).(type) {
	case nil:
		return nil
	case *jinja.List:
		var out []string
		for _, e := range v.Items {
			if _, ok := e.(*jinja.Dict); ok {
				n.problem(name, "is not a list of texts")
				return nil
			}
			out = append(out, jinja.Str(e))
		}
		return out
	default:
		return []string{jinja.Str(v)}
	}
}

// integers returns a field that is a list of ints.
func (n node) integers(name string) []int {
	var out []int
	for _, s := range n.texts(name) {
		v, _ := jinja.LiteralEval(s)
		i, ok := jinja.Int(v)
		if !ok {
			n.problem(name, "%q is not an integer", s)
			continue
		}
		out = append(out, int(i))
	}
	return out
}

// duration returns an ISO 8601 field.
func (n node) duration(name string) (jinja.Duration, bool) {
	s := n.d.Text(name)
	if s == "" {
		return jinja.Duration{}, false
	}
	d, err := jinja.ParseDuration(s)
	if err != nil {
		n.problem(name, "%v", err)
		return jinja.Duration{}, false
	}
	return d, true
}

// An expr is an expression with the parameters of its component.
type expr struct {
	*jinja.Expression
	params *jinja.Dict
}

// Names that expressions of each kind may use, besides config and parameters.
var (
	sliceNames    = []string{"stream_slice", "stream_partition", "stream_interval"}
	requestNames  = append([]string{"next_page_token"}, sliceNames...)
	responseNames = []string{"response", "headers", "last_page_size", "last_record", "last_page_token_value"}
	recordNames   = append([]string{"record"}, sliceNames...)
	jobNames      = append([]string{"creation_response", "polling_response", "download_target"}, requestNames...)
)

// compile compiles one text with the names that it may use.
func (n node) compile(field, src string, names ...string) *expr {
	scope := append([]string{"config", "parameters"}, names...)
	x, err := jinja.Compile(src, scope)
	if err != nil {
		n.b.problems = append(n.b.problems, Problem{n.path, n.typ(), field, src, err.Error()})
		return nil
	}
	return &expr{x, n.params}
}

// expr compiles a field, nil if it is absent. Numbers and booleans count as their
// Python text.
func (n node) expr(field string, names ...string) *expr {
	switch v := n.value(field).(type) {
	case nil:
		return nil
	case *jinja.Dict, *jinja.List:
		n.problem(field, "is not a text")
		return nil
	default:
		return n.compile(field, jinja.Str(v), names...)
	}
}

// exprs compiles a field that is a list of texts.
func (n node) exprs(field string, names ...string) []*expr {
	var out []*expr
	for _, s := range n.texts(field) {
		if x := n.compile(field, s, names...); x != nil {
			out = append(out, x)
		}
	}
	return out
}

// A template is a map, list or text of expressions, as request_body_json has them.
type template struct {
	keys  []*expr
	vals  []*template
	items []*template
	kind  byte // d, l, x (an expression) or c (a constant)
	x     *expr
	c     jinja.Value
}

func (n node) template(field string, v jinja.Value, names ...string) *template {
	switch v := v.(type) {
	case *jinja.Dict:
		t := &template{kind: 'd'}
		for i := range v.Len() {
			k, val := v.At(i)
			if k == "$parameters" {
				continue
			}
			t.keys = append(t.keys, n.compile(field, jinja.Str(k), names...))
			t.vals = append(t.vals, n.template(field, val, names...))
		}
		return t
	case *jinja.List:
		t := &template{kind: 'l'}
		for _, e := range v.Items {
			t.items = append(t.items, n.template(field, e, names...))
		}
		return t
	case string:
		return &template{kind: 'x', x: n.compile(field, v, names...)}
	}
	return &template{kind: 'c', c: v}
}

// A scope is what the expressions of one evaluation see.
type scope struct {
	env  *jinja.Env
	vars jinja.Vars
}

// with returns a scope with more variables: names and values in turn.
func (s scope) with(kv ...any) scope {
	vars := make(jinja.Vars, len(s.vars)+len(kv)/2)
	for k, v := range s.vars {
		vars[k] = v
	}
	for i := 0; i+1 < len(kv); i += 2 {
		vars[kv[i].(string)] = kv[i+1]
	}
	return scope{s.env, vars}
}

func (s scope) of(x *expr) jinja.Vars { return s.with("parameters", x.params).vars }

// value evaluates x; types says which literals are more than text.
func (s scope) value(x *expr, types jinja.Types) (jinja.Value, error) {
	return x.Eval(s.env, s.of(x), types)
}

// text evaluates x to text; a nil x is "".
func (s scope) text(x *expr) (string, error) {
	if x == nil {
		return "", nil
	}
	return x.EvalText(s.env, s.of(x))
}

// truth evaluates a condition; a nil x is def.
func (s scope) truth(x *expr, def bool) (bool, error) {
	if x == nil {
		return def, nil
	}
	return x.EvalBool(s.env, s.of(x))
}

// number evaluates x to a float64; a nil x is def.
func (s scope) number(x *expr, def float64) (float64, error) {
	if x == nil {
		return def, nil
	}
	v, err := x.EvalOr(s.env, s.of(x), nil, nil)
	if err != nil || v == nil {
		return def, err
	}
	f, ok := jinja.Float(v)
	if !ok {
		return 0, fmt.Errorf("expression %q gives %s, not a number", x.Source(), jinja.Repr(v))
	}
	return f, nil
}

// tree evaluates a template. What is empty or undefined is None; with dropNull, map
// entries that are None are left out.
func (s scope) tree(t *template, types jinja.Types, dropNull bool) (jinja.Value, error) {
	switch t.kind {
	case 'd':
		d := new(jinja.Dict)
		for i, k := range t.keys {
			key, err := s.text(k)
			if err != nil {
				return nil, err
			}
			v, err := s.tree(t.vals[i], types, dropNull)
			if err != nil {
				return nil, err
			}
			if v != nil || !dropNull {
				d.Set(key, v)
			}
		}
		return d, nil
	case 'l':
		l := jinja.NewList()
		for _, e := range t.items {
			v, err := s.tree(e, types, dropNull)
			if err != nil {
				return nil, err
			}
			l.Items = append(l.Items, v)
		}
		return l, nil
	case 'x':
		return t.x.EvalOr(s.env, s.of(t.x), types, nil)
	}
	return t.c, nil
}
