package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
)

// A Job is one export of one service.
type Job struct {
	Archive *archive.Archive
	Options archive.Options

	// Open opens a view of the source; a second call is a second view.
	Open func(ctx context.Context) (exporters.Exporter, error)

	Select   Selection
	Method   Method                     // how the export is proven; empty means [SingleRead]
	Log      func() *archive.Checkpoint // asked for the audit log's head before each commit; may be nil, and so may what it returns
	Parallel int                        // streams and ranges read at once; 0 means 4
	Blobs    int                        // blobs read at once; 0 means 64
	Limit    time.Duration              // how long a run may last before it is continued by another; 0 means 24 hours
	TempDir  string                     // for spools; empty means the system's
	Progress *Progress                  // nil counts nothing
	OnGap    func(dataset.Gap)          // called for each gap as it is found, from any goroutine; may be nil
	OnRun    func()                     // called as each run begins, before its gaps: a continued export has several; may be nil
	OnNote   func(string)               // called for what is good to know and no gap, from any goroutine; may be nil
}

// Export reads the source into one snapshot, and returns its decision. A run that
// lasts longer than the limit is committed as incomplete and continued by a new run
// that reuses it, over the same view; the last decision is returned.
//
// The snapshot may have gaps: look at its manifest. An error means that there is no
// snapshot; what was stored is taken up by the next export with the same state.
func Export(ctx context.Context, j Job) (*archive.Decision, error) {
	j.defaults()
	view, err := j.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open source: %w", err)
	}
	for before := int64(-1); ; {
		d, more, err := j.run(ctx, view)
		if err != nil || !more || d.Manifest.Counts.Records <= before { // no further than the run before
			return d, errors.Join(err, view.Close())
		}
		before = d.Manifest.Counts.Records
	}
}

func (j *Job) defaults() {
	if j.Parallel == 0 {
		j.Parallel = 4
	}
	if j.Blobs == 0 {
		j.Blobs = 64
	}
	if j.Limit == 0 {
		j.Limit = 24 * time.Hour
	}
	if j.Progress == nil {
		j.Progress = new(Progress)
	}
	if j.Options.Now == nil {
		j.Options.Now = time.Now
	}
}

// run writes one run. more says that its time was up.
func (j *Job) run(ctx context.Context, view exporters.Exporter) (d *archive.Decision, more bool, err error) {
	offered, err := view.Streams(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("discover streams: %w", err)
	}
	chosen, missing, scope, err := j.Select.choose(offered)
	if err != nil {
		return nil, false, err
	}
	w, err := archive.Begin(ctx, j.Archive, j.Options)
	if err != nil {
		return nil, false, err
	}
	if j.OnRun != nil {
		j.OnRun()
	}
	if j.OnNote != nil {
		for _, bad := range w.Distrusted() {
			j.OnNote(fmt.Sprintf("not believed, so not built upon: %v", bad))
		}
	}
	e := &engine{Job: j, w: w, view: view, deadline: j.Options.Now().Add(j.Limit), budget: newBudget()}
	err = e.fill(ctx, chosen, missing)
	if e.secondExporter != nil {
		err = errors.Join(err, e.secondExporter.Close())
	}
	if err != nil {
		w.Abandon()
		return nil, false, err
	}
	sum := archive.Summary{Facts: view.Facts(), Scope: scope, Unchecked: e.unchecked.Load()}
	if j.Log != nil {
		sum.Log = j.Log()
	}
	d, err = w.Commit(ctx, sum)
	return d, e.late.Load(), err
}

