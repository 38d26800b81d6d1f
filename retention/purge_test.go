package retention_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
)

// sevenYears lets go what is seven years old.
var sevenYears = []retention.Rule{
	{Name: "closed files", Stream: "objects", Because: "age", Field: "last_modified", Before: noon.AddDate(-7, 0, 0), Authority: "schedule 12"},
	{Name: "closed rows", Stream: "rows", Because: "age", Field: "closed", Before: noon.AddDate(-7, 0, 0), Authority: "schedule 12"},
}

const month = 30 * 24 * time.Hour

func (c *court) planner(rules []retention.Rule) *retention.Planner {
	return &retention.Planner{Office: c.office("verifier"), Rules: rules, Limits: retention.Limits{Items: 1000, Percent: 100}, Approvals: 2, Within: month}
}

// plan makes the plan that the tests carry out.
func (c *court) plan(t testing.TB, s *archive.Snapshot, p *retention.Planner) *retention.SignedPlan {
	t.Helper()
	proof, err := retention.FindProof(t.Context(), c.a, service, dataset.Hash{}, c.now())
	check(t, err)
	h, header, _, err := p.Plan(t.Context(), s, proof)
	check(t, err)
	if header == nil {
		t.Fatal("nothing is to be deleted")
	}
	o := c.office("keeper")
	plan, err := o.ReadPlan(t.Context(), service, h)
	check(t, err)
	return plan
}

// approve lets people sign, each with the key of that name.
func (c *court) approve(t testing.TB, plan *retention.SignedPlan, round retention.Round, people ...string) error {
	t.Helper()
	doc, err := plan.ToSign(round, plan.Counts.Items)
	check(t, err)
	var errs []error
	for _, name := range people {
		sig, err := c.signers[name].Sign("sallyport-approval", doc)
		check(t, err)
		o := c.office("keeper")
		_, err = o.Approve(t.Context(), plan, round, plan.Counts.Items, sig)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *court) purger(t testing.TB, plan *retention.SignedPlan) *retention.Purger {
	t.Helper()
	proof, err := retention.FindProof(t.Context(), c.a, service, plan.Certificate, c.now())
	check(t, err)
	return &retention.Purger{Office: c.office("keeper"), Log: c.log, Proof: proof, Within: month, Source: c.place().Open, State: t.TempDir(), Batch: 3}
}

// left lists the keys that the source still has.
func (c *court) left(t testing.TB) []string {
	t.Helper()
	view, err := c.place().Open(t.Context())
	check(t, err)
	defer view.Close()
	streams, err := view.Streams(t.Context())
	check(t, err)
	var keys []string
	for _, s := range streams {
		for r, err := range view.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}}) {
			check(t, err)
			keys = append(keys, fmt.Sprintf("%s %s/%d", s.Name, r.Key, r.Ordinal))
		}
	}
	return keys
}

// ready is a court with a certified snapshot of ten objects and ten rows, half of each
// old enough to go.
func ready(t testing.TB) (*court, *archive.Snapshot) {
	t.Helper()
	c := newCourt(t)
	c.fill(10)
	s := c.export(t)
	c.countersign(t, s)
	c.certify(t, s)
	return c, s
}

