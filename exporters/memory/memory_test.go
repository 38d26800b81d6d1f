package memory_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
)

func open(t *testing.T, s *memory.Source) exporters.Exporter {
	t.Helper()
	x, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func read(t *testing.T, x exporters.Exporter, stream string) []string {
	t.Helper()
	var got []string
	for r, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: stream}}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Key+string(r.Data))
	}
	return got
}

func letters() *memory.Source {
	s := new(memory.Source)
	s.Add(dataset.Stream{Name: "letters"},
		dataset.Record{Key: "b", Data: []byte(`{"n":1}`)}, dataset.Record{Key: "a", Data: []byte(`{"n":2}`)})
	return s
}

func TestSourceKeepsTheLaw(t *testing.T) {
	t.Parallel()
	src := memory.Awkward(keys.Awkward())
	src.Generate(memory.RowStream("made up"), 500, memory.Row(1))
	src.Generate(dataset.Stream{Name: "made up objects", Blobs: true}, 300, memory.Object(2, 0, 5000))
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return src.Open(t.Context()) }, exportertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTargetKeepsTheLaw(t *testing.T) {
	t.Parallel()
	src := memory.Awkward(keys.Awkward())
	dst := new(memory.Target)
	if err := exportertest.CheckTarget(t.Context(), dst, open(t, src)); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	if err := dst.Err(); err != nil {
		t.Errorf("the law itself breaks the contract: %v", err)
	}
}

func TestViewDoesNotSeeLaterChanges(t *testing.T) {
	t.Parallel()
	s := letters()
	before := open(t, s)
	if err := s.Put(dataset.Record{Stream: "letters", Key: "b", Data: []byte(`{"n":3}`)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("letters", "a", 0); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, before, "letters"), []string{`b{"n":1}`, `a{"n":2}`}; !slices.Equal(got, want) {
		t.Errorf("old view has %q; want %q", got, want)
	}
	if got, want := read(t, open(t, s), "letters"), []string{`b{"n":3}`}; !slices.Equal(got, want) {
		t.Errorf("new view has %q; want %q", got, want)
	}
}

func TestSourceChangesAsAViewIsOpened(t *testing.T) {
	t.Parallel()
	s := letters()
	s.Opened = func(n int) {
		if n == 2 {
			s.Remove("letters", "b", 0)
		}
	}
	if got := read(t, open(t, s), "letters"); len(got) != 2 {
		t.Errorf("first view has %q", got)
	}
	if got := read(t, open(t, s), "letters"); len(got) != 1 {
		t.Errorf("second view has %q", got)
	}
}

func TestHooksPlantFaults(t *testing.T) {
	t.Parallel()
	s := letters()
	s.Mutate = func(r dataset.Record) []dataset.Record {
		if r.Key == "a" {
			return nil
		}
		twice := r
		twice.Data = []byte(`{"n":9}`)
		return []dataset.Record{r, twice}
	}
	if got, want := read(t, open(t, s), "letters"), []string{`b{"n":1}`, `b{"n":9}`}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}

	broken := letters()
	broken.Fail = func(stream string, i int) error {
		if i == 1 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	n := 0
	var last error
	for _, err := range open(t, broken).Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "letters"}}}) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 1 || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("%d records, then %v; want 1 and the planted error", n, last)
	}
}

func TestDataIsSpoiltAfterItsStep(t *testing.T) {
	t.Parallel()
	var kept []byte
	for r, err := range open(t, letters()).Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "letters"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		if kept == nil {
			kept = r.Data
		}
	}
	if strings.Trim(string(kept), "!") != "" {
		t.Errorf("data kept beyond its step is %q; want it spoilt", kept)
	}
}

func TestPriorBlobIsYieldedWhereDataIsUnchanged(t *testing.T) {
	t.Parallel()
	s := &memory.Source{Reuse: true}
	def := dataset.Stream{Name: "o", Blobs: true}
	for _, k := range []string{"same", "new", "changed"} {
		s.Add(def, dataset.Record{Key: k, Data: []byte(`{"v":1}`), Blob: memory.Bytes([]byte(k))})
	}
	old := memory.Bytes(nil)
	prior := func(yield func(dataset.Record, error) bool) {
		_ = yield(dataset.Record{Key: "changed", Data: []byte(`{"v":0}`), Blob: old}, nil) &&
			yield(dataset.Record{Key: "gone", Data: []byte(`{"v":1}`), Blob: old}, nil) &&
			yield(dataset.Record{Key: "same", Data: []byte(`{"v":1}`), Blob: old}, nil)
	}
	for r, err := range open(t, s).Read(t.Context(), exporters.Query{Streams: []dataset.Stream{def}, Prior: prior}) {
		if err != nil {
			t.Fatal(err)
		}
		if reused := r.Blob == old; reused != (r.Key == "same") {
			t.Errorf("key %q: prior blob yielded: %v", r.Key, reused)
		}
	}
}

