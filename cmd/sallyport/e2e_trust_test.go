package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/minio/minio-go/v7"
)

// Somebody has stolen what the exporting host has: its directory and its credential. He
// can read nothing of the archive, and nothing that is in it can he change, delete or
// make to expire.
func TestThiefWithTheExportersCredential(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s, c := fake(t, h)
	h.env = append(h.env, c.env...)
	fill(s, "source", canary)
	s.AddBucket("archive")
	s.SetVersioning("archive", "Enabled")
	h.configuration(c.location("archive", "prod"), s3Service(c, "source"))
	// From here on the host is an exporter: it has no identity, and a policy of its own.
	if err := os.Rename(h.path("keys/identity.age"), filepath.Join(t.TempDir(), "identity.age")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("sallyport.yaml", strings.ReplaceAll(string(text), "identities: [keys/identity.age]", ""))
	policy := append(s3server.ReadOnly("source"), s3server.CreateOnly("archive", "prod/")...)
	policy = append(policy, s3server.Rule{Actions: []string{"s3:ListBucketVersions", "s3:GetBucketVersioning"}, Bucket: "archive"},
		s3server.Rule{Actions: []string{"s3:GetObjectVersion"}, Bucket: "archive", Prefix: "prod/"})
	s.SetCredential(s3server.Credential{AccessKey: testKey, SecretKey: testSecret, Policy: policy})
	h.must(0, "export")
	before := s.Versions("archive")
	if len(before) < 10 {
		t.Fatalf("the archive has %d objects", len(before))
	}

	h.must(exitNoKey, "verify")
	h.must(exitNoKey, "restore", "--to", "stolen", "files@latest")
	thief := c.client(t, testKey, testSecret)
	ctx := t.Context()
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("the thief can %s", what)
		}
	}
	for _, o := range before {
		_, err := thief.PutObject(ctx, "archive", o.Key, strings.NewReader("x"), 1, minio.PutObjectOptions{})
		refused("overwrite "+o.Key, err)
		refused("delete "+o.Key, thief.RemoveObject(ctx, "archive", o.Key, minio.RemoveObjectOptions{}))
		refused("delete a version of "+o.Key, thief.RemoveObject(ctx, "archive", o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}))
		_, err = thief.CopyObject(ctx, minio.CopyDestOptions{Bucket: "archive", Object: o.Key}, minio.CopySrcOptions{Bucket: "archive", Object: before[0].Key})
		refused("copy over "+o.Key, err)
	}
	refused("set a lifecycle", thief.SetBucketPolicy(ctx, "archive", `{"Version":"2012-10-17","Statement":[]}`))
	refused("suspend versions", thief.SuspendVersioning(ctx, "archive"))
	refused("remove the bucket", thief.RemoveBucket(ctx, "archive"))

	after := s.Versions("archive")
	if len(after) != len(before) {
		t.Errorf("%d versions became %d", len(before), len(after))
	}
	for i := range before {
		if before[i].Key != after[i].Key || before[i].ETag != after[i].ETag {
			t.Errorf("%s was changed", before[i].Key)
		}
	}
	h.must(0, "check")
}

// A monitor is an HTTPS server that remembers how it was called.
type monitor struct {
	mu    sync.Mutex
	calls []string
}

func (m *monitor) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.calls)
}

func TestMonitoringHearsOfSuccessesAndSeesFailures(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var m monitor
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the heartbeat went to another host") }))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/away") {
			http.Redirect(w, r, elsewhere.URL+"/x", http.StatusFound)
			return
		}
		m.mu.Lock()
		m.calls = append(m.calls, r.URL.Path)
		m.mu.Unlock()
	}))
	t.Cleanup(server.Close)
	h.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	h.env = append(h.env, "BEAT="+server.URL+"/"+testSecret+"/export", "TESTED="+server.URL+"/"+testSecret+"/exit-test", "AWAY="+server.URL+"/"+testSecret+"/away")
	if err := os.Mkdir(h.path("source"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("source/1.txt", "one")
	h.configuration("archive", "    exporter: dir\n    with: {path: source}\n    heartbeat: {export: \"env:BEAT\", exit_test: \"env:TESTED\"}\n")
	text, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("sallyport.yaml", "ca: ca.pem\nmetrics: {textfile: sallyport.prom}\n"+string(text))
	textfile := func(want ...string) {
		t.Helper()
		b, err := os.ReadFile(h.path("sallyport.prom"))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(b), w) {
				t.Errorf("the textfile does not have %s\n%s", w, b)
			}
		}
		if promtool, err := exec.LookPath("promtool"); err == nil {
			cmd := exec.Command(promtool, "check", "metrics")
			cmd.Stdin = strings.NewReader(string(b))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("promtool: %v\n%s", err, out)
			}
		}
		info, err := os.Stat(h.path("sallyport.prom"))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("the collector cannot read the textfile: %v, %v", info.Mode(), err)
		}
	}
	silent(t, h.must(0, "export", "-v"))
	if m.count() != 1 {
		t.Errorf("%d heartbeats after one success", m.count())
	}
	textfile(`sallyport_status{service="files",job="export"} 1`, `sallyport_snapshot_records{service="files"} 1`, `sallyport_last_success_timestamp_seconds{service="files",job="export"} 1`)
	silent(t, h.must(0, "exit-test"))
	if m.count() != 2 {
		t.Errorf("%d heartbeats after two successes", m.count())
	}
	textfile(`sallyport_status{service="files",job="exit-test"} 1`, `sallyport_mismatches{service="files"} 0`, `sallyport_certificate_expiry_timestamp_seconds{service="files"} 1`)

	// A failure: no call, the status goes bad, and when it last went well stays.
	if err := os.Rename(h.path("source"), h.path("moved")); err != nil {
		t.Fatal(err)
	}
	if code, out := h.run("export", "-v"); code == 0 {
		t.Errorf("an export without a source: exit code 0\n%s", out)
	}
	textfile(`sallyport_status{service="files",job="export"} 0`, `sallyport_last_success_timestamp_seconds{service="files",job="export"} 1`)
	if m.count() != 2 {
		t.Errorf("%d heartbeats after two successes and a failure", m.count())
	}

	// A redirect to another host is not followed, and the URL is in no message.
	if err := os.Rename(h.path("moved"), h.path("source")); err != nil {
		t.Fatal(err)
	}
	h.write("sallyport.yaml", strings.Replace("ca: ca.pem\n"+string(text), "env:BEAT", "env:AWAY", 1))
	out := h.must(exitIncomplete, "export", "-v")
	silent(t, out)
	if !strings.Contains(out, "the heartbeat was not delivered") || !strings.Contains(out, "it redirects to another place") {
		t.Errorf("%s", out)
	}
}

