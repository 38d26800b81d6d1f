package transfer

import (
	"context"
	"fmt"
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
		if err := e.settle(ctx, view, grade, streams, s, firsts[s.Name], writers[s.Name]); err != nil {
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
func (e *engine) settle(ctx context.Context, view exporters.Exporter, grade archive.Grade, streams []dataset.Stream, s dataset.Stream, r *reconcile.Reconciler, sw *archive.StreamWriter) error {
	c, err := r.Compare(ctx)
	if err != nil {
		return err
	}
	if len(c.Differences) > 0 && int64(len(c.Differences)) < total(c.Source)-c.Source[reconcile.OK] {
		sw.Grade(archive.BestEffort, "read twice; more records differ than can be settled one by one")
		return nil
	}
	late, err := e.exportAdded(ctx, view, streams, s, c, sw)
	if err != nil {
		return err
	}
	counts := map[reconcile.Status]int{}
	thirds := r.Thirds(view, s)
	for _, d := range c.Differences {
		status, detail, ok := late.settled(&d)
		if !ok {
			if status, detail, err = e.third(ctx, thirds, &d); err != nil {
				return err
			}
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
	proof, moves := "read twice, and both readings agree", ""
	if e.Method == Exact && grade != archive.Exact {
		moves = "; the source does not hold it still, so no reading of it can be exact"
	}
	switch {
	case counts[reconcile.Undecided]+counts[reconcile.Unstable] > 0, grade == archive.Exact && len(counts) > 0, s.Keyless && len(counts) > 0:
		grade = archive.BestEffort
		proof = fmt.Sprintf("read twice; %d records differ without explanation", len(c.Differences))
	case len(counts) > 0:
		proof = fmt.Sprintf("read twice; %d records came, %d went and %d changed in between",
			counts[reconcile.Added], counts[reconcile.Vanished], counts[reconcile.ChangedDuring])
	}
	sw.Grade(grade, proof+moves)
	return nil
}

func total(counts map[reconcile.Status]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// third settles one difference, by a third reading where there is no evidence and the
// source can be asked for a single record.
func (e *engine) third(ctx context.Context, thirds *reconcile.Thirds, d *reconcile.Difference) (reconcile.Status, string, error) {
	switch d.Status {
	case reconcile.Added:
		return reconcile.Added, "came after the first reading, and says that it is newer", nil
	case reconcile.ChangedSince:
		return reconcile.ChangedDuring, "changed after the first reading, and says that it is newer", nil
	case reconcile.Unchecked:
		return reconcile.Unchecked, "a gap of the first reading, which the second has", nil
	}
	if d.Repeats() {
		return reconcile.Undecided, "the second reading has it more often than the first", nil
	}
	what := "the second reading has it otherwise, and nothing says that it is newer"
	switch {
	case d.Status == reconcile.Vanished:
		what = "the second reading does not have it"
	case d.Lacks():
		what = "the second reading could not read it"
	case d.Only():
		what = "only the second reading has it, and nothing says that it is newer"
	}
	third, err := thirds.Read(ctx, d)
	switch {
	case ctx.Err() != nil:
		return "", "", context.Cause(ctx)
	case err != nil:
		return reconcile.Undecided, fmt.Sprintf("%s; %v", what, err), nil
	case third == reconcile.NotRead && d.Status == reconcile.Vanished:
		return reconcile.Vanished, what, nil
	case third == reconcile.NotRead:
		return reconcile.Undecided, what, nil
	}
	status, found := settled(third, d)
	return status, what + "; " + found, nil
}

// settled says what a third reading makes of a difference.
func settled(third reconcile.Third, d *reconcile.Difference) (reconcile.Status, string) {
	unread := d.Lacks() && d.Status != reconcile.Vanished // there at the second reading, which did not get it
	switch {
	case third == reconcile.Gone:
		return reconcile.Vanished, "the source says that it is gone"
	case third == reconcile.AsFirst && unread:
		return reconcile.OK, "a third reading is like the first"
	case third == reconcile.AsFirst:
		return reconcile.Unstable, "a third reading is like the first"
	case d.Only() && third == reconcile.Newer:
		return reconcile.Added, "a third reading says that it is newer"
	case d.Only():
		return reconcile.Undecided, "a third reading has it too"
	case third == reconcile.AsSecond:
		return reconcile.ChangedDuring, "a third reading is like the second"
	case third == reconcile.Newer:
		return reconcile.ChangedDuring, "a third reading says that it is newer"
	case unread:
		return reconcile.ChangedDuring, "a third reading has it otherwise than the first"
	}
	return reconcile.Unstable, "a third reading has it otherwise again"
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
