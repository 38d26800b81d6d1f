// Package reconcile compares several readings of one stream record by record: a source
// read twice, an archive and its restored copy. It works in constant memory, counts
// duplicates, and names every record that differs.
package reconcile

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/spool"
)

// A Side is one of the things that are compared.
type Side int

// The sides.
const (
	Archived  Side = iota // what the snapshot has, or the first of two readings
	Restored              // what was read back from the target
	SourceNow             // what the source has at the time of the test, or at the second reading
	Sides                 // how many there are
)

var sideNames = [Sides]string{"archive", "restored copy", "source now"}

func (s Side) String() string { return sideNames[s] }

// A Status says how one record compares.
type Status string

// The statuses. Those of a second read at export (Added, Vanished, ChangedDuring,
// Unstable) are recorded in the snapshot; the others come from a comparison.
const (
	OK            Status = "ok"
	Mismatch      Status = "mismatch"              // in both, and not the same
	Missing       Status = "missing"               // in the archive, not in the restored copy
	Extra         Status = "extra"                 // in the restored copy, not in the archive
	Repeated      Status = "repeated"              // more often than in the archive
	Added         Status = "added"                 // only at the source, with evidence that it is newer
	Vanished      Status = "vanished"              // not at the source any more
	ChangedDuring Status = "changed during export" // two reads at export differ
	ChangedSince  Status = "changed since"         // differs at the source, with evidence that it is newer
	Undecided     Status = "undecided"             // differs at the source, without evidence
	Unstable      Status = "unstable"              // differs from itself
	Withheld      Status = "withheld (erased)"     // left out on purpose: it was erased at the source and must not come back
	Unchecked     Status = "unchecked"             // not compared, with a reason
)

// Bad reports whether a status alone makes an exit test fail.
func (s Status) Bad() bool {
	return s == Mismatch || s == Missing || s == Extra || s == Repeated
}

// A Difference names one record that is not ok.
type Difference struct {
	Stream  string              `json:"stream"`
	Key     string              `json:"key"` // raw bytes; for people, escaped elsewhere
	Ordinal int                 `json:"ordinal"`
	Status  Status              `json:"status"`
	Between string              `json:"between"` // the two sides
	Side    Side                `json:"-"`       // that is held against the archive: Restored or SourceNow
	Fields  []dataset.FieldDiff `json:"fields,omitempty"`
	Blob    bool                `json:"blob,omitempty"` // the bytes differ
	Data    json.RawMessage     `json:"-"`              // the record, where it is keyless; see [Comparison.Explain]

	Explained bool `json:"-"` // Fields, Blob and Data were found out

	first, second dataset.Hash // what the archive and the other side have; zero if nothing
	only          bool         // the archive has nothing of that identity
}

// Only reports whether the other side alone has the record.
func (d *Difference) Only() bool { return d.only }

// Repeats reports whether the other side has the record more often than the archive.
func (d *Difference) Repeats() bool { return d.first.IsZero() && !d.only }

// Lacks reports whether the other side does not have the record.
func (d *Difference) Lacks() bool { return d.second.IsZero() }

// A Comparison is the outcome for one stream.
type Comparison struct {
	Stream      string           `json:"stream"`
	Counts      [Sides]int64     `json:"counts"`   // records a side, -1 if it was not read
	Restored    map[Status]int64 `json:"restored"` // archive against restored copy
	Source      map[Status]int64 `json:"source"`   // archive against source now
	Withheld    int64            `json:"withheld"` // volatile field values that were not compared
	Differences []Difference     `json:"-"`        // at most MaxDifferences a side and status; sorted by key and ordinal
}

// A Reconciler compares the sides of one stream record by record, in constant memory:
// every side is scattered over sealed buckets by a keyed hash of the identity, and the
// buckets are joined one by one.
type Reconciler struct {
	Stream         dataset.Stream
	TempDir        string    // empty: the system's
	Exported       time.Time // records of the source that say they are newer are no contradiction
	MaxDifferences int       // how many differences of one side and status are named; all are counted

	// Withhold says which records were erased at the source, so that a restored copy must
	// not have them; nil withholds nothing. On the sides of the archive and of the source
	// they are counted as Withheld and not compared; a restored copy that has one has a
	// record too many. It is called from several goroutines.
	Withhold func(stream, key string) bool

	key     [32]byte
	buckets *spool.Buckets

	mu   sync.Mutex // guards the rest while sides are read
	read [Sides]bool
	out  Comparison

	named map[namedAs]int // differences so far
}

// namedAs is what differences are named up to a limit for: so many changes at a busy
// source never crowd out the one record that is missing.
type namedAs struct {
	side   Side
	status Status
}

// How a side is scattered. A group of streams is compared at once, so that each
// reconciler must make do with little.
const (
	bucketCount  = 256
	bucketMemory = 4 << 20
)

