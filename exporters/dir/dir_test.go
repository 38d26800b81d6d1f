package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
)

var objects = dataset.Stream{Name: "objects", Blobs: true}

// view opens a view of a source in memory.
func view1(t *testing.T, s *memory.Source) exporters.Exporter {
	t.Helper()
	x, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// load restores all of src into a new directory and returns its path.
func load(t *testing.T, src *memory.Source) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	dst := NewTarget(dir, Options{NoSync: true})
	loadInto(t, dst, src)
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func loadInto(t *testing.T, dst exporters.Target, src *memory.Source) {
	t.Helper()
	ctx, x := t.Context(), view1(t, src)
	streams, err := x.Streams(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Begin(ctx, "test", streams); err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		err := dst.Load(ctx, s, x.Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}), func(g dataset.Gap) { t.Errorf("gap: %v", &g) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Finish(ctx); err != nil {
		t.Fatal(err)
	}
}

// read returns all records of a stream as text, with the bytes of their blobs.
func read(t *testing.T, dir, stream string) []string {
	t.Helper()
	x, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	return readAll(t, x, stream)
}

func readAll(t *testing.T, x exporters.Exporter, stream string) []string {
	t.Helper()
	var all []string
	for r, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: stream}}}) {
		if err != nil {
			return append(all, "error: "+err.Error())
		}
		line := fmt.Sprintf("%s/%d %s", r.Key, r.Ordinal, r.Data)
		if r.Gap != nil {
			line += " gap " + string(r.Gap.Code)
		}
		if r.Blob != nil {
			b, err := r.Blob.Open(t.Context(), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(b)
			b.Close()
			if err != nil {
				t.Fatal(err)
			}
			line += " = " + string(data)
		}
		all = append(all, line)
	}
	return all
}

func few() *memory.Source {
	s := new(memory.Source)
	for _, k := range []string{"a", "a/b", "c"} {
		s.Add(objects, dataset.Record{Key: k, Data: []byte(`{"n":1}`), Blob: memory.Bytes([]byte("bytes of " + k))})
	}
	s.Add(dataset.Stream{Name: "rows"}, dataset.Record{Key: "[1]", Data: []byte(`{"id":1}`)}, dataset.Record{Key: "[2]", Data: []byte(`{"id":2}`)})
	return s
}

func TestTargetKeepsTheLaw(t *testing.T) {
	t.Parallel()
	for _, existing := range []bool{false, true} {
		dir := t.TempDir()
		if !existing {
			dir = filepath.Join(dir, "made", "here")
		}
		dst := NewTarget(dir, Options{NoSync: true})
		if err := exportertest.CheckTarget(t.Context(), dst, view1(t, memory.Awkward(keys.Awkward()))); err != nil {
			t.Fatal(err)
		}
		if err := dst.Close(); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); existing && (err != nil || len(left) > 0) || !existing && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Destroy left %v (%v)", left, err)
		}
	}
}

func TestRestoredDirectoryKeepsTheLawOfExporters(t *testing.T) {
	t.Parallel()
	dir := load(t, memory.Awkward(keys.Awkward()))
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return Open(t.Context(), dir) }, exportertest.Options{Sample: 200})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAwkwardKeysGoThroughADirectoryByteForByte takes them from memory to a directory and
// from there to memory, where all lexemes, bytes and versions must be as they were.
func TestAwkwardKeysGoThroughADirectoryByteForByte(t *testing.T) {
	t.Parallel()
	src := memory.Awkward(keys.Awkward())
	dir := load(t, src)
	back, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	for _, s := range []string{"objects", "rows", "settings", "events", "tickets", "tickets.files", "empty/nothing here"} {
		want := readAll(t, view1(t, src), s)
		if got := readAll(t, back, s); !slices.Equal(got, want) {
			t.Errorf("stream %q: %d records came back differently than %d", s, len(got), len(want))
		}
	}
}

