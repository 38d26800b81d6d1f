package archive_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// A host is a world whose clock the test moves.
type host struct {
	*archivetest.World
	store *archivetest.Memory
	now   time.Time
	t     *testing.T
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{store: new(archivetest.Memory), now: time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC), t: t}
	var err error
	if h.World, err = archivetest.NewWorld(t.Context(), h.store); err != nil {
		t.Fatal(err)
	}
	h.Now = func() time.Time { return h.now }
	h.store.Time = h.Now
	return h
}

func (h *host) export(state string, c archivetest.Content) *archive.Decision {
	h.t.Helper()
	d, err := h.Export(h.t.Context(), service, state, c)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

func (h *host) expire(d *archive.Decision) {
	h.t.Helper()
	if err := h.Expire(h.t.Context(), service, d); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) collect(c *archive.Collector) *archive.Collection {
	h.t.Helper()
	out, err := c.Collect(h.t.Context(), service)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *host) clean(want map[*archive.Decision]archivetest.Content) {
	h.t.Helper()
	for d, c := range want {
		if err := h.Compare(h.t.Context(), service, d, c); err != nil {
			h.t.Errorf("snapshot %s: %v", d.Run, err)
		}
	}
}

// begin writes content into a run and stops before its decision.
func (h *host) begin(state string, c archivetest.Content) *archive.Writer {
	h.t.Helper()
	run, err := archive.Begin(h.t.Context(), h.Archive, h.Options(service, state))
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := archivetest.Fill(h.t.Context(), run, c); err != nil {
		h.t.Fatal(err)
	}
	return run
}

func TestCollectorRemovesExactlyWhatNoSnapshotNeeds(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	one, two := archivetest.NewContent(1, 30), archivetest.NewContent(2, 30)
	first := h.export("", one)
	before := h.store.Names()
	second := h.export("", two)
	if out := h.collect(h.Collector()); out.Condemned != 0 {
		t.Errorf("condemned %d objects although all snapshots are kept", out.Condemned)
	}
	h.expire(first)
	dry := h.Collector()
	dry.DryRun = true
	would := h.collect(dry)
	if got := h.store.Names(); len(would.Removed) == 0 || !slices.Contains(got, would.Removed[0]) {
		t.Errorf("a dry run would remove %d objects, and there are %d", len(would.Removed), len(got))
	}
	out := h.collect(h.Collector())
	if !slices.Equal(out.Removed, would.Removed) || out.Bytes != would.Bytes {
		t.Errorf("removed %d objects of %d bytes; the dry run said %d of %d", len(out.Removed), out.Bytes, len(would.Removed), would.Bytes)
	}
	for _, name := range before {
		n := archive.ParseName(name)
		stays := n.Class == archive.IntentObject || n.Class == archive.DecisionObject || n.Class == archive.StoreObject ||
			n.Class == archive.SignatureObject && n.Namespace != "sallyport-keys"
		if there := h.store.Bytes(name) != nil; there != stays {
			t.Errorf("%s: is there: %v", name, there)
		}
	}
	h.clean(map[*archive.Decision]archivetest.Content{second: two})
	if out := h.collect(h.Collector()); out.Condemned != 0 {
		t.Errorf("the second collection condemned %d objects", out.Condemned)
	}
}

func TestCollectorWaitsForYoungRunsAndAbortsStaleOnes(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := archivetest.NewContent(1, 10)
	kept := h.export("", c)
	run := h.begin(t.TempDir(), archivetest.NewContent(2, 10))
	run.Abandon()
	names := h.store.Names()
	h.now = h.now.Add(7 * 24 * time.Hour)
	out := h.collect(h.Collector())
	if len(out.Waiting) != 1 || out.Waiting[0] != run.Run() || len(out.Removed)+len(out.Aborted) != 0 || !slices.Equal(names, h.store.Names()) {
		t.Errorf("after exactly 7 days: %+v", out)
	}
	h.now = h.now.Add(time.Second)
	out = h.collect(h.Collector())
	if len(out.Aborted) != 1 || out.Aborted[0] != run.Run() || len(out.Removed) == 0 {
		t.Errorf("after more than 7 days: %+v", out)
	}
	d, err := h.Archive.Decision(t.Context(), service, run.Run())
	if err != nil || d.Abort == nil || d.Abort.Reason != archive.AbortStale || d.Signer.Principal != "keeper" {
		t.Errorf("decision = %+v, %v", d, err)
	}
	h.clean(map[*archive.Decision]archivetest.Content{kept: c})
}

func TestFencedRunLosesNothingAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, reuse := range []bool{false, true} {
		h := newHost(t)
		state, c := t.TempDir(), archivetest.NewContent(1, 20)
		kept := h.export(state, c)
		if !reuse {
			state = t.TempDir()
		}
		next := c.Changed(1)
		frozen := h.begin(state, next)
		h.now = h.now.Add(30 * 24 * time.Hour)
		if out := h.collect(h.Collector()); len(out.Aborted) != 1 {
			t.Fatalf("aborted %v", out.Aborted)
		}
		if _, err := frozen.Commit(t.Context(), archive.Summary{}); !errors.Is(err, archive.ErrFenced) {
			t.Errorf("the frozen run woke up: %v; want ErrFenced", err)
		}
		h.clean(map[*archive.Decision]archivetest.Content{kept: c})
		after := h.export(state, next)
		h.clean(map[*archive.Decision]archivetest.Content{kept: c, after: next})
	}
}

