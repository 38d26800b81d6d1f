package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/fixtures/s3server"
)

// testable is a host with an exported service, a directory of n files, whose exit test
// restores to a place of the configuration, or into an embedded target.
func testable(t *testing.T, n int, to string) *host {
	t.Helper()
	h := newHost(t)
	if err := os.Mkdir(h.path("source"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		h.write(fmt.Sprintf("source/%03d.txt", i), canary+strconv.Itoa(i))
	}
	if to != "" {
		to = fmt.Sprintf("    exit_test: {restore_to: %q}\n", to)
	}
	h.configuration("archive", "    exporter: dir\n    with: {path: source}\n"+to)
	h.must(0, "export")
	return h
}

// clean wants no copy of the data and no memory of a test that ended.
func (h *host) clean() {
	h.t.Helper()
	if copies := h.copies(); len(copies) > 0 {
		h.t.Errorf("%d files are left, the first %s", len(copies), copies[0])
	}
	for _, dir := range []string{"exit-test", "exit-test-marks", "tmp"} {
		if left, err := filepath.Glob(h.path("state/sallyport/" + dir + "/[^.]*")); err != nil || len(left) > 0 {
			h.t.Errorf("the state directory remembers %v, %v", left, err)
		}
	}
}

// While one exit test of a service is at its source, a second one is told to come again.
// It disturbs nothing: the first is proven, or cleaned up after if it is killed.
func TestSecondExitTestOfAServiceIsToldToComeAgain(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			reading, goOn := make(chan struct{}), make(chan struct{})
			hold := make(chan struct{}, 1) // holds one request
			s := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: testKey, SecretKey: testSecret}}, Region: "eu-west-2",
				OnRequest: func(r s3server.Request) {
					if r.Bucket != "source" || r.Done || !strings.HasPrefix(r.Operation, "List") {
						return
					}
					select {
					case <-hold:
						close(reading)
						<-goOn
					default:
					}
				}})
			url, ca, stop, err := s.Start(true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			h.write("ca.pem", string(ca))
			h.env = append(h.env, "AWS_ACCESS_KEY_ID="+testKey, "AWS_SECRET_ACCESS_KEY="+testSecret)
			s.AddBucket("source")
			for i := range 10 {
				s.PutObject("source", s3server.Object{Key: fmt.Sprint(i), Body: s3server.Bytes(canary)})
			}
			h.configuration("archive", s3Service(cloud{endpoint: url, region: "eu-west-2", ca: h.path("ca.pem")}, "source")+
				"    exit_test: {restore_to: restored}\n")
			h.must(0, "export")

			hold <- struct{}{}
			first := h.command("exit-test")
			var out bytes.Buffer
			first.Stdout, first.Stderr = &out, &out
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-reading:
			case <-time.After(time.Minute):
				t.Fatal("the exit test never came to its source")
			}
			loaded := len(h.copies())
			if loaded == 0 {
				t.Error("nothing was restored before the source was read")
			}
			if out := h.must(exitTemporary, "exit-test", "--stressed"); !strings.Contains(out, "locked by another process") {
				t.Errorf("the second test says %s", out)
			}
			if n := len(h.copies()); n != loaded {
				t.Errorf("the first test had %d files and has %d", loaded, n)
			}
			if killed {
				first.Process.Kill()
			}
			close(goOn)
			err = first.Wait()
			if !killed && (err != nil || !strings.Contains(out.String(), ": proven")) {
				t.Errorf("the first test ends with %v and says %s", err, &out)
			}
			if out := h.must(0, "exit-test"); !strings.Contains(out, ": proven") {
				t.Errorf("the next test says %s", out)
			}
			h.clean()
		})
	}
}

// testPoints are the store operations at which an exit test is killed: some, or all.
func testPoints() []int {
	if os.Getenv("SALLYPORT_EXHAUSTIVE") != "" {
		all := make([]int, 400)
		for i := range all {
			all[i] = i + 1
		}
		return all
	}
	return []int{5, 12, 20, 35}
}

