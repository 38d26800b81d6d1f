package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

const logName = "keeper-host1"

var start = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)

// bench is what the tests of a log need: a store, a host's state and keys.
type bench struct {
	st      *archivetest.Memory
	state   string
	signer  *crypto.Signer
	allowed string
	trust   *crypto.Verifier
	clock   time.Time
}

func newBench(t testing.TB) *bench {
	t.Helper()
	private, public, err := crypto.GenerateSigningKey("keeper")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{st: new(archivetest.Memory), state: filepath.Join(t.TempDir(), "state"), clock: start}
	if b.signer, err = crypto.ParseSigner(private); err != nil {
		t.Fatal(err)
	}
	b.allowed = `keeper namespaces="sallyport-*" ` + public
	if b.trust, err = crypto.ParseAllowedSigners([]byte(b.allowed), "allowed"); err != nil {
		t.Fatal(err)
	}
	return b
}

const storeID dataset.ID = "abcdefghijklmnopqrstuvwxyz"

func (b *bench) open(t testing.TB) *Log {
	t.Helper()
	l, err := Open(Options{Store: b.st, StoreID: storeID, Name: logName, Signer: b.signer, Trust: b.trust, State: b.state, Now: b.now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (b *bench) now() time.Time {
	b.clock = b.clock.Add(time.Second)
	return b.clock
}

func (b *bench) reader(t testing.TB, st archive.Store) *Reader {
	t.Helper()
	r, err := NewReader(st, storeID, logName, b.trust)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// add appends n events with their number in a count.
func (b *bench) add(t testing.TB, l *Log, first, n int64) {
	t.Helper()
	for i := first; i < first+n; i++ {
		e := NewEvent(Export, Fact, b.now())
		e.Service, e.Counts = "case-files", map[string]int64{"number": i}
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func publish(t testing.TB, l *Log) archive.Checkpoint {
	t.Helper()
	c, err := l.Publish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// numbers returns the counts of the events that add made, in the log's order.
func numbers(t testing.TB, r *Reader, head archive.Checkpoint) (out []int64) {
	t.Helper()
	for e, err := range r.Entries(t.Context(), head, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Event.Activity == Export {
			out = append(out, e.Event.Counts["number"])
		}
	}
	return out
}

// checkNumbers fails unless the log holds the events first to n-1, each once.
func checkNumbers(t testing.TB, r *Reader, head archive.Checkpoint, n int64) {
	t.Helper()
	got := numbers(t, r, head)
	for i := range n {
		if int64(len(got)) != n || got[i] != i {
			t.Fatalf("the log holds %d events, %v...; want 0 to %d in order", len(got), got[:min(len(got), 10)], n-1)
		}
	}
}

func verify(t testing.TB, r *Reader, pins ...archive.Checkpoint) Report {
	t.Helper()
	report, err := r.Verify(t.Context(), pins...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestPublishedEventsAreReadVerifiedAndProven(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.reader(t, b.st)
	l := b.open(t)
	if c := publish(t, l); c.Size != 0 {
		t.Errorf("an empty log has a checkpoint of %d", c.Size)
	}
	if _, err := r.Head(t.Context()); !errors.Is(err, ErrNoLog) {
		t.Errorf("Head of an empty log: %v; want ErrNoLog", err)
	}
	var pins []archive.Checkpoint
	n := int64(0)
	for i, batch := range []int64{1, 2, 253, 1, 255, 256, 1, 300, 70} { // on, before and behind the borders of tiles
		b.add(t, l, n, batch)
		n += batch
		c := publish(t, l)
		if c.Size != n {
			t.Fatalf("checkpoint of %d; want %d", c.Size, n)
		}
		pins = append(pins, c)
		if again := publish(t, l); again != c {
			t.Errorf("publishing nothing made checkpoint %+v", again)
		}
		if i%2 == 0 {
			closeLog(t, l)
			l = b.open(t)
		}
	}
	closeLog(t, l)
	head, err := r.Head(t.Context())
	if err != nil || head != pins[len(pins)-1] {
		t.Fatalf("Head = %+v, %v", head, err)
	}
	checkNumbers(t, r, head, n)
	report := verify(t, r, pins...)
	if len(report.Findings) > 0 || report.Checkpoints != len(pins) || report.Head != head {
		t.Errorf("Verify = %+v", report)
	}
	for _, pin := range pins {
		if err := r.Continues(t.Context(), pin, head); err != nil {
			t.Error(err)
		}
	}
	for i := int64(0); i < n; i += 31 {
		p, err := r.Prove(t.Context(), head, i)
		if err != nil || !strings.Contains(p.Entry, fmt.Sprintf(`"number":%d`, i)) {
			t.Fatalf("proof of entry %d: %v", i, err)
		}
		p.Entry = strings.Replace(p.Entry, "case-files", "case-filed", 1)
		if p.Check() == nil {
			t.Fatalf("entry %d: the proof proves another entry", i)
		}
	}
	if logs, err := Logs(t.Context(), b.st); err != nil || len(logs) != 1 || logs[0] != logName {
		t.Errorf("Logs = %q, %v", logs, err)
	}
}

func TestCrashAtEveryStoreOperationLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	for k := 1; ; k++ {
		for _, verdict := range []archivetest.Verdict{archivetest.Stop, archivetest.StopAfter, archivetest.Cut, archivetest.LostReply} {
			b := newBench(t)
			l := b.open(t)
			b.add(t, l, 0, 250)
			pin := publish(t, l)
			b.add(t, l, 250, 10)
			before := b.st.Ops()
			b.st.Fault = func(op int, _, _ string) archivetest.Verdict {
				if op == before+k {
					return verdict
				}
				return archivetest.Works
			}
			_, err := l.Publish(t.Context())
			reached := b.st.Ops() >= before+k
			var unwritten *UnwrittenError
			if err != nil && !errors.As(err, &unwritten) {
				t.Fatalf("operation %d: %v; want an *UnwrittenError", k, err)
			}
			b.add(t, l, 260, 5) // exports go on
			closeLog(t, l)
			b.st.Fault = nil
			b.st.Heal()
			l = b.open(t)
			head := publish(t, l)
			closeLog(t, l)
			r := b.reader(t, b.st)
			checkNumbers(t, r, head, 265)
			if report := verify(t, r, pin); !report.Sound() {
				t.Fatalf("operation %d: %+v", k, report.Findings)
			}
			if !reached {
				if k < 5 {
					t.Fatalf("only %d operations", k)
				}
				return
			}
		}
	}
}

func TestLostStateLosesNothingThatWasPublished(t *testing.T) {
	t.Parallel()
	for k := 1; ; k++ {
		b := newBench(t)
		l := b.open(t)
		b.add(t, l, 0, 250)
		pin := publish(t, l)
		b.add(t, l, 250, 10)
		before := b.st.Ops()
		b.st.Fault = func(op int, _, _ string) archivetest.Verdict {
			if op >= before+k {
				return archivetest.Stop
			}
			return archivetest.Works
		}
		_, err := l.Publish(t.Context())
		closeLog(t, l)
		b.st.Fault = nil
		b.st.Heal()
		if rerr := os.RemoveAll(b.state); rerr != nil {
			t.Fatal(rerr)
		}
		l = b.open(t)
		b.add(t, l, 1000, 1)
		head := publish(t, l)
		closeLog(t, l)
		r := b.reader(t, b.st)
		got := numbers(t, r, head)
		for i, n := range got[:len(got)-1] {
			if n != int64(i) {
				t.Fatalf("operation %d: event %d is number %d", k, i, n)
			}
		}
		if len(got) < 251 || got[len(got)-1] != 1000 {
			t.Fatalf("operation %d: %d events, the last %d", k, len(got), got[len(got)-1])
		}
		if report := verify(t, r, pin); !report.Sound() {
			t.Fatalf("operation %d: %+v", k, report.Findings)
		}
		if err == nil {
			if k < 5 {
				t.Fatalf("only %d operations", k)
			}
			return
		}
	}
}

func TestUnreachableStoreQueuesEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	b.st.Fault = func(int, string, string) archivetest.Verdict { return archivetest.Cut }
	for i := range int64(3) {
		b.add(t, l, i, 1)
		_, err := l.Publish(t.Context())
		var unwritten *UnwrittenError
		if !errors.As(err, &unwritten) || unwritten.Queued != int(i+1) || !errors.Is(err, archivetest.ErrCut) {
			t.Errorf("Publish: %v; want an *UnwrittenError of %d", err, i+1)
		}
	}
	closeLog(t, l)
	b.st.Fault = nil
	l = b.open(t)
	if l.Queued() != 3 {
		t.Errorf("Queued = %d; want 3", l.Queued())
	}
	checkNumbers(t, b.reader(t, b.st), publish(t, l), 3)
	closeLog(t, l)
}

func TestRolledBackStoreIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	b.add(t, l, 0, 300)
	publish(t, l)
	old := b.st.Clone()
	b.add(t, l, 300, 10)
	pin := publish(t, l)
	closeLog(t, l)
	report := verify(t, b.reader(t, old), pin)
	if report.Sound() {
		t.Error("an auditor with a newer checkpoint found nothing")
	}
	for name, st := range map[string]*archivetest.Memory{"older": old, "empty": new(archivetest.Memory)} {
		real := b.st
		b.st = st
		l = b.open(t)
		b.add(t, l, 310, 1)
		if _, err := l.Publish(t.Context()); !errors.Is(err, ErrInconsistent) {
			t.Errorf("%s store: Publish: %v; want ErrInconsistent", name, err)
		}
		closeLog(t, l)
		b.st = real
	}
}

func TestForkIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	b.add(t, l, 0, 10)
	publish(t, l)
	fork := b.st.Clone()
	b.add(t, l, 10, 5)
	mine := publish(t, l)
	closeLog(t, l)

	// Another host goes on from the same store under the same name and key.
	other := *b
	other.st, other.state = fork, filepath.Join(t.TempDir(), "other")
	o := other.open(t)
	other.add(t, o, 100, 8)
	theirs := publish(t, o)
	closeLog(t, o)

	r := b.reader(t, fork)
	if err := r.Continues(t.Context(), mine, theirs); !errors.Is(err, ErrInconsistent) {
		t.Errorf("Continues: %v; want ErrInconsistent", err)
	}
	if verify(t, r, mine).Sound() {
		t.Error("an auditor who saw the other history found nothing")
	}
	b.st = fork
	l = b.open(t)
	if _, err := l.Publish(t.Context()); !errors.Is(err, ErrInconsistent) {
		t.Errorf("Publish: %v; want ErrInconsistent", err)
	}
	closeLog(t, l)
}

func TestSecondWriterOfOneLogIsNoticed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	if _, err := Open(l.o); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Open: %v; want ErrLocked", err)
	}
	b.add(t, l, 0, 3)
	publish(t, l)
	other := *b
	other.state = filepath.Join(t.TempDir(), "other")
	o := other.open(t)
	other.add(t, o, 100, 1)
	publish(t, o)
	closeLog(t, o)
	closeLog(t, l)
	l = b.open(t)
	b.add(t, l, 3, 1)
	if _, err := l.Publish(t.Context()); !errors.Is(err, ErrInconsistent) {
		t.Errorf("Publish: %v; want ErrInconsistent", err)
	}
	closeLog(t, l)
}

func TestNamesTakenByAStranger(t *testing.T) {
	t.Parallel()
	junk := []byte("junk")
	for _, tc := range []struct {
		name   string
		events int64
		ok     bool
	}{
		{"tile/entries/000.p/4", 4, true},
		{"tile/0/000.p/4", 4, true},
		{"checkpoints/00000000000000000004", 4, true},
		{"tile/entries/000", 300, false}, // a full tile has no other name
	} {
		b := newBench(t)
		l := b.open(t)
		b.add(t, l, 0, 2)
		publish(t, l)
		b.st.Put("audit/"+logName+"/"+tc.name, junk)
		b.add(t, l, 2, tc.events-2)
		_, err := l.Publish(t.Context())
		if (err == nil) != tc.ok {
			t.Errorf("%s: Publish: %v; want success %t", tc.name, err, tc.ok)
		}
		if !tc.ok && !strings.Contains(err.Error(), "begin a log of another name") {
			t.Errorf("%s: %v; want advice", tc.name, err)
		}
		if tc.ok {
			head, err := b.reader(t, b.st).Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkNumbers(t, b.reader(t, b.st), head, tc.events)
			if verify(t, b.reader(t, b.st)).Sound() {
				t.Errorf("%s: the junk was not reported", tc.name)
			}
		}
		closeLog(t, l)
	}
}

func TestForeignKeyMakesNoCheckpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stranger := newBench(t)
	l := b.open(t)
	o := l.o
	o.State, o.Signer = filepath.Join(t.TempDir(), "other"), stranger.signer
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "may not sign") {
		t.Errorf("Open with a key that is not trusted: %v", err)
	}
	b.add(t, l, 0, 3)
	head := publish(t, l)
	s := store{b.st, storeID, logName}
	forged := s.formatCheckpoint(tlog.Tree{N: 9, Hash: tlog.RecordHash(nil)})
	if err := archive.PutSigned(t.Context(), b.st, stranger.signer, "audit/"+logName, s.checkpointName(9), namespace, forged); err != nil {
		t.Fatal(err)
	}
	r := b.reader(t, b.st)
	if got, err := r.Head(t.Context()); err != nil || got != head {
		t.Errorf("Head = %+v, %v; want the one of our own key", got, err)
	}
	report := verify(t, r)
	if len(report.Findings) != 1 || report.Findings[0].Name != s.checkpointName(9) {
		t.Errorf("Findings = %+v; want the forged checkpoint", report.Findings)
	}
	r.Principal = "someone-else"
	if _, err := r.Head(t.Context()); !errors.Is(err, ErrNoLog) {
		t.Errorf("Head for another principal: %v; want ErrNoLog", err)
	}
	closeLog(t, l)
}

func TestExportIsTheStandardLayout(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	l := b.open(t)
	b.add(t, l, 0, 300)
	head := publish(t, l)
	closeLog(t, l)
	dir := filepath.Join(t.TempDir(), "out")
	if err := b.reader(t, b.st).Export(t.Context(), head, dir); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"tile/0/000": 8192, "tile/0/001.p/44": 44 * 32, "tile/1/000.p/1": 32, "tile/entries/000": 0, "tile/entries/001.p/44": 0} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || size > 0 && len(got) != size {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, size)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint.txt"))
	if err != nil {
		t.Fatal(err)
	}
	note, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil || !bytes.HasPrefix(note, append(text, []byte("\n\u2014 sallyport/")...)) {
		t.Errorf("checkpoint = %q, %v", note, err)
	}
	allowed := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(allowed, []byte(b.allowed), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-n", "sallyport-checkpoint", "-I", "keeper", "-f", allowed, "-s", filepath.Join(dir, "checkpoint.txt.sig"))
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen: %v: %s", err, out)
	}
}
