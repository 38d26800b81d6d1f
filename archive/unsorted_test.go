package archive_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// An attachment is an entry with the bytes that it stands for.
type attachment struct {
	archive.Entry
	bytes []byte
}

func TestEntriesThatComeInAnyOrderAreWrittenInTheOrderOfAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	w.size = 64 << 10
	run, err := archive.Begin(t.Context(), w.a, w.options())
	if err != nil {
		t.Fatal(err)
	}
	u := run.Unsorted(t.TempDir(), 4<<10) // far less than what comes
	defer u.Close()
	want := attachments()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, i := range rnd.Perm(len(want)) {
		a := &want[i]
		if a.HasBlob {
			at, err := run.Segment(t.Context(), run.NewBlob(), 0, a.bytes)
			if err != nil {
				t.Fatal(err)
			}
			a.Segments = []*archive.Placement{at}
		}
		if err := u.Add(t.Context(), a.Entry); err != nil {
			t.Fatal(err)
		}
	}
	sw, err := run.Stream(dataset.Stream{Name: "files", Blobs: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range u.Sorted(t.Context()) {
		if err == nil {
			err = sw.Section(0).Entry(t.Context(), e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	checkAttachments(t, w, d, want)
}

// attachments returns entries in the order of a stream, some 3 MiB with their bytes.
func attachments() []attachment {
	keys := []string{"", "a", "a\x00", "a\x00\x00", "a\x00b", "a\x01", "a/b", "ab", "ü", "\xff", "\xff\xfe", "[7,\"x\"]"}
	for i := range 3000 {
		keys = append(keys, fmt.Sprintf("file-%d", i))
	}
	var all []attachment
	for i, key := range keys {
		for ordinal := range 1 + i%3 {
			// Lexemes that a second pass through JSON would change.
			data := fmt.Sprintf(`{"n":1e2,"html":"<a href='x'>&</a>","pad":%q}`, strings.Repeat("p", i%200))
			content := fmt.Appendf(nil, "%s of %q\n", strings.Repeat("bytes ", i%40), key)
			a := attachment{archive.Entry{Key: key, Ordinal: ordinal, Data: []byte(data)}, content}
			if i%7 > 0 {
				a.HasBlob, a.Size, a.SHA256 = true, int64(len(content)), dataset.Sum(content)
			}
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b attachment) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), cmp.Compare(b.Ordinal, a.Ordinal))
	})
	return all
}

func checkAttachments(t *testing.T, w *world, d *archive.Decision, want []attachment) {
	s, err := w.a.Snapshot(t.Context(), "case-files", d)
	if err == nil {
		err = s.Unlock(t.Context(), w.open)
	}
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Stream("files")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for r, err := range s.Records(t.Context(), e) {
		if err != nil {
			t.Fatal(err)
		}
		if n == len(want) {
			t.Fatalf("more than %d records", n)
		}
		a := want[n]
		if n++; r.Key != a.Key || r.Ordinal != a.Ordinal || !bytes.Equal(r.Data, a.Data) || (r.Blob != nil) != a.HasBlob {
			t.Fatalf("record %d is %q %d %s; want %q %d %s", n, r.Key, r.Ordinal, r.Data, a.Key, a.Ordinal, a.Data)
		}
		if r.Blob == nil {
			continue
		}
		body, err := r.Blob.Open(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if body.Close(); err != nil || !bytes.Equal(got, a.bytes) {
			t.Fatalf("the blob of %q is %q, %v", r.Key, got, err)
		}
	}
	if n != len(want) {
		t.Fatalf("%d records; want %d", n, len(want))
	}
}
