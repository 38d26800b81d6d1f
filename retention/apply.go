package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
)

// A Log is where acts are recorded: an [audit.Log], or what behaves like it.
type Log interface {
	Append(audit.Event) error
	Publish(ctx context.Context) (archive.Checkpoint, error)
}

// act records the intent of a deletion where nobody can take it back, then deletes, then
// records the result. If the intent cannot be recorded nothing is done.
func act(ctx context.Context, log Log, e audit.Event, now func() time.Time, f func() (map[string]int64, error)) error {
	if err := log.Append(e); err != nil {
		return fmt.Errorf("nothing was done: %w", err)
	}
	if _, err := log.Publish(ctx); err != nil {
		// The intent waits for the log to come back, and must not look as if the act had died.
		r := audit.ResultOf(e, audit.Failure, now())
		r.Code = "not-logged"
		return errors.Join(fmt.Errorf("nothing was done: %w", err), log.Append(r))
	}
	counts, err := f()
	status, code := audit.Success, ""
	var policy *PolicyError
	if err != nil {
		status, code = audit.Failure, "failed"
		if errors.As(err, &policy) {
			code = policy.Code
		}
	}
	r := audit.ResultOf(e, status, now())
	r.Code, r.Counts = code, counts
	if lerr := log.Append(r); lerr != nil {
		return errors.Join(err, lerr)
	}
	_, lerr := log.Publish(context.WithoutCancel(ctx))
	return errors.Join(err, lerr)
}

// A Keeper expires snapshots of services and collects what none needs any longer.
type Keeper struct {
	Office
	Remover archive.Remover
	Log     Log
	Memory  Memory
	Floor   Floor // the zero Floor means [DefaultFloor]

	// LockFor is the Object Lock retention of the store: what is still needed is locked
	// again for as long once half of it has passed. 0 leaves locks alone.
	LockFor time.Duration

	Wait time.Duration // how long the collector waits for open runs; 0 means 7 days
}

// A Proposal is a plan together with what it was made of.
type Proposal struct {
	Plan
	State *State
	Holds []ActiveHold
}

// Propose plans for a service as it is now. It changes nothing.
func (k *Keeper) Propose(ctx context.Context, service string, keep func(now time.Time) Keep) (*Proposal, error) {
	if err := k.Memory.Check(ctx, k.Archive, service); err != nil {
		return nil, err
	}
	holds, err := k.Holds(ctx, service)
	if err != nil {
		return nil, err
	}
	state, err := Load(ctx, k.Archive, service)
	if err != nil {
		return nil, err
	}
	proofs, err := k.lastProofs(ctx, service)
	if err != nil {
		return nil, err
	}
	floor := k.Floor
	if floor == (Floor{}) {
		floor = DefaultFloor
	}
	p := PlanSnapshots(state.Now, keep(state.Now), state.Snapshots, state.Countersigned, Hashes(holds), floor, proofs)
	return &Proposal{p, state, holds}, nil
}

// An Outcome says what applying a plan did.
type Outcome struct {
	Expired    []archive.RunID
	Collection *archive.Collection // nil if it was not come to
	Superseded []string            // sealed keys that a rotation made obsolete, removed
	Retained   []*archive.LockedError
	Extended   int // objects whose lock was extended
	Held       int // holds in force; nothing is collected while there is any
}

// Apply expires what a proposal lets expire and collects. It plans again first, and
// refuses with a [PolicyError] if that gives another plan.
func (k *Keeper) Apply(ctx context.Context, service string, keep func(time.Time) Keep, want dataset.Hash) (*Outcome, error) {
	p, err := k.Propose(ctx, service, keep)
	if err != nil {
		return nil, err
	}
	if got := p.Hash(); got != want {
		return nil, refuse("stale-plan", "the plan of %s is not the one that was shown: it has hash %s instead of %s", service, got, want)
	}
	if err := k.believed(p.State.Now); err != nil {
		return nil, err
	}
	out := &Outcome{Held: len(p.Holds)}
	if expiring := p.Expiring(); len(expiring) > 0 {
		if err := k.expire(ctx, p, expiring, out); err != nil {
			return out, err
		}
	}
	if err := k.collect(ctx, service, out); err != nil {
		return out, err
	}
	return out, k.extend(ctx, p.State, out)
}

