package dataset_test

import (
	"crypto/aes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
)

// mth is the definition of RFC 6962, section 2.1, word for word.
func mth(leaves [][]byte) [32]byte {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // the largest power of two below n
		left, right := mth(leaves[:k]), mth(leaves[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

// blinded is what the leaf of line i is made of.
func blinded(key dataset.PartKey, i int, line []byte) []byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	in, out := make([]byte, 16), make([]byte, 16)
	binary.BigEndian.PutUint64(in[8:], uint64(i))
	block.Encrypt(out, in)
	return append(out, line...)
}

func testLines(n int) [][]byte {
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = fmt.Appendf(nil, `{"id":%d}`, i)
	}
	return lines
}

func TestPartRootIsTheTreeOfRFC6962(t *testing.T) {
	key := dataset.PartKey{1, 2, 3}
	var leaves [][]byte
	p := dataset.NewPartRoot(key)
	for i, line := range testLines(300) {
		if got, want := p.Root(), dataset.Hash(mth(leaves)); got != want {
			t.Fatalf("root of %d lines = %s; want %s", i, got, want)
		}
		p.Add(line)
		leaves = append(leaves, blinded(key, i, line))
	}
	if p.Count() != 300 {
		t.Errorf("Count = %d", p.Count())
	}
}

func TestRootsHaveTheirKnownValues(t *testing.T) {
	// Checked with openssl enc -aes-256-ecb and sha256sum.
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	var stream dataset.StreamRoot
	var snapshot dataset.SnapshotRoot
	for name, got := range map[string]dataset.Hash{
		"part": dataset.NewPartRoot(dataset.PartKey{}).Root(), "stream": stream.Root(), "snapshot": snapshot.Root(),
	} {
		if got.String() != empty {
			t.Errorf("root of an empty %s = %s", name, got)
		}
	}
	// AES-256 of sixteen zero bytes under the zero key is dc95c078a2408989ad48a21492842087.
	p := dataset.NewPartRoot(dataset.PartKey{})
	p.Add([]byte("{}"))
	const blind = "\xdc\x95\xc0\x78\xa2\x40\x89\x89\xad\x48\xa2\x14\x92\x84\x20\x87"
	if want := dataset.Sum([]byte("\x00" + blind + "{}")); p.Root() != want {
		t.Errorf("root of one line = %s; want %s", p.Root(), want)
	}
}

func TestStreamAndSnapshotRootsAreTreesOfRFC6962(t *testing.T) {
	var stream dataset.StreamRoot
	var snapshot dataset.SnapshotRoot
	var parts, streams [][]byte
	for i := range 70 {
		part, name := dataset.Sum([]byte{byte(i)}), fmt.Sprintf("s%03d", i)
		stream.Add(part, uint64(i))
		parts = append(parts, binary.BigEndian.AppendUint64(part[:], uint64(i)))
		if got, want := stream.Root(), dataset.Hash(mth(parts)); got != want {
			t.Fatalf("root of %d parts = %s; want %s", i+1, got, want)
		}
		if err := snapshot.Add(name, stream.Root()); err != nil {
			t.Fatal(err)
		}
		hash, root := sha256.Sum256([]byte(name)), stream.Root()
		streams = append(streams, append(hash[:], root[:]...))
		if got, want := snapshot.Root(), dataset.Hash(mth(streams)); got != want {
			t.Fatalf("root of %d streams = %s; want %s", i+1, got, want)
		}
	}
}

func TestSnapshotRootRefusesNamesThatDoNotRise(t *testing.T) {
	var s dataset.SnapshotRoot
	for _, c := range []struct {
		name string
		ok   bool
	}{{"", true}, {"", false}, {"b", true}, {"a", false}, {"b", false}, {"ba", true}} {
		if err := s.Add(c.name, dataset.Hash{}); (err == nil) != c.ok {
			t.Errorf("Add(%q) = %v", c.name, err)
		}
	}
}

// each turns a slice into the sequence that ProvePart and ProveStream read.
func each[T any](items []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, x := range items {
			if !yield(x, nil) {
				return
			}
		}
	}
}