func TestOnlyRegularFilesWithSafeNamesAreMade(t *testing.T) {
	t.Parallel()
	dir := load(t, memory.Awkward(keys.Awkward()))
	n := 0
	err := filepath.WalkDir(filepath.Dir(dir), func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		if !e.IsDir() && !e.Type().IsRegular() {
			t.Errorf("%s is %s", name, e.Type())
		}
		for _, c := range []byte(e.Name()) {
			if c <= ' ' || c > '~' || strings.IndexByte(`\:*?"<>|`, c) >= 0 {
				t.Errorf("%q is no safe name", e.Name())
			}
		}
		return nil
	})
	if err != nil || n < 200 {
		t.Fatalf("walk found %d names: %v", n, err)
	}
	if beside, _ := os.ReadDir(filepath.Dir(dir)); len(beside) != 1 {
		t.Errorf("beside the directory there are %v", beside)
	}
}

func TestOrdinaryKeysStayReadable(t *testing.T) {
	t.Parallel()
	s := new(memory.Source)
	s.Add(objects, dataset.Record{Key: "2024/letter 1.pdf", Data: []byte(`{}`), Blob: memory.Bytes([]byte("old"))},
		dataset.Record{Key: "2024/letter 1.pdf", Ordinal: 1, Data: []byte(`{}`), Blob: memory.Bytes([]byte("new"))})
	s.Add(dataset.Stream{Name: "public.cases"}, dataset.Record{Key: "[1]", Data: []byte(`{"id":1.0}`)})
	dir := load(t, s)
	for name, want := range map[string]string{
		"objects/2024/letter~201.pdf":    "new",
		"versions/2024/letter~201.pdf/0": "old",
		"public.cases.jsonl":             "{\"id\":1.0}\n",
		"public.cases.keymap.jsonl":      "{\"key\":\"[1]\",\"ordinal\":0}\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s holds %q (%v); want %q", name, got, err, want)
		}
	}
	first, _, _ := strings.Cut(string(must(os.ReadFile(filepath.Join(dir, "keymap.jsonl")))), "\n")
	if want := `{"path":"objects/2024/letter~201.pdf","key":"2024/letter 1.pdf","ordinal":1,"size":3,"sha256":"` + dataset.Sum([]byte("new")).String() + `","data":{}}`; first != want {
		t.Errorf("keymap begins with\n%s; want\n%s", first, want)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestVersionsMayBeLoadedInEitherOrder(t *testing.T) {
	t.Parallel()
	recs := []dataset.Record{
		{Stream: "objects", Key: "k", Ordinal: 0, Data: []byte(`{}`), Blob: memory.Bytes([]byte("0"))},
		{Stream: "objects", Key: "k", Ordinal: 1, Data: []byte(`{"delete_marker":true}`)},
		{Stream: "objects", Key: "k", Ordinal: 2, Data: []byte(`{}`), Blob: memory.Bytes([]byte("2"))},
	}
	for _, rising := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "d")
		dst := NewTarget(dir, Options{NoSync: true})
		if err := dst.Begin(t.Context(), "t", []dataset.Stream{objects}); err != nil {
			t.Fatal(err)
		}
		in := slices.Clone(recs)
		if !rising {
			slices.Reverse(in)
		}
		err := dst.Load(t.Context(), objects, func(yield func(dataset.Record, error) bool) {
			for _, r := range in {
				if !yield(r, nil) {
					return
				}
			}
		}, func(g dataset.Gap) { t.Error(&g) })
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		dst.Close()
		want := []string{"k/2 {} = 2", `k/1 {"delete_marker":true}`, "k/0 {} = 0"}
		if got := read(t, dir, "objects"); !slices.Equal(got, want) {
			t.Errorf("rising %v: got %q", rising, got)
		}
		if got := must(os.ReadFile(filepath.Join(dir, "objects", "k"))); string(got) != "2" {
			t.Errorf("rising %v: objects/k holds %q; want the newest", rising, got)
		}
	}
}

