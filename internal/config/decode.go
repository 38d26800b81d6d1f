package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A field is one key of a mapping, as the tags of a struct declare it.
type field struct {
	key, doc, def, names string
	need, make           bool
	enum                 []string
	min, max             int // max < 0: unbounded
	index                int
	typ                  reflect.Type
}

// fieldsOf reads the declarations of a struct, in order. It panics on a tag that makes
// no sense, which a test would find.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		sf := t.Field(i)
		key, ok := sf.Tag.Lookup("key")
		if !ok {
			continue
		}
		f := field{key: key, doc: sf.Tag.Get("doc"), def: sf.Tag.Get("default"), names: sf.Tag.Get("names"),
			make: sf.Tag.Get("file") == "make", max: -1, index: i, typ: sf.Type}
		_, f.need = sf.Tag.Lookup("need")
		if e := sf.Tag.Get("enum"); e != "" {
			f.enum = strings.Split(e, "|")
		}
		f.min = tagNumber(sf, "min", 0)
		f.max = tagNumber(sf, "max", -1)
		fs = append(fs, f)
	}
	return fs
}

func tagNumber(sf reflect.StructField, tag string, absent int) int {
	s, ok := sf.Tag.Lookup(tag)
	if !ok {
		return absent
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(fmt.Sprintf("config: field %s: tag %s: %v", sf.Name, tag, err))
	}
	return n
}

// A decoder turns nodes into values and collects what is wrong with them.
type decoder struct {
	file, dir string
	pos       map[string]int
	found     Findings
	paths     []pathRef // of this host, to be looked at once all is parsed
	secrets   []secretRef
}

// A pathRef is a path of the file that should exist.
type pathRef struct {
	key  string
	path Path
}

// A secretRef is a reference to a secret that should resolve.
type secretRef struct{ key, ref string }

func (d *decoder) fail(line int, path, format string, args ...any) {
	d.found = append(d.found, Finding{File: d.file, Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) refuse(line int, path, format string, args ...any) {
	d.fail(line, path, format, args...)
	d.found[len(d.found)-1].Policy = true
}

// document parses text to its one root node, or reports why there is none. What follows
// that is reported, and does not hide what is wrong with the first.
func (d *decoder) document(text []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.fail(1, "", "the file is empty")
		return nil
	case err != nil:
		d.syntax(text, err)
		return nil
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		d.fail(max(second.Line, 1), "", "a second document begins here; there must be one")
	case !errors.Is(err, io.EOF):
		d.syntax(text, err)
	}
	return doc.Content[0]
}

var yamlLine = regexp.MustCompile(`(?s)^yaml: line (\d+): (.*)$`)

// syntax reports an error of the YAML parser. Its own line is a line or two off for
// tabs, the commonest mistake, so those are looked for.
func (d *decoder) syntax(text []byte, err error) {
	if n := tabLine(text); n > 0 {
		d.fail(n, "", "indented with a tab; YAML wants spaces")
		return
	}
	line, message := 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = m[2]
	}
	d.fail(line, "", "not YAML: %s", message)
}

// tabLine returns the first line with a tab in its indentation, or 0.
func tabLine(text []byte) int {
	n := 0
	for line := range bytes.Lines(text) {
		n++
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if bytes.ContainsRune(indent, '\t') && len(bytes.TrimSpace(line)) > 0 {
			return n
		}
	}
	return 0
}

