package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values and templates.
const maxDepth = 1000

// ParseJSON parses one JSON document. Numbers keep their lexemes, objects and lists
// keep the bytes they were parsed from (which alias data), objects their key order.
// A string holding an unpaired surrogate escape decodes to U+FFFD; its Raw has the
// original. It fails on trailing bytes, on bytes that are not UTF-8 and on nesting
// deeper than 1,000.
func ParseJSON(data []byte) (Value, error) {
	p := jsonParser{data: data}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.pos != len(data) {
		return nil, p.fail("trailing bytes")
	}
	return v, nil
}

// ParseJSONPrefix parses the first JSON document of data and returns the number of
// bytes it used, white space before it included.
func ParseJSONPrefix(data []byte) (Value, int, error) {
	p := jsonParser{data: data}
	p.space()
	v, err := p.value(0)
	return v, p.pos, err
}

type jsonParser struct {
	data []byte
	pos  int
}

func (p *jsonParser) fail(what string) error {
	return fmt.Errorf("json: %s at byte %d", what, p.pos)
}

func (p *jsonParser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *jsonParser) value(depth int) (Value, error) {
	if depth > maxDepth {
		return nil, p.fail("nesting is too deep")
	}
	if p.pos >= len(p.data) {
		return nil, p.fail("unexpected end")
	}
	switch c := p.data[p.pos]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.list(depth)
	case c == '"':
		return p.text()
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	rest := p.data[p.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		p.pos += 4
		return true, nil
	case bytes.HasPrefix(rest, []byte("false")):
		p.pos += 5
		return false, nil
	case bytes.HasPrefix(rest, []byte("null")):
		p.pos += 4
		return nil, nil
	}
	return nil, p.fail("unexpected byte")
}

func (p *jsonParser) object(depth int) (Value, error) {
	start := p.pos
	d := new(Dict)
	p.pos++
	p.space()
	if p.pos < len(p.data) && p.data[p.pos] == '}' {
		p.pos++
		d.Raw = p.data[start:p.pos:p.pos]
		return d, nil
	}
	for {
		p.space()
		if p.pos >= len(p.data) || p.data[p.pos] != '"' {
			return nil, p.fail("a key was expected")
		}
		key, err := p.text()
		if err != nil {
			return nil, err
		}
		p.space()
		if p.pos >= len(p.data) || p.data[p.pos] != ':' {
			return nil, p.fail("a colon was expected")
		}
		p.pos++
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n := d.Len()
		d.Set(key, v)
		if d.Len() == n {
			d.Duplicate = key.(string)
		}
		p.space()
		if p.pos >= len(p.data) {
			return nil, p.fail("unexpected end")
		}
		c := p.data[p.pos]
		p.pos++
		if c == '}' {
			d.Raw = p.data[start:p.pos:p.pos]
			return d, nil
		}
		if c != ',' {
			p.pos--
			return nil, p.fail("a comma or closing brace was expected")
		}
	}
}

func (p *jsonParser) list(depth int) (Value, error) {
	start := p.pos
	l := new(List)
	p.pos++
	p.space()
	if p.pos < len(p.data) && p.data[p.pos] == ']' {
		p.pos++
		l.Raw = p.data[start:p.pos:p.pos]
		return l, nil
	}
	for {
		p.space()
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l.Items = append(l.Items, v)
		p.space()
		if p.pos >= len(p.data) {
			return nil, p.fail("unexpected end")
		}
		c := p.data[p.pos]
		p.pos++
		if c == ']' {
			l.Raw = p.data[start:p.pos:p.pos]
			return l, nil
		}
		if c != ',' {
			p.pos--
			return nil, p.fail("a comma or closing bracket was expected")
		}
	}
}

func (p *jsonParser) number() (Value, error) {
	start := p.pos
	digits := func() int {
		n := 0
		for p.pos < len(p.data) && p.data[p.pos] >= '0' && p.data[p.pos] <= '9' {
			p.pos++
			n++
		}
		return n
	}
	if p.data[p.pos] == '-' {
		p.pos++
	}
	first := p.pos
	n := digits()
	if n == 0 || n > 1 && p.data[first] == '0' {
		return nil, p.fail("malformed number")
	}
	if p.pos < len(p.data) && p.data[p.pos] == '.' {
		p.pos++
		if digits() == 0 {
			return nil, p.fail("malformed number")
		}
	}
	if p.pos < len(p.data) && (p.data[p.pos] == 'e' || p.data[p.pos] == 'E') {
		p.pos++
		if p.pos < len(p.data) && (p.data[p.pos] == '+' || p.data[p.pos] == '-') {
			p.pos++
		}
		if digits() == 0 {
			return nil, p.fail("malformed number")
		}
	}
	return Number(p.data[start:p.pos]), nil
}