func TestWhatWasDoneToARestoredDirectoryShows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(t *testing.T, dir string)
		want string // a line, or part of one, that must come
	}{
		"a file is missing":     {func(t *testing.T, dir string) { os.Remove(dir + "/objects/a") }, "a/0  gap absent"},
		"a file is extra":       {func(t *testing.T, dir string) { os.WriteFile(dir+"/objects/b~21", []byte("x"), 0o600) }, `b!/0 {"not in the keymap":true,"path":"objects/b~21"} = x`},
		"an extra beyond names": {func(t *testing.T, dir string) { os.WriteFile(dir+"/objects/~zz", nil, 0o600) }, "objects/~zz/0 "},
		"an extra old version": {func(t *testing.T, dir string) {
			os.MkdirAll(dir+"/versions/c", 0o700)
			os.WriteFile(dir+"/versions/c/4", nil, 0o600)
		}, "c/4 "},
		"one missing, one extra": {func(t *testing.T, dir string) { os.Rename(dir+"/objects/c", dir+"/objects/d") }, "d/0 "},
		"a file is changed":      {func(t *testing.T, dir string) { os.WriteFile(dir+"/objects/a", []byte("other"), 0o600) }, "= other"},
		"a link instead of a file": {func(t *testing.T, dir string) {
			os.Remove(dir + "/objects/a")
			os.Symlink("c", dir+"/objects/a")
		}, "a/0  gap unsupported"},
		"an extra link": {func(t *testing.T, dir string) { os.Symlink("/etc/passwd", dir+"/objects/z") }, "z/0  gap unsupported"},
		"a keymap cut":  {func(t *testing.T, dir string) { os.Truncate(dir+"/keymap.jsonl", 300) }, "error: "},
		"a keymap cut at a line's end": {func(t *testing.T, dir string) {
			all := must(os.ReadFile(dir + "/keymap.jsonl"))
			os.Truncate(dir+"/keymap.jsonl", int64(bytes.IndexByte(all, '\n')+1))
		}, "1 lines; 3 were written"},
	} {
		dir := load(t, few())
		c.do(t, dir)
		got := read(t, dir, "objects")
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.want) }) {
			t.Errorf("%s: got %q; want %q", name, got, c.want)
		}
	}
}

func TestExtraFilesComeInKeyOrder(t *testing.T) {
	t.Parallel()
	dir := load(t, few())
	for _, name := range []string{"0", "a~21", "bb", "c/x", "versions"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, "objects", name)), 0o700)
		os.WriteFile(filepath.Join(dir, "objects", name), nil, 0o600)
	}
	os.MkdirAll(dir+"/versions/a", 0o700)
	os.WriteFile(dir+"/versions/a/7", nil, 0o600)
	var order []string
	for _, line := range read(t, dir, "objects") {
		key, _, _ := strings.Cut(line, " ")
		order = append(order, key)
	}
	if want := []string{"0/0", "a/7", "a/0", "a!/0", "a/b/0", "bb/0", "c/0", "versions/0"}; !slices.Equal(order, want) {
		t.Errorf("got %q; want %q", order, want)
	}
}

