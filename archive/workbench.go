package archive

import (
	"context"
	"sync"
)

// slabs are lent to packs. The one that came back last is lent first, and one is made
// only when none is there, so that with a store that is fast enough there are but two.
type slabs struct {
	lent chan struct{} // as many as may be lent at once
	size int64

	mu   sync.Mutex
	free [][]byte
}

func newSlabs(n int, size int64) *slabs {
	return &slabs{lent: make(chan struct{}, n), size: size}
}

func (s *slabs) get(ctx context.Context) ([]byte, error) {
	select {
	case s.lent <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.free) - 1
	if last < 0 {
		return make([]byte, 0, s.size), nil
	}
	b := s.free[last]
	s.free = s.free[:last]
	return b[:0], nil
}

func (s *slabs) put(b []byte) {
	s.mu.Lock()
	s.free = append(s.free, b)
	s.mu.Unlock()
	<-s.lent
}

// A workbench is where one goroutine compresses a member, or a batch of them. There are
// a few, so whoever finds none waits: that bounds the
// memory, however many members come at once.
type workbench struct {
	raw []byte // a frame of tar that is no stretch of the member alone
	z   []byte
}

// benchesOf says how many workbenches there are: one for each core, and one whose frames
// wait to be sealed. Sealing a pack is one goroutine's work and keeps up with no more
// than four.
func benchesOf(cores int) int { return min(cores+1, 4) }

func newBenches(n int) chan *workbench {
	benches := make(chan *workbench, n)
	for range n {
		benches <- new(workbench)
	}
	return benches
}

// frames compresses a member, with its header and padding, into w.z.
func (w *workbench) frames(name string, data []byte) (frames []frameInfo, err error) {
	if w.raw == nil {
		w.raw = make([]byte, 0, frameSize+tarBlock)
	}
	if n := len(data) + len(data)/1024 + 4096; cap(w.z) < n { // no less for bytes that do not shrink
		w.z = make([]byte, 0, max(n, SegmentSize+SegmentSize/512))
	}
	w.z = w.z[:0]
	padding := tarTrailer[:paddedSize(int64(len(data)))-tarBlock-int64(len(data))]
	raw := appendTarHeader(w.raw[:0], name, int64(len(data)))
	for len(data) > 0 || len(raw) > 0 {
		n := min(len(data), frameSize-len(raw))
		switch last := n == len(data); {
		case len(raw) > 0 || last:
			raw = append(raw, data[:n]...)
			if last {
				raw = append(raw, padding...)
			}
		default:
			raw = data[:n] // as it lies there
		}
		data = data[n:]
		before := len(w.z)
		if w.z, err = compress(w.z, raw); err != nil {
			return nil, err
		}
		frames = append(frames, frameInfo{uint32(len(w.z) - before), uint32(len(raw))})
		raw = w.raw[:0]
	}
	return frames, nil
}
