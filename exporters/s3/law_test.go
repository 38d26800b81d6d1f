package s3_test

import (
	"fmt"
	"testing"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/fixtures/s3server"
)

// fill puts awkward keys, versions, delete markers, metadata and sizes into the bucket.
func fill(srv *s3server.Server) {
	srv.SetVersioning(bucket, "Enabled")
	for i, key := range keys.Awkward() {
		if i%7 == 0 {
			put(srv, key, "an older version")
		}
		if i%11 == 0 {
			srv.PutObject(bucket, s3server.Object{Key: key, DeleteMarker: true})
		}
		if i%13 == 0 {
			continue
		}
		srv.PutObject(bucket, s3server.Object{
			Key: key, Body: s3server.Bytes(fmt.Appendf(nil, "bytes of number %d", i)),
			Header:   map[string]string{"Content-Type": "text/plain", "Content-Encoding": "gzip"},
			Metadata: map[string]string{"number": fmt.Sprint(i), "name": "wört", "raw": "\xff\x80"},
			Tags:     map[string]string{"kind": "awkward + odd", "n": fmt.Sprint(i)},
		})
	}
	put(srv, "sizes/0", "")
	srv.PutObject(bucket, s3server.Object{Key: "sizes/8MiB+1", Body: s3server.Generated{Seed: 1, Length: 8<<20 + 1}})
	srv.PutObject(bucket, s3server.Object{Key: "sizes/9MB", Body: s3server.Generated{Seed: 2, Length: 9_000_000}})
	srv.PutObject(bucket, s3server.Object{Key: "sizes/300KiB", Body: s3server.Generated{Seed: 3, Length: 300 << 10}})
}

func TestViewKeepsTheLaw(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	fill(srv)
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return s3.Open(t.Context(), s) }, exportertest.Options{})
	if err != nil {
		t.Error(err)
	}
}

func TestTargetKeepsTheLaw(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	fill(srv)
	src := openView(t, s)
	s.Conn.Bucket = "copy"
	dst, err := s3.OpenTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
}
