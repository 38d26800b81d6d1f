package exportertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A seen is what is kept of a record that was read.
type seen struct {
	id     identity
	digest dataset.Hash // of the fields that count, and of the size of the blob
	cursor dataset.Cursor
	gap    bool
}

// An identity is what makes a record that record.
type identity struct {
	stream, key string
	ordinal     int
}

func (id identity) String() string {
	return fmt.Sprintf(`"%s"/%d of stream "%s"`, dataset.Escape(id.key), id.ordinal, dataset.Escape(id.stream))
}

// A reading is all that one query gave.
type reading struct {
	recs []seen
	blob *dataset.Blob // the last one
}

// collect reads q to its end. With deep it also holds each record to the law and
// reads some of the blobs in ranges.
func (c *checker) collect(ctx context.Context, x exporters.Exporter, q exporters.Query, deep bool) (*reading, error) {
	byName := make(map[string]dataset.Stream)
	for _, s := range q.Streams {
		byName[s.Name] = s
	}
	digests := newDigester(q.Streams, nil)
	var all reading
	sampled := make(map[string]int)
	for r, err := range x.Read(ctx, q) {
		if err != nil {
			return nil, err
		}
		id := identity{r.Stream, r.Key, r.Ordinal}
		s, asked := byName[r.Stream]
		if !asked {
			c.breach("record %v was not asked for", id)
			continue
		}
		digest, err := digests.digest(r)
		if err != nil {
			c.breach("record %v: %w", id, err)
		}
		if deep {
			c.checkRecord(s, r)
			if r.Blob != nil && sampled[s.Name] < c.o.Sample {
				sampled[s.Name]++
				c.checkBlob(ctx, id, r.Blob)
			}
		}
		if r.Blob != nil {
			all.blob = r.Blob
		}
		all.recs = append(all.recs, seen{id, digest, r.Cursor, r.Gap != nil})
	}
	return &all, nil
}

// checkRecord holds one record to what can be said of it alone.
func (c *checker) checkRecord(s dataset.Stream, r dataset.Record) {
	id := identity{r.Stream, r.Key, r.Ordinal}
	if r.Ordinal < 0 {
		c.breach("record %v: negative ordinal", id)
	}
	if r.Blob != nil && (!s.Blobs || r.Blob.Open == nil || r.Blob.Size < -1) {
		c.breach("record %v: a blob in a stream without blobs, without Open, or of size %d", id, r.Blob.Size)
	}
	g := r.Gap
	if g == nil {
		c.checkKeyless(s, r)
		if compact, err := dataset.Compact(nil, r.Data); r.Compact && (err != nil || !bytes.Equal(compact, r.Data)) {
			c.breach("record %v is said to be compact and is not: %v", id, err)
		}
		return
	}
	switch {
	case !slices.Contains(dataset.Codes, g.Code):
		c.breach("record %v: code %q of its gap is not in the closed table", id, g.Code)
	case g.Stream != r.Stream || g.Key != r.Key || g.Ordinal != r.Ordinal:
		c.breach("record %v: its gap is about %q/%d of stream %q", id, g.Key, g.Ordinal, g.Stream)
	case len(r.Data) > 0:
		c.breach("record %v has both data and a gap", id)
	}
}

// checkKeyless expects the key of a keyless record to be the hash of its canonical form.
func (c *checker) checkKeyless(s dataset.Stream, r dataset.Record) {
	if !s.Keyless {
		return
	}
	canonical, err := dataset.Canonical(nil, r.Data)
	if err == nil && r.Key != dataset.KeylessKey(canonical) {
		c.breach("record %v: the key is not the SHA-256 of the canonical form", identity{r.Stream, r.Key, r.Ordinal})
	}
}

// checkIdentities expects unique identities, complete ordinals, and the order of blob
// streams that are read alone: those of a group come as their records do.
func (c *checker) checkIdentities(unit []dataset.Stream, recs []seen) {
	blobs := make(map[string]bool)
	for _, s := range unit {
		blobs[s.Name] = s.Blobs && len(unit) == 1
	}
	type key struct{ stream, key string }
	ordinals := make(map[key][]int)
	last := make(map[string]identity)
	for _, r := range recs {
		k := key{r.id.stream, r.id.key}
		ordinals[k] = append(ordinals[k], r.id.ordinal)
		if prev, ok := last[r.id.stream]; ok && blobs[r.id.stream] && !follows(prev, r.id) {
			c.breach("record %v comes after %v", r.id, prev)
		}
		last[r.id.stream] = r.id
	}
	for k, os := range ordinals {
		slices.Sort(os)
		for i, o := range os {
			if o != i {
				c.breach("key %q of stream %q has ordinals %v", k.key, k.stream, os)
				break
			}
		}
	}
}

