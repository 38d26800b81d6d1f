package archive_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// Ranges that are written side by side share packs, of which a reader holds but a few.
func TestPacksAreReadOnceByWhoeverReadsAsTheyLie(t *testing.T) {
	t.Parallel()
	const ranges, lines = 4, 8
	st := new(archivetest.Memory)
	w := newWorld(t, st)
	w.size = 2 << 20
	run, err := archive.Begin(t.Context(), w.a, w.options())
	if err != nil {
		t.Fatal(err)
	}
	table, err := run.Stream(dataset.Stream{Name: "table", Schema: &dataset.Schema{PrimaryKey: []string{"id"}}}, ranges)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 300<<10)
	for i := range lines {
		for r := range ranges {
			id := r*lines + i
			rand.NewChaCha8([32]byte{byte(id)}).Read(random)
			line := fmt.Sprintf(`{"id":%d,"x":"%s"}`, id, hex.EncodeToString(random))
			if err := table.Section(r).Record(t.Context(), fmt.Sprintf("[%d]", id), []byte(line)); err != nil {
				t.Fatal(err)
			}
			if err := table.Section(r).Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
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
	e, err := s.Stream("table")
	if err != nil {
		t.Fatal(err)
	}
	opened := map[string]int{}
	st.Fault = func(_ int, op, name string) archivetest.Verdict {
		if op == "open" && strings.Contains(name, "/packs/") {
			opened[name]++
		}
		return archivetest.Works
	}
	seen := map[string]int{}
	for r, err := range s.RecordsAsStored(t.Context(), e) {
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Key]++
	}
	for id := range ranges * lines {
		if key := fmt.Sprintf("[%d]", id); seen[key] != 1 {
			t.Errorf("record %s came %d times", key, seen[key])
		}
	}
	if len(seen) != ranges*lines || len(opened) < 8 {
		t.Errorf("%d records in %d packs", len(seen), len(opened))
	}
	for name, n := range opened {
		if n > 1 {
			t.Errorf("%s was read %d times", name, n)
		}
	}
}
