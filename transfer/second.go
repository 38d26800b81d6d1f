package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
)

// A Method says how an export proves that it read everything.
type Method string

// The methods.
const (
	SingleRead Method = "single-read" // read once; a source's own count is evidence
	DoubleRead Method = "double-read" // read again in a second view, and compare
	Exact      Method = "exact"       // read again in the same view and compare; as DoubleRead where the view does not hold still
)

// second reads the source of a group a second time and settles what differs. A stream
// that agrees, or whose differences are all explained, has the grade of the method.
func (e *engine) second(ctx context.Context, streams []dataset.Stream, firsts map[string]*reconcile.Reconciler, writers map[string]*archive.StreamWriter) error {
	view, grade := e.view, archive.Exact
	if e.Method == DoubleRead || !e.still(streams) {
		var err error
		grade = archive.DoubleRead
		if view, err = e.secondView(ctx); err != nil {
			return e.unproven(streams, writers, fmt.Sprintf("read once; a second view could not be opened: %v", err))
		}
	}
	q := exporters.Query{Streams: streams}
	if len(streams) == 1 && streams[0].Blobs {
		q.Prior = e.w.Written(streams[0].Name)
	}
	readings := map[string]*reconcile.Reading{}
	for name, r := range firsts {
		readings[name] = r.Reading(reconcile.SourceNow)
	}
	for rec, err := range view.Read(ctx, q) {
		if err == nil && readings[rec.Stream] == nil {
			err = fmt.Errorf("the exporter yielded a record of stream %q, which was not asked for", rec.Stream)
		}
		if err == nil {
			err = readings[rec.Stream].Add(ctx, &rec)
		}
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return e.unproven(streams, writers, fmt.Sprintf("read once; the second reading failed: %v", err))
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	for _, s := range streams {
		readings[s.Name].Done()
		if err := e.settle(ctx, view, grade, s, firsts[s.Name], writers[s.Name]); err != nil {
			return err
		}
	}
	return nil
}

// still reports whether the view holds all of the streams still: else that two readings of
// it agree says no more than two views that do.
func (e *engine) still(streams []dataset.Stream) bool {
	return !slices.ContainsFunc(streams, func(s dataset.Stream) bool { return !exporters.Still(e.view, s) })
}

// unproven leaves the streams with the grade of one reading, and says why.
func (e *engine) unproven(streams []dataset.Stream, writers map[string]*archive.StreamWriter, why string) error {
	for _, s := range streams {
		writers[s.Name].Grade(archive.BestEffort, why)
	}
	return nil
}

// secondView opens the second view once for all streams.
func (e *engine) secondView(ctx context.Context) (exporters.Exporter, error) {
	e.secondOnce.Do(func() { e.secondExporter, e.secondErr = e.Open(ctx) })
	return e.secondExporter, e.secondErr
}

// settle records what the two readings of a stream disagree about, and gives it the grade
// if it can.
func (e *engine) settle(ctx context.Context, view exporters.Exporter, grade archive.Grade, s dataset.Stream, r *reconcile.Reconciler, sw *archive.StreamWriter) error {
	c, err := r.Compare(ctx)
	if err != nil {
		return err
	}
	if len(c.Differences) > 0 && int64(len(c.Differences)) < total(c.Source)-c.Source[reconcile.OK] {
		sw.Grade(archive.BestEffort, "read twice; more records differ than can be settled one by one")
		return nil
	}
	counts := map[reconcile.Status]int{}
	for _, d := range c.Differences {
		status, detail, err := e.third(ctx, view, s, &d)
		if err != nil {
			return err
		}
		counts[status]++
		e.w.Second(ctx, archive.SecondLine{Stream: s.Name, Key: archive.Key(d.Key), Ordinal: d.Ordinal, Status: string(status), Detail: detail})
		switch status {
		case reconcile.Unstable:
			e.gap(ctx, dataset.Gap{Stream: s.Name, Key: d.Key, Ordinal: d.Ordinal, Code: dataset.Unstable, Detail: detail})
		case reconcile.Undecided:
			e.gap(ctx, dataset.Gap{Stream: s.Name, Key: d.Key, Ordinal: d.Ordinal, Code: dataset.PossiblyCut, Detail: detail})
		}
	}
	proof := "read twice, and both readings agree"
	switch {
	case counts[reconcile.Undecided]+counts[reconcile.Unstable] > 0, grade == archive.Exact && len(counts) > 0, s.Keyless && len(counts) > 0:
		grade = archive.BestEffort
		proof = fmt.Sprintf("read twice; %d records differ without explanation", len(c.Differences))
	case len(counts) > 0:
		proof = fmt.Sprintf("read twice; %d records came, %d went and %d changed in between",
			counts[reconcile.Added], counts[reconcile.Vanished], counts[reconcile.ChangedDuring])
	}
	if e.Method == Exact && grade != archive.Exact {
		proof += "; the source does not hold it still, so no reading of it can be exact"
	}
	sw.Grade(grade, proof)
	return nil
}

func total(counts map[reconcile.Status]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// third settles one difference, by a third reading where the source can be asked for a
// single record.
func (e *engine) third(ctx context.Context, view exporters.Exporter, s dataset.Stream, d *reconcile.Difference) (reconcile.Status, string, error) {
	switch d.Status {
	case reconcile.Added:
		return reconcile.Added, "came after the first reading, and says that it is newer", nil
	case reconcile.Vanished:
		return e.gone(ctx, view, s, d)
	case reconcile.ChangedSince:
		return reconcile.ChangedDuring, "changed after the first reading, and says that it is newer", nil
	}
	return reconcile.Undecided, "the second reading has it otherwise, and nothing says that it is newer", nil
}

// gone asks for a record that the second reading did not have.
func (e *engine) gone(ctx context.Context, view exporters.Exporter, s dataset.Stream, d *reconcile.Difference) (reconcile.Status, string, error) {
	g, ok := view.(exporters.Getter)
	if !ok {
		return reconcile.Vanished, "the second reading does not have it", nil
	}
	_, err := g.Get(ctx, s, d.Key, d.Ordinal)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return reconcile.Vanished, "the second reading does not have it, and the source says that it is gone", nil
	case ctx.Err() != nil:
		return "", "", context.Cause(ctx)
	case err != nil:
		return reconcile.Undecided, fmt.Sprintf("the second reading does not have it, and it could not be asked for: %v", err), nil
	}
	return reconcile.Unstable, "the second reading does not have it, and the source does", nil
}

// seconds are what an engine needs for second readings.
type seconds struct {
	secondOnce     sync.Once
	secondExporter exporters.Exporter
	secondErr      error
}

// firstReading prepares to compare, if the method asks for a second reading.
func (e *engine) firstReading(s dataset.Stream) (*reconcile.Reconciler, error) {
	if e.Method == "" || e.Method == SingleRead {
		return nil, nil
	}
	s.Volatile = append(slices.Clone(s.Volatile), "metadata_as_of")
	return reconcile.New(s, e.TempDir, e.w.Started())
}
