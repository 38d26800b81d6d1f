package verify_test

import (
	"errors"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/verify"
)

func TestVerificationFindsDamageInEveryPack(t *testing.T) {
	t.Parallel()
	st := new(archivetest.Memory)
	w, err := archivetest.NewWorld(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	w.PackSize = 8 << 10
	content := smallContent(1, 40)
	d, err := w.Export(t.Context(), service, "", content)
	if err != nil {
		t.Fatal(err)
	}
	run := func(st *archivetest.Memory) (*verify.VerifyReport, error) {
		s, err := w.On(st).Archive.Snapshot(t.Context(), service, d)
		if err != nil {
			return nil, err
		}
		if err := s.Unlock(t.Context(), w.Identity); err != nil {
			return nil, err
		}
		return verify.Verification{Snapshot: s}.Run(t.Context())
	}
	clean, err := run(st)
	if err != nil || clean.Content != verify.Pass || clean.Blobs != int64(len(content.Objects)) || clean.Records != int64(len(content.Objects)+content.Records) {
		t.Fatalf("clean: %+v, %v", clean, err)
	}
	packs := 0
	for _, name := range st.Names() {
		if archive.ParseName(name).Class != archive.PackObject {
			continue
		}
		packs++
		damaged := st.Clone()
		damaged.Put(name, flip(st.Bytes(name), len(st.Bytes(name))/2))
		report, err := run(damaged)
		var damage *archive.DamageError
		switch {
		case errors.As(err, &damage) && damage.Name == name: // the descriptor's pack: nothing opens without it
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case report.Content != verify.Fail || len(report.Findings) == 0:
			t.Errorf("%s: content is %v", name, report.Content)
		case report.Records == clean.Records && report.Blobs == clean.Blobs:
			t.Errorf("%s: everything counts as verified", name)
		}
	}
	if packs < 5 {
		t.Errorf("only %d packs", packs)
	}
}

func TestCheckSaysHowMuchItRead(t *testing.T) {
	t.Parallel()
	r := newReference(t, 60)
	all, err := verify.Check{Archive: r.world.Archive}.Run(t.Context())
	if err != nil || all.PacksRead != all.Packs || all.PacksRead == 0 {
		t.Errorf("all: read %d of %d packs, %v", all.PacksRead, all.Packs, err)
	}
	quick, err := verify.Check{Archive: r.world.Archive, Quick: true}.Run(t.Context())
	if err != nil || quick.PacksRead != 0 || quick.BytesRead != 0 || quick.Integrity != verify.Pass {
		t.Errorf("quick: read %d packs, %v", quick.PacksRead, err)
	}
	one, err := verify.Check{Archive: r.world.Archive, Service: "payroll"}.Run(t.Context())
	if err != nil || len(one.Services) != 1 || one.Packs >= all.Packs {
		t.Errorf("one service: %d services, %d packs, %v", len(one.Services), one.Packs, err)
	}
}