// believed fails if what this keeper would sign counts for nothing: records of expiry that
// nobody believes stop every later deletion.
func (k *Keeper) believed(now time.Time) error {
	for _, ns := range []string{"sallyport-expiry", "sallyport-abort"} {
		if err := k.Archive.Trust.MaySign(ns, k.Signer.PublicKey(), now); err != nil {
			return fmt.Errorf("nobody would believe it: %w", err)
		}
	}
	return nil
}

// expire writes the records that end snapshots.
func (k *Keeper) expire(ctx context.Context, p *Proposal, expiring []SnapshotDecision, out *Outcome) error {
	service := p.State.Service
	e := audit.NewEvent(audit.Expiry, audit.Intent, k.now())
	e.Service, e.Document, e.Counts = service, p.Hash(), map[string]int64{"snapshots": int64(len(expiring))}
	return act(ctx, k.Log, e, k.now, func() (map[string]int64, error) {
		if holds, err := k.Holds(ctx, service); err != nil {
			return nil, err
		} else if len(holds) > 0 {
			return nil, refuse("held", "a hold was placed in the meantime")
		}
		for _, d := range expiring {
			if err := k.Archive.Expire(ctx, k.Signer, service, p.State.Decisions[d.Hash], string(d.Reasons[0]), p.State.Now); err != nil {
				return map[string]int64{"snapshots": int64(len(out.Expired))}, fmt.Errorf("expire %s: %w", d.Run, err)
			}
			out.Expired = append(out.Expired, d.Run)
		}
		return map[string]int64{"snapshots": int64(len(out.Expired))}, nil
	})
}

// collect removes what no un-expired snapshot needs, unless there is a hold.
func (k *Keeper) collect(ctx context.Context, service string, out *Outcome) error {
	e := audit.NewEvent(audit.Collect, audit.Intent, k.now())
	e.Service = service
	return act(ctx, k.Log, e, k.now, func() (map[string]int64, error) {
		g := &guard{k: k, ctx: ctx, service: service}
		c := &archive.Collector{Archive: k.Archive, Remover: k.Remover, Signer: k.Signer, Wait: k.Wait, Keep: g.keeps}
		var err error
		if out.Collection, err = c.Collect(ctx, service); out.Collection != nil {
			out.Retained = out.Collection.Locked
		}
		if err = errors.Join(err, g.err); err == nil && out.Collection != nil && len(out.Collection.Waiting) == 0 {
			err = k.removeSuperseded(ctx, service, g, out)
		}
		counts := map[string]int64{"superseded": int64(len(out.Superseded)), "retained": int64(len(out.Retained))}
		if c := out.Collection; c != nil {
			counts["removed"], counts["bytes"], counts["held"], counts["aborted"] = int64(len(c.Removed)), c.Bytes, int64(c.Held), int64(len(c.Aborted))
		}
		return counts, err
	})
}

// remove deletes one version of an object; what the store retains is noted.
func (k *Keeper) remove(ctx context.Context, info archive.Info, out *Outcome) (bool, error) {
	err := k.Remover.Remove(ctx, info.Name, info.Version)
	var locked *archive.LockedError
	if errors.As(err, &locked) {
		out.Retained = append(out.Retained, locked)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove %s: %w", info.Name, err)
	}
	return true, nil
}

// A guard looks for holds again and again while a collector works, because people place
// them at any time. Once it finds one, or cannot look, everything stays.
type guard struct {
	k       *Keeper
	ctx     context.Context // of the one collection that this value serves
	service string
	asked   int
	shut    bool
	err     error
}

// guardEvery is after how many removals the holds are read again.
const guardEvery = 50

