package transfer_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/transfer"
)

// A runningClock goes on by a step each time it is looked at.
type runningClock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration
}

func (c *runningClock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func TestRunThatTakesLongerThanADayIsContinuedAndCompleteInTheEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := &memory.Source{Reuse: true}
	src.Generate(dataset.Stream{Name: "objects", Blobs: true}, 400, memory.Object(1, 2000, 9000))
	src.Generate(memory.RowStream("rows"), 400, memory.Row(1))
	clock := &runningClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), step: 10 * time.Minute}
	job := b.job(src)
	job.Options.Now = clock.time
	var runs, gaps int // gaps of the run that goes on
	job.OnRun = func() { runs++; gaps = 0 }
	job.OnGap = func(dataset.Gap) { gaps++ }
	d, err := transfer.Export(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	all, err := b.Archive.Snapshots(t.Context(), "memory")
	if err != nil {
		t.Fatal(err)
	}
	if len(all.All) < 3 || d.Manifest.State != archive.Complete || d.Manifest.Counts.Records != 800 {
		t.Errorf("%d snapshots; the last is %s with %d records", len(all.All), d.Manifest.State, d.Manifest.Counts.Records)
	}
	if runs != len(all.All) || gaps != 0 {
		t.Errorf("%d runs of %d were announced, the last with %d gaps", runs, len(all.All), gaps)
	}
	for i, s := range all.All[:len(all.All)-1] {
		if s.Manifest.State != archive.Incomplete || s.Manifest.Gaps[dataset.ToBeContinued] != 1 {
			t.Errorf("snapshot %d is %s with gaps %v", i, s.Manifest.State, s.Manifest.Gaps)
		}
	}
	dst := new(memory.Target)
	if _, err := (transfer.Restore{Snapshot: b.snapshot(t, d), Target: dst, Test: dataset.NewID()}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	compare(t, contents(t, src), contents(t, dst.Loaded()))
}

func TestTwoExportsAtOnceMakeTwoHeadsThatTheNextOneJoins(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := new(memory.Source)
	src.Generate(dataset.Stream{Name: "objects", Blobs: true}, 300, memory.Object(2, 0, 3000))
	var wg sync.WaitGroup
	started := make(chan struct{}, 2)
	for range 2 {
		job := b.job(src)
		job.Options.State = t.TempDir()
		job.Open = func(ctx context.Context) (exporters.Exporter, error) {
			v, err := src.Open(ctx)
			return &slowStart{Exporter: v, started: started}, err
		}
		wg.Go(func() {
			if _, err := transfer.Export(t.Context(), job); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := b.Archive.Snapshots(t.Context(), "memory")
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Heads) != 2 {
		t.Fatalf("%d heads", len(all.Heads))
	}
	d, err := transfer.Export(t.Context(), b.job(src))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Manifest.Parents) != 2 || d.Manifest.Sequence != 2 {
		t.Errorf("parents %v, sequence %d", d.Manifest.Parents, d.Manifest.Sequence)
	}
}

// A slowStart waits, when it is first read, for another that is as far: both runs have
// then read the heads.
type slowStart struct {
	exporters.Exporter
	started chan struct{}
}

func (s *slowStart) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	s.started <- struct{}{}
	for len(s.started) < 2 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return s.Exporter.Read(ctx, q)
}
