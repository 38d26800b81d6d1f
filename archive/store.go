package archive

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Store keeps immutable objects under names. It can neither overwrite nor delete.
// Names are slash-separated, made by this package alone, of [a-z0-9A-Z._-].
// A Store is safe for concurrent use.
type Store interface {
	// Create stores data under a new name. It fails with [io/fs.ErrExist] if the name
	// is taken, and when it returns nil the bytes are durable. Any other error leaves
	// open whether the object exists.
	Create(ctx context.Context, name string, data []byte) error

	// Open reads n bytes from off; n < 0 reads to the end. It fails with
	// [io/fs.ErrNotExist] if there is no such object and with [ErrNotReadable] if it
	// exists and cannot be read now. The caller closes. On a versioned bucket the
	// oldest version is read.
	Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error)

	// List yields the objects whose names begin with prefix, in byte order of names.
	// On a versioned bucket every version and delete marker comes out, those of one
	// name from the oldest. An error ends the sequence.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// An Info describes a stored object.
type Info struct {
	Name    string
	Size    int64
	Time    time.Time // by the store's clock
	Version string    // empty where the store has no versions
	Marker  bool      // a delete marker
	Later   bool      // not the oldest version of its name: a finding, for names are written once
	Locked  time.Time // retained until, if the store says so in a listing; else zero
}

// A Remover is a Store that can forget. Only the keeper's commands are given one.
type Remover interface {
	Store

	// Remove deletes one version of an object (version "" on stores without versions).
	// It fails with [io/fs.ErrNotExist] if it is gone and with a *[LockedError] if the
	// store retains it.
	Remove(ctx context.Context, name, version string) error
}

// A Clock is a Store that tells its own time: what the collector's patience and the
// time of snapshots rest on.
type Clock interface {
	Now(ctx context.Context) (time.Time, error)
}

// A Prober can find out whether the store keeps the promises that the commit
// protocol needs: atomic create-if-absent and read-after-write.
type Prober interface {
	// Probe fails with [ErrNoConditionalWrites] if Create may overwrite.
	Probe(ctx context.Context) error
}
