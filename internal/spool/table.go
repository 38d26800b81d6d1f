package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// An ID names an entry of a [Table]. It has to be as good as random: a hash.
type ID [16]byte

// A Table maps IDs to numbers, exactly, in bounded memory: what it has no room for lies
// in sorted runs on disk, which are merged as they become many. A filter in memory says
// of almost every ID that was never put that no run has to be asked. It is of fixed size:
// one of 8 MiB is wrong about one ID of 25 at ten million entries, and about most at a
// hundred million, which costs a few reads each and no memory. Beside its memory a Table
// takes a fortieth of a byte an entry.
//
// A Table is not safe for concurrent use.
type Table struct {
	dir   string
	slots []slot
	used  int
	most  int // slots at most, a power of two

	filter []uint64
	runs   []*tableRun // the oldest first; levels never rise
	buf    []byte
	err    error // of the first failed write or read
}

// A slot is free if it is not used.
type slot struct {
	id    ID
	value uint64
	used  bool
}

// A tableRun is a sorted stretch of entries in a file of its own. Its chunks are of one
// size but for the last, so the number of a chunk says where it lies.
type tableRun struct {
	f     *file
	level int
	first []ID // of each chunk
	count int64
}

const (
	slotSize     = 32
	entryWidth   = 24             // bytes of an entry in a run
	chunkEntries = 16 << 10 / 24  // entries of a chunk
	tableWidth   = 8              // runs of one level that are merged into one of the next
	filterHashes = 4              // bits of the filter that an ID sets
	firstSlots   = 8              // of a Table that holds almost nothing
	leastMemory  = 128 * slotSize // of a Table
)

// NewTable returns an empty Table that keeps about memory bytes, and writes the rest to
// files in dir (empty: the system's temporary directory). It makes no file, and takes
// next to no memory, before it needs to. The caller closes.
func NewTable(dir string, memory int64) *Table {
	t := &Table{dir: dir, most: firstSlots}
	for int64(t.most)*2*slotSize <= max(memory, leastMemory)/2 {
		t.most *= 2
	}
	return t
}

// Get returns the number that was last put under id.
func (t *Table) Get(id ID) (value uint64, ok bool, err error) {
	if t.err != nil {
		return 0, false, t.err
	}
	if len(t.slots) > 0 {
		if s := t.find(id); s.used {
			return s.value, true, nil
		}
	}
	if !t.maybeSpilled(id) {
		return 0, false, nil
	}
	for _, r := range slices.Backward(t.runs) {
		value, ok, err := t.search(r, id)
		if err != nil {
			t.err = err
		}
		if ok || err != nil {
			return value, ok, err
		}
	}
	return 0, false, nil
}

// Put sets the number of id. After an error the Table only repeats it.
func (t *Table) Put(id ID, value uint64) error {
	if t.err != nil {
		return t.err
	}
	if (t.used+1)*4 > len(t.slots)*3 {
		if len(t.slots) < t.most {
			t.grow()
		} else if t.err = t.spill(); t.err != nil {
			return t.err
		}
	}
	s := t.find(id)
	if !s.used {
		t.used++
	}
	*s = slot{id, value, true}
	return nil
}

// Close forgets the entries and frees their room.
func (t *Table) Close() error {
	var err error
	for _, r := range t.runs {
		err = errors.Join(err, r.f.close())
	}
	*t = Table{err: errors.New("spool: closed")}
	return err
}

// find returns the slot of id, or the free one where it belongs.
func (t *Table) find(id ID) *slot {
	mask := uint64(len(t.slots) - 1)
	for i := binary.LittleEndian.Uint64(id[:]) & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; !s.used || s.id == id {
			return s
		}
	}
}

func (t *Table) grow() {
	old := t.slots
	t.slots = make([]slot, max(firstSlots, 2*len(old)))
	for _, s := range old {
		if s.used {
			*t.find(s.id) = s
		}
	}
}

// bits yields the bits of the filter that belong to id.
func (t *Table) bits(id ID, do func(word int, bit uint64) bool) {
	a, b := binary.LittleEndian.Uint64(id[:]), binary.LittleEndian.Uint64(id[8:])|1
	n := uint64(len(t.filter)) * 64
	for range filterHashes {
		if i := a % n; !do(int(i/64), 1<<(i%64)) {
			return
		}
		a += b
	}
}

// maybeSpilled reports whether a run may have id.
func (t *Table) maybeSpilled(id ID) bool {
	if len(t.runs) == 0 {
		return false
	}
	found := true
	t.bits(id, func(word int, bit uint64) bool {
		found = t.filter[word]&bit != 0
		return found
	})
	return found
}