// A world is a snapshot small enough to prove anything in.
type world struct {
	keys    [][]dataset.PartKey
	lines   [][][][]byte // by stream, part
	sums    [][]dataset.PartSum
	streams []dataset.StreamSum
	root    dataset.Hash
}

func newWorld(t rapid.TB, sizes [][]int) world {
	var w world
	var snapshot dataset.SnapshotRoot
	for s, parts := range sizes {
		var root dataset.StreamRoot
		var keys []dataset.PartKey
		var lines [][][]byte
		var sums []dataset.PartSum
		for p, n := range parts {
			key := dataset.PartKey(dataset.Sum([]byte{byte(s), byte(p)}))
			part := dataset.NewPartRoot(key)
			ls := testLines(n)
			for _, l := range ls {
				part.Add(l)
			}
			root.Add(part.Root(), part.Count())
			keys, lines, sums = append(keys, key), append(lines, ls), append(sums, dataset.PartSum{Root: part.Root(), Count: part.Count()})
		}
		name := fmt.Sprintf("stream %03d", s)
		if err := snapshot.Add(name, root.Root()); err != nil {
			t.Fatal(err)
		}
		w.keys, w.lines, w.sums = append(w.keys, keys), append(w.lines, lines), append(w.sums, sums)
		w.streams = append(w.streams, dataset.StreamSum{Name: name, Root: root.Root()})
	}
	w.root = snapshot.Root()
	return w
}

func (w world) prove(t rapid.TB, s, p, i int) dataset.Proof {
	t.Helper()
	blind, part, err := dataset.ProvePart(w.keys[s][p], each(w.lines[s][p]), uint64(i))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := dataset.ProveStream(each(w.sums[s]), uint64(p))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := dataset.ProveSnapshot(w.streams, uint64(s))
	if err != nil {
		t.Fatal(err)
	}
	return dataset.Proof{Blind: blind, Part: part, Stream: stream, Name: dataset.Sum([]byte(w.streams[s].Name)), Whole: whole}
}

func TestEveryRecordCanBeProven(t *testing.T) {
	w := newWorld(t, [][]int{{1}, {3, 1, 17}, {}, {2, 2, 2, 2, 2}, {33}})
	for s := range w.lines {
		for p := range w.lines[s] {
			for i, line := range w.lines[s][p] {
				proof := w.prove(t, s, p, i)
				if err := proof.Check(line, w.root); err != nil {
					t.Errorf("stream %d part %d line %d: %v", s, p, i, err)
				}
				if err := proof.Check(append([]byte(" "), line...), w.root); !errors.Is(err, dataset.ErrNotProven) {
					t.Errorf("another line is proven: %v", err)
				}
				b, err := json.Marshal(proof)
				if err != nil {
					t.Fatal(err)
				}
				var back dataset.Proof
				if err := json.Unmarshal(b, &back); err != nil || back.Check(line, w.root) != nil {
					t.Errorf("proof does not survive JSON: %v", err)
				}
			}
		}
	}
}

