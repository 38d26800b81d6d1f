package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A spec is a parsed format specification of %d or {:d}.
type spec struct {
	fill      string
	align     byte // < > ^ = or 0
	sign      byte // + - space or 0
	alt       bool
	comma     byte // , _ or 0
	width     int
	precision int // -1 if absent
	verb      byte
}

// formatFilter is Jinja's format: % formatting with the arguments.
func formatFilter(f *frame, v Value, a args) (Value, error) {
	s, err := f.str(v)
	if err != nil {
		return nil, err
	}
	if len(a.kw) > 0 {
		d := new(Dict)
		for _, k := range a.kw {
			d.Set(k.name, k.val)
		}
		return percentFormat(f, s, d)
	}
	return percentFormat(f, s, Tuple(a.pos))
}

// percentFormat is Python's text % value.
func percentFormat(f *frame, s string, v Value) (Value, error) {
	var b strings.Builder
	values, isTuple := v.(Tuple)
	if !isTuple {
		values = Tuple{v}
	}
	used, named := 0, false
	next := func() (Value, error) {
		if used >= len(values) {
			return nil, errorf(TypeError, "not enough arguments for format string")
		}
		used++
		return values[used-1], nil
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		i++
		var val Value
		var err error
		got := false
		if i < len(s) && s[i] == '(' {
			end := strings.IndexByte(s[i:], ')')
			d, ok := v.(*Dict)
			if end < 0 || !ok {
				return nil, errorf(TypeError, "format requires a mapping")
			}
			if val, ok = d.Get(s[i+1 : i+end]); !ok {
				return nil, errorf(otherError, "KeyError: %s", s[i+1:i+end])
			}
			i += end + 1
			got, named = true, true
		}
		sp := spec{fill: " ", precision: -1}
		for ; i < len(s) && strings.IndexByte("-+ #0", s[i]) >= 0; i++ {
			switch s[i] {
			case '-':
				sp.align = '<'
			case '0':
				sp.fill = "0"
			case '#':
				sp.alt = true
			default:
				if sp.sign != '+' {
					sp.sign = s[i]
				}
			}
		}
		if sp.align == '<' {
			sp.fill = " "
		} else if sp.fill == "0" {
			sp.align = '='
		}
		if i, sp.width, err = formatNumber(s, i, next); err != nil {
			return nil, err
		}
		if i < len(s) && s[i] == '.' {
			if i, sp.precision, err = formatNumber(s, i+1, next); err != nil {
				return nil, err
			}
		}
		for i < len(s) && strings.IndexByte("hlL", s[i]) >= 0 {
			i++
		}
		if i >= len(s) {
			return nil, errorf(ValueError, "incomplete format")
		}
		sp.verb = s[i]
		if sp.verb == '%' {
			b.WriteByte('%')
			continue
		}
		if !got {
			if val, err = next(); err != nil {
				return nil, err
			}
		}
		if err := f.made(sp.width + max(sp.precision, 0)); err != nil {
			return nil, err
		}
		out, err := percentOne(resolve(val), sp)
		if err != nil {
			return nil, err
		}
		b.WriteString(out)
	}
	_, isDict := v.(*Dict)
	_, isList := v.(*List)
	if used < len(values) && !named && !isDict && !isList {
		return nil, errorf(TypeError, "not all arguments converted during string formatting")
	}
	return b.String(), f.made(b.Len())
}

// formatNumber reads digits, or * for the next argument.
func formatNumber(s string, i int, next func() (Value, error)) (int, int, error) {
	if i < len(s) && s[i] == '*' {
		v, err := next()
		if err != nil {
			return i, 0, err
		}
		n, err := intOr(v, 0)
		return i + 1, max(n, 0), err
	}
	n := 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		if n = 10*n + int(s[i]-'0'); n > 1<<20 {
			return i, 0, errorf(LimitError, "the width is too large")
		}
	}
	return i, n, nil
}

