package transfer_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

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

func TestRestoreOfWhatIsNotThereFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := new(memory.Source)
	src.Generate(dataset.Stream{Name: "objects", Blobs: true}, 3, memory.Object(5, 0, 10))
	src.Generate(memory.RowStream("rows"), 3, memory.Row(5))
	d, err := transfer.Export(t.Context(), b.job(src))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]transfer.Filter{
		"a key":     {Key: "no such key"},
		"a prefix":  {Prefix: "no such prefix"},
		"a version": {Key: "no such key", Version: "7"},
		"a stream":  {Streams: []string{"no such stream"}},
		"of two":    {Streams: []string{"rows"}, Prefix: "no such prefix"},
	} {
		_, err := (transfer.Restore{Snapshot: b.snapshot(t, d), Target: new(memory.Target), Test: dataset.NewID(), Filter: f}).Run(t.Context())
		if !errors.Is(err, transfer.ErrNotInSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	all := func(string, string) bool { return true } // erased, and so neither loaded nor missing
	r := transfer.Restore{Snapshot: b.snapshot(t, d), Target: new(memory.Target), Test: dataset.NewID(), Filter: transfer.Filter{Streams: []string{"rows"}, Prefix: "["}, Withhold: all}
	if out, err := r.Run(t.Context()); err != nil || out.Streams[0].Withheld != 3 {
		t.Errorf("withheld: %+v, %v", out, err)
	}
}

func TestExportSaysWhichDecisionsItDidNotBelieve(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := new(memory.Source)
	src.Generate(memory.RowStream("rows"), 3, memory.Row(5))
	var notes []string
	job := b.job(src)
	job.OnNote = func(text string) { notes = append(notes, text) }
	if _, err := transfer.Export(t.Context(), job); err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	forged := archive.DecisionName("memory", archive.NewRunID(time.Now()))
	if err := b.store.Create(t.Context(), forged, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Export(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], forged) {
		t.Errorf("notes: %q", notes)
	}
}
