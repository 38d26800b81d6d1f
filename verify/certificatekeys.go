package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// keys tests which identity opens which run key of the snapshot, and reads from the
// signed statements to whom they are sealed.
func (b *builder) keys(ctx context.Context, p *Predicate) error {
	p.Keys = KeyTest{Recipients: []string{}, Managed: b.Recipients.Recipients(), Keys: []KeyResult{}}
	if len(b.Identities) == 0 {
		return nil
	}
	for _, k := range b.Snapshot.Manifest.Keys {
		r, sealedTo, err := b.key(ctx, k)
		if err != nil {
			return fmt.Errorf("test run key %s: %w", k.ID, err)
		}
		p.Keys.Keys = append(p.Keys.Keys, r)
		p.Keys.Recipients = append(p.Keys.Recipients, sealedTo...)
	}
	slices.Sort(p.Keys.Recipients)
	p.Keys.Recipients = slices.Compact(p.Keys.Recipients)
	return nil
}

// key tests one run key by all of its sealed files. Junk beside them is passed over.
func (b *builder) key(ctx context.Context, k archive.KeyRef) (r KeyResult, sealedTo []string, err error) {
	r = KeyResult{ID: k.ID, Role: k.Role, Outcome: Fail, OpenedBy: []string{}}
	for info, err := range b.Archive.Store.List(ctx, b.Snapshot.Service+"/keys/"+k.ID.String()+"/") {
		if err != nil {
			return r, nil, fmt.Errorf("list keys: %w", err)
		}
		n := archive.ParseName(info.Name)
		if info.Later || info.Marker || n.Class != archive.KeyObject && n.Class != archive.StatementObject {
			continue
		}
		doc, err := readObject(ctx, b.Archive.Store, info.Name, 1<<20)
		var junk *archive.IntegrityError
		switch {
		case errors.As(err, &junk), errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return r, nil, err
		case n.Class == archive.KeyObject:
			b.open(&r, k, doc)
			continue
		}
		d, err := b.Archive.Parse(info.Name, doc)
		if err == nil {
			_, err = b.Archive.Verify(ctx, b.Snapshot.Service, d.Namespace, doc, d.At)
		}
		if errors.As(err, &junk) || err == nil && d.Statement == nil {
			continue
		}
		if err == nil {
			sealedTo = append(sealedTo, d.Statement.SealedTo...)
		} else if ctx.Err() != nil {
			return r, nil, err
		}
	}
	slices.Sort(r.OpenedBy)
	r.OpenedBy = slices.Compact(r.OpenedBy)
	return r, sealedTo, nil
}

// open tries every identity on a sealed key.
func (b *builder) open(r *KeyResult, k archive.KeyRef, sealed []byte) {
	for _, id := range b.Identities {
		if _, err := crypto.OpenRunKey(id.Opener, sealed, k.ID); err != nil {
			continue
		}
		r.Outcome = Pass
		if public := id.Opener.Recipients(); len(public) > 0 {
			r.OpenedBy = append(r.OpenedBy, public...)
		} else {
			r.OpenedBy = append(r.OpenedBy, text(id.Name))
		}
	}
}

// readObject reads a whole object of at most limit bytes.
func readObject(ctx context.Context, st archive.Store, name string, limit int64) ([]byte, error) {
	r, err := st.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, &archive.IntegrityError{Name: name, Err: fmt.Errorf("is longer than %d bytes", limit)}
	}
	if n := archive.ParseName(name); !n.Hash.IsZero() && n.Hash != dataset.Sum(b) {
		return nil, &archive.IntegrityError{Name: name, Err: &archive.DamageError{Name: name, Want: n.Hash, Got: dataset.Sum(b), Size: int64(len(b))}}
	}
	return b, nil
}
