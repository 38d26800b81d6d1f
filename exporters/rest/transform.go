package rest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A transformation changes a record in place.
type transformation func(s scope, rec *jinja.Dict) error

func (n node) transformations(field string) []transformation {
	var out []transformation
	for _, c := range n.children(field) {
		if !c.check() {
			continue
		}
		switch c.typ() {
		case "AddFields":
			out = append(out, c.addFields())
		case "RemoveFields":
			out = append(out, c.removeFields())
		case "KeysToLower":
			out = append(out, renameKeys(strings.ToLower))
		case "KeysToSnakeCase":
			out = append(out, renameDeep(snakeCase))
		case "KeysReplace":
			out = append(out, c.keysReplace())
		case "FlattenFields":
			out = append(out, flatten(c.flag("flatten_lists", true)))
		case "DpathFlattenFields":
			out = append(out, c.dpathFlatten())
		default:
			c.problem("", "is not a transformation")
		}
	}
	return out
}

// valueTypes limits what a text is read back as, by a value_type.
func valueTypes(t string) jinja.Types {
	switch t {
	case "string":
		return jinja.OnlyText
	case "number":
		return func(v jinja.Value) bool { _, ok := v.(float64); return ok }
	case "integer":
		return func(v jinja.Value) bool { _, isBool := v.(bool); _, ok := jinja.Int(v); return ok && !isBool }
	case "boolean":
		return func(v jinja.Value) bool { _, ok := v.(bool); return ok }
	}
	return nil
}

type addedField struct {
	path  []*expr
	value *expr
	types jinja.Types
}

func (n node) addedFields(names ...string) []addedField {
	var out []addedField
	for _, f := range n.children("fields") {
		if !f.has("type") {
			f.d.Set("type", "AddedFieldDefinition")
		}
		if !f.check() {
			continue
		}
		a := addedField{value: f.expr("value", names...), types: valueTypes(f.d.Text("value_type"))}
		a.path = f.exprs("path", names...)
		if len(a.path) == 0 {
			f.problem("path", "is empty")
			continue
		}
		out = append(out, a)
	}
	return out
}

func (n node) addFields() transformation {
	fields := n.addedFields(recordNames...)
	cond := n.condition(append([]string{"value", "path", "property"}, recordNames...)...)
	return func(s scope, rec *jinja.Dict) error {
		s = s.with("record", rec)
		for _, f := range fields {
			if err := f.apply(s, rec, cond); err != nil {
				return fmt.Errorf("AddFields: %w", err)
			}
		}
		return nil
	}
}

// condition compiles a condition whose absence means true.
func (n node) condition(names ...string) *expr {
	if n.d.Text("condition") == "" && !isBool(n.value("condition")) {
		return nil
	}
	return n.expr("condition", names...)
}

func isBool(v jinja.Value) bool { _, ok := v.(bool); return ok }

func (f addedField) apply(s scope, into *jinja.Dict, cond *expr) error {
	v, err := s.value(f.value, f.types)
	if err != nil {
		return err
	}
	var p []string
	l := jinja.NewList()
	for _, x := range f.path {
		t, err := s.text(x)
		if err != nil {
			return err
		}
		p = append(p, t)
		l.Items = append(l.Items, t)
	}
	if cond != nil {
		ok, err := s.with("value", v, "path", l, "property", v).truth(cond, true)
		if err != nil || !ok {
			return err
		}
	}
	assign(into, p, v)
	return nil
}

// pointers returns a field that is a list of paths.
func (n node) pointers(field string) [][]string {
	l, _ := n.value(field).(*jinja.List)
	if l == nil {
		n.problem(field, "is not a list of paths")
		return nil
	}
	var out [][]string
	for _, e := range l.Items {
		var p []string
		if inner, ok := e.(*jinja.List); ok {
			for _, k := range inner.Items {
				p = append(p, jinja.Str(k))
			}
		} else {
			p = []string{jinja.Str(e)}
		}
		if len(p) == 0 {
			n.problem(field, "holds an empty path")
			continue
		}
		out = append(out, p)
	}
	return out
}

