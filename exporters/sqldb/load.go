package sqldb

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
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
	switch v := string(s[:n]); v {
	case "null", "true", "false":
		return n
	default:
		if _, ok := dataset.DecimalValue(v); !ok {
			return 0
		}
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
		return appendCopyCell(dst, string(raw)), nil
	}
	s, err := c.text(raw)
	if err != nil {
		return dst, err
	}
	switch c.Shape {
	case shapeBytes:
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil {
			return dst, cannot("%v", err)
		}
		return hex.AppendEncode(append(dst, `\\x`...), b), nil
	case shapeDatetime, shapeInstant:
		s = strings.Replace(s, "T", " ", 1)
	case shapeText, shapeJSON:
		if strings.ContainsRune(s, 0) {
			return dst, cannot("text holds a NUL")
		}
	}
	return appendCopyCell(dst, s), nil
}

// appendCopyCell appends text escaped as COPY reads it.
func appendCopyCell(dst []byte, s string) []byte {
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
		b, err := base64.StdEncoding.Strict().DecodeString(s)
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
		b, err := base64.StdEncoding.Strict().DecodeString(s)
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
			b, err := base64.StdEncoding.Strict().DecodeString(s)
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
