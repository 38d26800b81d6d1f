package verify

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
)

// explained is of how many records of a stream the differing fields are named.
const explained = 1000

// A sourceNow is a view of the source as it is at the time of the test.
type sourceNow struct {
	exporters.Exporter
	units map[string][]dataset.Stream // by archived stream: what is read together with it, itself included
}

// compare reads the restored copy and the source back and compares the streams, those
// of a group together.
func (t *exitRun) compare(ctx context.Context) {
	source := t.openSource(ctx)
	if source != nil {
		defer source.Close()
	}
	for _, group := range t.groups() {
		names := make([]string, len(group))
		for i, e := range group {
			names[i] = e.Stream.Name
		}
		t.step("compare", names, func(p *transfer.Progress) error { return t.group(ctx, group, source, p) })
	}
}

// groups returns the archived streams, those of a group together, in order of names.
func (t *exitRun) groups() [][]*archive.StreamEntry {
	var groups [][]*archive.StreamEntry
	at := map[string]int{}
	for i := range t.Snapshot.Descriptor.Resources {
		e := &t.Snapshot.Descriptor.Resources[i].Sallyport
		n, ok := at[e.Stream.Group]
		if e.Stream.Group == "" || !ok {
			at[e.Stream.Group] = len(groups)
			groups = append(groups, []*archive.StreamEntry{e})
			continue
		}
		groups[n] = append(groups[n], e)
	}
	return groups
}

// openSource opens the source as it is now. A source that cannot be reached takes the
// fourth column away, and nothing else.
func (t *exitRun) openSource(ctx context.Context) *sourceNow {
	if t.Source == nil {
		return nil
	}
	var streams []dataset.Stream
	source, err := t.Source(ctx)
	if err == nil {
		if streams, err = source.Streams(ctx); err != nil {
			err = errors.Join(err, source.Close())
		}
	}
	if err != nil {
		t.noSource("open source: %v", err)
		return nil
	}
	now := &sourceNow{source, map[string][]dataset.Stream{}}
	for _, s := range streams {
		if _, err := t.Snapshot.Stream(s.Name); err != nil {
			t.NotArchived = append(t.NotArchived, s.Name)
			continue
		}
		now.units[s.Name] = []dataset.Stream{s}
		if s.Group != "" {
			now.units[s.Name] = slices.DeleteFunc(slices.Clone(streams), func(o dataset.Stream) bool { return o.Group != s.Group })
		}
	}
	return now
}

// noSource says why the fourth column lacks something. The first reason is kept.
func (t *exitRun) noSource(format string, args ...any) {
	if t.SourceError == "" {
		t.SourceError = fmt.Sprintf(format, args...)
	}
}

// group compares the streams of a group.
func (t *exitRun) group(ctx context.Context, group []*archive.StreamEntry, source *sourceNow, p *transfer.Progress) error {
	rs := map[string]*reconcile.Reconciler{}
	for _, e := range group {
		r, err := reconcile.New(t.withoutLosses(e.Stream), t.TempDir, t.Snapshot.Manifest.Started.Time)
		if err != nil {
			return err
		}
		defer r.Close()
		r.Withhold = t.Withhold
		rs[e.Stream.Name] = r
		if err := t.archived(ctx, e, r, p); err != nil {
			return err
		}
		if err := r.Add(ctx, reconcile.Restored, counted(t.readBack(ctx, e), p)); err != nil {
			return err
		}
	}
	if source != nil {
		t.sourceSide(ctx, group, rs, source, p)
	}
	for _, e := range group {
		c, err := rs[e.Stream.Name].Compare(ctx)
		if err != nil {
			return err
		}
		if source != nil {
			t.ask(ctx, source, e, rs[e.Stream.Name], c)
		}
		err = c.Explain(ctx, rs[e.Stream.Name].Stream, t.Snapshot.Records(ctx, e), t.readBack(ctx, e), explained)
		t.Comparisons = append(t.Comparisons, *c)
		if err != nil {
			return err
		}
	}
	return nil
}

// archived adds the side of the archive: its records, and the gaps that it knows of.
func (t *exitRun) archived(ctx context.Context, e *archive.StreamEntry, r *reconcile.Reconciler, p *transfer.Progress) error {
	if err := r.Add(ctx, reconcile.Archived, counted(t.Snapshot.Records(ctx, e), p)); err != nil {
		return err
	}
	if len(t.Snapshot.Manifest.Gaps) == 0 {
		return nil
	}
	g := r.Reading(reconcile.Archived)
	defer g.Done()
	for l, err := range t.Snapshot.Gaps(ctx) {
		if err != nil {
			return err
		}
		if l.Stream != e.Stream.Name || l.Key == "" {
			continue
		}
		known := &dataset.Record{Stream: l.Stream, Key: string(l.Key), Ordinal: l.Ordinal, Gap: &dataset.Gap{Code: l.Code}}
		if err := g.Add(ctx, known); err != nil {
			return err
		}
	}
	return nil
}

