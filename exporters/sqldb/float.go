package sqldb

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
)

// appendFloat appends x, a float of 32 or 64 bits, with as few digits as identify it,
// written as PostgreSQL does, so that a copy in another product reads the same.
func appendFloat(dst []byte, x float64, size int) []byte {
	switch {
	case math.IsNaN(x):
		return append(dst, "NaN"...)
	case math.IsInf(x, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(x, -1):
		return append(dst, "-Infinity"...)
	}
	if a := math.Abs(x); a == 0 || 1e-4 <= a && a < 1e5 {
		return strconv.AppendFloat(dst, x, 'f', -1, size)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, x, 'e', -1, size)
	for digits := mantissa(dst[start:]); digits < 17 && onMidpoint(dst[start:], x, size); digits++ {
		dst = strconv.AppendFloat(dst[:start], x, 'e', digits, size) // one digit more: 'e' counts those behind the point
	}
	widest := 15
	if size == 32 {
		widest = 6
	}
	text := dst[start:]
	exponent, err := strconv.Atoi(string(text[bytes.LastIndexByte(text, 'e')+1:]))
	if err != nil || exponent < -4 || exponent >= widest {
		return dst
	}
	return strconv.AppendFloat(dst[:start], x, 'f', -1, size)
}

// mantissa counts the digits before the exponent.
func mantissa(text []byte) int {
	n := bytes.IndexByte(text, 'e')
	for _, c := range text[:n] {
		if c == '-' || c == '.' {
			n--
		}
	}
	return n
}

// onMidpoint reports whether text lies exactly between x and a neighbour of x. Go
// writes such text, which readers that round to even take for x. PostgreSQL does not
// (see its common/d2s.c), so that other readers get x too. Only integers beyond the
// mantissa can have so few digits, and of them only those below 10^40.
func onMidpoint(text []byte, x float64, size int) bool {
	a := math.Abs(x)
	if a < 1<<24 || size == 64 && a < 1<<53 || a > 1e40 {
		return false
	}
	written, _, err := big.ParseFloat(string(text), 10, 512, big.ToNearestEven)
	if err != nil {
		return false
	}
	for _, towards := range []float64{math.Inf(-1), math.Inf(1)} {
		neighbour := math.Nextafter(x, towards)
		if size == 32 {
			neighbour = float64(math.Nextafter32(float32(x), float32(towards)))
		}
		if math.IsInf(neighbour, 0) {
			continue
		}
		sum := new(big.Float).SetPrec(512).Add(big.NewFloat(x), big.NewFloat(neighbour))
		if sum.Cmp(new(big.Float).SetPrec(512).Mul(written, big.NewFloat(2))) == 0 {
			return true
		}
	}
	return false
}
