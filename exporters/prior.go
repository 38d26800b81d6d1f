package exporters

import (
	"iter"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// A Prior walks what an earlier snapshot has of a blob stream, beside a listing of the
// source in the same order. It belongs to one goroutine.
type Prior struct {
	next func() (dataset.Record, error, bool)
	stop func()
	cur  dataset.Record
	ok   bool
	same []dataset.Record
}

// NewPrior walks seq, which is a [Query]'s Prior; nil means that nothing is known. The
// caller calls Stop.
func NewPrior(seq iter.Seq2[dataset.Record, error]) *Prior {
	p := new(Prior)
	if seq != nil {
		p.next, p.stop = iter.Pull2(seq)
	}
	return p
}

// Stop ends the walk.
func (p *Prior) Stop() {
	if p.stop != nil {
		p.stop()
	}
}

// Of returns the records of key, versions from the newest. Keys must rise from call to
// call. The records are valid until the next call.
func (p *Prior) Of(key string) ([]dataset.Record, error) {
	p.same = p.same[:0]
	for p.next != nil {
		if p.ok {
			if p.cur.Key > key {
				break
			}
			if p.cur.Key == key && p.cur.Gap == nil {
				r := p.cur
				r.Data = slices.Clone(r.Data) // valid only until the next step
				p.same = append(p.same, r)
			}
		}
		cur, err, ok := p.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			p.next, p.ok = nil, false
			break
		}
		p.cur, p.ok = cur, true
	}
	return p.same, nil
}