func TestPurgeDeletesExactlyWhatIsProvenApprovedAndOld(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	out, err := c.purger(t, plan).Apply(t.Context(), plan)
	check(t, err)
	if out.Fates[retention.Deleted] != 10 || !out.Done() {
		t.Errorf("fates %v, absence %+v; want 10 deleted and none found", out.Fates, out.Absence)
	}
	for _, key := range c.left(t) {
		var n int
		if _, err := fmt.Sscanf(strings.TrimLeft(key[strings.IndexAny(key, "0123456789"):], "0"), "%d", &n); err == nil && n%2 == 0 {
			t.Errorf("%s is still there", key)
		}
	}
	if n := len(c.left(t)); n != 10 {
		t.Errorf("%d records are left; want 10", n)
	}
	// The archive alone gives everything back.
	o := c.office("verifier")
	body, err := o.Body(t.Context(), plan)
	check(t, err)
	rebuilt, err := retention.Rebuild(t.Context(), s, body)
	if err != nil || rebuilt != verify.Pass {
		t.Errorf("rebuilt: %v, %v", rebuilt, err)
	}
	k := c.keeperDesk()
	proposal, err := k.Propose(t.Context(), service, func(time.Time) retention.Keep { return retention.Keep{Last: 1} })
	check(t, err)
	_, d, err := k.Certify(t.Context(), out, proposal.Plan, rebuilt)
	check(t, err)
	if text := d.Report(); !strings.Contains(text, "10 deleted") || !strings.Contains(text, "alex") || !strings.Contains(text, string(s.Run)) || strings.Contains(text, "file-0") {
		t.Errorf("report:\n%s", text)
	}
	if r, err := (verify.Check{Archive: c.a, Service: service, Now: c.now()}).Run(t.Context()); err != nil || len(r.Findings) > 0 {
		t.Errorf("a check of the archive afterwards: %v, %v", r.Findings, err)
	}
	if err := c.store.Misuse(); err != nil {
		t.Error(err)
	}
	// A plan is carried out once.
	_, err = c.purger(t, plan).Apply(t.Context(), plan)
	refused(t, err, "replay")
	// D12: the snapshot that holds what was purged does not expire, whatever the rules say.
	for range 3 {
		c.countersign(t, c.export(t))
	}
	proposal, err = k.Propose(t.Context(), service, func(time.Time) retention.Keep { return retention.Keep{Last: 1} })
	check(t, err)
	for _, d := range proposal.Snapshots {
		if d.Run == s.Run && (d.Expires || !slices.Contains(d.Reasons, retention.KeptProof)) {
			t.Errorf("the last proof of purged data: %v", d.Reasons)
		}
	}
}

// D01: no certificate, or one that proves something else or nothing any more.
func TestPurgeNeedsACertificateThatHolds(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(4)
	s := c.export(t)
	_, err := retention.FindProof(t.Context(), c.a, service, dataset.Hash{}, c.now())
	refused(t, err, "no-proof")
	c.certify(t, s)
	good, err := retention.FindProof(t.Context(), c.a, service, dataset.Hash{}, c.now())
	check(t, err)
	for _, tt := range []struct {
		name  string
		code  string
		alter func(p *retention.Proof)
	}{
		{"another service", "no-proof", func(p *retention.Proof) { p.Service = "payments" }},
		{"another store", "no-proof", func(p *retention.Proof) { p.Store = dataset.NewID() }},
		{"another snapshot", "no-proof", func(p *retention.Proof) { p.Manifest = dataset.Sum(nil) }},
		{"not proven", "no-proof", func(p *retention.Proof) { p.Proven = false }},
		{"too old", "stale-proof", func(p *retention.Proof) { p.Issued = c.now().Add(-month - time.Hour) }},
		{"expired", "stale-proof", func(p *retention.Proof) { p.Expires = c.now().Add(-time.Hour) }},
		{"of the future", "no-proof", func(p *retention.Proof) { p.Issued = c.now().Add(time.Hour) }},
		{"signed by the exporter", "no-proof", func(p *retention.Proof) { p.Signer.Principal = "exporter" }},
	} {
		proof := *good
		tt.alter(&proof)
		if _, _, _, err := c.planner(sevenYears).Plan(t.Context(), s, &proof); err == nil {
			t.Errorf("%s: was planned", tt.name)
		} else {
			refused(t, err, tt.code)
		}
	}
	// What held when the plan was made must hold when it is carried out.
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	p := c.purger(t, plan)
	p.Proof = nil
	_, err = p.Apply(t.Context(), plan)
	refused(t, err, "no-proof")
	p = c.purger(t, plan)
	p.Within = time.Second
	_, err = p.Apply(t.Context(), plan)
	refused(t, err, "stale-proof")
	// A pack that is damaged since breaks the certificate.
	for _, name := range c.store.Names() {
		if archive.ParseName(name).Class == archive.PackObject {
			b := slices.Clone(c.store.Bytes(name))
			b[len(b)/2] ^= 1
			c.store.Put(name, b)
			break
		}
	}
	_, err = retention.FindProof(t.Context(), c.a, service, plan.Certificate, c.now())
	refused(t, err, "no-proof")
	if n := len(c.left(t)); n != 8 {
		t.Errorf("%d records are left; want all 8", n)
	}
}

