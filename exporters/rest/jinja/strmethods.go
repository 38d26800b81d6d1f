package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// strMethods are the methods of str, but for format, which looks attributes up.
var strMethods = map[string]func(*frame, string, args) (Value, error){
	"upper":        plainText(upper),
	"lower":        plainText(strings.ToLower),
	"casefold":     plainText(func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "ß", "ss")) }),
	"title":        plainText(titleCase),
	"capitalize":   plainText(capitalize),
	"swapcase":     plainText(swapCase),
	"strip":        stripper(true, true),
	"lstrip":       stripper(true, false),
	"rstrip":       stripper(false, true),
	"split":        func(f *frame, s string, a args) (Value, error) { return splitText(f, s, a, false) },
	"rsplit":       func(f *frame, s string, a args) (Value, error) { return splitText(f, s, a, true) },
	"splitlines":   splitLines,
	"replace":      replaceText,
	"startswith":   affix(strings.HasPrefix),
	"endswith":     affix(strings.HasSuffix),
	"removeprefix": cutAffix(strings.TrimPrefix),
	"removesuffix": cutAffix(strings.TrimSuffix),
	"join":         joinText,
	"find":         finder(false, false),
	"rfind":        finder(true, false),
	"index":        finder(false, true),
	"count":        countText,
	"isdigit":      all(unicode.IsDigit),
	"isdecimal":    all(unicode.IsDigit),
	"isnumeric":    all(unicode.IsNumber),
	"isalpha":      all(unicode.IsLetter),
	"isalnum":      all(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }),
	"isspace":      all(isSpace),
	"islower":      cased(unicode.IsLower, unicode.IsUpper),
	"isupper":      cased(unicode.IsUpper, unicode.IsLower),
	"zfill":        zfill,
	"ljust":        justify(0, 1),
	"rjust":        justify(1, 0),
	"center":       justify(1, 1),
	"partition":    partition(false),
	"rpartition":   partition(true),
	"encode":       func(f *frame, s string, a args) (Value, error) { return Bytes(s), nil },
}

// isSpace is Python's idea of white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func plainText(fn func(string) string) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		if _, err := a.take(0); err != nil {
			return nil, err
		}
		return fn(s), f.made(len(s))
	}
}

// upper is Python's upper: ß becomes SS.
func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS")) }

func titleCase(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		switch {
		case inWord:
			b.WriteRune(unicode.ToLower(r))
		case r == 'ß':
			b.WriteString("Ss")
		default:
			b.WriteRune(unicode.ToTitle(r))
		}
		inWord = unicode.IsLetter(r)
	}
	return b.String()
}

func capitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(r)) + strings.ToLower(s[n:])
}

func swapCase(s string) string {
	swapped := strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
	return strings.ReplaceAll(swapped, "ß", "SS")
}

func stripper(left, right bool) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		p, err := a.take(0, "chars")
		if err != nil {
			return nil, err
		}
		drop := isSpace
		if given(p[0]) && p[0] != nil {
			chars, err := textOr(p[0], "")
			if err != nil {
				return nil, err
			}
			drop = func(r rune) bool { return strings.ContainsRune(chars, r) }
		}
		if left {
			s = strings.TrimLeftFunc(s, drop)
		}
		if right {
			s = strings.TrimRightFunc(s, drop)
		}
		return s, f.spend(len(s)/16 + 1)
	}
}

func splitText(f *frame, s string, a args, fromRight bool) (Value, error) {
	p, err := a.take(0, "sep", "maxsplit")
	if err != nil {
		return nil, err
	}
	most, err := intOr(p[1], -1)
	if err != nil {
		return nil, err
	}
	var parts []string
	if !given(p[0]) || p[0] == nil {
		parts = splitSpace(s, most, fromRight)
	} else {
		sep, err := textOr(p[0], "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errorf(ValueError, "empty separator")
		}
		switch {
		case most < 0:
			parts = strings.Split(s, sep)
		case fromRight:
			for most > 0 {
				i := strings.LastIndex(s, sep)
				if i < 0 {
					break
				}
				parts = append([]string{s[i+len(sep):]}, parts...)
				s, most = s[:i], most-1
			}
			parts = append([]string{s}, parts...)
		default:
			parts = strings.SplitN(s, sep, most+1)
		}
	}
	return texts(parts), f.made(len(parts) * 16)
}

func texts(parts []string) *List {
	items := make([]Value, len(parts))
	for i, p := range parts {
		items[i] = p
	}
	return own(items)
}

// splitSpace splits at runs of white space, at most most times if that is not
// negative.
func splitSpace(s string, most int, fromRight bool) []string {
	if most < 0 {
		return strings.FieldsFunc(s, isSpace)
	}
	var parts []string
	for {
		if fromRight {
			s = strings.TrimRightFunc(s, isSpace)
		} else {
			s = strings.TrimLeftFunc(s, isSpace)
		}
		if s == "" {
			break
		}
		i := strings.IndexFunc(s, isSpace)
		if fromRight {
			i = strings.LastIndexFunc(s, isSpace)
		}
		if len(parts) == most || i < 0 {
			if fromRight {
				return append([]string{s}, parts...)
			}
			return append(parts, s)
		}
		if fromRight {
			_, n := utf8.DecodeRuneInString(s[i:])
			parts, s = append([]string{s[i+n:]}, parts...), s[:i]
		} else {
			parts, s = append(parts, s[:i]), s[i:]
		}
	}
	return parts
}

