package retention_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/bundle"
	"github.com/dwp/sallyport/archive/dir"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// bundled makes a bag of a snapshot and opens its payload, as somebody does who was given
// the bag, the allowed signers and nothing else.
func (c *court) bundled(t testing.TB, s *archive.Snapshot) (*dir.Store, *archive.Archive, *bundle.Report) {
	t.Helper()
	bag := filepath.Join(t.TempDir(), "bag")
	report, err := bundle.Write(t.Context(), c.a, s, bag, bundle.Options{})
	check(t, err)
	st, err := dir.Open(bag + "/data")
	check(t, err)
	t.Cleanup(func() { st.Close() })
	a, err := archive.Open(t.Context(), st, c.a.Trust)
	check(t, err)
	return st, a, report
}

// intact fails the test if a check of a store finds anything.
func intact(t testing.TB, a *archive.Archive, isBundle bool) {
	t.Helper()
	report, err := verify.Check{Archive: a, Bundle: isBundle}.Run(t.Context())
	if err != nil || report.Integrity != verify.Pass {
		t.Errorf("check as a bundle %v: %v, %v", isBundle, report.Findings, err)
	}
}

// names lists the objects of a class in a store.
func names(t testing.TB, st archive.Store, class archive.Class) (list []string) {
	t.Helper()
	for info, err := range st.List(t.Context(), "") {
		check(t, err)
		if archive.ParseName(info.Name).Class == class {
			list = append(list, info.Name)
		}
	}
	return list
}

func TestBundleCarriesWhatWasSaidOfItsSnapshot(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(10)
	for i := range 3 { // two of which expire
		c.alter(t, i)
		c.countersign(t, c.export(t))
	}
	_, err := apply(t, c.keeperDesk(), keepLast(1))
	check(t, err)
	c.alter(t, 3)
	s := c.export(t)
	c.countersign(t, s)
	c.certify(t, s)
	alex, verifier := c.office("alex"), c.office("verifier")
	scope := retention.HoldAnnex{Authority: "claim 17", Scopes: []retention.Scope{{Key: "file-002"}}}
	hold, err := alex.Place(t.Context(), service, "litigation", scope)
	check(t, err)
	over, err := alex.Place(t.Context(), service, "audit", scope)
	check(t, err)
	_, err = alex.Release(t.Context(), service, over, "ended", scope)
	check(t, err)
	_, err = verifier.Erase(t.Context(), service, jane, request, []*archive.Snapshot{s})
	check(t, err)

	st, a, report := c.bundled(t, s)
	if len(report.LeftOut) > 0 || len(report.Doubtful) > 0 || report.Ancestors != 3 {
		t.Errorf("report %+v", report)
	}
	intact(t, a, true)
	for class, want := range map[archive.Class]int{archive.ExpiryObject: 2, archive.VerifiedObject: 1, archive.CertificateObject: 1, archive.RecordsObject: 4} {
		if got := names(t, st, class); len(got) != want {
			t.Errorf("the bundle has %q; want %d of them", got, want)
		}
	}
	// Whoever has the data identity reads all of it there, on any host.
	desk := retention.Office{Archive: a, Open: c.managed}
	holds, err := desk.Holds(t.Context(), service)
	if err != nil || len(holds) != 1 || holds[0].Hash != hold || holds[0].Sealed == nil || holds[0].Sealed.Authority != "claim 17" {
		t.Errorf("holds of the bundle: %+v, %v", holds, err)
	}
	certificates, bad, err := verify.LoadCertificates(t.Context(), a, service)
	if err != nil || len(bad) > 0 || len(certificates) != 1 {
		t.Fatalf("certificates of the bundle: %d, %v, %v", len(certificates), bad, err)
	}
	if _, err := a.Annex(t.Context(), service, certificates[0].Certificate.Predicate.Annex.SHA256); err != nil {
		t.Errorf("the annex of the certificate: %v", err)
	}
	keys, withheld := restored(t, c, a, c.openFrom(t, a, s, c.managed))
	if withheld != 2 || slices.Contains(keys, "objects file-003/0") || slices.Contains(keys, "rows [3]/0") {
		t.Errorf("restored from the bundle: withheld %d of %v", withheld, keys)
	}
}