func (g *guard) keeps(string) bool {
	if g.asked%guardEvery == 0 && !g.shut {
		holds, err := g.k.Holds(g.ctx, g.service)
		g.shut, g.err = err != nil || len(holds) > 0, err
	}
	g.asked++
	return g.shut
}

// An Extender is a store whose objects can be retained for longer.
type Extender interface {
	// Extend makes the store retain a version of an object at least until a time, and
	// reports whether it was retained for less before.
	Extend(ctx context.Context, name, version string, until time.Time) (bool, error)
}

// extend locks what is still needed again, before its locks lapse.
func (k *Keeper) extend(ctx context.Context, s *State, out *Outcome) error {
	if k.LockFor == 0 {
		return nil
	}
	x, ok := k.Remover.(Extender)
	if !ok {
		return errors.New("the store was asked for Object Lock and cannot extend it")
	}
	needed, err := k.needed(ctx, s)
	if err != nil {
		return err
	}
	until := s.Now.Add(k.LockFor)
	unneeded := map[dataset.Hash]bool{} // statements, which are listed before signatures
	for info, err := range k.Archive.Store.List(ctx, s.Service+"/") {
		if err != nil {
			return fmt.Errorf("list %s: %w", s.Service, err)
		}
		n := archive.ParseName(info.Name)
		if !needed(n) || n.Class == archive.SignatureObject && unneeded[n.Document] {
			unneeded[n.Hash] = true
			continue
		}
		if info.Marker || info.Later || s.Now.Sub(info.Time) < k.LockFor/2 {
			continue
		}
		longer, err := x.Extend(ctx, info.Name, info.Version, until)
		if err != nil {
			return fmt.Errorf("extend the lock of %s: %w", info.Name, err)
		}
		if longer {
			out.Extended++
		}
	}
	return nil
}

// needed returns what an un-expired snapshot or a reader of the chain needs. It reads the
// snapshots again: some have expired since.
func (k *Keeper) needed(ctx context.Context, s *State) (func(archive.Name) bool, error) {
	all, err := k.Archive.Snapshots(ctx, s.Service)
	if err != nil {
		return nil, err
	}
	packs, lists, keys := map[dataset.Hash]bool{}, map[dataset.Hash]bool{}, map[dataset.Hash]bool{}
	for _, d := range all.All {
		for _, key := range d.Manifest.Keys {
			keys[key.ID] = true
		}
		for _, ref := range d.Manifest.Lists {
			if lists[ref.SHA256] {
				continue
			}
			lists[ref.SHA256] = true
			refs, err := k.Archive.List(ctx, s.Service, ref)
			if err != nil {
				return nil, err
			}
			for _, p := range refs {
				packs[p.SHA256] = true
			}
		}
	}
	return func(n archive.Name) bool {
		switch n.Class {
		case archive.Junk:
			return false
		case archive.PackObject:
			return packs[n.Hash]
		case archive.ListObject:
			return lists[n.Hash]
		case archive.KeyObject, archive.StatementObject:
			return keys[n.Key]
		}
		return true
	}, nil
}

// lastProofs returns the snapshots that hold what was deleted at the source, from the
// first deletion on, each with the end of the duty to keep it.
func (k *Keeper) lastProofs(ctx context.Context, service string) (map[dataset.Hash]time.Time, error) {
	plans, err := k.Plans(ctx, service)
	if err != nil {
		return nil, err
	}
	entries, err := k.ledgers(ctx, service)
	if err != nil {
		return nil, err
	}
	begun := map[dataset.Hash]bool{}
	for _, l := range entries {
		begun[l.Plan] = true
	}
	proofs := map[dataset.Hash]time.Time{}
	for _, p := range plans {
		if !begun[p.Hash] {
			continue
		}
		until, again := proofs[p.Manifest]
		if stated := p.KeepUntil.Time; !again || !until.IsZero() && (stated.IsZero() || stated.After(until)) {
			proofs[p.Manifest] = stated
		}
	}
	return proofs, nil
}
