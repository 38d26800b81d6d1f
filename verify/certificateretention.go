package verify

import (
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A RetentionState says what deletes from the archive and at the source, and what forbids
// it, at the time of issue. Nothing is concluded from it.
type RetentionState struct {
	Policy    string       `json:"policy" doc:"The keep rules in force, in words; empty if there are none, so that nothing expires."`
	Snapshots int          `json:"snapshots" doc:"Of the service, that no record of expiry ends."`
	Expiring  int          `json:"expiring" doc:"Of those, that the rules would let expire now."`
	Expired   int          `json:"expired" doc:"Snapshots that a record of expiry ended."`
	Holds     int          `json:"holds" doc:"Legal holds in force; whatever deletes respects them."`
	Purges    int          `json:"purges" doc:"Certified deletions at the source."`
	Purged    int64        `json:"purged" doc:"Items that those deleted."`
	LastPurge archive.Time `json:"last_purge" doc:"When the last of them ended; 0001-01-01T00:00:00Z if there was none."`
}

// A LogHead is what the check saw of one audit log of the store. A later log must
// continue it.
type LogHead struct {
	Log       string       `json:"log" doc:"Name of the log: one for each host and role."`
	Size      int64        `json:"size" doc:"Its entries."`
	Root      dataset.Hash `json:"root" doc:"Of their tree (RFC 6962)."`
	Newest    archive.Time `json:"newest" doc:"When the newest entry was made."`
	Unmatched int          `json:"unmatched" doc:"Acts that it says began and does not say ended: they died, or go on."`
}

// Checkpoint returns the head as a manifest would name it.
func (h LogHead) Checkpoint() archive.Checkpoint {
	return archive.Checkpoint{Log: h.Log, Size: h.Size, Root: h.Root}
}

// logs lists the heads of the audit logs that the check found sound enough to have one.
func (b *builder) logs(p *Predicate) {
	p.Retention, p.Logs = b.Retention, []LogHead{}
	if b.Check == nil {
		return
	}
	for _, l := range b.Check.Logs {
		if l.Size == 0 {
			continue
		}
		h := LogHead{Log: l.Log, Size: l.Size, Root: l.Root, Unmatched: l.Unmatched}
		if l.Last != nil {
			h.Newest = archive.At(*l.Last)
		}
		p.Logs = append(p.Logs, h)
	}
}
