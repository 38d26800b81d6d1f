package retention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// drain reads a blob to its end.
func drain(ctx context.Context, b *dataset.Blob) error {
	body, err := b.Open(ctx, 0, -1)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return errors.Join(err, body.Close())
}

// A Rotation seals run keys to the present recipients. It touches no pack, and takes
// nothing back: whoever had an identity that opened a key may have kept the key, or a
// copy of the sealed file. Rotation is not revocation.
type Rotation struct {
	Archive *archive.Archive
	Signer  *crypto.Signer
	Open    *crypto.Opener // opens the keys as they are sealed now
	Data    *crypto.Sealer // the present recipients
	Index   *crypto.Sealer // more of them for index keys; may be nil
	Log     Log
	Now     func() time.Time
	OnKey   func(key dataset.Hash, done bool) // done is false for one that was sealed to them already; one call at a time; may be nil
}

// A Rotated says what a rotation did.
type Rotated struct {
	Keys     int // of un-expired snapshots
	Resealed int
	Already  int // sealed to exactly the present recipients
}

// Run rotates the keys of a service. Cut short, it goes on where it was when it is run
// again. Each sealed file is read back from the store and, if the identity at hand is
// among the recipients, opened.
func (r *Rotation) Run(ctx context.Context, service string) (*Rotated, error) {
	keys, err := keysOf(ctx, r.Archive, service)
	if err != nil {
		return nil, err
	}
	out := &Rotated{Keys: len(keys)}
	if len(keys) == 0 {
		return out, nil
	}
	e := audit.NewEvent(audit.KeyChange, audit.Intent, r.Now())
	e.Service, e.Code, e.Counts = service, "rotate", map[string]int64{"keys": int64(len(keys))}
	err = act(ctx, r.Log, e, r.Now, func() (map[string]int64, error) {
		err := r.all(ctx, service, keys, out)
		return map[string]int64{"resealed": int64(out.Resealed), "already": int64(out.Already)}, err
	})
	return out, err
}

