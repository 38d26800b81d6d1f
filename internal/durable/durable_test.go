package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/internal/durable/durabletest"
)

func openDir(t testing.TB) (*durable.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a", "store")
	d, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func TestCreateIsCreateOnce(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	if err := d.Create("x/y/z", []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := d.Create("x/y/z", []byte("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v; want fs.ErrExist", err)
	}
	if got, err := os.ReadFile(filepath.Join(path, "x/y/z")); err != nil || string(got) != "first" {
		t.Errorf("file holds %q, %v; want the first bytes", got, err)
	}
	if left, err := os.ReadDir(filepath.Join(path, ".tmp")); err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestOneOfManyConcurrentCreatorsWins(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	var wins atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := d.Create("dir/name", fmt.Appendf(nil, "writer %d", i))
			if err == nil {
				wins.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d creators won; want 1", wins.Load())
	}
	if got, _ := os.ReadFile(filepath.Join(path, "dir/name")); !bytes.HasPrefix(got, []byte("writer ")) {
		t.Errorf("file holds %q", got)
	}
}

func TestNamesCannotLeaveTheTree(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	if err := os.Symlink(filepath.Dir(path), filepath.Join(path, "out")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x", "a/../../x", "/x", "out/x"} {
		if err := d.Create(name, nil); err == nil {
			t.Errorf("Create(%q) succeeded", name)
		}
		if err := d.Replace(name, nil); err == nil {
			t.Errorf("Replace(%q) succeeded", name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "x")); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
}

func TestPrivateStateIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	d, err := durable.OpenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 2 {
		if err := d.Replace("token", []byte("secret")); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "token": 0o600} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if err := d.Remove("token"); err != nil {
		t.Error(err)
	}
	if err := d.Remove("token"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second Remove: %v; want fs.ErrNotExist", err)
	}
}

func TestSweepSparesYoungFiles(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	if err := d.Sweep(time.Now()); err != nil {
		t.Errorf("nothing to sweep: %v", err)
	}
	if err := d.MkdirAll(".tmp"); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(path, ".tmp/old"), filepath.Join(path, ".tmp/young")
	for _, name := range []string{old, young} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the old file was spared")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("the young file was swept")
	}
}

// work is what the fault tests do: new files, one made twice, one replaced, a journal.
// It returns what a caller was promised: the bytes by name, of each write that
// returned nil, and the records the journal took.
type work struct {
	created  map[string]string
	replaced []string // all that may be there; the last acknowledged is at index acked
	acked    int
	records  []string // appended, acknowledged or not
	taken    int      // acknowledged
	errs     []error
}

func doWork(fsys durable.FS) *work {
	d := durable.New(fsys, "store")
	w := &work{created: make(map[string]string), replaced: []string{""}}
	note := func(err error) bool {
		if err != nil {
			w.errs = append(w.errs, err)
		}
		return err == nil
	}
	for i, name := range []string{"s/packs/aa/1", "s/packs/aa/2", "s/decisions/r.json", "s/packs/aa/1"} {
		data := content(name)
		err := d.Create(name, []byte(data))
		if err == nil || errors.Is(err, fs.ErrExist) {
			w.created[name] = data
		}
		if i < 3 || !errors.Is(err, fs.ErrExist) {
			note(err)
		}
		value := fmt.Sprintf("state %d", i)
		w.replaced = append(w.replaced, value)
		if note(d.Replace("state", []byte(value))) {
			w.acked = len(w.replaced) - 1
		}
	}
	j, err := d.OpenJournal("j/events", func([]byte) error { return nil })
	if !note(err) {
		return w
	}
	for i := range 4 {
		w.records = append(w.records, fmt.Sprintf("event %d of many", i))
		if note(j.Append([]byte(w.records[i]))) {
			w.taken = i + 1
		}
	}
	note(j.Close())
	return w
}

func content(name string) string { return strings.Repeat(name+" ", 50) }

// check reports promises that the disk does not keep, and garbage under final names.
func (w *work) check(sim *durabletest.Sim) error {
	files := sim.Files()
	for name, want := range w.created {
		if got, ok := files[name]; !ok || string(got) != want {
			return fmt.Errorf("%s was promised and holds %.20q (there: %t)", name, got, ok)
		}
	}
	for name, got := range files {
		if strings.HasPrefix(name, "s/") && string(got) != content(name) {
			return fmt.Errorf("%s holds %.20q", name, got)
		}
	}
	if got, ok := files["state"]; ok || w.acked > 0 {
		okay := false
		for _, want := range w.replaced[w.acked:] {
			okay = okay || string(got) == want && ok
		}
		if !okay {
			return fmt.Errorf("state holds %.20q; want one of %q", got, w.replaced[w.acked:])
		}
	}
	n := 0
	_, err := durable.New(sim, "store").OpenJournal("j/events", func(r []byte) error {
		if n >= len(w.records) || string(r) != w.records[n] {
			return fmt.Errorf("journal record %d is %q", n, r)
		}
		n++
		return nil
	})
	if err == nil && n < w.taken {
		err = fmt.Errorf("journal holds %d records; %d were taken", n, w.taken)
	}
	return err
}

func TestPowerCutAtEveryOperationLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	healthy := new(durabletest.Sim)
	if w := doWork(healthy); len(w.errs) > 0 || w.taken != 4 || len(w.created) != 3 {
		t.Fatalf("without faults: %+v", w)
	}
	errPower := errors.New("power cut")
	for k := 1; k <= healthy.Ops(); k++ {
		for _, after := range []bool{false, true} {
			sim := new(durabletest.Sim)
			stop := func(op durabletest.Op) error {
				if op.N > k || op.N == k && !after {
					return errPower
				}
				return nil
			}
			sim.Before = stop
			w := doWork(sim)
			for seed := range uint64(20) {
				rng := rand.New(rand.NewPCG(uint64(k), seed))
				if err := w.check(sim.PowerCut(rng)); err != nil {
					t.Fatalf("cut at operation %d, seed %d: %v", k, seed, err)
				}
			}
		}
	}
}

func TestFailureOfEveryOperationIsReportedAndLeavesNoPartialFile(t *testing.T) {
	t.Parallel()
	healthy := new(durabletest.Sim)
	doWork(healthy)
	for k := 1; k <= healthy.Ops(); k++ {
		for _, cause := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS, syscall.EMFILE} {
			for _, applied := range []bool{false, true} {
				sim, kind, name := new(durabletest.Sim), "", ""
				fail := func(op durabletest.Op) error {
					if op.N == k {
						kind, name = op.Kind, op.Path
						return cause
					}
					return nil
				}
				if applied {
					sim.After = fail
				} else {
					sim.Before = fail
				}
				w := doWork(sim)
				// A file whose fsync failed is rewritten; a temporary name left behind is swept.
				hidden := strings.HasPrefix(name, ".tmp/") && (kind == "sync" || kind == "remove")
				// kind is empty where the operation was to fail anyway: a name that is taken.
				if !hidden && kind != "" && !anyIs(w.errs, cause) {
					t.Errorf("%v at operation %d (%s) was not reported: %v", cause, k, kind, w.errs)
				}
				for _, err := range w.errs {
					if !strings.Contains(err.Error(), "store") {
						t.Errorf("error without a path: %v", err)
					}
				}
				sim.Before, sim.After = nil, nil
				for seed := range uint64(5) {
					rng := rand.New(rand.NewPCG(uint64(k), seed))
					if err := w.check(sim.PowerCut(rng)); err != nil {
						t.Fatalf("%v at operation %d (%s, applied %t): %v", cause, k, kind, applied, err)
					}
				}
				if w := doWork(sim.PowerCut(rand.New(rand.NewPCG(1, 1)))); len(w.created) != 3 {
					t.Errorf("%v at operation %d: the next run did not recover: %v", cause, k, w.errs)
				}
			}
		}
	}
}

