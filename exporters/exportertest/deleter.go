package exportertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A DeleterSource is a source that a test of [CheckDeleter] may spoil.
type DeleterSource struct {
	Open   func() (exporters.Exporter, error)
	Stream string                                            // has at least three records that nothing refers to
	Change func(ctx context.Context, key string) error       // changes a record at the source
	Other  func(r dataset.Record) (elsewhere dataset.Record) // a record that the source never had, made of one that it has
	Same   func(was, is dataset.Record) bool                 // nil: the same bytes
}

// CheckDeleter holds the Deleter and the Rehearser of a source to their law: what is as
// archived goes and nothing else, what is not is said to be changed or gone, and a
// rehearsal answers the same and changes nothing. It deletes records.
func CheckDeleter(ctx context.Context, src DeleterSource) error {
	before, err := readAll(ctx, src)
	if err != nil {
		return err
	}
	if len(before) < 3 {
		return fmt.Errorf("stream %q has %d records; the law needs three", src.Stream, len(before))
	}
	if err := src.Change(ctx, before[1].Key); err != nil {
		return fmt.Errorf("change a record: %w", err)
	}
	changed, err := readAll(ctx, src)
	if err != nil {
		return err
	}
	// The questions, in the order in which they are asked, and their answers.
	asked := []struct {
		what string
		r    dataset.Record
		want error
	}{
		{"a record that is as archived", before[0], nil},
		{"a record that was changed", before[1], exporters.ErrChanged},
		{"a record that was deleted before", before[0], fs.ErrNotExist},
		{"a record that never was", src.Other(before[0]), fs.ErrNotExist},
	}
	for _, rehearsed := range []bool{true, false} {
		err := desk(ctx, src, rehearsed, func(s dataset.Stream, d exporters.Deleter) error {
			for _, q := range asked {
				if err := d.Delete(ctx, s, q.r); !errors.Is(err, q.want) {
					return fmt.Errorf("delete %s (rehearsed %v): %v; want %v", q.what, rehearsed, err, q.want)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		after, err := readAll(ctx, src)
		if err != nil {
			return err
		}
		want := changed
		if !rehearsed {
			want = changed[1:]
		}
		same := func(a, b dataset.Record) bool {
			if src.Same != nil {
				return src.Same(a, b)
			}
			return a.Key == b.Key && bytes.Equal(a.Data, b.Data)
		}
		if !slices.EqualFunc(after, want, same) {
			return fmt.Errorf("after the deletions (rehearsed %v) the source has %d records; want %d, all as they were", rehearsed, len(after), len(want))
		}
	}
	return nil
}

// desk opens a view, and deletes at the source or in a rehearsal.
func desk(ctx context.Context, src DeleterSource, rehearsed bool, fn func(dataset.Stream, exporters.Deleter) error) (err error) {
	view, err := src.Open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	s, err := streamOf(ctx, view, src.Stream)
	if err != nil {
		return err
	}
	d, ok := view.(exporters.Deleter)
	if !ok {
		return errors.New("the view is no Deleter")
	}
	if !rehearsed {
		return fn(s, d)
	}
	r, ok := view.(exporters.Rehearser)
	if !ok {
		return errors.New("the view is no Rehearser")
	}
	h, err := r.Rehearse(ctx)
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	return errors.Join(fn(s, h), h.Close())
}

func streamOf(ctx context.Context, view exporters.Exporter, name string) (dataset.Stream, error) {
	all, err := view.Streams(ctx)
	if err != nil {
		return dataset.Stream{}, fmt.Errorf("streams: %w", err)
	}
	i := slices.IndexFunc(all, func(s dataset.Stream) bool { return s.Name == name })
	if i < 0 {
		return dataset.Stream{}, fmt.Errorf("the view does not offer stream %q", name)
	}
	return all[i], nil
}

// readAll reads a stream in a view of its own.
func readAll(ctx context.Context, src DeleterSource) (recs []dataset.Record, err error) {
	view, err := src.Open()
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	s, err := streamOf(ctx, view, src.Stream)
	if err != nil {
		return nil, err
	}
	for r, err := range view.Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}) {
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if r.Gap != nil {
			return nil, fmt.Errorf("read: %w", r.Gap)
		}
		r.Data = slices.Clone(r.Data)
		recs = append(recs, r)
	}
	return recs, nil
}
