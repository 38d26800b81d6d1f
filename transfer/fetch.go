package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/buffers"
)

// segmentsInFlight bounds the memory for blobs that are being read: so many full
// segments, or as many small blobs as take the same room.
const segmentsInFlight = 6

// A budget lends buffers for segments.
type budget struct {
	weight  *semaphore.Weighted
	buffers *buffers.Pool
}

func newBudget() *budget {
	const room = segmentsInFlight * archive.SegmentSize
	return &budget{semaphore.NewWeighted(room), buffers.New(archive.SegmentSize/8, room)}
}

// get lends a buffer of n bytes, at most a segment. The caller calls put.
func (b *budget) get(ctx context.Context, n int64) ([]byte, error) {
	if err := b.weight.Acquire(ctx, int64(b.buffers.Room(int(n)))); err != nil {
		return nil, err
	}
	return b.buffers.Get(int(n)), nil
}

func (b *budget) put(buf []byte) {
	b.buffers.Put(buf)
	b.weight.Release(int64(cap(buf)))
}

// A fetch is a blob on its way from the source to packs.
type fetch struct {
	entry archive.Entry
	gap   *dataset.Gap
	done  chan struct{} // closed when entry or gap is final
}

// fetch reads a blob segment by segment. What the source cannot deliver is a gap; an
// error is the end of the run.
func (k *sink) fetch(ctx context.Context, f *fetch, b *dataset.Blob) error {
	f.entry.HasBlob = true
	stores, sctx := errgroup.WithContext(ctx) // reading ends when storing fails
	c := &copier{k: k, id: k.w.NewBlob(), blob: b, hash: sha256.New(), stores: stores}
	err := c.copy(sctx)
	fatal := stores.Wait()
	switch {
	case fatal != nil && ctx.Err() == nil:
		return fatal
	case err == nil && fatal == nil:
		f.entry.Size, f.entry.Segments = c.size, c.places
		c.hash.Sum(f.entry.SHA256[:0])
		k.Progress.Blobs.Add(1)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	g := dataset.Gap{Code: dataset.Unreadable, Detail: err.Error()}
	var own *dataset.Gap
	if errors.As(err, &own) {
		g = *own
	}
	g.Stream, g.Key, g.Ordinal = k.stream.Name, f.entry.Key, f.entry.Ordinal
	f.gap = &g
	return nil
}

// A copier copies one blob. While one segment is read and hashed those before it are
// compressed and packed.
type copier struct {
	k      *sink
	id     archive.BlobID
	blob   *dataset.Blob
	hash   hash.Hash
	size   int64
	stores *errgroup.Group // fails where we do, which no gap can describe
	places []*archive.Placement
	mu     sync.Mutex // guards places
}

// copy reads a blob of known size by ranges and one of unknown size in one go.
func (c *copier) copy(ctx context.Context) error {
	if c.blob.Size < 0 {
		return c.stream(ctx)
	}
	for n := 0; c.size < c.blob.Size || c.blob.Size == 0 && n == 0; n++ {
		want := min(archive.SegmentSize, c.blob.Size-c.size)
		body, err := c.blob.Open(ctx, c.size, want)
		if err != nil {
			return err
		}
		got, err := c.segment(ctx, body, n, want)
		if last := c.size == c.blob.Size; err == nil && last {
			err = atEnd(body)
		}
		if err = errors.Join(err, body.Close()); err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%d bytes at offset %d came to an end after %d", want, c.size-got, got)
		}
	}
	return nil
}

// atEnd makes sure that nothing comes after the bytes that were asked for.
func atEnd(body io.Reader) error {
	switch n, err := io.ReadFull(body, make([]byte, 1)); {
	case n > 0:
		return errors.New("more bytes came than the source announced")
	case err != io.EOF:
		return err
	}
	return nil
}

func (c *copier) stream(ctx context.Context) error {
	body, err := c.blob.Open(ctx, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	for n := 0; ; n++ {
		got, err := c.segment(ctx, body, n, archive.SegmentSize)
		if err != nil {
			return err
		}
		if got < archive.SegmentSize {
			return nil
		}
	}
}

// segment reads one segment of at most want bytes, hashes it and stores it.
func (c *copier) segment(ctx context.Context, body io.Reader, n int, want int64) (int64, error) {
	if want == 0 {
		return 0, nil
	}
	buf, err := c.k.budget.get(ctx, want)
	if err != nil {
		return 0, err
	}
	got, err := io.ReadFull(body, buf)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil
	}
	if err != nil || got == 0 {
		c.k.budget.put(buf)
		return int64(got), err
	}
	data := buf[:got]
	c.hash.Write(data)
	c.size += int64(got)
	c.k.Progress.Bytes.Add(int64(got))
	c.mu.Lock()
	c.places = append(c.places, nil)
	c.mu.Unlock()
	c.stores.Go(func() error {
		defer c.k.budget.put(buf)
		at, err := c.k.w.Segment(ctx, c.id, n, data)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.places[n] = at
		return err
	})
	return int64(got), nil
}

// sortRoom is how many bytes of entries are sorted in memory, for each stream of a group.
const sortRoom = 8 << 20

// drain writes the entries of a blob stream in their order. Those of a group's stream
// come in any order and are sorted first.
func (k *sink) drain(ctx context.Context) error {
	if !k.sorted {
		k.unsorted = k.w.Unsorted(k.TempDir, sortRoom)
		defer k.unsorted.Close()
	}
	for f := range k.queue {
		select {
		case <-f.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := k.observe(ctx, f); err != nil {
			return err
		}
		if f.gap != nil {
			k.gap(ctx, *f.gap)
			continue
		}
		write := k.section.Entry
		if !k.sorted {
			write = k.unsorted.Add
		}
		if err := write(ctx, f.entry); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if k.sorted {
		return nil
	}
	return k.writeUnsorted(ctx)
}

// observe takes an entry for the comparison with a second reading.
func (k *sink) observe(ctx context.Context, f *fetch) error {
	if k.first == nil {
		return nil
	}
	r := dataset.Record{Key: f.entry.Key, Ordinal: f.entry.Ordinal, Data: f.entry.Data, Gap: f.gap}
	if f.entry.HasBlob {
		r.Blob = &dataset.Blob{Size: f.entry.Size, SHA256: f.entry.SHA256}
	}
	return k.first.Add(ctx, &r)
}

// writeUnsorted writes what was sorted.
func (k *sink) writeUnsorted(ctx context.Context) error {
	var last archive.Entry
	first := true
	for e, err := range k.unsorted.Sorted(ctx) {
		if err != nil {
			return err
		}
		if !first && last.Key == e.Key && last.Ordinal == e.Ordinal {
			if err := k.repeated(ctx, last, e); err != nil {
				return err
			}
			continue
		}
		if err := k.section.Entry(ctx, e); err != nil {
			return err
		}
		last, first = e, false
	}
	return nil
}

// repeated settles two entries of one identity: the same thing twice is once, and two
// different things are a gap.
func (k *sink) repeated(ctx context.Context, a, b archive.Entry) error {
	if a.SHA256 == b.SHA256 && a.HasBlob == b.HasBlob && bytes.Equal(a.Data, b.Data) {
		return nil
	}
	k.gap(ctx, dataset.Gap{Stream: k.stream.Name, Key: b.Key, Ordinal: b.Ordinal, Code: dataset.DuplicateKey, Detail: "two different blobs claim one key"})
	return nil
}
