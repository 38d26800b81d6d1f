package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/fixtures/gateway"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// A host is a directory in which the real binary runs, with a home of its own.
type host struct {
	t   *testing.T
	dir string
	env []string
}

func newHost(t *testing.T) *host {
	h := &host{t: t, dir: t.TempDir()}
	if err := os.Mkdir(h.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SALLYPORT_") && !strings.HasPrefix(v, "AWS_") {
			h.env = append(h.env, v)
		}
	}
	h.env = append(h.env, "HOME="+h.dir, "XDG_STATE_HOME="+h.path("state"), "XDG_CONFIG_HOME="+h.path("xdg"), "TMPDIR="+h.path("tmp"),
		"AWS_EC2_METADATA_DISABLED=true")
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// write writes a file of the host.
func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// command prepares a run of the binary.
func (h *host) command(args ...string) *exec.Cmd {
	cmd := exec.Command("sallyport", args...)
	cmd.Dir, cmd.Env = h.dir, h.env
	return cmd
}

// run runs the binary, with more variables before the arguments ("NAME=value"), and
// returns its exit code (-1 for a signal) and what it printed.
func (h *host) run(args ...string) (code int, out string) {
	h.t.Helper()
	var more []string
	for len(args) > 0 && strings.Contains(args[0], "=") {
		more, args = append(more, args[0]), args[1:]
	}
	cmd := h.command(args...)
	cmd.Env = append(cmd.Env, more...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// must runs the binary and wants an exit code.
func (h *host) must(want int, args ...string) string {
	h.t.Helper()
	code, out := h.run(args...)
	if code != want {
		h.t.Fatalf("sallyport %s: exit code %d; want %d\n%s", strings.Join(args, " "), code, want, out)
	}
	return out
}

// A cloud is an S3 server as a host sees it.
type cloud struct {
	endpoint, region, ca string
	env                  []string
}

func (c cloud) location(bucket, prefix string) string {
	return s3conn.Config{Endpoint: c.endpoint, Region: c.region, Bucket: bucket, Prefix: prefix, CA: c.ca}.URL()
}

// client is what somebody else than sallyport would use.
func (c cloud) client(t *testing.T, key, secret string) *minio.Client {
	t.Helper()
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	m, err := minio.New(strings.TrimPrefix(c.endpoint, "https://"), &minio.Options{Secure: true, Region: c.region, Transport: transport,
		Creds: credentials.NewStaticV4(key, secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const testKey, testSecret = "AKTEST", "canary-secret-of-the-credential"

// fake starts the S3 server in memory, over TLS.
func fake(t *testing.T, h *host) (*s3server.Server, cloud) {
	t.Helper()
	s := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: testKey, SecretKey: testSecret}}, Region: "eu-west-2"})
	url, ca, stop, err := s.Start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	h.write("ca.pem", string(ca))
	return s, cloud{url, "eu-west-2", h.path("ca.pem"), []string{"AWS_ACCESS_KEY_ID=" + testKey, "AWS_SECRET_ACCESS_KEY=" + testSecret}}
}

// configuration writes keys and sallyport.yaml with one service; with is YAML of the
// service's own lines, indented by four.
func (h *host) configuration(store, service string) {
	h.t.Helper()
	h.must(0, "init", "-q", "--store", store)
	text, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), "\nservices:")
	if !found {
		h.t.Fatalf("init wrote no services:\n%s", text)
	}
	h.write("sallyport.yaml", head+"\nservices:\n  files:\n    owner: Records\n    classification: OFFICIAL\n"+service)
}

// fill puts objects with everything that S3 knows into a bucket of the fake.
func fill(s *s3server.Server, bucket string, plain string) {
	s.AddBucket(bucket)
	s.SetVersioning(bucket, "Enabled")
	for _, key := range keys.Awkward()[:80] {
		s.PutObject(bucket, s3server.Object{Key: key, Body: s3server.Bytes(plain + " under an awkward name")})
	}
	for i := range 60 {
		key := fmt.Sprintf("cases/%03d", i)
		for v := range 1 + i%3 {
			s.PutObject(bucket, s3server.Object{Key: key, Body: s3server.Bytes(strings.Repeat(plain, 1+i) + fmt.Sprint(v)),
				Header: map[string]string{"Content-Type": "text/plain", "Cache-Control": "no-store"}, Metadata: map[string]string{"case": fmt.Sprint(i)},
				Tags: map[string]string{"team": "north-south"}})
		}
	}
	s.PutObject(bucket, s3server.Object{Key: "gone", Body: s3server.Bytes(plain)})
	s.PutObject(bucket, s3server.Object{Key: "gone", DeleteMarker: true})
	s.PutObject(bucket, s3server.Object{Key: "empty"})
	s.PutObject(bucket, s3server.Object{Key: "large", Body: s3server.Generated{Length: 20 << 20, Seed: 3}})
}

func s3Service(c cloud, bucket string) string {
	return fmt.Sprintf("    exporter: s3\n    with: {bucket: %s, endpoint: %q, region: %s, ca: %q}\n", bucket, c.endpoint, c.region, c.ca)
}

