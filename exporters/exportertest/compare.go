package exportertest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// A digester makes digests of what two copies of a record must share, as
// [dataset.Comparer] has it, of size and SHA-256 of a blob as far as they are known, and
// of the code of a gap.
type digester map[string]*dataset.Comparer

// newDigester leaves out the fields that a stream calls volatile, and those that losses
// say cannot be carried.
func newDigester(streams []dataset.Stream, losses map[string][]dataset.Loss) digester {
	d := make(digester)
	for _, s := range streams {
		s.Volatile = slices.Clone(s.Volatile)
		for _, l := range losses[s.Name] {
			if l.Field != "" {
				s.Volatile = append(s.Volatile, l.Field)
			}
		}
		d[s.Name] = dataset.NewComparer([32]byte{}, s)
	}
	return d
}

func (d digester) digest(r dataset.Record) (dataset.Hash, error) {
	if r.Gap != nil {
		return dataset.Sum([]byte("gap " + r.Gap.Code)), nil
	}
	var blob dataset.Hash
	if r.Blob != nil {
		blob = dataset.Sum(fmt.Appendf(nil, "%d %s", r.Blob.Size, r.Blob.SHA256))
	}
	c := d[r.Stream]
	if c == nil {
		return dataset.Hash{}, errors.New("was not asked for")
	}
	value, _, err := c.Value(r.Data, blob)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("data: %w", err)
	}
	return value, nil
}

// difference names up to ten records that are not the same in got and want.
func difference(got, want []seen) error {
	wanted := make(map[identity]dataset.Hash, len(want))
	for _, r := range want {
		wanted[r.id] = r.digest
	}
	var errs []error
	note := func(format string, args ...any) {
		if len(errs) < 10 {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	had := make(map[identity]bool, len(got))
	for _, r := range got {
		digest, ok := wanted[r.id]
		switch {
		case had[r.id]:
			note("%v comes twice", r.id)
		case !ok:
			note("%v is extra", r.id)
		case digest != r.digest:
			note("%v is another", r.id)
		}
		had[r.id] = true
	}
	for _, r := range want {
		if !had[r.id] {
			note("%v is missing", r.id)
		}
	}
	return errors.Join(errs...)
}
