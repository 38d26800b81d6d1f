package archive

import (
	"bytes"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

// FuzzCSVOfAPart makes CSV of any records, which must be taken for theirs, and holds any
// bytes against them, which must not be taken unless they are that CSV.
func FuzzCSVOfAPart(f *testing.F) {
	f.Add(`{"n":1,"s":"x","j":{}}`, `{"s":"\ud800"}`, []byte("\"n\",\"s\",\"j\"\n\"1\",\"x\",\"{}\"\n"))
	f.Add(`{"n":"NaN","more":1}`, `{"n":1e400,"s":"\r\n\"\\N"}`, []byte(`"n"`))
	var tables []*dataset.Table
	for _, open := range []bool{false, true} {
		table, err := dataset.NewCSVTable(&dataset.Schema{Open: open, Fields: []dataset.Field{{Name: "n", Type: dataset.Number}, {Name: "s", Type: dataset.String}, {Name: "j", Type: dataset.AnyType}}})
		if err != nil {
			f.Fatal(err)
		}
		tables = append(tables, table)
	}
	f.Fuzz(func(t *testing.T, a, b string, any []byte) {
		var lines []byte
		for _, text := range []string{a, b} {
			if dataset.CheckObject([]byte(text)) != nil {
				return
			}
			line, err := dataset.Compact(nil, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			lines = append(append(lines, line...), '\n')
		}
		for _, table := range tables {
			var left int64
			e, csv, err := makeCSV(table, lines, nil, func([]byte, error) error { left++; return nil })
			if err != nil || e.LeftOut != left || e.Rows+left != 2 || e.Bytes != int64(len(csv)) {
				t.Fatalf("%q became %q, %+v with %d left out, %v", lines, csv, e, left, err)
			}
			if err := e.Check(table, lines, csv); err != nil {
				t.Errorf("%q is not taken for the CSV of %q: %v", csv, lines, err)
			}
			other := *e
			other.Bytes = int64(len(any))
			if err := other.Check(table, lines, any); err == nil && !bytes.Equal(any, csv) {
				t.Errorf("%q is taken for the CSV of %q, which is %q", any, lines, csv)
			}
		}
	})
}