// openFrom opens a snapshot where it lies now.
func (c *court) openFrom(t testing.TB, a *archive.Archive, s *archive.Snapshot, o *crypto.Opener) *archive.Snapshot {
	t.Helper()
	d, err := a.Decision(t.Context(), service, s.Run)
	check(t, err)
	there, err := a.Snapshot(t.Context(), service, d)
	check(t, err)
	check(t, there.Unlock(t.Context(), o))
	return there
}

// D04: a hold blocks every way to delete also in a store that was made from a bundle.
func TestHoldBlocksEveryDeletionInAStoreMadeFromABundle(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	alex := c.office("alex")
	scope := retention.HoldAnnex{Authority: "claim 17", Scopes: []retention.Scope{{}}}
	hold, err := alex.Place(t.Context(), service, "litigation", scope)
	check(t, err)
	st, a, _ := c.bundled(t, s)
	c.a, c.on = a, st // what was the bundle's payload is the store now
	before := names(t, st, archive.PackObject)

	k := c.keeperDesk()
	p, err := k.Propose(t.Context(), service, keepLast(1))
	if err != nil || len(p.Holds) != 1 || len(p.Expiring()) != 0 {
		t.Errorf("a plan under a hold: %+v, %v", p, err)
	}
	out, err := apply(t, k, keepLast(1))
	if err != nil || len(out.Expired) > 0 || len(out.Collection.Removed) > 0 || len(out.Superseded) > 0 {
		t.Errorf("retention under a hold: %+v, %v", out, err)
	}
	key := madeBy(t, s, archive.DataRole)
	_, err = k.CryptoErase(t.Context(), service, key, []archive.RunID{s.Run})
	refused(t, err, "held")
	purged, err := c.purger(t, plan).Apply(t.Context(), plan)
	if err != nil || purged.Fates[retention.Held] != 10 || purged.Fates[retention.Deleted] != 0 {
		t.Errorf("a purge under a hold: %+v, %v", purged, err)
	}
	if after := names(t, st, archive.PackObject); !slices.Equal(before, after) {
		t.Errorf("%d of %d packs are left", len(after), len(before))
	}
	// Once it is released, the purge that was begun still forbids to destroy its proof.
	alex = c.office("alex")
	_, err = alex.Release(t.Context(), service, hold, "ended", scope)
	check(t, err)
	_, err = c.keeperDesk().CryptoErase(t.Context(), service, key, []archive.RunID{s.Run})
	refused(t, err, "last-proof")
}

func TestBundleCarriesWhatMayBeAHoldAndDeletionStopsAtIt(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(4)
	s := c.export(t)
	c.countersign(t, s)
	junk := service + "/holds/" + dataset.Sum([]byte("{}")).String() + ".json"
	damaged := service + "/holds/" + dataset.Sum([]byte("other")).String() + ".json"
	c.store.Put(junk, []byte("{}"))
	c.store.Put(damaged, []byte("{}"))
	st, a, report := c.bundled(t, s)
	if want := slices.Sorted(slices.Values([]string{junk, damaged})); !slices.Equal(slices.Sorted(slices.Values(report.Doubtful)), want) {
		t.Errorf("doubtful are %q; want %q", report.Doubtful, want)
	}
	c.a, c.on = a, st
	var integrity *archive.IntegrityError
	var damage *archive.DamageError
	if _, err := apply(t, c.keeperDesk(), keepLast(1)); !errors.As(err, &integrity) && !errors.As(err, &damage) {
		t.Errorf("with junk among the holds of a bundle: %v", err)
	}
}

