package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A ColumnError says which field of a record cannot be a cell, or which cell cannot be
// a field.
type ColumnError struct {
	Column string
	Err    error
}

func (e *ColumnError) Error() string {
	return fmt.Sprintf(`column "%s": %v`, Escape(e.Column), e.Err)
}
func (e *ColumnError) Unwrap() error { return e.Err }

// Why a value does not fit its column.
var (
	errUnknownField = errors.New("is not in the schema")
	errWrongType    = errors.New("value is not of the type in the schema")
)

// A Table turns the records of a stream into rows and back: one column for each field of
// the schema, in the schema's order. Both directions keep every value: numbers with
// their lexemes (and, where a record has them as strings for want of such a number in
// JSON, NaN, Infinity and -Infinity as these words), texts with their characters, nested
// JSON with its text. What a row
// cannot keep is the order of members, how a text was escaped, and whether a field was
// null or absent; Row counts the last.
//
// Where the schema is open, the last column holds the whole record as compact JSON, and
// it alone is read back. The others are for people: a text as it is, any other value as
// its JSON, NULL for null and for absent fields.
//
// A Table is safe for concurrent use.
type Table struct {
	fields []Field
	index  map[string]int
	open   bool
}

// NewTable returns the Table of a schema. It fails if two fields have one name, there is
// none, or a field has a type that is not in use.
func NewTable(s *Schema) (*Table, error) {
	t := &Table{fields: s.columns(), index: make(map[string]int, len(s.Fields)), open: s.Open}
	for i, f := range t.fields {
		if cellKind(f) == notACell {
			return nil, &ColumnError{f.Name, fmt.Errorf("type %q, written as %q, is not in use", f.Type, f.Lexical)}
		}
		t.index[f.Name] = i
	}
	return t, checkColumns(t.Columns())
}

// Columns returns the names of the columns.
func (t *Table) Columns() []string {
	names := make([]string, len(t.fields))
	for i, f := range t.fields {
		names[i] = f.Name
	}
	return names
}

// A kind says how the values of a column are written in a cell.
type kind int

const (
	notACell kind = iota
	textCell      // the value of a JSON string
	numberCell
	booleanCell
	jsonCell // the JSON text itself
)

func cellKind(f Field) kind {
	switch f.Lexical {
	case Text, Base64:
		return textCell
	case Plain:
	default:
		return notACell
	}
	switch f.Type {
	case String, Date, Time, Datetime, Duration:
		return textCell
	case Integer, Number:
		return numberCell
	case Boolean:
		return booleanCell
	case Object, Array, AnyType:
		return jsonCell
	}
	return notACell
}

// Row appends the cells of the record obj to dst. It fails with a *[ColumnError] if a
// field is not in the schema, or a value cannot be written: it is not of the field's
// type, or a text with a lone surrogate. absent counts fields that obj does not have;
// they are NULL in the row.
func (t *Table) Row(dst []Cell, obj []byte) (row []Cell, absent int, err error) {
	if err := CheckObject(obj); err != nil {
		return dst, 0, err
	}
	if t.open {
		row, err = t.openRow(dst, obj)
		return row, 0, err
	}
	start := len(dst)
	row = slices.Grow(dst, len(t.fields))[:start+len(t.fields)]
	cells := row[start:]
	for i := range cells {
		cells[i] = Cell{Null: true}
	}
	absent = len(t.fields)
	for name, raw := range Fields(obj) {
		i, ok := t.index[name]
		if !ok {
			return dst, 0, &ColumnError{name, errUnknownField}
		}
		absent--
		if cells[i], err = toCell(t.fields[i], raw); err != nil {
			return dst, 0, &ColumnError{name, err}
		}
	}
	return row, absent, nil
}

func toCell(f Field, raw json.RawMessage) (Cell, error) {
	if string(raw) == "null" {
		return Cell{Null: true}, nil
	}
	switch cellKind(f) {
	case textCell:
		if raw[0] != '"' {
			return Cell{}, errWrongType
		}
		s, err := Unquote(raw)
		return Cell{Text: s}, err
	case jsonCell:
		b, err := Compact(nil, raw)
		return Cell{Text: string(b)}, err
	case numberCell:
		if word := strings.Trim(string(raw), `"`); raw[0] == '"' && isNoNumber(f, word) {
			return Cell{Text: word}, nil
		}
	}
	return Cell{Text: string(raw)}, checkLexeme(f, raw)
}

// checkLexeme fails unless raw is a JSON number or a boolean, as f asks for.
func checkLexeme(f Field, raw []byte) error {
	ok := false
	switch cellKind(f) {
	case numberCell:
		ok = isNumber(raw)
	case booleanCell:
		ok = string(raw) == "true" || string(raw) == "false"
	}
	if !ok {
		return errWrongType
	}
	return nil
}

// Record appends the record of a row to dst: a compact JSON object with every field in
// the schema's order. It fails with a *[ColumnError] unless Row could have written the
// row.
func (t *Table) Record(dst []byte, row []Cell) ([]byte, error) {
	if len(row) != len(t.fields) {
		return dst, fmt.Errorf("row has %d cells, not %d", len(row), len(t.fields))
	}
	if t.open {
		return t.openRecord(dst, row)
	}
	out := append(dst, '{')
	for i, f := range t.fields {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(quote(out, f.Name), ':')
		var err error
		if out, err = appendValue(out, f, row[i]); err != nil {
			return dst, &ColumnError{f.Name, err}
		}
	}
	return append(out, '}'), nil
}

func appendValue(dst []byte, f Field, c Cell) ([]byte, error) {
	if c.Null {
		return append(dst, "null"...), nil
	}
	switch cellKind(f) {
	case textCell:
		return Quote(dst, c.Text)
	case jsonCell:
		out, err := Compact(dst, []byte(c.Text))
		if err == nil && (string(out[len(dst):]) != c.Text || c.Text == "null") {
			err = errors.New("JSON is not in the form that is written")
		}
		return out, err
	case numberCell:
		if isNoNumber(f, c.Text) {
			return quote(dst, c.Text), nil
		}
	}
	return append(dst, c.Text...), checkLexeme(f, []byte(c.Text))
}

// isNoNumber reports whether word is a value of a column of floating-point numbers that
// JSON has no number for.
func isNoNumber(f Field, word string) bool {
	return f.Type == Number && (word == "NaN" || word == "Infinity" || word == "-Infinity")
}
