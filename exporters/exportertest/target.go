package exportertest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// CheckTarget loads all that src offers into dst, which must be empty, reads it back,
// compares record by record and byte by byte, and destroys it: afterwards dst is empty
// and can be filled again. Fields that src declares volatile and losses that dst
// declares are left out; where dst declares that it loses whole records (a Loss without
// Field), those that it reports as gaps may be missing. The caller closes both. The error names every breach and difference it found.
//
// Records are loaded as a restore does it: in the order of src, but the versions of
// one key oldest first.
func CheckTarget(ctx context.Context, dst exporters.Target, src exporters.Exporter) error {
	t := &targetCheck{dst: dst, src: src, test: dataset.NewID()}
	if err := t.fill(ctx); err != nil {
		return errors.Join(err, t.verdict(), dst.Destroy(ctx, t.test))
	}
	for _, unit := range units(t.streams) {
		t.compare(ctx, unit)
	}
	t.checkDestroy(ctx)
	return t.verdict()
}

// CheckRefusal makes sure that dst, which holds something already, refuses to be
// filled and to be destroyed by a test that did not fill it.
func CheckRefusal(ctx context.Context, dst exporters.Target) error {
	test := dataset.NewID()
	var errs []error
	if err := dst.Begin(ctx, test, nil); !errors.Is(err, exporters.ErrNotEmpty) {
		errs = append(errs, fmt.Errorf("Begin of a target that is not empty: %w; want ErrNotEmpty", orNil(err)))
	}
	if err := dst.Destroy(ctx, test); !errors.Is(err, exporters.ErrNotOurs) {
		errs = append(errs, fmt.Errorf("Destroy without the marker: %w; want ErrNotOurs", orNil(err)))
	}
	return errors.Join(errs...)
}

type targetCheck struct {
	checker
	dst     exporters.Target
	src     exporters.Exporter
	test    dataset.ID
	streams []dataset.Stream
	losses  map[string][]dataset.Loss

	mu   sync.Mutex
	gaps map[identity]dataset.Gap
}

// fill takes dst from empty to finished.
func (t *targetCheck) fill(ctx context.Context) (err error) {
	if t.streams, err = t.src.Streams(ctx); err != nil {
		return fmt.Errorf("streams of the source: %w", err)
	}
	t.losses, t.gaps = make(map[string][]dataset.Loss), make(map[identity]dataset.Gap)
	for _, s := range t.streams {
		t.losses[s.Name] = t.dst.Fidelity(s)
		for _, l := range t.losses[s.Name] {
			if l.Stream != s.Name || l.Reason == "" {
				t.breach("loss %+v of stream %q: wrong stream, or no reason", l, s.Name)
			}
		}
	}
	if err := t.dst.Destroy(ctx, t.test); !errors.Is(err, exporters.ErrNotOurs) {
		t.breach("Destroy before Begin: %w; want ErrNotOurs", orNil(err))
	}
	if err := t.dst.Begin(ctx, t.test, t.streams); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := CheckRefusal(ctx, t.dst); err != nil {
		t.breach("after Begin: %w", err)
	}
	for _, s := range t.streams {
		if err := t.dst.Load(ctx, s, t.records(ctx, s), t.gap); err != nil {
			return fmt.Errorf("load %q: %w", s.Name, err)
		}
	}
	if err := t.dst.Finish(ctx); err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	return nil
}

// records yields the records of s as a restore does it.
func (t *targetCheck) records(ctx context.Context, s dataset.Stream) iter.Seq2[dataset.Record, error] {
	var unit []dataset.Stream
	for _, u := range units(t.streams) {
		if slices.Contains(names(u), s.Name) {
			unit = u
		}
	}
	return oldestFirst(s.Name, t.src.Read(ctx, exporters.Query{Streams: unit}))
}

