package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

func absFilter(f *frame, v Value, a args) (Value, error) {
	if d, ok := v.(TimeDelta); ok {
		return max(d, -d), nil
	}
	n, ok := number(v)
	if !ok {
		return nil, errorf(TypeError, "bad operand type for abs(): '%s'", typeName(v))
	}
	if x, ok := n.(float64); ok {
		return math.Abs(x), nil
	}
	return normal(new(big.Int).Abs(toBig(n))), nil
}

func floatFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "default")
	if err != nil {
		return nil, err
	}
	if u, ok := v.(*Undefined); ok {
		return nil, u.err()
	}
	if n, ok := number(v); ok {
		return toFloat(n), nil
	}
	if s, ok := v.(string); ok {
		if x, ok := parseFloat(s); ok {
			return x, nil
		}
	}
	if given(p[0]) {
		return p[0], nil
	}
	return 0.0, nil
}

// parseFloat is Python's float(text).
func parseFloat(s string) (float64, bool) {
	t := strings.TrimFunc(s, isSpace)
	lower := strings.ToLower(strings.TrimLeft(t, "+-"))
	if strings.HasPrefix(lower, "0x") || strings.Contains(t, "__") || strings.HasPrefix(t, "_") || strings.HasSuffix(t, "_") ||
		strings.HasPrefix(lower, "inf") && lower != "inf" && lower != "infinity" {
		return 0, false
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(t, "_", ""), 64)
	return x, err == nil || math.IsInf(x, 0)
}

// parseInt is Python's int(text, base).
func parseInt(s string, base int) (Value, bool) {
	t := strings.TrimFunc(s, isSpace)
	if t == "" || len(t) > 4300 || strings.HasPrefix(t, "_") || strings.HasSuffix(t, "_") || strings.Contains(t, "__") {
		return nil, false
	}
	t = asciiDigits(t)
	digits := strings.TrimLeft(t, "+-")
	if len(t)-len(digits) > 1 {
		return nil, false
	}
	prefix := map[int]string{16: "0x", 8: "0o", 2: "0b"}[base]
	if prefix != "" && strings.HasPrefix(strings.ToLower(digits), prefix) {
		digits = digits[2:]
	}
	n, ok := new(big.Int).SetString(strings.ReplaceAll(digits, "_", ""), base)
	if !ok || digits[0] == '-' || digits[0] == '+' {
		return nil, false
	}
	if t[0] == '-' {
		n.Neg(n)
	}
	return normal(n), true
}

// asciiDigits replaces the decimal digits of other scripts.
func asciiDigits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 || !unicode.IsDigit(r) {
			return r
		}
		for _, g := range unicode.Nd.R16 {
			if r >= rune(g.Lo) && r <= rune(g.Hi) {
				return '0' + (r-rune(g.Lo))%10
			}
		}
		for _, g := range unicode.Nd.R32 {
			if r >= rune(g.Lo) && r <= rune(g.Hi) {
				return '0' + (r-rune(g.Lo))%10
			}
		}
		return r
	}, s)
}

// roundInt rounds to a multiple of 10^zeros, halves to even.
func roundInt(n *big.Int, zeros int) Value {
	if zeros <= 0 {
		return normal(n)
	}
	if zeros > 4300 {
		return int64(0)
	}
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(zeros)), nil)
	q, m := new(big.Int).DivMod(n, unit, new(big.Int))
	if c := m.Lsh(m, 1).Cmp(unit); c > 0 || c == 0 && q.Bit(0) == 1 {
		q.Add(q, big.NewInt(1))
	}
	return normal(q.Mul(q, unit))
}

// truncate is Python's int(number).
func truncate(n Value) (Value, error) {
	x, ok := n.(float64)
	if !ok {
		return n, nil
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil, errorf(otherError, "cannot convert float %s to integer", FormatFloat(x))
	}
	i, _ := big.NewFloat(math.Trunc(x)).Int(nil)
	return normal(i), nil
}

func intFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "default", "base")
	if err != nil {
		return nil, err
	}
	base, err := intOr(p[1], 10)
	if err != nil || base < 2 || base > 36 {
		return nil, errorf(ValueError, "int() base must be >= 2 and <= 36")
	}
	if u, ok := v.(*Undefined); ok {
		return nil, u.err()
	}
	var def Value = int64(0)
	if given(p[0]) {
		def = p[0]
	}
	switch x := v.(type) {
	case string:
		if n, ok := parseInt(x, base); ok {
			return n, nil
		}
		if fl, ok := parseFloat(x); ok {
			if n, err := truncate(fl); err == nil {
				return n, nil
			}
		}
		return def, nil
	default:
		if n, ok := number(x); ok {
			i, err := truncate(n)
			if err != nil {
				return def, nil
			}
			return i, nil
		}
	}
	return def, nil
}

func roundFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "precision", "method")
	if err != nil {
		return nil, err
	}
	digits, err := intOr(p[0], 0)
	if err != nil {
		return nil, err
	}
	method, err := textOr(p[1], "common")
	if err != nil {
		return nil, err
	}
	n, ok := number(v)
	if u, undefined := v.(*Undefined); undefined && method != "common" {
		return nil, u.err()
	}
	if !ok {
		return nil, errorf(TypeError, "type %s doesn't define __round__ method", typeName(v))
	}
	switch method {
	case "common":
		x, isFloat := n.(float64)
		if !isFloat {
			return roundInt(toBig(n), -digits), nil
		}
		if digits > 300 || math.IsNaN(x) || math.IsInf(x, 0) {
			return x, nil
		}
		if digits >= 0 {
			r, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', digits, 64), 64)
			return r, nil
		}
		scale := math.Pow(10, float64(-digits))
		return math.RoundToEven(x/scale) * scale, nil
	case "ceil", "floor":
		round := math.Ceil
		if method == "floor" {
			round = math.Floor
		}
		scale := math.Pow(10, float64(digits))
		return round(toFloat(n)*scale) / scale, nil
	}
	return nil, errorf(otherError, "method must be common, ceil or floor")
}
