package retention_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
)

func keepLast(n int) func(time.Time) retention.Keep {
	return func(time.Time) retention.Keep { return retention.Keep{Last: n} }
}

// apply plans, and applies what was planned.
func apply(t testing.TB, k *retention.Keeper, keep func(time.Time) retention.Keep) (*retention.Outcome, error) {
	t.Helper()
	p, err := k.Propose(t.Context(), service, keep)
	if err != nil {
		return nil, err
	}
	return k.Apply(t.Context(), service, keep, p.Hash())
}

func TestExpiredSnapshotsGoAndTheOthersVerify(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(6)
	var all []*archive.Snapshot
	for range 4 {
		check(t, c.src.Put(dataset.Record{Stream: "rows", Key: "[0]", Data: fmt.Appendf(nil, `{"id":0,"n":%d}`, len(all))}))
		s := c.export(t)
		c.countersign(t, s)
		all = append(all, s)
	}
	out, err := apply(t, c.keeperDesk(), keepLast(1))
	check(t, err)
	if len(out.Expired) != 3 || len(out.Collection.Removed) == 0 {
		t.Errorf("expired %v, removed %d objects", out.Expired, len(out.Collection.Removed))
	}
	r, err := verify.Verification{Snapshot: c.open(t, all[3].Decision)}.Run(t.Context())
	if err != nil || r.Content != verify.Pass {
		t.Errorf("the snapshot that stays: %v, %v", r.Content, err)
	}
	report, err := verify.Check{Archive: c.a, Service: service, Now: c.now()}.Run(t.Context())
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("check: %v, %v", report.Findings, err)
	}
	if err := c.store.Misuse(); err != nil {
		t.Error(err)
	}
}

func TestKeeperRefusesAStalePlanAndStopsWithoutALog(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(2)
	for range 3 {
		c.countersign(t, c.export(t))
	}
	k := c.keeperDesk()
	_, err := k.Apply(t.Context(), service, keepLast(1), dataset.Sum(nil))
	refused(t, err, "stale-plan")
	c.log.fail = errors.New("full")
	before := c.store.Names()
	if _, err := apply(t, k, keepLast(1)); err == nil {
		t.Error("expired without a log")
	}
	if !slices.Equal(before, c.store.Names()) {
		t.Error("something was written or removed without a log")
	}
}

// D04: a hold that is there, one that comes between plan and act, and one that cannot be
// read.
func TestHoldsStopEveryDeletion(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(4)
	for range 3 {
		c.countersign(t, c.export(t))
	}
	k := c.keeperDesk()
	p, err := k.Propose(t.Context(), service, keepLast(1))
	check(t, err)
	o := c.office("alex")
	scope := retention.HoldAnnex{Authority: "claim 17", Scopes: []retention.Scope{{Stream: "objects", Prefix: "file-"}}}
	h, err := o.Place(t.Context(), service, "litigation", scope)
	check(t, err)
	_, err = k.Apply(t.Context(), service, keepLast(1), p.Hash()) // planned before the hold
	refused(t, err, "stale-plan")
	before := packs(c)
	out, err := apply(t, k, keepLast(1))
	check(t, err)
	if len(out.Expired) > 0 || packs(c) != before {
		t.Errorf("with a hold %d snapshots expired, %d of %d packs are left", len(out.Expired), packs(c), before)
	}
	for _, name := range c.store.Names() { // the scope is nowhere in public
		if strings.Contains(name, "/holds/") && strings.Contains(string(c.store.Bytes(name)), "file-") {
			t.Errorf("%s names its scope", name)
		}
	}
	// A junk hold stops everything, because it may be one.
	name := service + "/holds/" + dataset.Sum([]byte("{}")).String() + ".json"
	c.store.Put(name, []byte("{}"))
	var integrity *archive.IntegrityError
	if _, err := apply(t, k, keepLast(1)); !errors.As(err, &integrity) {
		t.Errorf("with a junk hold: %v", err)
	}
	c.store.Put(name, nil)
	// So does a folder that cannot be listed.
	c.store.Fault = func(_ int, op, name string) archivetest.Verdict {
		if op == "list" && strings.HasSuffix(name, "/holds/") {
			return archivetest.Cut
		}
		return archivetest.Works
	}
	if _, err := apply(t, k, keepLast(1)); err == nil {
		t.Error("deleted although the holds could not be read")
	}
	c.store.Heal()
	// A release by nobody who may is none.
	forger := c.office("exporter")
	forger.Open = c.managed
	if _, err := forger.Release(t.Context(), service, h, "ended", scope); !errors.Is(err, crypto.ErrWrongNamespace) {
		t.Errorf("an exporter's release: %v", err)
	}
	_, err = o.Release(t.Context(), service, h, "ended", scope)
	check(t, err)
	if out, err = apply(t, k, keepLast(1)); err != nil || len(out.Expired) != 2 {
		t.Errorf("after the release: %+v, %v", out, err)
	}
}

func packs(c *court) (n int) {
	for _, name := range c.store.Names() {
		if archive.ParseName(name).Class == archive.PackObject {
			n++
		}
	}
	return n
}

