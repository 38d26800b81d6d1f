package retention_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
)

var noon = time.Date(2026, 3, 15, 12, 0, 0, 0, time.UTC) // a Sunday

// A chain is snapshots, one a step, each the child of the one before and countersigned an
// hour after it was decided.
type chain struct {
	snapshots     []retention.Snapshot
	countersigned map[dataset.Hash]retention.Countersigned
}

func newChain(n int, last time.Time, step time.Duration) *chain {
	c := &chain{countersigned: map[dataset.Hash]retention.Countersigned{}}
	for i := range n {
		c.add(last.Add(-time.Duration(n-1-i) * step))
	}
	return c
}

func (c *chain) add(at time.Time) *retention.Snapshot {
	n := len(c.snapshots)
	s := retention.Snapshot{Run: archive.RunID(fmt.Sprint("run-", n)), Hash: dataset.Sum([]byte{byte(n), byte(n >> 8)}), Sequence: int64(n + 1), Complete: true, Decided: at}
	if n > 0 {
		s.Parents = []dataset.Hash{c.snapshots[n-1].Hash}
	}
	c.snapshots = append(c.snapshots, s)
	c.countersigned[s.Hash] = retention.Countersigned{First: at.Add(time.Hour), Last: at.Add(time.Hour)}
	return &c.snapshots[n]
}

// stays lists the numbers of the snapshots that do not expire, with their reasons.
func stays(p retention.Plan) string {
	var words []string
	for _, d := range p.Snapshots {
		if !d.Expires {
			var why []string
			for _, r := range d.Reasons {
				why = append(why, string(r))
			}
			words = append(words, strings.TrimPrefix(string(d.Run), "run-")+":"+strings.Join(why, "+"))
		}
	}
	return strings.Join(words, " ")
}

func TestEachRuleKeepsTheNewestOfItsPeriods(t *testing.T) {
	daily := newChain(40, noon, 24*time.Hour)
	hourly := newChain(30, noon, time.Hour)
	none := retention.Floor{}
	for _, tt := range []struct {
		name  string
		chain *chain
		keep  retention.Keep
		want  string
	}{
		{"last", daily, retention.Keep{Last: 2}, "38:last 39:last-good+last"},
		{"no rule keeps all", newChain(3, noon, time.Hour), retention.Keep{}, "0:keep-all 1:keep-all 2:last-good+keep-all"},
		{"hourly", hourly, retention.Keep{Hourly: 2}, "28:hourly 29:last-good+hourly"},
		{"daily of hourly ones", hourly, retention.Keep{Daily: 2}, "16:daily 29:last-good+daily"},
		{"weekly", daily, retention.Keep{Weekly: 2}, "32:weekly 39:last-good+weekly"},
		{"monthly", daily, retention.Keep{Monthly: 3}, "24:monthly 39:last-good+monthly"}, // 2026-02-28; the chain begins on 4 February
		{"yearly", daily, retention.Keep{Yearly: 5}, "39:last-good+yearly"},
		{"within", daily, retention.Keep{Since: noon.AddDate(0, 0, -2)}, "37:within 38:within 39:last-good+within"},
		{"union", daily, retention.Keep{Last: 1, Weekly: 2}, "32:weekly 39:last-good+last+weekly"},
	} {
		p := retention.PlanSnapshots(noon.Add(2*time.Hour), tt.keep, tt.chain.snapshots, tt.chain.countersigned, nil, none, nil)
		if got := stays(p); got != tt.want {
			t.Errorf("%s: stays %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestWhatMayNotExpireStaysWhateverTheRulesSay(t *testing.T) {
	keep := retention.Keep{Last: 1, Tags: []string{"year-end"}}
	now := noon.Add(2 * time.Hour)
	for _, tt := range []struct {
		name  string
		floor retention.Floor
		alter func(c *chain) (holds []dataset.Hash, proofs map[dataset.Hash]time.Time)
		want  string
	}{
		{"nothing special", retention.Floor{}, nil, "9:last-good+last"},
		{"floor of number", retention.Floor{Snapshots: 3}, nil, "7:floor 8:floor 9:last-good+floor+last"},
		{"floor of age", retention.Floor{Age: 48 * time.Hour}, nil, "8:floor 9:floor+last-good+last"},
		{"tag", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			s := c.countersigned[c.snapshots[4].Hash]
			s.Tags = []string{"year-end"}
			c.countersigned[c.snapshots[4].Hash] = s
			return nil, nil
		}, "4:tag 9:last-good+last"},
		{"a hold keeps all", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			c.snapshots = c.snapshots[8:]
			c.snapshots[0].Parents = nil
			return []dataset.Hash{dataset.Sum(nil)}, nil
		}, "8:held 9:held+last-good+last"},
		{"last proof of purged data", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			return nil, map[dataset.Hash]time.Time{c.snapshots[2].Hash: {}, c.snapshots[3].Hash: noon.AddDate(1, 0, 0), c.snapshots[4].Hash: noon.AddDate(-1, 0, 0)}
		}, "2:last-proof 3:last-proof 9:last-good+last"},
		{"not countersigned", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			delete(c.countersigned, c.snapshots[5].Hash)
			return nil, nil
		}, "5:not-countersigned 9:last-good+last"},
		{"incomplete ones displace no complete one", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			for i := 6; i < 10; i++ {
				c.snapshots[i].Complete = false
			}
			return nil, nil
		}, "5:last-good+last 9:last-good+last"},
		{"decided before its parent", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			c.snapshots[5].Decided = c.snapshots[3].Decided
			return nil, nil
		}, "5:clock-skew 9:last-good+last"},
		{"decided after its countersignature", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			c.snapshots[5].Decided = c.snapshots[5].Decided.Add(2 * time.Hour)
			return nil, nil
		}, "5:clock-skew 9:last-good+last"},
		{"of the future", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			s := c.add(noon.AddDate(10, 0, 0))
			return nil, map[dataset.Hash]time.Time{s.Hash: {}}
		}, "9:last-good+last 10:future"},
		{"without a time", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			c.snapshots[9].Decided = time.Time{}
			return nil, nil
		}, "8:last-good+last 9:no-time"},
		{"a parent that is missing", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			c.snapshots[3].Parents = []dataset.Hash{dataset.Sum([]byte("gone"))}
			return nil, nil
		}, "3:clock-skew 9:last-good+last"},
		{"parents that expired count for time", retention.Floor{}, func(c *chain) ([]dataset.Hash, map[dataset.Hash]time.Time) {
			for i := range 8 {
				c.snapshots[i].Expired = true
			}
			return nil, nil
		}, "9:last-good+last"},
	} {
		c := newChain(10, noon, 24*time.Hour)
		var holds []dataset.Hash
		var proofs map[dataset.Hash]time.Time
		if tt.alter != nil {
			holds, proofs = tt.alter(c)
		}
		p := retention.PlanSnapshots(now, keep, c.snapshots, c.countersigned, holds, tt.floor, proofs)
		if got := stays(p); got != tt.want {
			t.Errorf("%s: stays %q; want %q", tt.name, got, tt.want)
		}
	}
}

