package retention

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A Keep says which snapshots outlive others: the union of all its rules. The zero Keep
// keeps everything.
type Keep struct {
	Last    int       // the newest
	Hourly  int       // the newest of each of the last hours that have one
	Daily   int       // of days, UTC
	Weekly  int       // of ISO weeks
	Monthly int       // of months
	Yearly  int       // of years
	Since   time.Time // all that are not older; zero means none by this rule
	Tags    []string  // all that carry one of these
}

// IsZero reports whether no rule is set.
func (k Keep) IsZero() bool {
	return k.Last+k.Hourly+k.Daily+k.Weekly+k.Monthly+k.Yearly == 0 && k.Since.IsZero() && len(k.Tags) == 0
}

// A Floor is what no rule can go below: it leaves time to notice an attack, or a mistake
// in the rules.
type Floor struct {
	Snapshots int           // so many countersigned ones stay
	Age       time.Duration // nothing that was countersigned more recently expires
}

// DefaultFloor is the floor of every service.
var DefaultFloor = Floor{Snapshots: 3, Age: 48 * time.Hour}

// A Snapshot is what deciding about one needs to know.
type Snapshot struct {
	Run      archive.RunID
	Hash     dataset.Hash // of its manifest
	Sequence int64
	Parents  []dataset.Hash
	Complete bool
	Decided  time.Time // of its decision, by the store's clock
	Expired  bool      // an expiry record ends it already; it matters as a parent only
}

// A Countersigned says when a verifier countersigned a snapshot, first and last, and
// which tags it has.
type Countersigned struct {
	First, Last time.Time
	Tags        []string
}

// A Reason says why a snapshot stays or expires. The table is closed.
type Reason string

// The reasons. Only Superseded lets a snapshot expire.
const (
	Superseded       Reason = "superseded" // no rule keeps it
	KeptAll          Reason = "keep-all"   // there are no rules
	KeptLast         Reason = "last"
	KeptHourly       Reason = "hourly"
	KeptDaily        Reason = "daily"
	KeptWeekly       Reason = "weekly"
	KeptMonthly      Reason = "monthly"
	KeptYearly       Reason = "yearly"
	KeptWithin       Reason = "within"
	KeptTag          Reason = "tag"
	KeptFloor        Reason = "floor"
	KeptHeld         Reason = "held"
	KeptLastGood     Reason = "last-good"         // the newest complete one, and the newest of all
	KeptProof        Reason = "last-proof"        // of data that was purged at the source
	KeptUnsigned     Reason = "not-countersigned" // it counts for nothing, and is not touched
	KeptClockSkew    Reason = "clock-skew"        // its time contradicts its parents' or its countersignature's
	KeptFuture       Reason = "future"            // its time lies ahead of the store's clock
	KeptUndetermined Reason = "no-time"           // the store does not say when it was decided
)

// A SnapshotDecision is what a plan says of one snapshot.
type SnapshotDecision struct {
	Snapshot
	Time    time.Time // by which the rules went
	Expires bool
	Reasons []Reason // all that keep it, or why it expires; never empty
}

// A Plan says what becomes of each snapshot of a service that has not expired, in the
// order of (sequence, hash).
type Plan struct {
	Snapshots []SnapshotDecision
}

// Expiring returns those that expire.
func (p *Plan) Expiring() []SnapshotDecision {
	var list []SnapshotDecision
	for _, d := range p.Snapshots {
		if d.Expires {
			list = append(list, d)
		}
	}
	return list
}

// Hash names what the plan would do. Two plans with the same hash do the same, whenever
// they were made.
func (p *Plan) Hash() dataset.Hash {
	text := []byte("sallyport-retention-plan/1\n")
	for _, d := range p.Expiring() {
		text = fmt.Appendf(text, "%s %s\n", d.Run, d.Hash)
	}
	return dataset.Sum(text)
}

// skew is how far clocks may differ before a time contradicts another.
const skew = 5 * time.Minute

