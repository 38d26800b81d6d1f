package retention

import (
	"context"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// An Overview says what deletes of a service, and what forbids it.
type Overview struct {
	Snapshots int          // that no record of expiry ends
	Expiring  int          // of those, that the rules would let expire now
	Expired   int          // snapshots that a record of expiry ended
	Holds     int          // in force
	Purges    int          // certificates of deletion at the source
	Purged    int64        // items that those deleted
	LastPurge time.Time    // end of the last of them; zero if there was none
	Last      dataset.Hash // its certificate
}

// Overview reads what there is to say of a service, and changes nothing in the store. It
// fails as [Keeper.Propose] does: where it fails, nothing would be deleted either.
func (k *Keeper) Overview(ctx context.Context, service string, keep func(now time.Time) Keep) (*Overview, error) {
	p, err := k.Propose(ctx, service, keep)
	if err != nil {
		return nil, err
	}
	o := &Overview{Snapshots: len(p.Snapshots), Expiring: len(p.Expiring()), Holds: len(p.Holds)}
	for _, s := range p.State.Snapshots {
		if s.Expired {
			o.Expired++
		}
	}
	deletions, err := k.Deletions(ctx, service)
	if err != nil {
		return nil, err
	}
	for _, d := range deletions {
		o.Purges++
		o.Purged += d.Fates[Deleted] + d.Fates[Gone]
		o.LastPurge, o.Last = d.Ended.Time, d.Hash
	}
	return o, nil
}