func TestExitTestsKilledAnywhereLeaveNothingAfterTheNextStart(t *testing.T) {
	t.Parallel()
	h := testable(t, 30, "restored")
	for n, k := range testPoints() {
		code, out := h.run(crashVariable+"="+strconv.Itoa(k)+strings.Repeat("+", n%2), "exit-test", "--stressed")
		if code == 0 && n > 3 {
			break // it has no more operations
		}
		if code != -1 {
			t.Fatalf("operation %d: exit code %d\n%s", k, code, out)
		}
		silent(t, out)
		if os.Getenv("SALLYPORT_EXHAUSTIVE") != "" { // else each start cleans up after the one before
			h.must(0, "exit-test", "--stressed")
			h.clean()
		}
	}
	if out := h.must(0, "exit-test"); !strings.Contains(out, ": proven") {
		t.Errorf("the next test says %s", out)
	}
	h.clean()
	h.must(0, "check")
	h.leaks("source")
}

func TestTargetThatIsNotEmptyIsNotTouched(t *testing.T) {
	t.Parallel()
	h := testable(t, 5, "restored")
	if err := os.Mkdir(h.path("restored"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("restored/precious.txt", "somebody's own")
	out := h.must(exitIncomplete, "exit-test")
	if !strings.Contains(out, ": undecided") || !strings.Contains(out, "target is not empty") {
		t.Errorf("the test says %s", out)
	}
	if err := os.Rename(h.path("restored/precious.txt"), h.path("precious.txt")); err != nil {
		t.Errorf("what was there is not: %v", err)
	}
	if err := os.Remove(h.path("restored")); err != nil {
		t.Errorf("something was added: %v", err)
	}
	h.clean()
}

// A file system that has room in bytes, as far as it says, and runs out of files.
func TestTargetThatFillsUpLeavesAVerdictAndNothingElse(t *testing.T) {
	t.Parallel()
	h := testable(t, 60, "restored")
	small := h.path("restored")
	if os.Mkdir(small, 0o700) != nil || syscall.Mount("none", small, "tmpfs", 0, "size=4m,nr_inodes=30") != nil {
		t.Skip("this machine lets us mount no small file system")
	}
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	out := h.must(exitIncomplete, "exit-test")
	if !strings.Contains(out, ": undecided") || !strings.Contains(out, "no space left on device") {
		t.Errorf("the test says %s", out)
	}
	if left, err := os.ReadDir(small); err != nil || len(left) > 0 {
		t.Errorf("left in the target: %v, %v", left, err)
	}
	h.clean()
	if out := h.must(0, "certificate", "show", "files"); !strings.Contains(out, "The restore did not come to its end") {
		t.Errorf("the certificate says %s", out)
	}
}

// A bucket that takes some objects and then no more, and others beside it.
func TestBucketThatFillsUpLeavesAVerdictAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	full := s3server.Fault{Operations: []string{"PutObject"}, Bucket: "target", Skip: 20, Effect: s3server.Refuse(403, "QuotaExceeded", "the bucket is full")}
	faults := s3server.NewInjector(1, full)
	s := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: testKey, SecretKey: testSecret}}, Region: "eu-west-2", Faults: faults})
	url, ca, stop, err := s.Start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	h.write("ca.pem", string(ca))
	c := cloud{endpoint: url, region: "eu-west-2", ca: h.path("ca.pem")}
	h.env = append(h.env, "AWS_ACCESS_KEY_ID="+testKey, "AWS_SECRET_ACCESS_KEY="+testSecret)
	for _, b := range []string{"source", "target", "beside"} {
		s.AddBucket(b)
	}
	for i := range 60 {
		s.PutObject("source", s3server.Object{Key: fmt.Sprintf("cases/%d", i), Body: s3server.Bytes(canary)})
	}
	s.PutObject("beside", s3server.Object{Key: "precious", Body: s3server.Bytes("somebody's own")})
	h.configuration("archive", s3Service(c, "source")+fmt.Sprintf("    exit_test: {restore_to: %q}\n", c.location("target", "")))
	h.must(0, "export")
	code, out := h.run("exit-test")
	if code != exitNo && code != exitIncomplete || strings.Contains(out, ": proven") || !strings.Contains(out, "certificate: ") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if faults.Hits() == 0 {
		t.Error("the target took everything")
	}
	if left := s.Objects("target"); len(left) > 0 {
		t.Errorf("%d objects are left in the target, the first %s", len(left), left[0].Key)
	}
	if len(s.Objects("source")) != 60 || len(s.Objects("beside")) != 1 {
		t.Errorf("the source has %d objects, the bucket beside %d", len(s.Objects("source")), len(s.Objects("beside")))
	}
	h.clean()
}