func percentOne(v Value, sp spec) (string, error) {
	if u, ok := v.(*Undefined); ok && sp.verb != 's' && sp.verb != 'r' {
		return "", u.err()
	}
	switch sp.verb {
	case 's', 'r', 'a':
		s := Str(v)
		if sp.verb != 's' {
			s = Repr(v)
		}
		if sp.precision >= 0 {
			s = firstRunes(s, sp.precision)
		}
		if sp.align == '=' {
			sp.align, sp.fill = '>', " "
		}
		return sp.pad(s, '>'), nil
	case 'c':
		if s, ok := v.(string); ok && utf8.RuneCountInString(s) == 1 {
			return sp.pad(s, '>'), nil
		}
		if n, ok := Int(v); ok && n >= 0 && n <= utf8.MaxRune {
			return sp.pad(string(rune(n)), '>'), nil
		}
		return "", errorf(TypeError, "%%c requires int or char")
	case 'd', 'i', 'u':
		n, ok := number(v)
		if !ok {
			return "", errorf(TypeError, "%%%c format: a real number is required, not %s", sp.verb, typeName(v))
		}
		n, err := truncate(n)
		if err != nil {
			return "", err
		}
		return sp.integer(toBig(n), 10)
	case 'x', 'X', 'o':
		n, ok := number(v)
		if _, isFloat := n.(float64); !ok || isFloat {
			return "", errorf(TypeError, "%%%c format: an integer is required, not %s", sp.verb, typeName(v))
		}
		return sp.integer(toBig(n), map[byte]int{'x': 16, 'X': 16, 'o': 8}[sp.verb])
	case 'e', 'E', 'f', 'F', 'g', 'G':
		n, ok := number(v)
		if !ok {
			return "", errorf(TypeError, "must be real number, not %s", typeName(v))
		}
		return sp.float(toFloat(n)), nil
	}
	return "", errorf(ValueError, "unsupported format character %q", string(sp.verb))
}

func firstRunes(s string, n int) string {
	r := []rune(s)
	if len(r) > n {
		return string(r[:n])
	}
	return s
}

// pad fills s to the width; def is the alignment if none is given.
func (sp spec) pad(s string, def byte) string {
	n := sp.width - utf8.RuneCountInString(s)
	if n <= 0 {
		return s
	}
	align := sp.align
	if align == 0 {
		align = def
	}
	switch align {
	case '<':
		return s + strings.Repeat(sp.fill, n)
	case '^':
		return strings.Repeat(sp.fill, n/2) + s + strings.Repeat(sp.fill, n-n/2)
	case '=':
		i := 0
		if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
			i = 1
		}
		if len(s) > i+1 && s[i] == '0' && strings.IndexByte("xXob", s[i+1]) >= 0 && sp.alt {
			i += 2
		}
		return s[:i] + strings.Repeat(sp.fill, n) + s[i:]
	}
	return strings.Repeat(sp.fill, n) + s
}

func (sp spec) signed(negative bool, digits string) string {
	switch {
	case negative:
		digits = "-" + digits
	case sp.sign == '+' || sp.sign == ' ':
		digits = string(sp.sign) + digits
	}
	return sp.pad(digits, '>')
}

func (sp spec) integer(n *big.Int, base int) (string, error) {
	digits := new(big.Int).Abs(n).Text(base)
	if sp.verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	if sp.precision > len(digits) {
		digits = strings.Repeat("0", sp.precision-len(digits)) + digits
	}
	if sp.comma != 0 {
		digits = group(digits, sp.comma, map[int]int{10: 3}[base]+4*btoi(base != 10))
	}
	if sp.alt {
		digits = map[int]string{16: "0" + string(sp.verb), 8: "0o", 2: "0b"}[base] + digits
	}
	return sp.signed(n.Sign() < 0, digits), nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// group puts sep between groups of n digits.
func group(digits string, sep byte, n int) string {
	var b strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%n == 0 {
			b.WriteByte(sep)
		}
		b.WriteByte(digits[i])
	}
	return b.String()
}

func (sp spec) float(x float64) string {
	prec := sp.precision
	if prec < 0 {
		prec = 6
	}
	verb := sp.verb
	switch verb {
	case 'F':
		verb = 'f'
	case 'E', 'G':
		verb += 'a' - 'A'
	case '%':
		verb, x = 'f', x*100
	}
	var s string
	switch {
	case x-x != 0:
		s = FormatFloat(x)
	case verb == 'g':
		s = formatG(x, max(prec, 1))
	default:
		s = strconv.FormatFloat(x, verb, prec, 64)
	}
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	if sp.verb == 'E' || sp.verb == 'G' {
		s = strings.ToUpper(s)
	}
	if sp.comma != 0 {
		whole, frac, dot := strings.Cut(s, ".")
		if s = group(whole, sp.comma, 3); dot {
			s += "." + frac
		}
	}
	if sp.verb == '%' {
		s += "%"
	}
	return sp.signed(negative, s)
}

// formatG is C's %g.
func formatG(x float64, prec int) string {
	e := strconv.FormatFloat(x, 'e', prec-1, 64)
	mant, exp, _ := strings.Cut(e, "e")
	n, _ := strconv.Atoi(exp)
	trim := func(s string) string {
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	if n < -4 || n >= prec {
		return trim(mant) + "e" + exp
	}
	return trim(strconv.FormatFloat(x, 'f', prec-1-n, 64))
}
