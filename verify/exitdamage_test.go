package verify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/verify"
)

// inCopy returns the court with a copy of its store, damaged, and its snapshot opened
// anew, as far as it can be.
func (c *court) inCopy(t *testing.T, damage func(st *archivetest.Memory)) (*court, error) {
	t.Helper()
	other := *c
	other.store = c.store.Clone()
	damage(other.store)
	other.a = &archive.Archive{Store: other.store, ID: c.a.ID, Trust: c.a.Trust}
	other.s = &archive.Snapshot{Decision: c.s.Decision, Service: c.s.Service}
	s, err := other.a.Snapshot(t.Context(), c.s.Service, c.s.Decision)
	if err == nil {
		if err = s.Unlock(t.Context(), c.open); err == nil {
			other.s = s
		}
	}
	return &other, err
}

// of returns the names of a class, sorted.
func of(st *archivetest.Memory, class archive.Class) (names []string) {
	for _, n := range st.Names() {
		if archive.ParseName(n).Class == class {
			names = append(names, n)
		}
	}
	return names
}

// Whatever object of a snapshot is damaged or gone, the test ends with a signed
// certificate that is not proven because of it, and names it.
func TestDamageOfAnyObjectEndsInACertificateThatIsNotProven(t *testing.T) {
	t.Parallel()
	src := secretSource(20)
	src.Mutate = func(r dataset.Record) []dataset.Record {
		if r.Stream == "canary-rows" { // so that there is a ledger of gaps
			return []dataset.Record{r, {Stream: r.Stream, Key: "[2]", Gap: &dataset.Gap{Code: dataset.Denied}}}
		}
		return []dataset.Record{r}
	}
	src.Add(dataset.Stream{Name: "canary-keyless", Keyless: true}, dataset.Record{Key: dataset.KeylessKey([]byte("{}")), Data: json.RawMessage("{}")})
	whole := newCourt(t, src, "")
	damages := map[string]func(st *archivetest.Memory, name string){
		"flipped": func(st *archivetest.Memory, name string) {
			b := bytes.Clone(st.Bytes(name))
			b[len(b)/2] ^= 1
			st.Put(name, b)
		},
		"cut": func(st *archivetest.Memory, name string) {
			b := st.Bytes(name)
			st.Put(name, bytes.Clone(b[:len(b)/2]))
		},
		"gone": func(st *archivetest.Memory, name string) { st.Put(name, nil) },
	}
	opened, closed := 0, 0
	for _, class := range []archive.Class{archive.PackObject, archive.ListObject, archive.KeyObject} {
		for _, name := range of(whole.store, class) {
			for how, damage := range damages {
				c, err := whole.inCopy(t, func(st *archivetest.Memory) { damage(st, name) })
				var i verify.Issuance
				if err == nil {
					opened++
					i = c.try(t, new(memory.Target))
				} else {
					closed++
					f, ok := verify.Damage(err)
					if !ok {
						t.Errorf("%s %s: %v is taken for no damage", name, how, err)
						continue
					}
					i = whole.try(t, new(memory.Target)) // for all but the report and the check
					i.Archive, i.Snapshot = c.a, c.s
					i.Report = verify.Unreadable("none", f, false, time.Now(), time.Now())
					if i.Check, err = (verify.Check{Archive: c.a, Service: "case-files", Now: time.Now()}).Run(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				cert, _ := issue(t, i)
				p := &cert.Predicate
				if p.Verdict != verify.NotProven || !p.Damaged() {
					t.Errorf("%s %s: %s because of %q", name, how, p.Verdict, p.Reasons)
				}
				annex, err := cert.OpenAnnex(c.open, c.store.Bytes(p.Annex.Name))
				if err != nil {
					t.Fatal(err)
				}
				said, err := json.Marshal(annex.Findings)
				named := strings.Contains(string(said), name) || class == archive.KeyObject && strings.Contains(string(said), path.Dir(name))
				if err != nil || !named {
					t.Errorf("%s %s: it is not among the findings %s, %v", name, how, said, err)
				}
				check, err := verify.CertificateCheck{Archive: c.a, Doc: mustEncode(t, cert), Now: time.Now().Add(time.Minute)}.Run(t.Context())
				if err != nil || check.Lines[1].Outcome != verify.Pass || !consistent(check) {
					t.Errorf("%s %s: the certificate itself: %+v, %v", name, how, check, err)
				}
			}
		}
	}
	if opened == 0 || closed == 0 {
		t.Errorf("%d snapshots could be opened and %d could not: one of the two was not tried", opened, closed)
	}
}

func mustEncode(t *testing.T, c *verify.Certificate) []byte {
	t.Helper()
	doc, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// consistent reports whether the verdict was found to follow from what was measured.
func consistent(r *verify.CertificateReport) bool {
	for _, l := range r.Lines {
		if strings.HasPrefix(l.Question, "Does its verdict follow") {
			return l.Outcome == verify.Pass
		}
	}
	return false
}

func TestWhatSaysNothingAboutStoredBytesIsNoDamage(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("connection refused"), crypto.ErrNoKey, errors.Join(crypto.ErrNoKey, &archive.DamageError{})} {
		if f, ok := verify.Damage(err); ok {
			t.Errorf("%v is taken for damage: %v", err, f)
		}
	}
}
