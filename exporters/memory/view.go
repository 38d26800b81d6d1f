package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A view is a source as it was when the view was opened.
type view struct {
	src     *Source
	hooks   Hooks
	facts   dataset.Facts
	reuse   bool
	streams []*stream // sorted by name

	mu      sync.Mutex
	closed  bool
	readers int
}

// The optional interfaces that a view has.
var (
	_ exporters.Splitter    = (*view)(nil)
	_ exporters.Counter     = (*view)(nil)
	_ exporters.Snapshotter = (*view)(nil)
	_ exporters.Getter      = (*view)(nil)
	_ exporters.Deleter     = (*view)(nil)
)

func (v *view) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := v.alive(ctx); err != nil {
		return nil, err
	}
	all := make([]dataset.Stream, len(v.streams))
	for i, st := range v.streams {
		all[i] = st.def
	}
	return all, nil
}

func (v *view) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		if err := v.alive(ctx); err != nil {
			yield(dataset.Record{}, err)
			return
		}
		v.reading(1)
		defer v.reading(-1)
		if err := v.read(ctx, q, yield); err != nil && err != errStopped {
			yield(dataset.Record{}, err)
		}
	}
}

// errStopped says that whoever ranges over a sequence broke off.
var errStopped = fmt.Errorf("stopped")

func (v *view) read(ctx context.Context, q exporters.Query, yield func(dataset.Record, error) bool) error {
	streams, err := v.asked(q)
	if err != nil {
		return err
	}
	fromStream, fromRecord, err := parseCursor(q.After)
	if err != nil {
		return err
	}
	prior := newPrior(q.Prior)
	defer prior.stop()
	for si, st := range streams {
		if si < fromStream {
			continue
		}
		lo, hi, err := bounds(st, q.Range)
		if err != nil {
			return err
		}
		if si == fromStream {
			lo = max(lo, fromRecord)
		}
		for i := lo; i < hi; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if v.hooks.Fail != nil {
				if err := v.hooks.Fail(st.def.Name, i); err != nil {
					return err
				}
			}
			r := st.at(i)
			if r.Blob != nil {
				r.Blob = v.guard(r.Blob)
			}
			if v.reuse {
				if b, err := prior.unchanged(r); err != nil {
					return err
				} else if b != nil {
					r.Blob = b
				}
			}
			if !v.yield(r, dataset.Cursor(fmt.Sprintf("%d/%d", si, i+1)), yield) {
				return errStopped
			}
		}
	}
	return nil
}

// yield hands out what the hook makes of r, in buffers that do not outlive the step.
func (v *view) yield(r dataset.Record, c dataset.Cursor, yield func(dataset.Record, error) bool) bool {
	r.Data = slices.Clone(r.Data)
	recs := []dataset.Record{r}
	if v.hooks.Mutate != nil {
		recs = v.hooks.Mutate(r)
	}
	for i, r := range recs {
		if i == len(recs)-1 {
			r.Cursor = c
		}
		r.Data = slices.Clone(r.Data) // Mutate may have returned one buffer twice
		ok := yield(r, nil)
		for j := range r.Data {
			r.Data[j] = '!' // spoilt, as the contract says: Data is valid until the next step
		}
		if !ok {
			return false
		}
	}
	return true
}

// asked returns the streams of q as the view has them.
func (v *view) asked(q exporters.Query) ([]*stream, error) {
	if len(q.Streams) == 0 {
		return nil, v.src.police.breach("a query without streams")
	}
	var streams []*stream
	for _, s := range q.Streams {
		st := v.find(s.Name)
		if st == nil {
			return nil, fmt.Errorf("memory: no stream %q: %w", s.Name, fs.ErrNotExist)
		}
		if len(q.Streams) > 1 && (st.def.Group == "" || st.def.Group != v.find(q.Streams[0].Name).def.Group) {
			return nil, v.src.police.breach("streams %q and %q are not of one group", q.Streams[0].Name, s.Name)
		}
		streams = append(streams, st)
	}
	if len(streams) > 1 && q.Range != (dataset.Range{}) {
		return nil, v.src.police.breach("a range of several streams")
	}
	return streams, nil
}

func (v *view) find(name string) *stream {
	i, ok := slices.BinarySearchFunc(v.streams, name, func(st *stream, name string) int {
		return strings.Compare(st.def.Name, name)
	})
	if !ok {
		return nil
	}
	return v.streams[i]
}

// Split cuts s into ranges of equal length. Their ends are positions.
func (v *view) Split(ctx context.Context, s dataset.Stream, n int) ([]dataset.Range, error) {
	if err := v.alive(ctx); err != nil {
		return nil, err
	}
	st := v.find(s.Name)
	if st == nil {
		return nil, fmt.Errorf("memory: no stream %q: %w", s.Name, fs.ErrNotExist)
	}
	n = max(1, min(n, st.n))
	ranges := make([]dataset.Range, n)
	for i := 1; i < n; i++ {
		cut := strconv.Itoa(i * st.n / n)
		ranges[i-1].UpTo, ranges[i].After = cut, cut
	}
	return ranges, nil
}

func bounds(st *stream, r dataset.Range) (lo, hi int, err error) {
	hi = st.n
	if r.After != "" {
		if lo, err = strconv.Atoi(r.After); err != nil {
			return 0, 0, fmt.Errorf("memory: range of another source: %w", err)
		}
	}
	if r.UpTo != "" {
		if hi, err = strconv.Atoi(r.UpTo); err != nil {
			return 0, 0, fmt.Errorf("memory: range of another source: %w", err)
		}
	}
	return max(lo, 0), min(hi, st.n), nil
}

