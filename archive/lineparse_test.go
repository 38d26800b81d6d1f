package archive

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

// someLines are lines that are written, and lines that come close to them.
func someLines(tb testing.TB) (lines []string) {
	tb.Helper()
	sum := dataset.Sum([]byte("x"))
	loc := Location{Pack: 3, Offset: 1 << 20, Length: 77, Member: "b/x-1/00000000", Size: 5}
	other := loc
	other.Member = "b/x-1/00000001"
	for _, l := range []Line{
		{Key: "a/b", Data: []byte(`{"size":5}`), HasBlob: true, Size: 5, SHA256: sum, Path: "objects/a/b", Location: []Location{loc}},
		{Key: "a b", Ordinal: 7, Data: []byte(`{"size":5,"location":[],"x":{"sha256":"","path":""}}`), HasBlob: true, Size: 10, SHA256: sum, Path: "versions/a~v7", Location: []Location{loc, other}},
		{Key: "empty", Data: []byte(`{}`), HasBlob: true, SHA256: sum, Path: "objects/empty", Location: []Location{}},
		{Key: "marker", Data: []byte(`{"delete_marker":true}`)},
		{Key: "list", Data: []byte(`{"tags":[1,{"a":[]}]}`)},
		{Key: "quote\"d\n\u00e9\xff", Data: []byte(`{"a":"\"}"}`), HasBlob: true, SHA256: sum, Path: "objects/q", Location: []Location{}},
	} {
		b, err := l.appendLine(nil)
		if err != nil {
			tb.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	good := lines[0]
	for _, r := range [][2]string{{`"a/b"`, `"a\u002fb"`}, {`:0,`, `:00,`}, {`:0,`, `:-0,`}, {`"size":5}`, `"size":5} `}, {`"size":5}`, `"size":5,"size":5}`},
		{`,"size":5,`, `,"size":5.0,`}, {`"path":"`, `"path": "`}, {`]}`, `],"x":1}`}, {`]}`, `]}}`}, {`{"size":5}`, `{"size":5`}, {`{"size":5}`, `5`}, {`{"pack":3`, `{"pack":03`}} {
		lines = append(lines, strings.Replace(good, r[0], r[1], 1))
	}
	return append(lines, "", "{", `{"key":"`, `{"key":"a","ordinal":1,"data":`, `{"key":"a","ordinal":1,"data":}`)
}

func checkParsers(t *testing.T, line string) {
	t.Helper()
	fast, ok := parsePlain([]byte(line))
	slow, err := parseAny([]byte(line))
	switch {
	case ok && err != nil:
		t.Errorf("%s: accepted although %v", line, err)
	case ok && !reflect.DeepEqual(fast, slow):
		t.Errorf("%s: read as %+v instead of %+v", line, fast, slow)
	}
}

func TestPlainLinesAreReadAsAllOthersAre(t *testing.T) {
	t.Parallel()
	plain := 0
	for _, line := range someLines(t) {
		checkParsers(t, line)
		if _, ok := parsePlain([]byte(line)); ok {
			plain++
		}
	}
	if plain < 5 {
		t.Errorf("%d lines were taken for plain ones; want 5 or more", plain)
	}
}

func FuzzPlainLine(f *testing.F) {
	for _, line := range someLines(f) {
		f.Add(line)
	}
	f.Fuzz(checkParsers)
}

// BenchmarkParseLine parses index lines of S3 objects.
func BenchmarkParseLine(b *testing.B) {
	l := Line{Key: "folder 00012/object 000012345.txt", HasBlob: true, Size: 100, SHA256: dataset.Sum(nil), Path: "objects/folder_00012/object_000012345.txt",
		Data:     []byte(`{"size":100,"etag":"0123456789abcdef0123456789abcdef","last_modified":"2026-11-21T10:00:00Z","is_latest":true,"delete_marker":false,"storage_class":"STANDARD","headers":{"content-type":"text/plain"},"metadata":{"department":"benefits"}}`),
		Location: []Location{{Pack: 1, Offset: 123456789, Length: 1000000, Member: "b/20261121T220404Z-abcdefghijklmnopqrstuvwxyz-123456/00000000", Size: 100}}}
	line, err := l.appendLine(nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range []struct {
		name  string
		parse func([]byte) error
	}{
		{"plain", func(line []byte) error {
			if _, ok := parsePlain(line); !ok {
				return fmt.Errorf("not plain: %s", line)
			}
			return nil
		}},
		{"any", func(line []byte) error { _, err := parseAny(line); return err }},
	} {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.parse(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