func TestRunThatFreezesBeforeItsDecisionIsFenced(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := archivetest.NewContent(1, 10)
	kept := h.export("", c)
	frozen := &freezer{Store: h.store}
	a := *h.Archive
	a.Store = frozen
	run, err := archive.Begin(t.Context(), &a, h.Options(service, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archivetest.Fill(t.Context(), run, c); err != nil {
		t.Fatal(err)
	}
	frozen.at = archive.DecisionName(service, run.Run())
	frozen.wake = func() { // all has been listed and found in place
		h.now = h.now.Add(30 * 24 * time.Hour)
		if out := h.collect(h.Collector()); len(out.Aborted) != 1 || len(out.Removed) == 0 {
			t.Errorf("collected %+v", out)
		}
	}
	if _, err := run.Commit(t.Context(), archive.Summary{}); !errors.Is(err, archive.ErrFenced) {
		t.Errorf("%v; want ErrFenced", err)
	}
	h.clean(map[*archive.Decision]archivetest.Content{kept: c})
}

// A freezer does something else just before one object is created.
type freezer struct {
	archive.Store
	at   string
	wake func()
}

func (f *freezer) Create(ctx context.Context, name string, data []byte) error {
	if name == f.at {
		f.wake()
	}
	return f.Store.Create(ctx, name, data)
}

// An interloper does something just before the n-th listing of a folder.
type interloper struct {
	*archivetest.Memory
	prefix string
	n      int
	do     map[int]func()
}

func (i *interloper) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	if prefix == i.prefix {
		i.n++
		if do := i.do[i.n]; do != nil {
			do()
		}
	}
	return i.Memory.List(ctx, prefix)
}

// TestCollectorKeepsWhatExpiredAfterItCondemned is the trace that package model finds in
// a collector whose second look forgets what expired since the first: a run commits
// after its packs were condemned, another reads that snapshot and reuses the packs, the
// snapshot expires, and the collector, to whom the second run is unknown, removes them.
func TestCollectorKeepsWhatExpiredAfterItCondemned(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(1, 20)
	h.export("", archivetest.NewContent(5, 3))
	first := h.begin(state, c) // not decided when the collector condemns
	var committed *archive.Decision
	var second *archive.Writer
	meddler := &interloper{Memory: h.store, prefix: service + "/intents/", do: map[int]func(){
		2: func() { // G2
			var err error
			if committed, err = first.Commit(t.Context(), archive.Summary{}); err != nil {
				t.Error(err)
			}
		},
		3: func() { // G4
			second = h.begin(state, c)
			h.expire(committed)
		},
	}}
	a := *h.Archive
	a.Store = meddler
	collector := h.Collector()
	collector.Archive = &a
	h.collect(collector)
	if second == nil {
		t.Fatal("the second run did not begin")
	}
	d, err := second.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	h.clean(map[*archive.Decision]archivetest.Content{d: c})
}

func TestCollectorStopsAtWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(h *host, d *archive.Decision){
		"an unreadable decision": func(h *host, d *archive.Decision) {
			h.store.Put(archive.DecisionName(service, d.Run), []byte("{}\n"))
		},
		"a newer format": func(h *host, d *archive.Decision) {
			h.store.Put(archive.DecisionName(service, d.Run), []byte(strings.Replace(string(d.Doc), "manifest/1", "manifest/2", 1)))
		},
		"an unsigned decision": func(h *host, d *archive.Decision) {
			for _, n := range h.store.Names() {
				if archive.ParseName(n).Document == d.Hash {
					h.store.Put(n, nil)
				}
			}
		},
		"a missing list": func(h *host, d *archive.Decision) {
			h.store.Put(archive.ListName(service, d.Manifest.Lists[0].SHA256), nil)
		},
		"a damaged list": func(h *host, d *archive.Decision) {
			h.store.Put(archive.ListName(service, d.Manifest.Lists[0].SHA256), []byte("x"))
		},
		"a strange expiry record": func(h *host, d *archive.Decision) {
			h.store.Put(service+"/expired/"+string(d.Run)+"/"+dataset.Sum([]byte("x")).String()+".json", []byte("x"))
		},
	} {
		h := newHost(t)
		gone := h.export("", archivetest.NewContent(1, 5))
		kept := h.export("", archivetest.NewContent(2, 5))
		h.expire(gone)
		damage(h, kept)
		names := h.store.Names()
		_, err := h.Collector().Collect(t.Context(), service)
		var integrity *archive.IntegrityError
		if !errors.As(err, &integrity) {
			t.Errorf("%s: %v; want an IntegrityError", what, err)
		}
		if !slices.Equal(names, h.store.Names()) {
			t.Errorf("%s: something was removed", what)
		}
	}
}

