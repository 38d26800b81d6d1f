package archive_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// identity makes a managed key.
func identity(t *testing.T) (*crypto.Opener, string) {
	t.Helper()
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	open, err := crypto.ParseIdentities(file, "identity")
	if err != nil {
		t.Fatal(err)
	}
	return open, recipient
}

func sealer(t *testing.T, recipients ...string) *crypto.Sealer {
	t.Helper()
	s, err := crypto.NewSealer(recipients...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exportTo writes a run for other recipients than the world's.
func exportTo(t *testing.T, h *host, c archivetest.Content, all, index *crypto.Sealer) *archive.Decision {
	t.Helper()
	o := h.Options(service, "")
	o.Recipients, o.IndexRecipients = all, index
	run, err := archive.Begin(t.Context(), h.Archive, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archivetest.Fill(t.Context(), run, c); err != nil {
		t.Fatal(err)
	}
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAnyOfTheManagedIdentitiesOpensAndNoOtherDoes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	one, r1 := identity(t)
	two, r2 := identity(t)
	stranger, _ := identity(t)
	c := archivetest.NewContent(1, 10)
	d := exportTo(t, h, c, sealer(t, r1, r2), nil)
	for _, who := range []*crypto.Opener{one, two, stranger.Join(two)} {
		h.Identity = who
		if err := h.Compare(t.Context(), service, d, c); err != nil {
			t.Error(err)
		}
	}
	h.Identity = stranger
	if err := h.Compare(t.Context(), service, d, c); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("a stranger: %v; want ErrNoKey", err)
	}
}

// TestThiefOfTheExportersHostReadsNothing plays who has all that the exporting host has:
// its state directory with the host's key, its signing key and what the store lets it
// read.
func TestThiefOfTheExportersHostReadsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.MonthKeys = true // what the host keeps of them must open nothing either
	state, c := t.TempDir(), archivetest.NewContent(1, 10)
	old := h.export(state, c)
	s, err := h.Archive.Snapshot(t.Context(), service, old)
	if err != nil {
		t.Fatal(err)
	}
	keys := 0
	err = filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(text, []byte("AGE-SECRET-KEY-")) && d.Name() != "host.key" {
			t.Errorf("%s holds a private key", path)
		}
		thief, err := crypto.ParseIdentities(text, path)
		if err != nil {
			return nil // no key
		}
		keys++
		if err := s.Unlock(t.Context(), thief); !errors.Is(err, crypto.ErrNoKey) {
			t.Errorf("unlocked with %s: %v", path, err)
		}
		return nil
	})
	if err != nil || keys != 1 {
		t.Errorf("the host has %d keys, %v; want its own", keys, err)
	}
	for _, name := range h.store.Names() { // nothing can be written anew
		if err := h.store.Create(t.Context(), name, []byte("altered")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.Archive.Expire(t.Context(), h.Exporter, service, old, "stolen", h.now); err != nil {
		t.Fatal(err)
	}
	snaps, err := h.Archive.Snapshots(t.Context(), service)
	if err != nil || len(snaps.All) != 1 || len(snaps.Bad) != 1 {
		t.Errorf("the thief's expiry: %d snapshots, %v, %v", len(snaps.All), snaps.Bad, err)
	}
	if _, err := h.Collector().Collect(t.Context(), service); err == nil {
		t.Error("a collector went on although there is an expiry record that it cannot trust")
	}
	h.clean(map[*archive.Decision]archivetest.Content{old: c})
	next := c.Changed(1)
	d := h.export(state, next) // and exports go on
	h.clean(map[*archive.Decision]archivetest.Content{old: c, d: next})
}

// TestPacksOfOthersAreRefused plays who knows the public run keys, which are no secret,
// and seals packs of their own to them (A01), or moves packs about (A06).
func TestPacksOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := archivetest.NewContent(1, 30)
	h.PackSize = 32 << 10
	d := h.export("", c)
	other := h.export("", archivetest.NewContent(2, 30))
	var recipients []string
	for _, n := range h.store.Names() {
		if archive.ParseName(n).Class != archive.StatementObject {
			continue
		}
		_, rest, _ := strings.Cut(string(h.store.Bytes(n)), `"recipient": "`)
		recipient, _, _ := strings.Cut(rest, `"`)
		recipients = append(recipients, recipient)
	}
	genuine, err := h.Archive.Snapshot(t.Context(), service, d)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := h.Archive.Snapshot(t.Context(), service, other)
	if err != nil {
		t.Fatal(err)
	}
	var foreign []byte
	for p := range theirs.Packs {
		foreign = h.store.Bytes(archive.PackName(service, p))
	}
	bad := [][]byte{foreign}
	for _, r := range recipients {
		sealed, err := sealer(t, r).Seal(bytes.Repeat([]byte("planted"), 1000))
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, sealed)
	}
	for p := range genuine.Packs {
		for _, planted := range bad {
			st := h.store.Clone()
			st.Put(archive.PackName(service, p), planted)
			err := h.On(st).Compare(t.Context(), service, d, c)
			var damage *archive.DamageError
			if !errors.As(err, &damage) {
				t.Errorf("pack %s replaced: %v; want a DamageError", p, err)
			}
		}
	}
	planted := h.store.Clone() // a pack under its own name changes nothing
	planted.Put(archive.PackName(service, dataset.Sum(bad[1])), bad[1])
	if err := h.On(planted).Compare(t.Context(), service, d, c); err != nil {
		t.Error(err)
	}
}

// TestManifestsAreNotTakenApart alters a manifest in every way that keeps it well-formed
// (A02, A06): each field of one run is replaced by that of another.
func TestManifestsAreNotTakenApart(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	a := h.export("", archivetest.NewContent(1, 5))
	b := h.export("", archivetest.NewContent(2, 5))
	linesA, linesB := strings.Split(string(a.Doc), "\n"), strings.Split(string(b.Doc), "\n")
	if len(linesA) > len(linesB) {
		linesA, linesB, a, b = linesB, linesA, b, a
	}
	altered := 0
	for i := range linesA {
		for j := range linesB {
			if linesA[i] == linesB[j] {
				continue
			}
			mixed := append([]string(nil), linesA...)
			mixed[i] = linesB[j]
			st := h.store.Clone()
			st.Put(archive.DecisionName(service, a.Run), []byte(strings.Join(mixed, "\n")))
			snaps, err := h.On(st).Archive.Snapshots(t.Context(), service)
			if err != nil || len(snaps.All) != 1 || len(snaps.Bad) != 1 {
				t.Fatalf("line %d replaced by %q: %d snapshots, %v", i, linesB[j], len(snaps.All), err)
			}
			altered++
		}
	}
	if altered < 1000 {
		t.Errorf("only %d alterations", altered)
	}
}