func splitLines(f *frame, s string, a args) (Value, error) {
	if _, err := a.take(0); err != nil {
		return nil, err
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	parts := strings.FieldsFunc(strings.Map(func(r rune) rune {
		if strings.ContainsRune("\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029", r) {
			return '\n'
		}
		return r
	}, s), func(r rune) bool { return false })
	if len(parts) == 1 {
		parts = strings.Split(parts[0], "\n")
	}
	if n := len(parts); n > 0 && parts[n-1] == "" {
		parts = parts[:n-1]
	}
	return texts(parts), f.made(len(parts) * 16)
}

func replaceText(f *frame, s string, a args) (Value, error) {
	p, err := a.take(2, "old", "new", "count")
	if err != nil {
		return nil, err
	}
	old, err := textOr(p[0], "")
	if err != nil {
		return nil, err
	}
	with, err := textOr(p[1], "")
	if err != nil {
		return nil, err
	}
	n, err := intOr(p[2], -1)
	if err != nil {
		return nil, err
	}
	hits := strings.Count(s, old)
	if n >= 0 {
		hits = min(hits, n)
	}
	if err := f.made(len(s) + hits*len(with)); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, with, n), nil
}

func affix(has func(s, fix string) bool) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		p, err := a.take(1, "prefix")
		if err != nil {
			return nil, err
		}
		options := Tuple{p[0]}
		if t, ok := p[0].(Tuple); ok {
			options = t
		}
		for _, o := range options {
			fix, err := textOr(o, "")
			if err != nil {
				return nil, err
			}
			if has(s, fix) {
				return true, nil
			}
		}
		return false, nil
	}
}

func cutAffix(cut func(s, fix string) string) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		p, err := a.take(1, "affix")
		if err != nil {
			return nil, err
		}
		fix, err := textOr(p[0], "")
		return cut(s, fix), err
	}
}

func joinText(f *frame, s string, a args) (Value, error) {
	p, err := a.take(1, "iterable")
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(p[0])
	if err != nil {
		return nil, err
	}
	parts, size := make([]string, len(items)), 0
	for i, e := range items {
		t, ok := e.(string)
		if !ok {
			return nil, errorf(TypeError, "sequence item %d: expected str instance, %s found", i, typeName(e))
		}
		parts[i] = t
		size += len(t) + len(s)
	}
	if err := f.made(size); err != nil {
		return nil, err
	}
	return strings.Join(parts, s), nil
}

func finder(last, must bool) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		p, err := a.take(1, "sub", "start", "end")
		if err != nil {
			return nil, err
		}
		sub, err := textOr(p[0], "")
		if err != nil {
			return nil, err
		}
		r := []rune(s)
		lo, err := intOr(p[1], 0)
		if err != nil {
			return nil, err
		}
		hi, err := intOr(p[2], len(r))
		if err != nil {
			return nil, err
		}
		if lo < 0 {
			lo = max(lo+len(r), 0)
		}
		if hi < 0 {
			hi += len(r)
		}
		hi = min(hi, len(r))
		i := -1
		if lo <= hi {
			part := string(r[lo:hi])
			if i = strings.Index(part, sub); last {
				i = strings.LastIndex(part, sub)
			}
			if i >= 0 {
				i = lo + utf8.RuneCountInString(part[:i])
			}
		}
		if i < 0 && must {
			return nil, errorf(ValueError, "substring not found")
		}
		return int64(i), f.spend(len(s)/16 + 1)
	}
}

func countText(f *frame, s string, a args) (Value, error) {
	p, err := a.take(1, "sub")
	if err != nil {
		return nil, err
	}
	sub, err := textOr(p[0], "")
	return int64(strings.Count(s, sub)), err
}

func all(ok func(rune) bool) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		return s != "" && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0, nil
	}
}

func cased(want, not func(rune) bool) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		return strings.IndexFunc(s, want) >= 0 && strings.IndexFunc(s, not) < 0, nil
	}
}

func zfill(f *frame, s string, a args) (Value, error) {
	p, err := a.take(1, "width")
	if err != nil {
		return nil, err
	}
	width, err := intOr(p[0], 0)
	if err == nil {
		err = f.made(width)
	}
	if err != nil {
		return nil, err
	}
	pad := strings.Repeat("0", max(0, width-utf8.RuneCountInString(s)))
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return s[:1] + pad + s[1:], nil
	}
	return pad + s, nil
}

// justify pads with left or right (or both) shares of the fill.
func justify(left, right int) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		p, err := a.take(1, "width", "fillchar")
		if err != nil {
			return nil, err
		}
		width, err := intOr(p[0], 0)
		if err != nil {
			return nil, err
		}
		fill, err := textOr(p[1], " ")
		if err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(fill) != 1 {
			return nil, errorf(TypeError, "the fill character must be exactly one character long")
		}
		if err := f.made(max(width, 0) * len(fill)); err != nil {
			return nil, err
		}
		return pad(s, width, fill, left, right), nil
	}
}

func pad(s string, width int, fill string, left, right int) string {
	n := width - utf8.RuneCountInString(s)
	if n <= 0 {
		return s
	}
	l := n * left
	if left+right == 2 { // CPython puts the odd one left if the width is odd too
		l = n/2 + n&width&1
	}
	return strings.Repeat(fill, l) + s + strings.Repeat(fill, n-l)
}

func partition(last bool) func(*frame, string, args) (Value, error) {
	return func(f *frame, s string, a args) (Value, error) {
		p, err := a.take(1, "sep")
		if err != nil {
			return nil, err
		}
		sep, err := textOr(p[0], "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errorf(ValueError, "empty separator")
		}
		i := strings.Index(s, sep)
		if last {
			i = strings.LastIndex(s, sep)
		}
		switch {
		case i >= 0:
			return Tuple{s[:i], sep, s[i+len(sep):]}, nil
		case last:
			return Tuple{"", "", s}, nil
		}
		return Tuple{s, "", ""}, nil
	}
}