// What the policy forbids is refused before anything moves.
func TestPolicyIsAskedBeforeAnythingMoves(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s, c := fake(t, h)
	h.env = append(h.env, c.env...)
	fill(s, "source", "plain")
	h.configuration("archive", s3Service(c, "source"))
	text, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"above.yaml":     {"classification: OFFICIAL", "classification: SECRET"},
		"residency.yaml": {"services:", "residency: [eu-west-1]\nservices:"},
	} {
		h.write(name, strings.Replace(string(text), change[0], change[1], 1))
		before := len(s.Counts())
		h.must(exitPolicy, "export", "-c", name)
		if len(s.Counts()) != before {
			t.Errorf("%s: the source was asked", name)
		}
	}
	h.must(exitPolicy, "export", "--classification", "TOP SECRET", "--store", "elsewhere", "--recipients", "keys/recipients.txt", c.location("source", ""))
	if _, err := os.Stat(h.path("elsewhere")); err == nil {
		t.Error("a store was made")
	}
}

// What is not read again is marked and counted; a lost state directory costs one full
// export and nothing else.
func TestMetadataWithBytesAndALostState(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s, c := fake(t, h)
	h.env = append(h.env, c.env...)
	fill(s, "source", "plain")
	h.configuration("archive", strings.Replace(s3Service(c, "source"), "region:", "metadata: with-bytes, region:", 1))
	if out := h.must(0, "export"); strings.Contains(out, "was not read again") {
		t.Errorf("the first export: %s", out)
	}
	if out := h.must(0, "export"); !strings.Contains(out, "objects was not read again") {
		t.Errorf("the second export does not say what it did not read: %s", out)
	}
	h.must(0, "verify")
	if err := os.RemoveAll(h.path("state")); err != nil {
		t.Fatal(err)
	}
	if out := h.must(0, "export"); !strings.Contains(out, "complete") || strings.Contains(out, "was not read again") {
		t.Errorf("the export after the loss: %s", out)
	}
	h.must(0, "check")
	h.must(0, "verify")
}

// A snapshot under post-quantum keys is opened by age itself.
func TestPostQuantumSnapshotIsReadByAge(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("age is built")
	}
	h := newHost(t)
	for _, tool := range []string{"zstd", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	age := h.path("age")
	install := exec.Command("go", "install", "filippo.io/age/cmd/age@v1.3.2")
	install.Env = append(os.Environ(), "GOBIN="+h.dir)
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("age cannot be built here: %v: %s", err, out)
	}
	if err := os.Mkdir(h.path("source"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("source/1.txt", canary)
	h.must(0, "init", "-q", "--post-quantum")
	text, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "\nservices:")
	h.write("sallyport.yaml", head+"\nservices: {files: {owner: Records, classification: OFFICIAL, exporter: dir, with: {path: source}}}\n")
	h.must(0, "export")
	h.must(0, "verify")
	script := fmt.Sprintf(`set -euo pipefail
for k in archive/files/keys/*/*.age; do %[1]s -d -i keys/identity.age "$k"; done > run.keys
grep -q AGE-SECRET-KEY-PQ-1 run.keys
for p in archive/files/packs/*/*; do %[1]s -d -i run.keys "$p" | zstd -dc | tar -xf - -O; done > all
grep -q %[2]s all`, age, canary)
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = h.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMakeInstallPutsEverythingInItsPlace(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("sallyport")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	// -o: what is installed is this test's own binary.
	if out, err := exec.Command("make", "-C", "../..", "-o", "build", "install", "BIN="+binary, "DESTDIR="+dir, "PREFIX=/usr").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"bin/sallyport", "share/man/man1/sallyport.1", "share/bash-completion/completions/sallyport",
		"share/zsh/site-functions/_sallyport", "share/fish/vendor_completions.d/sallyport.fish"} {
		if info, err := os.Stat(filepath.Join(dir, "usr", name)); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
	var exit *exec.ExitError
	out, err := exec.Command("bash", "-n", filepath.Join(dir, "usr/share/bash-completion/completions/sallyport")).CombinedOutput()
	if errors.As(err, &exit) {
		t.Errorf("the completion of bash: %s", out)
	}
}
