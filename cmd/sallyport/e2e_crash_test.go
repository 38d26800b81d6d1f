package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/fixtures/s3server"
)

const canary = "canary-plaintext-of-a-case"

// leaks looks for what must not be anywhere on a host but in its source and in a
// restored copy.
func (h *host) leaks(except ...string) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, e := range except {
			if path == h.path(e) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, secret := range []string{canary, testSecret} {
			if bytes.Contains(b, []byte(secret)) {
				h.t.Errorf("%s holds %s", path, secret)
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// silent wants no secret in what was printed.
func silent(t *testing.T, out string) {
	t.Helper()
	if strings.Contains(out, canary) || strings.Contains(out, testSecret) {
		t.Errorf("a secret is in the output: %s", out)
	}
}

// points are the store operations at which a run is killed: some of them, or all.
func points() []int {
	if os.Getenv("SALLYPORT_EXHAUSTIVE") != "" {
		all := make([]int, 400)
		for i := range all {
			all[i] = i + 1
		}
		return all
	}
	return []int{4, 9, 12, 16, 20}
}

// converge kills an export at one store operation after the other. Whatever a run left,
// the next ends well and the archive is whole; nothing is anywhere in the clear.
func converge(t *testing.T, h *host, fresh func(k int), inspect func()) {
	t.Helper()
	killed := 0
	for _, k := range points() {
		for _, after := range []string{"", "+"} {
			if after != "" && k%2 == 0 && os.Getenv("SALLYPORT_EXHAUSTIVE") == "" {
				continue
			}
			fresh(k)
			code, out := h.run(crashVariable+"="+strconv.Itoa(k)+after, "export")
			silent(t, out)
			if code == 0 {
				if killed == 0 {
					t.Fatalf("the export has fewer than %d store operations", k)
				}
				return
			}
			if code != -1 {
				t.Fatalf("operation %d%s: exit code %d\n%s", k, after, code, out)
			}
			killed++
			h.leaks("source", "ca.pem")
			inspect()
			if out := h.must(0, "export"); !strings.Contains(out, "complete") {
				t.Errorf("operation %d%s: the rerun says %s", k, after, out)
			}
			silent(t, h.must(0, "check"))
			silent(t, h.must(0, "verify"))
			h.leaks("source", "ca.pem")
			inspect()
		}
	}
}

func TestKilledExportsConvergeInADirectory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if err := os.Mkdir(h.path("source"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		h.write(fmt.Sprintf("source/%02d.txt", i), strings.Repeat(canary+" ", 10+i))
	}
	h.configuration("archive", "    exporter: dir\n    with: {path: source}\n")
	h.must(0, "export")
	converge(t, h, func(k int) { h.write("source/changed.txt", canary+" "+strconv.Itoa(k)) }, func() {})
	h.must(0, "restore", "--to", "back", "files@latest")
	got, err := os.ReadFile(h.path("back/objects/changed.txt"))
	want, _ := os.ReadFile(h.path("source/changed.txt"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("restored %q, %v; want %q", got, err, want)
	}
}

func TestKilledExportsConvergeInABucket(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s, c := fake(t, h)
	h.env = append(h.env, c.env...)
	fill(s, "source", canary+" ")
	s.AddBucket("archive")
	h.configuration(c.location("archive", "prod"), s3Service(c, "source"))
	converge(t, h, func(k int) {
		s.PutObject("source", s3server.Object{Key: "changed", Body: s3server.Bytes(canary + strconv.Itoa(k))})
	}, func() {
		for _, o := range s.Objects("archive") {
			if b, err := io.ReadAll(io.NewSectionReader(o.Body, 0, o.Body.Size())); err != nil {
				t.Fatal(err)
			} else if bytes.Contains(b, []byte(canary)) || strings.Contains(o.Key, "awkward") || strings.Contains(o.Key, "cases") {
				t.Errorf("%s in the archive holds plaintext", o.Key)
			}
		}
	})
}

// A signal ends a run with its own exit code, and the next run goes on.
func TestSignalsEndARunThatCanBeResumed(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			reading, ended := make(chan struct{}), make(chan struct{})
			seen := 0
			s := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: testKey, SecretKey: testSecret}}, Region: "eu-west-2",
				OnRequest: func(r s3server.Request) {
					if r.Operation == "GetObject" && r.Bucket == "source" && !r.Done && r.N == 40 {
						seen++
						close(reading)
						<-ended
					}
				}})
			url, ca, stop, err := s.Start(true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			h.write("ca.pem", string(ca))
			c := cloud{endpoint: url, region: "eu-west-2", ca: h.path("ca.pem")}
			h.env = append(h.env, "AWS_ACCESS_KEY_ID="+testKey, "AWS_SECRET_ACCESS_KEY="+testSecret)
			fill(s, "source", "plain")
			h.configuration("archive", s3Service(c, "source"))
			cmd := h.command("export")
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-reading:
			case <-time.After(30 * time.Second):
				t.Error("the export never came so far")
			}
			cmd.Process.Signal(sig)
			cmd.Wait()
			close(ended)
			if got, want := cmd.ProcessState.ExitCode(), 128+int(sig); got != want {
				t.Errorf("exit code %d; want %d\n%s", got, want, &out)
			}
			if !strings.Contains(h.must(0, "export"), "complete") {
				t.Error("the next run is not complete")
			}
			h.must(0, "check")
		})
	}
}

// An exit test that was killed leaves a copy of the data behind. The next one destroys
// it, wherever it was, and comes to its verdict.
func TestKilledExitTestsLeaveNothingForLong(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]string{"embedded": "", "directory": "    exit_test: {restore_to: restored}\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			if err := os.Mkdir(h.path("source"), 0o700); err != nil {
				t.Fatal(err)
			}
			for i := range 300 {
				h.write(fmt.Sprintf("source/%03d.txt", i), canary+strconv.Itoa(i))
			}
			h.configuration("archive", "    exporter: dir\n    with: {path: source}\n"+target)
			h.must(0, "export")
			for try := 0; !h.killExitTest(); try++ {
				if try == 20 {
					t.Fatal("no exit test could be killed while its target was filled")
				}
			}
			if out := h.must(0, "exit-test"); !strings.Contains(out, ": proven") {
				t.Errorf("the next test says %s", out)
			}
			if copies := h.copies(); len(copies) > 0 {
				t.Errorf("the next test leaves %d files, the first %s", len(copies), copies[0])
			}
			for _, dir := range []string{"exit-test", "exit-test-marks"} {
				if left, err := filepath.Glob(h.path("state/sallyport/" + dir + "/[^.]*")); err != nil || len(left) > 0 {
					t.Errorf("the state directory remembers %v, %v", left, err)
				}
			}
		})
	}
}

// killExitTest kills an exit test once its target holds something, and reports whether
// that came in time.
func (h *host) killExitTest() bool {
	h.t.Helper()
	cmd := h.command("exit-test", "--stressed")
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		cmd.Wait()
	}()
	for len(h.copies()) == 0 {
		select {
		case <-done:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	cmd.Process.Kill()
	<-done
	return len(h.copies()) > 0
}

// copies lists the files with plaintext besides the source.
func (h *host) copies() (found []string) {
	h.t.Helper()
	for _, root := range []string{"state/sallyport/exit-test", "restored", "tmp"} {
		err := filepath.WalkDir(h.path(root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // it is not there
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone meanwhile: the test is running
			}
			if bytes.Contains(b, []byte(canary)) {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return found
}