// D01: the same service name, another bucket, account or environment.
func TestPurgeRefusesAnotherSource(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	p := c.purger(t, plan)
	c.src.Facts.Endpoints[0].URL = "https://test.example"
	_, err := p.Apply(t.Context(), plan)
	refused(t, err, "other-source")
	c.src.Facts.Endpoints[0].URL = "https://source.example"
	other := &memory.Source{Facts: c.src.Facts}
	other.Add(dataset.Stream{Name: "objects", Blobs: true, Attributes: []byte(`{"bucket":"other"}`)})
	other.Add(dataset.Stream{Name: "rows"})
	p.Source = other.Open
	_, err = p.Apply(t.Context(), plan)
	refused(t, err, "other-source")
	if n := len(c.left(t)); n != 20 {
		t.Errorf("%d records are left; want all 20", n)
	}
}

// D02: what changed since the proof stays, and what is new is not touched.
func TestPurgeLeavesWhatChangedAloneAndSaysSo(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	changed := object("file-002", 0, noon.AddDate(-8, 0, 0).Format(time.RFC3339))
	changed.Stream = "objects"
	check(t, c.src.Put(changed))
	added := object("file-new", 0, noon.AddDate(-9, 0, 0).Format(time.RFC3339))
	added.Stream = "objects"
	check(t, c.src.Put(added))
	check(t, c.src.Remove("rows", "[4]", 0))
	out, err := c.purger(t, plan).Apply(t.Context(), plan)
	check(t, err)
	if f := out.Fates; f[retention.Deleted] != 8 || f[retention.Changed] != 1 || f[retention.Absent] != 1 {
		t.Errorf("fates %v; want 8 deleted, 1 changed, 1 absent", f)
	}
	left := c.left(t)
	if !slices.Contains(left, "objects file-002/0") || !slices.Contains(left, "objects file-new/0") {
		t.Errorf("left: %v", left)
	}
}

// D06
func TestPurgeNeedsEnoughPeopleOtherThanThePlanner(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	apply := func() error { _, err := c.purger(t, plan).Apply(t.Context(), plan); return err }
	refused(t, apply(), "not-approved")
	for _, name := range []string{"exporter's approval", "planner"} {
		if name == "planner" { // who plans may not approve their own
			o := c.office("planner")
			own := c.planner(sevenYears)
			own.Office = o
			other := c.plan(t, s, own)
			refused(t, c.approve(t, other, retention.First, "planner"), "not-approved")
			continue
		}
		refused(t, c.approve(t, plan, retention.First, name), "not-approved")
	}
	refused(t, c.approve(t, plan, retention.First, "stranger"), "not-approved")
	check(t, c.approve(t, plan, retention.First, "alex", "alex's second"))
	refused(t, apply(), "not-approved") // two keys, one person
	// An approval of another plan is none of this one.
	other := c.plan(t, s, c.planner(sevenYears[:1]))
	doc, err := other.ToSign(retention.First, 0)
	check(t, err)
	sig, err := c.signers["blair"].Sign("sallyport-approval", doc)
	check(t, err)
	o := c.office("keeper")
	if _, err := o.Approve(t.Context(), plan, retention.First, 0, sig); !errors.Is(err, crypto.ErrBadSignature) {
		t.Errorf("an approval of another plan: %v", err)
	}
	// Nor is one that somebody put there by hand.
	check(t, c.a.AddSignature(t.Context(), service, plan.Hash, "sallyport-approval", sig))
	refused(t, apply(), "not-approved")
	// One that was withdrawn with its key counts no more.
	check(t, c.approve(t, plan, retention.First, "blair"))
	all := c.a.Trust
	var without strings.Builder
	for _, l := range all.Signers() {
		if l.Principal != "blair" {
			without.WriteString(l.String() + "\n")
		}
	}
	c.a.Trust, err = crypto.ParseAllowedSigners([]byte(without.String()), "allowed_signers")
	check(t, err)
	refused(t, apply(), "not-approved")
	c.a.Trust = all
	// A plan does not live for ever.
	c.pass(15 * 24 * time.Hour)
	refused(t, apply(), "plan-expired")
	refused(t, c.approve(t, plan, retention.First, "casey"), "plan-expired")
	if n := len(c.left(t)); n != 20 {
		t.Errorf("%d records are left; want all 20", n)
	}
}

