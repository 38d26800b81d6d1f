package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// exhaustive asks for every point instead of a sample: make crash.
var exhaustive = os.Getenv("SALLYPORT_EXHAUSTIVE") != ""

const service = "case-files"

// A crashScene is a store with a past: two snapshots of which the older is expired, a
// run that died long ago, and what the source holds now.
type crashScene struct {
	world   *archivetest.World
	store   *archivetest.Memory
	state   string // of the exporting host
	scratch string
	known   map[dataset.Hash]archivetest.Content
	next    archivetest.Content
}

var long = 30 * 24 * time.Hour

func newCrashScene(t testing.TB, seed uint64) *crashScene {
	t.Helper()
	start := time.Now().Add(-long)
	store := &archivetest.Memory{Time: func() time.Time { return start }}
	w, err := archivetest.NewWorld(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	w.MonthKeys = seed%2 == 0 // the fault strikes runs that share keys, and runs that do not
	s := &crashScene{world: w, store: store, state: t.TempDir(), scratch: t.TempDir(), known: map[dataset.Hash]archivetest.Content{}}
	content := archivetest.NewContent(seed, 40)
	var first *archive.Decision
	for i := range 2 {
		d, err := w.Export(t.Context(), service, s.state, content)
		if err != nil {
			t.Fatal(err)
		}
		s.known[d.Hash] = content
		if i == 0 {
			first = d
		}
		content = content.Changed(seed + uint64(i))
	}
	run, err := archive.Begin(t.Context(), w.Archive, w.Options(service, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archivetest.Fill(t.Context(), run, content); err != nil {
		t.Fatal(err)
	}
	run.Abandon()
	if err := w.Expire(t.Context(), service, first); err != nil {
		t.Fatal(err)
	}
	s.next = content
	s.next.Gaps = []dataset.Gap{{Stream: "objects", Key: "cold", Code: dataset.ArchivedTier, Detail: "GLACIER"}}
	store.Time = nil
	return s
}

// A job is what runs when the fault strikes.
type job struct {
	name string
	run  func(ctx context.Context, w *archivetest.World, s *crashScene, state string) error
}

var crashJobs = []job{
	{"export", func(ctx context.Context, w *archivetest.World, s *crashScene, state string) error {
		_, err := w.Export(ctx, service, state, s.next)
		return err
	}},
	{"collect", func(ctx context.Context, w *archivetest.World, s *crashScene, _ string) error {
		_, err := w.Collector().Collect(ctx, service)
		return err
	}},
	{"expire", func(ctx context.Context, w *archivetest.World, s *crashScene, _ string) error {
		snaps, err := w.Archive.Snapshots(ctx, service)
		if err != nil {
			return err
		}
		if len(snaps.All) == 0 {
			return errors.New("snapshots went out of sight without an error")
		}
		return w.Expire(ctx, service, snaps.All[0])
	}},
}

// A point is one fault of one job.
type point struct {
	job     job
	op      int
	verdict archivetest.Verdict
	cancel  bool // instead of a verdict: the context ends during the operation
	again   int  // a second stop, at this operation of the recovery; 0 is none
}

func (p point) String() string {
	names := map[archivetest.Verdict]string{archivetest.Works: "cancelled", archivetest.Cut: "cut", archivetest.LostReply: "reply lost", archivetest.Stop: "stopped before", archivetest.StopAfter: "stopped after"}
	s := fmt.Sprintf("%s, operation %d %s", p.job.name, p.op, names[p.verdict])
	if p.again > 0 {
		s += fmt.Sprintf(", recovery stopped at %d", p.again)
	}
	return s
}

// ops counts the operations of a job without faults.
func (s *crashScene) ops(t testing.TB, j job) int {
	t.Helper()
	store := s.store.Clone()
	state := t.TempDir()
	if err := os.CopyFS(state, os.DirFS(s.state)); err != nil {
		t.Fatal(err)
	}
	if err := j.run(t.Context(), s.world.On(store), s, state); err != nil {
		t.Fatalf("%s without a fault: %v", j.name, err)
	}
	return store.Ops()
}

func TestNoFaultOfAnyStoreOperationDamagesASnapshot(t *testing.T) {
	t.Parallel()
	seeds := uint64(1)
	if exhaustive {
		seeds = 3
	}
	total := 0
	for seed := range seeds {
		s := newCrashScene(t, seed)
		var points []point
		for _, j := range crashJobs {
			for op := 1; op <= s.ops(t, j); op++ {
				for _, v := range []archivetest.Verdict{archivetest.Cut, archivetest.LostReply, archivetest.Stop, archivetest.StopAfter} {
					points = append(points, point{job: j, op: op, verdict: v})
				}
				points = append(points, point{job: j, op: op, cancel: true})
			}
			for op := 1; op <= s.ops(t, j); op += 3 { // C04: a second crash during recovery
				for again := 1 + op%4; again < 40; again += 4 {
					points = append(points, point{job: j, op: op, verdict: archivetest.StopAfter, again: again})
				}
			}
		}
		total += len(points)
		if !exhaustive {
			rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
			rnd.Shuffle(len(points), func(i, k int) { points[i], points[k] = points[k], points[i] })
			points = points[:40]
		}
		tryPoints(t, s, points)
	}
	if total < 300*int(seeds) {
		t.Errorf("there were only %d points", total)
	}
	t.Logf("%d points", total)
}

func tryPoints(t *testing.T, s *crashScene, points []point) {
	var g errgroup.Group
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // many wait for a pause between tries
	var done atomic.Int64
	for _, p := range points {
		g.Go(func() error {
			if err := s.try(t.Context(), p); err != nil {
				t.Errorf("%v: %v", p, err)
			}
			done.Add(1)
			return nil
		})
	}
	g.Wait()
	if int(done.Load()) != len(points) {
		t.Errorf("%d points of %d were tried", done.Load(), len(points))
	}
}

// try plays one point on copies of the scene.
func (s *crashScene) try(ctx context.Context, p point) error {
	dir, err := os.MkdirTemp(s.scratch, "point-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store := s.store.Clone()
	w := s.world.On(store)
	state, err := s.strike(ctx, w, store, p, dir)
	if err != nil {
		return err
	}
	if err := s.allClean(ctx, w); err != nil {
		return fmt.Errorf("after the fault: %w", err)
	}
	if err := nothingInTheClear(store, dir); err != nil {
		return fmt.Errorf("after the fault: %w", err)
	}
	if p.again > 0 {
		q := p
		q.op, q.job = p.again, crashJobs[0]
		start := store.Ops()
		q.op += start
		if state, err = s.strikeIn(ctx, w, store, q, state, dir+"/second"); err != nil {
			return err
		}
		if err := s.allClean(ctx, w); err != nil {
			return fmt.Errorf("after the second fault: %w", err)
		}
	}
	for _, host := range []string{state, dir + "/lost"} {
		d, err := w.Export(ctx, service, host, s.next)
		if err != nil {
			return fmt.Errorf("rerun: %w", err)
		}
		if err := w.Compare(ctx, service, d, s.next); err != nil {
			return fmt.Errorf("rerun: %w", err)
		}
		if d.Manifest.State != archive.Incomplete {
			return fmt.Errorf("rerun is %s", d.Manifest.State)
		}
	}
	if _, err := w.Collector().Collect(ctx, service); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	if snaps, err := w.Archive.Snapshots(ctx, service); err != nil || len(snaps.Heads) != 1 {
		return fmt.Errorf("%d heads, although the last run saw all snapshots: %v", len(snaps.Heads), err)
	}
	if err := s.allClean(ctx, w); err != nil {
		return fmt.Errorf("in the end: %w", err)
	}
	return errors.Join(nothingInTheClear(store, dir), store.Misuse())
}

// secrets are pieces of what the source holds, and of its names.
var secrets = [][]byte{[]byte("object-0"), []byte("dir1/"), []byte(`"row `), []byte("below a file"), []byte("GLACIER"), []byte("AGE-SECRET-KEY")}

// nothingInTheClear looks for secrets in everything that is stored, and in everything
// that lies on the exporting host but its own key.
func nothingInTheClear(store *archivetest.Memory, dir string) error {
	found := func(where string, data []byte) error {
		for _, s := range secrets {
			if bytes.Contains(data, s) {
				return fmt.Errorf("%s has %q in the clear", where, s)
			}
		}
		return nil
	}
	for _, name := range store.Names() {
		if err := found(name, append([]byte(name), store.Bytes(name)...)); err != nil {
			return err
		}
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "host.key" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return found(path, append([]byte(path), data...))
	})
}

// strike runs the job of p under its fault, and returns the state directory as the
// crash left it.
func (s *crashScene) strike(ctx context.Context, w *archivetest.World, store *archivetest.Memory, p point, dir string) (string, error) {
	before := dir + "/before"
	if err := os.CopyFS(before, os.DirFS(s.state)); err != nil {
		return "", err
	}
	return s.strikeIn(ctx, w, store, p, before, dir+"/after")
}

func (s *crashScene) strikeIn(ctx context.Context, w *archivetest.World, store *archivetest.Memory, p point, state, after string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	var copied error
	struck := ""
	store.Fault = func(n int, op, _ string) archivetest.Verdict {
		if n != p.op {
			return archivetest.Works
		}
		once.Do(func() {
			struck = op
			if p.verdict == archivetest.Stop || p.verdict == archivetest.StopAfter {
				copied = os.CopyFS(after, os.DirFS(state)) // the disk of a host that dies now
			}
			if p.verdict != archivetest.Cut && p.verdict != archivetest.LostReply {
				cancel()
			}
		})
		return p.verdict
	}
	err := p.job.run(ctx, w, s, state)
	store.Heal()
	if copied != nil && !errors.Is(copied, os.ErrNotExist) { // a file that was renamed meanwhile
		return "", copied
	}
	transient := p.verdict == archivetest.Cut || p.verdict == archivetest.LostReply
	if err != nil && transient && struck == "create" {
		return "", fmt.Errorf("one %s that was not answered was the end: %w", struck, err)
	}
	if _, serr := os.Stat(after); serr == nil {
		return after, nil
	}
	return state, nil
}

// allClean checks without a key and with it, and compares every snapshot that should be
// there with what it was made of.
func (s *crashScene) allClean(ctx context.Context, w *archivetest.World) error {
	r, err := verify.Check{Archive: w.Archive}.Run(ctx)
	if err != nil {
		return err
	}
	if len(r.Findings) > 0 {
		return fmt.Errorf("check found %v", r.Findings)
	}
	snaps, err := w.Archive.Snapshots(ctx, service)
	if err != nil {
		return err
	}
	if len(snaps.All) == 0 && len(snaps.Expired) < 2 {
		return errors.New("there is no snapshot left")
	}
	for _, d := range snaps.All {
		snap, err := w.Archive.Snapshot(ctx, service, d)
		if err != nil {
			return err
		}
		if err := snap.Unlock(ctx, w.Identity); err != nil {
			return err
		}
		v, err := verify.Verification{Snapshot: snap}.Run(ctx)
		if err != nil || v.Content != verify.Pass {
			return fmt.Errorf("verification of %s: %v %v", d.Run, v.Findings, err)
		}
		content, ok := s.known[d.Hash]
		if !ok {
			content = s.next
		}
		if err := w.Compare(ctx, service, d, content); err != nil {
			return fmt.Errorf("snapshot %s: %w", d.Run, err)
		}
	}
	for h := range s.known {
		if !slices.ContainsFunc(slices.Concat(snaps.All, snaps.Expired), func(d *archive.Decision) bool { return d.Hash == h }) {
			return fmt.Errorf("snapshot %s is gone", h)
		}
	}
	return nil
}
