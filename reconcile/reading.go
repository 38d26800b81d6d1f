package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/dataset"
)

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
	withheld int64 // values of volatile fields
	erased   int64 // records that are withheld
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
	if counts := g.r.column(g.side); g.erased > 0 {
		counts[Withheld] += g.erased
	}
	g.count, g.withheld, g.erased = 0, 0, 0
}

// column is where records that a side withholds are counted: those of the archive are
// what a restored copy lacks with reason.
func (r *Reconciler) column(side Side) map[Status]int64 {
	if side == SourceNow {
		return r.out.Source
	}
	return r.out.Restored
}

// Add takes one record. Blobs are hashed unless the record says its hash; what a side
// could not deliver counts as missing there, and a gap of the archive explains what the
// source has more.
func (g *Reading) Add(ctx context.Context, rec *dataset.Record) error {
	if g.side != Restored && g.r.Withhold != nil && g.r.Withhold(g.r.Stream.Name, rec.Key) {
		if rec.Gap == nil {
			g.erased++
		}
		return nil
	}
	o, err := g.observe(ctx, rec)
	if err != nil {
		return err
	}
	if !o.gap {
		g.count++
	}
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
	if malformed := (*dataset.SyntaxError)(nil); errors.As(err, &malformed) && g.side == Restored {
		value, err = g.comparer.ID(string(rec.Data), -1), nil // like no archived value: a mismatch with a name
	}
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

// hashers is how many blobs of a side are read and hashed at once.
const hashers = 8

// Add reads a whole side. Records of other streams, which a group yields between, are
// passed over.
func (r *Reconciler) Add(ctx context.Context, side Side, recs iter.Seq2[dataset.Record, error]) error {
	return AddGroup(ctx, side, map[string]*Reconciler{r.Stream.Name: r}, recs)
}

// AddGroup reads a side of several streams that come in one sequence; a record of a
// stream that is not in the map is passed over. Blobs are hashed by several goroutines.
func AddGroup(ctx context.Context, side Side, streams map[string]*Reconciler, recs iter.Seq2[dataset.Record, error]) error {
	readings := make(map[string]*Reading, len(streams))
	pools := make(map[string]*sync.Pool, len(streams))
	var mu sync.Mutex
	var all []*Reading
	for name, r := range streams {
		begin := func() *Reading {
			g := r.Reading(side)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, g)
			return g
		}
		readings[name] = begin()
		pools[name] = &sync.Pool{New: func() any { return begin() }}
	}
	defer func() {
		for _, g := range all {
			g.Done()
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(hashers)
	err := func() error {
		for rec, err := range recs {
			if err != nil {
				return fmt.Errorf("read %s: %w", side, err)
			}
			reading := readings[rec.Stream]
			switch {
			case gctx.Err() != nil:
				return nil // a hasher failed, and says why
			case reading == nil:
			case rec.Gap == nil && rec.Blob != nil && rec.Blob.SHA256.IsZero():
				rec.Data = slices.Clone(rec.Data)
				pool := pools[rec.Stream]
				g.Go(func() error {
					own := pool.Get().(*Reading)
					defer pool.Put(own)
					return own.Add(gctx, &rec)
				})
			default:
				if err := reading.Add(ctx, &rec); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	if err = errors.Join(err, g.Wait()); err != nil {
		return err
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
		if t, err := time.Parse(time.RFC3339, s); err == nil && t.Year() > 1700 && t.Year() < 2200 {
			return t.UnixNano() // which has no other years; 9999 is what people write for never
		}
	}
	return 0
}
