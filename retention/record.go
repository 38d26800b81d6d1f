package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// The namespaces of the documents that this package signs.
const (
	nsHold     = "sallyport-hold"
	nsRelease  = "sallyport-release"
	nsPlan     = "sallyport-plan"
	nsApproval = "sallyport-approval"
	nsLedger   = "sallyport-ledger"
	nsDeletion = "sallyport-deletion"
	nsErasure  = "sallyport-erasure"
)

// A PolicyError says that a rule of deletion forbids what was asked. Nothing was deleted
// by the step that returned it.
type PolicyError struct {
	Code   string // of a closed table, for the audit log: held, not-approved, stale-plan, ...
	Reason string // for people
}

func (e *PolicyError) Error() string { return "refused: " + e.Reason }

func refuse(code, format string, args ...any) error {
	return &PolicyError{code, fmt.Sprintf(format, args...)}
}

// An Office is where records are kept: an archive, who signs, and to whom annexes are
// sealed.
type Office struct {
	Archive *archive.Archive
	Signer  *crypto.Signer
	Seal    *crypto.Sealer   // managed and keeper recipients; nil if nothing is sealed
	Open    *crypto.Opener   // any identity of theirs; nil if nothing is read
	Now     func() time.Time // nil means time.Now
}

func (o *Office) now() time.Time {
	if o.Now != nil {
		return o.Now().UTC()
	}
	return time.Now().UTC()
}

// put signs a document and stores it in a folder of a service.
func (o *Office) put(ctx context.Context, service, folder, namespace string, v any) (dataset.Hash, error) {
	doc, err := archive.Encode(v)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("%s: %w", namespace, err)
	}
	if err := o.Archive.Trust.MaySign(namespace, o.Signer.PublicKey(), o.now()); err != nil {
		return dataset.Hash{}, fmt.Errorf("this key may not sign for %s: %w", namespace, err)
	}
	return dataset.Sum(doc), archive.PutSigned(ctx, o.Archive.Store, o.Signer, service, archive.RecordName(service, folder, doc), namespace, doc)
}

// putAnnex seals v and stores it.
func (o *Office) putAnnex(ctx context.Context, service string, v any) (dataset.Hash, error) {
	if o.Seal == nil {
		return dataset.Hash{}, errors.New("annex: there is nobody to seal it to")
	}
	text, err := json.Marshal(v)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("annex: %w", err)
	}
	sealed, err := o.Seal.Seal(text)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("annex: %w", err)
	}
	return o.Archive.PutAnnex(ctx, service, sealed)
}

// annex opens an annex into v. It fails with [crypto.ErrNoKey] if no identity opens it.
func (o *Office) annex(ctx context.Context, service string, h dataset.Hash, v any) error {
	sealed, err := o.Archive.Annex(ctx, service, h)
	if err != nil {
		return fmt.Errorf("annex %s: %w", h, err)
	}
	if o.Open == nil {
		return fmt.Errorf("annex %s: %w", h, crypto.ErrNoKey)
	}
	text, err := o.Open.Open(sealed)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return fmt.Errorf("annex %s: %w", h, err)
	}
	return nil
}

// A head is what every document of this package begins with.
type head struct {
	Format  string     `json:"format"`
	Store   dataset.ID `json:"store"`
	Service string     `json:"service"`
}

func (h head) check(a *archive.Archive, service, format string) error {
	switch {
	case h.Format != format:
		return fmt.Errorf("format %q is not one this version reads", h.Format)
	case h.Store != a.ID:
		return fmt.Errorf("is a document of another store, %s", h.Store)
	case h.Service != service:
		return fmt.Errorf("is a document of another service, %s", h.Service)
	}
	return nil
}

// A stored document is one that was found in a folder.
type stored struct {
	name   string
	hash   dataset.Hash
	doc    []byte
	format string
}

// folder reads all documents of a folder, not yet verified. Every one must be whole.
func folder(ctx context.Context, a *archive.Archive, service, name string) ([]stored, error) {
	list, junk, err := tolerant(ctx, a, service, name)
	if err == nil && len(junk) > 0 {
		err = junk[0]
	}
	return list, err
}

// tolerant is folder where junk may be passed over: it comes back, named.
func tolerant(ctx context.Context, a *archive.Archive, service, name string) (list []stored, junk []error, err error) {
	for info, err := range a.Store.List(ctx, service+"/"+name+"/") {
		if err != nil {
			return nil, nil, fmt.Errorf("list %s of %s: %w", name, service, err)
		}
		n := archive.ParseName(info.Name)
		if info.Later || n.Class == archive.Junk {
			continue // the oldest version counts; a check reports the others
		}
		d, err := read(ctx, a, info)
		switch {
		case isJunk(err):
			junk = append(junk, err)
		case err != nil:
			return nil, nil, fmt.Errorf("read %s: %w", info.Name, err)
		default:
			list = append(list, *d)
		}
	}
	return list, junk, nil
}

// isJunk reports whether an error says that stored bytes are not what they should be, as
// opposed to that they could not be read.
func isJunk(err error) bool {
	var damage *archive.DamageError
	var integrity *archive.IntegrityError
	return errors.As(err, &damage) || errors.As(err, &integrity)
}

func read(ctx context.Context, a *archive.Archive, info archive.Info) (*stored, error) {
	if info.Marker {
		return nil, &archive.IntegrityError{Name: info.Name, Err: errors.New("was deleted")}
	}
	doc, err := a.Read(ctx, info.Name)
	if errors.Is(err, fs.ErrNotExist) {
		err = &archive.IntegrityError{Name: info.Name, Err: errors.New("is listed and not there")}
	}
	if err != nil {
		return nil, err
	}
	var f struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(doc, &f); err != nil {
		return nil, &archive.IntegrityError{Name: info.Name, Err: err}
	}
	return &stored{info.Name, archive.ParseName(info.Name).Hash, doc, f.Format}, nil
}
