package retention

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

const (
	erasureFormat = "sallyport-erasure/1"
	packsFormat   = "sallyport-erasure-packs/1"
	keyFormat     = "sallyport-erasure-key/1"
)

// An Erasure records that records were erased at the source and must not come back. It
// holds keyed hashes of their streams and keys: who has no identity that opens the key
// can neither read them nor try whether somebody is among them.
type Erasure struct {
	head
	Recorded archive.Time   `json:"recorded"`
	HashKey  dataset.Hash   `json:"hash_key"` // annex: 32 bytes sealed to the managed recipients
	Entries  []dataset.Hash `json:"entries"`  // HMAC-SHA256; sorted
	Packs    []dataset.Hash `json:"packs"`    // that hold the records, as far as Named
	Named    bool           `json:"named"`    // the packs were looked for in every snapshot
	Annex    dataset.Hash   `json:"annex"`    // a sealed [ErasureAnnex]
}

// ErasurePacks names the packs that the records of erasures lie in, for one that was
// recorded where nobody could look.
type ErasurePacks struct {
	head
	Recorded archive.Time   `json:"recorded"`
	Erasures []dataset.Hash `json:"erasures"`
	Packs    []dataset.Hash `json:"packs"`
}

// An ErasureAnnex says why.
type ErasureAnnex struct {
	Authority string `json:"authority"`
	Reason    string `json:"reason"`
}

// A Subject is a record that is erased: all versions of a key in a stream.
type Subject struct {
	Stream string
	Key    string
}

// entry is the keyed hash of a stream and a key. The length of the stream's name keeps
// two pairs apart whose texts join to the same.
func entry(key []byte, stream, record string) dataset.Hash {
	m := hmac.New(sha256.New, key)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(stream))))
	m.Write([]byte(stream))
	m.Write([]byte(record))
	return dataset.Hash(m.Sum(nil))
}

// A SignedErasure is an erasure that was found in the store, validly signed.
type SignedErasure struct {
	Erasure
	Hash   dataset.Hash    `json:"hash"`
	Signer crypto.Identity `json:"signer"`
}

// A Register is the erasures of a service.
type Register struct {
	Erasures []SignedErasure // oldest first
	Junk     []error         // what lies among them and is validly signed by nobody who may

	named map[dataset.Hash]bool // those whose packs are known
	keys  []ErasureKey          // hash keys that were sealed anew
}

// Register reads the erasures of a service. What lies among them and is not validly signed
// is none, because an erasure is stored after its signature: it is reported, so that
// nobody can stop restores by writing junk.
func (o *Office) Register(ctx context.Context, service string) (*Register, error) {
	docs, junk, err := tolerant(ctx, o.Archive, service, "erasures")
	if err != nil {
		return nil, err
	}
	r := &Register{Junk: junk, named: map[dataset.Hash]bool{}}
	more := map[dataset.Hash][]dataset.Hash{} // packs, by erasure
	for _, d := range docs {
		if err := o.enter(ctx, service, d, r, more); isJunk(err) {
			r.Junk = append(r.Junk, err)
		} else if err != nil {
			return nil, err
		}
	}
	for i := range r.Erasures {
		r.Erasures[i].Packs = append(r.Erasures[i].Packs, more[r.Erasures[i].Hash]...)
	}
	slices.SortFunc(r.Erasures, func(a, b SignedErasure) int {
		if c := a.Recorded.Compare(b.Recorded.Time); c != 0 {
			return c
		}
		return slices.Compare(a.Hash[:], b.Hash[:])
	})
	return r, nil
}

// enter adds one document to a register.
func (o *Office) enter(ctx context.Context, service string, d stored, r *Register, more map[dataset.Hash][]dataset.Hash) (err error) {
	switch d.format {
	case packsFormat:
		var p ErasurePacks
		if _, err = o.verified(ctx, service, nsErasure, d, &p, &p.head, packsFormat, func() archive.Time { return p.Recorded }); err != nil {
			return err
		}
		for _, e := range p.Erasures {
			r.named[e] = true
			more[e] = append(more[e], p.Packs...)
		}
	case keyFormat:
		var k ErasureKey
		if _, err = o.verified(ctx, service, nsErasure, d, &k, &k.head, keyFormat, func() archive.Time { return k.Recorded }); err != nil {
			return err
		}
		r.keys = append(r.keys, k)
	default:
		e := SignedErasure{Hash: d.hash}
		if e.Signer, err = o.verified(ctx, service, nsErasure, d, &e.Erasure, &e.head, erasureFormat, func() archive.Time { return e.Recorded }); err != nil {
			return err
		}
		if e.Named {
			r.named[e.Hash] = true
		}
		r.Erasures = append(r.Erasures, e)
	}
	return nil
}

