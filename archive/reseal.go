package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// OpenKey opens a run key by any of its sealed files, and fails with [crypto.ErrNoKey]
// if the identities open none.
func (a *Archive) OpenKey(ctx context.Context, service string, k KeyRef, o *crypto.Opener) (*crypto.Opener, error) {
	return a.openKey(ctx, service, k, o)
}

// A SignedStatement is a statement about a run key that is validly signed.
type SignedStatement struct {
	Statement
	Hash   dataset.Hash
	Signer crypto.Identity
}

// Statements returns the validly signed statements about a run key, by hash. Others count
// for nothing here; a check reports them.
func (a *Archive) Statements(ctx context.Context, service string, id dataset.Hash) ([]SignedStatement, error) {
	var list []SignedStatement
	for info, err := range a.Store.List(ctx, service+"/keys/"+id.String()+"/") {
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		if n := ParseName(info.Name); n.Class != StatementObject || info.Later || info.Marker {
			continue
		}
		d, doc, err := a.document(ctx, service, info.Name)
		var integrity *IntegrityError
		if errors.As(err, &integrity) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", info.Name, err)
		}
		list = append(list, SignedStatement{*d.Statement, dataset.Sum(doc), d.Signer})
	}
	return list, nil
}

// Reseal seals a run key to other recipients, beside the files that are there, with a
// statement that replaces the present one. It returns false if the key is sealed to
// exactly these already, by a statement of the same signer or a file that o opens. The
// new file is read back, and opened if o holds an identity of one of the recipients.
func (a *Archive) Reseal(ctx context.Context, signer *crypto.Signer, service string, k KeyRef, o *crypto.Opener, to *crypto.Sealer) (bool, error) {
	want := sortedRecipients(to)
	statements, err := a.Statements(ctx, service, k.ID)
	if err != nil {
		return false, err
	}
	replaced := map[dataset.Hash]bool{}
	for _, s := range statements {
		replaced[s.Replaces] = true
	}
	var last *SignedStatement
	var secret []byte
	for i, s := range statements {
		if replaced[s.Hash] {
			continue
		}
		sealed, err := a.Read(ctx, keyName(service, k.ID, s.SHA256))
		if err != nil {
			continue // what another statement says may still be there
		}
		_, cannot := crypto.OpenRunKey(o, sealed, k.ID) // what is inside must be this key
		if slices.Equal(s.SealedTo, want) && (cannot == nil || s.Signer.Key == signer.PublicKey()) {
			return false, nil
		}
		if cannot == nil && last == nil {
			last = &statements[i]
			if secret, err = o.Open(sealed); err != nil {
				return false, fmt.Errorf("open run key: %w", err)
			}
		}
	}
	if last == nil {
		return false, fmt.Errorf("run key %s: %w", k.ID, crypto.ErrNoKey)
	}
	defer clear(secret)
	sealed, err := to.Seal(secret)
	if err != nil {
		return false, fmt.Errorf("seal run key: %w", err)
	}
	name := keyName(service, k.ID, dataset.Sum(sealed))
	if err := createSame(ctx, a.Store, name, sealed); err != nil {
		return false, fmt.Errorf("store run key: %w", err)
	}
	back, err := a.Read(ctx, name)
	if err != nil {
		return false, fmt.Errorf("read run key back: %w", err)
	}
	if slices.ContainsFunc(o.Recipients(), func(r string) bool { return slices.Contains(want, r) }) {
		if _, err := crypto.OpenRunKey(o, back, k.ID); err != nil {
			return false, fmt.Errorf("open run key again: %w", err)
		}
	}
	doc, err := encode(Statement{Format: statementFormat, Store: a.ID, Service: service, Run: k.Run, Role: k.Role,
		Recipient: last.Recipient, SealedTo: want, SHA256: dataset.Sum(sealed), Replaces: last.Hash})
	if err != nil {
		return false, err
	}
	return true, PutSigned(ctx, a.Store, signer, service, StatementName(service, k.ID, dataset.Sum(doc)), nsKeys, doc)
}

// Superseded returns the sealed files of a run key, every version of them, that were
// replaced, directly or through others, by a statement whose signer may sign under a
// namespace and whose own file is there and whole; and those from before a moment about
// which there is no statement, because the rotation that wrote them died. Nothing is
// superseded unless there is such a statement.
func (a *Archive) Superseded(ctx context.Context, service string, id dataset.Hash, namespace string, before time.Time) ([]Info, error) {
	statements, err := a.Statements(ctx, service, id)
	if err != nil {
		return nil, err
	}
	byHash := map[dataset.Hash]*SignedStatement{}
	stated := map[dataset.Hash]bool{}
	for i, s := range statements {
		byHash[s.Hash], stated[s.SHA256] = &statements[i], true
	}
	obsolete := map[dataset.Hash]bool{}
	for _, s := range statements {
		if s.Replaces.IsZero() || !a.Trust.Allows(namespace, s.Signer.Key) {
			continue
		}
		if _, err := a.Read(ctx, keyName(service, id, s.SHA256)); errors.Is(err, fs.ErrNotExist) {
			continue // it was replaced itself
		} else if err != nil {
			return nil, err
		}
		// Statements name each other by hash, so they cannot go round in a circle.
		for old := byHash[s.Replaces]; old != nil; old = byHash[old.Replaces] {
			if old.SHA256 != s.SHA256 {
				obsolete[old.SHA256] = true
			}
		}
	}
	var infos []Info
	for info, err := range a.Store.List(ctx, service+"/keys/"+id.String()+"/") {
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		n := ParseName(info.Name)
		orphan := len(obsolete) > 0 && !stated[n.Hash] && info.Time.Before(before)
		if n.Class == KeyObject && (obsolete[n.Hash] || orphan) {
			infos = append(infos, info)
		}
	}
	return infos, nil
}
