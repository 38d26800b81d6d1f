package verify_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/verify"
)

// A failing target fails where it is told to.
type failing struct {
	*memory.Target
	load, destroy error
	panics        bool
	loading       func()
}

func (f *failing) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	if f.loading != nil {
		f.loading()
	}
	some := func(yield func(dataset.Record, error) bool) {
		n := 0
		for r, err := range recs {
			if n++; f.panics && n == 50 {
				panic("a bug in a target")
			}
			if f.load != nil && n == 50 {
				yield(dataset.Record{}, f.load)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
	return f.Target.Load(ctx, s, some, gap)
}

func (f *failing) Destroy(ctx context.Context, test dataset.ID) error {
	if f.destroy != nil {
		return f.destroy
	}
	return f.Target.Destroy(ctx, test)
}

// verdict certifies what a report says.
func (c *court) verdict(t *testing.T, r *verify.ExitReport) *verify.Predicate {
	t.Helper()
	i := c.try(t, new(memory.Target))
	i.Report = r
	cert, _ := issue(t, i)
	return &cert.Predicate
}

func TestTargetThatFailsGivesAClearVerdictAndLeavesNothing(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(200), "")
	for _, test := range []struct {
		name    string
		target  *failing
		room    func(context.Context, int64) error
		verdict verify.Verdict
		reason  string
	}{
		{"fails half-way", &failing{load: errors.New("connection lost")}, nil, verify.Undecided, "did not come to its end"},
		{"fills up", &failing{load: syscall.ENOSPC}, nil, verify.Undecided, "did not come to its end"},
		{"panics", &failing{panics: true}, nil, verify.Undecided, "did not come to its end"},
		{"has no room", &failing{}, func(_ context.Context, n int64) error { return fmt.Errorf("%d bytes are too many", n) }, verify.Undecided, "did not come to its end"},
		{"cannot be emptied", &failing{destroy: errors.New("denied")}, nil, verify.NotProven, "could not be removed"},
	} {
		test.target.Target = new(memory.Target)
		r, err := verify.ExitTest{Snapshot: c.s, Target: test.target, Kind: "memory", Source: c.view, Room: test.room}.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Errors) != 1 {
			t.Errorf("%s: errors %q", test.name, r.Errors)
		}
		p := c.verdict(t, r)
		if p.Verdict != test.verdict || !strings.Contains(strings.Join(p.Reasons, " "), test.reason) {
			t.Errorf("%s: %s because of %q", test.name, p.Verdict, p.Reasons)
		}
		if test.target.destroy == nil {
			if err := test.target.Begin(t.Context(), dataset.NewID(), nil); err != nil {
				t.Errorf("%s: something is left: %v", test.name, err)
			}
		}
	}
}

func TestTargetThatIsNotEmptyIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(20), "")
	dst := new(memory.Target)
	mine := dataset.Stream{Name: "somebody's own"}
	if err := dst.Begin(t.Context(), "sombodyelsestestssombodyel", []dataset.Stream{mine}); err != nil {
		t.Fatal(err)
	}
	dst.Loaded().Add(mine, dataset.Record{Key: "precious", Data: []byte(`{}`)})
	r, err := verify.ExitTest{Snapshot: c.s, Target: dst, Kind: "memory"}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0], exporters.ErrNotEmpty.Error()) || len(contentsOf(t, dst.Loaded())) != 1 {
		t.Errorf("errors %q, %d records", r.Errors, len(contentsOf(t, dst.Loaded())))
	}
	if p := c.verdict(t, r); p.Verdict != verify.Undecided {
		t.Errorf("verdict %s", p.Verdict)
	}
}

func contentsOf(t *testing.T, src *memory.Source) (all []dataset.Record) {
	t.Helper()
	view, err := src.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	streams, err := view.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		for r, err := range view.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}}) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
	}
	return all
}

func TestInterruptedExitTestDestroysWhatItLoaded(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(200), "")
	ctx, cancel := context.WithCancel(t.Context())
	dst := &failing{Target: new(memory.Target), loading: cancel}
	r, err := verify.ExitTest{Snapshot: c.s, Target: dst, Kind: "memory", Source: c.view}.Run(ctx)
	if !errors.Is(err, context.Canceled) || r.Destroyed != verify.Pass {
		t.Errorf("error %v, destroyed %s", err, r.Destroyed)
	}
	if err := dst.Begin(t.Context(), dataset.NewID(), nil); err != nil {
		t.Errorf("something is left: %v", err)
	}
}

func TestTwoExitTestsAtOnceDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(100), "")
	marks, err := verify.OpenMarks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shared := new(memory.Target)
	reports := make([]*verify.ExitReport, 4)
	var wg sync.WaitGroup
	for i := range reports {
		dst := shared // the first two want the same target
		if i > 1 {
			dst = new(memory.Target)
		}
		test := verify.ExitTest{Snapshot: c.s, Target: dst, Kind: "memory", Source: c.view}
		if i == 3 {
			test.Marks = marks
		}
		wg.Go(func() { reports[i], _ = test.Run(t.Context()) })
	}
	wg.Wait()
	good := 0
	for i, r := range reports {
		if len(r.Errors) == 0 && len(r.Comparisons) == 2 && r.Comparisons[1].Restored[reconcile.OK] == 100 {
			good++
		} else if i > 1 || !strings.Contains(strings.Join(r.Errors, " "), exporters.ErrNotEmpty.Error()) {
			t.Errorf("test %d: errors %q, comparisons %+v", i, r.Errors, r.Comparisons)
		}
	}
	if good < 3 {
		t.Errorf("%d of the tests came to their end", good)
	}
}

