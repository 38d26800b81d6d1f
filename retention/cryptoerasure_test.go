package retention_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// alter changes a row, so that the next export writes packs of its own.
func (c *court) alter(t testing.TB, n int) {
	t.Helper()
	check(t, c.src.Put(dataset.Record{Stream: "rows", Key: "[0]", Data: fmt.Appendf(nil, `{"id":0,"n":%d}`, n)}))
}

// lasting is an object that the exports after it do not read again.
func lasting(key string) dataset.Record {
	r := object(key, 0, noon.Format(time.RFC3339))
	r.Stream = "objects"
	return r
}

// madeBy returns a key of a role that the run of a snapshot made for itself.
func madeBy(t testing.TB, s *archive.Snapshot, role archive.Role) dataset.Hash {
	t.Helper()
	i := slices.IndexFunc(s.Manifest.Keys, func(k archive.KeyRef) bool { return k.Run == s.Run && k.Role == role })
	if i < 0 {
		t.Fatalf("snapshot %s names no %s key of its own", s.Run, role)
	}
	return s.Manifest.Keys[i].ID
}

// readable fails the test unless exactly the snapshots that are not destroyed open, verify
// and are restored.
func (c *court) readable(t *testing.T, all []*archive.Snapshot, destroyed []archive.RunID) {
	t.Helper()
	for _, s := range all {
		snap, err := c.a.Snapshot(t.Context(), service, s.Decision)
		check(t, err)
		err = snap.Unlock(t.Context(), c.managed)
		if slices.Contains(destroyed, s.Run) {
			if err == nil { // the index may be open: what was destroyed is then missing
				var r *verify.VerifyReport
				if r, err = (verify.Verification{Snapshot: snap}).Run(t.Context()); err == nil && r.Content == verify.Pass {
					t.Errorf("snapshot %s was destroyed and can be read", s.Run)
				}
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("snapshot %s was destroyed: %v", s.Run, err)
			}
			continue
		}
		check(t, err)
		if r, err := (verify.Verification{Snapshot: snap}).Run(t.Context()); err != nil || r.Content != verify.Pass {
			t.Errorf("snapshot %s does not verify any more: %v, %v", s.Run, r, err)
		}
		out, err := transfer.Restore{Snapshot: snap, Target: new(memory.Target), Test: dataset.NewID()}.Run(t.Context())
		if err != nil || out.Cause != nil {
			t.Errorf("snapshot %s is not restored any more: %v, %v", s.Run, err, out)
		}
	}
}

// erase plans, and destroys what was planned.
func (c *court) erase(t testing.TB, k *retention.Keeper, key dataset.Hash) []archive.RunID {
	t.Helper()
	plan, err := retention.PlanCryptoErasure(t.Context(), c.a, service, key)
	check(t, err)
	_, err = k.CryptoErase(t.Context(), service, key, plan.Destroys)
	check(t, err)
	return plan.Destroys
}

// sound fails the test if a check without keys finds anything.
func (c *court) sound(t testing.TB) {
	t.Helper()
	report, err := verify.Check{Archive: c.a, Service: service, Now: c.now()}.Run(t.Context())
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("check: %v, %v", report.Findings, err)
	}
}

func TestDestroyingAKeyMakesExactlyTheListedSnapshotsUnreadable(t *testing.T) {
	t.Parallel()
	for _, role := range []archive.Role{archive.DataRole, archive.IndexRole} {
		c := newCourt(t)
		c.fill(6)
		c.src.Reuse = true
		var all []*archive.Snapshot
		for i := range 4 {
			c.alter(t, i)
			switch i {
			case 1: // the third builds on this
				check(t, c.src.Put(lasting("file-100")))
			case 3: // builds on nothing, so needs no key of the others
				c.state = t.TempDir()
			}
			s := c.export(t)
			c.countersign(t, s)
			all = append(all, s)
		}
		key := madeBy(t, all[1], role)
		k := c.keeperDesk()
		for _, named := range [][]archive.RunID{nil, {all[1].Run}, {all[0].Run, all[1].Run, all[2].Run, all[3].Run}} {
			_, err := k.CryptoErase(t.Context(), service, key, named)
			refused(t, err, "not-named")
		}
		c.readable(t, all, nil)
		destroyed := c.erase(t, k, key)
		if want := []archive.RunID{all[1].Run, all[2].Run}; !slices.Equal(destroyed, want) {
			t.Errorf("the %s key of the second of four takes %v; want %v", role, destroyed, want)
		}
		c.readable(t, all, destroyed)
		c.sound(t)
		if err := c.store.Misuse(); err != nil {
			t.Error(err)
		}
	}
}