func (t *exitRun) readBack(ctx context.Context, e *archive.StreamEntry) iter.Seq2[dataset.Record, error] {
	return t.Target.Read(ctx, exporters.Query{Streams: []dataset.Stream{e.Stream}})
}

// sourceSide adds the side of the source. Streams that it no longer offers, or could not
// deliver to the end, have no fourth column.
func (t *exitRun) sourceSide(ctx context.Context, group []*archive.StreamEntry, rs map[string]*reconcile.Reconciler, source *sourceNow, p *transfer.Progress) {
	read := map[string]*reconcile.Reconciler{}
	var unit []dataset.Stream
	for _, e := range group {
		if u := source.units[e.Stream.Name]; u != nil {
			unit, read[e.Stream.Name] = u, rs[e.Stream.Name]
			continue
		}
		t.noSource("the source no longer offers the stream %q", e.Stream.Name)
	}
	if unit == nil {
		return
	}
	q := exporters.Query{Streams: unit}
	if e := group[0]; e.Stream.Blobs && len(unit) == 1 {
		q.Prior = t.Snapshot.Records(ctx, e)
	}
	if err := reconcile.AddGroup(ctx, reconcile.SourceNow, read, counted(source.Read(ctx, q), p)); err != nil {
		t.noSource("%v", err)
		for _, r := range read {
			r.Forget(reconcile.SourceNow)
		}
	}
}

// ask settles what the source shows otherwise without evidence, or does not show any
// more, by a third reading. Where a single record can be asked for, only the source's own
// "there is none" says that it vanished.
func (t *exitRun) ask(ctx context.Context, source *sourceNow, e *archive.StreamEntry, r *reconcile.Reconciler, c *reconcile.Comparison) {
	s := source.units[e.Stream.Name]
	i := slices.IndexFunc(s, func(o dataset.Stream) bool { return o.Name == e.Stream.Name })
	if i < 0 {
		return
	}
	thirds := r.Thirds(source.Exporter, s[i])
	for j := range c.Differences {
		d := &c.Differences[j]
		if d.Side != reconcile.SourceNow || d.Status != reconcile.Vanished && d.Status != reconcile.Undecided {
			continue
		}
		third, err := thirds.Read(ctx, d)
		if ctx.Err() != nil {
			return
		}
		now := settled(third, err, d)
		if c.Source[d.Status]--; c.Source[d.Status] == 0 {
			delete(c.Source, d.Status)
		}
		c.Source[now]++
		d.Status = now
	}
	c.Differences = slices.DeleteFunc(c.Differences, func(d reconcile.Difference) bool { return d.Status == reconcile.OK })
}

// settled says what a third reading, if there was one, makes of a difference between the
// archive and the source: only one with evidence is more than undecided.
func settled(third reconcile.Third, err error, d *reconcile.Difference) reconcile.Status {
	switch {
	case err != nil && !errors.Is(err, reconcile.ErrThirds):
		return reconcile.Undecided
	case third == reconcile.NotRead:
		return d.Status
	case third == reconcile.Gone:
		return reconcile.Vanished
	case third == reconcile.Newer && d.Only():
		return reconcile.Added
	case third == reconcile.Newer:
		return reconcile.ChangedSince
	case third == reconcile.AsFirst && d.Lacks() && d.Status == reconcile.Undecided:
		return reconcile.OK // the source had it, and delivers it now
	case third == reconcile.AsFirst, third == reconcile.AsNeither && !d.Only() && !d.Lacks():
		return reconcile.Unstable
	}
	return reconcile.Undecided
}

// withoutLosses withholds the fields that the target said it cannot carry.
func (t *exitRun) withoutLosses(s dataset.Stream) dataset.Stream {
	s.Volatile = slices.Clone(s.Volatile)
	for _, l := range t.Losses {
		if l.Stream == s.Name && l.Field != "" && !slices.Contains(s.Volatile, l.Field) {
			s.Volatile = append(s.Volatile, l.Field)
		}
	}
	return s
}

func counted(recs iter.Seq2[dataset.Record, error], p *transfer.Progress) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for r, err := range recs {
			p.Records.Add(1)
			if !yield(r, err) {
				return
			}
		}
	}
}
