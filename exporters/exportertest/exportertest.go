// Package exportertest is the law of exporters and targets as functions that return
// an error, so that the connectors built in, those of third parties and a self-test
// on the machine that does the exit can all be held to it.
//
// [CheckExporter] holds a view to the contract of [exporters.Exporter], [CheckTarget]
// fills a target from an exporter and compares what it reads back, [CheckRefusal]
// makes sure that a target in use is left alone. What the law asks beyond the words of
// package exporters:
//
//   - Streams come sorted by name and are the same when asked twice.
//   - A record belongs to a stream that was asked for, and has either Data (one JSON
//     object without duplicate names) or a Gap whose code is in the closed table.
//   - Identities are unique, and the ordinals of a key are 0 to n-1. In a blob stream
//     that is read alone keys rise in byte order and the ordinals of a key fall, newest first. The key
//     of a keyless record is the SHA-256 of its canonical form.
//   - One view read twice gives the same records.
//   - The ranges of a Splitter, in order, are the stream; After a record's cursor come
//     exactly the records that follow it.
//   - A Getter gives what a read gives, an error for what there is not, and
//     errors.ErrUnsupported for streams whose records it cannot ask for.
//   - A sequence can be broken off at any record; a cancelled context ends it with an
//     error unless everything had been yielded.
//   - A blob read in any ranges, from several goroutines, is the blob read whole.
//   - Close can be called twice; afterwards nothing can be read.
package exportertest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Options tune [CheckExporter]. The zero Options suit a source that holds still.
type Options struct {
	// Moving says that the source changes while it is read, so that two reads may
	// differ.
	Moving bool

	// Sample is how many records of a stream have their blobs read in ranges and their
	// cursors tried; 0 means 20.
	Sample int
}

// CheckExporter holds the views that open returns to the law. It opens two, one after
// the other, and closes them. The error names every breach it found.
func CheckExporter(ctx context.Context, open func() (exporters.Exporter, error), o Options) error {
	if o.Sample == 0 {
		o.Sample = 20
	}
	c := &checker{o: o}
	first := c.checkView(ctx, open)
	if len(c.breaches) == 0 && !o.Moving {
		c.checkSecondView(ctx, open, first)
	}
	return c.verdict()
}

// A checker collects breaches of the law.
type checker struct {
	o        Options
	breaches []error
}

func (c *checker) breach(format string, args ...any) {
	if len(c.breaches) < 20 {
		c.breaches = append(c.breaches, fmt.Errorf(format, args...))
	}
}

func (c *checker) verdict() error { return errors.Join(c.breaches...) }

// checkView opens one view, holds it to the law and returns its streams.
func (c *checker) checkView(ctx context.Context, open func() (exporters.Exporter, error)) []dataset.Stream {
	x, err := open()
	if err != nil {
		c.breach("open: %w", err)
		return nil
	}
	streams := c.checkStreams(ctx, x)
	var blob *dataset.Blob
	for _, unit := range units(streams) {
		if b := c.checkUnit(ctx, x, unit); b != nil {
			blob = b
		}
	}
	c.checkUnknown(ctx, x)
	c.checkFacts(x.Facts())
	c.checkClose(ctx, x, streams, blob)
	return streams
}

func (c *checker) checkSecondView(ctx context.Context, open func() (exporters.Exporter, error), first []dataset.Stream) {
	x, err := open()
	if err != nil {
		c.breach("open a second view: %w", err)
		return
	}
	defer x.Close()
	second, err := x.Streams(ctx)
	if err != nil {
		c.breach("streams of a second view: %w", err)
	}
	if got, want := names(second), names(first); !slices.Equal(got, want) {
		c.breach("a second view offers streams %q; the first offered %q", got, want)
	}
}

func (c *checker) checkStreams(ctx context.Context, x exporters.Exporter) []dataset.Stream {
	streams, err := x.Streams(ctx)
	if err != nil {
		c.breach("streams: %w", err)
		return nil
	}
	for i, s := range streams {
		switch {
		case s.Name == "" || !utf8.ValidString(s.Name):
			c.breach("stream name %q is empty or no UTF-8", s.Name)
		case i > 0 && s.Name <= streams[i-1].Name:
			c.breach("stream %q comes after %q: not sorted, or twice", s.Name, streams[i-1].Name)
		}
	}
	again, err := x.Streams(ctx)
	if err != nil {
		c.breach("streams, asked again: %w", err)
	} else if !slices.Equal(names(again), names(streams)) {
		c.breach("streams, asked again, are %q; were %q", names(again), names(streams))
	}
	return streams
}

