package rest

import (
	"fmt"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A selector takes records out of a decoded body: extractor, filter, transformations.
type selector struct {
	path      []*expr
	expand    []*expr
	keepWhole bool // the expanded record's original stays in each part
	emitWhole bool // a record with nothing to expand is yielded itself
	filter    *expr
	normalise bool
	before    bool // transform before filtering
	custom    func(jinja.Value) ([]jinja.Value, error)
}

func (n node) selector() *selector {
	s := &selector{}
	if n.d == nil || !n.check() {
		return s
	}
	if x, ok := n.child("extractor"); ok {
		if fn, has := extractors[x.d.Text("class_name")]; has {
			s.custom = fn
		} else if x.check() {
			s.path = x.exprs("field_path")
			if e, ok := x.child("record_expander"); ok && e.check() {
				s.expand = e.exprs("expand_records_from_field")
				s.keepWhole, s.emitWhole = e.flag("remain_original_record", false), e.d.Text("on_no_records") == "emit_parent"
			}
		}
	}
	if f, ok := n.child("record_filter"); ok && f.check() {
		s.filter = f.expr("condition", append([]string{"next_page_token"}, recordNames...)...)
		if s.filter == nil {
			s.filter = f.compile("condition", "") // drops everything, as the framework does
		}
	}
	switch v := n.value("schema_normalization").(type) {
	case string:
		s.normalise = v == "Default"
	case *jinja.Dict:
		n.b.node(v, n.path+".schema_normalization").check()
	}
	s.before = n.flag("transform_before_filtering", false)
	return s
}

// An absentError says that the path of an extractor leads nowhere in an answer.
type absentError struct{ path string }

func (e *absentError) Error() string {
	return fmt.Sprintf("the answer has no %s, where the manifest says the records are", e.path)
}

// extract returns the records of one decoded element. A path that is not there is an
// *absentError: the framework takes that for no records.
func (x *selector) extract(s scope, body jinja.Value) ([]jinja.Value, error) {
	if x.custom != nil {
		return x.custom(body)
	}
	var path []string
	star := false
	for _, p := range x.path {
		t, err := s.text(p)
		if err != nil {
			return nil, fmt.Errorf("field_path: %w", err)
		}
		path = append(path, t)
		star = star || t == "*"
	}
	found := find(body, path)
	var out []jinja.Value
	switch {
	case star:
		for _, m := range found {
			out = append(out, m.val)
		}
		if len(found) == 0 {
			if head := find(body, path[:indexOf(path, "*")]); len(head) == 0 {
				return nil, &absentError{strings.Join(path, ".")}
			}
		}
		if len(out) == 1 { // one match that is a list holds the records
			if l, ok := out[0].(*jinja.List); ok {
				out = l.Items
			}
		} else if flat, ok := allLists(out); ok {
			out = flat
		}
	case len(found) == 0:
		return nil, &absentError{strings.Join(path, ".")}
	case len(found) > 1:
		return nil, fmt.Errorf("the path %s leads to %d values", strings.Join(path, "."), len(found))
	default:
		if l, ok := found[0].val.(*jinja.List); ok {
			out = l.Items
		} else if jinja.Truth(found[0].val) {
			out = []jinja.Value{found[0].val}
		}
	}
	return x.expanded(s, out)
}

func indexOf(path []string, s string) int {
	for i, p := range path {
		if p == s {
			return i
		}
	}
	return len(path)
}

// allLists flattens values that are all lists.
func allLists(vs []jinja.Value) ([]jinja.Value, bool) {
	var out []jinja.Value
	for _, v := range vs {
		l, ok := v.(*jinja.List)
		if !ok {
			return nil, false
		}
		out = append(out, l.Items...)
	}
	return out, len(vs) > 0
}

// expanded replaces each record by the items of one of its fields.
func (x *selector) expanded(s scope, in []jinja.Value) ([]jinja.Value, error) {
	if x.expand == nil {
		return in, nil
	}
	var path []string
	for _, p := range x.expand {
		t, err := s.text(p)
		if err != nil {
			return nil, fmt.Errorf("expand_records_from_field: %w", err)
		}
		path = append(path, t)
	}
	var out []jinja.Value
	for _, rec := range in {
		n := len(out)
		for _, m := range find(rec, path) {
			items := []jinja.Value{m.val}
			if l, ok := m.val.(*jinja.List); ok {
				items = l.Items
			}
			for _, e := range items {
				if d, ok := e.(*jinja.Dict); ok && x.keepWhole {
					d = jinja.Clone(d).(*jinja.Dict)
					d.Set("original_record", rec)
					e = d
				}
				out = append(out, e)
			}
		}
		if len(out) == n && x.emitWhole {
			out = append(out, rec)
		}
	}
	return out, nil
}