// A versioned store has a second version and a delete marker of every object, and locks
// some.
type versioned struct {
	*archivetest.Memory
	locked  func(name string) bool
	removed []string
}

func (v *versioned) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return func(yield func(archive.Info, error) bool) {
		for info, err := range v.Memory.List(ctx, prefix) {
			first, marker := info, info
			first.Version, marker.Version, marker.Marker, marker.Later = "1", "2", true, true
			if !yield(first, err) || err == nil && !yield(marker, nil) {
				return
			}
		}
	}
}

func (v *versioned) Remove(ctx context.Context, name, version string) error {
	if v.locked(name) {
		return &archive.LockedError{Name: name, Until: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	}
	v.removed = append(v.removed, name+"@"+version)
	if version == "1" {
		return nil // the marker is still there
	}
	return v.Memory.Remove(ctx, name, "")
}

func TestCollectorRemovesEveryVersionAndReportsLocks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	gone := h.export("", archivetest.NewContent(1, 5))
	h.export("", archivetest.NewContent(2, 5))
	h.expire(gone)
	v := &versioned{Memory: h.store, locked: func(name string) bool { return archive.ParseName(name).Class == archive.PackObject }}
	a := *h.Archive
	a.Store = v
	c := h.Collector()
	c.Archive, c.Remover = &a, v
	c.Keep = func(name string) bool { return archive.ParseName(name).Class == archive.ListObject }
	out := h.collect(c)
	if len(out.Locked) == 0 || out.Held == 0 || out.Locked[0].Until.Year() != 2030 {
		t.Errorf("locked %v, held %d", out.Locked, out.Held)
	}
	if len(v.removed) != 2*len(out.Removed) || len(out.Removed) == 0 {
		t.Errorf("%d versions of %d objects were removed", len(v.removed), len(out.Removed))
	}
	for _, l := range out.Locked {
		if h.store.Bytes(l.Name) == nil {
			t.Errorf("%s was locked and is gone", l.Name)
		}
	}
}

