package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
)

// An ExitTest restores a snapshot into an empty target, reads it back and compares it
// with the archive and with the source.
type ExitTest struct {
	Snapshot *archive.Snapshot // unlocked
	Target   exporters.Target  // empty; it is destroyed at the end
	Kind     string            // of the target, for the report

	// Source opens a view of the source as it is now; nil leaves the fourth column
	// out, as a stressed test does.
	Source func(ctx context.Context) (exporters.Exporter, error)

	Acceptance []Acceptance
	TempDir    string                                  // for spools; empty means the system's
	Now        func() time.Time                        // nil means time.Now
	Progress   func(step string, p *transfer.Progress) // called as each step begins; may be nil
}

// An Acceptance asks a question of the restored data.
type Acceptance struct {
	Name string
	Ask  func(ctx context.Context, target exporters.Target) (Outcome, string) // the string says what came, for people
}

// An ExitReport is what an exit test found. It is the material of a certificate.
type ExitReport struct {
	Test        dataset.ID
	Started     time.Time
	Ended       time.Time
	Verified    *VerifyReport
	Losses      []dataset.Loss
	Gaps        []dataset.Gap // what the target could not take, at most 10,000
	GapCount    int64
	Comparisons []reconcile.Comparison
	Acceptance  []AcceptanceResult
	SelfTest    []Planted
	Steps       []Step
	RTO         time.Duration // from the beginning of the restore to its end
	Destroyed   Outcome       // the target is empty again
	SourceError string        // why there is no fourth column although one was asked for
	Errors      []string      // what kept the test from deciding
}

// A Step is a part of the test with its time.
type Step struct {
	Name  string        `json:"name"`
	Start time.Time     `json:"start"`
	Took  time.Duration `json:"took_ns"`
}

// An AcceptanceResult is the answer to a question.
type AcceptanceResult struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
}

// Run tests. The report is returned as far as the test went; what kept it from going
// on is in it. The error is that of the context alone.
func (t ExitTest) Run(ctx context.Context) (*ExitReport, error) {
	if t.Now == nil {
		t.Now = time.Now
	}
	r := &ExitReport{Test: dataset.NewID(), Started: t.Now()}
	run := &exitRun{ExitTest: t, ExitReport: r}
	run.all(ctx)
	r.Ended = t.Now()
	return r, ctx.Err()
}

// An exitRun is a test that is going on.
type exitRun struct {
	ExitTest
	*ExitReport
}

// step runs one step and takes its time; a failure is recorded.
func (t *exitRun) step(name string, f func(p *transfer.Progress) error) bool {
	p := new(transfer.Progress)
	if t.Progress != nil {
		t.Progress(name, p)
	}
	start := t.Now()
	err := f(p)
	t.Steps = append(t.Steps, Step{name, start, t.Now().Sub(start)})
	if err != nil {
		t.Errors = append(t.Errors, fmt.Sprintf("%s: %v", name, err))
	}
	return err == nil
}

func (t *exitRun) all(ctx context.Context) {
	t.step("self-test of the verifier", func(*transfer.Progress) (err error) {
		t.SelfTest, err = SelfTest(ctx, t.Snapshot)
		return err
	})
	t.step("verify the archive", func(p *transfer.Progress) (err error) {
		v := Verification{Snapshot: t.Snapshot, Progress: func(records, bytes int64) { p.Records.Store(records); p.Bytes.Store(bytes) }}
		t.Verified, err = v.Run(ctx)
		return err
	})
	began := t.Now()
	restored := t.step("restore", func(p *transfer.Progress) error { return t.restore(ctx, p) })
	t.RTO = t.Now().Sub(began)
	if restored {
		t.compare(ctx)
		t.step("acceptance checks", func(*transfer.Progress) error { t.accept(ctx); return nil })
	}
	t.destroy(ctx)
}

func (t *exitRun) restore(ctx context.Context, p *transfer.Progress) error {
	out, err := transfer.Restore{Snapshot: t.Snapshot, Target: t.Target, Test: t.Test, Progress: p}.Run(ctx)
	if out != nil {
		t.Losses, t.Gaps = out.Losses, out.Gaps
		for _, s := range out.Streams {
			t.GapCount += s.Gaps
		}
	}
	return err
}

// compare reads the restored copy and the source back and compares each stream.
func (t *exitRun) compare(ctx context.Context) {
	source, units := t.openSource(ctx)
	if source != nil {
		defer source.Close()
	}
	for i := range t.Snapshot.Descriptor.Resources {
		e := &t.Snapshot.Descriptor.Resources[i].Sallyport
		t.step("compare "+e.Stream.Name, func(p *transfer.Progress) error {
			c, err := t.stream(ctx, e, source, units, p)
			if c != nil {
				t.Comparisons = append(t.Comparisons, *c)
			}
			return err
		})
	}
}