// D04 at the source: held by key, by prefix, by subject, whole, and sealed to others.
func TestHeldRecordsArePlannedByNobodyAndLeftByThePurge(t *testing.T) {
	t.Parallel()
	for name, scope := range map[string]retention.Scope{
		"key": {Key: "file-002"}, "prefix": {Stream: "objects", Prefix: "file-002"}, "subject": {Subject: "file-002"}, "whole": {},
	} {
		c, s := ready(t)
		before := c.plan(t, s, c.planner(sevenYears))
		check(t, c.approve(t, before, retention.First, "alex", "blair"))
		o := c.office("alex")
		_, err := o.Place(t.Context(), service, "inquiry", retention.HoldAnnex{Authority: "x", Scopes: []retention.Scope{scope}})
		check(t, err)
		out, err := c.purger(t, before).Apply(t.Context(), before)
		check(t, err)
		want := int64(1)
		if name == "whole" {
			want = 10
		}
		if out.Fates[retention.Held] != want || out.Fates[retention.Deleted] != 10-want {
			t.Errorf("%s: fates %v", name, out.Fates)
		}
		if !slices.Contains(c.left(t), "objects file-002/0") {
			t.Errorf("%s: what is held was deleted", name)
		}
	}
	// A hold whose scope the purger cannot read holds everything.
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	o := c.office("alex")
	_, o.Seal = newIdentity(t)
	_, err := o.Place(t.Context(), service, "inquiry", retention.HoldAnnex{Authority: "x", Scopes: []retention.Scope{{Key: "unrelated"}}})
	check(t, err)
	out, err := c.purger(t, plan).Apply(t.Context(), plan)
	check(t, err)
	if out.Fates[retention.Held] != 10 {
		t.Errorf("a sealed hold: fates %v", out.Fates)
	}
}

func TestHoldThatIsTakenAwayIsMissed(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(2)
	c.countersign(t, c.export(t))
	o := c.office("alex")
	_, err := o.Place(t.Context(), service, "audit", retention.HoldAnnex{Authority: "x", Scopes: []retention.Scope{{}}})
	check(t, err)
	k := c.keeperDesk()
	k.Memory = retention.Memory{Dir: t.TempDir()}
	_, err = apply(t, k, keepLast(1))
	check(t, err)
	for _, name := range c.store.Names() {
		if strings.Contains(name, "/holds/") {
			c.store.Put(name, nil)
		}
	}
	var integrity *archive.IntegrityError
	if _, err := apply(t, k, keepLast(1)); !errors.As(err, &integrity) {
		t.Errorf("a hold was taken away: %v", err)
	}
}

func TestRotationLocksTheOldRecipientOutOfEveryKeyFile(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(3)
	for range 3 {
		c.countersign(t, c.export(t))
	}
	before := packs(c)
	next, to := newIdentity(t)
	r := &retention.Rotation{Archive: c.a, Signer: c.signers["verifier"], Open: c.managed, Data: to, Log: c.log, Now: c.now}
	// Cut short, it goes on.
	n := 0
	c.store.Fault = func(_ int, op, name string) archivetest.Verdict {
		if n++; op == "create" && n > 25 {
			return archivetest.Cut
		}
		return archivetest.Works
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := r.Run(ctx, service); err == nil {
		t.Error("a rotation that could not write succeeded")
	}
	c.store.Heal()
	out, err := r.Run(t.Context(), service)
	check(t, err)
	if out.Resealed+out.Already != out.Keys || out.Keys < 2 {
		t.Errorf("rotated %+v", out)
	}
	if out, err = r.Run(t.Context(), service); err != nil || out.Resealed != 0 {
		t.Errorf("rotated again: %+v, %v", out, err)
	}
	c.pass(25 * time.Hour) // what the first rotation left behind is no rotation's that goes on
	k := c.keeperDesk()
	done, err := apply(t, k, keepLast(100))
	check(t, err)
	if len(done.Superseded) == 0 || packs(c) != before {
		t.Errorf("%d obsolete key files went, %d of %d packs are left", len(done.Superseded), packs(c), before)
	}
	for _, name := range c.store.Names() {
		if archive.ParseName(name).Class != archive.KeyObject {
			continue
		}
		if _, err := c.managed.Open(c.store.Bytes(name)); !errors.Is(err, crypto.ErrNoKey) {
			t.Errorf("the old identity opens %s: %v", name, err)
		}
		if _, err := next.Open(c.store.Bytes(name)); err != nil {
			t.Errorf("the new identity does not open %s: %v", name, err)
		}
	}
	report, err := verify.Check{Archive: c.a, Service: service, Now: c.now()}.Run(t.Context())
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("check: %v, %v", report.Findings, err)
	}
	// A16: who opens what is proven by opening it.
	tests, err := retention.TestKeys(t.Context(), c.a, service, []verify.Identity{{Name: "old", Opener: c.managed}, {Name: "new", Opener: next}})
	check(t, err)
	for _, k := range tests {
		if !slices.Equal(k.Opened, []string{"new"}) || len(k.Snapshots) == 0 {
			t.Errorf("key %s: opened by %v, needed by %v", k.Key.ID, k.Opened, k.Snapshots)
		}
	}
}

// An exporter may sign statements about keys; that must not make the keeper throw good
// keys away.
func TestForgedRotationRemovesNoKey(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(2)
	s := c.export(t)
	c.countersign(t, s)
	_, thief := newIdentity(t)
	r := &retention.Rotation{Archive: c.a, Signer: c.signers["exporter"], Open: c.managed, Data: thief, Log: c.log, Now: c.now}
	_, err := r.Run(t.Context(), service)
	check(t, err)
	out, err := apply(t, c.keeperDesk(), keepLast(1))
	check(t, err)
	if len(out.Superseded) > 0 {
		t.Errorf("%v were removed", out.Superseded)
	}
	c.open(t, s.Decision)
}
