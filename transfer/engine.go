package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
)

// An engine writes one run.
type engine struct {
	*Job
	w        *archive.Writer
	view     exporters.Exporter
	deadline time.Time
	budget   *budget
	seconds
	late      atomic.Bool // the run's time was up
	unchecked atomic.Int64
}

// A sink takes the records of one stream, or of one range of it.
type sink struct {
	*engine
	stream  dataset.Stream
	section *archive.Section
	sorted  bool // records come in the order of the stream
	records int64
	schema  *dataset.Schema
	line    []byte

	first *reconcile.Reading // what is read is compared with a second reading; nil if there is none

	queue    chan *fetch       // blobs on their way, in order; nil in record streams
	unsorted *archive.Unsorted // entries of a blob stream that is not sorted, written at its end
}

// gap records what is missing.
func (e *engine) gap(ctx context.Context, g dataset.Gap) {
	e.w.Gap(ctx, g)
	e.Progress.Gaps.Add(1)
	if e.OnGap != nil {
		e.OnGap(g)
	}
}

// failed turns the end of a stream into a gap, unless it is the end of the run.
func (e *engine) failed(ctx context.Context, stream string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exporters.ErrCredentials) {
		return err // nothing else of this source will do better
	}
	g := dataset.Gap{Stream: stream, Code: dataset.StreamFailed, Detail: err.Error()}
	var own *dataset.Gap
	if errors.As(err, &own) {
		g.Code = own.Code
	}
	e.gap(ctx, g)
	return nil
}

// continuable reports whether another run could go on with a query: that is what the
// journal remembers of a blob stream. Records are read to their end however long it
// takes, for another run would have to begin anew.
func (e *engine) continuable(q exporters.Query) bool {
	return len(q.Streams) == 1 && q.Streams[0].Blobs && e.Options.State != ""
}

// known reports whether an earlier run has what a record says, so that taking it costs
// no time and the next run gets further than this one.
func known(r *dataset.Record) bool {
	_, ok := archivedBlob(r.Blob)
	return ok || r.Blob == nil
}

// errLate ends the reading of a blob stream.
var errLate = errors.New("the run's time is up")

// read reads one query into its sinks.
func (e *engine) read(ctx context.Context, q exporters.Query, sinks map[string]*sink) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, k := range sinks {
		if k.stream.Blobs {
			k.queue = make(chan *fetch, e.Blobs)
			g.Go(func() error { return k.drain(gctx) })
		}
	}
	fetchers, fctx := errgroup.WithContext(gctx)
	fetchers.SetLimit(e.Blobs)
	g.Go(func() error {
		err := e.records(fctx, q, sinks, fetchers)
		for _, k := range sinks {
			if k.queue != nil {
				close(k.queue)
			}
		}
		return errors.Join(err, fetchers.Wait())
	})
	return g.Wait()
}

// records hands each record of a query to its sink.
func (e *engine) records(ctx context.Context, q exporters.Query, sinks map[string]*sink, fetchers *errgroup.Group) error {
	for r, err := range e.view.Read(ctx, q) {
		if err == nil && e.continuable(q) && !known(&r) && e.Options.Now().After(e.deadline) {
			e.late.Store(true)
			err = errLate
		}
		if err != nil {
			return e.ended(ctx, q, err)
		}
		k := sinks[r.Stream]
		if k == nil {
			return fmt.Errorf("the exporter yielded a record of stream %q, which was not asked for", r.Stream)
		}
		if err := k.take(ctx, r, fetchers); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// ended records why a query ended early, for each of its streams.
func (e *engine) ended(ctx context.Context, q exporters.Query, err error) error {
	for _, s := range q.Streams {
		if errors.Is(err, errLate) {
			e.gap(ctx, dataset.Gap{Stream: s.Name, Code: dataset.ToBeContinued, Detail: err.Error()})
			continue
		}
		if err := e.failed(ctx, s.Name, err); err != nil {
			return err
		}
	}
	return nil
}

// take takes one record.
func (k *sink) take(ctx context.Context, r dataset.Record, fetchers *errgroup.Group) error {
	k.Progress.Records.Add(1)
	k.records++
	if r.Schema != nil {
		k.schema = r.Schema
		k.section.Schema(r.Schema)
	}
	if r.Gap != nil {
		if k.first != nil {
			if err := k.first.Add(ctx, &r); err != nil {
				return err
			}
		}
		g := *r.Gap
		if g.Stream = k.stream.Name; g.Key == "" {
			g.Key, g.Ordinal = r.Key, r.Ordinal
		}
		k.gap(ctx, g)
		return nil
	}
	if k.stream.Blobs {
		return k.entry(ctx, r, fetchers)
	}
	line := []byte(r.Data)
	if !r.Compact {
		var err error
		if line, err = dataset.Compact(k.line[:0], r.Data); err != nil {
			k.gap(ctx, dataset.Gap{Stream: k.stream.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Malformed, Detail: err.Error()})
			return nil
		}
		k.line = line
	}
	if len(line) > archive.MaxRecord {
		k.gap(ctx, dataset.Gap{Stream: k.stream.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.TooLarge, Detail: fmt.Sprintf("record of %d bytes", len(line))})
		return nil
	}
	k.Progress.Bytes.Add(int64(len(line)))
	if k.first != nil {
		if err := k.first.Add(ctx, &dataset.Record{Key: r.Key, Ordinal: r.Ordinal, Data: line}); err != nil {
			return err
		}
	}
	if archive.Enveloped(&k.stream) {
		return k.section.Entry(ctx, archive.Entry{Key: r.Key, Ordinal: r.Ordinal, Data: bytes.Clone(line)})
	}
	return k.section.Record(ctx, r.Key, line)
}

// entry starts to read the blob of a record, unless an earlier run has it.
func (k *sink) entry(ctx context.Context, r dataset.Record, fetchers *errgroup.Group) error {
	var data []byte
	if r.Compact {
		data = bytes.Clone(r.Data)
	} else {
		var err error
		if data, err = dataset.Compact(nil, r.Data); err != nil {
			k.gap(ctx, dataset.Gap{Stream: k.stream.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Malformed, Detail: err.Error()})
			return nil
		}
	}
	f := &fetch{entry: archive.Entry{Key: r.Key, Ordinal: r.Ordinal, Data: data}, done: make(chan struct{})}
	switch stored, ok := archivedBlob(r.Blob); {
	case r.Blob == nil:
		close(f.done)
	case ok:
		f.entry.HasBlob, f.entry.Size, f.entry.SHA256, f.entry.Archived = true, r.Blob.Size, r.Blob.SHA256, stored
		k.Progress.Blobs.Add(1)
		k.Progress.Reused.Add(r.Blob.Size)
		if _, was := dataset.Lookup(data, "metadata_as_of"); was {
			k.unchecked.Add(1) // that was when the blob was read, and not now
		}
		close(f.done)
	default:
		fetchers.Go(func() error {
			defer close(f.done)
			return k.fetch(ctx, f, r.Blob)
		})
	}
	select {
	case k.queue <- f:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func archivedBlob(b *dataset.Blob) (*archive.Stored, bool) {
	if b == nil {
		return nil, false
	}
	s, ok := b.Archived.(*archive.Stored)
	return s, ok
}