// Source, archive and target in buckets of the S3 server in memory, over TLS.
func TestBucketLeavesThroughABucketIntoABucket(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s, c := fake(t, h)
	h.env = append(h.env, c.env...)
	fill(s, "source", "plain")
	s.AddBucket("archive")
	s.SetVersioning("archive", "Enabled")
	s.EnableLock("archive")
	s.AddBucket("target")
	s.AddBucket("copy")
	h.configuration(c.location("archive", "prod"), s3Service(c, "source")+
		fmt.Sprintf("    grade: double-read\n    objectives: {rpo: 25h, rto: 4h}\n    exit_test: {restore_to: %q}\n", c.location("target", "")))
	h.must(0, "export")
	if out := h.must(0, "export"); !strings.Contains(out, "of which") {
		t.Errorf("a second export: %s", out)
	}
	h.must(0, "check")
	h.must(0, "verify")
	h.must(0, "restore", "--to", c.location("copy", ""), "files@latest")
	out := h.must(0, "exit-test")
	if !strings.Contains(out, ": proven") {
		t.Errorf("exit test: %s", out)
	}
	if left := s.Versions("target"); len(left) > 0 {
		t.Errorf("the exit test left %d versions, the first %q", len(left), left[0].Key)
	}
	want, got := s.Versions("source"), s.Versions("copy")
	got = slices.DeleteFunc(got, func(o s3server.Object) bool { // the marker of the restore
		return !slices.ContainsFunc(want, func(w s3server.Object) bool { return w.Key == o.Key })
	})
	if len(want) < 150 || len(got) != len(want) {
		t.Errorf("%d versions of %d came back", len(got), len(want))
	}
	for i := range min(len(want), len(got)) {
		if w, g := want[i], got[i]; w.Key != g.Key || w.DeleteMarker != g.DeleteMarker || !maps.Equal(w.Tags, g.Tags) || !maps.Equal(w.Metadata, g.Metadata) || !same(t, w.Body, g.Body) {
			t.Errorf("%q came back as %q, or with other bytes, tags or metadata", w.Key, g.Key)
		}
	}
	h.must(0, "certificate", "verify", "files")

	// A target that is the source or the store is refused before anything moves.
	for _, place := range []string{c.location("source", "x"), c.location("archive", "prod/x")} {
		text, err := os.ReadFile(h.path("sallyport.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		h.write("bad.yaml", strings.ReplaceAll(string(text), c.location("target", ""), place))
		h.must(6, "exit-test", "-c", "bad.yaml")
	}
}

// The same way out and back with a server that others wrote.
func TestBucketLeavesThroughVersityGateway(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a server is built and started")
	}
	h := newHost(t)
	dir := filepath.Join(t.TempDir(), "gateway")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := gateway.Start(t.Context(), dir)
	if err != nil {
		t.Skipf("versitygw: %v", err)
	}
	t.Cleanup(func() { g.Close() })
	c := cloud{g.Endpoint, g.Region, g.CA, []string{"AWS_ACCESS_KEY_ID=" + g.AccessKey, "AWS_SECRET_ACCESS_KEY=" + g.SecretKey}}
	h.env = append(h.env, c.env...)
	admin := c.client(t, g.AccessKey, g.SecretKey)
	for _, bucket := range []string{"source", "archive", "target"} { // a lock brings versions with it
		if err := admin.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{ObjectLocking: bucket == "archive"}); err != nil {
			t.Fatal(err)
		}
		if err := admin.EnableVersioning(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		for v := range 1 + i%2 {
			text := fmt.Sprintf("case %d, version %d", i, v)
			_, err := admin.PutObject(t.Context(), "source", fmt.Sprintf("cases/%02d.txt", i), strings.NewReader(text), int64(len(text)),
				minio.PutObjectOptions{UserTags: map[string]string{"team": "north"}, UserMetadata: map[string]string{"case": fmt.Sprint(i)}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	h.configuration(c.location("archive", ""), s3Service(c, "source")+fmt.Sprintf("    exit_test: {restore_to: %q}\n", c.location("target", "")))
	text, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("sallyport.yaml", "object_lock: {mode: governance, for: 1d}\n"+string(text))
	h.must(0, "export")
	h.must(0, "check")
	h.must(0, "verify")
	if out := h.must(0, "exit-test"); !strings.Contains(out, ": proven") {
		t.Errorf("exit test: %s", out)
	}
	for o := range admin.ListObjects(t.Context(), "target", minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		t.Errorf("the exit test left %q (%v)", o.Key, o.Err)
	}
	locked := 0
	for o := range admin.ListObjects(t.Context(), "archive", minio.ListObjectsOptions{Recursive: true, Prefix: "files/"}) { // init knew of no lock
		if info, err := admin.StatObject(t.Context(), "archive", o.Key, minio.StatObjectOptions{}); err != nil {
			t.Errorf("%s: %v", o.Key, err)
		} else if info.Metadata.Get("X-Amz-Object-Lock-Mode") == "" {
			t.Errorf("%s was written without retention", o.Key)
		}
		locked++
	}
	if locked == 0 {
		t.Error("the archive is empty")
	}
}

// same compares bytes; a delete marker has none.
func same(t *testing.T, a, b s3server.Body) bool {
	t.Helper()
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, err := io.ReadAll(io.NewSectionReader(a, 0, a.Size()))
	if err != nil {
		t.Fatal(err)
	}
	y, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