// follows reports whether b may come after a in a blob stream.
func follows(a, b identity) bool {
	if a.key != b.key {
		return a.key < b.key
	}
	return a.ordinal == b.ordinal+1
}

// checkSame compares two readings of the same streams. Blob streams have an order,
// others need only the same records.
func (c *checker) checkSame(what string, unit []dataset.Stream, got, want []seen) {
	if d := difference(got, want); d != nil {
		c.breach("%s differs: %w", what, d)
		return
	}
	for _, s := range unit {
		if s.Blobs && !slices.EqualFunc(only(got, s.Name), only(want, s.Name), func(a, b seen) bool { return a.id == b.id }) {
			c.breach("%s: stream %q came in another order", what, s.Name)
		}
	}
}

func only(recs []seen, stream string) []seen {
	var own []seen
	for _, r := range recs {
		if r.id.stream == stream {
			own = append(own, r)
		}
	}
	return own
}

// checkCursors goes on after some of the cursors that a reading gave.
func (c *checker) checkCursors(ctx context.Context, x exporters.Exporter, q exporters.Query, whole *reading) {
	step := max(1, len(whole.recs)/min(c.o.Sample, 5))
	for i := 0; i < len(whole.recs); i += step {
		if whole.recs[i].cursor == "" {
			continue
		}
		q.After = whole.recs[i].cursor
		rest, err := c.collect(ctx, x, q, false)
		if err != nil {
			c.breach("read after the cursor of %v: %w", whole.recs[i].id, err)
			return
		}
		c.checkSame(fmt.Sprintf("what follows the cursor of %v", whole.recs[i].id), q.Streams, rest.recs, whole.recs[i+1:])
	}
}

// checkRanges reads s in the ranges that a Splitter makes of it.
func (c *checker) checkRanges(ctx context.Context, x exporters.Exporter, s dataset.Stream, unit int, whole *reading) {
	if _, ok := x.(exporters.Splitter); !ok || unit > 1 {
		return
	}
	for _, n := range []int{2, 7} {
		ranges, err := exporters.Ranges(ctx, x, s, n)
		if err != nil {
			c.breach("split %q: %w", s.Name, err)
			return
		}
		if len(ranges) == 0 || len(ranges) > n {
			c.breach("split %q into at most %d ranges gave %d", s.Name, n, len(ranges))
		}
		var together []seen
		for _, r := range ranges {
			part, err := c.collect(ctx, x, exporters.Query{Streams: []dataset.Stream{s}, Range: r}, false)
			if err != nil {
				c.breach("read range %+v of %q: %w", r, s.Name, err)
				return
			}
			together = append(together, part.recs...)
		}
		c.checkSame(fmt.Sprintf("stream %q in %d ranges", s.Name, len(ranges)), []dataset.Stream{s}, together, only(whole.recs, s.Name))
	}
}

// checkGet reads some records one by one from a Getter, and one that does not exist. A
// Getter that says fs.ErrNotExist of a record that is there would have it taken for
// deleted; errors.ErrUnsupported says that it cannot tell.
func (c *checker) checkGet(ctx context.Context, x exporters.Exporter, unit []dataset.Stream, whole *reading) {
	g, ok := x.(exporters.Getter)
	if !ok {
		return
	}
	digests := newDigester(unit, nil)
	for _, s := range unit {
		own := only(whole.recs, s.Name)
		for i := 0; i < len(own); i += max(1, len(own)/3) {
			c.checkGetOne(ctx, g, s, own[i], digests)
		}
		if _, err := g.Get(ctx, s, "no such key 7c1d", 0); err == nil {
			c.breach("Get of a record of %q that does not exist gave one", s.Name)
		}
	}
}

func (c *checker) checkGetOne(ctx context.Context, g exporters.Getter, s dataset.Stream, want seen, digests digester) {
	if want.gap {
		return
	}
	r, err := g.Get(ctx, s, want.id.key, want.id.ordinal)
	if errors.Is(err, errors.ErrUnsupported) {
		return // records of this stream cannot be asked for
	}
	if err != nil {
		c.breach("Get of %v: %w", want.id, err)
		return
	}
	digest, err := digests.digest(r)
	if got := (identity{r.Stream, r.Key, r.Ordinal}); err != nil || got != want.id || digest != want.digest {
		c.breach("Get of %v gave another record, %v (%w)", want.id, got, orNil(err))
	}
}
