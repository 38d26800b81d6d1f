package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A world is a store with its keys.
type world struct {
	store  archive.Store
	a      *archive.Archive
	signer *crypto.Signer
	seal   *crypto.Sealer
	open   *crypto.Opener
	state  string
	size   int64 // of packs
}

func newWorld(t testing.TB, st archive.Store) *world {
	t.Helper()
	w := &world{store: st, state: t.TempDir(), size: 1 << 20}
	private, public, err := crypto.GenerateSigningKey("exporter")
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = crypto.ParseSigner(private); err != nil {
		t.Fatal(err)
	}
	signers, err := crypto.NewAllowedSigner("exporter", "sallyport-*", strings.TrimSpace(public))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := crypto.ParseAllowedSigners([]byte(signers.String()+"\n"), "allowed_signers")
	if err != nil {
		t.Fatal(err)
	}
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	if w.open, err = crypto.ParseIdentities(file, "identity"); err != nil {
		t.Fatal(err)
	}
	if w.seal, err = crypto.NewSealer(recipient); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Init(t.Context(), st, w.signer, time.Now()); err != nil {
		t.Fatal(err)
	}
	if w.a, err = archive.Open(t.Context(), st, trust); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) options() archive.Options {
	return archive.Options{Service: "case-files", Exporter: "test", Classification: "OFFICIAL", Product: "test",
		Signer: w.signer, Recipients: w.seal, State: w.state, PackSize: w.size}
}

// export writes objects key to content, all of them unchanged from what Prior knows
// where same says so, and some records.
func (w *world) export(ctx context.Context, objects map[string][]byte, records int) (*archive.Decision, error) {
	run, err := archive.Begin(ctx, w.a, w.options())
	if err != nil {
		return nil, err
	}
	if err := w.fill(ctx, run, objects, records); err != nil {
		run.Abandon()
		return nil, err
	}
	return run.Commit(ctx, archive.Summary{})
}

func (w *world) fill(ctx context.Context, run *archive.Writer, objects map[string][]byte, records int) error {
	blobs, err := run.Stream(dataset.Stream{Name: "objects", Blobs: true}, 1)
	if err != nil {
		return err
	}
	prior := map[string]*dataset.Blob{}
	if seq := run.Prior("objects"); seq != nil {
		for r, err := range seq {
			if err != nil {
				return err
			}
			prior[r.Key] = r.Blob
		}
	}
	for _, key := range sortedKeys(objects) {
		data := objects[key]
		e := archive.Entry{Key: key, Data: []byte(`{"n":1}`), HasBlob: true, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
		if b := prior[key]; b != nil && b.SHA256 == e.SHA256 {
			e.Archived = b.Archived.(*archive.Stored)
		} else {
			id := run.NewBlob()
			for n := 0; n*archive.SegmentSize < len(data); n++ {
				seg := data[n*archive.SegmentSize : min(len(data), (n+1)*archive.SegmentSize)]
				p, err := run.Segment(ctx, id, n, seg)
				if err != nil {
					return err
				}
				e.Segments = append(e.Segments, p)
			}
		}
		if err := blobs.Section(0).Entry(ctx, e); err != nil {
			return err
		}
	}
	rows, err := run.Stream(dataset.Stream{Name: "rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}}, 2)
	if err != nil {
		return err
	}
	for i := range records {
		line := fmt.Appendf(nil, `{"id":%d,"name":"row %d"}`, i, i*i)
		if err := rows.Section(i*2/records).Record(ctx, fmt.Sprintf("[%d]", i), line); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// verify reads everything back and compares.
func (w *world) verify(ctx context.Context, d *archive.Decision, objects map[string][]byte, records int) error {
	s, err := w.a.Snapshot(ctx, "case-files", d)
	if err != nil {
		return err
	}
	if err := s.Unlock(ctx, w.open); err != nil {
		return err
	}
	e, err := s.Stream("objects")
	if err != nil {
		return err
	}
	n := 0
	for r, err := range s.Records(ctx, e) {
		if err != nil {
			return err
		}
		n++
		want, ok := objects[r.Key]
		if !ok {
			return fmt.Errorf("extra key %q", r.Key)
		}
		body, err := r.Blob.Open(ctx, 0, -1)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%q: %d bytes differ", r.Key, len(got))
		}
	}
	if n != len(objects) {
		return fmt.Errorf("%d objects of %d", n, len(objects))
	}
	if e, err = s.Stream("rows"); err != nil {
		return err
	}
	n = 0
	for r, err := range s.Records(ctx, e) {
		if err != nil {
			return err
		}
		if want := fmt.Sprintf(`{"id":%d,"name":"row %d"}`, n, n*n); string(r.Data) != want {
			return fmt.Errorf("row %d is %s", n, r.Data)
		}
		n++
	}
	if n != records {
		return fmt.Errorf("%d records of %d", n, records)
	}
	return nil
}

func testObjects(seed uint64, n int) map[string][]byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	objects := map[string][]byte{"empty": {}, "a": []byte("file"), "a/b": []byte("below a file"), "\xff\xfe": []byte("not UTF-8")}
	for i := range n {
		size := rnd.IntN(20000)
		if i%50 == 0 {
			size = rnd.IntN(3 << 20)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rnd.IntN(1 + i%256))
		}
		objects[fmt.Sprintf("dir%d/object-%05d", i%7, i)] = data
	}
	return objects
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	objects := testObjects(1, 300)
	d, err := w.export(t.Context(), objects, 30000)
	if err != nil {
		t.Fatal(err)
	}
	if d.Manifest.State != archive.Complete || d.Manifest.Counts.Blobs != int64(len(objects)) || d.Manifest.Counts.Records != int64(len(objects)+30000) {
		t.Errorf("manifest = %s", d.Doc)
	}
	if err := w.verify(t.Context(), d, objects, 30000); err != nil {
		t.Error(err)
	}
	if err := w.store.(*archivetest.Memory).Misuse(); err != nil {
		t.Error(err)
	}
}

func TestSecondExportOfTheSameReusesEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	objects := testObjects(2, 200)
	first, err := w.export(t.Context(), objects, 20000)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.export(t.Context(), objects, 20000)
	if err != nil {
		t.Fatal(err)
	}
	if n := second.Manifest.Counts.New; n > 20000 {
		t.Errorf("the second export stored %d new bytes of packs of %d", n, first.Manifest.Counts.PackBytes)
	}
	if second.Manifest.Root != first.Manifest.Root {
		t.Error("the root of unchanged data changed")
	}
	if len(second.Manifest.Parents) != 1 || second.Manifest.Parents[0] != first.Hash || second.Manifest.Sequence != 2 {
		t.Errorf("parents %v, sequence %d", second.Manifest.Parents, second.Manifest.Sequence)
	}
	objects["dir1/new"] = []byte("new")
	delete(objects, "a")
	third, err := w.export(t.Context(), objects, 20000)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.verify(t.Context(), third, objects, 20000); err != nil {
		t.Error(err)
	}
}