func TestCollectorWithoutAClockLeavesOpenRunsAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.store.Time = func() time.Time { return time.Time{} } // a listing without times
	h.begin("", archivetest.NewContent(1, 3)).Abandon()
	if out := h.collect(h.Collector()); len(out.Aborted) != 0 || len(out.Waiting) != 1 {
		t.Errorf("a run of unknown age: %+v", out)
	}
}

func TestTwoExportsAtOnceMakeTwoHeadsThatTheNextRunJoins(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	one, two := archivetest.NewContent(1, 20), archivetest.NewContent(2, 20)
	s1, s2 := t.TempDir(), t.TempDir()
	a, b := h.begin(s1, one), h.begin(s2, two)
	da, err := a.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := b.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := h.Archive.Snapshots(t.Context(), service)
	if err != nil || len(snaps.Heads) != 2 {
		t.Fatalf("%d heads, %v", len(snaps.Heads), err)
	}
	joined := h.export(s1, one)
	if p := joined.Manifest.Parents; len(p) != 2 || joined.Manifest.Sequence != 2 || !slices.Contains(p, da.Hash) || !slices.Contains(p, db.Hash) {
		t.Errorf("parents %v, sequence %d", p, joined.Manifest.Sequence)
	}
	h.expire(da)
	h.collect(h.Collector())
	h.clean(map[*archive.Decision]archivetest.Content{db: two, joined: one})
}

func TestResumedRunReadsOnlyWhatIsNotDurable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := archivetest.NewContent(3, 120)
	var total int64
	for _, data := range c.Objects {
		total += int64(len(data))
	}
	h.store.Fault = func(_ int, op, name string) archivetest.Verdict {
		if archive.ParseName(name).Class == archive.DecisionObject && op == "create" {
			return archivetest.Stop
		}
		return archivetest.Works
	}
	state := t.TempDir()
	run, err := archive.Begin(t.Context(), h.Archive, h.Options(service, state))
	if err != nil {
		t.Fatal(err)
	}
	read, err := archivetest.Fill(t.Context(), run, c)
	if err != nil || read != total {
		t.Fatalf("first attempt read %d of %d, %v", read, total, err)
	}
	if _, err := run.Commit(t.Context(), archive.Summary{}); err == nil {
		t.Fatal("committed in a world that had stopped")
	}
	h.store.Heal()
	again, err := archive.Begin(t.Context(), h.Archive, h.Options(service, state))
	if err != nil {
		t.Fatal(err)
	}
	if again.Run() != run.Run() || !again.Resumed() {
		t.Errorf("run %s instead of %s, resumed: %v", again.Run(), run.Run(), again.Resumed())
	}
	if read, err = archivetest.Fill(t.Context(), again, c); err != nil || read != 0 {
		t.Errorf("the resumed run read %d bytes of %d again, %v", read, total, err)
	}
	d, err := again.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	h.clean(map[*archive.Decision]archivetest.Content{d: c})
}

func TestCrashAfterTheDecisionCostsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(3, 60)
	ctx, cancel := context.WithCancel(t.Context())
	h.store.Fault = func(_ int, op, name string) archivetest.Verdict {
		if archive.ParseName(name).Class == archive.DecisionObject && op == "create" {
			cancel()
			return archivetest.StopAfter
		}
		return archivetest.Works
	}
	if _, err := h.Export(ctx, service, state, c); err == nil {
		t.Fatal("committed in a world that had stopped")
	}
	h.store.Heal()
	run, err := archive.Begin(t.Context(), h.Archive, h.Options(service, state))
	if err != nil {
		t.Fatal(err)
	}
	if read, err := archivetest.Fill(t.Context(), run, c); err != nil || read != 0 {
		t.Errorf("read %d bytes again, %v", read, err)
	}
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil || len(d.Manifest.Parents) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
}