func TestExitTestThatWasKilledIsRememberedForTheNextStart(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(20), "")
	dir := t.TempDir()
	killed, err := verify.OpenMarks(dir)
	if err != nil {
		t.Fatal(err)
	}
	dst := &failing{Target: new(memory.Target), destroy: errors.New("the process is gone")}
	r, err := verify.ExitTest{Snapshot: c.s, Target: dst, Kind: "memory", Marks: killed, Where: "memory:one"}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next, err := verify.OpenMarks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := next.Left(); err != nil || len(left) != 0 {
		t.Errorf("while its process lives: %v, %v", left, err)
	}
	if err := killed.Close(); err != nil { // as the end of the process would
		t.Fatal(err)
	}
	left, err := next.Left()
	if err != nil || len(left) != 1 || left[0].Test != r.Test || left[0].Where != "memory:one" {
		t.Fatalf("left %+v, %v", left, err)
	}
	if err := dst.Target.Destroy(t.Context(), left[0].Test); err != nil {
		t.Errorf("destroy what was left: %v", err)
	}
	if err := next.Forget(left[0].Test); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			t.Errorf("left in the directory: %s", e.Name())
		}
	}
}

func TestSourceThatCannotBeReadLeavesTheVerdictUndecided(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(20), "")
	for name, source := range map[string]func(context.Context) (exporters.Exporter, error){
		"unreachable": func(context.Context) (exporters.Exporter, error) { return nil, errors.New("no route") },
		"a stream less": func(ctx context.Context) (exporters.Exporter, error) {
			less := new(memory.Source)
			less.Generate(dataset.Stream{Name: "canary-stream", Blobs: true}, 20, memory.Object(1, 0, 300))
			return less.Open(ctx)
		},
		"ends early": func(ctx context.Context) (exporters.Exporter, error) {
			short := secretSource(20)
			short.Fail = func(_ string, i int) error {
				if i == 3 {
					return errors.New("gone")
				}
				return nil
			}
			return short.Open(ctx)
		},
	} {
		r, err := verify.ExitTest{Snapshot: c.s, Target: new(memory.Target), Kind: "memory", Source: source}.Run(t.Context())
		if err != nil || r.SourceError == "" {
			t.Fatalf("%s: %v, source error %q", name, err, r.SourceError)
		}
		if p := c.verdict(t, r); p.Verdict != verify.Undecided {
			t.Errorf("%s: %s because of %q", name, p.Verdict, p.Reasons)
		}
	}
	r, err := verify.ExitTest{Snapshot: c.s, Target: new(memory.Target), Kind: "memory"}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p := c.verdict(t, r); p.Verdict != verify.Proven || !p.Target.Stressed {
		t.Errorf("stressed: %s because of %q", p.Verdict, p.Reasons)
	}
}

func TestStatusesOfASourceThatGoesOnChanging(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	s := dataset.Stream{Name: "rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}}
	row := func(id int, at time.Time) dataset.Record {
		return dataset.Record{Stream: "rows", Key: fmt.Sprintf("[%d]", id), Data: fmt.Appendf(nil, `{"id":%d,"updated_at":%q}`, id, at.UTC().Format(time.RFC3339))}
	}
	for i := range 100 {
		src.Add(s, row(i, time.Now().Add(-time.Hour)))
	}
	c := newCourt(t, src, "")
	later := time.Now().Add(time.Minute)
	src.Add(s, row(1000, later))
	if err := errors.Join(src.Put(row(7, later)), src.Remove("rows", "[9]", 0)); err != nil {
		t.Fatal(err)
	}
	cert, _ := issue(t, c.try(t, new(memory.Target)))
	got := cert.Predicate.Streams[0].AgainstSource
	if got[reconcile.Added] != 1 || got[reconcile.ChangedSince] != 1 || got[reconcile.Vanished] != 1 || got[reconcile.OK] != 98 || cert.Predicate.Verdict != verify.Proven {
		t.Errorf("%s with %v because of %q", cert.Predicate.Verdict, got, cert.Predicate.Reasons)
	}
	if err := src.Put(row(8, time.Now().Add(-30*time.Minute))); err != nil { // otherwise, and nothing says that it is newer
		t.Fatal(err)
	}
	if cert, _ = issue(t, c.try(t, new(memory.Target))); cert.Predicate.Verdict != verify.Undecided {
		t.Errorf("a change without evidence: %s", cert.Predicate.Verdict)
	}
}

func TestRoomIsAskedForBeforeAnythingIsLoaded(t *testing.T) {
	t.Parallel()
	room := verify.RoomIn(t.TempDir())
	if room == nil {
		t.Skip("free space cannot be asked for on this system")
	}
	if err := room(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if err := room(t.Context(), 1<<62); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("room for 4 EiB: %v", err)
	}
}
