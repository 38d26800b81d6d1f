package jinja

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// toJSON is Jinja's tojson: JSON that is safe in HTML.
func toJSON(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "indent")
	if err != nil {
		return nil, err
	}
	s, err := dumps(v, true)
	if err != nil {
		return nil, err
	}
	if given(p[0]) && p[0] != nil {
		n, err := intOr(p[0], 0)
		if err == nil {
			err = f.made(max(0, n) * (1 + strings.Count(s, ",")))
		}
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(s), "", strings.Repeat(" ", max(n, 0))); err != nil {
			return nil, errorf(otherError, "indent: %v", err)
		}
		s = b.String()
	}
	s = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`, "'", `\u0027`).Replace(s)
	return s, f.made(len(s))
}

// dumps is Python's json.dumps: ", " and ": " as separators, everything beyond
// ASCII escaped.
func dumps(v Value, sortKeys bool) (string, error) {
	var b strings.Builder
	err := dump(&b, v, sortKeys, 0)
	return b.String(), err
}

func dump(b *strings.Builder, v Value, sortKeys bool, depth int) error {
	if depth > maxDepth {
		return errorf(LimitError, "the value is nested too deeply")
	}
	list := func(items []Value) error {
		b.WriteByte('[')
		for i, e := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := dump(b, e, sortKeys, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	}
	switch x := resolve(v).(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(x))
	case float64:
		b.WriteString(map[string]string{"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[FormatFloat(x)])
		if x-x == 0 {
			b.WriteString(FormatFloat(x))
		}
	case string:
		dumpString(b, x)
	case *List:
		if x.view != "" {
			return errorf(TypeError, "Object of type %s is not JSON serializable", x.view)
		}
		return list(x.Items)
	case Tuple:
		return list(x)
	case *Dict:
		at := make([]int, x.Len())
		for i := range at {
			at[i] = i
		}
		if sortKeys {
			slices.SortStableFunc(at, func(i, j int) int { return strings.Compare(jsonKey(x.keys[i]), jsonKey(x.keys[j])) })
		}
		b.WriteByte('{')
		for n, i := range at {
			if n > 0 {
				b.WriteString(", ")
			}
			dumpString(b, jsonKey(x.keys[i]))
			b.WriteString(": ")
			if err := dump(b, x.vals[i], sortKeys, depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		if _, ok := number(x); !ok {
			return errorf(TypeError, "Object of type %s is not JSON serializable", typeName(x))
		}
		b.WriteString(Str(x))
	}
	return nil
}

func dumpString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r >= 0x20 && r < 0x7f:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16Pair(r)
			b.WriteString(`\u` + hex4(hi) + `\u` + hex4(lo))
		default:
			b.WriteString(`\u` + hex4(r))
		}
	}
	b.WriteByte('"')
}

func utf16Pair(r rune) (hi, lo rune) {
	r -= 0x10000
	return 0xd800 + r>>10, 0xdc00 + r&0x3ff
}

func hex4(r rune) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", 4-utf8.RuneCountInString(s)) + s
}