// A14: whoever can only write floods the store with newer snapshots. Not one good
// snapshot may expire that would not have expired without them.
func TestFloodOfNewerSnapshotsExpiresNoGoodOne(t *testing.T) {
	keep := retention.Keep{Last: 3, Daily: 5, Weekly: 4, Monthly: 6}
	rnd := rand.New(rand.NewPCG(14, 1))
	for range 200 {
		good := newChain(1+rnd.IntN(60), noon, time.Duration(1+rnd.IntN(72))*time.Hour)
		now := noon.Add(72 * time.Hour)
		before := retention.PlanSnapshots(now, keep, good.snapshots, good.countersigned, nil, retention.DefaultFloor, nil)
		flood := slices.Clone(good.snapshots)
		for i := range rnd.IntN(200) {
			at := noon.Add(time.Duration(rnd.IntN(96*60)) * time.Minute)
			flood = append(flood, retention.Snapshot{Run: archive.RunID(fmt.Sprint("bogus-", i)), Hash: dataset.Sum(fmt.Append(nil, rnd.Uint64())),
				Sequence: rnd.Int64N(1 << 40), Parents: []dataset.Hash{good.snapshots[0].Hash}, Complete: true, Decided: at})
		}
		after := retention.PlanSnapshots(now, keep, flood, good.countersigned, nil, retention.DefaultFloor, nil)
		was := map[dataset.Hash]bool{}
		for _, d := range before.Expiring() {
			was[d.Hash] = true
		}
		for _, d := range after.Expiring() {
			if !was[d.Hash] {
				t.Fatalf("%s expires because of a flood", d.Run)
			}
		}
	}
}

func TestSamePlanHasTheSameHashWheneverItIsMade(t *testing.T) {
	c := newChain(10, noon, 24*time.Hour)
	plan := func(now time.Time, last int) dataset.Hash {
		p := retention.PlanSnapshots(now, retention.Keep{Last: last}, c.snapshots, c.countersigned, nil, retention.Floor{}, nil)
		return p.Hash()
	}
	if plan(noon.Add(2*time.Hour), 3) != plan(noon.Add(9*time.Hour), 3) {
		t.Error("the same decisions have two hashes")
	}
	if plan(noon.Add(2*time.Hour), 3) == plan(noon.Add(2*time.Hour), 4) {
		t.Error("different decisions have one hash")
	}
}