// D07
func TestLargePurgeNeedsASecondRoundWithTheNumber(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	for name, limits := range map[string]retention.Limits{"number": {Items: 9, Percent: 100}, "share": {Items: 100, Percent: 49}} {
		p := c.planner(sevenYears)
		p.Limits = limits
		plan := c.plan(t, s, p)
		if !plan.Confirm {
			t.Fatalf("%s: no second round is asked for: %+v", name, plan.Counts)
		}
		check(t, c.approve(t, plan, retention.First, "alex", "blair"))
		_, err := c.purger(t, plan).Apply(t.Context(), plan)
		refused(t, err, "not-confirmed")
		_, err = plan.ToSign(retention.Second, plan.Counts.Items+1)
		refused(t, err, "wrong-number")
		check(t, c.approve(t, plan, retention.Second, "alex"))
		_, err = c.purger(t, plan).Apply(t.Context(), plan)
		refused(t, err, "not-confirmed")
		if name == "share" {
			check(t, c.approve(t, plan, retention.Second, "casey"))
			out, err := c.purger(t, plan).Apply(t.Context(), plan)
			check(t, err)
			if out.Fates[retention.Deleted] != 10 {
				t.Errorf("fates %v", out.Fates)
			}
		}
	}
}

// D07: rules that are no rules, and dates that are no dates, let nothing go.
func TestDoubtfulDatesAndRulesLetNothingGo(t *testing.T) {
	t.Parallel()
	rec := func(date string) dataset.Record {
		return dataset.Record{Stream: "rows", Key: date, Data: []byte(`{"closed":` + date + `}`)}
	}
	var recs []dataset.Record
	for _, d := range []string{`null`, `""`, `"soon"`, `0`, `1262304000`, `"1970-01-01"`, `"1970-01-01T00:00:00Z"`, `"0001-01-01"`, `"2099-01-01"`, `"2010-05-05"`} {
		recs = append(recs, rec(d))
	}
	recs = append(recs, dataset.Record{Stream: "rows", Key: "none", Data: []byte(`{}`)})
	src := func() []retention.StreamSource {
		return []retention.StreamSource{{Stream: dataset.Stream{Name: "rows"}, Count: int64(len(recs)), Records: func(yield func(dataset.Record, error) bool) {
			for _, r := range recs {
				if !yield(r, nil) {
					return
				}
			}
		}}}
	}
	sel, err := retention.Select(noon, sevenYears, src(), nil)
	check(t, err)
	if len(sel.Items) != 1 || sel.Items[0].Key != `"2010-05-05"` {
		t.Errorf("picked %v; want the one with a date", sel.Items)
	}
	if c := sel.Count(src()); c.Kept[retention.NoDate] != 6 || c.Kept[retention.DoubtfulDate] != 4 {
		t.Errorf("kept %v; want 6 without a date and 4 doubtful ones", c.Kept)
	}
	for name, rule := range map[string]retention.Rule{
		"no moment":           {Stream: "rows", Because: "age", Field: "closed"},
		"a moment to come":    {Stream: "rows", Because: "age", Field: "closed", Before: noon.Add(time.Hour)},
		"no field":            {Stream: "rows", Because: "age", Before: noon.Add(-time.Hour)},
		"an end to come":      {Stream: "rows", Because: "decommissioned", Since: noon.Add(time.Hour)},
		"an end never stated": {Stream: "rows", Because: "basis-expired"},
		"no stream":           {Because: "decommissioned", Since: noon.Add(-time.Hour)},
	} {
		if _, err := retention.Select(noon, []retention.Rule{rule}, src(), nil); err == nil {
			t.Errorf("a rule with %s was obeyed", name)
		}
	}
	c, s := ready(t)
	proof, err := retention.FindProof(t.Context(), c.a, service, dataset.Hash{}, c.now())
	check(t, err)
	_, _, _, err = c.planner(nil).Plan(t.Context(), s, proof)
	refused(t, err, "no-rules")
}

