package transfer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
	"github.com/dwp/sallyport/transfer"
)

// serveBucket starts an S3 server with an empty bucket.
func serveBucket(t *testing.T) (*s3server.Server, s3.Settings) {
	t.Helper()
	srv := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: "key", SecretKey: "secret"}}})
	url, ca, stop, err := srv.Start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return srv, s3.Settings{Conn: s3conn.Config{Endpoint: url, CA: file, Bucket: "bucket", AccessKey: "key", SecretKey: "secret"}}
}

// objects describes every version of a bucket but for what no copy can repeat.
func objects(t *testing.T, srv *s3server.Server) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range srv.Versions("bucket") {
		var body []byte
		if o.Body != nil {
			body = make([]byte, o.Body.Size())
			if _, err := io.ReadFull(io.NewSectionReader(o.Body, 0, o.Body.Size()), body); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for ; all[fmt.Sprintf("%q #%d", o.Key, n)] != ""; n++ {
		}
		all[fmt.Sprintf("%q #%d", o.Key, n)] = fmt.Sprintf("%t %x %v %v %v", o.DeleteMarker, dataset.Sum(body), o.Header, o.Metadata, o.Tags)
	}
	return all
}

// through exports a source into a fresh archive and restores it into a target.
func through(t *testing.T, service string, open func(ctx context.Context) (exporters.Exporter, error), dst exporters.Target) {
	t.Helper()
	b := newBench(t)
	d, err := transfer.Export(t.Context(), transfer.Job{Archive: b.Archive, Options: b.Options(service, b.state), Open: open,
		OnGap: func(g dataset.Gap) { t.Errorf("gap: %v", &g) }})
	if err != nil {
		t.Fatal(err)
	}
	if d.Manifest.State != archive.Complete {
		t.Fatalf("%s: the snapshot is %s", service, d.Manifest.State)
	}
	s, err := b.Archive.Snapshot(t.Context(), service, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), b.Identity); err != nil {
		t.Fatal(err)
	}
	out, err := transfer.Restore{Snapshot: s, Target: dst, Test: dataset.NewID()}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range out.Gaps {
		t.Errorf("gap on restore: %v", &g)
	}
}

func TestAwkwardKeysGoFromS3ThroughADirectoryToS3(t *testing.T) {
	t.Parallel()
	srv, source := serveBucket(t)
	srv.AddBucket("bucket")
	srv.SetVersioning("bucket", "Enabled")
	all := keys.Awkward()
	for i, key := range all {
		o := s3server.Object{Key: key, Body: s3server.Bytes(bytes.Repeat([]byte(key), i%3)), Header: map[string]string{"Content-Type": "text/x-odd"},
			Metadata: map[string]string{"n": fmt.Sprint(i)}, Tags: map[string]string{"team": "north"}}
		srv.PutObject("bucket", o)
		if i%7 == 0 {
			o.Body = s3server.Bytes("a second version")
			srv.PutObject("bucket", o)
		}
		if i%31 == 0 {
			srv.PutObject("bucket", s3server.Object{Key: key, DeleteMarker: true})
		}
	}
	path := filepath.Join(t.TempDir(), "restored")
	there := dir.NewTarget(path, dir.Options{})
	through(t, "bucket", func(ctx context.Context) (exporters.Exporter, error) { return s3.Open(ctx, source) }, there)
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	copied, target := serveBucket(t)
	back, err := s3.OpenTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	through(t, "directory", func(ctx context.Context) (exporters.Exporter, error) { return dir.Open(ctx, path) }, back)
	got := objects(t, copied)
	maps.DeleteFunc(got, func(id, _ string) bool { return id == `".sallyport/exit-test.json" #0` })
	if len(all) < 150 {
		t.Fatalf("only %d keys", len(all))
	}
	compare(t, objects(t, srv), got)
}
