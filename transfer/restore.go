package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// ErrNotInSnapshot says that a snapshot has no such stream, or no record that a filter
// wants.
var ErrNotInSnapshot = errors.New("not in the snapshot")

// A Restore fills an empty target from an unlocked snapshot.
type Restore struct {
	Snapshot *archive.Snapshot
	Target   exporters.Target
	Test     dataset.ID // marks what is loaded, so that only it is ever destroyed
	Filter   Filter
	Progress *Progress         // nil counts nothing
	OnGap    func(dataset.Gap) // called for each gap as it is found, from any goroutine; may be nil

	// Compare reads everything back at the end and holds it against the archive.
	Compare bool
	TempDir string // for its spools; empty means the system's

	// Withhold says which records must not come back because they were erased at the
	// source; nil withholds nothing. They are counted, and not loaded: the target is told
	// that each is missing, as it is of a gap, so that what refers to it is no error.
	Withhold func(stream, key string) bool
}

// A Filter says which records are restored. The zero Filter is all of them.
type Filter struct {
	Streams []string // names; empty means all
	Prefix  string   // of keys
	Key     string   // one key; empty means all
	Version string   // one version of Key: its ordinal, or the version id that the source gave it
}

// A Restored says what a restore did.
type Restored struct {
	Streams []StreamRestored `json:"streams"`
	Losses  []dataset.Loss   `json:"losses"`  // declared by the target before anything was loaded
	Gaps    []dataset.Gap    `json:"gaps"`    // what it could not load, at most 10,000 of them
	Missing int64            `json:"missing"` // gaps of the snapshot itself: what was never exported
	Steps   []Step           `json:"steps"`
	Notes   []string         `json:"notes"` // what the target says of the restore, one sentence each

	// Cause is the first reason for which the archive could not give the bytes of a blob:
	// damage, or a key that is missing. It is nil if all gaps are of the target's making.
	Cause error `json:"-"`
}

// A StreamRestored counts one stream.
type StreamRestored struct {
	Name     string `json:"name"`
	Records  int64  `json:"records"`
	Gaps     int64  `json:"gaps"`
	Withheld int64  `json:"withheld"` // records that an erasure keeps from coming back
}

// A Step is a part of a restore with its time.
type Step struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took_ns"`
}

// maxGaps is how many gaps are kept by name; all are counted and given to OnGap.
const maxGaps = 10_000

// Run restores. The target is left as it is after an error, marked with the test. It
// fails with [ErrNotInSnapshot] if there is no such stream, or no record that the filter
// wants.
func (r Restore) Run(ctx context.Context) (*Restored, error) {
	if r.Progress == nil {
		r.Progress = new(Progress)
	}
	entries, err := r.entries()
	if err != nil {
		return nil, err
	}
	out := new(Restored)
	for _, n := range r.Snapshot.Manifest.Gaps {
		out.Missing += n
	}
	streams := make([]dataset.Stream, len(entries))
	for i, e := range entries {
		streams[i] = e.Stream
		out.Losses = append(out.Losses, r.Target.Fidelity(e.Stream)...)
	}
	if err := out.time("begin", func() error { return r.Target.Begin(ctx, r.Test, streams) }); err != nil {
		return out, fmt.Errorf("prepare target: %w", err)
	}
	for _, e := range entries {
		err := out.time("load "+e.Stream.Name, func() error { return r.load(ctx, e, out) })
		if err != nil {
			return out, fmt.Errorf("load %q: %w", e.Stream.Name, err)
		}
	}
	err = out.time("finish", func() error { return r.Target.Finish(ctx) })
	if out.Notes = r.Target.Facts().Notes; err != nil {
		return out, fmt.Errorf("finish target: %w", err)
	}
	if r.Compare {
		if err := out.time("compare", func() error { return r.compare(ctx, entries, out) }); err != nil {
			return out, fmt.Errorf("read back: %w", err)
		}
	}
	return out, r.Filter.unmatched(out)
}

func (o *Restored) time(name string, f func() error) error {
	start := time.Now()
	err := f()
	o.Steps = append(o.Steps, Step{name, time.Since(start)})
	return err
}

