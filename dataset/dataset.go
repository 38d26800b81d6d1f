// Package dataset is Sallyport's vocabulary: the nouns that exporters, archives,
// targets and verifiers share. It imports nothing of ours and does no I/O.
//
// A source offers streams; a stream is a named set of records; a record may own a
// blob; what should be there and is not is a gap.
package dataset

import (
	"context"
	"encoding/json"
	"io"
	"time"
)

// A Stream is a named set of records of one source: a table, a bucket, an endpoint.
type Stream struct {
	Name   string  `json:"name"`            // unique in its source; any UTF-8 text
	Group  string  `json:"group,omitempty"` // streams of one group are read together; empty means alone
	Blobs  bool    `json:"blobs,omitempty"` // records are index lines of blobs (see [Record.Blob])
	Schema *Schema `json:"schema,omitempty"`

	// Volatile names top-level fields of Data whose values a faithful copy need not
	// repeat (version ids, owners). A comparison withholds and counts them.
	Volatile []string `json:"volatile,omitempty"`

	// Keyless is set when records have no identity of their own: a record's key is
	// then the hex SHA-256 of its canonical form, and equal records are only counted.
	// An archive does not keep their ordinals: whoever reads them back sees 0.
	Keyless bool `json:"keyless,omitempty"`

	// Attributes are what only this kind of source understands (a view's definition,
	// a bucket's region). They travel in the descriptor, unread by the engine.
	Attributes json.RawMessage `json:"attributes,omitempty"`
}

// A Record is one row, message or object.
//
// Its identity within the stream is (Key, Ordinal). Key is the object key, or the
// compact JSON array of the primary key's values, or, in a keyless stream, the hex
// SHA-256 of the canonical form; Ordinal counts equal keys: versions of an object
// from the oldest (0), equal rows of a keyless stream in any order.
type Record struct {
	Stream  string
	Key     string // raw bytes as the source has them; not necessarily UTF-8
	Ordinal int

	// Data is one JSON object with the source's own lexemes and key order. It is
	// valid until the next step of the sequence that yielded it.
	Data json.RawMessage

	// Compact says that Data is what [Compact] makes of it: its source wrote and checked
	// every value, so nobody need parse it again.
	Compact bool

	Blob   *Blob   // bytes that belong to the record, or nil
	Gap    *Gap    // what could not be read, instead of Data
	Schema *Schema // set where the stream's schema changes, from this record on
	Cursor Cursor  // if set, everything of the group before it has been yielded
}

// A Blob is bytes that belong to a record.
type Blob struct {
	// Size is the number of bytes, or -1 if unknown until read.
	Size int64

	// Open reads n bytes from off (n < 0: to the end). It may be called from any
	// goroutine until the view closes, and may fail with a *[Gap]. The caller closes.
	Open func(ctx context.Context, off, n int64) (io.ReadCloser, error)

	// SHA256 is the digest of the bytes if the archive already knows it, else zero.
	// It is set on records read from an archive, never by a source.
	SHA256 Hash

	// Archived is the engine's mark on blobs of records it passes to an exporter as
	// prior knowledge. An exporter that finds the bytes unchanged yields the same
	// *Blob; it never looks inside.
	Archived any
}

// A Cursor is an exporter's opaque place in a group of streams. It is good only
// within the view that yielded it unless [Facts.Resumable] says otherwise.
type Cursor string

// A Range is a part of a stream: keys above After up to and including UpTo, in the
// stream's own order. Both ends are opaque outside the exporter that split the
// stream; empty means open. The zero Range is everything.
type Range struct {
	After, UpTo string
}

// Facts are what an exporter learnt about its source while a view was open. They
// are recorded in the snapshot. All of it may be published except Filters, Ignored
// and Notes, which may name source items.
type Facts struct {
	Position  string            `json:"position,omitempty"`  // LSN, GTID set or listing time of the view
	Versions  map[string]string `json:"versions,omitempty"`  // product to version, as the source states it
	Endpoints []Endpoint        `json:"endpoints,omitempty"` // what was talked to
	Filters   []string          `json:"filters,omitempty"`   // what was left out on purpose, one sentence each
	Ignored   []Ignored         `json:"ignored,omitempty"`   // responses that a connector was told to ignore
	Notes     []string          `json:"notes,omitempty"`     // scope and limits, one sentence each
	Vanished  []Vanished        `json:"vanished,omitempty"`  // listed, then gone; proven by a second listing
	Resumable bool              `json:"resumable,omitempty"` // cursors outlive the view
}

// An Endpoint is a server that was talked to: no user information, no query.
type Endpoint struct {
	URL    string `json:"url"`
	Region string `json:"region,omitempty"`
}

// An Ignored counts responses that a connector's definition says to ignore.
type Ignored struct {
	Stream string `json:"stream"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// A Vanished item was listed, answered 404 when read and was absent from a second
// listing: the source no longer has it, so it is no gap.
type Vanished struct {
	Stream  string    `json:"stream"`
	Key     string    `json:"key,omitempty"`
	KeyB64  []byte    `json:"key_b64,omitempty"` // instead of Key if that is not UTF-8
	Ordinal int       `json:"ordinal"`
	Seen    time.Time `json:"seen"` // when the second listing proved it
}

// A Loss is something of a stream that a target cannot carry. It is declared before
// anything is loaded and counted afterwards; a target never alters a value silently.
type Loss struct {
	Stream string `json:"stream"`
	Field  string `json:"field,omitempty"` // empty if it concerns whole records
	Reason string `json:"reason"`          // one sentence for people
}