func (n node) removeFields() transformation {
	ps := n.pointers("field_pointers")
	cond := n.condition(append([]string{"property"}, recordNames...)...)
	return func(s scope, rec *jinja.Dict) error {
		var keep func(jinja.Value) (bool, error)
		if cond != nil {
			keep = func(v jinja.Value) (bool, error) {
				ok, err := s.with("property", v, "record", rec).truth(cond, true)
				return !ok, err
			}
		}
		for _, p := range ps {
			if err := remove(rec, p, keep); err != nil {
				return fmt.Errorf("RemoveFields: %w", err)
			}
		}
		return nil
	}
}

// rebuild replaces the entries of rec by those of d.
func rebuild(rec, d *jinja.Dict) {
	for rec.Len() > 0 {
		k, _ := rec.At(rec.Len() - 1)
		rec.Delete(k)
	}
	for i := range d.Len() {
		k, v := d.At(i)
		rec.Set(k, v)
	}
}

// renameKeys renames the keys of the top level.
func renameKeys(name func(string) string) transformation {
	return func(s scope, rec *jinja.Dict) error {
		out := new(jinja.Dict)
		for i := range rec.Len() {
			k, v := rec.At(i)
			n := name(jinja.Str(k))
			if out.Has(n) {
				return fmt.Errorf("two keys become %q", n)
			}
			out.Set(n, v)
		}
		rebuild(rec, out)
		return nil
	}
}

// renameDeep renames the keys of every level.
func renameDeep(name func(string) string) transformation {
	var value func(v jinja.Value) (jinja.Value, error)
	value = func(v jinja.Value) (jinja.Value, error) {
		switch v := v.(type) {
		case *jinja.Dict:
			out := new(jinja.Dict)
			for i := range v.Len() {
				k, x := v.At(i)
				n := name(jinja.Str(k))
				if out.Has(n) {
					return nil, fmt.Errorf("two keys become %q", n)
				}
				x, err := value(x)
				if err != nil {
					return nil, err
				}
				out.Set(n, x)
			}
			return out, nil
		case *jinja.List:
			out := jinja.NewList()
			for _, e := range v.Items {
				x, err := value(e)
				if err != nil {
					return nil, err
				}
				out.Items = append(out.Items, x)
			}
			return out, nil
		}
		return v, nil
	}
	return func(s scope, rec *jinja.Dict) error {
		out, err := value(rec)
		if err != nil {
			return err
		}
		rebuild(rec, out.(*jinja.Dict))
		return nil
	}
}

var words = regexp.MustCompile(`\d*[A-Z]+[a-z]*\d*|\d*[a-z]+\d*|\d+|[^a-zA-Z\d]+`)

// snakeCase joins the words of a name with underscores, in lower case. What is
// neither letter nor digit separates.
func snakeCase(s string) string {
	var parts []string
	tokens := words.FindAllString(s, -1)
	for i, t := range tokens {
		letter := t[0] >= '0' && t[0] <= '9' || t[0] >= 'a' && t[0] <= 'z' || t[0] >= 'A' && t[0] <= 'Z'
		switch {
		case letter:
			parts = append(parts, strings.ToLower(t))
		case i == 0 || i == len(tokens)-1:
			parts = append(parts, "")
		}
	}
	return strings.Join(parts, "_")
}

func (n node) keysReplace() transformation {
	from, to := n.expr("old", recordNames...), n.expr("new", recordNames...)
	return func(s scope, rec *jinja.Dict) error {
		s = s.with("record", rec)
		old, err := s.text(from)
		if err != nil {
			return fmt.Errorf("KeysReplace: %w", err)
		}
		with, err := s.text(to)
		if err != nil {
			return fmt.Errorf("KeysReplace: %w", err)
		}
		return renameDeep(func(k string) string { return strings.ReplaceAll(k, old, with) })(s, rec)
	}
}

// flatten lifts nested values to the top, under their own key if that is free there,
// else under the dotted path.
func flatten(lists bool) transformation {
	return func(s scope, rec *jinja.Dict) error {
		out := new(jinja.Dict)
		var add func(key, parent string, v jinja.Value)
		add = func(key, parent string, v jinja.Value) {
			full := key
			if parent != "" {
				full = parent + "." + key
			}
			if d, ok := v.(*jinja.Dict); ok && d.Len() > 0 {
				for i := range d.Len() {
					k, x := d.At(i)
					add(jinja.Str(k), full, x)
				}
				return
			}
			if l, ok := v.(*jinja.List); ok && lists && len(l.Items) > 0 {
				for i, x := range l.Items {
					add(strconv.Itoa(i), full, x)
				}
				return
			}
			if _, err := strconv.Atoi(key); err == nil || out.Has(key) {
				key = full
			}
			out.Set(key, v)
		}
		for i := range rec.Len() {
			k, v := rec.At(i)
			add(jinja.Str(k), "", v)
		}
		rebuild(rec, out)
		return nil
	}
}

