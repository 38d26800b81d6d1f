package jinja

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	tokData  tokenKind = iota // text outside of tags
	tokBegin                  // {{ or {%
	tokEnd                    // }} or %}
	tokName
	tokString
	tokNumber
	tokOp
	tokEOF
)

type token struct {
	kind tokenKind
	text string // operator, name, data; "{{" or "{%" of tokBegin
	val  Value  // of tokString and tokNumber
}

var (
	numberPattern = regexp.MustCompile(`^(?i:0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|` +
		`(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+\-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)|[1-9](?:_?\d)*|0(?:_?0)*)`)
	floatPattern = regexp.MustCompile(`^(?i:(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+\-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+))`)
	rawEnd       = regexp.MustCompile(`\{%[-+]?\s*endraw\s*[-+]?%\}`)
	rawBegin     = regexp.MustCompile(`^\{%[-+]?\s*raw\s*-?%\}`)
)

var operators = []string{"//", "**", "==", "!=", "<=", ">=", "<", ">", "=", "+", "-", "*", "/", "%", "~",
	"[", "]", "(", ")", "{", "}", ".", ":", "|", ",", ";"}

// lex splits a template into tokens.
func lex(src string) ([]token, error) {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	src = strings.TrimSuffix(src, "\n")
	var toks []token
	trimNext := false
	for src != "" {
		i := nextTag(src)
		data, tag := src[:i], src[i:]
		if trimNext {
			data = strings.TrimLeftFunc(data, unicode.IsSpace)
		}
		if len(tag) > 2 && tag[2] == '-' {
			data = strings.TrimRightFunc(data, unicode.IsSpace)
		}
		if data != "" {
			toks = append(toks, token{kind: tokData, text: data})
		}
		trimNext = false
		if tag == "" {
			break
		}
		open := tag[:2]
		if open == "{#" {
			end := strings.Index(tag, "#}")
			if end < 0 {
				return nil, errorf(SyntaxError, "missing end of comment tag")
			}
			trimNext = end > 2 && tag[end-1] == '-'
			src = tag[end+2:]
			continue
		}
		if open == "{%" {
			if m := rawBegin.FindString(tag); m != "" {
				body := tag[len(m):]
				loc := rawEnd.FindStringIndex(body)
				if loc == nil {
					return nil, errorf(SyntaxError, "missing end of raw directive")
				}
				text, end := body[:loc[0]], body[loc[0]:loc[1]]
				if strings.HasSuffix(m, "-%}") {
					text = strings.TrimLeftFunc(text, unicode.IsSpace)
				}
				if end[2] == '-' {
					text = strings.TrimRightFunc(text, unicode.IsSpace)
				}
				if text != "" {
					toks = append(toks, token{kind: tokData, text: text})
				}
				trimNext = strings.HasSuffix(end, "-%}")
				src = body[loc[1]:]
				continue
			}
		}
		tag = tag[2:]
		if tag != "" && (tag[0] == '-' || tag[0] == '+' && open == "{%") {
			tag = tag[1:]
		}
		toks = append(toks, token{kind: tokBegin, text: open})
		inner, rest, trim, err := lexTag(tag, open)
		if err != nil {
			return nil, err
		}
		toks, src, trimNext = append(toks, inner...), rest, trim
	}
	return append(toks, token{kind: tokEOF}), nil
}

// nextTag returns where the next {{, {% or {# begins, or the length of s.
func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return len(s)
}

// lexTag reads the tokens of one tag up to and with its end.
func lexTag(s, open string) (toks []token, rest string, trim bool, err error) {
	end := "}}"
	if open == "{%" {
		end = "%}"
	}
	var stack []byte
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		if s == "" {
			return nil, "", false, errorf(SyntaxError, "unexpected end of template, %q is missing", end)
		}
		if len(stack) == 0 {
			if strings.HasPrefix(s, "-"+end) {
				return append(toks, token{kind: tokEnd, text: end}), s[3:], true, nil
			}
			if strings.HasPrefix(s, end) || open == "{%" && strings.HasPrefix(s, "+"+end) {
				s = strings.TrimPrefix(s, "+")
				return append(toks, token{kind: tokEnd, text: end}), s[2:], false, nil
			}
		}
		var t token
		if t, s, err = lexOne(s, len(toks) > 0 && toks[len(toks)-1].text == "."); err != nil {
			return nil, "", false, err
		}
		switch t.text {
		case "(", "[", "{":
			if t.kind == tokOp {
				stack = append(stack, t.text[0])
			}
		case ")", "]", "}":
			if t.kind == tokOp {
				want := map[string]byte{")": '(', "]": '[', "}": '{'}[t.text]
				if len(stack) == 0 || stack[len(stack)-1] != want {
					return nil, "", false, errorf(SyntaxError, "unexpected %q", t.text)
				}
				stack = stack[:len(stack)-1]
			}
		}
		toks = append(toks, t)
	}
}

