package sqldb

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
)

// A rowReader takes records apart into the values of a table's columns.
type rowReader struct {
	t       *tableLayout
	members [][]byte // `"name":`, by column
	index   map[string]int
	cells   []json.RawMessage
}

func newRowReader(t *tableLayout) (*rowReader, error) {
	r := &rowReader{t: t, index: make(map[string]int), cells: make([]json.RawMessage, len(t.Columns))}
	if t.Document {
		return r, nil
	}
	for i, f := range t.Stream.Schema.Fields {
		quoted, err := dataset.Quote(nil, f.Name)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.Name, err)
		}
		r.members = append(r.members, append(quoted, ':'))
		r.index[f.Name] = i
	}
	return r, nil
}

// read returns the JSON values of a record by column. They are valid until the next.
func (r *rowReader) read(data []byte) ([]json.RawMessage, error) {
	if r.fast(data) {
		return r.cells, nil
	}
	if err := dataset.CheckObject(data); err != nil {
		return nil, err
	}
	clear(r.cells)
	for name, value := range dataset.Fields(data) {
		i, ok := r.index[name]
		if !ok {
			base, coded := strings.CutSuffix(name, "_b64")
			if i, ok = r.index[base]; !ok || !coded {
				return nil, fmt.Errorf("field %q is not in the schema", name)
			}
			value = append(append([]byte(`{"$text_b64":`), value...), '}')
		}
		if r.cells[i] != nil {
			return nil, fmt.Errorf("field %q comes twice", name)
		}
		r.cells[i] = value
	}
	for i, c := range r.cells {
		if c == nil {
			return nil, fmt.Errorf("field %q is missing", r.t.Stream.Schema.Fields[i].Name)
		}
	}
	return r.cells, nil
}

// fast reads compact objects that have all fields in the order of the schema, as
// exporters of this package write them. It leaves everything else, mistakes included,
// to the thorough way.
func (r *rowReader) fast(data []byte) bool {
	if len(data) < 2 || data[0] != '{' || data[len(data)-1] != '}' {
		return false
	}
	rest := data[1 : len(data)-1]
	for i, m := range r.members {
		if i > 0 {
			if len(rest) == 0 || rest[0] != ',' {
				return false
			}
			rest = rest[1:]
		}
		if len(rest) < len(m) || string(rest[:len(m)]) != string(m) {
			return false
		}
		rest = rest[len(m):]
		n := plainLength(rest)
		if n == 0 {
			return false
		}
		r.cells[i], rest = rest[:n:n], rest[n:]
	}
	return len(rest) == 0
}

// plainLength is the length of the string, number or literal that s begins with, or 0
// if it begins with none for certain.
func plainLength(s []byte) int {
	if len(s) == 0 {
		return 0
	}
	if s[0] == '"' {
		if n := bytes.IndexByte(s[1:], '"'); n >= 0 && dataset.IsPlain(s[1:1+n]) {
			return n + 2
		}
		for i := 1; i < len(s); i++ {
			switch c := s[i]; {
			case c == '"':
				return i + 1
			case c == '\\':
				i++
			case c < ' ':
				return 0
			}
		}
		return 0
	}
	n := 0
	for n < len(s) && s[n] != ',' {
		n++
	}
	switch string(s[:n]) {
	case "null", "true", "false":
		return n
	}
	if !isNumber(s[:n]) {
		return 0
	}
	return n
}

// errCannot begins the reasons why a target cannot hold a value.
var errCannot = errors.New("cannot be stored")

func cannot(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errCannot, fmt.Sprintf(format, args...))
}

