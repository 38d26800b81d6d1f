package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/dwp/sallyport/dataset"
)

// Encode writes a public document in the one canonical form: JSON with two-space
// indentation, members in the order of the fields, no HTML escapes and a final line
// feed.
func Encode(v any) ([]byte, error) { return encode(v) }

// Decode accepts only what [Encode] writes.
func Decode(doc []byte, v any) error { return decode(doc, v) }

// RecordName is where a public document of a service lies that belongs to no run: folder
// is one of "holds", "purges" and "erasures".
func RecordName(service, folder string, doc []byte) string {
	return service + "/" + folder + "/" + dataset.Sum(doc).String() + ".json"
}

// Read returns a document or an annex whole, held against the hash in its name if there
// is one. It fails with [fs.ErrNotExist] if there is none and with a *[DamageError] if
// the bytes are others.
func (a *Archive) Read(ctx context.Context, name string) ([]byte, error) {
	b, err := readAll(ctx, a.Store, name, maxList)
	if err != nil {
		return nil, err
	}
	if n := ParseName(name); !n.Hash.IsZero() && dataset.Sum(b) != n.Hash {
		return nil, &DamageError{name, n.Hash, dataset.Sum(b), int64(len(b))}
	}
	return b, nil
}

// PutAnnex stores a sealed annex and returns the hash by which public documents name
// it.
func (a *Archive) PutAnnex(ctx context.Context, service string, sealed []byte) (dataset.Hash, error) {
	if err := createSame(ctx, a.Store, AnnexName(service, sealed), sealed); err != nil {
		return dataset.Hash{}, fmt.Errorf("store annex: %w", err)
	}
	return dataset.Sum(sealed), nil
}

// Annex reads the sealed annex of a hash.
func (a *Archive) Annex(ctx context.Context, service string, h dataset.Hash) ([]byte, error) {
	return a.Read(ctx, AnnexNameOf(service, h))
}

// A Signature is one signature over a document, as the store has it.
type Signature struct {
	Name string // of the object
	Text []byte // armored; nothing in it was verified
}

// Signatures returns all signatures of a document under a namespace. Those too long to
// be any are left out.
func (a *Archive) Signatures(ctx context.Context, service string, document dataset.Hash, namespace string) ([]Signature, error) {
	var list []Signature
	for info, err := range a.Store.List(ctx, signatureFolder(service, document, namespace)) {
		if err != nil {
			return nil, fmt.Errorf("list signatures: %w", err)
		}
		if n := ParseName(info.Name); n.Class != SignatureObject || info.Marker || info.Later {
			continue
		}
		text, err := readAll(ctx, a.Store, info.Name, maxSignature)
		var junk *IntegrityError
		if errors.As(err, &junk) || errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", path.Base(info.Name), err)
		}
		list = append(list, Signature{info.Name, text})
	}
	return list, nil
}

// AddSignature stores one more signature over a document that is in the store.
func (a *Archive) AddSignature(ctx context.Context, service string, document dataset.Hash, namespace string, armored []byte) error {
	if err := createSame(ctx, a.Store, SignatureName(service, document, namespace, armored), armored); err != nil {
		return fmt.Errorf("store signature: %w", err)
	}
	return nil
}
