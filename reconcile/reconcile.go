// Package reconcile compares several readings of one stream record by record: a source
// read twice, an archive and its restored copy. It works in constant memory, counts
// duplicates, and names every record that differs.
package reconcile

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
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
	Withheld      Status = "withheld"              // left out on purpose, with a reason
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
	Fields  []dataset.FieldDiff `json:"fields,omitempty"`
	Blob    bool                `json:"blob,omitempty"` // the bytes differ
}

// A Comparison is the outcome for one stream.
type Comparison struct {
	Stream      string           `json:"stream"`
	Counts      [Sides]int64     `json:"counts"`   // records a side, -1 if it was not read
	Restored    map[Status]int64 `json:"restored"` // archive against restored copy
	Source      map[Status]int64 `json:"source"`   // archive against source now
	Withheld    int64            `json:"withheld"` // volatile field values that were not compared
	Differences []Difference     `json:"-"`        // at most MaxDifferences of them
}

// A Reconciler compares the sides of one stream record by record, in constant memory:
// every side is scattered over sealed buckets by a keyed hash of the identity, and the
// buckets are joined one by one.
type Reconciler struct {
	Stream         dataset.Stream
	TempDir        string    // empty: the system's
	Exported       time.Time // records of the source that say they are newer are no contradiction
	MaxDifferences int       // how many differences are named; 0 means 10,000; all are counted

	key     [32]byte
	buckets *spool.Buckets

	mu   sync.Mutex // guards the rest while sides are read
	read [Sides]bool
	out  Comparison
}

const bucketCount = 256

// New returns a reconciler for a stream. The caller closes.
func New(s dataset.Stream, tempDir string, exported time.Time) (*Reconciler, error) {
	r := &Reconciler{Stream: s, TempDir: tempDir, Exported: exported, MaxDifferences: 10_000}
	rand.Read(r.key[:])
	b, err := spool.NewBuckets(tempDir, bucketCount, 32<<20)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	r.buckets = b
	r.out = Comparison{Stream: s.Name, Counts: [Sides]int64{-1, -1, -1}, Restored: map[Status]int64{}, Source: map[Status]int64{}}
	return r, nil
}

// Close frees the spool.
func (r *Reconciler) Close() error { return r.buckets.Close() }

// An observation is one record of one side, as the spool has it: side, flags, time,
// identity, value, ordinal, key.
type observation struct {
	side    Side
	time    int64 // of the record's own last change, unix nanoseconds; 0 if it does not say
	id      dataset.Hash
	value   dataset.Hash
	gap     bool
	ordinal int
	key     string
}

func (o *observation) append(dst []byte) []byte {
	flags := byte(o.side)
	if o.gap {
		flags |= 0x80
	}
	dst = append(dst, flags)
	dst = binary.BigEndian.AppendUint64(dst, uint64(o.time))
	dst = append(append(dst, o.id[:]...), o.value[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(o.ordinal))
	return append(dst, o.key...)
}

func parseObservation(b []byte) (o observation, err error) {
	const fixed = 1 + 8 + 32 + 32 + 8
	if len(b) < fixed {
		return o, errors.New("spool: short record")
	}
	o.side, o.gap = Side(b[0]&0x7f), b[0]&0x80 != 0
	o.time = int64(binary.BigEndian.Uint64(b[1:]))
	copy(o.id[:], b[9:])
	copy(o.value[:], b[41:])
	o.ordinal, o.key = int(binary.BigEndian.Uint64(b[73:])), string(b[fixed:])
	return o, nil
}

// A Reading takes the records of one side. Several may take one side at once; each
// belongs to one goroutine.
type Reading struct {
	r        *Reconciler
	side     Side
	comparer *dataset.Comparer
	buf      []byte
	count    int64
	withheld int64
}

// Reading begins to read a side.
func (r *Reconciler) Reading(side Side) *Reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read[side], r.out.Counts[side] = true, max(0, r.out.Counts[side])
	return &Reading{r: r, side: side, comparer: dataset.NewComparer(r.key, r.Stream)}
}

// Done ends a reading.
func (g *Reading) Done() {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	g.r.out.Counts[g.side] += g.count
	g.r.out.Withheld += g.withheld
	g.count, g.withheld = 0, 0
}

