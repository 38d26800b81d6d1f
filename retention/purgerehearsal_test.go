package retention_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
)

// What a rehearsal says is what the purge then does, item by item; and if that cannot be
// so any more, nothing is done.
func TestARehearsalSaysExactlyWhatThePurgeThenDoes(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func() (*court, func()){
		"memory": func() (*court, func()) {
			c := newCourt(t)
			c.fill(10)
			return c, func() { c.src = new(memory.Source); c.fill(10) }
		},
		"a database": func() (*court, func()) {
			c := newCourt(t)
			f := newFile(t, 20)
			c.other = f
			return c, func() { f.fill(t, 20) }
		},
	} {
		c, again := prepare()
		s := c.export(t)
		c.certify(t, s)
		rules := sevenYears
		if c.other != nil {
			rules = rules[1:]
		}
		for seed := range uint64(rounds(200, 5)) {
			again()
			rnd := rand.New(rand.NewPCG(seed, 3))
			c.pass(time.Second)
			plan := c.plan(t, s, c.planner(rules))
			check(t, c.approve(t, plan, retention.First, "alex", "blair"))
			o := c.office("verifier")
			body, err := o.Body(t.Context(), plan)
			check(t, err)
			disturb := func(one int) {
				it := &body.Items[one]
				if rnd.IntN(2) == 0 {
					check(t, c.place().Remove(it.Stream, string(it.Key), it.Ordinal))
					return
				}
				r := it.Record()
				r.Data = []byte(`{"id":1,"changed":true}`)
				check(t, c.place().Put(r))
			}
			mixed := rnd.Perm(len(body.Items))
			disturb(mixed[0])
			if rnd.IntN(2) == 0 {
				disturb(mixed[1])
			}
			before := c.left(t)
			p := c.purger(t, plan)
			would, err := p.Rehearse(t.Context(), plan)
			check(t, err)
			if left := c.left(t); !slices.Equal(left, before) {
				t.Fatalf("%s, seed %d: a rehearsal left %v of %v", name, seed, left, before)
			}
			if book, err := p.Ledger(t.Context(), plan); err != nil || len(book) > 0 {
				t.Fatalf("%s, seed %d: a rehearsal wrote the ledger: %v, %v", name, seed, book, err)
			}
			p.Expect = would.Hash()
			if seed%2 == 1 { // somebody is quicker
				disturb(mixed[2])
				before = c.left(t)
				out, err := p.Apply(t.Context(), plan)
				refused(t, err, "stale-plan")
				if left := c.left(t); out != nil || !slices.Equal(left, before) {
					t.Fatalf("%s, seed %d: left are %v of %v", name, seed, left, before)
				}
				continue
			}
			out, err := p.Apply(t.Context(), plan)
			check(t, err)
			if !reflect.DeepEqual(out.Lines, would.Lines) || !reflect.DeepEqual(out.Fates, would.Fates) || out.Hash() != would.Hash() {
				t.Fatalf("%s, seed %d: the rehearsal said %+v; done was %+v", name, seed, would.Lines, out.Lines)
			}
			if out.Fates[retention.Deleted] == 0 || len(out.Lines) != len(body.Items) {
				t.Fatalf("%s, seed %d: fates %v of %d items", name, seed, out.Fates, len(body.Items))
			}
		}
	}
}

// A rehearsal is refused where the purge would be.
func TestARehearsalIsRefusedLikeThePurge(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	_, err := c.purger(t, plan).Rehearse(t.Context(), plan)
	refused(t, err, "not-approved")
}

// Foreign keys order what is deleted: what others refer to goes after them if they are in
// the plan too, and else stays, by name.
func TestRowsGoAfterThoseThatReferToThem(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	f := newFile(t, 20)
	c.other = f
	// A chain in the order in which no reader of keys would take it apart.
	f.exec(t, "CREATE TABLE chain (id INTEGER PRIMARY KEY, next INTEGER REFERENCES chain (id))")
	for _, q := range []string{"3, NULL", "9, 3", "1, 9", "7, 1", "5, 7", "2, 5"} {
		f.exec(t, "INSERT INTO chain VALUES ("+q+")")
	}
	s := c.export(t)
	c.certify(t, s)
	ended := noon.AddDate(-1, 0, 0)
	rules := []retention.Rule{sevenYears[1], {Name: "chains", Stream: "chain", Because: "basis-expired", Since: ended, Authority: "decision 7"}}
	plan := c.plan(t, s, c.planner(rules))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	out, err := c.purger(t, plan).Apply(t.Context(), plan)
	check(t, err)
	// Of 20 rows 10 are old; notes refer to 2, 10 and 18.
	if out.Fates[retention.Refused] != 3 || out.Fates[retention.Deleted] != 7+6 || !out.Done() {
		t.Errorf("fates %v, absence %+v; want 3 refused and 13 deleted", out.Fates, out.Absence)
	}
	for _, l := range out.Lines {
		if l.Fate == retention.Refused && !strings.Contains(l.Detail, `"notes"`) {
			t.Errorf("item %d: the ledger does not say what refers to it: %q", l.Item, l.Detail)
		}
	}
}

