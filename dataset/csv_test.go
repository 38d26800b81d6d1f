package dataset_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/keys"
)

var null = dataset.Cell{Null: true}

func cells(texts ...string) []dataset.Cell {
	var row []dataset.Cell
	for _, t := range texts {
		row = append(row, dataset.Cell{Text: t})
	}
	return row
}

func writeCSV(t rapid.TB, columns []string, rows [][]dataset.Cell) string {
	t.Helper()
	var b bytes.Buffer
	w, err := dataset.NewCSVWriter(&b, columns)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func readCSV(r io.Reader, max int) (columns []string, rows [][]dataset.Cell, err error) {
	cr, err := dataset.NewCSVReader(r, max)
	if err != nil {
		return nil, nil, err
	}
	for {
		row, err := cr.Read(nil)
		if err == io.EOF {
			return cr.Columns(), rows, nil
		}
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, row)
	}
}

func TestCSVHasOneForm(t *testing.T) {
	for _, c := range []struct {
		name    string
		columns []string
		rows    [][]dataset.Cell
		want    string
	}{
		{"no rows", []string{"a", "b"}, nil, "\"a\",\"b\"\n"},
		{"simple", []string{"a", "b"}, [][]dataset.Cell{cells("1", "x y")}, "\"a\",\"b\"\n\"1\",\"x y\"\n"},
		{"null, empty and the text of null", []string{"a", "b", "c"}, [][]dataset.Cell{{null, {}, {Text: `\N`}}}, "\"a\",\"b\",\"c\"\n\\N,\"\",\"\\N\"\n"},
		{"a single empty value", []string{"a"}, [][]dataset.Cell{cells(""), {null}, cells("")}, "\"a\"\n\"\"\n\\N\n\"\"\n"},
		{"quotes", []string{`"`}, [][]dataset.Cell{cells(`"`), cells(`""`), cells(`a"b"`)}, "\"\"\"\"\n\"\"\"\"\n\"\"\"\"\"\"\n\"a\"\"b\"\"\"\n"},
		{"line ends", []string{"a\nb"}, [][]dataset.Cell{cells("\r\n"), cells("\n"), cells("\r"), cells("a\r\nb\r\n")}, "\"a\nb\"\n\"\r\n\"\n\"\n\"\n\"\r\"\n\"a\r\nb\r\n\"\n"},
		{"end of data", []string{"a"}, [][]dataset.Cell{cells(`\.`), cells("x\n\\.\ny")}, "\"a\"\n\"\\.\"\n\"x\n\\.\ny\"\n"},
		{"blanks, formulas, NUL and marks", []string{""}, [][]dataset.Cell{cells(" a "), cells("=1+1"), cells("a\x00b"), cells("\ufeff"), cells(",")}, "\"\"\n\" a \"\n\"=1+1\"\n\"a\x00b\"\n\"\ufeff\"\n\",\"\n"},
	} {
		got := writeCSV(t, c.columns, c.rows)
		if got != c.want {
			t.Errorf("%s: %q; want %q", c.name, got, c.want)
		}
		columns, rows, err := readCSV(iotest.OneByteReader(strings.NewReader(got)), 1000)
		if err != nil || !slices.Equal(columns, c.columns) || !slices.EqualFunc(rows, c.rows, slices.Equal) {
			t.Errorf("%s: read back %q %v, %v", c.name, columns, rows, err)
		}
	}
}

func TestCSVKeepsAwkwardTexts(t *testing.T) {
	var rows [][]dataset.Cell
	for _, k := range keys.Awkward() {
		if strings.ToValidUTF8(k, "?") == k {
			rows = append(rows, cells(k, k+k), []dataset.Cell{null, {Text: k}})
		}
	}
	rows = append(rows, cells(strings.Repeat("x\"\r\n", 100_000), ""))
	file := writeCSV(t, []string{"key", "twice"}, rows)
	_, got, err := readCSV(strings.NewReader(file), 1<<20)
	if err != nil || !slices.EqualFunc(rows, got, slices.Equal) {
		t.Errorf("%d rows became %d, %v", len(rows), len(got), err)
	}
}