func TestDeleterObeysItsLaw(t *testing.T) {
	t.Parallel()
	s := new(memory.Source)
	s.Add(dataset.Stream{Name: "n"}, dataset.Record{Key: "a", Data: []byte(`{"n":1}`)}, dataset.Record{Key: "b", Data: []byte(`{"n":2}`)}, dataset.Record{Key: "c", Data: []byte(`{"n":3}`)})
	err := exportertest.CheckDeleter(t.Context(), exportertest.DeleterSource{
		Open:   func() (exporters.Exporter, error) { return s.Open(t.Context()) },
		Stream: "n",
		Change: func(_ context.Context, key string) error {
			return s.Put(dataset.Record{Stream: "n", Key: key, Data: []byte(`{"n":4}`)})
		},
		Other: func(r dataset.Record) dataset.Record { r.Key = "z"; return r },
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSourceReportsItsCallersBreaches(t *testing.T) {
	t.Parallel()
	s := new(memory.Source)
	s.Add(dataset.Stream{Name: "o", Blobs: true}, dataset.Record{Key: "k", Data: []byte(`{}`), Blob: memory.Bytes([]byte("abc"))})
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	x := open(t, s)
	if err := s.Err(); err == nil {
		t.Error("an open view is not reported")
	}
	for r := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "o"}}}) {
		if _, err := r.Blob.Open(t.Context(), 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	x.Close()
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "blobs are not closed") {
		t.Errorf("a blob left open: Err = %v", err)
	}
}

func TestTargetRefusesCallsOutOfOrder(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	def := dataset.Stream{Name: "o", Blobs: true}
	none := func(yield func(dataset.Record, error) bool) {}
	load := func(d *memory.Target, seq iter.Seq2[dataset.Record, error]) error {
		return d.Load(ctx, def, seq, func(dataset.Gap) {})
	}
	begin := func(d *memory.Target) error { return d.Begin(ctx, "t", []dataset.Stream{def}) }
	for name, misuse := range map[string]func(d *memory.Target) error{
		"load before begin":   func(d *memory.Target) error { return load(d, none) },
		"finish before begin": func(d *memory.Target) error { return d.Finish(ctx) },
		"load twice":          func(d *memory.Target) error { begin(d); load(d, none); return load(d, none) },
		"unannounced stream": func(d *memory.Target) error {
			begin(d)
			return d.Load(ctx, dataset.Stream{Name: "other"}, none, nil)
		},
		"stream forgotten": func(d *memory.Target) error { begin(d); return d.Finish(ctx) },
		"load after finish": func(d *memory.Target) error {
			begin(d)
			load(d, none)
			d.Finish(ctx)
			return load(d, none)
		},
		"read before finish": func(d *memory.Target) error { begin(d); _, err := d.Streams(ctx); return err },
		"keys out of order": func(d *memory.Target) error {
			begin(d)
			return load(d, func(yield func(dataset.Record, error) bool) {
				_ = yield(dataset.Record{Stream: "o", Key: "b", Data: []byte(`{}`)}, nil) &&
					yield(dataset.Record{Stream: "o", Key: "a", Data: []byte(`{}`)}, nil)
			})
		},
	} {
		d := new(memory.Target)
		if err := misuse(d); err == nil {
			t.Errorf("%s: no error", name)
		}
		if d.Err() == nil {
			t.Errorf("%s: Err does not report it", name)
		}
	}
}

func TestTargetReportsWhatItCannotKeepAndGoesOn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	src := new(memory.Source)
	def := dataset.Stream{Name: "o", Blobs: true}
	src.Add(def,
		dataset.Record{Key: "a", Data: []byte(`{}`), Blob: memory.Broken(memory.Bytes([]byte("abc")), 1, nil)},
		dataset.Record{Key: "b", Data: []byte(`{}`), Blob: memory.Broken(memory.Bytes([]byte("abc")), 1, io.ErrClosedPipe)},
		dataset.Record{Key: "c", Data: []byte(`{}`), Blob: memory.Bytes([]byte("abc"))})
	dst := new(memory.Target)
	if err := dst.Begin(ctx, "t", []dataset.Stream{def}); err != nil {
		t.Fatal(err)
	}
	var gaps []string
	err := dst.Load(ctx, def, open(t, src).Read(ctx, exporters.Query{Streams: []dataset.Stream{def}}), func(g dataset.Gap) { gaps = append(gaps, g.Key) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(gaps, []string{"a", "b"}) {
		t.Errorf("gaps %q; want a and b", gaps)
	}
	if err := dst.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dst, "o"); !slices.Equal(got, []string{"c{}"}) {
		t.Errorf("kept %q; want c", got)
	}
}

func TestGeneratedStreamsCostNoMemory(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	src.Generate(dataset.Stream{Name: "o", Blobs: true}, 1_000_000, memory.Object(1, 1, 5<<40))
	x := open(t, src)
	n := 0
	for r, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "o"}}, After: "0/999000"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%500 == 0 {
			b, err := r.Blob.Open(t.Context(), r.Blob.Size-1, 10)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(b); len(got) != 1 {
				t.Errorf("%d bytes at the end of a blob", len(got))
			}
			b.Close()
		}
	}
	if n != 1000 {
		t.Errorf("%d records after the cursor; want 1000", n)
	}
}

func TestCancelledContextEndsARead(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range open(t, letters()).Read(ctx, exporters.Query{Streams: []dataset.Stream{{Name: "letters"}}}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("sequence ended with %v", last)
	}
}
