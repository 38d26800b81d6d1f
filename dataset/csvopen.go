package dataset

import (
	"errors"
	"slices"
)

// columns are the fields of a table of CSV. Those of an open schema are texts, whatever
// the schema expects, and one for the whole record, whose name no field has.
func (s *Schema) columns() []Field {
	if !s.Open {
		return slices.Clone(s.Fields)
	}
	whole := "record"
	var out []Field
	for _, f := range s.Fields {
		out = append(out, Field{Name: f.Name, Type: String, Description: f.Description})
	}
	for slices.ContainsFunc(out, func(f Field) bool { return f.Name == whole }) {
		whole += "_"
	}
	return append(out, Field{Name: whole, Type: Object, Required: true, Description: "The whole record."})
}

// openRow is Row for an open schema. obj was checked.
func (t *Table) openRow(dst []Cell, obj []byte) ([]Cell, error) {
	compact, err := Compact(nil, obj)
	if err != nil {
		return dst, err
	}
	start, last := len(dst), len(t.fields)-1
	row := slices.Grow(dst, len(t.fields))[:start+len(t.fields)]
	cells := row[start:]
	for i := range cells {
		cells[i] = Cell{Null: true}
	}
	for name, raw := range Fields(compact) {
		i, ok := t.index[name]
		if !ok || i == last || string(raw) == "null" {
			continue
		}
		cells[i] = Cell{Text: string(raw)}
		if raw[0] != '"' {
			continue
		}
		if s, err := Unquote(raw); err == nil { // else it has lone surrogates, and stays JSON
			cells[i].Text = s
		}
	}
	cells[last] = Cell{Text: string(compact)}
	return row, nil
}

// openRecord is Record for an open schema. The columns for people must say what the
// record says.
func (t *Table) openRecord(dst []byte, row []Cell) ([]byte, error) {
	last := len(row) - 1
	whole := []byte(row[last].Text)
	if row[last].Null {
		return dst, &ColumnError{t.fields[last].Name, errors.New("is empty")}
	}
	if err := CheckObject(whole); err != nil {
		return dst, &ColumnError{t.fields[last].Name, err}
	}
	want, err := t.openRow(nil, whole)
	if err != nil {
		return dst, &ColumnError{t.fields[last].Name, err}
	}
	for i := range want {
		if want[i] != row[i] {
			return dst, &ColumnError{t.fields[i].Name, errors.New("is not what the whole record says")}
		}
	}
	return append(dst, whole...), nil
}
