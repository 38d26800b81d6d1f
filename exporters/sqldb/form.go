package sqldb

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

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
	formFixed                // a decimal of a fixed scale, from a number (see column.scale)

	// SQLite's columns, whose values have types of their own: what is not of the
	// column's class comes as an object (see appendTagged).
	formAnyInteger
	formAnyNumber
	formAnyText
	formAnyBytes
	formAny
)

// appendValue appends the JSON of a value that is not null and needs no context.
func appendValue(dst []byte, f form, text []byte) ([]byte, error) {
	switch f {
	case formToken, formFixed, formFraction, formDatetime, formInstant:
		if !dataset.IsPlain(text) {
			return dst, fmt.Errorf("neither digits nor letters: %.100q", text)
		}
	}
	switch f {
	case formToken, formFixed:
		return append(append(append(dst, '"'), text...), '"'), nil
	case formNumber:
		return appendNumber(dst, text)
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
func appendNumber(dst, text []byte) ([]byte, error) {
	if isNumber(text) {
		return append(dst, text...), nil
	}
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return append(append(append(dst, '"'), text...), '"'), nil
	}
	return dst, fmt.Errorf("not a number: %.100q", text)
}

// isNumber reports whether text is a number of JSON (RFC 8259, section 6).
func isNumber(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("-"))
	whole := leadingDigits(text)
	if whole == 0 || whole > 1 && text[0] == '0' {
		return false
	}
	text = text[whole:]
	if len(text) > 0 && text[0] == '.' {
		n := leadingDigits(text[1:])
		if n == 0 {
			return false
		}
		text = text[1+n:]
	}
	if len(text) > 0 && text[0] == 'e' {
		text = text[1:]
		if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
			text = text[1:]
		}
		n := leadingDigits(text)
		return n > 0 && n == len(text)
	}
	return len(text) == 0
}

func leadingDigits(text []byte) int {
	for i, c := range text {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(text)
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

// maxExact is the largest integer up to which a double holds every one.
const maxExact = 1 << 53

// appendAny writes a value of SQLite in a column of form f.
func appendAny(dst []byte, f form, v any) []byte {
	switch v := v.(type) {
	case int64:
		switch {
		case f == formAnyInteger:
			return append(strconv.AppendInt(append(dst, '"'), v, 10), '"')
		case (f == formAnyNumber || f == formAny) && -maxExact <= v && v <= maxExact:
			return strconv.AppendInt(dst, v, 10)
		}
	case float64:
		if math.IsInf(v, 0) {
			break
		}
		start := len(dst)
		switch f {
		case formAnyNumber:
			return appendFloat(dst, v, 64)
		case formAny:
			dst = appendFloat(dst, v, 64)
			if bytes.IndexAny(dst[start:], ".e") < 0 {
				dst = append(dst, ".0"...) // no integer
			}
			return dst
		}
	case string:
		if f == formAnyText || f == formAny {
			if quoted, err := dataset.Quote(dst, v); err == nil {
				return quoted
			}
		}
	case []byte:
		if f == formAnyBytes {
			return append(base64.StdEncoding.AppendEncode(append(dst, '"'), v), '"')
		}
	}
	return appendTagged(dst, v)
}

// appendTagged writes a value as an object with one member, named after its storage
// class.
func appendTagged(dst []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return append(strconv.AppendInt(append(dst, `{"$integer":"`...), v, 10), `"}`...)
	case float64:
		return append(appendFloat(append(dst, `{"$real":"`...), v, 64), `"}`...)
	case string:
		if quoted, err := dataset.Quote(append(dst, `{"$text":`...), v); err == nil {
			return append(quoted, '}')
		}
		return append(base64.StdEncoding.AppendEncode(append(dst, `{"$text_b64":"`...), []byte(v)), `"}`...)
	case []byte:
		return append(base64.StdEncoding.AppendEncode(append(dst, `{"$blob":"`...), v), `"}`...)
	}
	return append(dst, "null"...)
}

// parseTagged is the inverse of appendTagged.
func parseTagged(raw []byte) (any, error) {
	for name, value := range dataset.Fields(raw) {
		text, err := dataset.Unquote(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		var v any
		switch name {
		case "$integer":
			v, err = strconv.ParseInt(text, 10, 64)
		case "$real":
			v, err = strconv.ParseFloat(text, 64)
		case "$text":
			v = text
		case "$text_b64":
			var b []byte
			b, err = strictBase64.DecodeString(text)
			v = string(b)
		case "$blob":
			v, err = strictBase64.DecodeString(text)
		}
		if err == nil && v != nil && string(appendTagged(nil, v)) == string(raw) {
			return v, nil
		}
		break
	}
	return nil, fmt.Errorf("not a value of SQLite: %.100q", raw)
}
