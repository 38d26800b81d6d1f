package archive_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
)

// believing returns the archive as one sees it who believes the exporter's key until a
// time only.
func (h *host) believing(until time.Time) *archive.Archive {
	h.t.Helper()
	var lines []byte
	for _, s := range h.Archive.Trust.Signers() {
		if s.Principal == "exporter" {
			s.ValidBefore = until
		}
		lines = append(append(lines, s.String()...), '\n')
	}
	trust, err := crypto.ParseAllowedSigners(lines, "allowed_signers")
	if err != nil {
		h.t.Fatal(err)
	}
	a := *h.Archive
	a.Trust = trust
	return &a
}

// A16: the end of a signing key takes nothing from what it signed before, and what it signs
// later counts for nothing.
func TestWhatAKeySignedBeforeItEndedIsStillBelieved(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(1, 10)
	before := h.export(state, c)
	end := h.now.Add(time.Hour)
	h.now = h.now.Add(24 * time.Hour)
	after := h.export(state, c.Changed(1)) // by a host whose own list does not say that its key ended
	h.Archive = h.believing(end)
	snaps, err := h.Archive.Snapshots(t.Context(), service)
	if err != nil || len(snaps.All) != 1 || snaps.All[0].Hash != before.Hash || len(snaps.Bad) != 1 || !errors.Is(snaps.Bad[0], crypto.ErrNotValid) {
		t.Errorf("snapshots %+v, %v; want %s alone, and %s not believed", snaps, err, before.Run, after.Run)
	}
	h.clean(map[*archive.Decision]archivetest.Content{before: c})
}

// An export that nobody would believe is worse than none: it looks like one.
func TestExportThatNobodyWouldBelieveIsNotBegun(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.export("", archivetest.NewContent(1, 3))
	names := h.store.Names()
	for what, test := range map[string]struct {
		a      *archive.Archive
		signer *crypto.Signer
		want   error
	}{
		"by a key that ended":               {h.believing(h.now.Add(-time.Hour)), h.Exporter, crypto.ErrNotValid},
		"by a stranger":                     {h.Archive, h.Stranger, crypto.ErrUnknownSigner},
		"by a key that is for other things": {h.Archive, h.Keeper, crypto.ErrWrongNamespace},
	} {
		o := h.Options(service, "")
		o.Signer = test.signer
		if _, err := archive.Begin(t.Context(), test.a, o); !errors.Is(err, test.want) {
			t.Errorf("%s: %v; want %v", what, err, test.want)
		}
	}
	if !slices.Equal(names, h.store.Names()) {
		t.Error("something was written")
	}
}
