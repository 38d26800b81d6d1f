package verify_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// A trial is a snapshot of a source in memory.
type trial struct {
	src *memory.Source
	s   *archive.Snapshot
}

func newTrial(t testing.TB, src *memory.Source) *trial {
	t.Helper()
	private, public, err := crypto.GenerateSigningKey("exporter")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := crypto.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := crypto.ParseAllowedSigners([]byte(`exporter namespaces="sallyport-*" `+public), "allowed_signers")
	if err != nil {
		t.Fatal(err)
	}
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	open, err := crypto.ParseIdentities(file, "identity")
	if err != nil {
		t.Fatal(err)
	}
	seal, err := crypto.NewSealer(recipient)
	if err != nil {
		t.Fatal(err)
	}
	st := new(archivetest.Memory)
	if _, err := archive.Init(t.Context(), st, signer, time.Now()); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), st, trust)
	if err != nil {
		t.Fatal(err)
	}
	d, err := transfer.Export(t.Context(), transfer.Job{Archive: a,
		Options: archive.Options{Service: "memory", Exporter: "memory", Classification: "OFFICIAL", Product: "test", Signer: signer, Recipients: seal, State: t.TempDir()},
		Open:    func(ctx context.Context) (exporters.Exporter, error) { return src.Open(ctx) }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.Snapshot(t.Context(), "memory", d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	return &trial{src, s}
}

func (tr *trial) run(t testing.TB, dst *memory.Target) *verify.ExitReport {
	t.Helper()
	r, err := verify.ExitTest{Snapshot: tr.s, Target: dst, Kind: "memory",
		Source: func(ctx context.Context) (exporters.Exporter, error) { return tr.src.Open(ctx) }}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Errors {
		t.Errorf("error: %s", e)
	}
	return r
}

func TestCleanExitTestFindsNothing(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, memory.Awkward(keys.Awkward()))
	r := tr.run(t, new(memory.Target))
	for _, c := range r.Comparisons {
		for _, d := range c.Differences {
			t.Errorf("%s %q/%d: %s", d.Stream, d.Key, d.Ordinal, d.Status)
		}
		if c.Counts[reconcile.Archived] != c.Counts[reconcile.Restored] || c.Counts[reconcile.Archived] != c.Counts[reconcile.SourceNow] {
			t.Errorf("%s: counts %v", c.Stream, c.Counts)
		}
	}
	for _, p := range r.SelfTest {
		if p.Found != verify.Pass {
			t.Errorf("the self-test did not find: %s", p.Fault)
		}
	}
	if r.Verified == nil || r.Verified.Content != verify.Pass || r.Destroyed != verify.Pass {
		t.Errorf("verified %+v, destroyed %s", r.Verified, r.Destroyed)
	}
}

func TestEachFaultOfTheRestoredCopyIsNamed(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	src.Generate(dataset.Stream{Name: "objects", Blobs: true}, 600, memory.Object(1, 0, 300))
	tr := newTrial(t, src)
	victim := memory.Object(1, 0, 300)(234)
	for _, f := range []struct {
		name   string
		want   reconcile.Status
		mutate func(r dataset.Record) []dataset.Record
	}{
		{"dropped", reconcile.Missing, func(dataset.Record) []dataset.Record { return nil }},
		{"altered", reconcile.Mismatch, func(r dataset.Record) []dataset.Record {
			r.Data = bytes.Replace(r.Data, []byte("{"), []byte(`{"planted":1,`), 1)
			return []dataset.Record{r}
		}},
		{"other bytes", reconcile.Mismatch, func(r dataset.Record) []dataset.Record {
			r.Blob = memory.Bytes([]byte("planted"))
			return []dataset.Record{r}
		}},
		{"doubled", reconcile.Repeated, func(r dataset.Record) []dataset.Record { return []dataset.Record{r, r} }},
	} {
		t.Run(f.name, func(t *testing.T) {
			dst := new(memory.Target)
			dst.ReadBack = func(r dataset.Record) []dataset.Record {
				if r.Key == victim.Key {
					return f.mutate(r)
				}
				return []dataset.Record{r}
			}
			r := tr.run(t, dst)
			i := slices.IndexFunc(r.Comparisons[0].Differences, func(d reconcile.Difference) bool { return d.Key == victim.Key && d.Status == f.want })
			if i < 0 || len(r.Comparisons[0].Differences) != 1 {
				t.Errorf("differences %+v", r.Comparisons[0].Differences)
			}
		})
	}
}
