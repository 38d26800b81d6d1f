package dataset_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
)

var described = &dataset.Schema{Open: true, PrimaryKey: []string{"id"}, Fields: []dataset.Field{
	{Name: "id", Type: dataset.Integer}, {Name: "record", Type: dataset.String}, {Name: "doc", Type: dataset.Object}}}

func TestRowsOfOpenSchemasHoldTheWholeRecord(t *testing.T) {
	table := newTable(t, described)
	if got := table.Columns(); !slices.Equal(got, []string{"id", "record", "doc", "record_"}) {
		t.Fatalf("columns %q", got)
	}
	for record, row := range map[string][]dataset.Cell{
		`{"id":1,"record":"x","doc":{"a":1.0}}`:      {{Text: "1"}, {Text: "x"}, {Text: `{"a":1.0}`}},
		`{"id":"one","doc":"text","more":[1.10]}`:    {{Text: "one"}, null, {Text: "text"}},
		`{"record":null,"id":1e400,"doc":"\ud800"}`:  {{Text: "1e400"}, null, {Text: `"\ud800"`}},
		`{"record_":"a field that nobody expected"}`: {null, null, null},
		`{"record":"\\N","id":"null"}`:               {{Text: "null"}, {Text: `\N`}, null},
	} {
		got, absent, err := table.Row(nil, []byte(record))
		if want := append(row, dataset.Cell{Text: record}); err != nil || absent != 0 || !slices.Equal(got, want) {
			t.Errorf("Row(%s) = %v, %d, %v", record, got, absent, err)
		}
		if back, err := table.Record([]byte("x"), got); err != nil || string(back) != "x"+record {
			t.Errorf("Record = %s, %v; want %s", back, err, record)
		}
	}
}

func TestRowsOfOpenSchemasThatContradictTheirRecordAreRefused(t *testing.T) {
	table := newTable(t, described)
	whole := dataset.Cell{Text: `{"id":1}`}
	for name, row := range map[string][]dataset.Cell{
		"no record":            {{Text: "1"}, null, null, null},
		"another value":        {{Text: "2"}, null, null, whole},
		"a value too many":     {{Text: "1"}, {Text: "x"}, null, whole},
		"a value that is lost": {null, null, null, whole},
		"not compact":          {{Text: "1"}, null, null, {Text: `{"id": 1}`}},
		"not an object":        {null, null, null, {Text: `[]`}},
		"a member twice":       {{Text: "1"}, null, null, {Text: `{"id":1,"id":1}`}},
	} {
		if back, err := table.Record(nil, row); err == nil {
			t.Errorf("%s: %s", name, back)
		}
	}
}

func TestAnyRecordComesBackFromARowOfAnOpenSchema(t *testing.T) {
	table := newTable(t, described)
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SampledFrom([]any{nil, true, 1, -0.5, "", "\\N", "a,\"b\"\r\n", []any{}, map[string]any{"x": nil}})
		record, err := json.Marshal(rapid.MapOf(rapid.SampledFrom([]string{"id", "record", "record_", "doc", "other"}), values).Draw(t, "record"))
		if err != nil {
			t.Fatal(err)
		}
		row, _, err := table.Row(nil, record)
		if err != nil {
			t.Fatal(err)
		}
		var file bytes.Buffer
		w, err := dataset.NewCSVWriter(&file, table.Columns())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(row); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		r, err := dataset.NewCSVReader(&file, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		cells, err := r.Read(nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := table.Record(nil, cells); err != nil || !bytes.Equal(back, record) {
			t.Errorf("%s came back as %s, %v", record, back, err)
		}
	})
}