// spill writes what is in memory as a run, and merges runs that have become many.
func (t *Table) spill() error {
	if t.filter == nil {
		t.filter = make([]uint64, t.most*slotSize/8)
	}
	entries := t.slots[:0]
	for _, s := range t.slots {
		if s.used {
			entries = append(entries, s)
			t.bits(s.id, func(word int, bit uint64) bool { t.filter[word] |= bit; return true })
		}
	}
	slices.SortFunc(entries, func(a, b slot) int { return bytes.Compare(a.id[:], b.id[:]) })
	w, err := newRunWriter(t.dir, 0)
	if err != nil {
		return err
	}
	t.runs = append(t.runs, w.run) // closed with the Table, whatever happens
	for _, s := range entries {
		if err := w.add(s.id, s.value); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	clear(t.slots)
	t.used = 0
	for n := len(t.runs); n >= tableWidth && t.runs[n-tableWidth].level == t.runs[n-1].level; n = len(t.runs) {
		if err := t.merge(slices.Clone(t.runs[n-tableWidth:])); err != nil {
			return err
		}
	}
	return nil
}

// merge puts one run in the place of the last few. Of an ID that several have, the
// newest counts.
func (t *Table) merge(old []*tableRun) error {
	w, err := newRunWriter(t.dir, old[0].level+1)
	if err != nil {
		return err
	}
	at := make([]runReader, len(old))
	for i, r := range old {
		at[i].run = r
		if err := at[i].step(); err != nil {
			return errors.Join(err, w.run.f.close())
		}
	}
	for {
		least := -1
		for i := range at {
			if !at[i].done && (least < 0 || bytes.Compare(at[i].id[:], at[least].id[:]) <= 0) {
				least = i // the newest of equal ones
			}
		}
		if least < 0 {
			break
		}
		id := at[least].id
		if err := w.add(id, at[least].value); err != nil {
			return errors.Join(err, w.run.f.close())
		}
		for i := range at {
			for !at[i].done && at[i].id == id {
				if err := at[i].step(); err != nil {
					return errors.Join(err, w.run.f.close())
				}
			}
		}
	}
	if err := w.flush(); err != nil {
		return errors.Join(err, w.run.f.close())
	}
	t.runs = append(t.runs[:len(t.runs)-len(old)], w.run)
	for _, r := range old {
		err = errors.Join(err, r.f.close())
	}
	return err
}

// search looks for id in one run.
func (t *Table) search(r *tableRun, id ID) (uint64, bool, error) {
	n, exact := slices.BinarySearchFunc(r.first, id, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	if !exact {
		n--
	}
	if n < 0 {
		return 0, false, nil
	}
	chunk, err := r.chunk(n, t.buf)
	if err != nil {
		return 0, false, err
	}
	t.buf = chunk
	lo, hi := 0, len(chunk)/entryWidth
	for lo < hi {
		mid := (lo + hi) / 2
		e := chunk[mid*entryWidth:]
		switch c := bytes.Compare(e[:len(id)], id[:]); {
		case c == 0:
			return binary.LittleEndian.Uint64(e[len(id):]), true, nil
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, false, nil
}

// chunk reads the nth chunk, into buf if that is large enough.
func (r *tableRun) chunk(n int, buf []byte) ([]byte, error) {
	sealed := chunkEntries*entryWidth + r.f.aead.Overhead()
	entries := min(chunkEntries, r.count-int64(n)*chunkEntries)
	return r.f.read(ref{uint64(n), int64(n) * int64(sealed), int(entries)*entryWidth + r.f.aead.Overhead()}, buf)
}

// A runWriter writes the entries of a run in their order.
type runWriter struct {
	run  *tableRun
	tail []byte
}

func newRunWriter(dir string, level int) (*runWriter, error) {
	f, err := newFile(dir)
	if err != nil {
		return nil, err
	}
	return &runWriter{run: &tableRun{f: f, level: level}}, nil
}

func (w *runWriter) add(id ID, value uint64) error {
	if len(w.tail) == 0 {
		w.run.first = append(w.run.first, id)
	}
	w.tail = binary.LittleEndian.AppendUint64(append(w.tail, id[:]...), value)
	w.run.count++
	if len(w.tail) < chunkEntries*entryWidth {
		return nil
	}
	return w.flush()
}

func (w *runWriter) flush() error {
	if len(w.tail) == 0 {
		return nil
	}
	_, err := w.run.f.write(w.tail)
	w.tail = w.tail[:0]
	return err
}

// A runReader goes through a run.
type runReader struct {
	run   *tableRun
	next  int // of the run's chunks
	buf   []byte
	rest  []byte
	id    ID
	value uint64
	done  bool
}

func (r *runReader) step() error {
	if len(r.rest) == 0 {
		if r.next == len(r.run.first) {
			r.done = true
			return nil
		}
		var err error
		if r.buf, err = r.run.chunk(r.next, r.buf); err != nil {
			return err
		}
		r.next, r.rest = r.next+1, r.buf
	}
	copy(r.id[:], r.rest)
	r.value = binary.LittleEndian.Uint64(r.rest[len(r.id):])
	r.rest = r.rest[entryWidth:]
	return nil
}