// oldestFirst yields the records of one stream without gaps and cursors, the versions
// of a key in rising order of their ordinals.
func oldestFirst(stream string, seq iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		var held []dataset.Record // of one key, newest first
		flush := func() bool {
			for _, r := range slices.Backward(held) {
				if !yield(r, nil) {
					return false
				}
			}
			held = held[:0]
			return true
		}
		for r, err := range seq {
			if err != nil {
				yield(dataset.Record{}, err)
				return
			}
			if r.Stream != stream || r.Gap != nil {
				continue
			}
			if len(held) > 0 && held[0].Key != r.Key && !flush() {
				return
			}
			r.Data, r.Cursor = slices.Clone(r.Data), ""
			held = append(held, r)
		}
		flush()
	}
}

func (t *targetCheck) gap(g dataset.Gap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(dataset.Codes, g.Code) {
		t.breach("code %q of a gap is not in the closed table", g.Code)
	}
	t.gaps[identity{g.Stream, g.Key, g.Ordinal}] = g
}

// compare reads unit from both sides.
func (t *targetCheck) compare(ctx context.Context, unit []dataset.Stream) {
	all, err := t.dst.Streams(ctx)
	if err != nil {
		t.breach("streams of the target: %w", err)
		return
	}
	want, err := t.digests(ctx, t.src, unit)
	if err != nil {
		t.breach("read %q of the source: %w", names(unit), err)
		return
	}
	var got []seen
	for _, s := range unit {
		i := slices.Index(names(all), s.Name)
		if i < 0 {
			t.breach("the target offers streams %q and not %q", names(all), s.Name)
			return
		}
		back, err := t.digests(ctx, t.dst, []dataset.Stream{all[i]})
		if err != nil {
			t.breach("read %q back: %w", s.Name, err)
			return
		}
		got = append(got, back...)
	}
	want = slices.DeleteFunc(want, func(r seen) bool { return t.refused(r.id) })
	t.checkSame(fmt.Sprintf("%q, read back,", names(unit)), unit, got, want)
}

// refused reports whether dst said that it could not store a record. It must have
// declared that it loses whole records of the stream, or it could refuse them all.
func (t *targetCheck) refused(id identity) bool {
	g, refused := t.gaps[id]
	if refused && !slices.ContainsFunc(t.losses[id.stream], func(l dataset.Loss) bool { return l.Field == "" }) {
		t.breach("%v was refused, and no loss of whole records was declared: %w", id, &g)
	}
	return refused
}

// digests reads streams from x with all their blobs. Records that are gaps at the
// source are left out.
func (t *targetCheck) digests(ctx context.Context, x exporters.Exporter, unit []dataset.Stream) ([]seen, error) {
	digests := newDigester(t.streams, t.losses)
	var all []seen
	for r, err := range x.Read(ctx, exporters.Query{Streams: unit}) {
		if err != nil {
			return nil, err
		}
		id := identity{r.Stream, r.Key, r.Ordinal}
		if r.Gap != nil {
			if x != t.src {
				t.breach("%v came back as a gap: %w", id, r.Gap)
			}
			continue
		}
		if r.Blob != nil {
			b := *r.Blob
			sum, n, err := sumBlob(ctx, r.Blob)
			if err != nil {
				return nil, fmt.Errorf("blob of %v: %w", id, err)
			}
			if b.Size >= 0 && b.Size != n {
				t.breach("blob of %v has %d bytes, said %d", id, n, b.Size)
			}
			b.Size, b.SHA256 = n, sum
			r.Blob = &b
		}
		digest, err := digests.digest(r)
		if err != nil {
			return nil, fmt.Errorf("record %v: %w", id, err)
		}
		all = append(all, seen{id: id, digest: digest})
	}
	return all, nil
}

// checkDestroy expects Destroy to leave nothing, so that dst can be filled again.
func (t *targetCheck) checkDestroy(ctx context.Context) {
	if err := t.dst.Destroy(ctx, t.test); err != nil {
		t.breach("destroy: %w", err)
		return
	}
	again := dataset.NewID()
	if err := t.dst.Begin(ctx, again, t.streams); err != nil {
		t.breach("Begin after Destroy: %w", err)
		return
	}
	if err := t.dst.Destroy(ctx, again); err != nil {
		t.breach("Destroy after a second Begin: %w", err)
	}
}

// orNil makes a nil error printable with %w.
func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
