package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/exporters"
	"go.yaml.in/yaml/v3"
)

// With holds the settings of an exporter or target. They are parsed when it is known
// which kind they are for.
type With struct {
	// Options are the settings, checked against the kind's declaration, with defaults
	// filled in: what [exporters.Config] wants.
	Options map[string]any

	node *yaml.Node // nil if absent
}

func (d *decoder) with(n *yaml.Node, w *With, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, path, "must be a mapping of keys to values, not %s", kindOf(n))
		return
	}
	w.node = n
}

// options fills in w.Options for a kind; line is where to report what is missing.
// Options in given need not stand here: they come from a URL.
func (d *decoder) options(w *With, k exporters.Kind, path string, line int, given map[string]any) {
	w.Options = map[string]any{}
	for name, v := range given {
		w.Options[name] = v
	}
	if w.node != nil {
		line = w.node.Line
		d.pairs(w.node, path, func(key string, kn, v *yaml.Node) {
			i := slices.IndexFunc(k.Options, func(o exporters.Option) bool { return o.Name == key })
			if i < 0 {
				d.fail(kn.Line, join(path, key), "unknown key of the exporter %s%s", k.Name, suggest(key, optionFields(k)))
				return
			}
			d.pos[join(path, key)] = v.Line
			if v, ok := d.option(v, k.Options[i], join(path, key)); ok {
				w.Options[key] = v
			}
		})
	}
	for _, o := range k.Options {
		if _, ok := w.Options[o.Name]; ok || w.mentions(o.Name) {
			continue
		}
		switch {
		case o.Required:
			d.fail(line, path, "%s is missing: %s", o.Name, lowerFirst(o.Help))
		case o.Default != nil:
			w.Options[o.Name] = o.Default
		}
	}
}

// mentions reports whether the file has the key, be its value right or wrong.
func (w *With) mentions(key string) bool {
	if w.node == nil {
		return false
	}
	for i := 0; i < len(w.node.Content); i += 2 {
		if w.node.Content[i].Value == key {
			return true
		}
	}
	return false
}

func optionFields(k exporters.Kind) []field {
	var fs []field
	for _, o := range k.Options {
		fs = append(fs, field{key: o.Name})
	}
	return fs
}

// option decodes one setting to the Go type that its declaration promises.
func (d *decoder) option(n *yaml.Node, o exporters.Option, path string) (any, bool) {
	if !d.plain(n, path) {
		return nil, false
	}
	f := field{enum: o.Enum, min: math.MinInt, max: -1}
	switch o.Type {
	case exporters.TextOption:
		s, ok := d.text(n, path)
		return s, ok && d.allowed(n, path, s, f)
	case exporters.PathOption:
		s, ok := d.text(n, path)
		if !ok {
			return nil, false
		}
		p := rebase(d.dir, s)
		d.paths = append(d.paths, pathRef{path, Path(p)})
		return p, true
	case exporters.SecretOption:
		return d.secret(n, path)
	case exporters.BoolOption:
		return d.truth(n, path)
	case exporters.IntOption:
		return d.number(n, path)
	case exporters.DurationOption:
		var v Duration
		if n.Kind != yaml.ScalarNode || v.UnmarshalText([]byte(n.Value)) != nil {
			d.fail(n.Line, path, "must be a duration: a whole number and s, m, h, d or w (24h, 90d, 4w)")
			return nil, false
		}
		return time.Duration(v), true
	case exporters.ListOption:
		return d.texts(n, path)
	case exporters.MapOption:
		if n.Kind != yaml.MappingNode {
			d.fail(n.Line, path, "must be a mapping of keys to values, not %s", kindOf(n))
			return nil, false
		}
		before := len(d.found)
		v := d.free(n, path)
		return v, len(d.found) == before
	}
	d.fail(n.Line, path, "the exporter declares a type %q that is not known", o.Type)
	return nil, false
}

// secret decodes a reference. What stands there instead may be the secret itself, so
// no message repeats it.
func (d *decoder) secret(n *yaml.Node, path string) (any, bool) {
	if n.Kind != yaml.ScalarNode || !secretShape.MatchString(n.Value) {
		d.fail(n.Line, path, "must be a reference (env:NAME, file:PATH, exec:COMMAND), never the secret itself")
		return nil, false
	}
	ref := rebaseSecret(d.dir, n.Value)
	d.secrets = append(d.secrets, secretRef{path, ref})
	return ref, true
}

func (d *decoder) texts(n *yaml.Node, path string) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n.Line, path, "must be a list, not %s", kindOf(n))
		return nil, false
	}
	before := len(d.found)
	list := []string{}
	for i, item := range n.Content {
		p := fmt.Sprintf("%s[%d]", path, i)
		if d.plain(item, p) {
			s, _ := d.text(item, p)
			list = append(list, s)
		}
	}
	return list, len(d.found) == before
}

var wholeNumber = regexp.MustCompile(`^(?:0|-?[1-9][0-9]{0,17})$`)

// free decodes settings that only the kind understands: text, bool, int64, float64,
// nil, []any and map[string]any. Numbers that could be read in two ways are refused.
func (d *decoder) free(n *yaml.Node, path string) any {
	if !d.plain(n, path) {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		d.pairs(n, path, func(key string, _, v *yaml.Node) { m[key] = d.free(v, join(path, key)) })
		return m
	case yaml.SequenceNode:
		list := []any{}
		for i, item := range n.Content {
			list = append(list, d.free(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return list
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		v, _ := d.truth(n, path)
		return v
	case "!!int":
		if !wholeNumber.MatchString(n.Value) {
			d.fail(n.Line, path, "%s can be read as more than one number; write it in decimal, or in quotes", n.Value)
			return nil
		}
		v, _ := d.number(n, path)
		return v
	case "!!float":
		v, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || strings.ContainsAny(n.Value, "_xX") {
			d.fail(n.Line, path, "must be a decimal number")
		}
		return v
	}
	if holdsPassword(n.Value) {
		d.fail(n.Line, path, "a URL here must not hold a password; give it by reference (env:NAME, file:PATH, exec:COMMAND)")
	}
	return n.Value
}
