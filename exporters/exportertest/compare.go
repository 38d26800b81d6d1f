package exportertest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// withheld returns the top-level fields of s that a comparison leaves out.
func withheld(s dataset.Stream, losses []dataset.Loss) map[string]bool {
	out := make(map[string]bool)
	for _, f := range s.Volatile {
		out[f] = true
	}
	for _, l := range losses {
		if l.Field != "" && (l.Stream == "" || l.Stream == s.Name) {
			out[l.Field] = true
		}
	}
	return out
}

// digestOf returns a digest of what two copies of a record must share: the fields of
// Data but those in without, size and SHA-256 of a blob as far as they are known, the
// code of a gap. Numbers in top-level fields count by their decimal value.
func digestOf(r dataset.Record, without map[string]bool) (dataset.Hash, error) {
	h := sha256.New()
	if r.Gap != nil {
		fmt.Fprintf(h, "gap %s", r.Gap.Code)
		return dataset.Hash(h.Sum(nil)), nil
	}
	if err := dataset.CheckObject(r.Data); err != nil {
		return dataset.Hash{}, fmt.Errorf("data: %w", err)
	}
	fields := make(map[string]json.RawMessage)
	for name, value := range dataset.Fields(r.Data) {
		fields[name] = value
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if without[name] {
			continue
		}
		value, err := plain(fields[name])
		if err != nil {
			return dataset.Hash{}, fmt.Errorf("data: field %q: %w", name, err)
		}
		fmt.Fprintf(h, "%q: %s\n", name, value)
	}
	if r.Blob != nil {
		fmt.Fprintf(h, "blob of %d bytes, %s", r.Blob.Size, r.Blob.SHA256)
	}
	return dataset.Hash(h.Sum(nil)), nil
}

// plain returns a canonical form of value in which equal numbers are equal.
func plain(value json.RawMessage) ([]byte, error) {
	if d, ok := dataset.DecimalValue(string(value)); ok {
		return []byte(d), nil
	}
	return dataset.Canonical(nil, value)
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