// entries returns the streams that are restored.
func (r *Restore) entries() ([]*archive.StreamEntry, error) {
	var entries []*archive.StreamEntry
	if len(r.Filter.Streams) == 0 {
		for i := range r.Snapshot.Descriptor.Resources {
			entries = append(entries, &r.Snapshot.Descriptor.Resources[i].Sallyport)
		}
		return entries, nil
	}
	for _, name := range r.Filter.Streams {
		e, err := r.Snapshot.Stream(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("stream %q: %w", name, ErrNotInSnapshot)
		} else if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// records yields the records of a stream in the order that costs least of those that the
// target can do with.
func (r *Restore) records(ctx context.Context, e *archive.StreamEntry) iter.Seq2[dataset.Record, error] {
	if u, ok := r.Target.(exporters.Unordered); ok && !archive.Enveloped(&e.Stream) && u.AnyOrder(e.Stream) {
		return r.Snapshot.RecordsAsStored(ctx, e)
	}
	return r.Snapshot.Records(ctx, e)
}

// load fills one stream.
func (r *Restore) load(ctx context.Context, e *archive.StreamEntry, out *Restored) error {
	sr := StreamRestored{Name: e.Stream.Name}
	var seen witness
	var readErr error
	var mu sync.Mutex
	recs := func(yield func(dataset.Record, error) bool) {
		for rec, err := range oldestFirst(r.records(ctx, e)) {
			if err != nil {
				readErr = err
				yield(dataset.Record{}, err)
				return
			}
			if !r.Filter.match(&rec) {
				continue
			}
			if r.Withhold != nil && r.Withhold(e.Stream.Name, rec.Key) {
				sr.Withheld++
				if !yield(withheld(&rec), nil) {
					return
				}
				continue
			}
			sr.Records++
			r.Progress.Records.Add(1)
			if rec.Blob != nil {
				r.Progress.Blobs.Add(1)
				r.Progress.Bytes.Add(rec.Blob.Size)
				rec.Blob = seen.watch(rec.Blob)
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
	gap := func(g dataset.Gap) {
		mu.Lock()
		defer mu.Unlock()
		if g.Stream = e.Stream.Name; r.Withhold != nil && r.Withhold(g.Stream, g.Key) {
			return // counted already, and no gap
		}
		sr.Gaps++
		r.Progress.Gaps.Add(1)
		if len(out.Gaps) < maxGaps {
			out.Gaps = append(out.Gaps, g)
		}
		if r.OnGap != nil {
			r.OnGap(g)
		}
	}
	err := r.Target.Load(ctx, e.Stream, iter.Seq2[dataset.Record, error](recs), gap)
	mu.Lock()
	defer mu.Unlock()
	out.Streams = append(out.Streams, sr)
	if out.Cause == nil {
		out.Cause = seen.first()
	}
	if !errors.Is(err, readErr) {
		err = errors.Join(err, readErr) // a target that took the end of the archive for its own
	}
	return err
}

// withheld is what a target gets instead of a record that is not to come back.
func withheld(r *dataset.Record) dataset.Record {
	return dataset.Record{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal,
		Gap: &dataset.Gap{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.UnknownCondition, Detail: "erased at the source"}}
}

// unmatched is an [ErrNotInSnapshot] if records were asked for by name and there were none:
// an empty target must not look like the answer.
func (f *Filter) unmatched(out *Restored) error {
	if f.Prefix == "" && f.Key == "" && f.Version == "" {
		return nil
	}
	for _, s := range out.Streams {
		if s.Records+s.Withheld > 0 {
			return nil
		}
	}
	var asked []string
	for _, a := range []struct{ name, value string }{{"prefix", f.Prefix}, {"key", f.Key}, {"version", f.Version}} {
		if a.value != "" {
			asked = append(asked, fmt.Sprintf("%s %q", a.name, a.value))
		}
	}
	return fmt.Errorf("no record has %s: %w", strings.Join(asked, ", "), ErrNotInSnapshot)
}

// match reports whether a record is wanted.
func (f *Filter) match(r *dataset.Record) bool {
	if !strings.HasPrefix(r.Key, f.Prefix) || f.Key != "" && r.Key != f.Key {
		return false
	}
	if f.Version == "" || f.Version == fmt.Sprint(r.Ordinal) {
		return true
	}
	raw, ok := dataset.Lookup(r.Data, "version_id")
	if !ok {
		return false
	}
	v, err := dataset.Unquote(raw)
	return err == nil && v == f.Version
}

// oldestFirst turns the versions of each key round: archives have them from the newest,
// targets are filled from the oldest. The versions of one key are held meanwhile,
// without their bytes.
func oldestFirst(recs iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		var held []dataset.Record
		flush := func() bool {
			for _, r := range slices.Backward(held) {
				if !yield(r, nil) {
					return false
				}
			}
			held = held[:0]
			return true
		}
		for r, err := range recs {
			if err != nil {
				if flush() {
					yield(r, err)
				}
				return
			}
			if r.Ordinal == 0 && len(held) == 0 {
				if !yield(r, nil) {
					return
				}
				continue
			}
			if len(held) > 0 && held[0].Key != r.Key && !flush() {
				return
			}
			held = append(held, r)
		}
		flush()
	}
}
