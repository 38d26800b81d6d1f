package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// maxNodes bounds a manifest after aliases and references are replaced by what they
// stand for, so that a small file cannot fill the memory.
const maxNodes = 2_000_000

// parseYAML reads one YAML document as PyYAML does: plain yes, no, on and off are
// booleans, 0123 is octal, 1:30 is sexagesimal. Maps keep their order.
func parseYAML(data []byte) (*jinja.Dict, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("yaml: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("yaml: there is a second document")
	}
	r := yamlReader{}
	v, err := r.value(&doc, 0)
	if err != nil {
		return nil, err
	}
	d, ok := v.(*jinja.Dict)
	if !ok {
		return nil, errors.New("yaml: the manifest is not a map")
	}
	return d, nil
}

type yamlReader struct{ nodes int }

func (r *yamlReader) value(n *yaml.Node, depth int) (jinja.Value, error) {
	if r.nodes++; r.nodes > maxNodes || depth > 200 {
		return nil, fmt.Errorf("yaml: line %d: the document is too large", n.Line)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.value(n.Content[0], depth)
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		l := &jinja.List{}
		for _, c := range n.Content {
			v, err := r.value(c, depth+1)
			if err != nil {
				return nil, err
			}
			l.Items = append(l.Items, v)
		}
		return l, nil
	case yaml.MappingNode:
		return r.mapping(n, depth)
	}
	return scalar(n)
}

func (r *yamlReader) mapping(n *yaml.Node, depth int) (jinja.Value, error) {
	d := new(jinja.Dict)
	merged := new(jinja.Dict)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, err := r.value(n.Content[i], depth+1)
		if err != nil {
			return nil, err
		}
		v, err := r.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if n.Content[i].Tag == "!!merge" {
			sources := []jinja.Value{v}
			if l, ok := v.(*jinja.List); ok {
				sources = l.Items
			}
			for _, s := range sources {
				if m, ok := s.(*jinja.Dict); ok {
					for j := range m.Len() {
						if k, v := m.At(j); !merged.Has(k) {
							merged.Set(k, v)
						}
					}
				}
			}
			continue
		}
		if d.Has(k) {
			return nil, fmt.Errorf("yaml: line %d: key %s is there twice", n.Content[i].Line, jinja.Repr(k))
		}
		d.Set(k, v)
	}
	for j := range merged.Len() {
		if k, v := merged.At(j); !d.Has(k) {
			d.Set(k, v)
		}
	}
	return d, nil
}

var (
	yamlBool  = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	yamlInt   = regexp.MustCompile(`^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$`)
	yamlBase  = regexp.MustCompile(`^[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+$`)
	yamlFloat = regexp.MustCompile(`^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)$`)
)

// scalar resolves a scalar by the rules of YAML 1.1.
func scalar(n *yaml.Node) (jinja.Value, error) {
	s := n.Value
	explicit := n.Style&yaml.TaggedStyle != 0
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || explicit && n.Tag == "!!str" {
		return s, nil
	}
	digits := strings.ReplaceAll(s, "_", "")
	switch {
	case s == "" || s == "~" || s == "null" || s == "Null" || s == "NULL":
		return nil, nil
	case yamlBool.MatchString(s):
		return strings.ContainsRune("yYtT", rune(s[0])) || s == "on" || s == "On" || s == "ON", nil
	case yamlInt.MatchString(s):
		base := 0
		if t := strings.TrimLeft(digits, "+-"); len(t) > 1 && t[0] == '0' && t[1] != 'x' && t[1] != 'b' {
			base = 8
		}
		b, ok := new(big.Int).SetString(digits, base)
		if !ok {
			return nil, fmt.Errorf("yaml: line %d: malformed number %q", n.Line, s)
		}
		if b.IsInt64() {
			return b.Int64(), nil
		}
		return b, nil
	case yamlBase.MatchString(s):
		total := int64(0)
		for part := range strings.SplitSeq(strings.TrimLeft(digits, "+-"), ":") {
			i, _ := strconv.ParseInt(part, 10, 64)
			total = 60*total + i
		}
		if s[0] == '-' {
			total = -total
		}
		return total, nil
	case yamlFloat.MatchString(s):
		return strconv.ParseFloat(digits, 64)
	}
	return s, nil
}

// A resolver replaces references by what they point to.
type resolver struct {
	root  *jinja.Dict
	open  map[string]bool
	nodes int
}

// resolveReferences returns the manifest with every string that begins with #/ and
// every $ref replaced. Values of config_overrides are left alone.
func resolveReferences(root *jinja.Dict) (*jinja.Dict, error) {
	r := &resolver{root: root, open: map[string]bool{}}
	v, err := r.resolve(root)
	if err != nil {
		return nil, err
	}
	return v.(*jinja.Dict), nil
}

