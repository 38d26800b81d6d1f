package spool

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"sync"
)

// Buckets are numbered heaps of records. They are safe for concurrent use until Close.
type Buckets struct {
	f     *file
	chunk int // bytes of a bucket that are gathered before they are written
	all   []bucket
}

type bucket struct {
	mu    sync.Mutex
	tail  []byte // not yet written
	refs  []ref
	count int64
	err   error // of the first failed write: records are missing since
}

// NewBuckets returns n empty buckets that gather at most about memory bytes before
// they write to a file in dir (empty: the system's temporary directory). A record
// larger than a bucket's share is gathered whole. The caller closes.
func NewBuckets(dir string, n int, memory int64) (*Buckets, error) {
	if n < 1 {
		return nil, fmt.Errorf("spool: %d buckets", n)
	}
	f, err := newFile(dir)
	if err != nil {
		return nil, err
	}
	return &Buckets{f: f, chunk: int(min(max(memory/int64(n), 4<<10), 256<<10)), all: make([]bucket, n)}, nil
}

// Append puts a copy of record into a bucket, numbered from 0. After an error the
// bucket is incomplete, and takes and yields nothing but that error.
func (b *Buckets) Append(i int, record []byte) error {
	k := &b.all[i]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	k.tail = appendBytes(k.tail, record)
	k.count++
	if len(k.tail) < b.chunk {
		return nil
	}
	r, err := b.f.write(k.tail)
	if err != nil {
		k.err = err
		return err
	}
	k.refs = append(k.refs, r)
	if k.tail = k.tail[:0]; cap(k.tail) > 2*b.chunk {
		k.tail = nil // do not keep the room that one large record took
	}
	return nil
}

// Len returns the number of records in a bucket.
func (b *Buckets) Len(i int) int64 {
	k := &b.all[i]
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// Read yields the records that were in a bucket when it was called, in the order they
// came. A record is valid until the next step. An error ends the sequence; without one
// no record is missing.
func (b *Buckets) Read(i int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		k := &b.all[i]
		k.mu.Lock()
		refs, tail, count, err := slices.Clip(k.refs), bytes.Clone(k.tail), k.count, k.err
		k.mu.Unlock()
		var buf []byte
		for n := 0; n <= len(refs) && err == nil; n++ {
			chunk := tail
			if n < len(refs) {
				if chunk, err = b.f.read(refs[n], buf); err != nil {
					break
				}
				buf = chunk
			}
			for len(chunk) > 0 {
				var record []byte
				if record, chunk, err = cutBytes(chunk); err != nil {
					break
				}
				if count--; !yield(record, nil) {
					return
				}
			}
		}
		if err == nil && count != 0 {
			err = fmt.Errorf("spool: bucket %d lacks %d records", i, count)
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// Close forgets the records and frees their room.
func (b *Buckets) Close() error { return b.f.close() }