func TestTableLinesLostOrAddedAreErrors(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(string) string{
		"last line lost": func(s string) string { return s[:strings.Index(s, "\n")+1] },
		"line added":     func(s string) string { return s + "{}\n" },
		"line cut":       func(s string) string { return s[:len(s)-3] },
		"line not JSON":  func(s string) string { return strings.Replace(s, "2", "+2", 1) },
	} {
		dir := load(t, few())
		file := dir + "/rows.jsonl"
		os.WriteFile(file, []byte(change(string(must(os.ReadFile(file))))), 0o600)
		got := read(t, dir, "rows")
		if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "error: ") {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

func TestUnfinishedRestoreIsNoSource(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	dst := NewTarget(dir, Options{NoSync: true})
	if err := dst.Begin(t.Context(), "t", []dataset.Stream{objects}); err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := dst.Finish(t.Context()); err == nil {
		t.Error("Finish without a Load of an announced stream succeeded")
	}
	if x, err := Open(t.Context(), dir); err == nil {
		x.Close()
		t.Error("a directory whose restore was not finished was opened")
	}
}

func TestBeginRefusesWhatIsNotEmpty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.WriteFile(dir+"/mine", []byte("keep"), 0o600)
	dst := NewTarget(dir, Options{NoSync: true})
	if err := exportertest.CheckRefusal(t.Context(), dst); err != nil {
		t.Error(err)
	}
	if got := must(os.ReadFile(dir + "/mine")); string(got) != "keep" {
		t.Errorf("the file holds %q", got)
	}
}

func TestDestroyLeavesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	dir := load(t, few())
	os.WriteFile(dir+"/mine", []byte("keep"), 0o600)
	outside := filepath.Join(filepath.Dir(dir), "outside")
	os.WriteFile(outside, []byte("keep"), 0o600)
	os.Symlink(outside, dir+"/objects/link")
	dst := NewTarget(dir, Options{NoSync: true})
	if err := dst.Destroy(t.Context(), "other"); !errors.Is(err, exporters.ErrNotOurs) {
		t.Errorf("Destroy of another test = %v", err)
	}
	if err := dst.Destroy(t.Context(), "test"); err == nil || !strings.Contains(err.Error(), `"mine"`) {
		t.Errorf("Destroy = %v; want it to name what it left", err)
	}
	for _, name := range []string{dir + "/mine", outside} {
		if got := must(os.ReadFile(name)); string(got) != "keep" {
			t.Errorf("%s holds %q", name, got)
		}
	}
	os.Remove(dir + "/mine")
	if err := dst.Destroy(t.Context(), "test"); err != nil {
		t.Errorf("Destroy, tried again: %v", err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestCapitalsAreEncodedWhereCaseIsIgnored(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	dst := NewTarget(dir, Options{NoSync: true})
	dst.ignoresCase = func(*os.Root) (bool, error) { return true, nil }
	s := new(memory.Source)
	for _, k := range []string{"FILE", "File", "file", "\xff"} {
		s.Add(objects, dataset.Record{Key: k, Data: []byte(`{}`), Blob: memory.Bytes([]byte(k))})
	}
	loadInto(t, dst, s)
	defer dst.Close()
	var names []string
	for _, e := range must2(os.ReadDir(dir + "/objects")) {
		names = append(names, e.Name())
	}
	if want := []string{"^f^i^l^e", "^file", "file", "~^f^f"}; !slices.Equal(names, want) {
		t.Errorf("files are %q; want %q", names, want)
	}
	os.WriteFile(dir+"/objects/^x", nil, 0o600)
	if got := read(t, dir, "objects"); len(got) != 5 || !strings.HasPrefix(got[2], "X/0") {
		t.Errorf("read back %q", got)
	}
}

func TestTablesCanBeCSV(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	src.Generate(memory.RowStream("made up"), 100, memory.Row(1))
	text := dataset.Stream{Name: "text", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "a", Type: dataset.String}, {Name: "b", Type: dataset.Number}}}}
	src.Add(text,
		dataset.Record{Key: "1", Data: []byte(`{"a":"x\r\ny \"q\"","b":1.10}`)},
		dataset.Record{Key: "2", Data: []byte(`{"a":null,"b":-0}`)},
		dataset.Record{Key: "3", Data: []byte(`{"a":""}`)},
		dataset.Record{Key: "4", Data: []byte(`{}`)})
	src.Add(dataset.Stream{Name: "no schema"}, dataset.Record{Key: "k", Data: []byte(`{"x":[1]}`)})
	if err := exportertest.CheckTarget(t.Context(), NewTarget(filepath.Join(t.TempDir(), "d"), Options{CSV: true, NoSync: true}), view1(t, src)); err != nil {
		t.Error(err)
	}

	dir := filepath.Join(t.TempDir(), "d")
	dst := NewTarget(dir, Options{CSV: true, NoSync: true})
	defer dst.Close()
	loadInto(t, dst, src)
	want := []string{`1/0 {"a":"x\r\ny \"q\"","b":1.10}`, `2/0 {"a":null,"b":-0}`, `3/0 {"a":""}`, `4/0 {}`}
	if got := readAll(t, dst, "text"); !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
	if got, want := string(must(os.ReadFile(dir+"/text.csv"))), "\"a\",\"b\"\n\"x\r\ny \"\"q\"\"\",\"1.10\"\n\\N,\"-0\"\n\"\",\\N\n\\N,\\N\n"; got != want {
		t.Errorf("text.csv holds %q; want %q", got, want)
	}
	for _, name := range []string{"text.csv-metadata.json", "datapackage.json", "no~20schema.jsonl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestRecordThatIsNoRowIsAGap(t *testing.T) {
	t.Parallel()
	s := dataset.Stream{Name: "s", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "a", Type: dataset.Integer}}}}
	src := new(memory.Source)
	for i, data := range []string{`{"a":1}`, `{"a":"text"}`, `{"a":1,"b":2}`} {
		src.Add(s, dataset.Record{Key: fmt.Sprint(i), Data: []byte(data)})
	}
	ctx := t.Context()
	dst := NewTarget(filepath.Join(t.TempDir(), "d"), Options{CSV: true, NoSync: true})
	defer dst.Close()
	if err := dst.Begin(ctx, "t", []dataset.Stream{s}); err != nil {
		t.Fatal(err)
	}
	var gaps []string
	err := dst.Load(ctx, s, view1(t, src).Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}), func(g dataset.Gap) { gaps = append(gaps, g.Key+" "+string(g.Code)) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"1 unsupported", "2 unsupported"}; !slices.Equal(gaps, want) {
		t.Errorf("gaps %q; want %q", gaps, want)
	}
	if err := dst.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, dst, "s"); !slices.Equal(got, []string{`0/0 {"a":1}`}) {
		t.Errorf("read back %q", got)
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestStreamsWithClashingNamesHavePlacesOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := new(memory.Source)
	for i, name := range []string{"objects", "keymap", "x", "x.keymap", "X", "datapackage", "..", "a/b", strings.Repeat("long", 100)} {
		s.Add(dataset.Stream{Name: name}, dataset.Record{Key: "k", Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	for _, name := range []string{"blobs one", "versions"} {
		s.Add(dataset.Stream{Name: name, Blobs: true}, dataset.Record{Key: "k", Data: []byte(`{}`), Blob: memory.Bytes([]byte(name))})
	}
	dst := NewTarget(filepath.Join(t.TempDir(), "d"), Options{NoSync: true})
	if err := exportertest.CheckTarget(t.Context(), dst, view1(t, s)); err != nil {
		t.Error(err)
	}
	dst.Close()
}

func TestUnreadableBytesAreGapsAndTheirFilesAreGone(t *testing.T) {
	t.Parallel()
	s := new(memory.Source)
	whole := memory.Bytes([]byte("abcdef"))
	s.Add(objects,
		dataset.Record{Key: "cut", Data: []byte(`{}`), Blob: memory.Broken(whole, 3, nil)},
		dataset.Record{Key: "denied", Data: []byte(`{}`), Blob: memory.Broken(whole, 3, &dataset.Gap{Code: dataset.Denied})},
		dataset.Record{Key: "wrong", Data: []byte(`{}`), Blob: &dataset.Blob{Size: 6, Open: whole.Open, SHA256: dataset.Sum([]byte("other"))}},
		dataset.Record{Key: "yes", Data: []byte(`{}`), Blob: whole})
	dir := filepath.Join(t.TempDir(), "d")
	dst := NewTarget(dir, Options{NoSync: true})
	defer dst.Close()
	ctx := t.Context()
	if err := dst.Begin(ctx, "t", []dataset.Stream{objects}); err != nil {
		t.Fatal(err)
	}
	var gaps []string
	err := dst.Load(ctx, objects, view1(t, s).Read(ctx, exporters.Query{Streams: []dataset.Stream{objects}}), func(g dataset.Gap) {
		gaps = append(gaps, g.Key+" "+string(g.Code))
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"cut unreadable", "denied denied", "wrong unreadable"}; !slices.Equal(gaps, want) {
		t.Errorf("gaps %q; want %q", gaps, want)
	}
	if left := must2(os.ReadDir(dir + "/objects")); len(left) != 1 {
		t.Errorf("objects holds %v; want only what came whole", left)
	}
}

func TestLoadStopsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	s := new(memory.Source)
	s.Generate(objects, 1_000_000, memory.Object(1, 1, 10))
	dst := NewTarget(filepath.Join(t.TempDir(), "d"), Options{NoSync: true})
	defer dst.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := dst.Begin(ctx, "t", []dataset.Stream{objects}); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := dst.Load(ctx, objects, func(yield func(dataset.Record, error) bool) {
		for r, err := range view1(t, s).Read(t.Context(), exporters.Query{Streams: []dataset.Stream{objects}}) {
			if n++; n == 50 {
				cancel()
			}
			if !yield(r, err) {
				return
			}
		}
	}, func(g dataset.Gap) { t.Error(&g) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Load = %v", err)
	}
}

// plain makes a tree of files as people have them.
func plain(t *testing.T) string {
	dir := t.TempDir()
	for name, data := range map[string]string{"a-b": "1", "a/x": "2", "a.b": "3", "b/c/d": "", "\xff": "5", "-rf": "6", "a b\n": "7"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	os.MkdirAll(dir+"/empty/dir", 0o755)
	os.Symlink("/etc/passwd", dir+"/link")
	os.Symlink("..", dir+"/updir")
	syscall.Mkfifo(dir+"/pipe", 0o600)
	return dir
}

func TestTreeKeepsTheLaw(t *testing.T) {
	t.Parallel()
	dir := plain(t)
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return Open(t.Context(), dir) }, exportertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTreeYieldsEveryEntryInKeyOrder(t *testing.T) {
	t.Parallel()
	var got []string
	for _, line := range read(t, plain(t), files) {
		key, rest, _ := strings.Cut(line, "/0 ")
		_, data, isFile := strings.Cut(rest, " = ")
		if isFile {
			rest = data
		}
		got = append(got, key+" "+rest)
	}
	want := []string{"-rf 6", "a b\n 7", "a-b 1", "a.b 3", "a/x 2", "b/c/d ", `empty/dir/ {"type":"directory"}`,
		`link {"type":"symlink","target":"/etc/passwd"}`, "pipe  gap unsupported", `updir {"type":"symlink","target":".."}`, "\xff 5"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestFileThatChangesWhileItIsReadIsAGap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	for what, c := range map[string]struct {
		change func()
		want   dataset.Code
	}{
		"same":    {func() {}, ""},
		"written": {func() { os.WriteFile(name, []byte("ABCD"), 0o600); os.Chtimes(name, time.Time{}, time.Unix(1, 0)) }, dataset.Unstable},
		"grown":   {func() { os.WriteFile(name, []byte("abcde"), 0o600) }, dataset.Unstable},
		"gone":    {func() { os.Remove(name) }, ""},
	} {
		if err := os.WriteFile(name, []byte("abcd"), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: files}}}) {
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.Blob.Open(t.Context(), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			c.change()
			_, err = io.ReadAll(b)
			b.Close()
			var gap *dataset.Gap
			if errors.As(err, &gap) != (c.want != "") || gap != nil && (gap.Code != c.want || gap.Key != "f") {
				t.Errorf("%s while it is read: %v", what, err)
			}
			_, err = r.Blob.Open(t.Context(), 0, -1)
			if what == "gone" && (!errors.As(err, &gap) || gap.Code != dataset.DeletedMidRun) {
				t.Errorf("%s before it is read: %v", what, err)
			}
		}
		x.Close()
	}
}

func TestTreeGoesIntoATarget(t *testing.T) {
	t.Parallel()
	x, err := Open(t.Context(), plain(t))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	dst := NewTarget(filepath.Join(t.TempDir(), "d"), Options{NoSync: true})
	defer dst.Close()
	if err := exportertest.CheckTarget(t.Context(), dst, x); err != nil {
		t.Error(err)
	}
}

func TestHostileMarkerLeadsNowhere(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"../outside", "/etc", "a/../../b"} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, markerName), fmt.Appendf(nil, `{"format":%q,"test":"t","streams":[{"stream":{"name":"o","blobs":true},"base":%q,"keymap":"k"}]}`, format, base), 0o600)
		if err := NewTarget(dir, Options{NoSync: true}).Destroy(t.Context(), "t"); err == nil {
			t.Errorf("Destroy obeyed a marker that names %q", base)
		}
	}
}