// plain refuses what makes a configuration mean something else than it shows: anchors,
// aliases and explicit types. It reports whether n may be used.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.fail(n.Line, path, "anchors and aliases are not supported; write it out")
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n.Line, path, "explicit types (%s) are not supported", n.Tag)
	default:
		return true
	}
	return false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// value decodes n into v, whose declaration is f.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, f field) {
	if !d.present(path) {
		d.pos[path] = n.Line
	}
	if !d.plain(n, path) {
		return
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		d.fail(n.Line, path, "has no value")
		return
	}
	if _, ok := shapes[v.Type()]; ok {
		d.shaped(n, v, path, f)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path, f)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[With]() {
			d.with(n, v.Addr().Interface().(*With), path)
			return
		}
		d.mapping(n, v, path)
	case reflect.Map:
		d.table(n, v, path, f)
	case reflect.Slice:
		d.list(n, v, path, f)
	case reflect.String:
		if s, ok := d.text(n, path); ok && d.allowed(n, path, s, f) {
			v.SetString(s)
		}
	case reflect.Bool:
		if b, ok := d.truth(n, path); ok {
			v.SetBool(b)
		}
	case reflect.Int:
		if i, ok := d.number(n, path); ok && d.bounded(n, path, i, f) {
			v.SetInt(i)
		}
	default:
		panic("config: no way to decode " + v.Type().String())
	}
}

// pairs yields the keys and values of a mapping, each key once, after reporting those
// that are no text or come twice.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key string, k, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, path, "must be a mapping of keys to values, not %s", kindOf(n))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge":
			d.fail(k.Line, path, "merge keys (<<) are not supported; write it out")
		case !d.plain(k, path):
		case k.Kind != yaml.ScalarNode || k.ShortTag() != "!!str":
			d.fail(k.Line, path, "a key must be text, not %s", kindOf(k))
		case seen[k.Value] > 0:
			d.fail(k.Line, join(path, k.Value), "given twice, first in line %d", seen[k.Value])
		default:
			seen[k.Value] = k.Line
			each(k.Value, k, v)
		}
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	fs := fieldsOf(v.Type())
	d.defaults(v, fs)
	given := map[string]bool{}
	d.pairs(n, path, func(key string, k, val *yaml.Node) {
		i := slices.IndexFunc(fs, func(f field) bool { return f.key == key })
		if i < 0 {
			d.fail(k.Line, join(path, key), "unknown key%s", suggest(key, fs))
			return
		}
		given[key] = true
		d.pos[join(path, key)] = k.Line
		d.value(val, v.Field(fs[i].index), join(path, key), fs[i])
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	for _, f := range fs {
		if f.need && !given[f.key] {
			d.fail(d.line(path), path, "%s is missing: %s", f.key, lowerFirst(f.doc))
		}
	}
}

// defaults sets the declared defaults of v, also in the structs it holds by value: an
// absent section is one of defaults.
func (d *decoder) defaults(v reflect.Value, fs []field) {
	for _, f := range fs {
		fv := v.Field(f.index)
		switch {
		case f.def != "":
			setDefault(fv, f)
		case fv.Kind() == reflect.Struct && shapes[fv.Type()].what == "" && fv.Type() != reflect.TypeFor[With]():
			d.defaults(fv, fieldsOf(fv.Type()))
		}
	}
}

func setDefault(v reflect.Value, f field) {
	var err error
	switch {
	case shapes[v.Type()].what != "":
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(f.def))
	case v.Kind() == reflect.String:
		v.SetString(f.def)
	default:
		var n int64
		n, err = strconv.ParseInt(f.def, 10, 64)
		v.SetInt(n)
	}
	if err != nil {
		panic(fmt.Sprintf("config: default of %s: %v", f.key, err))
	}
}

// table decodes a mapping with names of the user's choice.
func (d *decoder) table(n *yaml.Node, v reflect.Value, path string, f field) {
	v.Set(reflect.MakeMap(v.Type()))
	names := regexp.MustCompile(f.names)
	d.pairs(n, path, func(key string, k, val *yaml.Node) {
		if !names.MatchString(key) {
			d.fail(k.Line, path, "%q is not a name: lower-case letters, digits and -, at most 63, the first no -", key)
			return
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		d.pos[join(path, key)] = k.Line
		d.value(val, elem, join(path, key), field{max: -1})
		v.SetMapIndex(reflect.ValueOf(key), elem)
	})
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, f field) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n.Line, path, "must be a list, not %s", kindOf(n))
		return
	}
	if len(n.Content) < f.min {
		d.fail(n.Line, path, "must not be empty; leave the key out")
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i), field{max: -1, make: f.make})
	}
}