var (
	datePattern = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)
	timePattern = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z?$`)
)

// text returns the value of a plain cell as text, checked as far as all products do
// it alike.
func (c *columnLayout) text(raw json.RawMessage) (string, error) {
	if raw[0] == '{' || raw[0] == '[' {
		return "", cannot("a value of another class: %.100s", raw)
	}
	s, err := plainText(raw)
	if err != nil {
		return "", cannot("%v", err)
	}
	return s, nil
}

// pgAppend appends a cell in COPY's text format.
func (c *columnLayout) pgAppend(dst []byte, raw json.RawMessage) ([]byte, error) {
	if string(raw) == "null" {
		return append(dst, `\N`...), nil
	}
	if c.Shape == shapeAny && !c.Own {
		return appendCopyCell(dst, raw), nil
	}
	if (c.Shape == shapeText || c.Shape == shapeJSON) && isCopyCell(raw) {
		return append(dst, raw[1:len(raw)-1]...), nil
	}
	s, err := c.bytes(raw)
	if err != nil {
		return dst, err
	}
	switch c.Shape {
	case shapeBytes:
		return appendCopyBytes(dst, s)
	case shapeDatetime, shapeInstant:
		if day, clock, timed := bytes.Cut(s, []byte("T")); timed {
			dst, s = append(appendCopyCell(dst, day), ' '), clock
		}
	case shapeText, shapeJSON:
		if bytes.IndexByte(s, 0) >= 0 {
			return dst, cannot("text holds a NUL")
		}
	}
	return appendCopyCell(dst, s), nil
}

// isCopyCell reports whether the inside of a JSON string is a cell of COPY as it is: both
// write escapes alike, but those of code points, and a string holds no controls.
func isCopyCell(raw []byte) bool {
	return len(raw) >= 2 && raw[0] == '"' && utf8.Valid(raw) && !bytes.Contains(raw, []byte(`\u`))
}

// bytes is text without a copy, where the value needs no unescaping.
func (c *columnLayout) bytes(raw json.RawMessage) ([]byte, error) {
	if n := len(raw); n >= 2 && raw[0] == '"' && raw[n-1] == '"' && dataset.IsPlain(raw[1:n-1]) {
		return raw[1 : n-1], nil
	}
	s, err := c.text(raw)
	return []byte(s), err
}

// strictBase64 takes what was written and nothing else.
var strictBase64 = base64.StdEncoding.Strict()

// appendCopyBytes appends bytes that come as base64, in hex as COPY reads them.
func appendCopyBytes(dst, coded []byte) ([]byte, error) {
	dst = append(dst, `\\x`...)
	start := len(dst)
	dst, err := strictBase64.AppendDecode(dst, coded)
	if err != nil {
		return dst, cannot("%v", err)
	}
	n := len(dst) - start
	dst = slices.Grow(dst, n)[:len(dst)+n]
	const digits = "0123456789abcdef"
	for i := n - 1; i >= 0; i-- { // from the end, for they lie where their digits go
		b := dst[start+i]
		dst[start+2*i], dst[start+2*i+1] = digits[b>>4], digits[b&15]
	}
	return dst, nil
}

// appendCopyCell appends text escaped as COPY reads it.
func appendCopyCell(dst, s []byte) []byte {
	if dataset.IsPlain(s) {
		return append(dst, s...)
	}
	start := 0
	for i := range len(s) {
		var letter byte
		switch s[i] {
		case '\\':
			letter = '\\'
		case '\t':
			letter = 't'
		case '\n':
			letter = 'n'
		case '\r':
			letter = 'r'
		default:
			continue
		}
		dst = append(append(dst, s[start:i]...), '\\', letter)
		start = i + 1
	}
	return append(dst, s[start:]...)
}

// mysqlValue returns a cell as an argument of a statement.
func (c *columnLayout) mysqlValue(raw json.RawMessage) (any, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	if c.Shape == shapeAny {
		return string(raw), nil
	}
	s, err := c.text(raw)
	if err != nil {
		return nil, err
	}
	switch c.Shape {
	case shapeBool:
		return s == "true", nil
	case shapeBytes:
		b, err := strictBase64.DecodeString(s)
		if err != nil {
			return nil, cannot("%v", err)
		}
		return b, nil
	case shapeFloat:
		if raw[0] == '"' {
			return nil, cannot("%s", s)
		}
		if c.Bits == 32 {
			// As text the greatest float would be beyond itself.
			x, err := strconv.ParseFloat(s, 32)
			if err != nil {
				return nil, cannot("%v", err)
			}
			return x, nil
		}
	case shapeNumeric, shapeDecimal:
		if strings.HasSuffix(s, "N") || strings.HasSuffix(s, "y") {
			if c.Type != "LONGTEXT" {
				return nil, cannot("%s", s)
			}
		}
	case shapeDate:
		if !datePattern.MatchString(s) {
			return nil, cannot("the date %s", s)
		}
	case shapeDatetime, shapeInstant:
		if !timePattern.MatchString(s) {
			return nil, cannot("the time stamp %s", s)
		}
		return strings.TrimSuffix(strings.Replace(s, "T", " ", 1), "Z"), nil
	}
	switch {
	case c.Form == formBits:
		return parseBits(s, c.Bits)
	case c.Own && strings.HasPrefix(strings.ToLower(c.Type), "year"):
		return fmt.Sprintf("%04s", s), nil // '0' would be the year 2000
	}
	return s, nil
}

// parseBits is the inverse of appendBits.
func parseBits(s string, n int) ([]byte, error) {
	v, err := strconv.ParseUint(s, 2, 64)
	if err != nil || len(s) != n {
		return nil, cannot("%q is not %d bits", s, n)
	}
	raw := make([]byte, (n+7)/8)
	for i := range raw {
		raw[len(raw)-1-i] = byte(v >> (8 * i))
	}
	return raw, nil
}

// sqliteValue returns a cell as an argument of a statement.
func (c *columnLayout) sqliteValue(raw json.RawMessage) (any, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	if c.Own {
		return c.sqliteOwn(raw)
	}
	if raw[0] == '{' && c.Form == formText {
		return parseTagged(raw) // text that is not UTF-8
	}
	if c.Shape == shapeAny {
		return string(raw), nil
	}
	s, err := c.text(raw)
	if err != nil {
		return nil, err
	}
	switch c.Shape {
	case shapeBool:
		if s == "true" {
			return int64(1), nil
		}
		return int64(0), nil
	case shapeInteger, shapeBigint, shapeUnsigned:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, cannot("the integer %s", s)
		}
		return n, nil
	case shapeFloat:
		return sqliteFloat(s, raw[0] == '"')
	case shapeDecimal:
		return c.sqliteDecimal(s)
	case shapeBytes:
		b, err := strictBase64.DecodeString(s)
		if err != nil {
			return nil, cannot("%v", err)
		}
		return b, nil
	}
	return s, nil
}

// sqliteFloat refuses what SQLite would change: it makes NULL of NaN and 0 of -0.
func sqliteFloat(s string, quoted bool) (any, error) {
	if quoted && s != "Infinity" && s != "-Infinity" {
		return nil, cannot("%s", s)
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, cannot("%v", err)
	}
	if x == 0 && math.Signbit(x) {
		return nil, cannot("negative zero")
	}
	return x, nil
}

// sqliteDecimal stores decimals of up to 15 digits as numbers, from which the same
// digits come back.
func (c *columnLayout) sqliteDecimal(s string) (any, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, cannot("%v", err)
	}
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return s, nil // as text, which the column's affinity leaves alone
	}
	if strconv.FormatFloat(x, 'f', c.Scale, 64) != s {
		return nil, cannot("the decimal %s in a column of scale %d", s, c.Scale)
	}
	return x, nil
}

// sqliteOwn is the inverse of appendAny.
func (c *columnLayout) sqliteOwn(raw json.RawMessage) (any, error) {
	switch raw[0] {
	case '{':
		v, err := parseTagged(raw)
		if err != nil {
			return nil, cannot("%v", err)
		}
		return v, nil
	case '"':
		s, err := dataset.Unquote(raw)
		if err != nil {
			return nil, cannot("%v", err)
		}
		switch c.Form {
		case formAnyInteger:
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, cannot("the integer %s", s)
			}
			return n, nil
		case formAnyBytes:
			b, err := strictBase64.DecodeString(s)
			if err != nil {
				return nil, cannot("%v", err)
			}
			return b, nil
		}
		return s, nil
	}
	if strings.ContainsAny(string(raw), ".e") {
		x, err := strconv.ParseFloat(string(raw), 64)
		if err != nil {
			return nil, cannot("%v", err)
		}
		return x, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return nil, cannot("the number %s", raw)
	}
	return n, nil
}

// gapOf is the gap of a record that is not stored.
func gapOf(r dataset.Record, code dataset.Code, detail string) dataset.Gap {
	if !utf8.ValidString(detail) {
		detail = strings.ToValidUTF8(detail, "?")
	}
	return dataset.Gap{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal, Code: code, Detail: detail}
}
