package verify_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/exporters/sqldb"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/verify"
)

// BenchmarkComparison runs whole exit tests into the embedded targets, and says what the
// restore took, and what the comparison of archive and copy took that follows it, in
// seconds and as a share of the restore.
func BenchmarkComparison(b *testing.B) {
	rows, objects := new(memory.Source), new(memory.Source)
	rows.Generate(memory.RowStream("rows"), 200_000, memory.Row(1))
	objects.Generate(dataset.Stream{Name: "objects", Blobs: true}, 5000, memory.Object(1, 1000, 100_000))
	for _, bench := range []struct {
		name   string
		src    *memory.Source
		n      int64
		target func(b *testing.B) exporters.Target
	}{
		{"200000_rows_in_SQLite", rows, 200_000, func(b *testing.B) exporters.Target {
			t, err := sqldb.SQLite.OpenTarget(b.Context(), exporters.Config{Options: map[string]any{"url": "sqlite:" + filepath.Join(b.TempDir(), "restored.db")}})
			if err != nil {
				b.Fatal(err)
			}
			return t
		}},
		{"5000_objects_in_a_directory", objects, 5000, func(b *testing.B) exporters.Target {
			return dir.NewTarget(filepath.Join(b.TempDir(), "restored"), dir.Options{NoSync: true})
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			tr := newTrial(b, bench.src)
			var restore, compare time.Duration
			for b.Loop() {
				r, c := timed(b, tr, bench.target(b), bench.n)
				restore, compare = restore+r, compare+c
			}
			b.ReportMetric(restore.Seconds()/float64(b.N), "restore-s")
			b.ReportMetric(compare.Seconds()/float64(b.N), "compare-s")
			b.ReportMetric(100*compare.Seconds()/restore.Seconds(), "compare-%-of-restore")
		})
	}
}

// timed runs one exit test over n records that are all the same, and takes its steps' time.
func timed(b *testing.B, tr *trial, target exporters.Target, n int64) (restore, compare time.Duration) {
	b.Helper()
	r, err := verify.ExitTest{Snapshot: tr.s, Target: target, Kind: "embedded", TempDir: b.TempDir()}.Run(b.Context())
	if err != nil || len(r.Errors) > 0 || r.Comparisons[0].Restored[reconcile.OK] != n {
		b.Fatal(err, r.Errors, r.Comparisons)
	}
	for _, s := range r.Steps {
		switch {
		case s.Name == "restore":
			restore += s.Took
		case strings.HasPrefix(s.Name, "compare"):
			compare += s.Took
		}
	}
	if err := target.Close(); err != nil {
		b.Fatal(err)
	}
	return restore, compare
}
