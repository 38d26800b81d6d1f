// Package exporters defines what reads a source and what a snapshot is restored
// into. A target is an exporter that one can fill, so proving a restore is exporting
// twice and comparing.
package exporters

import (
	"context"
	"io"
	"iter"

	"github.com/dwp/sallyport/dataset"
)

// An Exporter is one view of a source, from [Kind.Open] to Close. What a source can
// hold still, a view holds still: a SQL view is one transaction; a second sweep is a
// second Open. An Exporter is safe for concurrent use until Close.
type Exporter interface {
	// Streams returns everything the source offers, chosen or not, sorted by name.
	Streams(ctx context.Context) ([]dataset.Stream, error)

	// Read yields the records of q. Streams with a key order (object keys; key-order
	// tables) come in that order. An error ends the sequence: the stream is then
	// incomplete. What concerns one record is yielded as a record with a Gap.
	Read(ctx context.Context, q Query) iter.Seq2[dataset.Record, error]

	// Facts says what was learnt so far. Call it last, before Close.
	Facts() dataset.Facts

	// Close ends the view. Blobs of its records can no longer be opened.
	Close() error
}

// A Query asks for records.
type Query struct {
	Streams []dataset.Stream // one, or all of a group
	Range   dataset.Range    // from a Splitter; the zero Range is all
	After   dataset.Cursor   // go on after this; see [dataset.Cursor]

	// Prior, if not nil, yields the records of a blob stream as an earlier snapshot
	// has them, in the stream's order. An exporter may use it to avoid reading again
	// what has not changed: it then yields the prior record's *Blob instead of its
	// own. It is read at most once.
	Prior iter.Seq2[dataset.Record, error]
}

// A Splitter can cut a stream into ranges that are read in parallel.
type Splitter interface {
	// Split returns at most n ranges that together are all of s, in order.
	Split(ctx context.Context, s dataset.Stream, n int) ([]dataset.Range, error)
}

// Ranges cuts s into at most n ranges: one if x is not a [Splitter].
func Ranges(ctx context.Context, x Exporter, s dataset.Stream, n int) ([]dataset.Range, error) {
	if sp, ok := x.(Splitter); ok && n > 1 {
		return sp.Split(ctx, s, n)
	}
	return []dataset.Range{{}}, nil
}

// A Counter can ask the source how many records a stream has. That is evidence,
// never proof.
type Counter interface {
	// Count returns the source's own count, or -1 if it has none for s.
	Count(ctx context.Context, s dataset.Stream) (int64, error)
}

// A Snapshotter knows what its view holds still, so that a second reading in the same
// view reads the same data whatever happens at the source. Only that makes an export
// exact: that a directory or a bucket is read twice alike in one view says no more than
// two readings in two views.
type Snapshotter interface {
	// Still reports whether s is part of one consistent snapshot of the source. A MySQL
	// table whose engine has no transactions is not.
	Still(s dataset.Stream) bool
}

// Still reports whether x holds s still: never if it is no [Snapshotter].
func Still(x Exporter, s dataset.Stream) bool {
	sn, ok := x.(Snapshotter)
	return ok && sn.Still(s)
}

// A Getter reads one record by its identity: the third read that settles what two
// reads disagree about.
type Getter interface {
	// Get fails with [io/fs.ErrNotExist] if the source has no such record.
	Get(ctx context.Context, s dataset.Stream, key string, ordinal int) (dataset.Record, error)
}

// A Deleter can delete records at the source. Only purge is handed one.
type Deleter interface {
	// Delete removes r if the source still has it exactly as archived, and nothing else.
	// It fails with [ErrChanged] if the source has it otherwise, with
	// [io/fs.ErrNotExist] if it is gone, with [ErrRetained] if it is locked, with
	// [ErrRefused] if the source's own rules keep it, and with [ErrMarked] if it was
	// deleted only in name.
	Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error
}

// A Rehearser is a [Deleter] that can say beforehand what would come of deletions.
type Rehearser interface {
	// Rehearse begins a rehearsal. It must be closed before the view is.
	Rehearse(ctx context.Context) (Rehearsal, error)
}

// A Rehearsal answers deletions as the source would, those before them done, and the
// source keeps everything.
type Rehearsal interface {
	Deleter
	Close() error
}

// A Target is an exporter that one can fill. Reading back yields each loaded stream
// in that stream's own types and names.
type Target interface {
	Exporter

	// Fidelity says what of s the target cannot carry, before anything is loaded.
	Fidelity(s dataset.Stream) []dataset.Loss

	// Begin prepares an empty target and leaves a marker of test in it. It fails with
	// [ErrNotEmpty] if anything is there.
	Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error

	// Load stores the records of s. What cannot be stored goes to gap, which is safe
	// for concurrent use; Load goes on with the next record.
	Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error

	// Finish makes what needs all data: indexes, foreign keys, sequences.
	Finish(ctx context.Context) error

	// Destroy removes what this test loaded, and only that. It fails with
	// [ErrNotOurs] without the test's marker.
	Destroy(ctx context.Context, test dataset.ID) error
}

// An Unordered is a [Target] that may be filled in any order: it keeps records in none of
// their own, and an archive can be read as it lies, which costs less.
type Unordered interface {
	// AnyOrder reports whether the order in which the records of s are loaded is of no
	// consequence.
	AnyOrder(s dataset.Stream) bool
}

// A Kind is one kind of source or target, as listed in cmd/sallyport.
type Kind struct {
	Name    string   // as in `exporter:`
	Summary string   // one sentence
	Schemes []string // URL schemes that name it: "s3", "postgres"
	Options []Option // what `with:` may hold

	// Snapshots says that views are snapshots (see [Snapshotter]), so that the grade
	// exact may be asked for.
	Snapshots bool

	// Open opens a view of a source. The caller closes it.
	Open func(ctx context.Context, c Config) (Exporter, error)

	// OpenTarget opens a target; nil if the kind cannot be one.
	OpenTarget func(ctx context.Context, c Config) (Target, error)

	// FromURL turns the URL form of a source or target into options, for the command
	// line; nil if there is none.
	FromURL func(rawURL string) (map[string]any, error)
}

// A Config is what a kind is opened with.
type Config struct {
	Service string         // for messages
	Options map[string]any // checked against Kind.Options, defaults filled in
	Log     io.Writer      // for diagnostics of subprocesses; nil discards
	State   string         // a private directory that outlives the run (rotated tokens); empty if there is none

	// Secret resolves a reference (env:NAME, file:PATH, exec:COMMAND) to its value.
	Secret func(ctx context.Context, ref string) (string, error)
}

// An Option is one setting of a kind. One declaration gives parsing, help and the
// reference page.
type Option struct {
	Name     string
	Type     OptionType
	Default  any      // nil if there is none
	Required bool     //
	Enum     []string // allowed values of a text; nil if any
	Help     string   // one sentence
}

// An OptionType is the type of an option's value.
type OptionType string

// The types, with the Go type that Config.Options holds.
const (
	TextOption     OptionType = "text"     // string
	PathOption     OptionType = "path"     // string, a file of this host; absolute, whatever the configuration says
	SecretOption   OptionType = "secret"   // string, a reference for Config.Secret
	BoolOption     OptionType = "bool"     // bool
	IntOption      OptionType = "int"      // int64
	DurationOption OptionType = "duration" // time.Duration
	ListOption     OptionType = "list"     // []string
	MapOption      OptionType = "map"      // map[string]any, checked by the kind
)