// D07: limits hold for a plan together with what was deleted before it, also if that was
// after the plan was made.
func TestLimitsCountWhatWasDeletedInThePeriodBefore(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]retention.Limits{
		"number": {Items: 9, Percent: 100, Period: month},
		"share":  {Items: 1000, Percent: 99, Period: month},
	} {
		c, s := ready(t)
		objects, rows := c.planner(sevenYears[:1]), c.planner(sevenYears[1:])
		objects.Limits, rows.Limits = limits, limits
		first, early := c.plan(t, s, objects), c.plan(t, s, rows)
		if first.Confirm || early.Confirm {
			t.Fatalf("%s: a plan of 5 items asks for a second round: %+v", name, first.Counts)
		}
		check(t, c.approve(t, first, retention.First, "alex", "blair"))
		check(t, c.approve(t, early, retention.First, "alex", "blair"))
		apply := func(p *retention.SignedPlan) error {
			purger := c.purger(t, p)
			purger.Limits = limits
			_, err := purger.Apply(t.Context(), p)
			return err
		}
		check(t, apply(first))
		err := apply(early)
		refused(t, err, "not-confirmed")
		if err == nil || !strings.Contains(err.Error(), "within 30 days") {
			t.Errorf("%s: %v; want the reason", name, err)
		}
		late := c.plan(t, s, rows)
		if !late.Confirm {
			t.Errorf("%s: the next plan asks for no second round", name)
		}
		check(t, c.approve(t, early, retention.Second, "alex", "casey"))
		check(t, apply(early))
		// What is longer ago does not count.
		c.pass(2 * month)
		o := c.office("keeper")
		if n, share, err := o.Recent(t.Context(), service, c.now().Add(-month), dataset.Hash{}); n != 0 || share != 0 || err != nil {
			t.Errorf("%s: %d items, %d %%, %v within the month before now; want none", name, n, share, err)
		}
		if n, _, err := o.Recent(t.Context(), service, c.now().Add(-3*month), dataset.Hash{}); n != 10 || err != nil {
			t.Errorf("%s: %d items, %v within three months; want 10", name, n, err)
		}
	}
}

// D08: a purge that is cut short between its deletions and their publication publishes
// them when it goes on.
func TestWhatWasDeletedBeforeAKillIsPublishedAfterwards(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	p := c.purger(t, plan)
	c.store.Fault = stopAtAnnex(2) // of the second result
	if _, err := p.Apply(t.Context(), plan); err == nil {
		t.Fatal("the purge went on although its ledger could not be written")
	}
	c.store.Heal()
	book, err := p.Ledger(t.Context(), plan)
	check(t, err)
	if gone := 20 - len(c.left(t)); gone != 6 || len(book) != 3 {
		t.Fatalf("%d records are gone, %d are published; want 6 and 3", gone, len(book))
	}
	out, err := p.Apply(t.Context(), plan)
	check(t, err)
	book, err = p.Ledger(t.Context(), plan)
	check(t, err)
	if out.Fates[retention.Deleted] != 10 || len(book) != 10 {
		t.Errorf("fates %v, %d published; want 10 deleted and published", out.Fates, len(book))
	}
	if n, _, err := p.Recent(t.Context(), service, c.now().Add(-month), dataset.Hash{}); n != 10 || err != nil {
		t.Errorf("%d items were deleted by the ledgers, %v; want 10", n, err)
	}
}

// stopAtAnnex stops the world when the n-th annex is to be stored.
func stopAtAnnex(n int) func(int, string, string) archivetest.Verdict {
	return func(_ int, op, name string) archivetest.Verdict {
		if op != "create" || archive.ParseName(name).Class != archive.AnnexObject {
			return archivetest.Works
		}
		if n--; n > 0 {
			return archivetest.Works
		}
		return archivetest.Stop
	}
}