// shaped decodes a scalar whose type has a shape.
func (d *decoder) shaped(n *yaml.Node, v reflect.Value, path string, f field) {
	s := shapes[v.Type()]
	text := n.Kind == yaml.ScalarNode && (n.ShortTag() == "!!str" || n.ShortTag() == "!!timestamp")
	err := errShape
	if text {
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value))
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrTooHigh):
		d.refuse(n.Line, path, "%s is %v", n.Value, err)
		return
	case s.secret:
		d.fail(n.Line, path, "must be %s", s.what)
		return
	case n.Kind != yaml.ScalarNode:
		d.fail(n.Line, path, "must be %s, not %s", s.what, kindOf(n))
		return
	case errors.Is(err, errShape):
		d.fail(n.Line, path, "must be %s, not %q", s.what, n.Value)
		return
	default:
		d.fail(n.Line, path, "%v", err) // of a cron expression; it says what is wanted
		return
	}
	if r, ok := v.Addr().Interface().(interface{ rebase(dir string) }); ok {
		r.rebase(d.dir)
	}
	switch p := v.Interface().(type) {
	case Path:
		if !f.make {
			d.paths = append(d.paths, pathRef{path, p})
		}
	case URL:
		if secretShape.MatchString(string(p)) {
			d.secrets = append(d.secrets, secretRef{path, string(p)})
		}
	case SigningKey:
		if !p.InAgent() {
			d.paths = append(d.paths, pathRef{path, Path(p)})
		}
	}
}

func (d *decoder) text(n *yaml.Node, path string) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(n.Line, path, "must be text, not %s", kindOf(n))
	case n.ShortTag() != "!!str":
		d.fail(n.Line, path, "must be text; put it in quotes, for it reads as %s", kindOf(n))
	case n.Value == "":
		d.fail(n.Line, path, "must not be empty; leave the key out")
	case holdsPassword(n.Value):
		d.fail(n.Line, path, "a URL here must not hold a password; give it by reference (env:NAME, file:PATH, exec:COMMAND)")
	default:
		return n.Value, true
	}
	return "", false
}

func (d *decoder) allowed(n *yaml.Node, path, s string, f field) bool {
	if f.enum != nil && !slices.Contains(f.enum, s) {
		d.fail(n.Line, path, "must be %s, not %q", oneOf(f.enum), s)
		return false
	}
	return true
}

func oneOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return "one of " + strings.Join(names, ", ")
}

func (d *decoder) truth(n *yaml.Node, path string) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Value != "true" && n.Value != "false" {
		d.fail(n.Line, path, "must be true or false")
		return false, false
	}
	return n.Value == "true", true
}

// number parses a whole number. The parser's own reading is not used: it takes 0123
// for 83.
func (d *decoder) number(n *yaml.Node, path string) (int64, bool) {
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || strconv.FormatInt(i, 10) != n.Value {
		d.fail(n.Line, path, "must be a whole number")
		return 0, false
	}
	return i, true
}

func (d *decoder) bounded(n *yaml.Node, path string, i int64, f field) bool {
	switch {
	case f.enum != nil:
		return d.allowed(n, path, n.Value, f)
	case i < int64(f.min):
		d.fail(n.Line, path, "must be at least %d", f.min)
	case f.max >= 0 && i > int64(f.max):
		d.fail(n.Line, path, "must be at most %d", f.max)
	default:
		return true
	}
	return false
}

// kindOf says what a node is, in the words of people.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a truth value"
	case "!!timestamp":
		return "a date"
	case "!!null":
		return "nothing"
	}
	return "text"
}

func lowerFirst(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s // an abbreviation
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// suggest names the key that was probably meant.
func suggest(key string, fs []field) string {
	best, dist := "", 3
	for _, f := range fs {
		if n := distance(key, f.key); n < dist {
			best, dist = f.key, n
		}
	}
	if best == "" {
		return ""
	}
	return "; is it " + best + "?"
}

// distance is the number of letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
