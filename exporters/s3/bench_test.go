package s3_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
)

// generated serves n objects of size bytes without TLS, so that a benchmark measures us.
func generated(b *testing.B, n int, size int64) s3.Settings {
	b.Helper()
	srv := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: "reader", SecretKey: "secret"}}})
	url, _, stop, err := srv.Start(false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(stop)
	srv.GenerateBucket(bucket, n, func(i int) s3server.ObjectSpec {
		return s3server.ObjectSpec{Key: fmt.Sprintf("folder %03d/object %09d", i/1000, i), Size: size, Seed: uint64(i)}
	})
	return s3.Settings{WithBytes: true, Conn: s3conn.Config{Endpoint: url, Bucket: bucket, AccessKey: "reader", SecretKey: "secret"}}
}

func openBench(b *testing.B, s s3.Settings) *s3.View {
	b.Helper()
	v, err := s3.Open(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { v.Close() })
	return v
}

var objects = []dataset.Stream{{Name: "objects", Blobs: true}}

// BenchmarkReadSmallObjects reads 5,000 objects of 4 KiB, bytes included.
func BenchmarkReadSmallObjects(b *testing.B) {
	s := generated(b, 5000, 4<<10)
	for b.Loop() {
		v := openBench(b, s)
		for r, err := range v.Read(b.Context(), exporters.Query{Streams: objects}) {
			if err != nil {
				b.Fatal(err)
			}
			body, err := r.Blob.Open(b.Context(), 0, -1)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, body); err != nil {
				b.Fatal(err)
			}
			body.Close()
		}
	}
	b.ReportMetric(5000*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
}

// BenchmarkNothingChanged lists 20,000 objects beside what an archive knows of them, and,
// for comparison, lists them only.
func BenchmarkNothingChanged(b *testing.B) {
	const n = 20_000
	s := generated(b, n, 1)
	v := openBench(b, s)
	conn, err := s3conn.New(s.Conn)
	if err != nil {
		b.Fatal(err)
	}
	var prior []read
	for e, err := range conn.List(b.Context(), s3conn.Listing{}) {
		if err != nil {
			b.Fatal(err)
		}
		data := fmt.Sprintf(`{"size":%d,"etag":"%s","last_modified":"%s","is_latest":true,"delete_marker":false,"storage_class":"STANDARD","headers":{"content-type":"text/plain"},"metadata":{"a":"b"}}`,
			e.Size, e.ETag, e.Modified.UTC().Format("2006-01-02T15:04:05.999999999Z07:00"))
		prior = append(prior, read{Record: dataset.Record{Stream: "objects", Key: e.Key, Data: []byte(data), Blob: &dataset.Blob{Size: e.Size}}})
	}
	b.Run("listing", func(b *testing.B) {
		for b.Loop() {
			for _, err := range conn.List(b.Context(), s3conn.Listing{}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	})
	b.Run("export", func(b *testing.B) {
		for b.Loop() {
			reused := 0
			for r, err := range v.Read(b.Context(), exporters.Query{Streams: objects, Prior: priorOf(prior)}) {
				if err != nil {
					b.Fatal(err)
				}
				if r.Blob.Archived != nil {
					reused++
				}
			}
			if reused != n {
				b.Fatalf("%d of %d reused", reused, n)
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	})
}
