package dataset_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
)

func newTable(t rapid.TB, s *dataset.Schema) *dataset.Table {
	t.Helper()
	table, err := dataset.NewTable(s)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestRecordsBecomeRowsAndComeBack(t *testing.T) {
	table := newTable(t, typed.Schema)
	for _, c := range []struct {
		record string
		row    []dataset.Cell
		absent int
		back   string
	}{
		{
			`{"id":9007199254740993,"amount":1.10,"exact":"-0.00","name":"a\"b\r\n\u00e9","blob":"AAE=","when":"2026-01-01T00:00:00Z","open":true,"doc":{"a":[1.0,"\u0041"]},"list":[],"any":"x"}`,
			cells("9007199254740993", "1.10", "-0.00", "a\"b\r\né", "AAE=", "2026-01-01T00:00:00Z", "true", `{"a":[1.0,"\u0041"]}`, "[]", `"x"`), 0,
			`{"id":9007199254740993,"amount":1.10,"exact":"-0.00","name":"a\"b\r\né","blob":"AAE=","when":"2026-01-01T00:00:00Z","open":true,"doc":{"a":[1.0,"\u0041"]},"list":[],"any":"x"}`,
		},
		{
			` { "any" : [ 1 , null ] , "name" : "" , "id" : null , "doc" : "text" } `,
			[]dataset.Cell{null, null, null, {}, null, null, null, {Text: `"text"`}, null, {Text: "[1,null]"}}, 6,
			`{"id":null,"amount":null,"exact":null,"name":"","blob":null,"when":null,"open":null,"doc":"text","list":null,"any":[1,null]}`,
		},
	} {
		row, absent, err := table.Row(nil, []byte(c.record))
		if err != nil || absent != c.absent || !slices.Equal(row, c.row) {
			t.Errorf("Row(%s) = %v, %d, %v", c.record, row, absent, err)
		}
		back, err := table.Record([]byte("x"), row)
		if err != nil || string(back) != "x"+c.back {
			t.Errorf("Record = %s, %v; want %s", back, err, c.back)
		}
	}
}

func TestNumbersThatJSONLacksAreWords(t *testing.T) {
	table := newTable(t, &dataset.Schema{Fields: []dataset.Field{{Name: "x", Type: dataset.Number}}})
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		record := `{"x":"` + word + `"}`
		row, _, err := table.Row(nil, []byte(record))
		if err != nil || row[0].Text != word {
			t.Errorf("Row(%s) = %v, %v", record, row, err)
			continue
		}
		if back, err := table.Record(nil, row); err != nil || string(back) != record {
			t.Errorf("%s came back as %s, %v", record, back, err)
		}
		if _, err := dataset.NewRowCheck(table).Check([]byte(record), row); err != nil {
			t.Errorf("%s: %v", record, err)
		}
	}
}

func TestWhatIsNoCellNamesItsColumn(t *testing.T) {
	table := newTable(t, typed.Schema)
	for record, column := range map[string]string{
		`{"id":"1"}`: "id", `{"id":"NaN"}`: "id", `{"id":true}`: "id", `{"amount":{}}`: "amount", `{"amount":"1"}`: "amount", `{"amount":"\u004eaN"}`: "amount", `{"amount":"nan"}`: "amount", `{"exact":1}`: "exact", `{"name":1}`: "name", `{"name":[]}`: "name",
		`{"name":"\ud800"}`: "name", `{"when":1}`: "when", `{"open":"true"}`: "open", `{"open":1}`: "open", `{"more":1}`: "more", `{"\ud800":1}`: "\xed\xa0\x80",
	} {
		var bad *dataset.ColumnError
		row, _, err := table.Row(nil, []byte(record))
		if !errors.As(err, &bad) || bad.Column != column || row != nil {
			t.Errorf("Row(%s) = %v, %v; want an error in %q", record, row, err, column)
		}
	}
	for _, record := range []string{``, `[]`, `{"id":1,"id":2}`, "{\"name\":\"\xff\"}"} {
		var syntax *dataset.SyntaxError
		if _, _, err := table.Row(nil, []byte(record)); !errors.As(err, &syntax) {
			t.Errorf("Row(%q): %v", record, err)
		}
	}
}

