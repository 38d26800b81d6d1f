package retention_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
)

// rounds is how many of n random cases a test tries.
func rounds(n, sample int) int {
	if os.Getenv("SALLYPORT_EXHAUSTIVE") == "1" {
		return n
	}
	return sample
}

// D08 and D03: whatever happens to deletions, whoever writes meanwhile and wherever the
// purger is killed, nothing outside proof, approval and rule is deleted, nothing is
// deleted twice, and the ledger says exactly what happened.
func TestRandomPurgesWithRacesKillsAndLostReplies(t *testing.T) {
	t.Parallel()
	var c *court
	var s *archive.Snapshot
	var before *memory.Source
	for seed := range uint64(rounds(1000, 20)) {
		if seed%20 == 0 { // the plans of a store add up
			c, s = ready(t)
			before = c.src
		}
		rnd := rand.New(rand.NewPCG(seed, 8))
		c.src = clone(t, before)
		purgeAtRandom(t, c, s, rnd, seed)
		if t.Failed() {
			return
		}
	}
}

// clone copies a source, so that each round begins with the same.
func clone(t *testing.T, src *memory.Source) *memory.Source {
	t.Helper()
	out := new(memory.Source)
	out.Facts = src.Facts
	view, err := src.Open(t.Context())
	check(t, err)
	defer view.Close()
	streams, err := view.Streams(t.Context())
	check(t, err)
	for _, st := range streams {
		var recs []dataset.Record
		for r, err := range view.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{st}}) {
			check(t, err)
			r.Data = slices.Clone(r.Data)
			if r.Blob != nil {
				date, _ := dataset.Lookup(r.Data, "last_modified")
				text, _ := dataset.Unquote(date)
				r = object(r.Key, r.Ordinal, text)
			}
			recs = append(recs, r)
		}
		out.Add(st, recs...)
	}
	return out
}

func purgeAtRandom(t *testing.T, c *court, s *archive.Snapshot, rnd *rand.Rand, seed uint64) {
	rules := slices.Clone(sevenYears)
	switch {
	case c.other != nil: // has only rows
		rules = rules[1:]
	case rnd.IntN(3) == 0:
		rules = rules[:1]
	}
	c.pass(time.Second) // so that no two plans are the same
	plan := c.plan(t, s, c.planner(rules))
	check(t, c.approve(t, plan, retention.First, "alex", "casey"))
	o := c.office("verifier")
	body, err := o.Body(t.Context(), plan)
	check(t, err)
	planned := map[string]bool{}
	for _, it := range body.Items {
		planned[fmt.Sprint(it.Stream, string(it.Key), it.Ordinal)] = true
	}
	// Others change and delete some of what is planned.
	others := map[string]bool{}
	for _, it := range body.Items {
		switch rnd.IntN(8) {
		case 0:
			r := it.Record()
			r.Data = []byte(fmt.Sprintf(`{"id":1,"changed":%d}`, seed))
			check(t, c.place().Put(r))
			others[fmt.Sprint(it.Stream, string(it.Key), it.Ordinal)] = true
		case 1:
			check(t, c.place().Remove(it.Stream, string(it.Key), it.Ordinal))
			others[fmt.Sprint(it.Stream, string(it.Key), it.Ordinal)] = true
		}
	}
	start := c.left(t)
	deleted := map[string]int{}
	p := c.purger(t, plan)
	p.Batch = 1 + rnd.IntN(5)
	var out *retention.Purged
	for attempt := 0; ; attempt++ {
		if attempt > 60 {
			t.Errorf("seed %d: does not come to an end", seed)
			return
		}
		ctx, kill := context.WithCancelCause(t.Context())
		p.Source = func(ctx context.Context) (exporters.Exporter, error) {
			view, err := c.place().Open(ctx)
			if err != nil {
				return nil, err
			}
			return &faulty{Exporter: view, deleted: deleted, kill: kill, fate: func(string) fault {
				if attempt > 40 {
					return works
				}
				return []fault{works, works, works, works, lostReply, lostRequest, kills, retained}[rnd.IntN(8)]
			}}, nil
		}
		if rnd.IntN(4) == 0 { // the log cannot be written for a while
			c.log.fail = errors.New("unreachable")
		}
		out, err = p.Apply(ctx, plan)
		kill(nil)
		c.log.fail = nil
		if err == nil && out.Done() {
			break
		}
	}
	gone := map[string]bool{}
	for _, key := range start {
		gone[key] = true
	}
	for _, key := range c.left(t) {
		delete(gone, key)
	}
	for key, n := range deleted {
		if n != 1 || !planned[key] || others[key] {
			t.Errorf("seed %d: %s was deleted %d times (planned %v, changed by others %v)", seed, key, n, planned[key], others[key])
		}
	}
	if len(gone) != len(deleted) {
		t.Errorf("seed %d: %d records are gone, %d were deleted", seed, len(gone), len(deleted))
	}
	for _, l := range out.Lines {
		it := body.Items[l.Item]
		key := fmt.Sprint(it.Stream, string(it.Key), it.Ordinal)
		exact := (l.Fate == retention.Deleted) == (deleted[key] == 1)
		if l.Fate == retention.Gone { // nobody can know who was first
			exact = deleted[key] == 1 || others[key]
		}
		if !exact {
			t.Errorf("seed %d: the ledger says of %s %s; it was deleted %d times", seed, key, l.Fate, deleted[key])
		}
	}
	// What is in the store says the same, whatever was cut short.
	book, err := c.purger(t, plan).Ledger(t.Context(), plan)
	check(t, err)
	for _, l := range out.Lines {
		if l.Fate != book[l.Item].Fate {
			t.Errorf("seed %d: the ledger in the store says of item %d %q; it was %q", seed, l.Item, book[l.Item].Fate, l.Fate)
		}
	}
	if len(out.Lines) != len(body.Items) {
		t.Errorf("seed %d: the ledger has %d of %d items", seed, len(out.Lines), len(body.Items))
	}
	sum := int64(0)
	for n := range maps.Values(out.Fates) {
		sum += n
	}
	if sum != plan.Counts.Items {
		t.Errorf("seed %d: fates %v of %d items", seed, out.Fates, plan.Counts.Items)
	}
}
