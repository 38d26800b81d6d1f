package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/transfer"
)

// row is a record of a table keyed by id that says when it was changed.
func row(id int, changed time.Time) dataset.Record {
	return dataset.Record{Key: fmt.Sprintf("[%d]", id),
		Data: json.RawMessage(fmt.Sprintf(`{"id":%d,"updated_at":%q}`, id, changed.UTC().Format(time.RFC3339)))}
}

func rows(n int) (*memory.Source, dataset.Stream) {
	s := dataset.Stream{Name: "rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}}
	src := new(memory.Source)
	for i := range n {
		src.Add(s, row(i, time.Now().Add(-time.Hour)))
	}
	return src, s
}

func (b *bench) grade(t *testing.T, d *archive.Decision) (archive.Grade, []archive.SecondLine) {
	t.Helper()
	s := b.snapshot(t, d)
	var lines []archive.SecondLine
	for l, err := range s.Second(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return s.Descriptor.Resources[0].Sallyport.Grade, lines
}

func TestSecondReadingThatAgreesProvesTheExport(t *testing.T) {
	t.Parallel()
	for method, want := range map[transfer.Method]archive.Grade{transfer.Exact: archive.Exact, transfer.DoubleRead: archive.DoubleRead} {
		b := newBench(t)
		src, _ := rows(500)
		job := b.job(src)
		job.Method = method
		d, err := transfer.Export(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		if got, lines := b.grade(t, d); got != want || len(lines) != 0 || d.Manifest.State != archive.Complete {
			t.Errorf("%s: grade %s, %s, differences %v", method, got, d.Manifest.State, lines)
		}
	}
}

func TestStreamThatDoesNotHoldStillIsReadInASecondViewAndNotExact(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src, _ := rows(500)
	src.Restless = true
	views := 0
	src.Opened = func(n int) { views = n }
	job := b.job(src)
	job.Method = transfer.Exact
	d, err := transfer.Export(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	got, lines := b.grade(t, d)
	e := b.snapshot(t, d).Descriptor.Resources[0].Sallyport
	if got != archive.DoubleRead || len(lines) != 0 || views != 2 || !strings.Contains(e.Proof, "does not hold it still") {
		t.Errorf("grade %s (%s) of %d views, differences %v", got, e.Proof, views, lines)
	}
}

func TestWhatChangesBetweenTwoReadingsIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src, s := rows(500)
	later := time.Now().Add(time.Minute)
	src.Opened = func(n int) {
		if n != 2 {
			return
		}
		src.Add(s, row(1000, later))
		if err := src.Put(func() dataset.Record { r := row(7, later); r.Stream = "rows"; return r }()); err != nil {
			t.Error(err)
		}
		if err := src.Remove("rows", "[9]", 0); err != nil {
			t.Error(err)
		}
	}
	job := b.job(src)
	job.Method = transfer.DoubleRead
	d, err := transfer.Export(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	got, lines := b.grade(t, d)
	found := map[string]string{}
	for _, l := range lines {
		found[string(l.Key)] = l.Status
	}
	if got != archive.DoubleRead || len(found) != 3 || found["[1000]"] != "added" || found["[7]"] != "changed during export" || found["[9]"] != "vanished" {
		t.Errorf("grade %s, differences %v", got, found)
	}
}

// onlyRead hides what a view can do besides.
type onlyRead struct{ exporters.Exporter }

func TestRecordThatTheFirstReadingMissedIsExportedAsAdded(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(x exporters.Exporter) exporters.Exporter{
		"asked for":  func(x exporters.Exporter) exporters.Exporter { return x },
		"read again": func(x exporters.Exporter) exporters.Exporter { return onlyRead{x} },
	} {
		b := newBench(t)
		src, s := rows(500)
		src.Opened = func(n int) {
			if n == 2 {
				src.Add(s, row(1000, time.Now().Add(-time.Hour))) // as old as all others
			}
		}
		job := b.job(src)
		job.Method = transfer.DoubleRead
		job.Open = func(ctx context.Context) (exporters.Exporter, error) {
			x, err := src.Open(ctx)
			return wrap(x), err
		}
		d, err := transfer.Export(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		grade, lines := b.grade(t, d)
		if grade != archive.DoubleRead || len(lines) != 1 || lines[0].Status != "added" || d.Manifest.State != archive.Complete || d.Manifest.Counts.Records != 501 {
			t.Errorf("%s: grade %s, %s with %d records, differences %+v", name, grade, d.Manifest.State, d.Manifest.Counts.Records, lines)
		}
		snap := b.snapshot(t, d)
		found := 0
		for r, err := range snap.Records(t.Context(), &snap.Descriptor.Resources[0].Sallyport) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Key == "[1000]" {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s: the snapshot has it %d times", name, found)
		}
	}
}

func TestRecordThatCannotBeReadAThirdTimeOrComesTwiceIsNotExportedAsAdded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(view int, r dataset.Record) []dataset.Record{
		"twice in the second reading": func(view int, r dataset.Record) []dataset.Record {
			if r.Key == "[7]" && view == 2 {
				return []dataset.Record{r, r}
			}
			return []dataset.Record{r}
		},
		"unreadable the third time": func() func(view int, r dataset.Record) []dataset.Record {
			seen := 0
			return func(view int, r dataset.Record) []dataset.Record {
				switch {
				case r.Key != "[7]":
					return []dataset.Record{r}
				case view == 1:
					return nil
				}
				if seen++; seen == 1 {
					return []dataset.Record{r}
				}
				return []dataset.Record{{Stream: r.Stream, Key: r.Key, Gap: &dataset.Gap{Code: dataset.Unreadable}}}
			}
		}(),
	} {
		b := newBench(t)
		src, _ := rows(50)
		views := 0
		job := b.job(src)
		job.Method = transfer.DoubleRead
		job.Open = func(ctx context.Context) (exporters.Exporter, error) {
			views++
			now := views
			src.Mutate = func(r dataset.Record) []dataset.Record { return test(now, r) }
			x, err := src.Open(ctx)
			return onlyRead{x}, err
		}
		d, err := transfer.Export(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		grade, lines := b.grade(t, d)
		if grade != archive.BestEffort || len(lines) != 1 || lines[0].Status != "undecided" || d.Manifest.Gaps[dataset.PossiblyCut] != 1 || len(d.Manifest.Gaps) != 1 {
			t.Errorf("%s: grade %s, differences %+v, gaps %v", name, grade, lines, d.Manifest.Gaps)
		}
		if n := d.Manifest.Counts.Records; n > 50 {
			t.Errorf("%s: %d records", name, n)
		}
	}
}

func TestObjectThatTheFirstReadingMissedIsAGap(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := new(memory.Source)
	s := dataset.Stream{Name: "objects", Blobs: true}
	object := func(key string) dataset.Record {
		return dataset.Record{Stream: s.Name, Key: key, Data: json.RawMessage(`{"size":1}`), Blob: memory.Bytes([]byte("x"))}
	}
	src.Add(s, object("a"), object("c"))
	src.Opened = func(n int) {
		if n == 2 {
			src.Add(s, object("b"))
		}
	}
	job := b.job(src)
	job.Method = transfer.DoubleRead
	d, err := transfer.Export(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := b.grade(t, d); got != archive.BestEffort || d.Manifest.Gaps[dataset.PossiblyCut] != 1 {
		t.Errorf("grade %s, gaps %v", got, d.Manifest.Gaps)
	}
}

// A moving source is read in views that show a row otherwise each time: view n shows it
// as the n-th of versions, absent if that is empty. Asked for the row alone the second
// view answers as a third would show it.
type moving struct {
	exporters.Exporter
	third string
}

func (m moving) Get(context.Context, dataset.Stream, string, int) (dataset.Record, error) {
	if m.third == "" {
		return dataset.Record{}, fs.ErrNotExist
	}
	return dataset.Record{Stream: "rows", Key: "[7]", Data: json.RawMessage(m.third)}, nil
}

func TestThirdReadingSettlesWhatTwoDisagreeAbout(t *testing.T) {
	t.Parallel()
	const one, two, three, newer = `{"id":7,"v":1}`, `{"id":7,"v":2}`, `{"id":7,"v":3}`, `{"id":7,"v":4,"updated_at":"2199-01-01T00:00:00Z"}`
	for _, test := range []struct {
		name     string
		readings [3]string // of row 7; empty if it is not there
		want     string
		grade    archive.Grade
		gap      dataset.Code
	}{
		{"changed once", [3]string{one, two, two}, "changed during export", archive.DoubleRead, ""},
		{"changes each time", [3]string{one, two, three}, "unstable", archive.BestEffort, dataset.Unstable},
		{"changes each time and says so", [3]string{one, two, newer}, "changed during export", archive.DoubleRead, ""},
		{"flickers", [3]string{one, two, one}, "unstable", archive.BestEffort, dataset.Unstable},
		{"changed and went", [3]string{one, two, ""}, "vanished", archive.DoubleRead, ""},
		{"went", [3]string{one, "", ""}, "vanished", archive.DoubleRead, ""},
		{"was overlooked", [3]string{one, "", one}, "unstable", archive.BestEffort, dataset.Unstable},
		{"came and went", [3]string{"", two, ""}, "vanished", archive.DoubleRead, ""},
		{"came", [3]string{"", two, two}, "added", archive.DoubleRead, ""},
		{"came, and changed later", [3]string{"", two, newer}, "added", archive.DoubleRead, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			src, s := rows(50)
			if err := src.Remove(s.Name, "[7]", 0); err != nil {
				t.Fatal(err)
			}
			views := 0
			job := b.job(src)
			job.Method = transfer.DoubleRead
			job.Open = func(ctx context.Context) (exporters.Exporter, error) {
				if now := test.readings[views]; now != "" {
					if err := src.Put(dataset.Record{Stream: s.Name, Key: "[7]", Data: json.RawMessage(now)}); err != nil {
						return nil, err
					}
				} else if views > 0 {
					if err := src.Remove(s.Name, "[7]", 0); err != nil {
						return nil, err
					}
				}
				views++
				view, err := src.Open(ctx)
				return moving{view, test.readings[2]}, err
			}
			d, err := transfer.Export(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			grade, lines := b.grade(t, d)
			if len(lines) != 1 || lines[0].Status != test.want || grade != test.grade {
				t.Errorf("grade %s, differences %+v; want %s, %s", grade, lines, test.grade, test.want)
			}
			var gaps map[dataset.Code]int64
			if test.gap != "" {
				gaps = map[dataset.Code]int64{test.gap: 1}
			}
			if got := d.Manifest.Gaps; len(got) != len(gaps) || got[test.gap] != gaps[test.gap] {
				t.Errorf("gaps %v; want %v", got, gaps)
			}
		})
	}
}

func TestRecordThatOneReadingCouldNotReadIsNoDifferenceBetweenTwo(t *testing.T) {
	t.Parallel()
	for unread, want := range map[int]string{1: "unchecked", 2: "ok"} {
		b := newBench(t)
		src, s := rows(50)
		views := 0
		job := b.job(src)
		job.Method = transfer.DoubleRead
		job.Open = func(ctx context.Context) (exporters.Exporter, error) {
			views++
			now := views
			src.Mutate = func(r dataset.Record) []dataset.Record {
				if r.Key == "[7]" && now == unread {
					return []dataset.Record{{Stream: s.Name, Key: r.Key, Gap: &dataset.Gap{Code: dataset.Unreadable}}}
				}
				return []dataset.Record{r}
			}
			return src.Open(ctx)
		}
		d, err := transfer.Export(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		grade, lines := b.grade(t, d)
		if grade != archive.DoubleRead || len(lines) != 1 || lines[0].Status != want {
			t.Errorf("reading %d failed: grade %s, differences %+v; want %s", unread, grade, lines, want)
		}
		if gaps := d.Manifest.Gaps; len(gaps) != 2-unread || unread == 1 && gaps[dataset.Unreadable] != 1 {
			t.Errorf("reading %d failed: gaps %v", unread, gaps)
		}
	}
}