// A bundle is of a snapshot whose keys were rotated as of any other, and whoever holds an
// identity of today, and none of before, restores from it and withholds what was erased.
func TestErasuresOutliveARotationAndABundle(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(5)
	s := c.export(t)
	c.countersign(t, s)
	verifier := c.office("verifier")
	_, err := verifier.Erase(t.Context(), service, jane, request, []*archive.Snapshot{s})
	check(t, err)
	next, to := newIdentity(t)
	r := &retention.Rotation{Archive: c.a, Signer: c.signers["verifier"], Open: c.managed, Data: to, Log: c.log, Now: c.now}
	out, err := r.Run(t.Context(), service)
	if err != nil || out.HashKeys != 1 {
		t.Fatalf("rotated %+v, %v", out, err)
	}
	if out, err = r.Run(t.Context(), service); err != nil || out.HashKeys != 0 || out.Resealed != 0 {
		t.Errorf("rotated again: %+v, %v", out, err)
	}
	c.pass(25 * time.Hour)
	_, err = apply(t, c.keeperDesk(), keepLast(100)) // removes the key files of before
	check(t, err)
	c.sound(t)

	_, a, report := c.bundled(t, s)
	if len(report.LeftOut) > 0 {
		t.Errorf("left out: %q", report.LeftOut)
	}
	intact(t, a, true)
	desk := retention.Office{Archive: a, Open: next}
	register, err := desk.Register(t.Context(), service)
	check(t, err)
	withhold, err := desk.Withhold(t.Context(), service, register)
	check(t, err)
	target := new(memory.Target)
	_, err = transfer.Restore{Snapshot: c.openFrom(t, a, s, next), Target: target, Test: dataset.NewID(), Withhold: withhold}.Run(t.Context())
	check(t, err)
	c.src = target.Loaded()
	if keys := c.left(t); len(keys) != 8 || slices.Contains(keys, "objects file-003/0") {
		t.Errorf("restored %v", keys)
	}
	// One more erasure goes on under the same hash key, though only today's identity is there.
	verifier.Open, verifier.Seal = next, to
	_, err = verifier.Erase(t.Context(), service, []retention.Subject{{Stream: "rows", Key: "[4]"}}, request, nil)
	check(t, err)
	if register, err = verifier.Register(t.Context(), service); err != nil || register.Erasures[0].HashKey != register.Erasures[1].HashKey {
		t.Errorf("register %+v, %v", register, err)
	}
}

// An expired snapshot can be bundled for as long as it is there, and the bundle says that
// it has expired.
func TestBundleOfAnExpiredSnapshotSaysSo(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(4)
	first := c.export(t)
	c.countersign(t, first)
	c.alter(t, 1)
	c.countersign(t, c.export(t))
	check(t, c.a.Expire(t.Context(), c.signers["keeper"], service, first.Decision, "superseded", c.now()))
	st, a, _ := c.bundled(t, first)
	if n := len(names(t, st, archive.ExpiryObject)); n != 1 {
		t.Errorf("%d records of expiry; want 1", n)
	}
	intact(t, a, true)
	all, err := a.Snapshots(t.Context(), service)
	check(t, err)
	if _, err := all.Find("latest"); !errors.Is(err, archive.ErrNoSnapshot) || !strings.Contains(err.Error(), string(first.Run)) {
		t.Errorf("the newest of a bundle of an expired snapshot: %v", err)
	}
	d, err := all.Find(string(first.Run))
	check(t, err)
	c.openFrom(t, a, &archive.Snapshot{Decision: d}, c.managed)
	// Its pack is missed, though no un-expired snapshot needs it.
	pack := names(t, st, archive.PackObject)[0]
	check(t, st.Remove(t.Context(), pack, ""))
	report, err := verify.Check{Archive: a, Bundle: true}.Run(t.Context())
	if err != nil || report.Integrity != verify.Fail {
		t.Errorf("a bundle without one of its packs: %v, %v", report.Integrity, err)
	}
}
