package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// Str is Python's str(v).
func Str(v Value) string {
	switch v := resolve(v).(type) {
	case string:
		return v
	case *Undefined:
		return ""
	case DateTime:
		return v.isoformat(" ")
	case Date:
		return v.String()
	case TimeDelta:
		return v.String()
	case Duration:
		return v.String()
	default:
		return Repr(v)
	}
}

// Repr is Python's repr(v).
func Repr(v Value) string {
	var b strings.Builder
	repr(&b, v, 0)
	return b.String()
}

func repr(b *strings.Builder, v Value, depth int) {
	if depth > maxDepth {
		b.WriteString("...")
		return
	}
	switch v := resolve(v).(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case *big.Int:
		b.WriteString(v.String())
	case float64:
		b.WriteString(FormatFloat(v))
	case string:
		reprString(b, v)
	case Bytes:
		reprBytes(b, string(v))
	case *List:
		if v.view != "" {
			b.WriteString(v.view + "(")
			defer b.WriteString(")")
		}
		b.WriteByte('[')
		reprItems(b, v.Items, depth)
		b.WriteByte(']')
	case Tuple:
		b.WriteByte('(')
		reprItems(b, v, depth)
		if len(v) == 1 {
			b.WriteByte(',')
		}
		b.WriteByte(')')
	case *Dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			repr(b, k, depth+1)
			b.WriteString(": ")
			repr(b, v.vals[i], depth+1)
		}
		b.WriteByte('}')
	case *Set:
		if v.d.Len() == 0 {
			b.WriteString("set()")
			return
		}
		b.WriteByte('{')
		reprItems(b, v.d.keys, depth)
		b.WriteByte('}')
	case DateTime:
		b.WriteString(v.repr())
	case Date:
		y, m, d := v.t.Date()
		fmt.Fprintf(b, "datetime.date(%d, %d, %d)", y, m, d)
	case TimeDelta:
		b.WriteString(v.repr())
	case Duration:
		b.WriteString(v.String())
	case *Undefined:
		b.WriteString("Undefined")
	default:
		b.WriteString("<function>")
	}
}

func reprItems(b *strings.Builder, items []Value, depth int) {
	for i, e := range items {
		if i > 0 {
			b.WriteString(", ")
		}
		repr(b, e, depth+1)
	}
}

func reprString(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
	}
	b.WriteByte(quote)
}

func reprBytes(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte('b')
	b.WriteByte(quote)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x20 || c >= 0x7f:
			fmt.Fprintf(b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte(quote)
}

// FormatFloat is Python's repr of a float: the shortest digits that read back, with
// an exponent below 1e-4 and from 1e16.
func FormatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	mant, exp, _ := strings.Cut(s, "e")
	x, _ := strconv.Atoi(exp)
	if x < -4 || x >= 16 {
		sign := "+"
		if x < 0 {
			sign, x = "-", -x
		}
		return fmt.Sprintf("%se%s%02d", mant, sign, x)
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
