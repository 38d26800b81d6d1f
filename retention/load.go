package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// A State is what a store says of a service's snapshots.
type State struct {
	Service       string
	Now           time.Time // of the store
	Snapshots     []Snapshot
	Decisions     map[dataset.Hash]*archive.Decision // by manifest, expired ones too
	Countersigned map[dataset.Hash]Countersigned
	Junk          []error // records of verification that count for nothing
}

// Load reads what a plan needs to know. It fails with an [archive.IntegrityError] if any
// decision or expiry record is not to be trusted: what it would have said is not known.
func Load(ctx context.Context, a *archive.Archive, service string) (*State, error) {
	now, err := storeTime(ctx, a.Store)
	if err != nil {
		return nil, err
	}
	survey, err := a.Survey(ctx, service)
	if err != nil {
		return nil, err
	}
	all, err := a.Snapshots(ctx, service)
	if err == nil && len(all.Bad) > 0 {
		err = fmt.Errorf("service %s: nothing expires while there are decisions or expiry records that cannot be trusted: %w", service, errors.Join(all.Bad...))
	}
	if err != nil {
		return nil, err
	}
	records, junk, err := verify.ReadVerified(ctx, a, service)
	if err != nil {
		return nil, err
	}
	s := &State{Service: service, Now: now, Decisions: map[dataset.Hash]*archive.Decision{},
		Countersigned: map[dataset.Hash]Countersigned{}, Junk: junk}
	add := func(d *archive.Decision, expired bool) {
		s.Decisions[d.Hash] = d
		s.Snapshots = append(s.Snapshots, Snapshot{Run: d.Run, Hash: d.Hash, Sequence: d.Manifest.Sequence, Parents: d.Manifest.Parents,
			Complete: d.Manifest.State == archive.Complete, Decided: survey.Decisions[d.Run].Time, Expired: expired})
	}
	for _, d := range all.All {
		add(d, false)
	}
	for _, d := range all.Expired {
		add(d, true)
	}
	for manifest, list := range records {
		s.countersign(manifest, list)
	}
	return s, nil
}

// countersign takes over the records of one snapshot. The newest verdict counts: a
// snapshot that was found damaged since it was found good is not countersigned.
func (s *State) countersign(manifest dataset.Hash, list []verify.Countersignature) {
	var c Countersigned
	for _, r := range list {
		if r.Outcome != verify.Pass {
			c = Countersigned{}
			continue
		}
		if c.First.IsZero() {
			c.First = r.Verified.Verified.Time
		}
		c.Last = r.Verified.Verified.Time
		c.Tags = append(c.Tags, r.Tags...)
	}
	if !c.First.IsZero() {
		s.Countersigned[manifest] = c
	}
}

// storeTime asks the store's clock. A client's own is never asked: it may be wrong, and
// what expires cannot be had back.
func storeTime(ctx context.Context, st archive.Store) (time.Time, error) {
	clock, ok := st.(archive.Clock)
	if !ok {
		return time.Time{}, errors.New("the store does not tell its time, without which nothing can be said of age")
	}
	now, err := clock.Now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the store: %w", err)
	}
	return now.UTC(), nil
}