func TestCSVWriterRefusesWhatCannotBeRead(t *testing.T) {
	for _, columns := range [][]string{nil, {"a", "a"}, {"\xff"}} {
		if _, err := dataset.NewCSVWriter(io.Discard, columns); err == nil {
			t.Errorf("columns %q were taken", columns)
		}
	}
	var b bytes.Buffer
	w, err := dataset.NewCSVWriter(&b, []string{"a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		row    []dataset.Cell
		column int
	}{{nil, 0}, {cells("1"), 0}, {cells("1", "2", "3"), 0}, {cells("1", "\xff"), 2}, {[]dataset.Cell{{Text: "1", Null: true}, null}, 1}} {
		var bad *dataset.CSVError
		if err := w.Write(c.row); !errors.As(err, &bad) || bad.Column != c.column {
			t.Errorf("Write(%v) = %v; want an error in column %d", c.row, err, c.column)
		}
	}
	if err := w.Flush(); err != nil || b.String() != "\"a\",\"b\"\n" {
		t.Errorf("refused rows left %q, %v", b.String(), err)
	}
}

func TestCSVReaderRefusesWhatIsNeverWritten(t *testing.T) {
	const head = "\"a\",\"b\"\n"
	for _, file := range []string{
		"", "\n", "a,b\n", "\"a\"", "\"a\",\"b\"", "\"a\",\"a\"\n", "\\N\n", "\ufeff\"a\"\n", "\"a\"\r\n", "\"a\";\"b\"\n", "\"\xff\"\n",
		head + "\n", head + "\"1\"\n", head + "\"1\",\"2\",\"3\"\n", head + "\"1\",\"2\"", head + "\"1\",", head + "\"1\",\"2", head + "\"1", head + "\\", head + "\\N",
		head + "1,2\n", head + "\"1\",\n", head + "\"1\",2\n", head + "\"1\",\\n\n", head + "\"1\",\\Nx\n", head + "\"1\",\\NN\n", head + " \"1\",\"2\"\n", head + "\"1\" ,\"2\"\n", head + "\"1\"x,\"2\"\n",
		head + "\"1\",\"2\"\r\n", head + "\"1\",\"\xff\"\n", head + "\"1\",\"2\"\n\n", head + "\\.\n", head + "'1','2'\n", head + "\"1\"\t\"2\"\n", head + "\"1\",\"" + strings.Repeat("x", 100) + "\"\n",
		"\"a\"" + strings.Repeat(",\"\"", 60) + "\n", head + strings.Repeat("\"\",", 1000),
	} {
		_, rows, err := readCSV(strings.NewReader(file), 50)
		var bad *dataset.CSVError
		if !errors.As(err, &bad) {
			t.Errorf("%q was read as %v, %v", file, rows, err)
		}
	}
}

func TestCSVReaderStaysBroken(t *testing.T) {
	r, err := dataset.NewCSVReader(strings.NewReader("\"a\"\nx\n\"1\"\n"), 10)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if row, err := r.Read(nil); err == nil || err == io.EOF {
			t.Errorf("Read after an error = %v, %v", row, err)
		}
	}
	broken := errors.New("broken")
	if _, _, err := readCSV(io.MultiReader(strings.NewReader("\"a\"\n\"1\"\n\"2"), iotest.ErrReader(broken)), 10); !errors.Is(err, broken) {
		t.Errorf("a failing reader came out as %v", err)
	}
	w, err := dataset.NewCSVWriter(failingWriter{broken}, []string{"a"})
	if err == nil {
		err = w.Flush()
	}
	if !errors.Is(err, broken) {
		t.Errorf("a failing writer came out as %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestCSVRowsOfExactlyTheLimitAreTaken(t *testing.T) {
	file := writeCSV(t, []string{"a", "b"}, [][]dataset.Cell{cells("12345", "67890")})
	if _, _, err := readCSV(strings.NewReader(file), 10); err != nil {
		t.Error(err)
	}
	if _, _, err := readCSV(strings.NewReader(file), 9); err == nil {
		t.Error("a row above the limit was taken")
	}
}

func TestCSVWritesAndReadsAnyTable(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("\"\\N,\r\n\x00 ab."))))
	cell := rapid.Custom(func(t *rapid.T) dataset.Cell {
		if rapid.Bool().Draw(t, "null") {
			return null
		}
		return dataset.Cell{Text: text.Draw(t, "text")}
	})
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.SliceOfNDistinct(text, 1, 4, rapid.ID).Draw(t, "columns")
		rows := rapid.SliceOf(rapid.SliceOfN(cell, len(columns), len(columns))).Draw(t, "rows")
		file := writeCSV(t, columns, rows)
		gotColumns, gotRows, err := readCSV(strings.NewReader(file), 1<<20)
		if err != nil || !slices.Equal(columns, gotColumns) || !slices.EqualFunc(rows, gotRows, slices.Equal) {
			t.Fatalf("%q was read as %q %v, %v", file, gotColumns, gotRows, err)
		}
	})
}

