package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"time"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// ErrNoStore says that a place is not a Sallyport store.
var ErrNoStore = errors.New("no Sallyport store here")

// An Archive is an opened store together with the signers that its reader trusts. It
// is safe for concurrent use.
type Archive struct {
	Store Store
	ID    dataset.ID       // from the signed store document
	Trust *crypto.Verifier // the reader's own allowed signers
}

// Init makes an empty place a store. It fails with [fs.ErrExist] if it is one already.
func Init(ctx context.Context, st Store, signer *crypto.Signer, now time.Time) (dataset.ID, error) {
	if pr, ok := st.(Prober); ok {
		if err := pr.Probe(ctx); err != nil {
			return "", err
		}
	}
	if _, err := readAll(ctx, st, StoreName, maxDocument); err == nil {
		return "", fmt.Errorf("%s: %w", StoreName, fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := dataset.NewID()
	doc, err := encode(StoreDocument{Format: storeFormat, ID: id, Created: At(now)})
	if err != nil {
		return "", err
	}
	return id, PutSigned(ctx, st, signer, "", StoreName, nsStore, doc)
}

// Open reads and verifies the store document.
func Open(ctx context.Context, st Store, trust *crypto.Verifier) (*Archive, error) {
	doc, err := readAll(ctx, st, StoreName, maxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoStore
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", StoreName, err)
	}
	var d StoreDocument
	if err := decode(doc, &d); err != nil {
		return nil, &IntegrityError{StoreName, err}
	}
	if d.Format != storeFormat {
		return nil, &IntegrityError{StoreName, errFormat(d.Format)}
	}
	a := &Archive{Store: st, ID: d.ID, Trust: trust}
	if _, err := a.Verify(ctx, "", nsStore, doc, d.Created.Time); err != nil {
		return nil, fmt.Errorf("%s: %w", StoreName, err)
	}
	return a, nil
}

// PutSigned stores a signature and then the document that it signs: whoever crashes
// in between leaves a signature of nothing, never an unsigned document. It fails with
// [fs.ErrExist] if other bytes have the document's name.
func PutSigned(ctx context.Context, st Store, signer *crypto.Signer, service, name, namespace string, doc []byte) error {
	sig, err := signer.Sign(namespace, doc)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	if err := createSame(ctx, st, SignatureName(service, dataset.Sum(doc), namespace, sig), sig); err != nil {
		return fmt.Errorf("store signature of %s: %w", name, err)
	}
	if err := createSame(ctx, st, name, doc); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// Verify returns who signed doc under namespace, trying each signature that the store
// has of it. Signatures by strangers are passed over; if none is good it fails with an
// [IntegrityError].
func (a *Archive) Verify(ctx context.Context, service, namespace string, doc []byte, at time.Time) (crypto.Identity, error) {
	h := dataset.Sum(doc)
	var why []error
	for info, err := range a.Store.List(ctx, signatureFolder(service, h, namespace)) {
		if err != nil {
			return crypto.Identity{}, fmt.Errorf("list signatures: %w", err)
		}
		n := ParseName(info.Name)
		if n.Class != SignatureObject || info.Marker || info.Later {
			continue
		}
		sig, err := readAll(ctx, a.Store, info.Name, maxSignature)
		var junk *IntegrityError
		if errors.As(err, &junk) || errors.Is(err, fs.ErrNotExist) {
			why = append(why, err) // what a stranger put there must not hide a good one
			continue
		} else if err != nil {
			return crypto.Identity{}, fmt.Errorf("read %s: %w", info.Name, err)
		}
		id, err := a.Trust.Verify(namespace, doc, sig, at)
		if err == nil {
			return id, nil
		}
		why = append(why, fmt.Errorf("%s: %w", info.Name, err))
	}
	if len(why) == 0 {
		why = []error{errors.New("no signature")}
	}
	return crypto.Identity{}, &IntegrityError{"document " + h.String(), errors.Join(why...)}
}

const maxSignature = 16 << 10

// readAll reads a whole object, which must not be longer than limit.
func readAll(ctx context.Context, st Store, name string, limit int64) ([]byte, error) {
	r, err := st.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	err = errors.Join(err, r.Close())
	if err == nil && int64(len(b)) > limit {
		err = &IntegrityError{name, fmt.Errorf("is longer than %d bytes", limit)}
	}
	return b, err
}

// Services lists the services that have anything in the store, sorted.
func (a *Archive) Services(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	for info, err := range a.Store.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("list store: %w", err)
		}
		if n := ParseName(info.Name); n.Class == IntentObject || n.Class == DecisionObject {
			seen[n.Service] = true
		}
	}
	names := make([]string, 0, len(seen))
	for s := range seen {
		names = append(names, s)
	}
	sort.Strings(names)
	return names, nil
}

// An IntegrityError says that something stored is not what it should be.
type IntegrityError struct {
	Name string // the object, or the document it is about
	Err  error
}

func (e *IntegrityError) Error() string { return e.Name + ": " + e.Err.Error() }
func (e *IntegrityError) Unwrap() error { return e.Err }

// A DamageError reports stored bytes that are not the bytes that were named.
type DamageError struct {
	Name      string
	Want, Got dataset.Hash
	Size      int64 // what was read
}

func (e *DamageError) Error() string {
	kind := e.Name
	if n := ParseName(e.Name); n.Class == PackObject {
		kind = "pack " + n.Hash.String()
	}
	return fmt.Sprintf("%s is damaged: its %d bytes have sha256 %s", kind, e.Size, e.Got)
}