func (r *resolver) resolve(v jinja.Value) (jinja.Value, error) {
	if r.nodes++; r.nodes > maxNodes {
		return nil, errors.New("the manifest is too large once its references are resolved")
	}
	switch v := v.(type) {
	case *jinja.Dict:
		return r.dict(v)
	case *jinja.List:
		l := &jinja.List{Items: make([]jinja.Value, len(v.Items))}
		for i, e := range v.Items {
			var err error
			if l.Items[i], err = r.resolve(e); err != nil {
				return nil, err
			}
		}
		return l, nil
	case string:
		if !strings.HasPrefix(v, "#/") {
			return v, nil
		}
		if r.open[v] {
			return nil, fmt.Errorf("reference %q refers to itself", v)
		}
		target, ok := lookupReference(r.root, v[2:])
		if !ok {
			return nil, fmt.Errorf("reference %q points to nothing", v)
		}
		r.open[v] = true
		defer delete(r.open, v)
		return r.resolve(target)
	}
	return v, nil
}

func (r *resolver) dict(d *jinja.Dict) (jinja.Value, error) {
	out := new(jinja.Dict)
	if ref, ok := d.Get("$ref"); ok {
		target, err := r.resolve(ref)
		if err != nil {
			return nil, err
		}
		base, ok := target.(*jinja.Dict)
		if !ok {
			return target, nil
		}
		out = base
	}
	for i := range d.Len() {
		k, v := d.At(i)
		if k == "$ref" {
			continue
		}
		if k == "config_overrides" {
			out.Set(k, v)
			continue
		}
		x, err := r.resolve(v)
		if err != nil {
			return nil, err
		}
		out.Set(k, x)
	}
	return out, nil
}

// lookupReference tries the whole path as one key, else its first segment.
func lookupReference(node jinja.Value, path string) (jinja.Value, bool) {
	for {
		if d, ok := node.(*jinja.Dict); ok {
			if v, ok := d.Get(path); ok {
				return v, true
			}
		}
		head, rest, more := strings.Cut(path, "/")
		switch n := node.(type) {
		case *jinja.Dict:
			v, ok := n.Get(head)
			if !ok {
				return nil, false
			}
			node = v
		case *jinja.List:
			i, err := strconv.Atoi(head)
			if err != nil || i < 0 || i >= len(n.Items) {
				return nil, false
			}
			node = n.Items[i]
		default:
			return nil, false
		}
		if !more {
			return node, true
		}
		path = rest
	}
}

// propagate fills in missing types and hands $parameters down, in place. parent is
// "ParentType.field".
func (c *catalogue) propagate(parent string, d, inherited *jinja.Dict, parentWins bool) {
	if !d.Has("type") {
		types := c.defaults
		if d.Has("class_name") {
			types = c.customs
		}
		if t, ok := types[parent]; ok {
			d.Set("type", t)
		}
	}
	params := jinja.Clone(inherited).(*jinja.Dict)
	if own, ok := d.Get("$parameters"); ok {
		if own, ok := own.(*jinja.Dict); ok {
			for i := range own.Len() {
				if k, v := own.At(i); !parentWins || !params.Has(k) {
					params.Set(k, v)
				}
			}
		}
		d.Delete("$parameters")
	}
	if !d.Has("type") || isJSONSchema(d) {
		c.propagateNested(parent, d, params, parentWins)
		return
	}
	for i := range params.Len() {
		k, v := params.At(i)
		if old, _ := d.Get(k); !jinja.Truth(old) {
			d.Set(k, jinja.Clone(v))
		}
	}
	typ := d.Text("type")
	for i := range d.Len() {
		k, v := d.At(i)
		name := jinja.Str(k)
		children := []jinja.Value{v}
		if l, ok := v.(*jinja.List); ok {
			children = l.Items
		}
		for _, child := range children {
			child, ok := child.(*jinja.Dict)
			if !ok {
				continue
			}
			pass := params
			if params.Has(name) { // a parameter does not go into the field of its name
				pass = jinja.Clone(params).(*jinja.Dict)
				pass.Delete(name)
			}
			c.propagate(typ+"."+name, child, pass, parentWins)
		}
	}
	if params.Len() > 0 {
		d.Set("$parameters", params)
	}
}

// propagateNested reaches the components inside a map that is none itself.
func (c *catalogue) propagateNested(parent string, d, params *jinja.Dict, parentWins bool) {
	for i := range d.Len() {
		_, v := d.At(i)
		child, ok := v.(*jinja.Dict)
		switch {
		case !ok:
		case child.Has("type") && !isJSONSchema(child):
			c.propagate(parent, child, params, parentWins)
		default:
			c.propagateNested(parent, child, params, parentWins)
		}
	}
}

// isJSONSchema reports whether a map is JSON schema and no component.
func isJSONSchema(d *jinja.Dict) bool {
	t, _ := d.Get("type")
	return jinja.Equal(t, "object") || jinja.Equal(t, jinja.NewList("null", "object")) || jinja.Equal(t, jinja.NewList("object", "null"))
}

// Load parses a manifest, resolves its references and fills types and parameters in.
func load(c *catalogue, data []byte) (*jinja.Dict, error) {
	d, err := parseYAML(data)
	if err != nil {
		return nil, err
	}
	if !d.Has("type") {
		d.Set("type", "DeclarativeSource")
	}
	if d, err = resolveReferences(d); err != nil {
		return nil, err
	}
	c.propagate("", d, new(jinja.Dict), false)
	return d, nil
}
