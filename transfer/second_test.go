package transfer_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
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

func TestRecordThatTheFirstReadingMissedIsAGap(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src, s := rows(500)
	src.Opened = func(n int) {
		if n == 2 {
			src.Add(s, row(1000, time.Now().Add(-time.Hour))) // as old as all others
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
