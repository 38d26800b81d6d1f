package dataset

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrNotUTF8 says that text is not valid UTF-8, so that no JSON string holds it.
var ErrNotUTF8 = errors.New("text is not valid UTF-8")

// ErrSurrogate says that a JSON string holds the escape of one half of a surrogate pair
// alone, so that no text is its value.
var ErrSurrogate = errors.New("string holds a lone surrogate")

// Quote appends s to dst as a JSON string: the quote, the backslash and controls are
// escaped, and nothing else. It fails with [ErrNotUTF8], where encoding/json would
// quietly put U+FFFD.
func Quote(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return dst, ErrNotUTF8
	}
	return quote(dst, s), nil
}

// IsPlain reports whether a JSON string holds text as it is: ASCII without a quote, a
// backslash or a control.
func IsPlain(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		if specialBytes(binary.LittleEndian.Uint64(text)) != 0 {
			return false
		}
	}
	for _, c := range text {
		if c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// quote is Quote for text that is known to be UTF-8.
func quote[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		}
	}
	return append(append(dst, s[start:]...), '"')
}

// Unquote returns the value of a JSON string. It fails with a *[SyntaxError] if raw is
// not exactly one JSON string, and with [ErrSurrogate] if no text is its value.
func Unquote(raw []byte) (string, error) {
	p := parser{src: raw, only: true}
	if !p.at('"') {
		return "", p.fail("not a JSON string")
	}
	escaped, err := p.str()
	if err != nil {
		return "", err
	}
	if p.pos != len(raw) {
		return "", p.fail("data after the string")
	}
	inner := raw[1 : len(raw)-1]
	if !escaped {
		return string(inner), nil
	}
	s := unescape(make([]byte, 0, len(inner)), inner)
	if !utf8.Valid(s) {
		return "", ErrSurrogate
	}
	return string(s), nil
}

// unescape appends the value of the inside of a valid JSON string. A lone surrogate
// becomes the three bytes that UTF-8 would give it if it could (WTF-8), so that
// different strings have different values; no valid UTF-8 looks like that.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			i++
			continue
		}
		c := s[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hex4(s[i : i+4])
			i += 4
			if utf16.IsSurrogate(r) {
				if len(s)-i >= 6 && s[i] == '\\' && s[i+1] == 'u' {
					if pair := utf16.DecodeRune(r, hex4(s[i+2:i+6])); pair != utf8.RuneError {
						dst = utf8.AppendRune(dst, pair)
						i += 6
						continue
					}
				}
				dst = append(dst, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
				continue
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// hex4 returns the value of four hex digits, or -1.
func hex4(s []byte) rune {
	var r rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// AppendText appends the member of an object that holds value under name:
// "name":"value", or "name_b64":"..." in standard base64 if value is not UTF-8. name
// must be UTF-8. [TextField] is its inverse.
func AppendText(dst []byte, name, value string) []byte {
	if utf8.ValidString(value) {
		return quote(append(quote(dst, name), ':'), value)
	}
	dst = append(quote(dst, name+"_b64"), `:"`...)
	return append(base64.StdEncoding.AppendEncode(dst, []byte(value)), '"')
}

// TextField returns the text that [AppendText] wrote into a valid object under name; ok
// is false if it has none. It fails on anything that AppendText would not have written:
// both forms at once, base64 of text that is UTF-8, another type.
func TextField(obj []byte, name string) (value string, ok bool, err error) {
	plain, isPlain := Lookup(obj, name)
	coded, isCoded := Lookup(obj, name+"_b64")
	switch {
	case isPlain && isCoded:
		return "", false, fmt.Errorf("both %s and %s_b64 are given", name, name)
	case isPlain:
		value, err = Unquote(plain)
	case isCoded:
		value, err = decodeText(coded)
		name += "_b64"
	}
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", name, err)
	}
	return value, isPlain || isCoded, nil
}

func decodeText(raw []byte) (string, error) {
	s, err := Unquote(raw)
	if err != nil {
		return "", err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return "", err
	}
	if utf8.Valid(b) || base64.StdEncoding.EncodeToString(b) != s {
		return "", errors.New("base64 that would not have been written")
	}
	return string(b), nil
}

// Key returns the key of a record from the values of its primary key: their compact
// JSON array. Strings are quoted as [Quote] does, so that a copy in another system has
// the same key; other values keep their lexemes. An empty or malformed value is an
// error.
func Key(values []json.RawMessage) (string, error) {
	dst := append(make([]byte, 0, 64), '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = Compact(dst, v); err != nil {
			return "", fmt.Errorf("value %d of the primary key: %w", i+1, err)
		}
	}
	// Compact has checked the lexemes; requote those strings that have a value.
	return string(requoteAll(append(dst, ']'))), nil
}

// requoteAll returns the valid compact JSON text with its strings quoted as Quote does,
// those with lone surrogates excepted.
func requoteAll(text []byte) []byte {
	if !slices.Contains(text, '\\') {
		return text
	}
	dst := make([]byte, 0, len(text))
	p := parser{src: text, only: true}
	for p.pos < len(text) {
		if text[p.pos] != '"' {
			dst = append(dst, text[p.pos])
			p.pos++
			continue
		}
		start := p.pos
		if _, err := p.str(); err != nil {
			return append(dst, text[start:]...) // cannot be: the text is valid
		}
		dst = appendRequoted(dst, text[start:p.pos])
	}
	return dst
}

// appendRequoted appends the valid JSON string raw, quoted as Quote does if it has a
// value.
func appendRequoted(dst, raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return append(dst, raw...) // nothing is escaped, and nothing had to be
	}
	s, err := Unquote(raw)
	if err != nil {
		return append(dst, raw...)
	}
	return quote(dst, s)
}

// KeylessKey returns the key of a record without identity: the hex SHA-256 of its
// canonical form.
func KeylessKey(canonical []byte) string { return Sum(canonical).String() }