// PlanSnapshots decides at now, by the store's clock, what becomes of the snapshots of a
// service. It is a pure function.
//
// The rules look at countersigned snapshots only; the others stay, and displace nothing.
// Every rule is asked twice, of all snapshots and of the complete ones alone, so that a
// source that cannot be read whole for a while displaces no complete snapshot. A
// snapshot's time is that of its decision in the store; where that is earlier than a
// parent's, later than its first countersignature's, or ahead of now, it is nobody's to
// say which is wrong, and the snapshot stays.
//
// holds has the hashes of the holds in force: any of them keeps everything, because the
// scope of a hold is sealed and so is what a snapshot holds. lastProofs has the
// manifests that alone prove what was purged at the source, with the end of that duty;
// the zero time is none.
func PlanSnapshots(now time.Time, keep Keep, snapshots []Snapshot, countersigned map[dataset.Hash]Countersigned,
	holds []dataset.Hash, floor Floor, lastProofs map[dataset.Hash]time.Time) Plan {
	all := slices.Clone(snapshots)
	slices.SortFunc(all, func(a, b Snapshot) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), slices.Compare(a.Hash[:], b.Hash[:]))
	})
	decided := make(map[dataset.Hash]time.Time, len(all))
	for _, s := range all {
		decided[s.Hash] = s.Decided
	}
	p := Plan{Snapshots: []SnapshotDecision{}}
	var counting []*SnapshotDecision // oldest first
	for _, s := range all {
		if !s.Expired {
			p.Snapshots = append(p.Snapshots, SnapshotDecision{Snapshot: s, Time: s.Decided.UTC()})
		}
	}
	for i := range p.Snapshots {
		d := &p.Snapshots[i]
		c, signed := countersigned[d.Hash]
		if !signed {
			d.keep(KeptUnsigned)
			continue
		}
		if r := doubtful(now, &d.Snapshot, c, decided); r != "" {
			d.keep(r)
			continue
		}
		if len(holds) > 0 {
			d.keep(KeptHeld)
		}
		if until, ok := lastProofs[d.Hash]; ok && (until.IsZero() || now.Before(until)) {
			d.keep(KeptProof)
		}
		if now.Sub(c.First) < floor.Age {
			d.keep(KeptFloor)
		}
		if slices.ContainsFunc(c.Tags, func(t string) bool { return slices.Contains(keep.Tags, t) }) {
			d.keep(KeptTag)
		}
		counting = append(counting, d)
	}
	var complete []*SnapshotDecision
	for _, d := range counting {
		if d.Complete {
			complete = append(complete, d)
		}
	}
	for _, group := range [][]*SnapshotDecision{counting, complete} {
		newest(group, 1, KeptLastGood)
		newest(group, floor.Snapshots, KeptFloor)
		keep.apply(group)
	}
	for i := range p.Snapshots {
		if d := &p.Snapshots[i]; len(d.Reasons) == 0 {
			d.Expires, d.Reasons = true, []Reason{Superseded}
		}
	}
	return p
}

// keep adds a reason, once.
func (d *SnapshotDecision) keep(r Reason) {
	if !slices.Contains(d.Reasons, r) {
		d.Reasons = append(d.Reasons, r)
	}
}

// doubtful says why the time of a snapshot cannot be relied on; "" if it can.
func doubtful(now time.Time, s *Snapshot, c Countersigned, decided map[dataset.Hash]time.Time) Reason {
	switch {
	case s.Decided.IsZero() || c.First.IsZero():
		return KeptUndetermined
	case s.Decided.After(now.Add(skew)) || c.First.After(now.Add(skew)):
		return KeptFuture
	case s.Decided.After(c.First.Add(skew)):
		return KeptClockSkew
	}
	for _, p := range s.Parents {
		t, ok := decided[p]
		if !ok || t.After(s.Decided.Add(skew)) {
			return KeptClockSkew
		}
	}
	return ""
}

// newest keeps the last n of a group.
func newest(group []*SnapshotDecision, n int, r Reason) {
	for _, d := range group[max(0, len(group)-n):] {
		d.keep(r)
	}
}

// apply keeps what the rules keep of a group, oldest first.
func (k Keep) apply(group []*SnapshotDecision) {
	if k.IsZero() {
		newest(group, len(group), KeptAll)
		return
	}
	newest(group, k.Last, KeptLast)
	for _, rule := range []struct {
		n      int
		reason Reason
		period func(time.Time) string
	}{
		{k.Hourly, KeptHourly, func(t time.Time) string { return t.Format("2006-01-02T15") }},
		{k.Daily, KeptDaily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{k.Weekly, KeptWeekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, "-", w) }},
		{k.Monthly, KeptMonthly, func(t time.Time) string { return t.Format("2006-01") }},
		{k.Yearly, KeptYearly, func(t time.Time) string { return t.Format("2006") }},
	} {
		seen := map[string]bool{}
		for _, d := range slices.Backward(group) {
			if p := rule.period(d.Time); len(seen) < rule.n && !seen[p] {
				seen[p] = true
				d.keep(rule.reason)
			}
		}
	}
	for _, d := range group {
		if !k.Since.IsZero() && !d.Time.Before(k.Since) {
			d.keep(KeptWithin)
		}
	}
}