// Add takes one record. Blobs are hashed unless the record says its hash; what a side
// could not deliver counts as missing there.
func (g *Reading) Add(ctx context.Context, rec *dataset.Record) error {
	o, err := g.observe(ctx, rec)
	if err != nil {
		return err
	}
	g.count++
	g.buf = o.append(g.buf[:0])
	if err := g.r.buckets.Append(int(o.id[0]), g.buf); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

func (g *Reading) observe(ctx context.Context, rec *dataset.Record) (o observation, err error) {
	o = observation{side: g.side, ordinal: rec.Ordinal, key: rec.Key}
	if g.r.Stream.Keyless {
		o.ordinal = 0
	}
	o.id = g.comparer.ID(o.key, o.ordinal)
	if rec.Gap != nil {
		o.gap = true
		return o, nil
	}
	var blob dataset.Hash
	if rec.Blob != nil {
		if blob, err = BlobHash(ctx, rec.Blob); err != nil {
			var gap *dataset.Gap
			if ctx.Err() == nil && errors.As(err, &gap) {
				o.gap = true
				return o, nil
			}
			return o, fmt.Errorf("read %q of the %s: %w", rec.Key, g.side, err)
		}
	}
	value, withheld, err := g.comparer.Value(rec.Data, blob)
	if err != nil {
		return o, fmt.Errorf("%q of the %s: %w", rec.Key, g.side, err)
	}
	o.value = value
	g.withheld += int64(withheld)
	if g.side == SourceNow {
		o.time = lastChange(rec.Data)
	}
	return o, nil
}

// Add reads a whole side.
func (r *Reconciler) Add(ctx context.Context, side Side, recs iter.Seq2[dataset.Record, error]) error {
	g := r.Reading(side)
	defer g.Done()
	for rec, err := range recs {
		if err != nil {
			return fmt.Errorf("read %s: %w", side, err)
		}
		if rec.Stream != r.Stream.Name {
			continue // of the same group
		}
		if err := g.Add(ctx, &rec); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// BlobHash is the hash that the archive knows, or that of the bytes.
func BlobHash(ctx context.Context, b *dataset.Blob) (h dataset.Hash, err error) {
	if !b.SHA256.IsZero() {
		return b.SHA256, nil
	}
	body, err := b.Open(ctx, 0, -1)
	if err != nil {
		return h, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	if err = errors.Join(err, body.Close()); err == nil && b.Size >= 0 && n != b.Size {
		err = &dataset.Gap{Code: dataset.Unreadable, Detail: fmt.Sprintf("%d bytes of %d", n, b.Size)}
	}
	sum.Sum(h[:0])
	return h, err
}

// lastChange is when a record says it was last changed: what its source calls
// last_modified, updated_at or modified, in RFC 3339.
func lastChange(data []byte) int64 {
	for _, name := range []string{"last_modified", "updated_at", "modified"} {
		raw, ok := dataset.Lookup(data, name)
		if !ok {
			continue
		}
		s, err := dataset.Unquote(raw)
		if err != nil {
			continue
		}
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t.UnixNano()
		}
	}
	return 0
}

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
	left := map[dataset.Hash]int{}
	for _, v := range j.values[Archived] {
		left[v]++
	}
	unmatched := 0
	for _, v := range j.values[other] {
		if left[v] > 0 {
			left[v]--
			counts[OK]++
		} else {
			unmatched++
		}
	}
	lacking := 0
	for _, n := range left {
		lacking += n
	}
	for both := min(lacking, unmatched); both > 0; both-- {
		r.note(j, other, counts, r.differs(j, other))
		lacking, unmatched = lacking-1, unmatched-1
	}
	for ; lacking > 0; lacking-- {
		r.note(j, other, counts, r.lacks(j, other))
	}
	for ; unmatched > 0; unmatched-- {
		r.note(j, other, counts, r.exceeds(j, other))
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
	}
	return Undecided
}

func (r *Reconciler) note(j *joined, other Side, counts map[Status]int64, s Status) {
	counts[s]++
	if len(r.out.Differences) < r.MaxDifferences {
		r.out.Differences = append(r.out.Differences, Difference{Stream: r.Stream.Name, Key: j.key, Ordinal: j.ordinal,
			Status: s, Between: fmt.Sprintf("%s and %s", Archived, other)})
	}
}

// Forget takes a side away, because it could not be read to its end.
func (r *Reconciler) Forget(side Side) {
	r.read[side], r.out.Counts[side] = false, -1
}
