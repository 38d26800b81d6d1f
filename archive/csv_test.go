package archive_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

var closedSchema = &dataset.Schema{PrimaryKey: []string{"id"}, Fields: []dataset.Field{
	{Name: "id", Type: dataset.Integer, Required: true}, {Name: "a \"quoted\",\nname", Type: dataset.String},
	{Name: "amount", Type: dataset.Number, Lexical: dataset.Text}, {Name: "doc", Type: dataset.Object}}}

// A csvStream is a stream and the lines of its records.
type csvStream struct {
	def   dataset.Stream
	lines []string
}

// exportCSV writes streams into a run that carries CSV if csv says so, and opens it.
func (w *world) exportCSV(t *testing.T, csv bool, streams ...csvStream) (*archive.Snapshot, []archive.LeftOutLine) {
	t.Helper()
	var left []archive.LeftOutLine
	o := w.options()
	o.CSV, o.OnLeftOut = csv, func(l archive.LeftOutLine) { left = append(left, l) }
	run, err := archive.Begin(t.Context(), w.a, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		sw, err := run.Stream(s.def, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range s.lines {
			if archive.Enveloped(&s.def) {
				err = sw.Section(0).Entry(t.Context(), archive.Entry{Key: fmt.Sprint(i), Data: []byte(line)})
			} else {
				var key string
				if key, err = archive.RecordKey(&s.def, []byte(line)); err == nil {
					err = sw.Section(0).Record(t.Context(), key, []byte(line))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return w.commitCSV(t, run), left
}

func (w *world) commitCSV(t *testing.T, run *archive.Writer) *archive.Snapshot {
	t.Helper()
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.a.Snapshot(t.Context(), "case-files", d)
	if err == nil {
		err = s.Unlock(t.Context(), w.open)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// csvOf returns the CSV of a stream as RESTORE.md puts it together, each part held
// against its lines.
func csvOf(t *testing.T, s *archive.Snapshot, stream string) (file string, parts []archive.PartEntry) {
	t.Helper()
	e, err := s.Stream(stream)
	if err != nil {
		t.Fatal(err)
	}
	table, err := e.CSVTable()
	if err != nil {
		t.Fatal(err)
	}
	file = e.CSV.Header
	for part, err := range s.Parts(t.Context(), e.Table) {
		if err != nil {
			t.Fatal(err)
		}
		lines, err := s.Lines(t.Context(), &part)
		if err != nil {
			t.Fatal(err)
		}
		csv, err := s.CSV(t.Context(), &part)
		if err == nil {
			err = part.CSV.Check(table, lines, csv)
		}
		if err != nil {
			t.Fatal(err)
		}
		rows, ok := strings.CutPrefix(string(csv), e.CSV.Header)
		if !ok {
			t.Fatalf("a part's CSV does not begin with %q", e.CSV.Header)
		}
		file += rows
		parts = append(parts, part)
	}
	if int64(len(file)) != e.CSV.Bytes {
		t.Errorf("%d bytes of CSV; the descriptor says %d", len(file), e.CSV.Bytes)
	}
	return file, parts
}

func TestSnapshotCarriesTheSameRecordsAsCSV(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	open := &dataset.Schema{Open: true, PrimaryKey: []string{"id"}, Fields: []dataset.Field{{Name: "id", Type: dataset.String}}}
	s, left := w.exportCSV(t, true,
		csvStream{dataset.Stream{Name: "Cases", Schema: closedSchema}, []string{
			`{"id":1,"a \"quoted\",\nname":"=1+1 \"x\"\r\n","amount":"1.10","doc":{"a":[1.0]}}`,
			`{"doc":null,"id":2,"a \"quoted\",\nname":"","amount":"NaN"}`,
			`{"id":3}`}},
		csvStream{dataset.Stream{Name: "answers", Schema: open}, []string{`{"id":"x","more":[1,2],"text":"\ud800"}`}},
		csvStream{dataset.Stream{Name: "nobody", Schema: closedSchema}, nil},
		csvStream{dataset.Stream{Name: "settings"}, []string{`{"a":1}`}},
		csvStream{dataset.Stream{Name: "events", Keyless: true}, []string{`{"a":1}`}})
	if !s.Manifest.HasCSV() || s.Manifest.Format != "sallyport-manifest/2" || len(left) != 0 {
		t.Errorf("format %s, left out %v", s.Manifest.Format, left)
	}
	header := "\"id\",\"a \"\"quoted\"\",\nname\",\"amount\",\"doc\"\n"
	for stream, want := range map[string]string{
		"Cases": header + "\"1\",\"=1+1 \"\"x\"\"\r\n\",\"1.10\",\"{\"\"a\"\":[1.0]}\"\n" +
			"\"2\",\"\",\"NaN\",\\N\n" + "\"3\",\\N,\\N,\\N\n",
		"answers": "\"id\",\"record\"\n\"x\",\"{\"\"id\"\":\"\"x\"\",\"\"more\"\":[1,2],\"\"text\"\":\"\"\\ud800\"\"}\"\n",
		"nobody":  header,
	} {
		if got, _ := csvOf(t, s, stream); got != want {
			t.Errorf("CSV of %s is %q; want %q", stream, got, want)
		}
	}
	for stream, why := range map[string]string{"settings": "keys", "events": "no schema"} {
		e, err := s.Stream(stream)
		if err != nil || e.CSV != nil || !strings.Contains(e.NoCSV, why) {
			t.Errorf("%s has no CSV because %q, %v; want a word of %q", stream, e.NoCSV, err, why)
		}
	}
	e, _ := s.Stream("Cases")
	if e.CSV.Rows != 3 || e.CSV.Absent != 3 || e.CSV.LeftOut != 0 || e.CSV.Resource.Path[0] != "cases.csv" || e.CSV.Metadata.URL != "cases.csv" {
		t.Errorf("descriptor says of the CSV %+v", e.CSV)
	}
}

func TestSnapshotWithoutCSVKeepsItsVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	s, _ := w.exportCSV(t, false, csvStream{dataset.Stream{Name: "Cases", Schema: closedSchema}, []string{`{"id":1}`}})
	e, err := s.Stream("Cases")
	if err != nil || s.Manifest.Format != "sallyport-manifest/1" || e.CSV != nil || e.NoCSV != "" {
		t.Errorf("format %s, csv %v %q, %v", s.Manifest.Format, e.CSV, e.NoCSV, err)
	}
}

func TestRecordsWithoutARowAreNamedAndStayInTheArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	lines := []string{`{"id":1}`, `{"id":2,"more":1}`, `{"id":3,"doc":{}}`, `{"id":4,"amount":5}`, `{"id":5,"a \"quoted\",\nname":"\ud800"}`}
	for range 2 { // the second run finds the part unchanged, and names them again
		s, left := w.exportCSV(t, true, csvStream{dataset.Stream{Name: "Cases", Schema: closedSchema}, lines})
		file, parts := csvOf(t, s, "Cases")
		if len(parts) != 1 || parts[0].CSV.LeftOut != 3 || parts[0].CSV.Rows != 2 || strings.Count(file, "\n") != 4 {
			t.Fatalf("CSV %q of %+v", file, parts[0].CSV)
		}
		var ledger []archive.LeftOutLine
		for l, err := range s.LeftOut(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			ledger = append(ledger, l)
		}
		if !slices.Equal(ledger, left) || len(ledger) != 3 {
			t.Fatalf("the ledger has %v; the caller was told %v", ledger, left)
		}
		for i, want := range []archive.LeftOutLine{{"Cases", "[2]", "more"}, {"Cases", "[4]", "amount"}, {"Cases", "[5]", "surrogate"}} {
			if l := ledger[i]; l.Key != want.Key || !strings.Contains(l.Reason, want.Reason) {
				t.Errorf("the ledger says %v; want a reason with %q", l, want.Reason)
			}
		}
		e, _ := s.Stream("Cases")
		if e.Records != 5 || s.Manifest.State != archive.Complete {
			t.Errorf("%d records, %s", e.Records, s.Manifest.State)
		}
	}
}

func TestColumnsThatChangeWhileReadGiveUpTheCSV(t *testing.T) {
	t.Parallel()
	more := &dataset.Schema{PrimaryKey: []string{"id"}, Fields: append(slices.Clone(closedSchema.Fields), dataset.Field{Name: "new", Type: dataset.String})}
	for _, c := range []struct {
		name  string
		after int // records before the change
		to    *dataset.Schema
		gone  bool
	}{{"before the first record", 0, more, false}, {"after a record", 1, more, true}, {"to the same columns", 1, closedSchema, false}} {
		w := newWorld(t, new(archivetest.Memory))
		o := w.options()
		o.CSV = true
		run, err := archive.Begin(t.Context(), w.a, o)
		if err != nil {
			t.Fatal(err)
		}
		def := dataset.Stream{Name: "Cases", Schema: closedSchema}
		sw, err := run.Stream(def, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if i == c.after {
				sw.Section(0).Schema(c.to)
				def.Schema = c.to
			}
			if err := sw.Section(0).Record(t.Context(), fmt.Sprintf("[%d]", i), fmt.Appendf(nil, `{"id":%d}`, i)); err != nil {
				t.Fatal(err)
			}
		}
		sw.Summarise(def, archive.StreamSummary{Grade: archive.BestEffort})
		s := w.commitCSV(t, run)
		e, err := s.Stream("Cases")
		if err != nil || (e.NoCSV != "") != c.gone {
			t.Errorf("%s: CSV %v, none because %q, %v", c.name, e.CSV, e.NoCSV, err)
		}
		if !c.gone {
			csvOf(t, s, "Cases")
		}
	}
}

func TestPartsAreReusedWithTheirCSVAndWithout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	w.size = archive.PackSize
	def := dataset.Stream{Name: "rows", Schema: &dataset.Schema{PrimaryKey: []string{"id"}, Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}, {Name: "text", Type: dataset.String}}}}
	lines := make([]string, 24_000)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"id":%d,"text":"%s"}`, i, dataset.Sum([]byte{byte(i), byte(i >> 8)}))
	}
	turned := def
	turned.Schema = &dataset.Schema{PrimaryKey: []string{"id"}, Fields: []dataset.Field{def.Schema.Fields[1], def.Schema.Fields[0]}}
	all := csvStream{def, lines}
	plain, _ := w.exportCSV(t, false, all)
	first, _ := w.exportCSV(t, true, all)
	second, _ := w.exportCSV(t, true, all)
	other, _ := w.exportCSV(t, true, csvStream{turned, lines})
	none, _ := w.exportCSV(t, false, all)
	again, _ := w.exportCSV(t, true, all)
	changed := slices.Clone(lines)
	changed[len(lines)-1] = `{"id":23999,"text":"changed"}`
	last, _ := w.exportCSV(t, true, csvStream{def, changed})

	parts := func(s *archive.Snapshot) []archive.PartEntry { _, p := csvOf(t, s, "rows"); return p }
	if len(parts(first)) < 2 {
		t.Fatalf("only %d part", len(parts(first)))
	}
	for name, c := range map[string]struct {
		a, b       []archive.PartEntry
		lines, csv bool // reused
	}{
		"nothing changed":        {parts(first), parts(second), true, true},
		"columns in other order": {parts(second), parts(other), true, false},
		"the last part":          {parts(again)[1:], parts(last)[1:], false, false},
		"before the last part":   {parts(again)[:1], parts(last)[:1], true, true},
	} {
		for i := range c.a {
			if got := c.a[i].Location == c.b[i].Location; got != c.lines {
				t.Errorf("%s: lines of part %d reused = %t", name, i, got)
			}
			if got := c.a[i].CSV.Location == c.b[i].CSV.Location; got != c.csv {
				t.Errorf("%s: CSV of part %d reused = %t", name, i, got)
			}
		}
	}
	for _, c := range []struct {
		name string
		s    *archive.Snapshot
		most int64
	}{
		{"CSV besides", first, plain.Manifest.Counts.New * 5 / 4}, {"nothing changed", second, 16 << 10}, {"without CSV again", none, 16 << 10},
	} {
		if got := c.s.Manifest.Counts.New; got > c.most {
			t.Errorf("%s: %d bytes are new; want at most %d", c.name, got, c.most)
		}
	}
	if none.Manifest.HasCSV() {
		t.Error("a snapshot without CSV has the version of one with it")
	}
}

func TestCSVThatIsNotItsLinesIsFound(t *testing.T) {
	t.Parallel()
	def := dataset.Stream{Name: "Cases", Schema: closedSchema}
	lines := []string{`{"id":1,"amount":"1.10"}`, `{"id":2,"more":1}`, `{"id":3,"doc":{"a":1}}`}
	w := newWorld(t, new(archivetest.Memory))
	s, _ := w.exportCSV(t, true, csvStream{def, lines})
	_, parts := csvOf(t, s, "Cases")
	good, err := s.CSV(t.Context(), &parts[0])
	if err != nil {
		t.Fatal(err)
	}
	e, _ := s.Stream("Cases")
	table, err := e.CSVTable()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(strings.Join(lines, "\n") + "\n")
	if err := parts[0].CSV.Check(table, text, good); err != nil {
		t.Fatal(err)
	}
	rows := bytes.SplitAfter(good[len(e.CSV.Header):], []byte("\n"))
	for name, bad := range map[string]string{
		"nothing":             "",
		"no rows":             e.CSV.Header,
		"a row gone":          e.CSV.Header + string(rows[1]),
		"a row twice":         string(good) + string(rows[1]),
		"another order":       e.CSV.Header + string(rows[1]) + string(rows[0]),
		"another header":      strings.Replace(string(good), `"doc"`, `"dok"`, 1),
		"another number":      strings.Replace(string(good), `"1.10"`, `"1.1"`, 1),
		"another text":        strings.Replace(string(good), `""a""`, `""b""`, 1),
		"NULL made empty":     strings.Replace(string(good), `\N`, `""`, 1),
		"a row cut":           string(good[:len(good)-2]),
		"a row for left out":  e.CSV.Header + string(rows[0]) + "\"2\",\\N,\\N,\\N\n" + string(rows[1]),
		"text after the rows": string(good) + "x",
	} {
		entry := *parts[0].CSV
		entry.Bytes = int64(len(bad))
		if bad == string(good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := entry.Check(table, text, []byte(bad)); err == nil {
			t.Errorf("%s: %q was taken for the CSV of %q", name, bad, text)
		}
	}
	for name, change := range map[string]func(*archive.CSVPart){
		"rows": func(e *archive.CSVPart) { e.Rows++ }, "left out": func(e *archive.CSVPart) { e.LeftOut-- }, "absent": func(e *archive.CSVPart) { e.Absent++ }, "bytes": func(e *archive.CSVPart) { e.Bytes++ },
	} {
		entry := *parts[0].CSV
		change(&entry)
		if err := entry.Check(table, text, good); err == nil {
			t.Errorf("a wrong count of %s was taken", name)
		}
	}
}