// lexOne reads one token inside a tag. After a dot, digits are an item, not a float.
func lexOne(s string, afterDot bool) (token, string, error) {
	c, size := utf8.DecodeRuneInString(s)
	switch {
	case c == '"' || c == '\'':
		return lexString(s)
	case c >= '0' && c <= '9':
		m := numberPattern.FindString(s)
		if afterDot || m == "" {
			m = s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
		}
		v, ok := numberLiteral(m, floatPattern.MatchString(m))
		if !ok {
			return token{}, "", errorf(SyntaxError, "malformed number %q", m)
		}
		return token{kind: tokNumber, text: m, val: v}, s[len(m):], nil
	case c == '_' || unicode.IsLetter(c):
		n := size
		for n < len(s) {
			c, size := utf8.DecodeRuneInString(s[n:])
			if c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) && !unicode.Is(unicode.Mn, c) {
				break
			}
			n += size
		}
		return token{kind: tokName, text: s[:n]}, s[n:], nil
	}
	for _, op := range operators {
		if strings.HasPrefix(s, op) {
			return token{kind: tokOp, text: op}, s[len(op):], nil
		}
	}
	return token{}, "", errorf(SyntaxError, "unexpected char %q", string(c))
}

// numberLiteral reads an int or float literal of Python or Jinja, underscores
// between digits allowed.
func numberLiteral(s string, isFloat bool) (Value, bool) {
	plain := strings.ReplaceAll(s, "_", "")
	if isFloat {
		f, err := strconv.ParseFloat(plain, 64)
		if err != nil && f == 0 {
			return nil, false
		}
		return f, true
	}
	if len(plain) > 4300 {
		return nil, false // Python's own limit for decimal ints
	}
	base := 10
	if len(plain) > 2 && plain[0] == '0' {
		if b, ok := map[byte]int{'x': 16, 'X': 16, 'o': 8, 'O': 8, 'b': 2, 'B': 2}[plain[1]]; ok {
			base, plain = b, plain[2:]
		}
	}
	n, ok := new(big.Int).SetString(plain, base)
	if !ok {
		return nil, false
	}
	return normal(n), true
}

func lexString(s string) (token, string, error) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			text, ok := unescape(s[1:i], false)
			if !ok {
				return token{}, "", errorf(SyntaxError, "malformed escape in a string")
			}
			return token{kind: tokString, val: text}, s[i+1:], nil
		}
	}
	return token{}, "", errorf(SyntaxError, "unterminated string")
}

// unescape resolves Python's string escapes; in bytes there are no \u, \U and \N.
func unescape(s string, isBytes bool) (string, bool) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		hex := 0
		switch c := s[i]; c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'a':
			b.WriteByte('\a')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'v':
			b.WriteByte('\v')
		case '0', '1', '2', '3', '4', '5', '6', '7':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			code, _ := strconv.ParseUint(s[i:i+n], 8, 32)
			writeCode(&b, rune(code), isBytes)
			i += n - 1
		case 'x':
			hex = 2
		case 'u':
			hex = 4
		case 'U':
			hex = 8
		case 'N':
			if !isBytes {
				return "", false // names of characters are not supported
			}
			b.WriteString(`\N`)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
		if hex == 0 {
			continue
		}
		if isBytes && hex > 2 {
			b.WriteString(s[i-1 : i+1])
			continue
		}
		if i+hex >= len(s) {
			return "", false
		}
		code, err := strconv.ParseUint(s[i+1:i+1+hex], 16, 32)
		if err != nil || code > unicode.MaxRune {
			return "", false
		}
		writeCode(&b, rune(code), isBytes)
		i += hex
	}
	return b.String(), true
}

func writeCode(b *strings.Builder, r rune, isBytes bool) {
	if isBytes {
		b.WriteByte(byte(r))
		return
	}
	b.WriteRune(r)
}
