package dataset_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
)

func TestRowCheckTakesARowAndNoOther(t *testing.T) {
	t.Parallel()
	table := newTable(t, typed.Schema)
	record := []byte(`{"id":9007199254740993,"amount":1.10,"exact":"-0.00","name":"a\u0041","blob":"AAE=","open":true,"doc":{"a":[1.0,"\u0041"]},"list":null,"any":"x"}`)
	row, absent, err := table.Row(nil, record)
	if err != nil {
		t.Fatal(err)
	}
	check := dataset.NewRowCheck(table)
	if n, err := check.Check(record, row); err != nil || n != absent || n != 1 {
		t.Errorf("its own row: %d fields absent, %v; want %d", n, err, absent)
	}
	other := map[string]string{"id": "9007199254740992", "amount": "1.1", "exact": "0.00", "name": "aa", "blob": "AAI=", "when": "2026-01-01", "open": "false", "doc": `{"a":[1,"A"]}`, "list": "[]", "any": `"y"`}
	for i, name := range table.Columns() {
		text, ok := other[name]
		if !ok {
			t.Fatalf("no other value of %s", name)
		}
		for _, cell := range []dataset.Cell{{Text: text}, {Null: true}} {
			if cell == row[i] {
				continue
			}
			changed := append([]dataset.Cell(nil), row...)
			changed[i] = cell
			if _, err := check.Check(record, changed); err == nil {
				t.Errorf("column %s: %v was taken for %v", name, cell, row[i])
			}
		}
	}
	if _, err := check.Check(record, row[1:]); err == nil {
		t.Error("a row that is too short was taken")
	}
}

func TestRowCheckAgreesWithRow(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{false, true} {
		schema := *typed.Schema
		schema.Open = open
		table := newTable(t, &schema)
		check := dataset.NewRowCheck(table)
		rapid.Check(t, func(t *rapid.T) {
			m := map[string]any{}
			for _, name := range typed.Schema.Fields {
				if rapid.Bool().Draw(t, "has "+name.Name) {
					m[name.Name] = rapid.OneOf(rapid.String().AsAny(), rapid.Bool().AsAny(), anyJSON(2), rapid.Just[any](json.Number("1.10"))).Draw(t, name.Name)
				}
			}
			record, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			row, absent, err := table.Row(nil, record)
			if err != nil {
				return // a value that is not of its column's type
			}
			if n, err := check.Check(record, row); err != nil || n != absent {
				t.Fatalf("%s as %v: %d absent of %d, %v", record, row, n, absent, err)
			}
		})
	}
}
