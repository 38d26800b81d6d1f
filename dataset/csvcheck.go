package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// A RowCheck holds rows that were read from CSV against the records they were made of.
// It goes the other way than [Table.Row]: the row becomes a record again, and both are
// compared in canonical form. It is not safe for concurrent use.
type RowCheck struct {
	table    *Table
	comparer *Comparer
	has      []bool // by column: the record has the field
	back     []byte // scratch
	want     []byte
	got      []byte
}

// NewRowCheck returns a RowCheck for the rows of t.
func NewRowCheck(t *Table) *RowCheck {
	// A text may be escaped in two ways, and is one text; all else keeps its lexemes.
	s := &Schema{}
	if !t.open {
		for _, f := range t.fields {
			if cellKind(f) == textCell {
				s.Fields = append(s.Fields, Field{Name: f.Name, Type: String})
			}
		}
	}
	return &RowCheck{table: t, comparer: NewComparer([32]byte{}, Stream{Schema: s}), has: make([]bool, len(t.fields))}
}

// Check fails unless row says what the record obj says. A field that obj does not have
// is NULL in the row; absent counts them.
func (c *RowCheck) Check(obj []byte, row []Cell) (absent int, err error) {
	if c.back, absent, err = c.record(c.back[:0], obj, row); err != nil {
		return 0, err
	}
	if c.want, _, err = c.comparer.Form(c.want[:0], obj); err != nil {
		return 0, err
	}
	if c.got, _, err = c.comparer.Form(c.got[:0], c.back); err != nil {
		return 0, err
	}
	if !bytes.Equal(c.want, c.got) {
		return 0, errors.New("row does not say what the record says")
	}
	return absent, nil
}

// record appends the record of a row to dst, without the fields that are NULL and that
// obj does not have.
func (c *RowCheck) record(dst, obj []byte, row []Cell) (record []byte, absent int, err error) {
	t := c.table
	if t.open || len(row) != len(t.fields) {
		record, err = t.Record(dst, row)
		return record, 0, err
	}
	clear(c.has)
	for name := range Fields(obj) {
		if i, ok := t.index[name]; ok {
			c.has[i] = true
		}
	}
	out := append(dst, '{')
	start := len(out)
	for i, f := range t.fields {
		if row[i].Null && !c.has[i] {
			absent++
			continue
		}
		if len(out) > start {
			out = append(out, ',')
		}
		out = append(quote(out, f.Name), ':')
		if out, err = appendValue(out, f, row[i]); err != nil {
			return dst, 0, &ColumnError{f.Name, err}
		}
	}
	return append(out, '}'), absent, nil
}

// SameColumns reports whether both tables write a record as the same row, under the same
// names.
func (t *Table) SameColumns(o *Table) bool {
	return t.open == o.open && slices.EqualFunc(t.fields, o.fields, func(a, b Field) bool {
		return a.Name == b.Name && cellKind(a) == cellKind(b)
	})
}

// NewCSVTable is [NewTable] for the schema of a stream that may have none: it fails also
// where no field is known, for such CSV would tell a person nothing.
func NewCSVTable(s *Schema) (*Table, error) {
	if s == nil || len(s.Fields) == 0 {
		return nil, errors.New("the stream has no schema that names fields")
	}
	t, err := NewTable(s)
	if err != nil {
		return nil, fmt.Errorf("its schema makes no table: %w", err)
	}
	return t, nil
}
