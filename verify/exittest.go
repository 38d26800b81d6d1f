package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

	// Withhold says which records must not come back because they were erased at the
	// source; nil withholds nothing. It is safe for concurrent use. They are not restored,
	// counted as withheld, and too many if the restored copy has them all the same.
	Withhold func(stream, key string) bool

	// Room is asked, before anything is loaded, whether the target has room for so many
	// bytes. Nil means that nobody knows.
	Room func(ctx context.Context, bytes int64) error

	// Marks, if not nil, remembers the test until its target is destroyed, so that the
	// next start can clean up after one that was killed. Where says how the target is
	// found again; it holds no secret.
	Marks *Marks
	Where string

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

// An ExitReport is what an exit test found. It is the material of a certificate. It
// names items of the source and is no public document.
type ExitReport struct {
	Test        dataset.ID
	TargetKind  string
	Started     time.Time
	Ended       time.Time
	Verified    *VerifyReport
	Losses      []dataset.Loss
	Restored    Outcome       // everything was loaded; Unknown if the restore did not come to its end
	Gaps        []dataset.Gap // what the target could not take, at most 10,000
	GapCount    int64
	GapsIn      map[string]int64 // by stream
	Comparisons []reconcile.Comparison
	TargetNotes []string // what the target says of the restore, for people
	Acceptance  []AcceptanceResult
	SelfTest    []Planted
	Steps       []Step
	RTO         time.Duration // from the beginning of the restore to its end
	Destroyed   Outcome       // the target is empty again
	Stressed    bool          // the source was not to be asked
	NotArchived []string      // streams that the source offers now and the snapshot does not have
	SourceError string        // why there is no fourth column, or not for all, although one was asked for
	Errors      []string      // what kept the test from deciding
}

// A Step is a part of the test with its time.
type Step struct {
	Name    string        `json:"name"`
	Streams []string      `json:"streams,omitempty"` // that it is about, if not all
	Start   time.Time     `json:"start"`
	Took    time.Duration `json:"took_ns"`
	Outcome Outcome       `json:"outcome"` // Pass if it came to its end, whatever it found
}

// An AcceptanceResult is the answer to a question.
type AcceptanceResult struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
}

// Run tests. The report is returned as far as the test went; what kept it from going
// on is in it. The error is that of the context alone. Whatever happens, what was loaded
// into the target is destroyed.
func (t ExitTest) Run(ctx context.Context) (*ExitReport, error) {
	if t.Now == nil {
		t.Now = time.Now
	}
	r := &ExitReport{Test: dataset.NewID(), TargetKind: t.Kind, Started: t.Now(), Stressed: t.Source == nil, GapsIn: map[string]int64{}}
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

// step runs one step and takes its time; a failure is recorded. A connector that panics
// fails its step and nothing else, so that the target is destroyed all the same.
func (t *exitRun) step(name string, streams []string, f func(p *transfer.Progress) error) bool {
	p := new(transfer.Progress)
	title := strings.Join(append([]string{name}, streams...), " ")
	if t.Progress != nil {
		t.Progress(title, p)
	}
	start := t.Now()
	err := func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("it panicked: %v", v)
			}
		}()
		return f(p)
	}()
	s := Step{Name: name, Streams: streams, Start: start, Took: t.Now().Sub(start), Outcome: Pass}
	if err != nil {
		s.Outcome = Unknown
		t.Errors = append(t.Errors, fmt.Sprintf("%s: %v", title, err))
	}
	t.Steps = append(t.Steps, s)
	return err == nil
}

func (t *exitRun) all(ctx context.Context) {
	t.step("self-test of the verifier", nil, func(*transfer.Progress) (err error) {
		t.SelfTest, err = SelfTest(ctx, t.Snapshot)
		return err
	})
	t.step("verify the archive", nil, func(p *transfer.Progress) (err error) {
		v := Verification{Snapshot: t.Snapshot, Progress: func(records, bytes int64) { p.Records.Store(records); p.Bytes.Store(bytes) }}
		t.Verified, err = v.Run(ctx)
		return err
	})
	if !t.step("prepare", nil, func(*transfer.Progress) error { return t.prepare(ctx) }) {
		t.ExitReport.Restored = Unknown
		t.Destroyed = Pass // nothing was loaded
		return
	}
	if t.restore(ctx) {
		t.compare(ctx)
		t.step("acceptance checks", nil, func(*transfer.Progress) error { t.accept(ctx); return nil })
	}
	t.destroy(ctx)
}

// prepare asks for room and leaves a mark, before the target is touched.
func (t *exitRun) prepare(ctx context.Context) error {
	if t.Room != nil {
		if err := t.Room(ctx, t.size()); err != nil {
			return fmt.Errorf("room for %d bytes: %w", t.size(), err)
		}
	}
	if t.Marks != nil {
		return t.Marks.put(Mark{Test: t.Test, Where: t.Where, Started: archive.At(t.Started)})
	}
	return nil
}

// size is about how many bytes a restore takes: those of all blobs, and of all packs for
// the records.
func (t *exitRun) size() int64 {
	return t.Snapshot.Manifest.Counts.BlobBytes + t.Snapshot.Manifest.Counts.PackBytes
}

// restore fills the target, and takes the time of each of its steps.
func (t *exitRun) restore(ctx context.Context) bool {
	var out *transfer.Restored
	began := t.Now()
	ok := t.step("restore", nil, func(p *transfer.Progress) (err error) {
		out, err = transfer.Restore{Snapshot: t.Snapshot, Target: t.Target, Test: t.Test, Withhold: t.Withhold, Progress: p}.Run(ctx)
		return err
	})
	t.RTO = t.Now().Sub(began)
	if out != nil {
		t.Losses, t.Gaps, t.TargetNotes = out.Losses, out.Gaps, out.Notes
		for _, s := range out.Streams {
			t.GapCount += s.Gaps
			t.GapsIn[s.Name] += s.Gaps
		}
		for _, s := range out.Steps {
			step := Step{Name: "restore: " + s.Name, Start: began, Took: s.Took, Outcome: Pass}
			if name, isLoad := strings.CutPrefix(s.Name, "load "); isLoad {
				step.Name, step.Streams = "restore: load", []string{name}
			}
			began = began.Add(s.Took)
			t.Steps = append(t.Steps, step)
		}
	}
	switch {
	case !ok:
		if t.ExitReport.Restored = Unknown; len(t.Steps) > 0 && out != nil && len(out.Steps) > 0 {
			t.Steps[len(t.Steps)-1].Outcome = Unknown // the one that did not come to its end
		}
	case t.GapCount > 0:
		t.ExitReport.Restored = Fail
	default:
		t.ExitReport.Restored = Pass
	}
	return ok
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
	ok := t.step("destroy the restored copy", nil, func(*transfer.Progress) error {
		err := t.Target.Destroy(ctx, t.Test)
		if errors.Is(err, exporters.ErrNotOurs) || errors.Is(err, fs.ErrNotExist) {
			err = nil // the test never began to fill it
		}
		if err == nil && t.Marks != nil {
			err = t.Marks.remove(t.Test)
		}
		return err
	})
	if t.Destroyed = Fail; ok {
		t.Destroyed = Pass
	}
}