// New returns a reconciler for a stream. The caller closes.
func New(s dataset.Stream, tempDir string, exported time.Time) (*Reconciler, error) {
	r := &Reconciler{Stream: s, TempDir: tempDir, Exported: exported, MaxDifferences: 10_000, named: map[namedAs]int{}}
	rand.Read(r.key[:])
	b, err := spool.NewBuckets(tempDir, bucketCount, bucketMemory)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	r.buckets = b
	r.out = Comparison{Stream: s.Name, Counts: [Sides]int64{-1, -1, -1}, Restored: map[Status]int64{}, Source: map[Status]int64{}}
	return r, nil
}

// Close frees the spool.
func (r *Reconciler) Close() error { return r.buckets.Close() }

// Compare joins what was added.
func (r *Reconciler) Compare(ctx context.Context) (*Comparison, error) {
	for i := range bucketCount {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := r.join(i); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.out.Differences, func(a, b Difference) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), a.Ordinal-b.Ordinal, int(a.Side-b.Side))
	})
	return &r.out, nil
}

// A joined is all that the sides say of one identity.
type joined struct {
	key     string
	ordinal int
	values  [Sides][]dataset.Hash
	gap     [Sides]bool
	newest  int64
}

func (r *Reconciler) join(bucket int) error {
	all := map[dataset.Hash]*joined{}
	for b, err := range r.buckets.Read(bucket) {
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		o, err := parseObservation(b)
		if err != nil {
			return err
		}
		j := all[o.id]
		if j == nil {
			j = &joined{key: o.key, ordinal: o.ordinal}
			all[o.id] = j
		}
		if o.gap {
			j.gap[o.side] = true
		} else {
			j.values[o.side] = append(j.values[o.side], o.value)
		}
		j.newest = max(j.newest, o.time)
	}
	for _, j := range all {
		if r.read[Restored] {
			r.settle(j, Restored, r.out.Restored)
		}
		if r.read[SourceNow] {
			r.settle(j, SourceNow, r.out.Source)
		}
	}
	return nil
}

// settle gives each record of an identity its status. Equal records are matched one by
// one, so that duplicates count.
func (r *Reconciler) settle(j *joined, other Side, counts map[Status]int64) {
	if a, b := j.values[Archived], j.values[other]; len(a) == 1 && len(b) == 1 && a[0] == b[0] {
		counts[OK]++ // as nearly all are
		return
	}
	left := map[dataset.Hash]int{}
	for _, v := range j.values[Archived] {
		left[v]++
	}
	var lacking, unmatched []dataset.Hash
	for _, v := range j.values[other] {
		if left[v] > 0 {
			left[v]--
			counts[OK]++
		} else {
			unmatched = append(unmatched, v)
		}
	}
	for _, v := range j.values[Archived] {
		if left[v] > 0 {
			left[v]--
			lacking = append(lacking, v)
		}
	}
	both := min(len(lacking), len(unmatched))
	for i := range both {
		r.note(j, other, counts, r.differs(j, other), lacking[i], unmatched[i])
	}
	for _, v := range lacking[both:] {
		r.note(j, other, counts, r.lacks(j, other), v, dataset.Hash{})
	}
	for _, v := range unmatched[both:] {
		r.note(j, other, counts, r.exceeds(j, other), dataset.Hash{}, v)
	}
}

// later reports whether the source says that the record is newer than the export.
func (r *Reconciler) later(j *joined) bool { return j.newest > r.Exported.UnixNano() }

func (r *Reconciler) differs(j *joined, other Side) Status {
	switch {
	case other == Restored:
		return Mismatch
	case r.later(j):
		return ChangedSince
	case j.gap[Archived]:
		return Unchecked // a property that the export could not read
	}
	return Undecided
}

func (r *Reconciler) lacks(j *joined, other Side) Status {
	switch {
	case other == Restored:
		return Missing
	case j.gap[other]:
		return Undecided // the source has it and did not deliver it
	}
	return Vanished
}

func (r *Reconciler) exceeds(j *joined, other Side) Status {
	switch {
	case other == Restored && len(j.values[Archived]) > 0:
		return Repeated
	case other == Restored:
		return Extra
	case r.later(j):
		return Added
	case j.gap[Archived]:
		return Unchecked // a gap of the snapshot, and counted as one
	}
	return Undecided
}

func (r *Reconciler) note(j *joined, other Side, counts map[Status]int64, s Status, first, second dataset.Hash) {
	counts[s]++
	as := namedAs{other, s}
	if r.named[as]++; r.named[as] <= r.MaxDifferences {
		r.out.Differences = append(r.out.Differences, Difference{Stream: r.Stream.Name, Key: j.key, Ordinal: j.ordinal,
			Status: s, Side: other, Between: fmt.Sprintf("%s and %s", Archived, other), first: first, second: second, only: len(j.values[Archived]) == 0})
	}
}

// Forget takes a side away, because it could not be read to its end.
func (r *Reconciler) Forget(side Side) {
	r.read[side], r.out.Counts[side] = false, -1
	if side == SourceNow {
		delete(r.out.Source, Withheld)
	}
}