func anyIs(errs []error, target error) bool {
	return errors.Is(errors.Join(errs...), target)
}

func TestFailedFsyncDiscardsTheFile(t *testing.T) {
	t.Parallel()
	for _, failures := range []int{1, 2} {
		var synced []string
		sim := new(durabletest.Sim)
		sim.Before = func(op durabletest.Op) error {
			if op.Kind == "sync" && strings.HasPrefix(op.Path, ".tmp/") {
				synced = append(synced, op.Path)
				if len(synced) <= failures {
					return syscall.EIO
				}
			}
			return nil
		}
		err := durable.New(sim, "store").Create("name", []byte("data"))
		if failures == 1 && err != nil || failures == 2 && !errors.Is(err, syscall.EIO) {
			t.Errorf("%d failures: %v", failures, err)
		}
		if len(synced) != 2 || synced[0] == synced[1] {
			t.Errorf("%d failures: synced %q; want two different files", failures, synced)
		}
		for name := range sim.Files() {
			if name != "name" {
				t.Errorf("%d failures: %s left behind", failures, name)
			}
		}
	}
}

func TestJournalSurvivesReopeningAndCutsATornEnd(t *testing.T) {
	t.Parallel()
	d, path := openDir(t)
	read := func() (records []string, err error) {
		j, err := d.OpenJournal("j", func(r []byte) error { records = append(records, string(r)); return nil })
		if err != nil {
			return nil, err
		}
		defer j.Close()
		return records, j.Append([]byte(fmt.Sprint("record ", len(records))))
	}
	for n := range 3 {
		if got, err := read(); err != nil || len(got) != n {
			t.Fatalf("read %q, %v; want %d records", got, err, n)
		}
	}
	file := filepath.Join(path, "j")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := last; cut < len(whole); cut++ {
		for _, tail := range [][]byte{nil, make([]byte, 100), []byte("junk\njunk\n")} {
			if err := os.WriteFile(file, append(bytes.Clone(whole[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := read(); err != nil || len(got) != 2 || got[1] != "record 1" {
				t.Fatalf("cut at %d: read %q, %v; want the two whole records", cut, got, err)
			}
		}
	}
	for i := range last - 1 { // without the LF in front of the last record, which makes it part of the last
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(); !errors.Is(err, durable.ErrDamaged) {
			t.Fatalf("byte %d flipped: read %q, %v; want ErrDamaged", i, got, err)
		}
	}
}

func TestJournalTakesNoMoreAfterAnError(t *testing.T) {
	t.Parallel()
	sim, fail := new(durabletest.Sim), false
	sim.Before = func(op durabletest.Op) error {
		if fail && op.Kind == "sync" {
			return syscall.EIO
		}
		return nil
	}
	j, err := durable.New(sim, "store").OpenJournal("j", func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := j.Append([]byte("a")); !errors.Is(err, syscall.EIO) {
		t.Errorf("Append: %v; want EIO", err)
	}
	fail = false
	if err := j.Append([]byte("b")); !errors.Is(err, syscall.EIO) {
		t.Errorf("Append after a failed fsync: %v; want EIO again", err)
	}
	if err := j.Append([]byte("two\nlines")); err == nil {
		t.Error("a record of two lines was taken")
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte("f2ab3d0d a\n"), []byte("next"))
	f.Add(make([]byte, 30), []byte(""))
	f.Fuzz(func(t *testing.T, file, record []byte) {
		sim := new(durabletest.Sim)
		w, _ := sim.OpenFile("j", os.O_CREATE, 0)
		if _, err := w.Write(file); err != nil {
			t.Fatal(err)
		}
		d := durable.New(sim, "store")
		var before, after [][]byte
		j, err := d.OpenJournal("j", func(r []byte) error { before = append(before, r); return nil })
		if err != nil || bytes.IndexByte(record, '\n') >= 0 {
			return
		}
		if err := j.Append(record); err != nil {
			t.Fatal(err)
		}
		if _, err := d.OpenJournal("j", func(r []byte) error { after = append(after, r); return nil }); err != nil {
			t.Fatal(err)
		}
		if len(after) != len(before)+1 || !bytes.Equal(after[len(before)], record) {
			t.Errorf("read %q; want %q and then %q", after, before, record)
		}
	})
}

func TestLockIsHeldByOneAndFreedByDeath(t *testing.T) {
	path := filepath.Join(os.Getenv("DURABLE_TEST_DIR"), "lock")
	if os.Getenv("DURABLE_TEST_DIR") != "" { // the child
		if _, err := durable.TryLock(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		time.Sleep(time.Minute)
	}
	t.Parallel()
	dir := t.TempDir()
	path = filepath.Join(dir, "lock")
	l, err := durable.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.TryLock(path); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second TryLock: %v; want ErrLocked", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestLockIsHeldByOneAndFreedByDeath$")
	child.Env = append(os.Environ(), "DURABLE_TEST_DIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 6)
	if _, err := out.Read(said); err != nil || string(said) != "locked" {
		t.Errorf("child said %q, %v", said, err)
	}
	if _, err := durable.TryLock(path); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("TryLock while the child holds it: %v; want ErrLocked", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed, as meant
	if l, err = durable.TryLock(path); err != nil {
		t.Fatalf("TryLock after the child's death: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func BenchmarkCreate(b *testing.B) {
	d, _ := openDir(b)
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		if err := d.Create(fmt.Sprintf("packs/%02x/%d", i%256, i), data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJournalAppend(b *testing.B) {
	d, _ := openDir(b)
	j, err := d.OpenJournal("j", func([]byte) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	record := bytes.Repeat([]byte("x"), 500)
	for b.Loop() {
		if err := j.Append(record); err != nil {
			b.Fatal(err)
		}
	}
}
