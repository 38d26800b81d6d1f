package reconcile

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// How far differences are explained: so many fields of a record, so many bytes of
// records on each side.
const (
	explainedFields = 16
	explainedBytes  = 64 << 20
)

// An identity is what a record is found by.
type identity struct {
	key     string
	ordinal int
}

// A seen is one record of a side, kept to be explained.
type seen struct {
	data []byte
	blob dataset.Hash
}

// Explain names the fields in which records differ, by reading both sides once more: of
// the first limit differences, as far as they fit into memory; Explained says of which.
// Where records are keyless, and their keys tell a person nothing, it keeps the record
// that one side has alone as well.
func (c *Comparison) Explain(ctx context.Context, s dataset.Stream, archived, other iter.Seq2[dataset.Record, error], limit int) error {
	wanted := map[identity][]*Difference{}
	for i := range c.Differences {
		d := &c.Differences[i]
		if limit == 0 {
			break
		}
		if d.Status == Mismatch || s.Keyless && d.Status.Bad() {
			id := identity{d.Key, d.Ordinal}
			wanted[id] = append(wanted[id], d)
			limit--
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	left, err := collect(ctx, wanted, archived)
	if err != nil {
		return fmt.Errorf("explain differences: %w", err)
	}
	right, err := collect(ctx, wanted, other)
	if err != nil {
		return fmt.Errorf("explain differences: %w", err)
	}
	comparer := dataset.NewComparer([32]byte{}, s)
	for id, ds := range wanted {
		a, okA := left[id]
		b, okB := right[id]
		for _, d := range ds {
			switch {
			case d.Status != Mismatch && (okA || okB):
				d.Data, d.Explained = a.data, true
				if !okA {
					d.Data = b.data
				}
			case okA && okB:
				d.Blob, d.Explained = a.blob != b.blob, true
				if d.Fields, _, err = comparer.Diff(a.data, b.data, explainedFields); err != nil {
					d.Fields = []dataset.FieldDiff{{A: a.data, B: b.data}} // what came back is no object: all of it differs
				}
			}
		}
	}
	return nil
}

// collect keeps the records that are wanted, as long as there is room.
func collect(ctx context.Context, wanted map[identity][]*Difference, recs iter.Seq2[dataset.Record, error]) (map[identity]seen, error) {
	found, room := map[identity]seen{}, explainedBytes
	for r, err := range recs {
		if err != nil {
			return nil, err
		}
		id := identity{r.Key, r.Ordinal}
		if wanted[id] == nil || r.Gap != nil {
			continue
		}
		if room -= len(r.Data); room < 0 {
			break
		}
		f := seen{data: slices.Clone(r.Data)}
		if r.Blob != nil {
			if f.blob, err = BlobHash(ctx, r.Blob); err != nil {
				continue // its absence is a difference of its own
			}
		}
		found[id] = f
	}
	return found, nil
}
