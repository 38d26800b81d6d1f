package verify_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/verify"
)

// withholding certifies a test in which one record is on the register of erasures.
func withholding(t *testing.T, c *court, dst *memory.Target, erased string) *verify.Certificate {
	t.Helper()
	i := c.try(t, new(memory.Target))
	r, err := verify.ExitTest{Snapshot: c.s, Target: dst, Kind: "memory", Source: c.view,
		Withhold: func(stream, key string) bool { return stream == "canary-stream" && key == erased }}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i.Report = r
	cert, _ := issue(t, i)
	return cert
}

func TestErasedRecordIsNotRestoredAndTheExitIsProvenWithoutIt(t *testing.T) {
	t.Parallel()
	const n = 50
	c := newCourt(t, secretSource(n), "")
	erased := memory.Object(1, 0, 300)(17).Key
	c.src.Mutate = func(r dataset.Record) []dataset.Record {
		if r.Key == erased {
			return nil // as an erasure leaves it
		}
		return []dataset.Record{r}
	}
	var seen []string
	dst := &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
		seen = append(seen, r.Key)
		return []dataset.Record{r}
	}}
	cert := withholding(t, c, dst, erased)
	p := &cert.Predicate
	if p.Verdict != verify.Proven {
		t.Fatalf("%s because of %q", p.Verdict, p.Reasons)
	}
	if slices.Contains(seen, erased) || len(seen) != n {
		t.Errorf("the target has %d records, the erased one among them: %v", len(seen), slices.Contains(seen, erased))
	}
	s := p.Streams[1]
	if s.Records != n || s.Archived != n-1 || s.Restored != n-1 || s.AgainstRestored[reconcile.Withheld] != 1 || len(s.AgainstSource) != 1 {
		t.Errorf("stream %+v", s)
	}
	if got := p.Lines[slices.IndexFunc(p.Lines, func(l verify.Line) bool { return l.ID == verify.LineComparison })]; !strings.Contains(got.Finding, "Withheld 1 record") {
		t.Errorf("the comparison says %q", got.Finding)
	}
	if !slices.ContainsFunc(p.Exceptions, func(e string) bool { return strings.Contains(e, "1 record erased at the source and withheld") }) {
		t.Errorf("exceptions %q", p.Exceptions)
	}
	annex, err := cert.OpenAnnex(c.open, c.store.Bytes(p.Annex.Name))
	if err != nil || len(annex.Differences) != 0 || p.Annex.Differences != 0 {
		t.Errorf("the annex names %+v (%d differences), %v", annex.Differences, p.Annex.Differences, err)
	}
}

func TestErasedRecordThatTheSourceStillHasIsSaid(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(50), "")
	p := &withholding(t, c, new(memory.Target), memory.Object(1, 0, 300)(17).Key).Predicate
	if p.Verdict != verify.Proven || p.Streams[1].AgainstSource[reconcile.Withheld] != 1 {
		t.Errorf("%s because of %q with %v", p.Verdict, p.Reasons, p.Streams[1].AgainstSource)
	}
	if !slices.ContainsFunc(p.Exceptions, func(e string) bool { return strings.Contains(e, "at the source all the same") }) {
		t.Errorf("exceptions %q", p.Exceptions)
	}
}

func TestErasureExcusesNoOtherRecord(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(50), "")
	erased, other := memory.Object(1, 0, 300)(17).Key, memory.Object(1, 0, 300)(18).Key
	missing := &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
		if r.Key == other {
			return nil
		}
		return []dataset.Record{r}
	}}
	back := &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
		if r.Key == other {
			again := r
			again.Key = erased
			return []dataset.Record{r, again}
		}
		return []dataset.Record{r}
	}}
	for status, dst := range map[reconcile.Status]*memory.Target{reconcile.Missing: missing, reconcile.Extra: back} {
		p := &withholding(t, c, dst, erased).Predicate
		if got := p.Streams[1].AgainstRestored; p.Verdict != verify.NotProven || got[status] != 1 || got[reconcile.Withheld] != 1 {
			t.Errorf("%s: %s with %v", status, p.Verdict, got)
		}
	}
}