// openSource opens the source as it is now. A source that cannot be reached takes the
// fourth column away, and nothing else.
func (t *exitRun) openSource(ctx context.Context) (exporters.Exporter, map[string][]dataset.Stream) {
	if t.Source == nil {
		return nil, nil
	}
	var streams []dataset.Stream
	source, err := t.Source(ctx)
	if err == nil {
		if streams, err = source.Streams(ctx); err != nil {
			err = errors.Join(err, source.Close())
		}
	}
	if err != nil {
		t.SourceError = err.Error()
		return nil, nil
	}
	units := map[string][]dataset.Stream{}
	for _, s := range streams {
		units[s.Name] = []dataset.Stream{s}
		if s.Group != "" {
			units[s.Name] = slices.DeleteFunc(slices.Clone(streams), func(o dataset.Stream) bool { return o.Group != s.Group })
		}
	}
	return source, units
}

// stream compares one stream.
func (t *exitRun) stream(ctx context.Context, e *archive.StreamEntry, source exporters.Exporter, units map[string][]dataset.Stream, p *transfer.Progress) (*reconcile.Comparison, error) {
	exported := t.Snapshot.Manifest.Started.Time
	r, err := reconcile.New(t.withoutLosses(e.Stream), t.TempDir, exported)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := r.Add(ctx, reconcile.Archived, counted(t.Snapshot.Records(ctx, e), p)); err != nil {
		return nil, err
	}
	back := func() iter.Seq2[dataset.Record, error] {
		return t.Target.Read(ctx, exporters.Query{Streams: []dataset.Stream{e.Stream}})
	}
	if err := r.Add(ctx, reconcile.Restored, counted(back(), p)); err != nil {
		return nil, err
	}
	if unit := units[e.Stream.Name]; source != nil && unit != nil {
		q := exporters.Query{Streams: unit}
		if e.Stream.Blobs && len(unit) == 1 {
			q.Prior = t.Snapshot.Records(ctx, e)
		}
		if err := r.Add(ctx, reconcile.SourceNow, counted(source.Read(ctx, q), p)); err != nil {
			t.SourceError = err.Error()
			r.Forget(reconcile.SourceNow)
		}
	}
	c, err := r.Compare(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(c.Differences, func(a, b reconcile.Difference) int {
		if n := strings.Compare(a.Key, b.Key); n != 0 {
			return n
		}
		return a.Ordinal - b.Ordinal
	})
	return c, t.explain(ctx, c, r.Stream, t.Snapshot.Records(ctx, e), back())
}

// withoutLosses withholds the fields that the target said it cannot carry.
func (t *exitRun) withoutLosses(s dataset.Stream) dataset.Stream {
	s.Volatile = slices.Clone(s.Volatile)
	for _, l := range t.Losses {
		if l.Stream == s.Name && l.Field != "" && !slices.Contains(s.Volatile, l.Field) {
			s.Volatile = append(s.Volatile, l.Field)
		}
	}
	return s
}

func counted(recs iter.Seq2[dataset.Record, error], p *transfer.Progress) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for r, err := range recs {
			p.Records.Add(1)
			if !yield(r, err) {
				return
			}
		}
	}
}

// explained is how many differences are explained field by field.
const explained = 1000

// explain names the fields in which records differ, by reading both sides once more.
func (t *exitRun) explain(ctx context.Context, c *reconcile.Comparison, s dataset.Stream, archived, restored iter.Seq2[dataset.Record, error]) error {
	wanted := map[string]*reconcile.Difference{}
	for i := range c.Differences {
		if d := &c.Differences[i]; d.Status == reconcile.Mismatch && len(wanted) < explained {
			wanted[fmt.Sprint(d.Ordinal, "/", d.Key)] = d
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	type side struct {
		data []byte
		blob dataset.Hash
	}
	collect := func(recs iter.Seq2[dataset.Record, error]) (map[string]side, error) {
		found := map[string]side{}
		for r, err := range recs {
			if err != nil {
				return nil, err
			}
			id := fmt.Sprint(r.Ordinal, "/", r.Key)
			if wanted[id] == nil {
				continue
			}
			f := side{data: slices.Clone(r.Data)}
			if r.Blob != nil {
				if f.blob, err = reconcile.BlobHash(ctx, r.Blob); err != nil {
					continue // its absence is a difference of its own
				}
			}
			found[id] = f
		}
		return found, nil
	}
	left, err := collect(archived)
	if err != nil {
		return err
	}
	right, err := collect(restored)
	if err != nil {
		return err
	}
	cmp := dataset.NewComparer([32]byte{}, s)
	for id, d := range wanted {
		a, okA := left[id]
		b, okB := right[id]
		if !okA || !okB {
			continue
		}
		d.Blob = a.blob != b.blob
		if d.Fields, _, err = cmp.Diff(a.data, b.data, 16); err != nil {
			return err
		}
	}
	return nil
}

func (t *exitRun) accept(ctx context.Context) {
	for _, a := range t.ExitTest.Acceptance {
		o, detail := a.Ask(ctx, t.Target)
		t.ExitReport.Acceptance = append(t.ExitReport.Acceptance, AcceptanceResult{a.Name, o, detail})
	}
}

// destroy removes what the test loaded, also after the context has ended.
func (t *exitRun) destroy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancel()
	ok := t.step("destroy the restored copy", func(*transfer.Progress) error {
		err := t.Target.Destroy(ctx, t.Test)
		if errors.Is(err, exporters.ErrNotOurs) || errors.Is(err, fs.ErrNotExist) {
			return nil // the test never began to fill it
		}
		return err
	})
	if t.Destroyed = Fail; ok {
		t.Destroyed = Pass
	}
}