func (p *jsonParser) text() (Value, error) {
	p.pos++
	start := p.pos
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '"':
			s := p.data[start:p.pos]
			p.pos++
			if !utf8.Valid(s) {
				return nil, p.fail("a string is not UTF-8")
			}
			return string(s), nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return nil, p.fail("control character in a string")
		}
		p.pos++
	}
	return nil, p.fail("unterminated string")
}

// escaped goes on with a string that has escapes; the first is at p.pos.
func (p *jsonParser) escaped(start int) (Value, error) {
	out := append([]byte(nil), p.data[start:p.pos]...)
	for p.pos < len(p.data) {
		c := p.data[p.pos]
		switch {
		case c == '"':
			p.pos++
			if !utf8.Valid(out) {
				return nil, p.fail("a string is not UTF-8")
			}
			return string(out), nil
		case c < 0x20:
			return nil, p.fail("control character in a string")
		case c != '\\':
			out = append(out, c)
			p.pos++
			continue
		}
		if p.pos+1 >= len(p.data) {
			break
		}
		e := p.data[p.pos+1]
		p.pos += 2
		switch e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := p.hex()
			if !ok {
				return nil, p.fail("malformed escape")
			}
			if utf16.IsSurrogate(r) && p.pos+1 < len(p.data) && p.data[p.pos] == '\\' && p.data[p.pos+1] == 'u' {
				save := p.pos
				p.pos += 2
				if low, ok := p.hex(); ok {
					if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
						out = utf8.AppendRune(out, both)
						continue
					}
				}
				p.pos = save
			}
			out = utf8.AppendRune(out, r) // a lone surrogate becomes U+FFFD
		default:
			return nil, p.fail("malformed escape")
		}
	}
	return nil, p.fail("unterminated string")
}

func (p *jsonParser) hex() (rune, bool) {
	if p.pos+4 > len(p.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p.data[p.pos:p.pos+4]), 16, 32)
	p.pos += 4
	return rune(n), err == nil
}

// AppendJSON appends v as JSON: parsed values as they came, others compactly. It
// fails on what JSON cannot hold: NaN, infinities, bytes, undefined values.
func AppendJSON(b []byte, v Value) ([]byte, error) { return appendJSON(b, v, false) }

// appendJSON with fresh set ignores Raw, for values whose inner parts may have
// been modified.
func appendJSON(b []byte, v Value, fresh bool) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case Number:
		return append(b, v...), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case *big.Int:
		return v.Append(b, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errorf(ValueError, "%s is not JSON", FormatFloat(v))
		}
		return append(b, FormatFloat(v)...), nil
	case string:
		return appendJSONString(b, v), nil
	case DateTime, Date:
		return appendJSONString(b, Str(v)), nil
	case Tuple:
		return appendJSONList(b, v, fresh)
	case *List:
		if v.Raw != nil && !fresh {
			return append(b, v.Raw...), nil
		}
		return appendJSONList(b, v.Items, fresh)
	case *Set:
		return appendJSONList(b, v.d.keys, fresh)
	case *Dict:
		if v.Raw != nil && !fresh {
			return append(b, v.Raw...), nil
		}
		b = append(b, '{')
		for i, k := range v.keys {
			if i > 0 {
				b = append(b, ',')
			}
			if _, ok := k.(string); !ok && k != nil {
				if _, scalar := number(k); !scalar {
					return nil, errorf(TypeError, "a %s is not a JSON key", typeName(k))
				}
			}
			b = append(appendJSONString(b, jsonKey(k)), ':')
			if b, err = appendJSON(b, v.vals[i], fresh); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, errorf(TypeError, "a %s is not JSON", typeName(v))
}

// AppendFreshJSON appends v as JSON without using the bytes it was parsed from.
func AppendFreshJSON(b []byte, v Value) ([]byte, error) { return appendJSON(b, v, true) }

// jsonKey is what Python's json.dumps makes of a key.
func jsonKey(k Value) string {
	switch k := k.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(k)
	}
	return Str(k)
}

func appendJSONList(b []byte, items []Value, fresh bool) ([]byte, error) {
	var err error
	b = append(b, '[')
	for i, e := range items {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendJSON(b, e, fresh); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendJSONString quotes s with no escapes but those JSON requires.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < 0x20:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// FromGo converts what encoding/json and YAML decoders make (maps, slices, texts,
// numbers, bools, nil) to values. Keys of Go maps come in no particular order, so
// callers that care use a Dict.
func FromGo(v any) Value {
	switch v := v.(type) {
	case map[string]any:
		d := new(Dict)
		for _, k := range slices.Sorted(maps.Keys(v)) {
			d.Set(k, FromGo(v[k]))
		}
		return d
	case []any:
		l := &List{Items: make([]Value, len(v))}
		for i, e := range v {
			l.Items[i] = FromGo(e)
		}
		return l
	case []string:
		l := &List{Items: make([]Value, len(v))}
		for i, e := range v {
			l.Items[i] = e
		}
		return l
	case int:
		return int64(v)
	case uint64:
		return normal(new(big.Int).SetUint64(v))
	case json.Number:
		return Number(v)
	}
	return v
}
