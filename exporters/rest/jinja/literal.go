package jinja

import (
	"math/big"
	"regexp"
	"strings"
	"unicode/utf8"
)

// LiteralEval reads s as Python's ast.literal_eval does and reports whether it is a
// literal: numbers, texts, bytes, tuples, lists, dicts, sets, True, False, None. A
// complex number and the Ellipsis are reported as no literal.
func LiteralEval(s string) (Value, bool) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return nil, false
	}
	p := &literal{s: strings.TrimLeft(s, " \t")}
	p.skipLines()
	v, ok := p.tuple()
	if !ok {
		return nil, false
	}
	p.skipLines()
	return v, p.s == ""
}

// literal is a parser; depth is that of open brackets, inside which newlines count
// as spaces.
type literal struct {
	s     string
	depth int
	nest  int

	signed bool // the last value had a sign
}

var (
	identifier = regexp.MustCompile(`^[\pL_][\pL\p{Nd}_]*`)
	pyFloat    = regexp.MustCompile(`^(?i:(?:\d(?:_?\d)*\.(?:\d(?:_?\d)*)?|\.\d(?:_?\d)*)(?:e[+-]?\d(?:_?\d)*)?|\d(?:_?\d)*e[+-]?\d(?:_?\d)*)`)
	pyInt      = regexp.MustCompile(`^(?i:0x(?:_?[\da-f])+|0o(?:_?[0-7])+|0b(?:_?[01])+|[1-9](?:_?\d)*|0(?:_?0)*)`)
	strPrefix  = regexp.MustCompile(`^(?i:r|b|u|br|rb)?("""|'''|"|')`)
)

// space skips white space and comments within a line, and newlines in brackets.
func (p *literal) space() {
	for p.s != "" {
		switch c := p.s[0]; {
		case c == ' ' || c == '\t' || c == '\f':
			p.s = p.s[1:]
		case c == '#':
			i := strings.IndexByte(p.s, '\n')
			if i < 0 {
				i = len(p.s)
			}
			p.s = p.s[i:]
		case p.depth > 0 && (c == '\n' || c == '\r'):
			p.s = p.s[1:]
		case strings.HasPrefix(p.s, "\\\n"):
			p.s = p.s[2:]
		default:
			return
		}
	}
}

// skipLines skips empty lines around the expression.
func (p *literal) skipLines() {
	p.depth++
	p.space()
	p.depth--
}