// A version is never deleted where that would bring an older one back.
func TestPurgeNeverBringsAnOlderVersionBack(t *testing.T) {
	t.Parallel()
	old, young := "2010-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
	version := func(ordinal int, date string, marker bool) dataset.Record {
		data := fmt.Sprintf(`{"version_id":"v%d","last_modified":%q,"delete_marker":%v}`, ordinal, date, marker)
		return dataset.Record{Stream: "objects", Key: "k", Ordinal: ordinal, Data: []byte(data)}
	}
	for _, tt := range []struct {
		name string
		recs []dataset.Record // newest first
		want string
	}{
		{"all old", []dataset.Record{version(2, old, false), version(1, old, false), version(0, old, false)}, "0 1 2!"},
		{"the newest is young", []dataset.Record{version(2, young, false), version(1, old, false), version(0, old, false)}, "0 1"},
		{"an older one is young", []dataset.Record{version(2, old, false), version(1, young, false), version(0, old, false)}, "0"},
		{"the archive lacks an older one", []dataset.Record{version(2, old, false), version(1, old, false)}, "1"},
		{"a delete marker over old ones", []dataset.Record{version(1, old, true), version(0, old, false)}, "0 1!"},
		{"a delete marker over a young one", []dataset.Record{version(1, old, true), version(0, young, false)}, ""},
		{"one alone", []dataset.Record{version(0, old, false)}, "0"},
	} {
		sel, err := retention.Select(noon, sevenYears, []retention.StreamSource{{Stream: dataset.Stream{Name: "objects", Blobs: true},
			Records: func(yield func(dataset.Record, error) bool) {
				for _, r := range tt.recs {
					if !yield(r, nil) {
						return
					}
				}
			}}}, nil)
		check(t, err)
		var got []string
		for _, it := range sel.Items {
			got = append(got, strings.TrimSuffix(fmt.Sprintf("%d%s", it.Ordinal, map[bool]string{true: "!"}[it.Last]), ""))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: picked %v; want %q", tt.name, got, tt.want)
		}
	}
}

// L04: if the log cannot be written nothing is deleted.
func TestUnwritableLogStopsThePurge(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	c.log.fail = errors.New("the store is full")
	if _, err := c.purger(t, plan).Apply(t.Context(), plan); err == nil {
		t.Error("the purge went on without a log")
	}
	if n := len(c.left(t)); n != 20 {
		t.Errorf("%d records are left; want all 20", n)
	}
	// L03: intents stand before results.
	c.log.fail = nil
	c.log.events = nil
	_, err := c.purger(t, plan).Apply(t.Context(), plan)
	check(t, err)
	open := map[dataset.ID]bool{}
	for _, e := range c.log.events {
		switch e.Phase {
		case audit.Intent:
			open[e.ID] = true
		case audit.Result:
			if !open[e.Of] {
				t.Errorf("a result without an intent: %+v", e)
			}
			delete(open, e.Of)
		}
	}
	if len(open) > 0 || len(c.log.events) == 0 {
		t.Errorf("%d events, %d intents without a result", len(c.log.events), len(open))
	}
}

// faulty is a source whose deletions go wrong as decided.
type faulty struct {
	exporters.Exporter
	fate    func(key string) fault
	deleted map[string]int // how often each was deleted, for real
	kill    context.CancelCauseFunc
}

type fault int

const (
	works fault = iota
	lostReply
	lostRequest
	kills // after the deletion took effect, and before anything is written down
	retained
	denied
)

func (f *faulty) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	what := f.fate(s.Name + r.Key)
	switch what {
	case lostRequest:
		return exporters.ErrTemporary
	case retained:
		if f.deleted[fmt.Sprint(s.Name, r.Key, r.Ordinal)] == 0 {
			return exporters.ErrRetained
		}
	case denied:
		return fmt.Errorf("%w: denied", exporters.ErrCredentials)
	}
	err := f.Exporter.(exporters.Deleter).Delete(ctx, s, r)
	if err == nil {
		f.deleted[fmt.Sprint(s.Name, r.Key, r.Ordinal)]++
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return err
	case what == kills:
		f.kill(errors.New("killed"))
		return context.Canceled
	case what == lostReply:
		return errors.Join(err, exporters.ErrTemporary)
	}
	return err
}
