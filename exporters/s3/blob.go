package s3

import (
	"container/list"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/s3conn"
)

const (
	segment    = 8 << 20   // bytes that the first GET of an object asks for
	small      = 256 << 10 // bytes of an object that is read to its end at once, which frees its connection
	heldBytes  = 16 << 20  // of small objects read ahead
	heldAtMost = 128       // answers kept open, or read ahead, for blobs not yet opened
)

// A held keeps what the first GETs of objects delivered until their blobs are opened.
// It is bounded: what has waited longest is dropped and, should its blob be opened
// after all, asked for again. The zero held is empty.
type held struct {
	mu     sync.Mutex
	order  list.List // of *answer, the oldest first
	bytes  int64
	closed bool
}

// An answer is the beginning of an object.
type answer struct {
	body  io.ReadCloser
	n     int64 // bytes of the object that it delivers
	cost  int64 // bytes held in memory
	stop  context.CancelFunc
	place *list.Element // nil once taken
}

func (a *answer) drop() {
	a.body.Close()
	a.stop()
}

// room reports whether n more bytes may be read ahead.
func (h *held) room(n int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes+n <= heldBytes
}

// put keeps a.
func (h *held) put(a *answer) {
	h.mu.Lock()
	var out []*answer
	if h.closed {
		out = append(out, a)
	} else {
		a.place = h.order.PushBack(a)
		h.bytes += a.cost
		for h.order.Len() > heldAtMost || h.bytes > heldBytes && h.order.Len() > 1 {
			out = append(out, h.remove(h.order.Front()))
		}
	}
	h.mu.Unlock()
	for _, a := range out {
		a.drop()
	}
}

func (h *held) remove(e *list.Element) *answer {
	a := h.order.Remove(e).(*answer)
	a.place = nil
	h.bytes -= a.cost
	return a
}

// take returns true if a was still there; it is the caller's then.
func (h *held) take(a *answer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a == nil || a.place == nil {
		return false
	}
	h.remove(a.place)
	return true
}

func (h *held) close() {
	h.mu.Lock()
	h.closed = true
	var out []*answer
	for h.order.Len() > 0 {
		out = append(out, h.remove(h.order.Front()))
	}
	h.mu.Unlock()
	for _, a := range out {
		a.drop()
	}
}

// blob returns the bytes of a state of an object. first, if not nil, is handed to
// whoever opens the blob at 0 first.
func (v *View) blob(o s3conn.Object, ordinal int, first *answer) *dataset.Blob {
	return &dataset.Blob{
		Size: o.Size,
		Open: func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
			if v.closed.Load() {
				return nil, errClosed
			}
			if off < 0 || off > o.Size {
				return nil, s3conn.ErrRange
			}
			if n < 0 || n > o.Size-off {
				n = o.Size - off
			}
			r := &blobReader{v: v, ctx: ctx, o: o, ordinal: ordinal, off: off, end: off + n}
			if off == 0 && v.held.take(first) {
				r.body, r.bodyEnd = first.body, min(first.n, n)
				stop := context.AfterFunc(ctx, first.stop)
				r.release = func() { stop(); first.stop() }
			} else if err := r.next(); err != nil {
				return nil, err
			}
			return r, nil
		},
	}
}

// A blobReader delivers a range of an object: what the first GET brought, then the rest.
type blobReader struct {
	v        *View
	ctx      context.Context // of this read alone
	o        s3conn.Object
	ordinal  int
	off, end int64

	body    io.ReadCloser
	bodyEnd int64 // of what body delivers
	release func()
}

// next opens the rest of the range.
func (r *blobReader) next() error {
	if r.off >= r.end {
		return nil
	}
	body, err := r.v.conn.Get(r.ctx, r.o, r.off, r.end-r.off)
	if err != nil {
		return r.failed(err)
	}
	r.body, r.bodyEnd = body, r.end
	return nil
}

func (r *blobReader) Read(p []byte) (int, error) {
	for {
		if r.off >= r.end {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		if left := r.bodyEnd - r.off; int64(len(p)) > left {
			p = p[:left]
		}
		n, err := r.body.Read(p)
		r.off += int64(n)
		if r.off >= r.bodyEnd {
			r.closeBody()
			err = nil
		}
		if err == io.EOF { // an s3conn.Reader ends early only when its object is shorter than listed
			err = io.ErrUnexpectedEOF
		}
		if n > 0 || err != nil {
			return n, r.failed(err)
		}
	}
}

// failed turns what concerns the object into a gap.
func (r *blobReader) failed(err error) error {
	if err == nil || r.ctx.Err() != nil {
		return err
	}
	if errors.Is(err, s3conn.ErrPrecondition) || errors.Is(err, fs.ErrNotExist) {
		return &dataset.Gap{Stream: objectStream, Key: r.o.Key, Ordinal: r.ordinal, Code: dataset.Unstable,
			Detail: "it changed or was deleted while it was being read"}
	}
	if g := gapOf(err, r.o.Key, r.ordinal); g != nil {
		return g
	}
	return err
}

func (r *blobReader) closeBody() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

func (r *blobReader) Close() error {
	r.closeBody()
	r.off = r.end
	return nil
}
