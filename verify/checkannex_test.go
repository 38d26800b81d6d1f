package verify_test

import (
	"encoding/json"
	"testing"

	"github.com/dwp/sallyport/archive"
)

func TestMissingAnnexIsFoundThroughTheDocumentThatNamesIt(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	a, ctx := r.world.Archive, t.Context()
	annex, err := a.PutAnnex(ctx, service, []byte("sealed names"))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []any{
		map[string]any{"annex": annex},
		map[string]any{"predicate": map[string]any{"annex": map[string]any{"sha256": annex}}},
	} {
		doc, err := json.Marshal(form)
		if err != nil {
			t.Fatal(err)
		}
		st := r.store.Clone()
		name := archive.RecordName(service, "holds", doc)
		if err := archive.PutSigned(ctx, st, r.world.Collector().Signer, service, name, "sallyport-hold", doc); err != nil {
			t.Fatal(err)
		}
		if report, err := r.check(ctx, st, nil); err != nil || len(report.Findings) > 0 {
			t.Fatalf("with its annex: %v, %v", report.Findings, err)
		}
		gone := archive.AnnexNameOf(service, annex)
		st.Put(gone, nil)
		if err := r.found(ctx, st, nil, gone); err != nil {
			t.Error(err)
		}
	}
}
