package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
)

// An identity is what a record is found by.
type identity struct {
	key     string
	ordinal int
}

// added are the records that the second reading of a stream alone has, and that are
// exported too: whether the first reading overlooked them or they came after it, nobody
// can tell without evidence, and nothing is missing when they are there.
type added struct {
	*sink
	taken map[identity]bool // false until it is exported
	err   error             // why not all could be read once more
}

// exportAdded exports them, at the end of the stream. A stream of blobs has an order, in
// which there is no room for them any more, and what has no key cannot be found again: of
// those it exports nothing.
func (e *engine) exportAdded(ctx context.Context, view exporters.Exporter, streams []dataset.Stream, s dataset.Stream, c *reconcile.Comparison, sw *archive.StreamWriter) (*added, error) {
	a := &added{sink: &sink{engine: e, stream: s, section: sw.Section(0)}, taken: map[identity]bool{}}
	for i := range c.Differences {
		if d := &c.Differences[i]; d.Only() && d.Status != reconcile.Unchecked && !s.Blobs && !s.Keyless {
			a.taken[identity{d.Key, d.Ordinal}] = false
		}
	}
	if len(a.taken) == 0 {
		return a, nil
	}
	if g, ok := view.(exporters.Getter); ok {
		err := a.getAll(ctx, g, c.Differences)
		if !errors.Is(err, errors.ErrUnsupported) {
			return a, err
		}
	}
	return a, a.again(ctx, view, streams)
}

// getAll asks for them one by one. It fails with [errors.ErrUnsupported] if the source
// cannot be asked so.
func (a *added) getAll(ctx context.Context, g exporters.Getter, all []reconcile.Difference) error {
	for i := range all {
		if err := a.get(ctx, g, identity{all[i].Key, all[i].Ordinal}); err != nil {
			return err
		}
	}
	return nil
}

// get asks for one record, if it is one of them. An error is the end of the run, or
// [errors.ErrUnsupported].
func (a *added) get(ctx context.Context, g exporters.Getter, id identity) error {
	if taken, ok := a.taken[id]; !ok || taken {
		return nil
	}
	rec, err := g.Get(ctx, a.stream, id.key, id.ordinal)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errors.ErrUnsupported):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && rec.Gap != nil:
		err = rec.Gap
	}
	if err != nil {
		a.err = err
		return nil
	}
	a.taken[id] = true
	return a.take(ctx, rec, nil)
}

// again reads the streams a third time for them.
func (a *added) again(ctx context.Context, view exporters.Exporter, streams []dataset.Stream) error {
	for rec, err := range view.Read(ctx, exporters.Query{Streams: streams}) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			a.err = err
			return nil
		}
		id := identity{rec.Key, rec.Ordinal}
		if taken, ok := a.taken[id]; rec.Stream != a.stream.Name || !ok || taken {
			continue
		}
		if rec.Gap != nil {
			a.err = rec.Gap
			continue
		}
		a.taken[id] = true
		if err := a.take(ctx, rec, nil); err != nil {
			return err
		}
	}
	return nil
}

// settled says what became of a difference; ok is false if it is none of them.
func (a *added) settled(d *reconcile.Difference) (status reconcile.Status, detail string, ok bool) {
	taken, ok := a.taken[identity{d.Key, d.Ordinal}]
	switch {
	case !ok || !d.Only():
		return "", "", false
	case taken:
		return reconcile.Added, "only the second reading has it; it is exported as a third has it", true
	case a.err != nil:
		return reconcile.Undecided, fmt.Sprintf("only the second reading has it, and it could not be read again: %v", a.err), true
	}
	return reconcile.Vanished, "only the second reading has it; a third does not have it any more", true
}
