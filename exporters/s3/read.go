package s3

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// Read implements [exporters.Exporter]. Up to the configured number of objects are in
// flight; they come in the order of the listing. The versions of one key are held until
// their number, and so their ordinals, are known: about 300 bytes each.
func (v *View) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		if v.closed.Load() {
			yield(dataset.Record{}, errClosed)
			return
		}
		for _, s := range q.Streams {
			seq := v.readObjects
			switch s.Name {
			case objectStream:
			case configStream:
				seq = v.readConfiguration
			default:
				yield(dataset.Record{}, fmt.Errorf("s3: no stream %q", s.Name))
				return
			}
			for r, err := range seq(ctx, q) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// A task is one listed entry on its way.
type task struct {
	entry   s3conn.Entry
	ordinal int
	last    bool // of its key: the cursor may stand here
	done    chan struct{}
	out     captured // once done is closed
}

// readObjects yields the objects that q asks for.
func (v *View) readObjects(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		queue := make(chan *task, v.s.Concurrency)
		var wg sync.WaitGroup
		var failure error
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer close(queue)
			failure = v.produce(ctx, q, queue, &wg)
		}()
		defer func() {
			cancel()
			for range queue {
			}
			wg.Wait()
		}()
		for t := range queue {
			<-t.done
			if !v.deliver(t, yield) {
				return
			}
		}
		if failure == nil {
			failure = context.Cause(ctx)
		}
		if failure != nil {
			yield(dataset.Record{}, failure)
		}
	}
}

// deliver yields what became of a task and reports whether to go on.
func (v *View) deliver(t *task, yield func(dataset.Record, error) bool) bool {
	if t.out.err != nil {
		yield(dataset.Record{}, t.out.err)
		return false
	}
	r := dataset.Record{Stream: objectStream, Key: t.entry.Key, Ordinal: t.ordinal, Data: t.out.data, Compact: true, Blob: t.out.blob, Gap: t.out.gap}
	last := t.last && utf8.ValidString(t.entry.Key) // a cursor is kept as text
	if t.out.vanished {
		return true
	}
	if last && len(t.out.more) == 0 {
		r.Cursor = dataset.Cursor(t.entry.Key)
	}
	if !yield(r, nil) {
		return false
	}
	for i := range t.out.more {
		g := &t.out.more[i]
		m := dataset.Record{Stream: objectStream, Key: g.Key, Ordinal: g.Ordinal, Gap: g}
		if last && i == len(t.out.more)-1 {
			m.Cursor = dataset.Cursor(t.entry.Key)
		}
		if !yield(m, nil) {
			return false
		}
	}
	return true
}

// produce lists, groups versions by key, and starts a task for each entry.
func (v *View) produce(ctx context.Context, q exporters.Query, queue chan<- *task, wg *sync.WaitGroup) error {
	prior := exporters.NewPrior(q.Prior)
	defer prior.Stop()
	v.clock(&v.from)
	defer v.clock(&v.to)
	after := max(q.Range.After, string(q.After))
	var group []s3conn.Entry // versions of one key, newest first
	flush := func() error {
		if len(group) == 0 {
			return nil
		}
		known, err := prior.Of(group[0].Key)
		if err != nil {
			return fmt.Errorf("prior records: %w", err)
		}
		for i, e := range group {
			t := &task{entry: e, ordinal: len(group) - 1 - i, last: i == len(group)-1, done: make(chan struct{})}
			v.start(ctx, t, known, wg)
			select {
			case queue <- t:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		group = group[:0]
		return nil
	}
	for _, prefix := range v.s.prefixes() {
		for e, err := range v.conn.List(ctx, s3conn.Listing{Prefix: prefix, After: after, UpTo: q.Range.UpTo, Versions: v.withVersions()}) {
			if err != nil {
				return sourceError(err)
			}
			if len(group) > 0 && group[0].Key != e.Key {
				if err := flush(); err != nil {
					return err
				}
			}
			if e.Key == v.hidden && v.hidden != "" || v.s.excluded(e.Key) {
				continue
			}
			group = append(group, e)
		}
	}
	return flush()
}

// clock sets the time of the first listing, or moves that of the last.
func (v *View) clock(t *time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t == &v.to || t.IsZero() {
		*t = time.Now()
	}
}

// start begins a task. What is known from before and needs no request is done at once.
func (v *View) start(ctx context.Context, t *task, known []dataset.Record, wg *sync.WaitGroup) {
	was := v.unchanged(t.entry, known)
	if was != nil && v.s.WithBytes {
		t.out = captured{data: asOf(was.Data, t.entry), blob: was.Blob}
		close(t.done)
		return
	}
	var blob *dataset.Blob
	if was != nil {
		blob = was.Blob
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(t.done)
		if blob != nil {
			c, err := v.refresh(ctx, t.entry, t.ordinal)
			if err == nil {
				c.blob = blob
				t.out = c
				return
			}
		}
		t.out = v.capture(ctx, t.entry, t.ordinal)
	}()
}

// unchanged returns the prior record of the very state of an object that is listed now.
func (v *View) unchanged(e s3conn.Entry, known []dataset.Record) *dataset.Record {
	if len(known) == 0 || e.Marker || e.ETag == "" {
		return nil
	}
	id := identity(make([]byte, 0, 160), e)
	for i := range known {
		if known[i].Blob != nil && bytes.HasPrefix(known[i].Data, id) && bytes.Contains(known[i].Data, notListed) {
			return &known[i]
		}
	}
	return nil
}

// asOf returns the prior line of an unchanged object with what is listed now. It says
// since when the rest was not read again; where nothing changed it is the prior line, so
// that parts of the index stay what they are.
func asOf(was []byte, e s3conn.Entry) []byte {
	rest := was[bytes.Index(was, notListed) : len(was)-1]
	dst := append(listed(identity(make([]byte, 0, len(was)+64), e), e), rest...)
	if !bytes.Contains(rest, []byte(`,"metadata_as_of":"`)) { // it was written when all metadata was read each time
		dst = dataset.AppendText(append(dst, ','), "metadata_as_of", "unknown")
	}
	return append(dst, '}')
}
