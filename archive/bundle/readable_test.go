package bundle_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/bundle"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/transfer"
)

func TestReadableBagIsWholeAndSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.export(t, withTables(awkward()))
	if err := s.Unlock(t.Context(), w.open); err != nil {
		t.Fatal(err)
	}
	bag := filepath.Join(t.TempDir(), "bag")
	target := dir.NewTarget(bag+"/data", dir.Options{CSV: true, NoSync: true})
	defer target.Close()
	var missing bytes.Buffer
	out, err := transfer.Restore{Snapshot: s, Target: target, Test: dataset.NewID(), Compare: true, TempDir: t.TempDir(), OnGap: func(g dataset.Gap) {
		line, err := json.Marshal(archive.GapLine{Stream: g.Stream, Key: archive.Key(g.Key), Code: g.Code})
		if err != nil {
			t.Error(err)
		}
		missing.Write(append(line, '\n'))
	}}.Run(t.Context())
	if err != nil || len(out.Gaps) != 1 || out.Gaps[0].Key != "[2]" {
		t.Fatalf("gaps %v, %v; want the record that cannot be a row", out.Gaps, err)
	}
	if _, err := bundle.Readable(t.Context(), w.a, s, bag, bundle.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a folder that does not say what is missing: %v", err)
	}
	writeFile(t, filepath.Join(bag, bundle.Missing), missing.Bytes())
	rep, err := bundle.Readable(t.Context(), w.a, s, bag, bundle.Options{Product: "test"})
	if err != nil {
		t.Fatal(err)
	}
	checkBag(t, bag, rep)
	info, err := os.ReadFile(bag + "/bag-info.txt")
	if err != nil || !strings.Contains(string(info), "NOT encrypted") {
		t.Errorf("bag-info.txt = %q, %v", info, err)
	}
	doc, err := os.ReadFile(bag + "/snapshot/manifest.json")
	if err != nil || dataset.Sum(doc) != s.Hash {
		t.Errorf("the manifest in the bag is another: %v", err)
	}
	sigs, err := filepath.Glob(bag + "/snapshot/*.sig")
	if err != nil || len(sigs) == 0 {
		t.Errorf("signatures %v, %v", sigs, err)
	}
	if _, err := bundle.Readable(t.Context(), w.a, s, bag, bundle.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a bag over a bag: %v", err)
	}
}

func TestReadableBagRefusesLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.export(t, awkward())
	bag := t.TempDir()
	if err := errors.Join(os.Mkdir(bag+"/data", 0o700), os.Symlink("/etc/hostname", bag+"/data/link")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(bag, bundle.Missing), nil)
	if _, err := bundle.Readable(t.Context(), w.a, s, bag, bundle.Options{}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link in the payload: %v", err)
	}
}
