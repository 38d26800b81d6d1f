package archivetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A World is a store together with everybody's keys: exporter and keeper as
// [archive.Archive] trusts them, a stranger whom nobody trusts, and the managed
// identity.
type World struct {
	Store    archive.Store
	Archive  *archive.Archive
	Exporter *crypto.Signer // of intents, keys and manifests
	Keeper   *crypto.Signer // of all else
	Stranger *crypto.Signer
	Public   *crypto.Sealer
	Identity *crypto.Opener
	PackSize int64            // 0 means 64 KiB
	Now      func() time.Time // nil means time.Now

	MonthKeys bool // see [archive.Options]
}

// NewWorld makes st, which must be empty, a store.
func NewWorld(ctx context.Context, st archive.Store) (*World, error) {
	w := &World{Store: st}
	var lines []byte
	var err error
	for _, who := range []struct {
		name, namespaces string
		signer           **crypto.Signer
	}{
		{"exporter", "sallyport-store,sallyport-intent,sallyport-keys,sallyport-manifest", &w.Exporter},
		{"keeper", "sallyport-abort,sallyport-expiry,sallyport-hold,sallyport-verified", &w.Keeper},
		{"stranger", "", &w.Stranger},
	} {
		private, public, err := crypto.GenerateSigningKey(who.name)
		if err != nil {
			return nil, err
		}
		if *who.signer, err = crypto.ParseSigner(private); err != nil {
			return nil, err
		}
		if who.namespaces == "" {
			continue
		}
		line, err := crypto.NewAllowedSigner(who.name, who.namespaces, strings.TrimSpace(public))
		if err != nil {
			return nil, err
		}
		lines = append(append(lines, line.String()...), '\n')
	}
	trust, err := crypto.ParseAllowedSigners(lines, "allowed_signers")
	if err != nil {
		return nil, err
	}
	if w.Identity, w.Public, err = newIdentity(); err != nil {
		return nil, err
	}
	if _, err := archive.Init(ctx, st, w.Exporter, time.Now()); err != nil {
		return nil, err
	}
	w.Archive, err = archive.Open(ctx, st, trust)
	return w, err
}

func newIdentity() (*crypto.Opener, *crypto.Sealer, error) {
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		return nil, nil, err
	}
	open, err := crypto.ParseIdentities(file, "identity")
	if err != nil {
		return nil, nil, err
	}
	seal, err := crypto.NewSealer(recipient)
	return open, seal, err
}

// On returns the same world looking at another store, such as a [Memory.Clone].
func (w *World) On(st archive.Store) *World {
	c, a := *w, *w.Archive
	c.Store, a.Store = st, st
	c.Archive = &a
	return &c
}

// Content is what an export finds at its source.
type Content struct {
	Objects map[string][]byte // of the stream "objects"
	Records int               // of the stream "rows"
	Gaps    []dataset.Gap
}

// NewContent makes n objects, most of them small and some of several segments' frames,
// and three times as many records.
func NewContent(seed uint64, n int) Content {
	rnd := rand.New(rand.NewPCG(seed, 1))
	objects := map[string][]byte{"empty": {}, "a": []byte("file"), "a/b": []byte("below a file"), "\xff\xfe": []byte("not UTF-8")}
	for i := range n {
		size := rnd.IntN(4000)
		if i%40 == 7 {
			size = 600<<10 + rnd.IntN(1<<20)
		}
		objects[fmt.Sprintf("dir%d/object-%05d", i%7, i)] = text(rnd, size)
	}
	return Content{Objects: objects, Records: 3 * n}
}

// text returns bytes that compress a little.
func text(rnd *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = "abcdefghijklmnop"[rnd.Uint32()&15]
	}
	return b
}

// Changed returns the content with some objects added, altered and removed.
func (c Content) Changed(seed uint64) Content {
	rnd := rand.New(rand.NewPCG(seed, 2))
	d := Content{Objects: maps.Clone(c.Objects), Records: c.Records + 1}
	keys := slices.Sorted(maps.Keys(c.Objects))
	for range 1 + len(keys)/20 {
		d.Objects[keys[rnd.IntN(len(keys))]] = text(rnd, rnd.IntN(3000))
		delete(d.Objects, keys[rnd.IntN(len(keys))])
		d.Objects[fmt.Sprintf("new/%d", rnd.Uint32())] = text(rnd, rnd.IntN(3000))
	}
	return d
}

// Options returns what an export of a service writes with.
func (w *World) Options(service, state string) archive.Options {
	size := w.PackSize
	if size == 0 {
		size = 64 << 10
	}
	return archive.Options{Service: service, Exporter: "test", Classification: "OFFICIAL", Product: "test",
		Signer: w.Exporter, Recipients: w.Public, State: state, PackSize: size, Now: w.Now, MonthKeys: w.MonthKeys}
}