// units cuts streams into what is read together: whole groups, and streams that have
// no group.
func units(streams []dataset.Stream) [][]dataset.Stream {
	var all [][]dataset.Stream
	place := make(map[string]int)
	for _, s := range streams {
		if i, known := place[s.Group]; known && s.Group != "" {
			all[i] = append(all[i], s)
			continue
		}
		place[s.Group] = len(all)
		all = append(all, []dataset.Stream{s})
	}
	return all
}

// checkUnit reads the streams of unit in every way there is. It returns a blob that
// it met, if there was one.
func (c *checker) checkUnit(ctx context.Context, x exporters.Exporter, unit []dataset.Stream) *dataset.Blob {
	q := exporters.Query{Streams: unit}
	whole, err := c.collect(ctx, x, q, true)
	if err != nil {
		c.breach("read %q: %w", names(unit), err)
		return nil
	}
	c.checkIdentities(unit, whole.recs)
	c.checkBreaks(ctx, x, q, whole)
	c.checkCancel(ctx, x, q, whole)
	if c.o.Moving {
		return whole.blob
	}
	if again, err := c.collect(ctx, x, q, false); err != nil {
		c.breach("read %q again: %w", names(unit), err)
	} else {
		c.checkSame(fmt.Sprintf("%q read again", names(unit)), unit, again.recs, whole.recs)
	}
	c.checkCursors(ctx, x, q, whole)
	c.checkGet(ctx, x, unit, whole)
	for _, s := range unit {
		c.checkRanges(ctx, x, s, len(unit), whole)
	}
	return whole.blob
}

// checkBreaks breaks a sequence off at its first record and in its middle, and reads
// on as if nothing had been.
func (c *checker) checkBreaks(ctx context.Context, x exporters.Exporter, q exporters.Query, whole *reading) {
	for _, at := range []int{1, len(whole.recs) / 2} {
		n := 0
		for _, err := range x.Read(ctx, q) {
			if err != nil {
				c.breach("read %q up to record %d: %w", names(q.Streams), at, err)
			}
			if n++; n >= at {
				break
			}
		}
	}
}

// checkCancel expects an error from a sequence whose context is done before it starts,
// and from one whose context ends on the way unless it had everything at hand.
func (c *checker) checkCancel(ctx context.Context, x exporters.Exporter, q exporters.Query, whole *reading) {
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := drain(x.Read(done, q), nil); err == nil {
		c.breach("read %q with a cancelled context ended without an error", names(q.Streams))
	}
	half, cancel := context.WithCancel(ctx)
	defer cancel()
	n, err := drain(x.Read(half, q), func(n int) {
		if n == 1 {
			cancel()
		}
	})
	if err == nil && n != len(whole.recs) {
		c.breach("read %q, cancelled on the way, ended after %d of %d records without an error", names(q.Streams), n, len(whole.recs))
	}
}

// drain counts the records of seq. After an error it makes sure that none follows.
func drain(seq iter.Seq2[dataset.Record, error], step func(n int)) (n int, err error) {
	for _, e := range seq {
		if err != nil {
			return n, nil // something came after the error: not an end
		}
		if e != nil {
			err = e
			continue
		}
		n++
		if step != nil {
			step(n)
		}
	}
	return n, err
}

func (c *checker) checkUnknown(ctx context.Context, x exporters.Exporter) {
	q := exporters.Query{Streams: []dataset.Stream{{Name: "no such stream 7c1d"}}}
	if n, err := drain(x.Read(ctx, q), nil); err == nil {
		c.breach("read of a stream that does not exist gave %d records and no error", n)
	}
}

func (c *checker) checkFacts(f dataset.Facts) {
	for _, e := range f.Endpoints {
		u, err := url.Parse(e.URL)
		if err != nil {
			c.breach("endpoint %q: %w", e.URL, err)
		} else if u.User != nil || u.RawQuery != "" {
			c.breach("endpoint %q tells user information or a query", u.Redacted())
		}
	}
	for _, s := range slices.Concat(f.Filters, f.Notes) {
		if strings.TrimSpace(s) == "" {
			c.breach("a filter or note says nothing")
		}
	}
}

func (c *checker) checkClose(ctx context.Context, x exporters.Exporter, streams []dataset.Stream, blob *dataset.Blob) {
	for _, nth := range []string{"first", "second"} {
		if err := x.Close(); err != nil {
			c.breach("the %s Close: %w", nth, err)
		}
	}
	for _, unit := range units(streams) {
		if n, err := drain(x.Read(ctx, exporters.Query{Streams: unit}), nil); err == nil {
			c.breach("read %q after Close gave %d records and no error", names(unit), n)
		}
	}
	if blob != nil {
		if r, err := blob.Open(ctx, 0, -1); err == nil {
			r.Close()
			c.breach("a blob was opened after Close")
		}
	}
}

func names(streams []dataset.Stream) []string {
	all := make([]string, len(streams))
	for i, s := range streams {
		all[i] = s.Name
	}
	return all
}
