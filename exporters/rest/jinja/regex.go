package jinja

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// CompileRegex compiles a regular expression of Python's re module. What runs in
// linear time is supported; look-around, back-references, conditionals, atomic and
// possessive groups are a SyntaxError that names the pattern.
func CompileRegex(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(translateRegex(pattern))
	if err != nil {
		return nil, errorf(SyntaxError, "regular expression %q is not supported: %v", pattern, err)
	}
	return re, nil
}

var multiline = regexp.MustCompile(`\(\?[a-z]*m`)

// translateRegex turns what Python writes otherwise into Go's syntax: classes are
// Unicode's, \Z is the end.
func translateRegex(p string) string {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\' && i+1 < len(p):
			i++
			switch e := p[i]; {
			case e == 'd' && inClass:
				b.WriteString(`\p{Nd}`)
			case e == 'd':
				b.WriteString(`\p{Nd}`)
			case e == 'D' && !inClass:
				b.WriteString(`\P{Nd}`)
			case e == 'w':
				b.WriteString(class(`\p{L}\p{N}_`, inClass, false))
			case e == 'W' && !inClass:
				b.WriteString(class(`\p{L}\p{N}_`, false, true))
			case e == 's':
				b.WriteString(class(`\s\x0b\x1c-\x1f\x{85}\p{Z}`, inClass, false))
			case e == 'S' && !inClass:
				b.WriteString(class(`\s\x0b\x1c-\x1f\x{85}\p{Z}`, false, true))
			case e == 'Z' && !inClass:
				b.WriteString(`\z`)
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
			continue
		case c == '[' && inClass:
			b.WriteString(`\[`)
			continue
		case c == '[':
			inClass = true
			b.WriteByte(c)
			if i+1 < len(p) && p[i+1] == '^' {
				i++
				b.WriteByte('^')
			}
			if i+1 < len(p) && p[i+1] == ']' {
				i++
				b.WriteString(`\]`)
			}
			continue
		case c == ']':
			inClass = false
		case c == '$' && !inClass && !multiline.MatchString(p):
			b.WriteString(`\z`) // Python's also matches before a final newline; see regexInput
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func class(members string, inClass, negated bool) string {
	switch {
	case inClass:
		return members
	case negated:
		return "[^" + members + "]"
	}
	return "[" + members + "]"
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

func regexSearch(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(1, "regex")
	if err != nil {
		return nil, err
	}
	s, re, err := f.regexInput(v, p[0])
	if err != nil {
		return nil, err
	}
	if m := re.FindStringSubmatch(s); len(m) > 1 {
		return m[1], nil
	}
	return "", nil
}

func (f *frame) regexInput(v, pattern Value) (string, *regexp.Regexp, error) {
	s, err := textOr(v, "")
	if err != nil {
		return "", nil, err
	}
	p, err := textOr(pattern, "")
	if err != nil {
		return "", nil, err
	}
	if err := f.spend(len(s)*(1+len(p)/8)/4 + len(p)*10); err != nil {
		return "", nil, err
	}
	if strings.HasSuffix(s, "\n") && strings.Contains(p, "$") {
		return "", nil, errorf(otherError, "regular expression %q meets a text that ends in a newline, where $ is ambiguous", p)
	}
	re, err := CompileRegex(p)
	return s, re, err
}

func regexReplace(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(2, "regex", "replacement")
	if err != nil {
		return nil, err
	}
	s, re, err := f.regexInput(v, p[0])
	if err != nil {
		return nil, err
	}
	template, err := textOr(p[1], "")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	last := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		if m[0] == m[1] { // Python and Go disagree about where these are
			return nil, errorf(otherError, "regular expression %q matches the empty text", p[0])
		}
		b.WriteString(s[last:m[0]])
		if err := expand(&b, template, s, m, re); err != nil {
			return nil, err
		}
		last = m[1]
		if err := f.made(b.Len()/8 + 1); err != nil {
			return nil, err
		}
		if b.Len() > f.limit {
			return nil, f.made(b.Len())
		}
	}
	b.WriteString(s[last:])
	return b.String(), f.made(b.Len())
}

// expand writes a replacement with \1, \g<1> and \g<name>.
func expand(b *strings.Builder, t, s string, m []int, re *regexp.Regexp) error {
	group := func(n int) error {
		if n < 0 || 2*n+1 >= len(m) {
			return errorf(otherError, "invalid group reference %d", n)
		}
		if m[2*n] >= 0 {
			b.WriteString(s[m[2*n]:m[2*n+1]])
		}
		return nil
	}
	for i := 0; i < len(t); i++ {
		if t[i] != '\\' || i+1 == len(t) {
			b.WriteByte(t[i])
			continue
		}
		i++
		var err error
		switch c := t[i]; {
		case c >= '1' && c <= '9':
			n := int(c - '0')
			if i+1 < len(t) && t[i+1] >= '0' && t[i+1] <= '9' {
				i++
				n = 10*n + int(t[i]-'0')
			}
			err = group(n)
		case c == 'g' && i+1 < len(t) && t[i+1] == '<':
			end := strings.IndexByte(t[i:], '>')
			if end < 0 {
				return errorf(otherError, "missing >, unterminated name")
			}
			ref := t[i+2 : i+end]
			i += end
			n, convErr := strconv.Atoi(ref)
			if convErr != nil {
				n = re.SubexpIndex(ref)
			}
			err = group(n)
		case c == 'n':
			b.WriteByte('\n')
		case c == 't':
			b.WriteByte('\t')
		case c == 'r':
			b.WriteByte('\r')
		case c == '\\':
			b.WriteByte('\\')
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			return errorf(otherError, "bad escape \\%c in a replacement", c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
