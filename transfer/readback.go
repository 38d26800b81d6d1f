package transfer

import (
	"context"
	"fmt"
	"iter"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
)

// compare reads back what was loaded and holds every record, and all bytes of objects,
// against the archive. What the target could not load is missing and was named; anything
// else that differs is an error.
func (r *Restore) compare(ctx context.Context, entries []*archive.StreamEntry, out *Restored) error {
	for i, e := range entries {
		c, err := r.compareStream(ctx, e)
		if err != nil {
			return err
		}
		gaps := out.Streams[i].Gaps
		if c.Restored[reconcile.Missing] == gaps && c.Restored[reconcile.Mismatch]+c.Restored[reconcile.Extra]+c.Restored[reconcile.Repeated]+c.Restored[reconcile.Unchecked] == 0 {
			continue
		}
		err = fmt.Errorf("stream %q does not read back as it was loaded: %v, with %d named before", e.Stream.Name, c.Restored, gaps)
		if len(c.Differences) > 0 {
			d := c.Differences[0]
			err = fmt.Errorf("%w; first %q is a %s", err, d.Key, d.Status)
		}
		return err
	}
	return nil
}

func (r *Restore) compareStream(ctx context.Context, e *archive.StreamEntry) (*reconcile.Comparison, error) {
	rec, err := reconcile.New(e.Stream, r.TempDir, r.Snapshot.Manifest.Started.Time)
	if err != nil {
		return nil, err
	}
	defer rec.Close()
	rec.Withhold = r.Withhold
	if err := rec.Add(ctx, reconcile.Archived, r.wanted(r.Snapshot.Records(ctx, e))); err != nil {
		return nil, err
	}
	if err := rec.Add(ctx, reconcile.Restored, r.Target.Read(ctx, exporters.Query{Streams: []dataset.Stream{e.Stream}})); err != nil {
		return nil, err
	}
	return rec.Compare(ctx)
}

// wanted yields the records that the filter lets pass.
func (r *Restore) wanted(recs iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for rec, err := range recs {
			if err == nil && !r.Filter.match(&rec) {
				continue
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}
