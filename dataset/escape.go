package dataset

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes text from a source fit to be shown to people: in a terminal, a log or a
// message. What is visible stays as it is; everything that could move a cursor, hide,
// reorder or imitate other text is written as in a Go string literal: controls (\n,
// \x1b, \u0085), formatting and bidirectional characters (\u202e), zero-width and
// other invisible ones, spaces other than the plain one, line separators, the byte
// order mark, unassigned characters, bytes that are not UTF-8 (\xff), the backslash
// and the double quote. [Unescape] is its inverse.
//
// It does not replace the escaping that a format asks for (HTML, CSV, shell).
func Escape(s string) string {
	i := 0
	for i < len(s) && 0x20 <= s[i] && s[i] < 0x7f && s[i] != '"' && s[i] != '\\' {
		i++
	}
	if i == len(s) {
		return s
	}
	dst := append(make([]byte, 0, len(s)+16), s[:i]...)
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if shows(r) && r != '"' && r != '\\' && (r != utf8.RuneError || n > 1) {
			dst = append(dst, s[i:i+n]...)
		} else {
			dst = appendEscaped(dst, s[i:i+n], r)
		}
		i += n
	}
	return string(dst)
}

// shows reports whether r leaves a mark of its own. unicode.IsPrint alone would let
// fillers, joiners and variation selectors pass, which are letters or marks and yet
// invisible.
func shows(r rune) bool {
	return unicode.IsPrint(r) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// appendEscaped appends the escape of r, whose bytes are raw.
func appendEscaped(dst []byte, raw string, r rune) []byte {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Appendf(dst, `\x%02x`, raw[0])
	case r < utf8.RuneSelf:
		q := strconv.Quote(raw)
		return append(dst, q[1:len(q)-1]...)
	case r > 0xffff:
		return fmt.Appendf(dst, `\U%08x`, r)
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

// Unescape is the inverse of [Escape]. It accepts what Escape writes and nothing else.
func Unescape(s string) (string, error) {
	if strings.ContainsAny(s, "\n\r") {
		return "", errors.New("escaped text holds a line end")
	}
	u, err := strconv.Unquote(`"` + s + `"`)
	if err != nil || Escape(u) != s {
		return "", errors.New("text is not escaped as it should be")
	}
	return u, nil
}