func TestWhatIsNoFieldNamesItsColumn(t *testing.T) {
	columns := newTable(t, typed.Schema).Columns()
	table := newTable(t, typed.Schema)
	for column, texts := range map[string][]string{
		"id": {"", "x", "01", "1 ", "NaN"}, "amount": {"1.", "0x1", "nan", "Inf", "\"NaN\""}, "open": {"t", "TRUE", ""}, "name": {"\xff"},
		"doc": {"", "{", "{ }", `{"a":1,"a":2}`, "null", " {}"}, "any": {"null", "x", "[1, 2]"},
	} {
		for _, text := range texts {
			row := slices.Repeat([]dataset.Cell{null}, len(columns))
			row[slices.Index(columns, column)] = dataset.Cell{Text: text}
			var bad *dataset.ColumnError
			if got, err := table.Record(nil, row); !errors.As(err, &bad) || bad.Column != column || got != nil {
				t.Errorf("Record with %s = %q: %s, %v", column, text, got, err)
			}
		}
	}
	if got, err := table.Record(nil, nil); err == nil {
		t.Errorf("Record of no cells = %s", got)
	}
}

func TestTableRefusesSchemasWithoutColumns(t *testing.T) {
	for name, fields := range map[string][]dataset.Field{
		"no fields":       nil,
		"a name twice":    {{Name: "a", Type: dataset.String}, {Name: "a", Type: dataset.Integer}},
		"no type":         {{Name: "a"}},
		"unknown type":    {{Name: "a", Type: "geopoint"}},
		"unknown lexical": {{Name: "a", Type: dataset.String, Lexical: "hex"}},
	} {
		if _, err := dataset.NewTable(&dataset.Schema{Fields: fields}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestCSVKeepsEveryRecord sends records through a whole file and compares them as an
// exit test would.
func TestCSVKeepsEveryRecord(t *testing.T) {
	values := map[string]*rapid.Generator[any]{
		"id": rapid.Map(rapid.Int64(), func(n int64) any { return n }), "amount": rapid.Map(rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,9})?(e-?[0-9]{1,4})?`), func(s string) any { return json.Number(s) }),
		"exact": rapid.SampledFrom([]any{"1.10", "NaN", "-0", ""}), "name": rapid.String().AsAny(), "open": rapid.Bool().AsAny(), "doc": anyJSON(3), "any": anyJSON(2),
	}
	table := newTable(t, typed.Schema)
	comparer := dataset.NewComparer([32]byte{}, dataset.Stream{Schema: typed.Schema})
	rapid.Check(t, func(t *rapid.T) {
		m := map[string]any{}
		for _, name := range table.Columns() {
			m[name] = nil
			if g := values[name]; g != nil && rapid.Bool().Draw(t, "has "+name) {
				m[name] = g.Draw(t, name)
			}
		}
		record, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		row, absent, err := table.Row(nil, record)
		if err != nil || absent != 0 {
			t.Fatal(absent, err)
		}
		_, rows, err := readCSV(strings.NewReader(writeCSV(t, table.Columns(), [][]dataset.Cell{row})), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		back, err := table.Record(nil, rows[0])
		if err != nil {
			t.Fatal(err)
		}
		if diffs, total, err := comparer.Diff(record, back, 10); err != nil || total != 0 {
			t.Fatalf("%s became %s: %v, %v", record, back, diffs, err)
		}
	})
}

func FuzzTableRecord(f *testing.F) {
	f.Add("1", "x", "true", `{"a":1}`)
	f.Add("1e5", "\xff", "false", `[ ]`)
	f.Add("", "", "", "null")
	table := newTable(f, &dataset.Schema{Fields: []dataset.Field{{Name: "n", Type: dataset.Number}, {Name: "s", Type: dataset.String}, {Name: "b", Type: dataset.Boolean}, {Name: "j", Type: dataset.AnyType}}})
	f.Fuzz(func(t *testing.T, n, s, b, j string) {
		row := cells(n, s, b, j)
		record, err := table.Record(nil, row)
		if err != nil {
			return
		}
		back, absent, err := table.Row(nil, record)
		if err != nil || absent != 0 || !slices.Equal(row, back) {
			t.Errorf("%v became %s and then %v, %d, %v", row, record, back, absent, err)
		}
	})
}
