package sqldb

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
)

// A form is how the text of a database value becomes JSON.
type form uint8

const (
	formText     form = iota // a JSON string
	formToken                // a JSON string of characters that need no escape
	formNumber               // a JSON number; NaN and the infinities are JSON strings
	formBool                 // true or false, from t, f, 1 and 0
	formBytes                // standard base64 of the bytes
	formHex                  // standard base64 of the bytes, which come as \x and hex digits
	formDatetime             // ISO 8601 without a zone: 2026-03-01T12:00:00.5
	formInstant              // ISO 8601 in UTC: 2026-03-01T12:00:00.5Z
	formFraction             // a time of day, trailing zeros of the fraction left out
	formBits                 // bytes to a string of 0 and 1 (see column.bits)
	formJSON                 // the text is JSON already
	formDynamic              // SQLite: the storage class of the value decides (see appendDynamic)
)

// appendValue appends the JSON of a value that is not null and needs no context.
func appendValue(dst []byte, f form, text []byte) ([]byte, error) {
	switch f {
	case formToken:
		return append(append(append(dst, '"'), text...), '"'), nil
	case formNumber:
		return appendNumber(dst, text), nil
	case formBool:
		return appendBool(dst, text)
	case formBytes:
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), text)
		return append(dst, '"'), nil
	case formHex:
		return appendHex(dst, text)
	case formDatetime, formInstant:
		return appendDatetime(dst, text, f == formInstant), nil
	case formFraction:
		return append(append(append(dst, '"'), trimFraction(text)...), '"'), nil
	case formJSON:
		return dataset.Compact(dst, text)
	}
	return dataset.Quote(dst, string(text))
}

// appendNumber appends a number, or one of NaN, Infinity and -Infinity as a string.
func appendNumber(dst, text []byte) []byte {
	if c := text[len(text)-1]; c == 'N' || c == 'y' {
		return append(append(append(dst, '"'), text...), '"')
	}
	return append(dst, text...)
}

func appendBool(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "t", "1":
		return append(dst, "true"...), nil
	case "f", "0":
		return append(dst, "false"...), nil
	}
	return dst, fmt.Errorf("boolean that is neither true nor false: %q", text)
}

func appendHex(dst, text []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(text, []byte(`\x`))
	if !ok {
		return dst, fmt.Errorf("bytes that do not begin with \\x")
	}
	dst = append(dst, '"')
	var raw [48]byte // a multiple of 3, so that only the last piece is padded
	for len(digits) > 0 {
		piece := digits[:min(len(digits), 2*len(raw))]
		digits = digits[len(piece):]
		n, err := hex.Decode(raw[:], piece)
		if err != nil {
			return dst, fmt.Errorf("bytes: %w", err)
		}
		dst = base64.StdEncoding.AppendEncode(dst, raw[:n])
	}
	return append(dst, '"'), nil
}

// appendDatetime turns the space between date and time into a T and, in UTC, the
// offset into a Z. Infinity, BC and zero dates stay recognisable: "infinity",
// "0044-03-15T12:00:00Z BC".
func appendDatetime(dst, text []byte, utc bool) []byte {
	dst = append(dst, '"')
	era := []byte(nil)
	if i := bytes.Index(text, []byte(" BC")); i >= 0 {
		text, era = text[:i], text[i:]
	}
	day, clock, timed := bytes.Cut(text, []byte(" "))
	dst = append(dst, day...)
	if timed {
		clock = bytes.TrimSuffix(clock, []byte("+00"))
		dst = append(append(dst, 'T'), trimFraction(clock)...)
		if utc {
			dst = append(dst, 'Z')
		}
	}
	return append(append(dst, era...), '"')
}

// trimFraction leaves out trailing zeros behind a point. They say nothing that the
// column's type does not say, and products differ in writing them.
func trimFraction(clock []byte) []byte {
	i := bytes.IndexByte(clock, '.')
	if i < 0 {
		return clock
	}
	end := len(clock)
	for end > i+1 && clock[end-1] == '0' {
		end--
	}
	if end == i+1 {
		end = i
	}
	return clock[:end]
}

// appendFloat appends x with as few digits as identify it among floats of the given
// size, written as PostgreSQL does, so that a copy in another product reads the same.
func appendFloat(dst []byte, x float64, size int) []byte {
	switch {
	case math.IsNaN(x):
		return append(dst, "NaN"...)
	case math.IsInf(x, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(x, -1):
		return append(dst, "-Infinity"...)
	}
	widest := 15
	if size == 32 {
		widest = 6
	}
	if a := math.Abs(x); a == 0 || 1e-4 <= a && a < 1e5 {
		return strconv.AppendFloat(dst, x, 'f', -1, size)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, x, 'e', -1, size)
	e := bytes.LastIndexByte(dst[start:], 'e')
	exponent, err := strconv.Atoi(string(dst[start+e+1:]))
	if err != nil || exponent < -4 || exponent >= widest {
		return dst
	}
	return strconv.AppendFloat(dst[:start], x, 'f', -1, size)
}

// appendBits writes the low n bits of big-endian bytes as digits.
func appendBits(dst, raw []byte, n int) []byte {
	for i := 8*len(raw) - n; i < 8*len(raw); i++ {
		bit := byte(0)
		if i >= 0 {
			bit = raw[i/8] >> (7 - i%8) & 1
		}
		dst = append(dst, '0'+bit)
	}
	return dst
}

// appendDynamic writes a SQLite value whose storage class is not the one that its
// field's type says: an object with one member, named after the class.
func appendDynamic(dst []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return append(strconv.AppendInt(append(dst, `{"$integer":"`...), v, 10), `"}`...)
	case float64:
		return append(appendFloat(append(dst, `{"$real":"`...), v, 64), `"}`...)
	case string:
		if !utf8.ValidString(v) {
			return append(base64.StdEncoding.AppendEncode(append(dst, `{"$text_b64":"`...), []byte(v)), `"}`...)
		}
		dst, _ = dataset.Quote(append(dst, `{"$text":`...), v) // valid, as just seen
		return append(dst, '}')
	case []byte:
		return append(base64.StdEncoding.AppendEncode(append(dst, `{"$blob":"`...), v), `"}`...)
	}
	return append(dst, "null"...)
}
