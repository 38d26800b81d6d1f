package verify_test

import (
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/verify"
)

// good is what was measured in a test that proves everything.
func good() *verify.Predicate {
	p := &verify.Predicate{
		Scope: verify.Scope{Streams: 1, Grade: archive.DoubleRead},
		Streams: []verify.StreamLine{{Number: 1, Grade: archive.DoubleRead, Records: 10, Archived: 10, Restored: 10, Source: 10,
			AgainstRestored: map[reconcile.Status]int64{reconcile.OK: 10}, AgainstSource: map[reconcile.Status]int64{reconcile.OK: 10}}},
		Archive: verify.ArchiveState{State: archive.Complete, Integrity: verify.Pass, Covered: true, Freshness: verify.Pass,
			Packs: 2, PacksRead: 2, Content: verify.Pass},
		Keys:     verify.KeyTest{Keys: []verify.KeyResult{{Outcome: verify.Pass, OpenedBy: []string{"age1..."}}}},
		Target:   verify.TargetState{Kind: "dir", Restored: verify.Pass, Destroyed: verify.Pass},
		SelfTest: []verify.Planted{{Fault: "a record dropped", Found: verify.Pass}},
	}
	p.Objectives.RPO = verify.Measure{ObjectiveMS: 1000, MeasuredMS: 10, Outcome: verify.Pass}
	p.Objectives.RTO = verify.Measure{ObjectiveMS: 1000, MeasuredMS: 10, Outcome: verify.Pass}
	p.Acceptance = []verify.Answer{{Number: 1, Outcome: verify.Pass}}
	return p
}