// Len returns how many records the register withholds, at most: one that was recorded
// twice under two keys counts twice.
func (r *Register) Len() (n int) {
	for _, e := range r.Erasures {
		n += len(e.Entries)
	}
	return n
}

// Erase records that subjects were erased at the source. snapshots, all un-expired ones
// of the service and unlocked, say which packs must not be reused; nil leaves that for
// [Office.NameErased].
func (o *Office) Erase(ctx context.Context, service string, subjects []Subject, annex ErasureAnnex, snapshots []*archive.Snapshot) (dataset.Hash, error) {
	var none dataset.Hash
	if len(subjects) == 0 || annex.Authority == "" {
		return none, errors.New("an erasure needs records and an authority")
	}
	register, err := o.Register(ctx, service)
	if err != nil {
		return none, err
	}
	id, key, err := o.hashKey(ctx, service, register)
	if err != nil {
		return none, fmt.Errorf("record erasure: %w", err)
	}
	e := Erasure{head: head{erasureFormat, o.Archive.ID, service}, Recorded: archive.At(o.now()), HashKey: id, Packs: []dataset.Hash{}, Named: snapshots != nil}
	entries := map[dataset.Hash]bool{}
	for _, s := range subjects {
		entries[entry(key, s.Stream, s.Key)] = true
	}
	e.Entries = sortedHashes(entries)
	if e.Packs, err = touchedIn(ctx, snapshots, func(stream, k string) bool { return entries[entry(key, stream, k)] }); err != nil {
		return none, fmt.Errorf("record erasure: %w", err)
	}
	if e.Annex, err = o.putAnnex(ctx, service, annex); err != nil {
		return none, fmt.Errorf("record erasure: %w", err)
	}
	h, err := o.put(ctx, service, "erasures", nsErasure, e)
	if err != nil {
		return h, fmt.Errorf("record erasure: %w", err)
	}
	return h, nil
}

func touchedIn(ctx context.Context, snapshots []*archive.Snapshot, match func(stream, key string) bool) ([]dataset.Hash, error) {
	packs := map[dataset.Hash]bool{}
	for _, s := range snapshots {
		list, err := Touched(ctx, s, match)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", s.Run, err)
		}
		for _, h := range list {
			packs[h] = true
		}
	}
	return sortedHashes(packs), nil
}

// Withhold returns the function that says which records must not be restored. It fails
// with [crypto.ErrNoKey] if a hash key cannot be opened: nothing is restored rather than
// too much. Whoever may restore can open it: it is sealed to the managed recipients, to
// those of today once keys were rotated. A nil function means that nothing was erased.
func (o *Office) Withhold(ctx context.Context, service string, r *Register) (func(stream, key string) bool, error) {
	sets := map[dataset.Hash]map[dataset.Hash]bool{} // by hash key
	keys := map[dataset.Hash][]byte{}
	for _, e := range r.Erasures {
		if sets[e.HashKey] == nil {
			key, err := o.openHashKey(ctx, service, r, e.HashKey)
			if err != nil {
				return nil, fmt.Errorf("erasure register: %w", err)
			}
			keys[e.HashKey], sets[e.HashKey] = key, map[dataset.Hash]bool{}
		}
		for _, h := range e.Entries {
			sets[e.HashKey][h] = true
		}
	}
	if len(sets) == 0 {
		return nil, nil
	}
	return func(stream, key string) bool {
		for id, set := range sets {
			if set[entry(keys[id], stream, key)] {
				return true
			}
		}
		return false
	}, nil
}

// NameErased looks in snapshots, all un-expired ones of the service and unlocked, for the
// packs of erasures that were recorded without, and records them. It returns how many
// packs there are; there is nothing to record if every erasure has its packs.
func (o *Office) NameErased(ctx context.Context, service string, snapshots []*archive.Snapshot) (int, error) {
	r, err := o.Register(ctx, service)
	if err != nil {
		return 0, err
	}
	open := &Register{keys: r.keys}
	p := ErasurePacks{head: head{packsFormat, o.Archive.ID, service}, Recorded: archive.At(o.now())}
	for _, e := range r.Erasures {
		if !r.named[e.Hash] {
			open.Erasures = append(open.Erasures, e)
			p.Erasures = append(p.Erasures, e.Hash)
		}
	}
	match, err := o.Withhold(ctx, service, open)
	if err != nil || match == nil {
		return 0, err
	}
	if p.Packs, err = touchedIn(ctx, snapshots, match); err != nil {
		return 0, err
	}
	_, err = o.put(ctx, service, "erasures", nsErasure, p)
	return len(p.Packs), err
}
