package retention

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// hashKey is the annex of a hash key of the erasure register.
type hashKey struct {
	Key []byte `json:"hmac_sha256_key"`
}

// An ErasureKey says that a rotation sealed a hash key anew. The key is the same, so
// erasures go on naming its first annex.
type ErasureKey struct {
	head
	Recorded archive.Time `json:"recorded"`
	HashKey  dataset.Hash `json:"hash_key"`  // annex that erasures name
	SealedTo []string     `json:"sealed_to"` // recipients of the other one, sorted
	Annex    dataset.Hash `json:"annex"`     // the same key, sealed to these
}

// hashKey returns the newest hash key that can be opened here, or a new one.
func (o *Office) hashKey(ctx context.Context, service string, r *Register) (dataset.Hash, []byte, error) {
	for _, e := range slices.Backward(r.Erasures) {
		key, err := o.openHashKey(ctx, service, r, e.HashKey)
		if err == nil {
			return e.HashKey, key, nil
		}
		if !errors.Is(err, crypto.ErrNoKey) {
			return dataset.Hash{}, nil, err
		}
	}
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails
	id, err := o.putAnnex(ctx, service, hashKey{key})
	return id, key, err
}

// openHashKey opens a hash key by any of its annexes. It fails with [crypto.ErrNoKey] if no
// identity opens one.
func (o *Office) openHashKey(ctx context.Context, service string, r *Register, id dataset.Hash) ([]byte, error) {
	annexes := []dataset.Hash{id}
	for _, k := range r.keys {
		if k.HashKey == id {
			annexes = append(annexes, k.Annex)
		}
	}
	var refused error
	for _, annex := range annexes {
		var k hashKey
		err := o.annex(ctx, service, annex, &k)
		if errors.Is(err, crypto.ErrNoKey) {
			refused = err
			continue
		}
		if err == nil && len(k.Key) != sha256.Size {
			err = &archive.IntegrityError{Name: archive.AnnexNameOf(service, annex), Err: errors.New("is no hash key of an erasure register")}
		}
		return k.Key, err
	}
	return nil, refused
}

// ResealHashKeys seals the hash keys of the erasure register to o.Seal, unless a document
// says that they are sealed to exactly these recipients already. It returns how many it
// sealed. Without it, whoever has but an identity of today could not restore any more:
// nobody would know what to withhold.
func (o *Office) ResealHashKeys(ctx context.Context, service string) (int, error) {
	r, err := o.Register(ctx, service)
	if err != nil || len(r.Erasures) == 0 {
		return 0, err
	}
	if o.Seal == nil {
		return 0, errors.New("hash keys: there is nobody to seal them to")
	}
	want := slices.Sorted(slices.Values(o.Seal.Recipients()))
	done := map[dataset.Hash]bool{}
	for _, k := range r.keys {
		if slices.Equal(k.SealedTo, want) {
			done[k.HashKey] = true
		}
	}
	n := 0
	for _, e := range r.Erasures {
		if done[e.HashKey] {
			continue
		}
		done[e.HashKey] = true
		key, err := o.openHashKey(ctx, service, r, e.HashKey)
		if err != nil {
			return n, fmt.Errorf("seal hash key: %w", err)
		}
		annex, err := o.putAnnex(ctx, service, hashKey{key})
		if err != nil {
			return n, fmt.Errorf("seal hash key: %w", err)
		}
		k := ErasureKey{head{keyFormat, o.Archive.ID, service}, archive.At(o.now()), e.HashKey, want, annex}
		if _, err := o.put(ctx, service, "erasures", nsErasure, k); err != nil {
			return n, fmt.Errorf("seal hash key: %w", err)
		}
		n++
	}
	return n, nil
}
