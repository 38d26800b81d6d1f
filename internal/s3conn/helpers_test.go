package s3conn_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/retry"
	"github.com/dwp/sallyport/internal/s3conn"
)

const bucket = "bucket"

// quick is patience that a test has.
var quick = s3conn.Patience{Header: time.Second, Idle: 300 * time.Millisecond, Retry: retry.Policy{Tries: 5, Min: time.Millisecond, Max: 20 * time.Millisecond, MaxHint: 20 * time.Millisecond}}

// serve starts a server with one bucket and the given faults.
func serve(t *testing.T, faults ...s3server.Fault) (*s3server.Server, *s3server.Injector, *s3conn.Conn) {
	t.Helper()
	faulty := s3server.NewInjector(1, faults...)
	srv := s3server.New(s3server.Options{
		Credentials: []s3server.Credential{{AccessKey: "key", SecretKey: "secret"}}, Faults: faulty,
	})
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
	c, err := s3conn.New(s3conn.Config{Endpoint: url, CA: file, Bucket: bucket, AccessKey: "key", SecretKey: "secret", Patience: quick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return srv, faulty, c
}

func put(srv *s3server.Server, key, text string) {
	srv.PutObject(bucket, s3server.Object{Key: key, Body: s3server.Bytes([]byte(text))})
}

// fill puts n objects with keys in order.
func fill(srv *s3server.Server, n int) {
	for i := range n {
		put(srv, fmt.Sprintf("key %03d", i), "x")
	}
}