func TestVerdictFollowsFromWhatWasMeasured(t *testing.T) {
	t.Parallel()
	restored := func(s reconcile.Status) func(p *verify.Predicate) {
		return func(p *verify.Predicate) {
			p.Streams[0].AgainstRestored = map[reconcile.Status]int64{reconcile.OK: 9, s: 1}
		}
	}
	source := func(s reconcile.Status) func(p *verify.Predicate) {
		return func(p *verify.Predicate) {
			p.Streams[0].AgainstSource = map[reconcile.Status]int64{reconcile.OK: 9, s: 1}
		}
	}
	for _, test := range []struct {
		name string
		do   func(p *verify.Predicate)
		want verify.Verdict
		line string // whose finding is the reason
	}{
		{"everything passes", func(*verify.Predicate) {}, verify.Proven, ""},
		{"nothing was measured", func(p *verify.Predicate) { *p = verify.Predicate{} }, verify.Undecided, verify.LineIntegrity},
		{"a record is missing", restored(reconcile.Missing), verify.NotProven, verify.LineComparison},
		{"a record differs", restored(reconcile.Mismatch), verify.NotProven, verify.LineComparison},
		{"a record too many", restored(reconcile.Extra), verify.NotProven, verify.LineComparison},
		{"a record twice", restored(reconcile.Repeated), verify.NotProven, verify.LineComparison},
		{"a status nobody knows", restored("curious"), verify.Undecided, verify.LineComparison},
		{"a record unchecked", restored(reconcile.Unchecked), verify.Undecided, verify.LineComparison},
		{"fewer equal than archived", restored(reconcile.OK), verify.NotProven, verify.LineComparison},
		{"a record withheld", func(p *verify.Predicate) {
			p.Streams[0].Archived, p.Streams[0].Restored = 9, 9
			p.Streams[0].AgainstRestored = map[reconcile.Status]int64{reconcile.OK: 9, reconcile.Withheld: 1}
		}, verify.Proven, ""},
		{"more withheld than missing", restored(reconcile.Withheld), verify.NotProven, verify.LineComparison},
		{"fewer withheld than missing", func(p *verify.Predicate) {
			p.Streams[0].Archived, p.Streams[0].Restored = 8, 8
			p.Streams[0].AgainstRestored = map[reconcile.Status]int64{reconcile.OK: 8, reconcile.Withheld: 1}
		}, verify.NotProven, verify.LineComparison},
		{"more than nothing withheld", func(p *verify.Predicate) {
			p.Streams[0].Archived, p.Streams[0].Restored = 11, 11
			p.Streams[0].AgainstRestored = map[reconcile.Status]int64{reconcile.OK: 11, reconcile.Withheld: -1}
		}, verify.NotProven, verify.LineComparison},
		{"a stream that was not read back", func(p *verify.Predicate) { p.Streams[0].Restored = -1 }, verify.Undecided, verify.LineComparison},
		{"a stream that is not listed", func(p *verify.Predicate) { p.Scope.Streams = 2 }, verify.Undecided, verify.LineComparison},
		{"the archive delivers less than it says", func(p *verify.Predicate) { p.Streams[0].Records = 11 }, verify.NotProven, verify.LineComparison},
		{"undecided at the source", source(reconcile.Undecided), verify.Undecided, verify.LineSource},
		{"unstable at the source", source(reconcile.Unstable), verify.Undecided, verify.LineSource},
		{"changed since", source(reconcile.ChangedSince), verify.Proven, ""},
		{"added since", source(reconcile.Added), verify.Proven, ""},
		{"vanished since", source(reconcile.Vanished), verify.Proven, ""},
		{"a known gap at the source", source(reconcile.Unchecked), verify.Proven, ""},
		{"the source was not read", func(p *verify.Predicate) { p.Streams[0].Source = -1 }, verify.Undecided, verify.LineSource},
		{"the source was not to be read", func(p *verify.Predicate) {
			p.Streams[0].Source, p.Target.Stressed = -1, true
		}, verify.Proven, ""},
		{"a gap", func(p *verify.Predicate) {
			p.Gaps = []verify.GapCount{{Stream: 1, Code: dataset.Denied, Count: 2, Waived: 1}}
		}, verify.NotProven, verify.LineGaps},
		{"a waived gap", func(p *verify.Predicate) {
			p.Gaps = []verify.GapCount{{Stream: 1, Code: dataset.Denied, Count: 2, Waived: 2}}
			p.Archive.State = archive.Incomplete
		}, verify.Proven, ""},
		{"incomplete for no reason", func(p *verify.Predicate) { p.Archive.State = archive.Incomplete }, verify.Undecided, verify.LineGaps},
		{"a grade too low", func(p *verify.Predicate) { p.Streams[0].Grade = archive.CountChecked }, verify.NotProven, verify.LineComplete},
		{"a grade nobody knows", func(p *verify.Predicate) { p.Streams[0].Grade = "splendid" }, verify.NotProven, verify.LineComplete},
		{"a loss", func(p *verify.Predicate) { p.Streams[0].Losses, p.Target.Losses = 1, 1 }, verify.Proven, ""},
		{"the target did not take a record", func(p *verify.Predicate) { p.Target.Gaps = 1 }, verify.NotProven, verify.LineRestore},
		{"the restore ended early", func(p *verify.Predicate) { p.Target.Restored = verify.Unknown }, verify.Undecided, verify.LineRestore},
		{"damage", func(p *verify.Predicate) { p.Archive.Integrity, p.Archive.Findings = verify.Fail, 1 }, verify.NotProven, verify.LineIntegrity},
		{"a forgotten check", func(p *verify.Predicate) { p.Archive.Integrity = verify.NotRun }, verify.Undecided, verify.LineIntegrity},
		{"a check of a sample", func(p *verify.Predicate) { p.Archive.PacksRead = 1 }, verify.Undecided, verify.LineIntegrity},
		{"a check of other snapshots", func(p *verify.Predicate) { p.Archive.Covered = false }, verify.Undecided, verify.LineIntegrity},
		{"an older state", func(p *verify.Predicate) { p.Archive.Freshness = verify.Fail }, verify.NotProven, verify.LineFreshness},
		{"no earlier state", func(p *verify.Predicate) { p.Archive.Freshness = verify.NotRun }, verify.Proven, ""},
		{"contents that were not read", func(p *verify.Predicate) { p.Archive.Content = verify.NotRun }, verify.Undecided, verify.LineContent},
		{"a key that nobody opens", func(p *verify.Predicate) { p.Keys.Keys[0].Outcome = verify.Fail }, verify.NotProven, verify.LineKeys},
		{"no key test", func(p *verify.Predicate) { p.Keys.Keys = nil }, verify.Undecided, verify.LineKeys},
		{"a wrong answer", func(p *verify.Predicate) { p.Acceptance[0].Outcome = verify.Fail }, verify.NotProven, verify.LineAcceptance},
		{"no answer", func(p *verify.Predicate) { p.Acceptance[0].Outcome = verify.NotRun }, verify.Undecided, verify.LineAcceptance},
		{"no question", func(p *verify.Predicate) { p.Acceptance = nil }, verify.Proven, ""},
		{"an old snapshot", func(p *verify.Predicate) {
			p.Objectives.RPO = verify.Measure{ObjectiveMS: 10, MeasuredMS: 11, Outcome: verify.Fail}
		}, verify.NotProven, verify.LineRPO},
		{"a slow restore that says it passes", func(p *verify.Predicate) { p.Objectives.RTO.MeasuredMS = 1001 }, verify.NotProven, verify.LineRTO},
		{"no objectives", func(p *verify.Predicate) { p.Objectives = verify.Measures{} }, verify.Proven, ""},
		{"a verifier that overlooks", func(p *verify.Predicate) { p.SelfTest[0].Found = verify.Fail }, verify.NotProven, verify.LineSelfTest},
		{"no self-test", func(p *verify.Predicate) { p.SelfTest = nil }, verify.Undecided, verify.LineSelfTest},
		{"a copy that is left", func(p *verify.Predicate) { p.Target.Destroyed = verify.Fail }, verify.NotProven, verify.LineDestroyed},
	} {
		p := good()
		test.do(p)
		lines := verify.Assess(p)
		got, reasons := verify.Decide(lines)
		if got != test.want {
			t.Errorf("%s: %s because of %q; want %s", test.name, got, reasons, test.want)
		}
		if test.line == "" {
			continue
		}
		found := false
		for _, l := range lines {
			found = found || l.ID == test.line && strings.Contains(strings.Join(reasons, "\n"), l.Finding)
		}
		if !found {
			t.Errorf("%s: the reasons %q are not those of the line %s", test.name, reasons, test.line)
		}
	}
}

