package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
)

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
// snapshot that needs it is named, and no other; while a hold is in force; while a run is
// open, which may build on the key; and for a snapshot that is the last proof of what was
// purged. Those named are expired first.
func (k *Keeper) CryptoErase(ctx context.Context, service string, key dataset.Hash, named []archive.RunID) (*Outcome, error) {
	p, err := k.Propose(ctx, service, func(time.Time) Keep { return Keep{} })
	if err != nil {
		return nil, err
	}
	if len(p.Holds) > 0 {
		return nil, refuse("held", "legal holds in force: %d", len(p.Holds))
	}
	if err := k.believed(p.State.Now); err != nil {
		return nil, err
	}
	if err := k.nothingOpen(ctx, service); err != nil {
		return nil, err
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
	if err := k.unused(ctx, service, key); err != nil {
		return out, err
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

// unused makes sure, once all snapshots that need a key have expired, that none can come
// to need it any more. A run that begins now does not see them, so does not build on the
// key; one that began before is still open, or has become a snapshot since.
func (k *Keeper) unused(ctx context.Context, service string, key dataset.Hash) error {
	if err := k.nothingOpen(ctx, service); err != nil {
		return err
	}
	plan, err := PlanCryptoErasure(ctx, k.Archive, service, key)
	if err == nil && len(plan.Destroys) > 0 {
		err = refuse("not-named", "the snapshots %v have come to need key %s in the meantime: name them too, or expire them", plan.Destroys, key)
	}
	return err
}

// nothingOpen refuses while there are runs without a decision.
func (k *Keeper) nothingOpen(ctx context.Context, service string) error {
	survey, err := k.Archive.Survey(ctx, service)
	if err != nil {
		return err
	}
	if open := survey.Open(); len(open) > 0 {
		return refuse("open-runs", "the runs %v are open and may build on the key: let them end, or let retention apply decide those that died", open)
	}
	return nil
}
