package spool

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"
)

func id(n uint64) ID {
	var i ID
	r := rand.New(rand.NewPCG(n, 0))
	binary.LittleEndian.PutUint64(i[:], r.Uint64())
	binary.LittleEndian.PutUint64(i[8:], r.Uint64())
	return i
}

// TestTableAnswersAsAMapDoes: with room for 48 entries and 8,000 of them, spills and
// merges of two levels happen, and entries that were put again lie in several runs.
func TestTableAnswersAsAMapDoes(t *testing.T) {
	t.Parallel()
	table := NewTable(t.TempDir(), 0)
	defer table.Close()
	want := map[uint64]uint64{}
	r := rand.New(rand.NewPCG(1, 2))
	for n := range uint64(12_000) {
		k := r.Uint64N(8000)
		got, ok, err := table.Get(id(k))
		if old, has := want[k]; err != nil || ok != has || got != old {
			t.Fatalf("Get(%d) = %d, %v, %v; want %d, %v", k, got, ok, err, old, has)
		}
		want[k] = n
		if err := table.Put(id(k), n); err != nil {
			t.Fatal(err)
		}
	}
	if len(table.runs) < 2 || table.runs[0].level < 2 {
		t.Errorf("%d runs, the oldest of level %d: merges were not tested", len(table.runs), table.runs[0].level)
	}
	for k := range uint64(8000) {
		got, ok, err := table.Get(id(k))
		if old, has := want[k]; err != nil || ok != has || got != old {
			t.Fatalf("Get(%d) = %d, %v, %v; want %d, %v", k, got, ok, err, old, has)
		}
	}
}

func TestTableMakesNoFileBeforeItNeedsOneAndKeepsNoName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := NewTable(dir+"/missing", 1<<20)
	for n := range uint64(1000) {
		if err := table.Put(id(n), n); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, err := table.Get(id(999)); !ok || err != nil {
		t.Errorf("Get = %v, %v", ok, err)
	}
	var err error
	for n := uint64(0); err == nil && n < 100_000; n++ {
		err = table.Put(id(n), n)
	}
	if err == nil {
		t.Fatal("a table that cannot spill took 100,000 entries")
	}
	if _, _, again := table.Get(id(1)); again != err {
		t.Errorf("after an error Get says %v; want %v", again, err)
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
	spilled := NewTable(dir, 0)
	for n := range uint64(2000) {
		if err := spilled.Put(id(n), n); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files %v, %v", left, err)
	}
	if err := spilled.Close(); err != nil {
		t.Error(err)
	}
	if err := spilled.Put(id(1), 1); err == nil {
		t.Error("a closed table took an entry")
	}
}

func TestTableNoticesAChangedRun(t *testing.T) {
	t.Parallel()
	table := NewTable(t.TempDir(), 0)
	defer table.Close()
	for n := range uint64(1000) {
		if err := table.Put(id(n), n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.runs[0].f.f.WriteAt([]byte{1, 2, 3}, 5); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(1000) {
		if _, _, err := table.Get(id(n)); err != nil {
			return
		}
	}
	t.Error("nobody noticed")
}

func BenchmarkTablePut(b *testing.B) {
	table := NewTable(b.TempDir(), 16<<20)
	defer table.Close()
	n := uint64(0)
	for b.Loop() {
		n++
		k := id(n)
		if _, _, err := table.Get(k); err != nil {
			b.Fatal(err)
		}
		if err := table.Put(k, n); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "entries/s")
}

func TestRepeatsTellTheSameFromTheDifferent(t *testing.T) {
	t.Parallel()
	r := NewRepeats(t.TempDir(), 0)
	defer r.Close()
	record := func(key, content string, before, same bool) {
		t.Helper()
		if b, s, err := r.Record(key, []byte(content)); b != before || s != same || err != nil {
			t.Errorf("Record(%s, %s) = %v, %v, %v; want %v, %v", key, content, b, s, err, before, same)
		}
	}
	count := func(key string, want int) {
		t.Helper()
		if n, err := r.Count(key); n != want || err != nil {
			t.Errorf("Count(%s) = %d, %v; want %d", key, n, err, want)
		}
	}
	record("a", "1", false, false)
	count("a", 0)
	count("b", 0)
	for n := range 500 { // so that what came first lies on disk
		record(string(rune('A'+n%26))+string(rune(1000+n)), "x", false, false)
	}
	record("a", "1", true, true)
	record("a", "2", true, false)
	record("a", "1", true, true)
	record("b", "1", false, false)
	count("a", 1)
	count("a", 2)
}
