package spool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func newBuckets(t testing.TB, dir string, n int, memory int64) *Buckets {
	t.Helper()
	b, err := NewBuckets(dir, n, memory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestBucketsReturnWhatWentIn(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, t.TempDir(), 7, 7*4<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	want := make([][][]byte, 7)
	for n := range 20_000 {
		record := make([]byte, rng.IntN(60))
		if n == 5000 {
			record = make([]byte, 1<<20)
		}
		for i := range record {
			record[i] = byte(rng.Uint32())
		}
		i := rng.IntN(6) // the last stays empty
		want[i] = append(want[i], bytes.Clone(record))
		if err := b.Append(i, record); err != nil {
			t.Fatal(err)
		}
		clear(record)
	}
	for range 2 { // reading again reads the same
		for i := range want {
			var got [][]byte
			for r, err := range b.Read(i) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, bytes.Clone(r))
			}
			if !slices.EqualFunc(got, want[i], bytes.Equal) || b.Len(i) != int64(len(want[i])) {
				t.Errorf("bucket %d: %d records, Len %d; want %d as written", i, len(got), b.Len(i), len(want[i]))
			}
		}
	}
}

func TestBucketsTakeConcurrentWriters(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, t.TempDir(), 3, 0)
	var wg sync.WaitGroup
	const writers, each = 8, 3000
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				if err := b.Append(n%3, binary.BigEndian.AppendUint64(nil, uint64(w*each+n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[uint64]bool)
	for i := range 3 {
		for r, err := range b.Read(i) {
			if err != nil {
				t.Fatal(err)
			}
			seen[binary.BigEndian.Uint64(r)] = true
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d different records; want %d", len(seen), writers*each)
	}
}

func TestNothingReadableAndNothingNamedIsOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBuckets(t, dir, 1, 0)
	s := NewSorter(dir, 0)
	defer s.Close()
	canary := bytes.Repeat([]byte("CANARY"), 20_000)
	if err := b.Append(0, canary); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(canary, canary); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("named files: %v, %v", left, err)
	}
	for _, f := range []*file{b.f, s.runs[0].f} {
		onDisk := make([]byte, f.end)
		if _, err := f.f.ReadAt(onDisk, 0); err != nil {
			t.Fatal(err)
		}
		if len(onDisk) < len(canary) || bytes.Contains(onDisk, []byte("CANARY")) {
			t.Errorf("%d bytes on disk, the plaintext among them", len(onDisk))
		}
	}
}

func TestAlteredChunkIsAnError(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(*file){
		"flipped": func(f *file) { f.f.WriteAt([]byte("x"), 5000) },
		"cut":     func(f *file) { f.f.Truncate(f.end - 1) },
		"swapped": func(f *file) {
			a, b := make([]byte, f.end/2), make([]byte, f.end/2)
			f.f.ReadAt(a, 0)
			f.f.ReadAt(b, f.end/2)
			f.f.WriteAt(b, 0)
			f.f.WriteAt(a, f.end/2)
		},
	} {
		b := newBuckets(t, t.TempDir(), 1, 0)
		for i := range 2 {
			if err := b.Append(0, bytes.Repeat([]byte{byte(i)}, 8000)); err != nil {
				t.Fatal(err)
			}
		}
		alter(b.f)
		var last error
		for _, err := range b.Read(0) {
			last = err
		}
		if last == nil {
			t.Errorf("%s: read to a clean end", name)
		}
	}
}

func TestFailedWriteIsNotForgotten(t *testing.T) {
	t.Parallel()
	b := newBuckets(t, t.TempDir(), 1, 0)
	s := NewSorter(filepath.Join(t.TempDir(), "absent"), 0)
	b.f.close()
	big := make([]byte, 1<<20)
	if err := b.Append(0, big); err == nil {
		t.Error("Append to a closed file succeeded")
	}
	if err := b.Append(0, nil); err == nil {
		t.Error("a later Append succeeded")
	}
	if err := s.Add(big, nil); err == nil {
		t.Error("Add without a directory succeeded")
	}
	var last error
	for _, last = range b.Read(0) {
	}
	if last == nil {
		t.Error("the bucket was read to a clean end")
	}
	for _, last = range s.Sorted() {
	}
	if last == nil {
		t.Error("the sorter was read to a clean end")
	}
	if _, err := NewBuckets("", 0, 0); err == nil {
		t.Error("no buckets were made")
	}
}

func TestSorterSortsStably(t *testing.T) {
	t.Parallel()
	for _, count := range []int{0, 1, 1000, 250_000} { // in memory; thousands of runs and two levels of merging
		s := NewSorter(t.TempDir(), 0)
		rng := rand.New(rand.NewPCG(3, uint64(count)))
		want := make([]string, count)
		for i := range want {
			key := fmt.Sprintf("%x", rng.IntN(count/3+1))
			want[i] = fmt.Sprintf("%s\x00%09d", key, i)
			if err := s.Add([]byte(key), fmt.Appendf(nil, "%09d", i)); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(want)
		if count > 100_000 && (len(s.runs) > 2*mergeWidth || s.runs[0].level == 0) {
			t.Errorf("%d runs, the first of level %d", len(s.runs), s.runs[0].level)
		}
		for range 2 {
			i := 0
			for p, err := range s.Sorted() {
				if err != nil {
					t.Fatal(err)
				}
				if got := string(p.Key) + "\x00" + string(p.Value); i >= count || got != want[i] {
					t.Fatalf("pair %d of %d = %q; want %q", i, count, got, want[min(i, count-1)])
				}
				i++
			}
			if i != count {
				t.Errorf("%d pairs came out; want %d", i, count)
			}
		}
		if err := s.Add(nil, nil); err == nil {
			t.Error("a pair was added after sorting")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkBuckets(b *testing.B) {
	k := newBuckets(b, b.TempDir(), 256, 16<<20)
	record := make([]byte, 48)
	b.SetBytes(int64(len(record)))
	for i := 0; b.Loop(); i++ {
		if err := k.Append(i%256, record); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSorter(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		s := NewSorter(b.TempDir(), 8<<20)
		key := make([]byte, 16)
		for range 1_000_000 {
			binary.BigEndian.PutUint64(key, rng.Uint64())
			if err := s.Add(key, key); err != nil {
				b.Fatal(err)
			}
		}
		n := 0
		for _, err := range s.Sorted() {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1_000_000 {
			b.Fatal(n)
		}
		s.Close()
	}
}
