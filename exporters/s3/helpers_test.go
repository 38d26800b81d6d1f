package s3_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/retry"
	"github.com/dwp/sallyport/internal/s3conn"
)

const bucket = "bucket"

// serve starts a hostile server with one bucket, and returns settings that reach it.
func serve(t *testing.T, o s3server.Options) (*s3server.Server, s3.Settings) {
	t.Helper()
	o.Credentials = append(o.Credentials, s3server.Credential{AccessKey: "reader", SecretKey: "reader's secret"})
	srv := s3server.New(o)
	url, ca, stop, err := srv.Start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	srv.AddBucket(bucket)
	return srv, s3.Settings{Conn: s3conn.Config{
		Endpoint: url, CA: file, Bucket: bucket, AccessKey: "reader", SecretKey: "reader's secret",
		Patience: s3conn.Patience{Header: 2 * time.Second, Idle: time.Second, Retry: retry.Policy{Tries: 4, Min: time.Millisecond, Max: 20 * time.Millisecond, MaxHint: 20 * time.Millisecond}},
	}}
}

func put(srv *s3server.Server, key, text string) {
	srv.PutObject(bucket, s3server.Object{Key: key, Body: s3server.Bytes([]byte(text))})
}

// A read is a record with its bytes.
type read struct {
	dataset.Record
	text string
}

// readAll reads the objects of a bucket and their bytes.
func readAll(ctx context.Context, x exporters.Exporter, q exporters.Query) ([]read, error) {
	if q.Streams == nil {
		q.Streams = []dataset.Stream{{Name: "objects", Blobs: true}}
	}
	var all []read
	for r, err := range x.Read(ctx, q) {
		if err != nil {
			return all, err
		}
		r.Data = slices.Clone(r.Data)
		one := read{Record: r}
		if r.Blob != nil && r.Blob.Archived == nil {
			body, err := r.Blob.Open(ctx, 0, -1)
			if err != nil {
				return all, fmt.Errorf("%q: %w", r.Key, err)
			}
			text, err := io.ReadAll(body)
			body.Close()
			if err != nil {
				return all, fmt.Errorf("%q: %w", r.Key, err)
			}
			one.text = string(text)
		}
		all = append(all, one)
	}
	return all, nil
}

func openView(t *testing.T, s s3.Settings) *s3.View {
	t.Helper()
	v, err := s3.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// export reads everything with a view of its own.
func export(t *testing.T, s s3.Settings) ([]read, dataset.Facts, error) {
	t.Helper()
	v := openView(t, s)
	all, err := readAll(t.Context(), v, exporters.Query{})
	return all, v.Facts(), err
}

// summary writes reads down, one word each: key/ordinal=text, or !code for a gap.
func summary(all []read) string {
	var words []string
	for _, r := range all {
		switch {
		case r.Gap != nil:
			words = append(words, fmt.Sprintf("%s/%d!%s", r.Key, r.Ordinal, r.Gap.Code))
		case r.Blob == nil:
			words = append(words, fmt.Sprintf("%s/%d-", r.Key, r.Ordinal))
		default:
			words = append(words, fmt.Sprintf("%s/%d=%s", r.Key, r.Ordinal, r.text))
		}
	}
	return strings.Join(words, " ")
}

var fsNotExist = fs.ErrNotExist