// Export writes one run. Objects that the state directory knows are not read again.
func (w *World) Export(ctx context.Context, service, state string, c Content) (*archive.Decision, error) {
	run, err := archive.Begin(ctx, w.Archive, w.Options(service, state))
	if err != nil {
		return nil, err
	}
	if _, err := Fill(ctx, run, c); err != nil {
		run.Abandon()
		return nil, err
	}
	return run.Commit(ctx, archive.Summary{})
}

// Fill writes content into a run, and returns how many bytes of objects it had to read.
func Fill(ctx context.Context, run *archive.Writer, c Content) (read int64, err error) {
	for _, g := range c.Gaps {
		run.Gap(ctx, g)
	}
	if read, err = fillObjects(ctx, run, c); err != nil {
		return read, err
	}
	rows, err := run.Stream(dataset.Stream{Name: "rows", Schema: &dataset.Schema{
		Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}}, 2)
	if err != nil {
		return read, err
	}
	for i := range c.Records {
		if err := rows.Section(i*2/c.Records).Record(ctx, fmt.Sprintf("[%d]", i), row(i)); err != nil {
			return read, err
		}
	}
	return read, nil
}

func row(i int) []byte { return fmt.Appendf(nil, `{"id":%d,"name":"row %d"}`, i, i*i) }

func fillObjects(ctx context.Context, run *archive.Writer, c Content) (read int64, err error) {
	blobs, err := run.Stream(dataset.Stream{Name: "objects", Blobs: true}, 1)
	if err != nil {
		return 0, err
	}
	prior := map[string]*dataset.Blob{}
	if seq := run.Prior("objects"); seq != nil {
		for r, err := range seq {
			if err != nil {
				return 0, err
			}
			prior[r.Key] = r.Blob
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Objects)) {
		data := c.Objects[key]
		e := archive.Entry{Key: key, Data: []byte(`{"n":1}`), HasBlob: true, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
		if b := prior[key]; b != nil && b.SHA256 == e.SHA256 {
			e.Archived = b.Archived.(*archive.Stored)
		} else if e.Segments, err = segments(ctx, run, data); err != nil {
			return read, err
		} else {
			read += e.Size
		}
		if err := blobs.Section(0).Entry(ctx, e); err != nil {
			return read, err
		}
	}
	return read, nil
}

func segments(ctx context.Context, run *archive.Writer, data []byte) (at []*archive.Placement, err error) {
	id := run.NewBlob()
	for n := 0; len(data) > 0; n++ {
		seg := data[:min(len(data), archive.SegmentSize)]
		data = data[len(seg):]
		p, err := run.Segment(ctx, id, n, seg)
		if err != nil {
			return nil, err
		}
		at = append(at, p)
	}
	return at, nil
}

// Compare reads a snapshot back and says how it differs from the content.
func (w *World) Compare(ctx context.Context, service string, d *archive.Decision, c Content) error {
	s, err := w.Archive.Snapshot(ctx, service, d)
	if err != nil {
		return err
	}
	if err := s.Unlock(ctx, w.Identity); err != nil {
		return err
	}
	return errors.Join(compareObjects(ctx, s, c), compareRows(ctx, s, c), compareGaps(ctx, s, c))
}

func compareObjects(ctx context.Context, s *archive.Snapshot, c Content) error {
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
		want, ok := c.Objects[r.Key]
		if !ok {
			return fmt.Errorf("extra object %q", r.Key)
		}
		body, err := r.Blob.Open(ctx, 0, -1)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("object %q: its %d bytes differ", r.Key, len(got))
		}
	}
	if n != len(c.Objects) {
		return fmt.Errorf("%d objects of %d", n, len(c.Objects))
	}
	return nil
}

func compareRows(ctx context.Context, s *archive.Snapshot, c Content) error {
	e, err := s.Stream("rows")
	if err != nil {
		return err
	}
	n := 0
	for r, err := range s.Records(ctx, e) {
		if err != nil {
			return err
		}
		if !bytes.Equal(r.Data, row(n)) {
			return fmt.Errorf("row %d is %s", n, r.Data)
		}
		n++
	}
	if n != c.Records {
		return fmt.Errorf("%d rows of %d", n, c.Records)
	}
	return nil
}

func compareGaps(ctx context.Context, s *archive.Snapshot, c Content) error {
	var got []dataset.Gap
	for g, err := range s.Gaps(ctx) {
		if err != nil {
			return err
		}
		got = append(got, dataset.Gap{Stream: g.Stream, Key: string(g.Key), Ordinal: g.Ordinal, Code: g.Code, Detail: g.Detail})
	}
	if !slices.Equal(got, c.Gaps) {
		return fmt.Errorf("gaps %v; want %v", got, c.Gaps)
	}
	return nil
}

// Collector returns the keeper's collector.
func (w *World) Collector() *archive.Collector {
	return &archive.Collector{Archive: w.Archive, Remover: w.Store.(archive.Remover), Signer: w.Keeper, Now: w.Now}
}

// Expire ends a snapshot.
func (w *World) Expire(ctx context.Context, service string, d *archive.Decision) error {
	now := time.Now
	if w.Now != nil {
		now = w.Now
	}
	return w.Archive.Expire(ctx, w.Keeper, service, d, "test", now())
}
