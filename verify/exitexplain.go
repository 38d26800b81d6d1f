package verify

import (
	"context"
	"iter"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

// How far differences are explained: so many records, so many fields of each.
const (
	explained       = 1000
	explainedFields = 16
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

// explain names the fields in which records differ, by reading both sides once more.
func (t *exitRun) explain(ctx context.Context, c *reconcile.Comparison, s dataset.Stream, archived, restored iter.Seq2[dataset.Record, error]) error {
	wanted := map[identity]*reconcile.Difference{}
	for i := range c.Differences {
		if d := &c.Differences[i]; d.Status == reconcile.Mismatch && len(wanted) < explained {
			wanted[identity{d.Key, d.Ordinal}] = d
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	left, err := collect(ctx, wanted, archived)
	if err != nil {
		return err
	}
	right, err := collect(ctx, wanted, restored)
	if err != nil {
		return err
	}
	comparer := dataset.NewComparer([32]byte{}, s)
	for id, d := range wanted {
		a, okA := left[id]
		b, okB := right[id]
		if !okA || !okB {
			continue
		}
		d.Blob = a.blob != b.blob
		if d.Fields, _, err = comparer.Diff(a.data, b.data, explainedFields); err != nil {
			d.Fields = []dataset.FieldDiff{{A: a.data, B: b.data}} // what came back is no object: all of it differs
		}
	}
	return nil
}

// collect keeps the records that are wanted.
func collect(ctx context.Context, wanted map[identity]*reconcile.Difference, recs iter.Seq2[dataset.Record, error]) (map[identity]seen, error) {
	found := map[identity]seen{}
	for r, err := range recs {
		if err != nil {
			return nil, err
		}
		id := identity{r.Key, r.Ordinal}
		if wanted[id] == nil || r.Gap != nil {
			continue
		}
		f := seen{data: slices.Clone(r.Data)}
		if r.Blob != nil {
			if f.blob, err = reconcile.BlobHash(ctx, r.Blob); err != nil {
				continue // its absence is a difference of its own
			}
		}
		found[id] = f
	}
	return found, nil
}
