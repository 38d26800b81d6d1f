package archive_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// A sink is a store that keeps control documents and remembers of packs only that they
// were there.
type sink struct {
	archivetest.Memory
	mu    sync.Mutex
	sizes map[string]int64
}

func (s *sink) Create(ctx context.Context, name string, data []byte) error {
	if archive.ParseName(name).Class != archive.PackObject {
		return s.Memory.Create(ctx, name, data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sizes[name]; ok {
		return fs.ErrExist
	}
	if s.sizes == nil {
		s.sizes = map[string]int64{}
	}
	s.sizes[name] = int64(len(data))
	return nil
}

func (s *sink) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	if !strings.HasSuffix(prefix, "/packs/") {
		return s.Memory.List(ctx, prefix)
	}
	return func(yield func(archive.Info, error) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for name, size := range s.sizes {
			if !yield(archive.Info{Name: name, Size: size}, nil) {
				return
			}
		}
	}
}

// benchmarkData is 64 MiB of random bytes, or of something like text.
func benchmarkData(kind string) []byte {
	rnd := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 64<<20)
	if kind == "random" {
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		return data
	}
	words := strings.Fields("benefit claim person address payment date of birth reference number case worker decision appeal letter")
	b := data[:0]
	for len(b) < cap(b)-32 {
		b = fmt.Appendf(b, "%s %d ", words[rnd.IntN(len(words))], rnd.IntN(10000))
	}
	return b
}

func benchmarkWorld(b *testing.B, st archive.Store) *archivetest.World {
	b.Helper()
	w, err := archivetest.NewWorld(b.Context(), st)
	if err != nil {
		b.Fatal(err)
	}
	w.PackSize = archive.PackSize
	return w
}

func BenchmarkExportBlobs(b *testing.B) {
	for _, kind := range []string{"random", "text"} {
		data := benchmarkData(kind)
		for _, size := range []int{16 << 10, 8 << 20} {
			b.Run(fmt.Sprintf("%s/%dKiB", kind, size>>10), func(b *testing.B) {
				content := archivetest.Content{Objects: map[string][]byte{}, Records: 1}
				for n := 0; n+size <= len(data); n += size {
					content.Objects[fmt.Sprintf("o%08d", n/size)] = data[n : n+size]
				}
				b.SetBytes(int64(len(content.Objects) * size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := benchmarkWorld(b, new(sink)).Export(b.Context(), service, "", content); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkExportRecords(b *testing.B) {
	line := []byte(`{"id":12345678,"name":"some name or other","address":"1 High Street, Leeds","amount":"12.34","ok":true}`)
	b.SetBytes(int64(100_000 * len(line)))
	b.ReportAllocs()
	for b.Loop() {
		w := benchmarkWorld(b, new(sink))
		run, err := archive.Begin(b.Context(), w.Archive, w.Options(service, ""))
		if err != nil {
			b.Fatal(err)
		}
		rows, err := run.Stream(dataset.Stream{Name: "rows", Keyless: true}, 1)
		if err != nil {
			b.Fatal(err)
		}
		for i := range 100_000 {
			if err := rows.Section(0).Record(b.Context(), fmt.Sprint(i), line); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := run.Commit(b.Context(), archive.Summary{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadBlobs(b *testing.B) {
	for _, kind := range []string{"random", "text"} {
		data := benchmarkData(kind)
		w := benchmarkWorld(b, new(archivetest.Memory))
		content := archivetest.Content{Objects: map[string][]byte{}, Records: 1}
		const size = 1 << 20
		for n := 0; n+size <= len(data); n += size {
			content.Objects[fmt.Sprintf("o%08d", n/size)] = data[n : n+size]
		}
		d, err := w.Export(b.Context(), service, "", content)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(kind, func(b *testing.B) {
			b.SetBytes(int64(len(content.Objects) * size))
			b.ReportAllocs()
			for b.Loop() {
				if err := readAllBlobs(b.Context(), w, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func readAllBlobs(ctx context.Context, w *archivetest.World, d *archive.Decision) error {
	s, err := w.Archive.Snapshot(ctx, service, d)
	if err != nil {
		return err
	}
	if err := s.Unlock(ctx, w.Identity); err != nil {
		return err
	}
	e, err := s.Stream("objects")
	if err != nil {
		return err
	}
	for r, err := range s.Records(ctx, e) {
		if err != nil {
			return err
		}
		body, err := r.Blob.Open(ctx, 0, -1)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if err := body.Close(); err != nil {
			return err
		}
	}
	return nil
}
