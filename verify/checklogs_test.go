package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// without returns a store that lacks the objects whose names begin in any of these ways.
func without(st *archivetest.Memory, prefixes ...string) *archivetest.Memory {
	st = st.Clone()
	for _, name := range st.Names() {
		for _, p := range prefixes {
			if strings.HasPrefix(name, p) {
				st.Put(name, nil)
			}
		}
	}
	return st
}

// A document that is taken out of the store together with its signatures leaves nothing
// behind but what the audit log says of it.
func TestRemovedDocumentIsMissedByTheAuditLog(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	report, err := r.check(t.Context(), r.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	newest := report.Services[0].Snapshots[2]
	put := func(activity audit.Activity, name, namespace string) string {
		doc := []byte(`{"store":"` + string(r.world.Archive.ID) + `"}` + "\n")
		name += dataset.Sum(doc).String() + ".json"
		if err := archive.PutSigned(t.Context(), r.store, r.world.Keeper, service, name, namespace, doc); err != nil {
			t.Fatal(err)
		}
		e := audit.NewEvent(activity, audit.Fact, time.Now())
		e.Service, e.Run, e.Document = service, newest.Run, dataset.Sum(doc)
		e.Code = "countersigned"
		r.publish(t, 0, e)
		return name
	}
	verified := put(audit.Verify, service+"/verified/"+string(newest.Run)+"/", "sallyport-verified")
	if err := r.found(t.Context(), r.store, nil, verified); err == nil {
		t.Errorf("%s is there and was found to be missing", verified)
	}
	for name, h := range map[string]dataset.Hash{
		verified: archive.ParseName(verified).Hash,
		archive.DecisionName(service, newest.Run): newest.Hash,
	} {
		st := without(r.store, name, service+"/signatures/"+h.String())
		if err := r.found(t.Context(), st, nil, name); err != nil {
			t.Errorf("removed with its signatures: %v", err)
		}
	}
	// What another service's check has no business with.
	c := verify.Check{Archive: r.world.On(without(r.store, service+"/")).Archive, Service: "payroll"}
	if report, err := c.Run(t.Context()); err != nil || report.Integrity != verify.Pass {
		t.Errorf("a check of one service: %v, %v", report.Findings, err)
	}
	if err := r.found(t.Context(), without(r.store, service+"/"), nil, verified); err != nil {
		t.Errorf("a whole service removed: %v", err)
	}
}

func TestRolledBackAuditLogIsFoundWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	log := "audit/" + logName
	older := without(r.store, log)
	for _, name := range r.older.Names() {
		if strings.HasPrefix(name, log) {
			older.Put(name, r.older.Bytes(name))
		}
	}
	if err := r.found(t.Context(), older, nil, log); err != nil {
		t.Errorf("rolled back: %v", err)
	}
	gone := without(r.store, log)
	if err := r.found(t.Context(), gone, nil, log); err != nil {
		t.Errorf("removed: %v", err)
	}
	bare := without(r.store, log+"/checkpoints/")
	if err := r.found(t.Context(), bare, nil, log); err != nil {
		t.Errorf("without checkpoints: %v", err)
	}
	// A bundle holds no logs, though its manifests name checkpoints.
	report, err := verify.Check{Archive: r.world.On(gone).Archive, Bundle: true}.Run(t.Context())
	if err != nil || report.Integrity != verify.Pass {
		t.Errorf("as a bundle: %v, %v", report.Findings, err)
	}
}

// What a crash leaves before the first checkpoint is not yet a log.
func TestLogBeforeItsFirstCheckpointIsNoFinding(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	st := r.store.Clone()
	st.Put("audit/new-host/tile/entries/000.p/1", []byte{0, 1, 'x'})
	report, err := r.check(t.Context(), st, nil)
	if err != nil || report.Integrity != verify.Pass {
		t.Errorf("%v, %v", report.Findings, err)
	}
	if !strings.Contains(strings.Join(report.Notes, "\n"), "new-host has no checkpoint yet") {
		t.Errorf("notes: %q", report.Notes)
	}
	st.Put("audit/_junk/tile", []byte("x"))
	if err := r.found(t.Context(), st, nil, "audit/_junk"); err != nil {
		t.Error(err)
	}
}
