package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A Target is an empty target that is ready to use. After Destroy it is one again.
type Target struct {
	// Losses is what Fidelity returns; nil means nothing is lost.
	Losses func(s dataset.Stream) []dataset.Loss

	// Refuse says which records cannot be stored; nil means all can.
	Refuse func(r dataset.Record) *dataset.Gap

	// ReadBack plants faults on the way back: see [Hooks.Mutate].
	ReadBack func(r dataset.Record) []dataset.Record

	mu     sync.Mutex
	phase  phase
	test   dataset.ID
	all    []dataset.Stream
	loaded map[string]bool
	store  Source
	view   *view
	police police
}

// A phase is how far a target has come.
type phase int

const (
	empty phase = iota
	begun
	finished
	closed
)

func (p phase) String() string {
	return [...]string{"empty", "being filled", "finished", "closed"}[p]
}

var _ exporters.Target = (*Target)(nil)

// Loaded is what the target holds, as a source whose records a test may look at,
// change and remove before Finish.
func (t *Target) Loaded() *Source { return &t.store }

// Err reports every breach of the contract seen so far.
func (t *Target) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view != nil {
		return t.police.verdict() // the view is the target's own, open until Close
	}
	return errors.Join(t.police.verdict(), t.store.Err())
}

// Fidelity implements [exporters.Target].
func (t *Target) Fidelity(s dataset.Stream) []dataset.Loss {
	if t.Losses == nil {
		return nil
	}
	return t.Losses(s)
}

// Begin implements [exporters.Target].
func (t *Target) Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.phase != empty {
		return fmt.Errorf("memory: target is %s: %w", t.phase, exporters.ErrNotEmpty)
	}
	if test == "" {
		return t.police.breach("Begin without an id")
	}
	t.loaded = make(map[string]bool)
	for _, s := range all {
		if _, twice := t.loaded[s.Name]; twice {
			return t.police.breach("stream %q is announced twice", s.Name)
		}
		t.loaded[s.Name] = false
		t.store.Add(s)
	}
	t.phase, t.test, t.all = begun, test, slices.Clone(all)
	slices.SortFunc(t.all, func(a, b dataset.Stream) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// Load implements [exporters.Target]. Records of blob streams must come in key order,
// the versions of a key in either order.
func (t *Target) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	if err := t.loading(s); err != nil {
		return err
	}
	var own []dataset.Record
	seen := make(map[string]bool)
	equal := make(map[string]int) // of a keyless stream, whose ordinals an archive does not keep
	for r, err := range recs {
		if err != nil {
			return fmt.Errorf("memory: load %q: %w", s.Name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Stream != s.Name {
			return t.police.breach("a record of stream %q was loaded into %q", r.Stream, s.Name)
		}
		if s.Blobs && len(own) > 0 && r.Key < own[len(own)-1].Key {
			return t.police.breach("stream %q: key %q comes after %q", s.Name, r.Key, own[len(own)-1].Key)
		}
		if s.Keyless {
			r.Ordinal = equal[r.Key]
			equal[r.Key]++
		}
		id := fmt.Sprint(r.Ordinal, "/", r.Key)
		if seen[id] {
			gap(dataset.Gap{Stream: s.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.DuplicateKey})
			continue
		}
		seen[id] = true
		kept, g := t.keep(ctx, r)
		if g != nil {
			g.Stream, g.Key, g.Ordinal = s.Name, r.Key, r.Ordinal
			gap(*g)
			continue
		}
		own = append(own, kept)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.store.Add(s, own...)
	return nil
}

// loading marks s as loaded, which may happen once.
func (t *Target) loading(s dataset.Stream) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	done, known := t.loaded[s.Name]
	switch {
	case t.phase != begun:
		return t.police.breach("Load of %q into a target that is %s", s.Name, t.phase)
	case !known:
		return t.police.breach("Load of stream %q, which Begin did not announce", s.Name)
	case done:
		return t.police.breach("stream %q is loaded twice", s.Name)
	}
	t.loaded[s.Name] = true
	return nil
}

// keep copies a record and its bytes.
func (t *Target) keep(ctx context.Context, r dataset.Record) (dataset.Record, *dataset.Gap) {
	if r.Gap != nil {
		return r, &dataset.Gap{Code: r.Gap.Code, Detail: r.Gap.Detail}
	}
	if t.Refuse != nil {
		if g := t.Refuse(r); g != nil {
			return r, g
		}
	}
	r.Data = slices.Clone(r.Data)
	r.Cursor = ""
	if r.Blob == nil {
		return r, nil
	}
	b, err := readAll(ctx, r.Blob)
	if err != nil {
		if g := (*dataset.Gap)(nil); errors.As(err, &g) {
			return r, &dataset.Gap{Code: g.Code, Detail: g.Detail}
		}
		return r, &dataset.Gap{Code: dataset.Unreadable, Detail: err.Error()}
	}
	r.Blob = Bytes(b)
	return r, nil
}

func readAll(ctx context.Context, b *dataset.Blob) ([]byte, error) {
	rc, err := b.Open(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	if b.Size >= 0 && int64(len(data)) != b.Size {
		return nil, fmt.Errorf("%d bytes came of %d", len(data), b.Size)
	}
	return data, nil
}

// Finish implements [exporters.Target]. A stream that was announced and never loaded
// is a breach.
func (t *Target) Finish(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != begun {
		return t.police.breach("Finish of a target that is %s", t.phase)
	}
	for _, s := range t.all {
		if !t.loaded[s.Name] {
			return t.police.breach("stream %q was announced and not loaded", s.Name)
		}
	}
	t.store.Mutate = t.ReadBack
	v, err := t.store.open(ctx)
	if err != nil {
		return err
	}
	t.view, t.phase = v, finished
	return nil
}

// Destroy implements [exporters.Target].
func (t *Target) Destroy(ctx context.Context, test dataset.ID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if test == "" || t.test != test {
		return fmt.Errorf("memory: %w", exporters.ErrNotOurs)
	}
	for _, s := range t.all {
		t.store.Drop(s.Name)
	}
	if t.view != nil {
		t.view.Close()
	}
	t.phase, t.test, t.all, t.loaded, t.view = empty, "", nil, nil, nil
	return nil
}

// reading returns the view of what was loaded.
func (t *Target) reading() (*view, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != finished {
		return nil, t.police.breach("read from a target that is %s", t.phase)
	}
	return t.view, nil
}

// Streams implements [exporters.Exporter].
func (t *Target) Streams(ctx context.Context) ([]dataset.Stream, error) {
	v, err := t.reading()
	if err != nil {
		return nil, err
	}
	return v.Streams(ctx)
}

// Read implements [exporters.Exporter].
func (t *Target) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		v, err := t.reading()
		if err != nil {
			yield(dataset.Record{}, err)
			return
		}
		v.Read(ctx, q)(yield)
	}
}

// Facts implements [exporters.Exporter].
func (t *Target) Facts() dataset.Facts { return dataset.Facts{} }

// Close implements [exporters.Exporter]. What was loaded can still be destroyed.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == closed {
		return nil
	}
	t.phase = closed
	if t.view == nil {
		return nil
	}
	v := t.view
	t.view = nil
	return v.Close()
}