func TestEveryLineSpeaksInSentences(t *testing.T) {
	t.Parallel()
	for _, p := range []*verify.Predicate{good(), {}} {
		for _, l := range verify.Assess(p) {
			if !strings.HasSuffix(l.Finding, ".") || strings.Contains(l.Finding, "%!") || strings.Contains(l.Finding, "..") {
				t.Errorf("%s: %q", l.ID, l.Finding)
			}
		}
	}
}

func TestControlsAreMetOnlyByWhatWasMeasured(t *testing.T) {
	t.Parallel()
	controls := []verify.Control{{Clause: "1", Lines: []string{"integrity", "gaps"}}, {Clause: "2", Lines: []string{"gaps"}}, {Clause: "3", Lines: []string{"integrity", "nobody asked"}}}
	mapped := verify.MapControls(controls, []verify.Line{{ID: "integrity", Outcome: verify.Pass}, {ID: "gaps", Outcome: verify.Fail}})
	for i, want := range []verify.ControlStatus{verify.NotMet, verify.NotMet, verify.NotAssessed} {
		if mapped[i].Status != want {
			t.Errorf("clause %s is %s; want %s", mapped[i].Clause, mapped[i].Status, want)
		}
	}
	for name, text := range map[string]string{
		"an unknown line":   "version: 1\ncontrols: [{standard: s, clause: c, subject: x, lines: [beauty]}]",
		"an unknown member": "version: 1\ncontrols: [{standard: s, clause: c, subject: x, lines: [gaps], more: 1}]",
		"nothing":           "version: 1",
		"a clause twice":    "version: 1\ncontrols: [{standard: s, clause: c, subject: x, lines: [gaps]}, {standard: s, clause: c, subject: y, lines: [gaps]}]",
		"a second document": "version: 1\ncontrols: [{standard: s, clause: c, subject: x, lines: [gaps]}]\n---\nversion: 1",
	} {
		if _, err := verify.ParseControls([]byte(text)); err == nil {
			t.Errorf("a file with %s was accepted", name)
		}
	}
}

func TestSummarySaysTheVerdictFirst(t *testing.T) {
	t.Parallel()
	c := &verify.Certificate{Subject: []verify.Subject{{Name: "case-files@run"}}, Predicate: *good()}
	c.Predicate.Lines = verify.Assess(&c.Predicate)
	c.Predicate.Verdict, c.Predicate.Reasons = verify.Decide(c.Predicate.Lines)
	var b strings.Builder
	if err := c.Summary(&b); err != nil || !strings.HasPrefix(b.String(), "case-files@run: proven\n") || !strings.Contains(b.String(), "comparison    pass") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestSnapshotSufficesIfEveryStreamDoes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		grades map[archive.Grade]int64
		least  archive.Grade
		want   bool
	}{
		{map[archive.Grade]int64{archive.Exact: 1, archive.DoubleRead: 2}, archive.DoubleRead, true},
		{map[archive.Grade]int64{archive.Exact: 9, archive.CountChecked: 1}, archive.DoubleRead, false},
		{map[archive.Grade]int64{archive.BestEffort: 1}, archive.BestEffort, true},
		{map[archive.Grade]int64{"splendid": 1}, archive.BestEffort, false},
		{nil, archive.Exact, true},
		{nil, "splendid", false},
	} {
		if got := verify.GradeSuffices(&archive.Manifest{Grades: test.grades}, test.least); got != test.want {
			t.Errorf("%v suffices for %s: %v; want %v", test.grades, test.least, got, test.want)
		}
	}
}
