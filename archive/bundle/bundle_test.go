package bundle_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/archive/bundle"
	"github.com/dwp/sallyport/archive/dir"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// A world is an archive in a directory, with its keys as files.
type world struct {
	a        *archive.Archive
	signer   *crypto.Signer
	seal     *crypto.Sealer
	open     *crypto.Opener
	trust    *crypto.Verifier
	identity string // paths
	signers  string
	store    string
	state    string
	csv      bool // exports carry CSV
}

func newWorld(t *testing.T) *world {
	t.Helper()
	top := t.TempDir()
	w := &world{identity: top + "/identity.txt", signers: top + "/allowed_signers", store: top + "/store", state: top + "/state"}
	private, public, err := crypto.GenerateSigningKey("exporter")
	if err != nil {
		t.Fatal(err)
	}
	signers := []byte(`exporter namespaces="sallyport-*" ` + public)
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, w.identity, file)
	writeFile(t, w.signers, signers)
	st, err := dir.Open(w.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	w.signer, err = crypto.ParseSigner(private)
	if err == nil {
		w.trust, err = crypto.ParseAllowedSigners(signers, "allowed_signers")
	}
	if err == nil {
		w.open, err = crypto.ParseIdentities(file, "identity")
	}
	if err == nil {
		w.seal, err = crypto.NewSealer(recipient)
	}
	if err == nil {
		_, err = archive.Init(t.Context(), st, w.signer, time.Now())
	}
	if err == nil {
		w.a, err = archive.Open(t.Context(), st, w.trust)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// export makes a snapshot of src with packs of at most 1 MiB.
func (w *world) export(t *testing.T, src *memory.Source) *archive.Snapshot {
	t.Helper()
	d, err := transfer.Export(t.Context(), transfer.Job{
		Archive: w.a,
		Options: archive.Options{Service: "case-files", Exporter: "memory", Classification: "OFFICIAL", Product: "test",
			Signer: w.signer, Recipients: w.seal, State: w.state, PackSize: 1 << 20, CSV: w.csv},
		Open: func(ctx context.Context) (exporters.Exporter, error) { return src.Open(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.a.Snapshot(t.Context(), "case-files", d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awkward is a source with everything that could go wrong, and an object that is
// larger than a pack.
func awkward() *memory.Source {
	src := memory.Awkward(keys.Awkward())
	src.Add(dataset.Stream{Name: "Large/objects", Blobs: true},
		dataset.Record{Key: "large", Data: []byte(`{"metadata":{"x":"],\"location\":[ \"sha256\":\"]}"},"size":1}`), Blob: memory.Random(1, 9<<20)},
		dataset.Record{Key: "empty", Data: []byte(`{}`), Blob: memory.Bytes(nil)},
		dataset.Record{Key: "broken", Data: []byte(`{}`), Blob: memory.Broken(memory.Random(2, 100), 50, errors.New("the disk of the source is broken"))})
	return src
}

func TestBundleIsAStoreThatChecksAndVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := awkward()
	w.export(t, src)
	src.Add(dataset.Stream{Name: "objects", Blobs: true}, dataset.Record{Key: "zz-new", Data: []byte(`{}`), Blob: memory.Bytes([]byte("new"))})
	s := w.export(t, src)
	bag := filepath.Join(t.TempDir(), "bag")
	signers, err := os.ReadFile(w.signers)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{AllowedSigners: signers, Product: "sallyport test"})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Ancestors != 1 || rep.Packs != int64(len(s.Packs)) || len(rep.LeftOut) != 0 {
		t.Errorf("report = %+v", rep)
	}
	checkBag(t, bag, rep)

	st, err := dir.Open(bag + "/data")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	a, err := archive.Open(t.Context(), st, w.trust)
	if err != nil {
		t.Fatal(err)
	}
	check, err := verify.Check{Archive: a, Bundle: true}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if check.Integrity != verify.Pass || check.PacksRead != rep.Packs || len(check.Services[0].Snapshots) != 2 {
		t.Errorf("check = %+v", check)
	}
	all, err := a.Snapshots(t.Context(), "case-files")
	if err != nil {
		t.Fatal(err)
	}
	d, err := all.Find("latest")
	if err != nil || d.Run != s.Run {
		t.Fatalf("latest = %v, %v; want %s", d, err, s.Run)
	}
	copied, err := a.Snapshot(t.Context(), "case-files", d)
	if err == nil {
		err = copied.Unlock(t.Context(), w.open)
	}
	if err != nil {
		t.Fatal(err)
	}
	content, err := verify.Verification{Snapshot: copied}.Run(t.Context())
	if err != nil || content.Content != verify.Pass {
		t.Errorf("verification = %+v, %v", content, err)
	}
}

func TestBundleOfADamagedSnapshotFails(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	src.Add(dataset.Stream{Name: "settings"}, dataset.Record{Key: "a", Data: []byte(`{}`)})
	w := newWorld(t)
	first := w.export(t, src)
	s := w.export(t, src)
	mem := load(t, w.store)
	var pack, list, sealed, statement string
	for _, name := range mem.Names() {
		switch n := archive.ParseName(name); n.Class {
		case archive.PackObject:
			if _, ok := s.Packs[n.Hash]; ok {
				pack = name
			}
		case archive.ListObject:
			if s.Manifest.Lists[0].SHA256 == n.Hash {
				list = name
			}
		case archive.KeyObject:
			if n.Key == s.Manifest.Keys[0].ID {
				sealed = name
			}
		case archive.StatementObject:
			if n.Key == s.Manifest.Keys[0].ID {
				statement = name
			}
		}
	}
	own, parent := archive.DecisionName("case-files", s.Run), archive.DecisionName("case-files", first.Run)
	for name, damage := range map[string]func(*archivetest.Memory){
		"a pack is missing":          func(m *archivetest.Memory) { m.Put(pack, nil) },
		"a pack is damaged":          func(m *archivetest.Memory) { m.Put(pack, flipped(m.Bytes(pack))) },
		"a list is missing":          func(m *archivetest.Memory) { m.Put(list, nil) },
		"a sealed key is missing":    func(m *archivetest.Memory) { m.Put(sealed, nil) },
		"a sealed key is damaged":    func(m *archivetest.Memory) { m.Put(sealed, flipped(m.Bytes(sealed))) },
		"a statement is missing":     func(m *archivetest.Memory) { m.Put(statement, nil) },
		"a statement is damaged":     func(m *archivetest.Memory) { m.Put(statement, flipped(m.Bytes(statement))) },
		"its decision is missing":    func(m *archivetest.Memory) { m.Put(own, nil) },
		"its parent is missing":      func(m *archivetest.Memory) { m.Put(parent, nil) },
		"its intent is missing":      func(m *archivetest.Memory) { m.Put(archive.IntentName("case-files", s.Run), nil) },
		"the parent is not signed":   func(m *archivetest.Memory) { removeSignatures(m, m.Bytes(parent)) },
		"a statement is not signed":  func(m *archivetest.Memory) { removeSignatures(m, m.Bytes(statement)) },
		"store.json is another":      func(m *archivetest.Memory) { m.Put(archive.StoreName, flipped(m.Bytes(archive.StoreName))) },
		"store.json is not signed":   func(m *archivetest.Memory) { removeSignatures(m, m.Bytes(archive.StoreName)) },
		"the parent's intent is not": func(m *archivetest.Memory) { removeSignatures(m, m.Bytes(archive.IntentName("case-files", first.Run))) },
	} {
		m := mem.Clone()
		damage(m)
		a := &archive.Archive{Store: m, ID: w.a.ID, Trust: w.trust}
		bag := filepath.Join(t.TempDir(), "bag")
		if _, err := bundle.Write(t.Context(), a, s, bag, bundle.Options{}); err == nil {
			t.Errorf("%s, and a bundle was written", name)
		}
		if _, err := os.Stat(bag + "/bagit.txt"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the folder looks like a bag", name)
		}
	}
}

func TestBundleLeavesOutWhatIsDamagedAndNeededByNothing(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	src.Add(dataset.Stream{Name: "settings"}, dataset.Record{Key: "a", Data: []byte(`{}`)})
	w := newWorld(t)
	s := w.export(t, src)
	mem := load(t, w.store)
	junk := dataset.Sum([]byte("other bytes")).String()
	sig := "case-files/signatures/" + s.Hash.String() + "/sallyport-manifest/" + junk + ".sig"
	key := "case-files/keys/" + s.Manifest.Keys[0].ID.String() + "/" + junk + ".age"
	certificate := "case-files/certificates/" + string(s.Run) + "/" + dataset.Sum([]byte("forged")).String() + ".json"
	mem.Put(sig, []byte("junk"))
	mem.Put(key, []byte("junk"))
	mem.Put(certificate, []byte("forged"))
	a := &archive.Archive{Store: mem, ID: w.a.ID, Trust: w.trust}
	bag := filepath.Join(t.TempDir(), "bag")
	rep, err := bundle.Write(t.Context(), a, s, bag, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{certificate, key, sig}; !slices.Equal(slices.Sorted(slices.Values(rep.LeftOut)), want) {
		t.Errorf("left out %q; want %q", rep.LeftOut, want)
	}
	checkBag(t, bag, rep)
}

func TestNothingOfTheSourceIsReadableWithoutAKey(t *testing.T) {
	t.Parallel()
	const marker = "Marchmont"
	w := newWorld(t)
	src := new(memory.Source)
	src.Facts.Filters = []string{marker}
	src.Add(dataset.Stream{Name: marker + " objects", Blobs: true},
		dataset.Record{Key: marker + "/letter", Data: []byte(`{"owner":"` + marker + `"}`), Blob: memory.Bytes([]byte(marker))},
		dataset.Record{Key: marker + "/broken", Data: []byte(`{}`), Blob: memory.Broken(memory.Bytes([]byte(marker)), 1, errors.New(marker))})
	src.Add(dataset.Stream{Name: marker + " rows"}, dataset.Record{Key: marker, Data: []byte(`{"name":"` + marker + `"}`)})
	s := w.export(t, src)
	bag := filepath.Join(t.TempDir(), "bag")
	if _, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, top := range []string{w.store, w.state, bag} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			data, err := os.ReadFile(path)
			if strings.Contains(path, marker) || strings.Contains(string(data), marker) {
				t.Errorf("%s names something of the source", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 40 {
		t.Errorf("only %d files were looked at", files)
	}
}

func TestBundleIsWrittenIntoAnEmptyFolderOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	src := new(memory.Source)
	src.Add(dataset.Stream{Name: "settings"})
	s := w.export(t, src)
	bag := t.TempDir()
	writeFile(t, bag+"/notes", nil)
	if _, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Write into a folder with a file: %v", err)
	}
	if err := os.Remove(bag + "/notes"); err != nil {
		t.Fatal(err)
	}
	rep, err := bundle.Write(t.Context(), w.a, s, bag, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkBag(t, bag, rep)
}

// load copies a store into memory.
func load(t *testing.T, path string) *archivetest.Memory {
	t.Helper()
	m := new(archivetest.Memory)
	err := fs.WalkDir(os.DirFS(path), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(path, name))
		m.Put(name, data)
		return err
	})
	if err != nil || len(m.Names()) == 0 {
		t.Fatalf("load %s: %d objects, %v", path, len(m.Names()), err)
	}
	return m
}

func flipped(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func removeSignatures(m *archivetest.Memory, doc []byte) {
	for _, name := range m.Names() {
		if n := archive.ParseName(name); n.Class == archive.SignatureObject && n.Document == dataset.Sum(doc) {
			m.Put(name, nil)
		}
	}
}

// checkBag holds a folder against RFC 8493, as far as our bags go, with code that
// shares nothing with the writer.
func checkBag(t *testing.T, bag string, rep *bundle.Report) {
	t.Helper()
	text, err := os.ReadFile(bag + "/bagit.txt")
	if err != nil || string(text) != "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n" {
		t.Errorf("bagit.txt = %q, %v", text, err)
	}
	payload, tags := map[string]bool{}, map[string]bool{}
	var size int64
	err = filepath.WalkDir(bag, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(bag, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, "data/") {
			info, err := d.Info()
			if err != nil {
				return err
			}
			payload[name], size = true, size+info.Size()
		} else if !strings.HasPrefix(name, "tagmanifest-") {
			tags[name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for manifest, want := range map[string]map[string]bool{"manifest-sha256.txt": payload, "tagmanifest-sha256.txt": tags} {
		listed := map[string]bool{}
		for name, sum := range readManifest(t, filepath.Join(bag, manifest)) {
			listed[name] = true
			data, err := os.ReadFile(filepath.Join(bag, name))
			if err != nil || dataset.Sum(data).String() != sum {
				t.Errorf("%s: %s is not what it says (%v)", manifest, name, err)
			}
		}
		if !maps.Equal(listed, want) {
			t.Errorf("%s lists %d files of %d", manifest, len(listed), len(want))
		}
	}
	info, err := os.ReadFile(bag + "/bag-info.txt")
	if oxum := fmt.Sprintf("\nPayload-Oxum: %d.%d\n", size, len(payload)); err != nil || !strings.Contains(string(info), oxum) {
		t.Errorf("bag-info.txt = %q, %v; want %q", info, err, oxum)
	}
	for line := range strings.Lines(string(info)) {
		if label, value, ok := strings.Cut(line, ": "); !ok || label == "" || strings.TrimSpace(value) == "" {
			t.Errorf("bag-info.txt has the line %q", line)
		}
	}
	if rep.Files != int64(len(payload)) || rep.Bytes != size {
		t.Errorf("report says %d files of %d bytes; there are %d of %d", rep.Files, rep.Bytes, len(payload), size)
	}
}

func readManifest(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(sum) != 64 || sums[name] != "" || strings.ContainsAny(name, "%\r\\") {
			t.Errorf("%s has the line %q", path, line)
		}
		sums[name] = sum
	}
	if len(sums) == 0 {
		t.Errorf("%s is empty", path)
	}
	return sums
}