func TestDestroyingTheKeyOfAMonthTakesTheWholeMonth(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.clock, c.monthKeys = time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC), true
	c.fill(6)
	c.src.Reuse = true
	var all []*archive.Snapshot
	for i := range 4 {
		if i == 3 {
			c.clock = time.Date(2026, 4, 1, 2, 0, 0, 0, time.UTC)
		}
		c.alter(t, i)
		s := c.export(t)
		c.countersign(t, s)
		all = append(all, s)
	}
	march, april := madeBy(t, all[0], archive.DataRole), madeBy(t, all[3], archive.DataRole)
	plan, err := retention.PlanCryptoErasure(t.Context(), c.a, service, march)
	check(t, err)
	if want := []archive.RunID{all[0].Run, all[1].Run, all[2].Run, all[3].Run}; !slices.Equal(plan.Destroys, want) {
		t.Errorf("the key of March takes %v; want March, and April's, which reuses its packs: %v", plan.Destroys, want)
	}
	if destroyed := c.erase(t, c.keeperDesk(), april); !slices.Equal(destroyed, []archive.RunID{all[3].Run}) {
		t.Errorf("the key of April took %v", destroyed)
	}
	c.readable(t, all, []archive.RunID{all[3].Run})
	c.sound(t)
	// The next export of April does not build on what was destroyed.
	c.alter(t, 9)
	next := c.export(t)
	if madeBy(t, next, archive.DataRole) == april {
		t.Error("an export goes on under a key that was destroyed")
	}
	c.readable(t, append(all, next), []archive.RunID{all[3].Run})
}

func TestKeyIsNotDestroyedWhileSomethingForbidsIt(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(4)
	c.src.Reuse = true
	s := c.export(t)
	c.countersign(t, s)
	c.alter(t, 0)
	c.countersign(t, c.export(t))
	key, k := madeBy(t, s, archive.DataRole), c.keeperDesk()
	plan, err := retention.PlanCryptoErasure(t.Context(), c.a, service, key)
	if err != nil || len(plan.Destroys) != 2 {
		t.Fatalf("the key of the first takes %v, %v; want both", plan, err)
	}

	// A run that is open may have built on the key.
	run, err := archive.Begin(t.Context(), c.a, archive.Options{Service: service, Signer: c.signers["exporter"], Recipients: c.toAll, Now: c.now})
	check(t, err)
	run.Abandon()
	before := c.store.Names()
	_, err = k.CryptoErase(t.Context(), service, key, plan.Destroys)
	refused(t, err, "open-runs")
	if !slices.Equal(before, c.store.Names()) {
		t.Error("something was written or removed while a run was open")
	}
	c.pass(time.Minute)
	_, err = apply(t, k, keepLast(100)) // decides the run: the desk waits for nobody
	check(t, err)

	// So is one that ends between the first look and the last.
	meddling := c.keeperDesk()
	meddling.Log = &meddler{log: c.log, do: func() {
		c.alter(t, 1)
		c.export(t)
	}}
	_, err = meddling.CryptoErase(t.Context(), service, key, plan.Destroys)
	refused(t, err, "not-named")
	all, err := c.a.Snapshots(t.Context(), service)
	check(t, err)
	for _, d := range all.All {
		c.readable(t, []*archive.Snapshot{c.open(t, d)}, nil)
	}
	if plan, err = retention.PlanCryptoErasure(t.Context(), c.a, service, key); err != nil || len(plan.Destroys) == 0 {
		t.Fatalf("the run that came in between needs nothing of the key: %+v, %v", plan, err)
	}

	// And a hold, whatever it is about.
	alex := c.office("alex")
	_, err = alex.Place(t.Context(), service, "litigation", retention.HoldAnnex{Authority: "x", Scopes: []retention.Scope{{Key: "unrelated"}}})
	check(t, err)
	_, err = k.CryptoErase(t.Context(), service, key, plan.Destroys)
	refused(t, err, "held")
	c.readable(t, []*archive.Snapshot{c.open(t, all.All[0])}, nil)
}

// A meddler does something when an intent is recorded for the first time.
type meddler struct {
	*log
	do func()
}

func (m *meddler) Append(e audit.Event) error {
	if do := m.do; do != nil {
		m.do = nil
		do()
	}
	return m.log.Append(e)
}

func TestKeyOfTheLastProofOfAPurgeIsNotDestroyed(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	_, err := c.purger(t, plan).Apply(t.Context(), plan)
	check(t, err)
	key := madeBy(t, s, archive.DataRole)
	what, err := retention.PlanCryptoErasure(t.Context(), c.a, service, key)
	check(t, err)
	_, err = c.keeperDesk().CryptoErase(t.Context(), service, key, what.Destroys)
	refused(t, err, "last-proof")
	c.readable(t, []*archive.Snapshot{s}, nil)
}

// A rotation leaves the old sealed file beside the new one until the keeper comes: both
// have to go.
func TestDestroyedKeyLeavesNoSealedFile(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(2)
	s := c.export(t)
	c.countersign(t, s)
	_, to := newIdentity(t)
	r := &retention.Rotation{Archive: c.a, Signer: c.signers["verifier"], Open: c.managed, Data: c.toAll.Join(to), Log: c.log, Now: c.now}
	_, err := r.Run(t.Context(), service) // the key is sealed twice now
	check(t, err)
	key := madeBy(t, s, archive.DataRole)
	c.erase(t, c.keeperDesk(), key)
	for _, name := range c.store.Names() {
		if n := archive.ParseName(name); n.Class == archive.KeyObject && n.Key == key {
			t.Errorf("%s is left", name)
		}
	}
	if _, err := c.a.OpenKey(t.Context(), service, archive.KeyRef{ID: key}, c.managed); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("open a destroyed key: %v", err)
	}
}
