package archive_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

func TestLongLinesAreReadBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	w.size = archive.PackSize
	run, err := archive.Begin(t.Context(), w.a, w.options())
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := run.Stream(dataset.Stream{Name: "bucket", Blobs: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	one, err := run.Segment(t.Context(), run.NewBlob(), 0, []byte{'x'})
	if err != nil {
		t.Fatal(err)
	}
	// 3.9 MiB of lines that do not fill a part, then one that would burst it.
	data := []byte(`{"x":"` + strings.Repeat("x", 1<<20-300) + `"}`)
	const segments = 190_000
	blob := bytes.Repeat([]byte{'x'}, segments)
	entries := []archive.Entry{{Key: "a"}, {Key: "b"}, {Key: "c"}, {Key: "long", Data: []byte(`{}`), HasBlob: true, Size: segments, SHA256: dataset.Sum(blob)}}
	for range segments {
		entries[3].Segments = append(entries[3].Segments, one)
	}
	for _, e := range entries {
		if e.Data == nil {
			e.Data = data
		}
		if err := bucket.Section(0).Entry(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := run.Stream(dataset.Stream{Name: "settings"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	longest := []byte(`{"x":"` + strings.Repeat("x", archive.MaxRecord-8) + `"}`)
	if err := settings.Section(0).Entry(t.Context(), archive.Entry{Key: strings.Repeat("k", 1024), Data: longest}); err != nil {
		t.Fatal(err)
	}
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.a.Snapshot(t.Context(), "case-files", d)
	if err == nil {
		err = s.Unlock(t.Context(), w.open)
	}
	if err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]int{"bucket": 4, "settings": 1} {
		e, err := s.Stream(stream)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range s.Records(t.Context(), e) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("%d records of %q; want %d", n, stream, want)
		}
	}
}