func parseCursor(c dataset.Cursor) (streamIndex, record int, err error) {
	if c == "" {
		return 0, 0, nil
	}
	if n, err := fmt.Sscanf(string(c), "%d/%d", &streamIndex, &record); n != 2 {
		return 0, 0, fmt.Errorf("memory: cursor %q: %w", c, err)
	}
	return streamIndex, record, nil
}

// Count returns how many records s has.
func (v *view) Count(ctx context.Context, s dataset.Stream) (int64, error) {
	if err := v.alive(ctx); err != nil {
		return 0, err
	}
	if st := v.find(s.Name); st != nil {
		return int64(st.n), nil
	}
	return 0, fmt.Errorf("memory: no stream %q: %w", s.Name, fs.ErrNotExist)
}

// Still reports whether the view holds s still.
func (v *view) Still(s dataset.Stream) bool { return !v.src.Restless && v.find(s.Name) != nil }

// Get reads one record of the view.
func (v *view) Get(ctx context.Context, s dataset.Stream, key string, ordinal int) (dataset.Record, error) {
	if err := v.alive(ctx); err != nil {
		return dataset.Record{}, err
	}
	if st := v.find(s.Name); st != nil {
		if i := st.index(key, ordinal); i >= 0 {
			r := st.at(i)
			r.Data = slices.Clone(r.Data)
			if r.Blob != nil {
				r.Blob = v.guard(r.Blob)
			}
			return r, nil
		}
	}
	return dataset.Record{}, fmt.Errorf("memory: record %q/%d of stream %q: %w", key, ordinal, s.Name, fs.ErrNotExist)
}

// Delete deletes at the source, not in the view.
func (v *view) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	if err := v.mayDelete(ctx, s, r); err != nil {
		return err
	}
	return v.src.Remove(s.Name, r.Key, r.Ordinal)
}

// mayDelete fails as Delete does.
func (v *view) mayDelete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	if err := v.alive(ctx); err != nil {
		return err
	}
	v.src.mu.Lock()
	defer v.src.mu.Unlock()
	st := v.src.lookup(s.Name)
	i := st.index(r.Key, r.Ordinal)
	switch {
	case i < 0:
		return fmt.Errorf("memory: record %q/%d of stream %q: %w", r.Key, r.Ordinal, s.Name, fs.ErrNotExist)
	case !bytes.Equal(st.at(i).Data, r.Data):
		return fmt.Errorf("memory: record %q/%d of stream %q: %w", r.Key, r.Ordinal, s.Name, exporters.ErrChanged)
	}
	return nil
}

// Rehearse implements [exporters.Rehearser].
func (v *view) Rehearse(context.Context) (exporters.Rehearsal, error) {
	return &rehearsal{v: v, gone: map[string]bool{}}, nil
}

// A rehearsal remembers what it answered for.
type rehearsal struct {
	v    *view
	mu   sync.Mutex
	gone map[string]bool
}

func (h *rehearsal) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := fmt.Sprintf("%q %q %d", s.Name, r.Key, r.Ordinal)
	if h.gone[id] {
		return fmt.Errorf("memory: record %q/%d of stream %q: %w", r.Key, r.Ordinal, s.Name, fs.ErrNotExist)
	}
	err := h.v.mayDelete(ctx, s, r)
	h.gone[id] = err == nil
	return err
}

func (h *rehearsal) Close() error { return nil }

func (v *view) Facts() dataset.Facts { return v.facts }

func (v *view) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	v.src.police.closed()
	if v.readers > 0 {
		return v.src.police.breach("a view was closed while %d sequences were read", v.readers)
	}
	return nil
}

// alive fails once the view is closed or ctx is done.
func (v *view) alive(ctx context.Context) error {
	v.mu.Lock()
	closed := v.closed
	v.mu.Unlock()
	if closed {
		return v.src.police.breach("a view was used after Close")
	}
	return ctx.Err()
}

func (v *view) reading(d int) {
	v.mu.Lock()
	v.readers += d
	v.mu.Unlock()
}

// guard returns b with an Open that minds the contract: within the view's life,
// within the blob's bounds, and closed once.
func (v *view) guard(b *dataset.Blob) *dataset.Blob {
	g := *b
	g.Open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if err := v.alive(ctx); err != nil {
			return nil, err
		}
		if off < 0 || b.Size >= 0 && off > b.Size {
			return nil, v.src.police.breach("a blob of %d bytes was opened at %d", b.Size, off)
		}
		r, err := b.Open(ctx, off, n)
		if err != nil {
			return nil, err
		}
		v.src.police.blobOpened()
		return &guarded{ReadCloser: r, ctx: ctx, police: &v.src.police}, nil
	}
	return &g
}

type guarded struct {
	io.ReadCloser
	ctx    context.Context
	police *police
	once   sync.Once
}

func (g *guarded) Read(p []byte) (int, error) {
	if err := g.ctx.Err(); err != nil {
		return 0, err
	}
	return g.ReadCloser.Read(p)
}

func (g *guarded) Close() error {
	g.once.Do(g.police.blobClosed)
	return g.ReadCloser.Close()
}