func FuzzCSVReader(f *testing.F) {
	for _, s := range []string{"\"a\"\n", "\"a\",\"b\"\n\"1\",\\N\n", "\"a\"\n\"\"\"\r\n\"\n", "\"\"\n\"\\N\"\n\\N\n", "a,b\n1,2\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		columns, rows, err := readCSV(bytes.NewReader(file), 1<<20)
		if err == nil && writeCSV(t, columns, rows) != string(file) {
			t.Errorf("%q was read as %q %v", file, columns, rows)
		}
	})
}

func BenchmarkCSV(b *testing.B) {
	row := cells("10023", "AB123456C", "2024-03-01T10:00:00Z", "Called back, no answer; will try \"again\".", "LS1 1AA")
	var rows [][]dataset.Cell
	for range 1000 {
		rows = append(rows, row)
	}
	file := writeCSV(b, []string{"a", "b", "c", "d", "e"}, rows)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			w, _ := dataset.NewCSVWriter(io.Discard, []string{"a", "b", "c", "d", "e"})
			for _, r := range rows {
				if err := w.Write(r); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(file)))
		for b.Loop() {
			r, _ := dataset.NewCSVReader(strings.NewReader(file), 1<<20)
			var row []dataset.Cell
			var err error
			for err == nil {
				row, err = r.Read(row[:0])
			}
			if err != io.EOF {
				b.Fatal(err)
			}
		}
	})
}

// TestCSVReadsAndWritesEveryCase goes through testdata/csv: a file, and what it says.
func TestCSVReadsAndWritesEveryCase(t *testing.T) {
	files, err := filepath.Glob("testdata/csv/*.csv")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	for _, name := range files {
		file, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(strings.TrimSuffix(name, ".csv") + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			Columns []string
			Rows    [][]*string
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var rows [][]dataset.Cell
		for _, r := range want.Rows {
			var row []dataset.Cell
			for _, v := range r {
				if v == nil {
					row = append(row, null)
				} else {
					row = append(row, dataset.Cell{Text: *v})
				}
			}
			rows = append(rows, row)
		}
		if got := writeCSV(t, want.Columns, rows); got != string(file) {
			t.Errorf("%s: written as %q", name, got)
		}
		columns, got, err := readCSV(bytes.NewReader(file), 1000)
		if err != nil || !slices.Equal(columns, want.Columns) || !slices.EqualFunc(got, rows, slices.Equal) {
			t.Errorf("%s: read as %q %v, %v", name, columns, got, err)
		}
	}
}
