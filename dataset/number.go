package dataset

import (
	"math/big"
	"strconv"
	"strings"
)

// EqualNumber reports whether two JSON numbers have one decimal value: 1.10 and 1.1,
// 1e400 and 1E+400, 0 and -0.0. It never rounds, and a huge exponent costs no more than
// the digits it is written with. It is false if either is not a JSON number.
func EqualNumber(a, b string) bool {
	x, ok := DecimalValue(a)
	if !ok {
		return false
	}
	y, ok := DecimalValue(b)
	return ok && x == y
}

// DecimalValue returns the one form that all JSON numbers of s's decimal value share:
// 0, or an optional minus, the digits without leading and trailing zeros, e and an
// exponent without plus: 1.10 is 11e-1. It is no form for people. ok is false if s is
// not a JSON number.
func DecimalValue(s string) (value string, ok bool) {
	if !isNumber([]byte(s)) {
		return "", false
	}
	s, negative := strings.CutPrefix(s, "-")
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0", true
	}
	significant := strings.TrimRight(digits, "0")
	shift := len(digits) - len(significant) - len(fraction)
	value = significant + "e" + addExponent(exponent, shift)
	if negative {
		value = "-" + value
	}
	return value, true
}

// isNumber reports whether all of raw is a JSON number.
func isNumber(raw []byte) bool {
	p := parser{src: raw}
	return len(raw) > 0 && p.number() == nil && p.pos == len(raw)
}

// addExponent adds n to an exponent of a JSON number, which is empty if there is none.
func addExponent(exponent string, n int) string {
	if exponent == "" {
		return strconv.Itoa(n)
	}
	if len(exponent) <= 18 {
		x, _ := strconv.ParseInt(exponent, 10, 64) // its syntax is known to be right
		return strconv.FormatInt(x+int64(n), 10)
	}
	sum := big.NewInt(int64(n))
	if x, ok := new(big.Int).SetString(exponent, 10); ok {
		sum.Add(sum, x)
	}
	return sum.String()
}
