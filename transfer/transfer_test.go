package transfer_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/transfer"
)

// A bench is an archive in memory with its keys.
type bench struct {
	*archivetest.World
	store *archivetest.Memory
	state string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{store: new(archivetest.Memory), state: t.TempDir()}
	var err error
	if b.World, err = archivetest.NewWorld(t.Context(), b.store); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) job(src *memory.Source) transfer.Job {
	return transfer.Job{
		Archive: b.Archive,
		Options: b.Options("memory", b.state),
		Open:    func(ctx context.Context) (exporters.Exporter, error) { return src.Open(ctx) },
	}
}

func (b *bench) snapshot(t testing.TB, d *archive.Decision) *archive.Snapshot {
	t.Helper()
	s, err := b.Archive.Snapshot(t.Context(), "memory", d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), b.Identity); err != nil {
		t.Fatal(err)
	}
	return s
}

// contents reads all that a source offers: identity to canonical data and bytes. Equal
// records of a keyless stream are counted.
func contents(t testing.TB, src *memory.Source) map[string]string {
	t.Helper()
	view, err := src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	streams, err := view.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	byGroup := map[string][]dataset.Stream{}
	for _, s := range streams {
		id := s.Group
		if id == "" {
			id = "alone:" + s.Name
		}
		byGroup[id] = append(byGroup[id], s)
	}
	all := map[string]string{}
	for _, s := range streams {
		all["stream "+s.Name] = ""
	}
	for _, group := range byGroup {
		for r, err := range view.Read(t.Context(), exporters.Query{Streams: group}) {
			if err != nil {
				t.Fatal(err)
			}
			form, err := dataset.Canonical(nil, r.Data)
			if err != nil {
				t.Fatal(err)
			}
			value := string(form)
			if r.Blob != nil {
				body, err := r.Blob.Open(t.Context(), 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				h := sha256.New()
				if _, err := io.Copy(h, body); err != nil {
					t.Fatal(err)
				}
				body.Close()
				value += fmt.Sprintf(" %x", h.Sum(nil))
			}
			id := fmt.Sprintf("%s %q %d", r.Stream, r.Key, r.Ordinal)
			for n := 0; ; n++ {
				if _, taken := all[fmt.Sprint(id, " #", n)]; !taken {
					all[fmt.Sprint(id, " #", n)] = value
					break
				}
			}
		}
	}
	return all
}

func compare(t testing.TB, want, got map[string]string) {
	t.Helper()
	for id, v := range want {
		if g, ok := got[id]; !ok {
			t.Errorf("missing: %s", id)
		} else if g != v {
			t.Errorf("%s is %s; want %s", id, g, v)
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			t.Errorf("extra: %s", id)
		}
	}
}

func TestAwkwardSourceSurvivesArchiveAndRestore(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := memory.Awkward(keys.Awkward())
	d, err := transfer.Export(t.Context(), b.job(src))
	if err != nil {
		t.Fatal(err)
	}
	if d.Manifest.State != archive.Complete {
		t.Fatalf("snapshot is %s with gaps %v", d.Manifest.State, d.Manifest.Gaps)
	}
	dst := new(memory.Target)
	out, err := transfer.Restore{Snapshot: b.snapshot(t, d), Target: dst, Test: dataset.NewID()}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range out.Gaps {
		t.Errorf("gap on restore: %v", &g)
	}
	compare(t, contents(t, src), contents(t, dst.Loaded()))
	if err := dst.Err(); err != nil {
		t.Error(err)
	}
	if err := src.Err(); err != nil {
		t.Error(err)
	}
	for _, n := range b.store.Names() {
		if strings.Contains(string(b.store.Bytes(n)), "letter.pdf") {
			t.Errorf("%s names a source item", n)
		}
	}
}
