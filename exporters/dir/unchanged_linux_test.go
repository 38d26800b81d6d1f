package dir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// readTree reads the files of a directory as someone does whose clock is ahead, and tells
// whether each has the blob that was known before.
func readTree(t *testing.T, dir string, ahead time.Duration, reread bool, prior []dataset.Record) (all []dataset.Record, known map[string]bool) {
	t.Helper()
	v, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	tr := v.(*tree)
	tr.reread, tr.now = reread, func() time.Time { return time.Now().Add(ahead) }
	q := exporters.Query{Streams: []dataset.Stream{{Name: files, Blobs: true}}, Prior: func(yield func(dataset.Record, error) bool) {
		for _, r := range prior {
			if !yield(r, nil) {
				return
			}
		}
	}}
	known = map[string]bool{}
	for r, err := range v.Read(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		r.Data = slices.Clone(r.Data)
		all = append(all, r)
		known[r.Key] = slices.ContainsFunc(prior, func(p dataset.Record) bool { return p.Blob != nil && p.Blob == r.Blob })
	}
	return all, known
}

func TestOnlyFilesThatChangedAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b/c", "b-d", "forged", "gone", "mode"} {
		write(name, "as it was")
	}
	first, _ := readTree(t, dir, time.Minute, false, nil)

	// The same length, and the time of modification put back: only the system's own time
	// of the last change tells.
	info, err := os.Stat(filepath.Join(dir, "forged"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // more than a tick of the file system's clock
	write("forged", "as it is!")
	if err := os.Chtimes(filepath.Join(dir, "forged"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "mode"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	write("new", "as it was")

	want := map[string]bool{"a": true, "b/c": true, "b-d": true, "forged": false, "mode": false, "new": false}
	_, known := readTree(t, dir, time.Minute, false, first)
	for key, reused := range want {
		if got, ok := known[key]; !ok || got != reused {
			t.Errorf("%s: there %v, taken from before %v; want %v", key, ok, got, reused)
		}
	}
	if len(known) != len(want) {
		t.Errorf("%d records; want %d", len(known), len(want))
	}
	if _, known := readTree(t, dir, time.Minute, true, first); known["a"] {
		t.Error("reread: a was not read again")
	}
}

// A file that was written just before it was read may be written again within the same
// tick of the clock, and look the same.
func TestFilesThatHaveJustChangedAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("just now"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, _ := readTree(t, dir, -time.Hour, false, nil)
	if _, known := readTree(t, dir, -time.Hour, false, first); known["a"] {
		t.Error("a file was taken from before that could have changed unseen")
	}
}
