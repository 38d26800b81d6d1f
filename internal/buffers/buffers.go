// Package buffers lends byte slices for large pieces of data again and again, so that
// they neither become garbage nor wait, as in a sync.Pool, to be dropped by the next
// collection.
package buffers

import "sync"

// A Pool lends buffers whose sizes are multiples of one size. It is safe for concurrent use.
// How much is lent at once is its user's to bound.
type Pool struct {
	least int // smaller ones are made as they are asked for and not kept
	most  int // bytes that are lent and kept together, before what is kept is forgotten

	mu   sync.Mutex
	free map[int][][]byte // by size
	kept int
	lent int
}

// New returns a pool of buffers of multiples of least bytes. It keeps
// buffers as long as they and those that are lent take no more than most bytes.
func New(least, most int) *Pool {
	return &Pool{least: least, most: most, free: map[int][][]byte{}}
}

// Room returns the capacity of a buffer for n bytes.
func (p *Pool) Room(n int) int {
	if 2*n <= p.least {
		return n
	}
	return (n + p.least - 1) / p.least * p.least
}

// Get lends a buffer of n bytes, with whatever they hold.
func (p *Pool) Get(n int) []byte {
	size := p.Room(n)
	if b := p.take(size); b != nil {
		return b[:n]
	}
	return make([]byte, n, size)
}

// take returns a buffer that was kept, or nil, for which buffers of other sizes have
// made room then.
func (p *Pool) take(size int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent += size
	if l := p.free[size]; len(l) > 0 {
		last := len(l) - 1
		b := l[last]
		l[last] = nil // or it would stay after it was given back and forgotten
		p.free[size], p.kept = l[:last], p.kept-size
		return b
	}
	for other, l := range p.free {
		for len(l) > 0 && p.lent+p.kept > p.most {
			l[len(l)-1] = nil
			l, p.kept = l[:len(l)-1], p.kept-other
		}
		p.free[other] = l
	}
	return nil
}

// Put takes back what Get lent. The caller no longer uses it.
func (p *Pool) Put(b []byte) {
	size := cap(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent -= size
	if size >= p.least && p.lent+p.kept+size <= p.most {
		p.free[size] = append(p.free[size], b)
		p.kept += size
	}
}
