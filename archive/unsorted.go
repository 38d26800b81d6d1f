package archive

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"math"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/spool"
)

// An Unsorted takes the entries of a blob stream in any order and returns them in the
// order in which [Section.Entry] wants them. It keeps about as much in memory as it was
// told to, and the rest in sealed temporary files. It belongs to one goroutine.
type Unsorted struct {
	w       *Writer
	sorter  *spool.Sorter
	packs   []*pack
	numbers map[*pack]int
	waiting []Entry // whose segments may have no place yet
	bytes   int     // of waiting, about
	key     []byte
}

// Unsorted returns an empty Unsorted that keeps about memory bytes, and the rest in files
// in dir (empty: the system's temporary directory). The caller closes.
func (w *Writer) Unsorted(dir string, memory int64) *Unsorted {
	return &Unsorted{w: w, sorter: spool.NewSorter(dir, memory), numbers: map[*pack]int{}}
}

// Close frees what the entries take.
func (u *Unsorted) Close() error { return u.sorter.Close() }

// Add takes an entry whose segments this run has stored.
func (u *Unsorted) Add(ctx context.Context, e Entry) error {
	u.waiting = append(u.waiting, e)
	if u.bytes += len(e.Data) + 512; u.bytes < maxPart {
		return nil
	}
	return u.settle(ctx)
}

// A heldEntry is an entry in the sorter.
type heldEntry struct {
	Key      []byte
	Ordinal  int
	Data     []byte // not JSON within JSON, which would not keep its lexemes
	HasBlob  bool
	Size     int64
	SHA256   dataset.Hash
	Segments []heldPlacement
}

// A heldPlacement is a Placement whose pack is told by number.
type heldPlacement struct {
	Pack                 int
	Offset, Length, Size int64
	Member               string
}

// settle waits until the segments of what waits have their places, and sorts it.
func (u *Unsorted) settle(ctx context.Context) error {
	if err := u.w.data.flushBatch(ctx); err != nil {
		return err
	}
	for _, e := range u.waiting {
		held := heldEntry{[]byte(e.Key), e.Ordinal, e.Data, e.HasBlob, e.Size, e.SHA256, nil}
		for _, seg := range e.Segments {
			if err := seg.wait(ctx); err != nil {
				return err
			}
			held.Segments = append(held.Segments, heldPlacement{u.number(seg.pack), seg.offset, seg.length, seg.size, seg.member})
		}
		value, err := json.Marshal(held)
		if err != nil {
			return fmt.Errorf("entry %q: %w", e.Key, err)
		}
		u.key = appendSortKey(u.key[:0], e.Key, e.Ordinal)
		if err := u.sorter.Add(u.key, value); err != nil {
			return err
		}
	}
	u.waiting, u.bytes = u.waiting[:0], 0
	return nil
}

func (u *Unsorted) number(p *pack) int {
	n, ok := u.numbers[p]
	if !ok {
		n = len(u.packs)
		u.numbers[p] = n
		u.packs = append(u.packs, p)
	}
	return n
}

// appendSortKey appends what sorts by bytes as entries do: by key, then from the newest
// version to the oldest. A zero byte of the key is told from its end by what follows.
func appendSortKey(dst []byte, key string, ordinal int) []byte {
	for i := range len(key) {
		if dst = append(dst, key[i]); key[i] == 0 {
			dst = append(dst, 0xff)
		}
	}
	return binary.BigEndian.AppendUint64(append(dst, 0, 0), uint64(math.MaxInt64-int64(ordinal)))
}

// Sorted yields all entries in order; those of one key and ordinal in the order they came.
// Nothing may be added after. An error ends the sequence.
func (u *Unsorted) Sorted(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := u.settle(ctx); err != nil {
			yield(Entry{}, err)
			return
		}
		for pair, err := range u.sorter.Sorted() {
			var e Entry
			if err == nil {
				e, err = u.entry(pair.Value)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func (u *Unsorted) entry(value []byte) (Entry, error) {
	var held heldEntry
	if err := json.Unmarshal(value, &held); err != nil {
		return Entry{}, fmt.Errorf("sorted entry: %w", err)
	}
	e := Entry{Key: string(held.Key), Ordinal: held.Ordinal, Data: held.Data, HasBlob: held.HasBlob, Size: held.Size, SHA256: held.SHA256}
	for _, p := range held.Segments {
		e.Segments = append(e.Segments, &Placement{placed: closed, pack: u.packs[p.Pack], offset: p.Offset, length: p.Length, member: p.Member, size: p.Size})
	}
	return e, nil
}
