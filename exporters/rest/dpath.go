package rest

import (
	"bytes"
	"path"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A match is a value found by a path, with the keys that lead to it.
type match struct {
	at  []string
	val jinja.Value
}

// globbed reports whether a segment of a path has wildcards, as fnmatch reads them.
func globbed(s string) bool { return strings.ContainsAny(s, "*?[") }

// findKey returns what one segment finds in a value.
func findKey(v jinja.Value, key string) []match {
	switch v := v.(type) {
	case *jinja.Dict:
		if x, ok := v.Get(key); ok && !globbed(key) {
			return []match{{[]string{key}, x}}
		}
		var out []match
		if globbed(key) {
			for i := range v.Len() {
				k, x := v.At(i)
				if ok, err := path.Match(escapeSlashes(key), escapeSlashes(jinja.Str(k))); ok && err == nil {
					out = append(out, match{[]string{jinja.Str(k)}, x})
				}
			}
		}
		return out
	case *jinja.List:
		if i, err := strconv.Atoi(key); err == nil {
			if i < 0 {
				i += len(v.Items)
			}
			if i >= 0 && i < len(v.Items) {
				return []match{{[]string{strconv.Itoa(i)}, v.Items[i]}}
			}
			return nil
		}
		var out []match
		if globbed(key) {
			for i, x := range v.Items {
				if ok, err := path.Match(key, strconv.Itoa(i)); ok && err == nil {
					out = append(out, match{[]string{strconv.Itoa(i)}, x})
				}
			}
		}
		return out
	}
	return nil
}

// escapeSlashes lets path.Match treat / as any other character.
func escapeSlashes(s string) string { return strings.ReplaceAll(s, "/", "\x00") }

// find returns everything that a path finds. ** is any number of segments.
func find(v jinja.Value, p []string) []match {
	if len(p) == 0 {
		return []match{{nil, v}}
	}
	var out []match
	if p[0] == "**" {
		out = find(v, p[1:])
		for _, m := range findKey(v, "*") {
			out = append(out, prefixed(m.at[0], find(m.val, p))...)
		}
		return out
	}
	for _, m := range findKey(v, p[0]) {
		out = append(out, prefixed(m.at[0], find(m.val, p[1:]))...)
	}
	return out
}

func prefixed(key string, ms []match) []match {
	for i := range ms {
		ms[i].at = append([]string{key}, ms[i].at...)
	}
	return ms
}

// assign sets the value at a path of a dict, making maps (or extending lists, for
// positions) on the way.
func assign(d *jinja.Dict, p []string, val jinja.Value) {
	if len(p) == 1 {
		d.Set(p[0], val)
		return
	}
	next, _ := d.Get(p[0])
	switch c := next.(type) {
	case *jinja.Dict:
		assign(c, p[1:], val)
		d.Set(p[0], c) // forget the bytes it was parsed from
	case *jinja.List:
		if i, err := strconv.Atoi(p[1]); err == nil && i >= 0 && i <= len(c.Items) && i < 10_000 {
			c.Raw = nil
			if i == len(c.Items) {
				c.Items = append(c.Items, nil)
			}
			if len(p) == 2 {
				c.Items[i] = val
			} else {
				inner, ok := c.Items[i].(*jinja.Dict)
				if !ok {
					inner = new(jinja.Dict)
					c.Items[i] = inner
				}
				assign(inner, p[2:], val)
			}
			d.Set(p[0], c)
		}
	default:
		inner := new(jinja.Dict)
		assign(inner, p[1:], val)
		d.Set(p[0], inner)
	}
}

// remove deletes what a path finds in a dict, if keep does not say otherwise.
func remove(v jinja.Value, p []string, keep func(jinja.Value) (bool, error)) error {
	ms := find(v, p)
	for i := len(ms) - 1; i >= 0; i-- { // lists shrink from their ends
		if keep != nil {
			if ok, err := keep(ms[i].val); err != nil || ok {
				if err != nil {
					return err
				}
				continue
			}
		}
		parent := v
		var trail []jinja.Value
		for _, k := range ms[i].at[:len(ms[i].at)-1] {
			trail = append(trail, parent)
			parent = findKey(parent, escapeGlob(k))[0].val
		}
		last := ms[i].at[len(ms[i].at)-1]
		switch c := parent.(type) {
		case *jinja.Dict:
			c.Delete(last)
		case *jinja.List:
			j, _ := strconv.Atoi(last)
			c.Raw = nil
			c.Items = append(c.Items[:j:j], c.Items[j+1:]...)
		}
		for _, t := range trail {
			switch t := t.(type) {
			case *jinja.Dict:
				t.Raw = nil
			case *jinja.List:
				t.Raw = nil
			}
		}
	}
	return nil
}

// escapeGlob makes a key match itself only.
func escapeGlob(s string) string {
	if !globbed(s) {
		return s
	}
	return strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`).Replace(s)
}

func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\ufeff")) }
