package exportertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
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
	fields, err := fieldsOf(r.Data)
	if err != nil {
		return dataset.Hash{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !without[name] {
			fmt.Fprintf(h, "%q: %s\n", name, plain(fields[name]))
		}
	}
	if r.Blob != nil {
		fmt.Fprintf(h, "blob of %d bytes, %s", r.Blob.Size, r.Blob.SHA256)
	}
	return dataset.Hash(h.Sum(nil)), nil
}

// fieldsOf returns the top-level fields of one JSON object. It is strict: nothing may
// follow the object, and no name may come twice.
func fieldsOf(data json.RawMessage) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("data %.80q is no JSON object", data)
	}
	fields := make(map[string]json.RawMessage)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		name, _ := t.(string)
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("data: name %q comes twice", name)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("data: field %q: %w", name, err)
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data: something follows the object")
	}
	return fields, nil
}

// plain returns a form of value in which equal numbers are equal.
func plain(value json.RawMessage) string {
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return string(value)
	}
	text := compact.String()
	if c := text[0]; c != '-' && (c < '0' || c > '9') || len(text) > 100 {
		return text
	}
	d, err := decimal(text)
	if err != nil {
		return text
	}
	return d
}

// decimal returns the one form of the decimal number that text writes: an integer that
// does not end in 0, and a power of ten.
func decimal(text string) (string, error) {
	mantissa, exponent := text, new(big.Int)
	if i := bytes.IndexAny([]byte(text), "eE"); i >= 0 {
		mantissa = text[:i]
		if _, ok := exponent.SetString(text[i+1:], 10); !ok {
			return "", fmt.Errorf("exponent of %q", text)
		}
	}
	if i := bytes.IndexByte([]byte(mantissa), '.'); i >= 0 {
		exponent.Sub(exponent, big.NewInt(int64(len(mantissa)-i-1)))
		mantissa = mantissa[:i] + mantissa[i+1:]
	}
	n, ok := new(big.Int).SetString(mantissa, 10)
	if !ok {
		return "", fmt.Errorf("number %q", text)
	}
	if n.Sign() == 0 {
		return "0", nil
	}
	ten, rest := big.NewInt(10), new(big.Int)
	for {
		q, _ := new(big.Int).QuoRem(n, ten, rest)
		if rest.Sign() != 0 {
			break
		}
		n = q
		exponent.Add(exponent, big.NewInt(1))
	}
	return n.String() + "e" + exponent.String(), nil
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