// fill reads all streams into the run.
func (e *engine) fill(ctx context.Context, chosen []dataset.Stream, missing []dataset.Gap) error {
	for _, g := range missing {
		e.gap(ctx, g)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(e.Parallel)
	for _, streams := range groups(chosen) {
		g.Go(func() error { return e.group(gctx, streams) })
	}
	return g.Wait()
}

// group reads the streams of one group.
func (e *engine) group(ctx context.Context, streams []dataset.Stream) (err error) {
	defer func() {
		if p := recover(); p != nil { // an exporter's bug must not look like an end of data
			err = fmt.Errorf("stream %q: the exporter panicked: %v", streams[0].Name, p)
		}
	}()
	if len(streams) == 1 && !streams[0].Blobs {
		return e.ranges(ctx, streams[0])
	}
	return e.together(ctx, streams)
}

// ranges reads a record stream in parallel, if the exporter can split it.
func (e *engine) ranges(ctx context.Context, s dataset.Stream) error {
	rs, err := exporters.Ranges(ctx, e.view, s, e.Parallel)
	if err != nil {
		return e.failed(ctx, s.Name, err)
	}
	rs = asBefore(e.w.Remembered(s.Name), s, rs)
	sw, err := e.w.Stream(s, len(rs))
	if err != nil {
		return err
	}
	first, err := e.firstReading(s)
	if err != nil {
		return err
	}
	sums := make([]*sink, len(rs))
	g, gctx := errgroup.WithContext(ctx)
	for i, r := range rs {
		sums[i] = &sink{engine: e, stream: s, section: sw.Section(i), first: reading(first)}
		g.Go(func() error {
			return e.read(gctx, exporters.Query{Streams: []dataset.Stream{s}, Range: r}, map[string]*sink{s.Name: sums[i]})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	sw.Remember(cutNow(s, rs, sums))
	if err := e.finish(ctx, sw, sums); err != nil || first == nil {
		return err
	}
	defer first.Close()
	return e.second(ctx, []dataset.Stream{s}, map[string]*reconcile.Reconciler{s.Name: first}, map[string]*archive.StreamWriter{s.Name: sw})
}

// reading begins the first of two readings; nil if there is but one.
func reading(r *reconcile.Reconciler) *reconcile.Reading {
	if r == nil {
		return nil
	}
	return r.Reading(reconcile.Archived)
}

// together reads the streams of a group in one sequence.
func (e *engine) together(ctx context.Context, streams []dataset.Stream) error {
	sinks := map[string]*sink{}
	writers := map[string]*archive.StreamWriter{}
	firsts := map[string]*reconcile.Reconciler{}
	for _, s := range streams {
		sw, err := e.w.Stream(s, 1)
		if err != nil {
			return err
		}
		first, err := e.firstReading(s)
		if err != nil {
			return err
		}
		if first != nil {
			defer first.Close()
			firsts[s.Name] = first
		}
		writers[s.Name] = sw
		sinks[s.Name] = &sink{engine: e, stream: s, section: sw.Section(0), sorted: len(streams) == 1, first: reading(first)}
	}
	q := exporters.Query{Streams: streams}
	if len(streams) == 1 && streams[0].Blobs {
		q.Prior = e.w.Prior(streams[0].Name)
	}
	if err := e.read(ctx, q, sinks); err != nil {
		return err
	}
	for _, s := range streams {
		if err := e.finish(ctx, writers[s.Name], []*sink{sinks[s.Name]}); err != nil {
			return err
		}
	}
	if len(firsts) == 0 {
		return nil
	}
	return e.second(ctx, streams, firsts, writers)
}

// finish ends a stream and says what is known about it.
func (e *engine) finish(ctx context.Context, sw *archive.StreamWriter, sinks []*sink) error {
	s := sinks[0].stream
	for _, k := range sinks {
		if k.schema != nil {
			s.Schema = k.schema
		}
		if k.first != nil {
			k.first.Done()
		}
		if s.Blobs {
			if err := k.section.Flush(ctx); err != nil {
				return err
			}
		}
	}
	sum := archive.StreamSummary{Grade: archive.BestEffort, Proof: "read once", Source: -1}
	if c, ok := e.view.(exporters.Counter); ok {
		n, err := c.Count(ctx, s)
		if err != nil {
			return fmt.Errorf("count %q: %w", s.Name, err)
		}
		sum.Source = n
		var got int64
		for _, k := range sinks {
			got += k.records
		}
		switch {
		case n == got:
			sum.Grade, sum.Proof = archive.CountChecked, "read once; an independent count by the source agrees"
		case n > got:
			sum.Proof = fmt.Sprintf("read once; the source counts %d records, %d came", n, got)
		}
	}
	sw.Summarise(s, sum)
	if why := sw.NoCSV(); why != nil && !s.Blobs && e.OnNote != nil {
		e.OnNote(fmt.Sprintf("stream %q is not carried as CSV: %v", dataset.Escape(s.Name), why))
	}
	return nil
}