func TestPacksThatAreGoneAreReadAgainFromTheSource(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(3, 30)
	h.export(state, c)
	for _, n := range h.store.Names() {
		if archive.ParseName(n).Class == archive.PackObject {
			h.store.Put(n, nil) // somebody's mistake
		}
	}
	if _, err := h.Export(t.Context(), service, state, c); err == nil {
		t.Fatal("a snapshot names a pack that is not there")
	}
	d := h.export(state, c)
	h.clean(map[*archive.Decision]archivetest.Content{d: c})
}

func TestRunWhoseDecisionAStrangerTookFailsAndTheNextDoesNot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(3, 5)
	run := h.begin(state, c)
	if err := h.store.Create(t.Context(), archive.DecisionName(service, run.Run()), []byte("mine now")); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Commit(t.Context(), archive.Summary{}); !errors.Is(err, archive.ErrFenced) {
		t.Errorf("%v; want ErrFenced", err)
	}
	d := h.export(state, c)
	h.clean(map[*archive.Decision]archivetest.Content{d: c})
}

func TestStoreThatIsFullLeavesNoSnapshot(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	state, c := t.TempDir(), archivetest.NewContent(3, 30)
	packs := 0
	h.store.Fault = func(_ int, op, name string) archivetest.Verdict {
		if op == "create" && archive.ParseName(name).Class == archive.PackObject {
			if packs++; packs > 3 {
				return archivetest.Cut
			}
		}
		return archivetest.Works
	}
	if _, err := h.Export(t.Context(), service, state, c); !errors.Is(err, archivetest.ErrCut) {
		t.Errorf("%v; want the store's error", err)
	}
	if _, err := h.Archive.Snapshots(t.Context(), service); err != nil {
		t.Error(err)
	}
	h.store.Heal()
	d := h.export(state, c)
	h.clean(map[*archive.Decision]archivetest.Content{d: c})
	if _, err := os.Stat(state + "/host.key"); errors.Is(err, fs.ErrNotExist) {
		t.Error("the state directory holds no host key")
	}
}

// Whoever dies between a signature and its document, or while it removes both, leaves a
// signature that nobody comes back to.
func TestCollectorRemovesSignaturesThatWereLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	kept := archivetest.NewContent(1, 5)
	first := h.export("", kept)
	h.expire(h.export("", archivetest.NewContent(2, 5)))
	stale := h.begin(t.TempDir(), archivetest.NewContent(3, 5))
	stale.Abandon()
	h.now = h.now.Add(8 * 24 * time.Hour)
	if out := h.collect(h.Collector()); len(out.Aborted) != 1 {
		t.Fatalf("aborted %v; want the run that was left", out.Aborted)
	}
	before := h.store.Names()
	left := func(namespace string) string {
		doc := []byte("never written: " + namespace)
		sig, err := h.Keeper.Sign(namespace, doc)
		if err != nil {
			t.Fatal(err)
		}
		name := archive.SignatureName(service, dataset.Sum(doc), namespace, sig)
		if err := h.store.Create(t.Context(), name, sig); err != nil {
			t.Fatal(err)
		}
		return name
	}
	want := []string{left("sallyport-keys"), left("sallyport-abort"), left("sallyport-expiry")}
	evidence := left("sallyport-certificate")
	if out := h.collect(h.Collector()); len(out.Removed) != 0 {
		t.Errorf("removed %v while their documents may yet come", out.Removed)
	}
	h.now = h.now.Add(7*24*time.Hour + time.Second)
	out := h.collect(h.Collector())
	slices.Sort(want)
	if !slices.Equal(out.Removed, want) {
		t.Errorf("removed %v; want %v", out.Removed, want)
	}
	if got := h.store.Names(); !slices.Equal(got, slices.Sorted(slices.Values(append(before, evidence)))) {
		t.Errorf("the store has %d objects; want the %d of before, and the signature of a certificate", len(got), len(before))
	}
	if out := h.collect(h.Collector()); out.Condemned != 0 {
		t.Errorf("condemned %d objects again", out.Condemned)
	}
	h.clean(map[*archive.Decision]archivetest.Content{first: kept})
}
