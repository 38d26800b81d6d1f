package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// keysAtOnce is how many run keys are looked after at a time: most of the time goes into
// waiting for the store.
const keysAtOnce = 16

// A Rotation seals run keys to the present recipients, and the hash keys of the erasure
// register, without which nothing is restored. It touches no pack, and takes
// nothing back: whoever had an identity that opened a key may have kept the key, or a
// copy of the sealed file. Rotation is not revocation.
type Rotation struct {
	Archive *archive.Archive
	Signer  *crypto.Signer
	Open    *crypto.Opener // opens the keys as they are sealed now
	Data    *crypto.Sealer // the present recipients
	Index   *crypto.Sealer // more of them for index keys; may be nil
	Keeper  *crypto.Sealer // the keeper's recipients, to which hash keys of erasures are sealed too; may be nil
	Log     Log
	Now     func() time.Time
	OnKey   func(key dataset.Hash, done bool) // done is false for one that was sealed to them already; one call at a time; may be nil
}

// A Rotated says what a rotation did.
type Rotated struct {
	Keys     int // of un-expired snapshots
	Resealed int
	Already  int // sealed to exactly the present recipients
	HashKeys int // of the erasure register, sealed anew
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
	e := audit.NewEvent(audit.KeyChange, audit.Intent, r.Now())
	e.Service, e.Code, e.Counts = service, "rotate", map[string]int64{"keys": int64(len(keys))}
	err = act(ctx, r.Log, e, r.Now, func() (map[string]int64, error) {
		err := r.all(ctx, service, keys, out)
		if err == nil {
			o := Office{Archive: r.Archive, Signer: r.Signer, Seal: r.Data.Join(r.Keeper), Open: r.Open, Now: r.Now}
			out.HashKeys, err = o.ResealHashKeys(ctx, service)
		}
		return map[string]int64{"resealed": int64(out.Resealed), "already": int64(out.Already), "hash-keys": int64(out.HashKeys)}, err
	})
	return out, err
}

// all seals the keys.
func (r *Rotation) all(ctx context.Context, service string, keys []archive.KeyRef, out *Rotated) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(keysAtOnce)
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
	keys, _ := keysNeeded(all.All)
	return keys, nil
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
	var mu sync.Mutex // guards g and out
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(keysAtOnce)
	for _, key := range keys {
		group.Go(func() error {
			obsolete, err := k.Archive.Superseded(gctx, service, key.ID, "sallyport-verified", now.Add(-24*time.Hour))
			if err != nil {
				return fmt.Errorf("key %s: %w", key.ID, err)
			}
			for _, info := range obsolete {
				mu.Lock()
				kept, err := g.keeps(info.Name), g.err
				mu.Unlock()
				if kept {
					return err
				}
				var one Outcome
				removed, err := k.remove(gctx, info, &one)
				if err != nil {
					return err
				}
				mu.Lock()
				if out.Retained = append(out.Retained, one.Retained...); removed {
					out.Superseded = append(out.Superseded, info.Name)
				}
				mu.Unlock()
			}
			return nil
		})
	}
	err = group.Wait()
	slices.Sort(out.Superseded)
	return err
}
