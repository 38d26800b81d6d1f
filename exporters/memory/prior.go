package memory

import (
	"bytes"
	"iter"

	"github.com/dwp/sallyport/dataset"
)

// A prior walks the records of an earlier snapshot beside those of a view. Both are
// in order, so one step of memory suffices.
type prior struct {
	next func() (dataset.Record, error, bool)
	end  func()
	cur  dataset.Record
	ok   bool
}

func newPrior(seq iter.Seq2[dataset.Record, error]) *prior {
	p := &prior{}
	if seq != nil {
		p.next, p.end = iter.Pull2(seq)
	}
	return p
}

func (p *prior) stop() {
	if p.end != nil {
		p.end()
	}
}

// unchanged returns the blob that the earlier snapshot has for r, or nil if it has
// none or r differs.
func (p *prior) unchanged(r dataset.Record) (*dataset.Blob, error) {
	if p.next == nil || r.Blob == nil {
		return nil, nil
	}
	for !p.ok || compare(p.cur, r) < 0 {
		cur, err, ok := p.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			p.next = nil
			return nil, nil
		}
		p.cur, p.ok = cur, true
	}
	if compare(p.cur, r) == 0 && bytes.Equal(p.cur.Data, r.Data) {
		return p.cur.Blob, nil
	}
	return nil, nil
}