func TestForgedProofsAreRefused(t *testing.T) {
	w := newWorld(t, [][]int{{4}, {3, 5, 7}, {6, 1}})
	line := w.lines[1][1][2]
	if err := w.prove(t, 1, 1, 2).Check(line, w.root); err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(p *dataset.Proof){
		"blind":              func(p *dataset.Proof) { p.Blind[3]++ },
		"name":               func(p *dataset.Proof) { p.Name[0]++ },
		"index in part":      func(p *dataset.Proof) { p.Part.Index = 3 },
		"part longer":        func(p *dataset.Proof) { p.Part.Size++ },
		"part shorter":       func(p *dataset.Proof) { p.Part.Size-- },
		"index beyond part":  func(p *dataset.Proof) { p.Part.Index = p.Part.Size },
		"no size":            func(p *dataset.Proof) { p.Part.Size = 0 },
		"hash in part":       func(p *dataset.Proof) { p.Part.Hashes[0][31] ^= 1 },
		"hash in stream":     func(p *dataset.Proof) { p.Stream.Hashes[0][31] ^= 1 },
		"hash in snapshot":   func(p *dataset.Proof) { p.Whole.Hashes[1][31] ^= 1 },
		"hash missing":       func(p *dataset.Proof) { p.Part.Hashes = p.Part.Hashes[1:] },
		"hash too many":      func(p *dataset.Proof) { p.Part.Hashes = append(p.Part.Hashes, dataset.Hash{}) },
		"hashes swapped":     func(p *dataset.Proof) { h := p.Part.Hashes; h[0], h[1] = h[1], h[0] },
		"levels swapped":     func(p *dataset.Proof) { p.Part, p.Stream = p.Stream, p.Part },
		"huge size":          func(p *dataset.Proof) { p.Whole.Size = 1 << 63 },
		"no hashes anywhere": func(p *dataset.Proof) { p.Part.Hashes, p.Stream.Hashes, p.Whole.Hashes = nil, nil, nil },
	} {
		p := w.prove(t, 1, 1, 2)
		forge(&p)
		if err := p.Check(line, w.root); err == nil {
			t.Errorf("a proof with a forged %s is accepted", name)
		}
	}
}

func TestProofsOfWhatIsNotThereFail(t *testing.T) {
	if _, _, err := dataset.ProvePart(dataset.PartKey{}, each(testLines(3)), 3); err == nil {
		t.Error("line 3 of 3 was proven")
	}
	if _, err := dataset.ProveStream(each([]dataset.PartSum{}), 0); err == nil {
		t.Error("a part of an empty stream was proven")
	}
	if _, err := dataset.ProveSnapshot([]dataset.StreamSum{{Name: "b"}, {Name: "a"}}, 0); err == nil {
		t.Error("streams out of order were accepted")
	}
	broken := errors.New("broken")
	lines := func(yield func([]byte, error) bool) { yield(nil, broken) }
	if _, _, err := dataset.ProvePart(dataset.PartKey{}, lines, 0); !errors.Is(err, broken) {
		t.Errorf("a failed read came out as %v", err)
	}
}

func TestAnyWorldCanBeProven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(1, 20), 1, 9), 1, 9).Draw(t, "sizes")
		w := newWorld(t, sizes)
		s := rapid.IntRange(0, len(sizes)-1).Draw(t, "stream")
		p := rapid.IntRange(0, len(sizes[s])-1).Draw(t, "part")
		i := rapid.IntRange(0, sizes[s][p]-1).Draw(t, "line")
		proof := w.prove(t, s, p, i)
		if err := proof.Check(w.lines[s][p][i], w.root); err != nil {
			t.Fatal(err)
		}
		j := rapid.IntRange(0, sizes[s][p]-1).Draw(t, "other line")
		if err := proof.Check(w.lines[s][p][j], w.root); (err == nil) != (i == j) {
			t.Fatalf("the proof of line %d serves line %d: %v", i, j, err)
		}
	})
}

func TestAddingLinesAllocatesNothing(t *testing.T) {
	p := dataset.NewPartRoot(dataset.PartKey{})
	line := testLines(1)[0]
	if n := testing.AllocsPerRun(1000, func() { p.Add(line) }); n > 0.01 {
		t.Errorf("%v allocations a line", n)
	}
}

func BenchmarkPartRoot(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			p := dataset.NewPartRoot(dataset.PartKey{})
			line := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p.Add(line)
			}
		})
	}
}

func FuzzProof(f *testing.F) {
	w := newWorld(f, [][]int{{3}, {2, 5}})
	line := w.lines[1][1][4]
	good, err := json.Marshal(w.prove(f, 1, 1, 4))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, line)
	f.Add([]byte(`{"part":{"index":0,"size":1}}`), []byte(`{}`))
	lines := make(map[string]bool)
	for _, stream := range w.lines {
		for _, part := range stream {
			for _, l := range part {
				lines[string(l)] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, doc, line []byte) {
		var p dataset.Proof
		if json.Unmarshal(doc, &p) == nil && p.Check(line, w.root) == nil && !lines[string(line)] {
			t.Errorf("%q is proven by %s", line, doc)
		}
	})
}