func (p *literal) accept(c byte) bool {
	p.space()
	if p.s != "" && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

// tuple parses a value, or several with commas outside of brackets.
func (p *literal) tuple() (Value, bool) {
	v, ok := p.value()
	if !ok || !p.accept(',') {
		return v, ok
	}
	t := Tuple{v}
	for {
		p.space()
		if p.s == "" || p.s[0] == ')' || p.s[0] == '\n' || p.s[0] == '\r' {
			return t, true
		}
		if v, ok = p.value(); !ok {
			return nil, false
		}
		t = append(t, v)
		if !p.accept(',') {
			return t, true
		}
	}
}

func (p *literal) value() (Value, bool) {
	if p.nest++; p.nest > 90 {
		return nil, false
	}
	defer func() { p.nest-- }()
	p.signed = false
	p.space()
	if p.s == "" {
		return nil, false
	}
	switch c := p.s[0]; c {
	case '+', '-':
		p.s = p.s[1:]
		v, ok := p.value()
		if p.signed { // --5 is an expression, no literal
			return nil, false
		}
		p.signed = true
		switch n := v.(type) {
		case int64, *big.Int:
			if c == '-' {
				return normal(new(big.Int).Neg(toBig(n))), ok
			}
			return n, ok
		case float64:
			if c == '-' {
				return -n, ok
			}
			return n, ok
		}
		return nil, false
	case '(':
		return p.parens()
	case '[':
		p.open()
		items, ok := p.items(']')
		return &List{Items: items}, ok
	case '{':
		return p.braces()
	}
	if m := strPrefix.FindString(p.s); m != "" {
		return p.strings()
	}
	if m := pyFloat.FindString(p.s); m != "" {
		return p.number(m, true)
	}
	if m := pyInt.FindString(p.s); m != "" {
		return p.number(m, false)
	}
	word := identifier.FindString(p.s)
	p.s = p.s[len(word):]
	switch word {
	case "None":
		return nil, true
	case "True":
		return true, true
	case "False":
		return false, true
	case "set":
		if p.accept('(') && p.accept(')') {
			return &Set{new(Dict)}, true
		}
	}
	return nil, false
}

// number ends a numeric literal; a letter or digit right after it is a syntax error
// or a complex number.
func (p *literal) number(m string, isFloat bool) (Value, bool) {
	p.s = p.s[len(m):]
	if identifier.MatchString(p.s) || p.s != "" && (p.s[0] >= '0' && p.s[0] <= '9' || p.s[0] == '.') {
		return nil, false
	}
	return numberLiteral(m, isFloat)
}

func (p *literal) open() {
	p.s = p.s[1:]
	p.depth++
}

func (p *literal) parens() (Value, bool) {
	p.open()
	p.space()
	if p.s != "" && p.s[0] == ')' {
		p.depth--
		p.s = p.s[1:]
		return Tuple{}, true
	}
	v, ok := p.tuple()
	p.space()
	if !ok || p.s == "" || p.s[0] != ')' {
		return nil, false
	}
	p.depth--
	p.s = p.s[1:]
	return v, true
}

// items parses values up to the closing bracket.
func (p *literal) items(end byte) ([]Value, bool) {
	var items []Value
	for {
		p.space()
		if p.s != "" && p.s[0] == end {
			p.depth--
			p.s = p.s[1:]
			return items, true
		}
		v, ok := p.value()
		if !ok {
			return nil, false
		}
		items = append(items, v)
		if !p.accept(',') {
			p.space()
			if p.s == "" || p.s[0] != end {
				return nil, false
			}
		}
	}
}

// braces parses a dict or set.
func (p *literal) braces() (Value, bool) {
	p.open()
	d := new(Dict)
	isSet := false
	for first := true; ; first = false {
		p.space()
		if p.s != "" && p.s[0] == '}' {
			p.depth--
			p.s = p.s[1:]
			if isSet {
				return &Set{d}, true
			}
			return d, true
		}
		k, ok := p.value()
		if !ok {
			return nil, false
		}
		if _, err := hashable(k); err != nil {
			return nil, false
		}
		colon := p.accept(':')
		if first {
			isSet = !colon
		}
		if colon == isSet {
			return nil, false
		}
		var v Value
		if colon {
			if v, ok = p.value(); !ok {
				return nil, false
			}
		}
		d.Set(k, v)
		if !p.accept(',') {
			p.space()
			if p.s == "" || p.s[0] != '}' {
				return nil, false
			}
		}
	}
}

// strings parses adjacent string literals, which are one.
func (p *literal) strings() (Value, bool) {
	var out strings.Builder
	isBytes := false
	for first := true; ; first = false {
		m := strPrefix.FindStringSubmatch(p.s)
		if m == nil {
			break
		}
		prefix := strings.ToLower(strings.TrimSuffix(m[0], m[1]))
		text, ok := p.stringBody(len(m[0]), m[1], strings.Contains(prefix, "r"), strings.Contains(prefix, "b"))
		if !ok || !first && isBytes != strings.Contains(prefix, "b") {
			return nil, false
		}
		isBytes = strings.Contains(prefix, "b")
		out.WriteString(text)
		p.space()
	}
	if isBytes {
		return Bytes(out.String()), true
	}
	return out.String(), true
}

func (p *literal) stringBody(start int, quote string, raw, isBytes bool) (string, bool) {
	for i := start; i < len(p.s); i++ {
		switch {
		case p.s[i] == '\\':
			i++
		case strings.HasPrefix(p.s[i:], quote):
			body := p.s[start:i]
			p.s = p.s[i+len(quote):]
			if isBytes && strings.IndexFunc(body, func(r rune) bool { return r > 127 }) >= 0 {
				return "", false
			}
			body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\r", "\n")
			if raw {
				return body, true
			}
			return unescape(body, isBytes)
		case p.s[i] == '\n' && len(quote) == 1:
			return "", false
		}
	}
	return "", false
}
