package spool

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"iter"
	"slices"
)

const (
	mergeWidth = 64       // runs of one level that are merged into one of the next
	runChunk   = 64 << 10 // bytes of a run that are read at once
)

// A Pair is a key and what belongs to it.
type Pair struct{ Key, Value []byte }

// A Sorter takes pairs in any order and returns them in the byte order of their keys,
// those of one key in the order they came. It is not safe for concurrent use.
type Sorter struct {
	dir    string
	memory int

	arena   []byte
	entries []entry
	runs    []*run // the oldest first; levels never rise
	sorted  bool
	err     error // of the first failed write
}

// An entry is a pair in the arena.
type entry struct{ key, value, end int }

// A run is a sorted stretch of pairs in a file of its own.
type run struct {
	f     *file
	level int
	refs  []ref
	tail  []byte
}

// NewSorter returns an empty Sorter that keeps about memory bytes of pairs, and writes
// the others to files in dir (empty: the system's temporary directory). The caller
// closes.
func NewSorter(dir string, memory int64) *Sorter {
	return &Sorter{dir: dir, memory: int(max(memory, 64<<10))}
}

// entrySize is about what an entry takes beside its bytes.
const entrySize = 24

// Add takes a copy of a pair. After an error the Sorter only repeats it.
func (s *Sorter) Add(key, value []byte) error {
	if s.sorted && s.err == nil {
		s.err = errors.New("spool: pair added after sorting")
	}
	if s.err != nil {
		return s.err
	}
	e := entry{key: len(s.arena), value: len(s.arena) + len(key)}
	s.arena = append(append(s.arena, key...), value...)
	e.end = len(s.arena)
	s.entries = append(s.entries, e)
	if len(s.arena)+entrySize*len(s.entries) < s.memory {
		return nil
	}
	s.err = s.spill()
	return s.err
}

func (s *Sorter) pair(e entry) Pair {
	return Pair{s.arena[e.key:e.value:e.value], s.arena[e.value:e.end:e.end]}
}

func (s *Sorter) sortArena() {
	slices.SortStableFunc(s.entries, func(a, b entry) int {
		return bytes.Compare(s.arena[a.key:a.value], s.arena[b.key:b.value])
	})
}

// spill writes what is in memory as a run, and merges runs that have become many.
func (s *Sorter) spill() error {
	s.sortArena()
	err := s.addRun(0, func(yield func(Pair, error) bool) {
		for _, e := range s.entries {
			if !yield(s.pair(e), nil) {
				return
			}
		}
	})
	s.arena, s.entries = s.arena[:0], s.entries[:0]
	if err != nil {
		return err
	}
	for n := len(s.runs); n >= mergeWidth && s.runs[n-mergeWidth].level == s.runs[n-1].level; n = len(s.runs) {
		old := slices.Clone(s.runs[n-mergeWidth:])
		s.runs = s.runs[:n-mergeWidth]
		err := s.addRun(old[0].level+1, merge(sources(old)))
		for _, r := range old {
			err = errors.Join(err, r.f.close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Sorter) addRun(level int, pairs iter.Seq2[Pair, error]) error {
	f, err := newFile(s.dir)
	if err != nil {
		return err
	}
	r := &run{f: f, level: level}
	s.runs = append(s.runs, r) // closed with the Sorter, whatever happens
	for p, err := range pairs {
		if err != nil {
			return err
		}
		r.tail = appendBytes(appendBytes(r.tail, p.Key), p.Value)
		if len(r.tail) < runChunk {
			continue
		}
		if err := r.flush(); err != nil {
			return err
		}
	}
	return r.flush()
}

func (r *run) flush() error {
	if len(r.tail) == 0 {
		return nil
	}
	ref, err := r.f.write(r.tail)
	if err != nil {
		return err
	}
	r.refs, r.tail = append(r.refs, ref), r.tail[:0]
	return nil
}

// Sorted yields all pairs in order. It may be called again, and nothing may be added
// after. A pair is valid until the next step. An error ends the sequence; without one
// no pair is missing.
func (s *Sorter) Sorted() iter.Seq2[Pair, error] {
	if !s.sorted {
		s.sortArena()
		s.sorted = true
	}
	return func(yield func(Pair, error) bool) {
		if s.err != nil {
			yield(Pair{}, s.err)
			return
		}
		srcs := sources(s.runs)
		srcs = append(srcs, &source{s: s, rest: s.entries})
		merge(srcs)(yield)
	}
}

// Close forgets the pairs and frees their room.
func (s *Sorter) Close() error {
	var err error
	for _, r := range s.runs {
		err = errors.Join(err, r.f.close())
	}
	s.runs, s.arena, s.entries = nil, nil, nil
	s.sorted, s.err = true, errors.New("spool: closed")
	return err
}

// A source is a place in a run, or in the arena.
type source struct {
	at    Pair
	order int // of sources that have the same key, the lower comes first

	run   *run
	next  int // of the run's chunks
	buf   []byte
	chunk []byte

	s    *Sorter
	rest []entry
}

func sources(runs []*run) []*source {
	var out []*source
	for _, r := range runs {
		out = append(out, &source{run: r})
	}
	return out
}

// step goes on to the next pair, and returns false at the end.
func (c *source) step() (bool, error) {
	if c.run == nil {
		if len(c.rest) == 0 {
			return false, nil
		}
		c.at, c.rest = c.s.pair(c.rest[0]), c.rest[1:]
		return true, nil
	}
	if len(c.chunk) == 0 {
		if c.next == len(c.run.refs) {
			return false, nil
		}
		var err error
		if c.buf, err = c.run.f.read(c.run.refs[c.next], c.buf); err != nil {
			return false, err
		}
		c.chunk = c.buf
		c.next++
	}
	var err error
	if c.at.Key, c.chunk, err = cutBytes(c.chunk); err != nil {
		return false, err
	}
	if c.at.Value, c.chunk, err = cutBytes(c.chunk); err != nil {
		return false, fmt.Errorf("%w: key without a value", err)
	}
	return true, nil
}

// merge yields the pairs of sorted sources in order, those of one key from the first
// source first.
func merge(srcs []*source) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		var h sourceHeap
		for i, c := range srcs {
			c.order = i
			more, err := c.step()
			if err != nil {
				yield(Pair{}, err)
				return
			}
			if more {
				h = append(h, c)
			}
		}
		heap.Init(&h)
		for len(h) > 0 {
			c := h[0]
			if !yield(c.at, nil) {
				return
			}
			more, err := c.step()
			if err != nil {
				yield(Pair{}, err)
				return
			}
			if more {
				heap.Fix(&h, 0)
			} else {
				heap.Pop(&h)
			}
		}
	}
}

// sourceHeap is a [heap.Interface].
type sourceHeap []*source

func (h sourceHeap) Len() int      { return len(h) }
func (h sourceHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sourceHeap) Push(x any)   { *h = append(*h, x.(*source)) }

func (h sourceHeap) Less(i, j int) bool {
	if c := bytes.Compare(h[i].at.Key, h[j].at.Key); c != 0 {
		return c < 0
	}
	return h[i].order < h[j].order
}

func (h *sourceHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