// all seals the keys, a few at a time: most of the time goes into waiting for the store.
func (r *Rotation) all(ctx context.Context, service string, keys []archive.KeyRef, out *Rotated) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, k := range keys {
		g.Go(func() error {
			to := r.Data
			if k.Role == archive.IndexRole && r.Index != nil {
				to = to.Join(r.Index)
			}
			done, err := r.Archive.Reseal(gctx, r.Signer, service, k, r.Open, to)
			if err != nil {
				return fmt.Errorf("key %s: %w", k.ID, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if done {
				out.Resealed++
			} else {
				out.Already++
			}
			if r.OnKey != nil {
				r.OnKey(k.ID, done)
			}
			return nil
		})
	}
	return g.Wait()
}

// keysOf returns the keys that un-expired snapshots of a service need, each once, by id.
func keysOf(ctx context.Context, a *archive.Archive, service string) ([]archive.KeyRef, error) {
	all, err := a.Snapshots(ctx, service)
	if err == nil && len(all.Bad) > 0 {
		err = errors.Join(all.Bad...)
	}
	if err != nil {
		return nil, err
	}
	byID := map[dataset.Hash]archive.KeyRef{}
	for _, d := range all.All {
		for _, k := range d.Manifest.Keys {
			byID[k.ID] = k
		}
	}
	list := make([]archive.KeyRef, 0, len(byID))
	for _, k := range byID {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b archive.KeyRef) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list, nil
}

// A KeyTest says who opens one run key.
type KeyTest struct {
	Key       archive.KeyRef  `json:"key"`
	Snapshots []archive.RunID `json:"snapshots"` // un-expired, that need it
	Opened    []string        `json:"opened"`    // names of the identities that opened it
	SealedTo  []string        `json:"sealed_to"` // by the signed statements
}

// TestKeys tries every identity on every key that un-expired snapshots of a service need.
// What opens a key is proven by opening it; statements are only what somebody said.
func TestKeys(ctx context.Context, a *archive.Archive, service string, identities []verify.Identity) ([]KeyTest, error) {
	all, err := a.Snapshots(ctx, service)
	if err == nil && len(all.Bad) > 0 {
		err = errors.Join(all.Bad...)
	}
	if err != nil {
		return nil, err
	}
	keys, err := keysOf(ctx, a, service)
	if err != nil {
		return nil, err
	}
	tests := make([]KeyTest, 0, len(keys))
	for _, k := range keys {
		t := KeyTest{Key: k, Snapshots: []archive.RunID{}, Opened: []string{}}
		for _, d := range all.All {
			if slices.ContainsFunc(d.Manifest.Keys, func(o archive.KeyRef) bool { return o.ID == k.ID }) {
				t.Snapshots = append(t.Snapshots, d.Run)
			}
		}
		for _, id := range identities {
			switch _, err := a.OpenKey(ctx, service, k, id.Opener); {
			case err == nil:
				t.Opened = append(t.Opened, id.Name)
			case !errors.Is(err, crypto.ErrNoKey):
				return nil, fmt.Errorf("key %s with %s: %w", k.ID, id.Name, err)
			}
		}
		statements, err := a.Statements(ctx, service, k.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range statements {
			t.SealedTo = append(t.SealedTo, s.SealedTo...)
		}
		slices.Sort(t.SealedTo)
		t.SealedTo = slices.Compact(t.SealedTo)
		tests = append(tests, t)
	}
	return tests, nil
}

// removeSuperseded removes the sealed files of run keys that a rotation replaced, so that
// whoever was taken off the recipients finds nothing to open. The statements stay: they
// say that the file was replaced. Only a statement by someone who may countersign
// snapshots replaces another: an exporter may sign statements too, and could otherwise
// have good keys thrown away.
func (k *Keeper) removeSuperseded(ctx context.Context, service string, g *guard, out *Outcome) error {
	now, err := storeTime(ctx, k.Archive.Store)
	if err != nil {
		return err
	}
	keys, err := keysOf(ctx, k.Archive, service)
	if err != nil {
		return err
	}
	for _, key := range keys {
		obsolete, err := k.Archive.Superseded(ctx, service, key.ID, "sallyport-verified", now.Add(-24*time.Hour))
		if err != nil {
			return fmt.Errorf("key %s: %w", key.ID, err)
		}
		for _, info := range obsolete {
			if g.keeps(info.Name) {
				return g.err
			}
			removed, err := k.remove(ctx, info, out)
			if err != nil {
				return err
			}
			if removed {
				out.Superseded = append(out.Superseded, info.Name)
			}
		}
	}
	return nil
}

// A CryptoErasure destroys run keys, and with them every snapshot that needs one.
type CryptoErasure struct {
	Keys     []archive.KeyRef
	Destroys []archive.RunID // un-expired snapshots, in order
}

// PlanCryptoErasure lists what goes with a run key: the un-expired snapshots that need it.
func PlanCryptoErasure(ctx context.Context, a *archive.Archive, service string, key dataset.Hash) (*CryptoErasure, error) {
	all, err := a.Snapshots(ctx, service)
	if err == nil && len(all.Bad) > 0 {
		err = errors.Join(all.Bad...)
	}
	if err != nil {
		return nil, err
	}
	out := new(CryptoErasure)
	for _, list := range [][]*archive.Decision{all.Expired, all.All} {
		for _, d := range list {
			i := slices.IndexFunc(d.Manifest.Keys, func(k archive.KeyRef) bool { return k.ID == key })
			if i < 0 {
				continue
			}
			if len(out.Keys) == 0 {
				out.Keys = append(out.Keys, d.Manifest.Keys[i])
			}
			if slices.Contains(all.All, d) {
				out.Destroys = append(out.Destroys, d.Run)
			}
		}
	}
	if len(out.Keys) == 0 {
		return nil, fmt.Errorf("no snapshot of %s names key %s: %w", service, key, archive.ErrNoSnapshot)
	}
	return out, nil
}

// CryptoErase destroys a run key. It refuses with a *[PolicyError] unless each un-expired
// snapshot that needs it is named, and no other; while a hold is in force; and for a
// snapshot that is the last proof of what was purged. Those named are expired first.
func (k *Keeper) CryptoErase(ctx context.Context, service string, key dataset.Hash, named []archive.RunID) (*Outcome, error) {
	p, err := k.Propose(ctx, service, func(time.Time) Keep { return Keep{} })
	if err != nil {
		return nil, err
	}
	if len(p.Holds) > 0 {
		return nil, refuse("held", "%d holds are in force", len(p.Holds))
	}
	plan, err := PlanCryptoErasure(ctx, k.Archive, service, key)
	if err != nil {
		return nil, err
	}
	if want, got := slices.Sorted(slices.Values(plan.Destroys)), slices.Sorted(slices.Values(named)); !slices.Equal(want, got) {
		return nil, refuse("not-named", "key %s is needed by the snapshots %v, which are not expired: name exactly these, or expire them", key, want)
	}
	var expiring []SnapshotDecision
	for _, d := range p.Snapshots {
		if !slices.Contains(named, d.Run) {
			continue
		}
		if slices.Contains(d.Reasons, KeptProof) {
			return nil, refuse("last-proof", "snapshot %s alone holds what was purged at the source", d.Run)
		}
		d.Expires, d.Reasons = true, []Reason{"crypto-erase"}
		expiring = append(expiring, d)
	}
	out := new(Outcome)
	if len(expiring) > 0 {
		if err := k.expire(ctx, p, expiring, out); err != nil {
			return out, err
		}
	}
	e := audit.NewEvent(audit.KeyChange, audit.Intent, k.now())
	e.Service, e.Key, e.Code = service, key, "destroy"
	return out, act(ctx, k.Log, e, k.now, func() (map[string]int64, error) {
		g := &guard{k: k, ctx: ctx, service: service}
		var files []archive.Info
		for info, err := range k.Archive.Store.List(ctx, service+"/keys/"+key.String()+"/") {
			if err != nil {
				return nil, fmt.Errorf("list keys: %w", err)
			}
			if archive.ParseName(info.Name).Class == archive.KeyObject {
				files = append(files, info)
			}
		}
		for _, info := range files {
			if g.keeps(info.Name) {
				return nil, errors.Join(g.err, refuse("held", "a hold was placed in the meantime"))
			}
			removed, err := k.remove(ctx, info, out)
			if err != nil {
				return nil, err
			}
			if removed {
				out.Superseded = append(out.Superseded, info.Name)
			}
		}
		return map[string]int64{"removed": int64(len(out.Superseded)), "retained": int64(len(out.Retained))}, nil
	})
}