func (n node) dpathFlatten() transformation {
	path := n.exprs("field_path", recordNames...)
	deleteOrigin, replace := n.flag("delete_origin_value", false), n.flag("replace_record", false)
	var prefix, suffix *expr
	if k, ok := n.child("key_transformation"); ok {
		if !k.has("type") {
			k.d.Set("type", "KeyTransformation")
		}
		prefix, suffix = k.expr("prefix"), k.expr("suffix")
	}
	return func(s scope, rec *jinja.Dict) error {
		s = s.with("record", rec)
		var p []string
		for _, x := range path {
			t, err := s.text(x)
			if err != nil {
				return fmt.Errorf("DpathFlattenFields: %w", err)
			}
			p = append(p, t)
		}
		found := find(rec, p)
		if len(found) != 1 {
			return nil
		}
		d, ok := found[0].val.(*jinja.Dict)
		if !ok {
			return nil
		}
		pre, err := s.text(prefix)
		if err != nil {
			return fmt.Errorf("DpathFlattenFields: %w", err)
		}
		post, err := s.text(suffix)
		if err != nil {
			return fmt.Errorf("DpathFlattenFields: %w", err)
		}
		d = jinja.Clone(d).(*jinja.Dict)
		lifted := new(jinja.Dict)
		for i := range d.Len() {
			k, v := d.At(i)
			lifted.Set(pre+jinja.Str(k)+post, v)
		}
		if replace {
			rebuild(rec, lifted)
			return nil
		}
		for i := range lifted.Len() { // a conflict leaves the record as it is
			if k, _ := lifted.At(i); rec.Has(k) && !(deleteOrigin && len(p) == 1 && jinja.Str(k) == p[0]) {
				return nil
			}
		}
		if deleteOrigin {
			if err := remove(rec, p, nil); err != nil {
				return err
			}
		}
		for i := range lifted.Len() {
			k, v := lifted.At(i)
			rec.Set(k, v)
		}
		return nil
	}
}

// normalise casts the fields of a record to the types of a JSON schema. What cannot
// be cast stays as it is.
func normalise(schema, rec *jinja.Dict) {
	props, _ := schema.Get("properties")
	d, _ := props.(*jinja.Dict)
	if d == nil {
		return
	}
	for i := range d.Len() {
		k, sub := d.At(i)
		v, has := rec.Get(k)
		s, ok := sub.(*jinja.Dict)
		if !has || !ok || v == nil {
			continue
		}
		if inner, ok := v.(*jinja.Dict); ok {
			normalise(s, inner)
			rec.Set(k, inner)
			continue
		}
		if x, changed := cast(v, onlyType(s)); changed {
			rec.Set(k, x)
		}
	}
}

// onlyType is the one type of a schema besides null, or "".
func onlyType(s *jinja.Dict) string {
	switch t, _ := s.Get("type"); t := t.(type) {
	case string:
		return t
	case *jinja.List:
		only := ""
		for _, e := range t.Items {
			if name := jinja.Str(e); name != "null" {
				if only != "" {
					return ""
				}
				only = name
			}
		}
		return only
	}
	return ""
}

func cast(v jinja.Value, typ string) (jinja.Value, bool) {
	text, isText := v.(string)
	switch typ {
	case "string":
		if !isText {
			if _, nested := v.(*jinja.List); nested {
				b, err := jinja.AppendJSON(nil, v)
				return string(b), err == nil
			}
			return jinja.Str(v), true
		}
	case "integer", "number":
		if isText {
			lit, ok := jinja.LiteralEval(strings.TrimSpace(text))
			if _, numeric := jinja.Float(lit); ok && numeric && !isBool(lit) {
				if f, isFloat := lit.(float64); isFloat && typ == "integer" && f != float64(int64(f)) {
					return v, false
				}
				return lit, true
			}
		}
	case "boolean":
		switch strings.ToLower(text) {
		case "true", "1", "yes", "y", "t", "on":
			return true, true
		case "false", "0", "no", "n", "f", "off":
			return false, true
		}
	}
	return v, false
}
