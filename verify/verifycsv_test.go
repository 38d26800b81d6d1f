package verify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// csvArchive is an archive with one snapshot that carries CSV, in packs so small that
// CSV and lines lie apart.
func csvArchive(t *testing.T) (*archivetest.World, *archivetest.Memory, *archive.Decision) {
	t.Helper()
	st := new(archivetest.Memory)
	w, err := archivetest.NewWorld(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	w.PackSize = 4 << 10
	o := w.Options(service, "")
	o.CSV = true
	run, err := archive.Begin(t.Context(), w.Archive, o)
	if err != nil {
		t.Fatal(err)
	}
	sw, err := run.Stream(dataset.Stream{Name: "cases", Schema: &dataset.Schema{PrimaryKey: []string{"id"},
		Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}, {Name: "text", Type: dataset.String}}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		line := fmt.Appendf(nil, `{"id":%d,"text":"%s"}`, i, dataset.Sum([]byte{byte(i), byte(i >> 8)}))
		if i == 7 {
			line = []byte(`{"id":7,"unknown":true}`)
		}
		if err := sw.Section(0).Record(t.Context(), fmt.Sprintf("[%d]", i), line); err != nil {
			t.Fatal(err)
		}
	}
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	return w, st, d
}

func openCSV(t *testing.T, w *archivetest.World, d *archive.Decision) *archive.Snapshot {
	t.Helper()
	s, err := w.Archive.Snapshot(t.Context(), service, d)
	if err == nil {
		err = s.Unlock(t.Context(), w.Identity)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verifyCSV returns what a verification says after change was made to the descriptor.
func verifyCSV(t *testing.T, s *archive.Snapshot) *verify.VerifyReport {
	t.Helper()
	r, err := verify.Verification{Snapshot: s}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerificationNamesDamagedAndMissingCSV(t *testing.T) {
	t.Parallel()
	w, st, d := csvArchive(t)
	s := openCSV(t, w, d)
	if r := verifyCSV(t, s); r.Content != verify.Pass {
		t.Fatalf("an archive with CSV: %v", r.Findings)
	}
	e, err := s.Stream("cases")
	if err != nil {
		t.Fatal(err)
	}
	var parts []archive.PartEntry
	for p, err := range s.Parts(t.Context(), e.Table) {
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	if len(parts) != 1 || parts[0].CSV == nil || parts[0].CSV.Location.Pack == parts[0].Location.Pack {
		t.Fatalf("parts %+v; want one, with its CSV in another pack", parts)
	}
	pack := archive.PackName(service, parts[0].CSV.Location.Pack)
	damaged, gone := st.Clone(), st.Clone()
	damaged.Put(pack, flip(st.Bytes(pack), len(st.Bytes(pack))/2))
	gone.Put(pack, nil)
	for what, st := range map[string]*archivetest.Memory{"damaged": damaged, "missing": gone} {
		r := verifyCSV(t, openCSV(t, w.On(st), d))
		if r.Content != verify.Fail || !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool {
			return strings.Contains(f.String(), "CSV of part "+parts[0].Part) && strings.Contains(f.String(), pack)
		}) {
			t.Errorf("%s: %s, %v; want a finding about the CSV of part %s and its pack", what, r.Content, r.Findings, parts[0].Part)
		}
		if r.Records != 300 {
			t.Errorf("%s: %d records were verified; the lines are whole", what, r.Records)
		}
	}
}

func TestVerificationHoldsCSVAgainstTheDescriptor(t *testing.T) {
	t.Parallel()
	w, _, d := csvArchive(t)
	for name, change := range map[string]func(s *archive.Snapshot, e *archive.StreamEntry){
		"rows":              func(_ *archive.Snapshot, e *archive.StreamEntry) { e.CSV.Rows++ },
		"left out":          func(_ *archive.Snapshot, e *archive.StreamEntry) { e.CSV.LeftOut-- },
		"absent":            func(_ *archive.Snapshot, e *archive.StreamEntry) { e.CSV.Absent++ },
		"bytes":             func(_ *archive.Snapshot, e *archive.StreamEntry) { e.CSV.Bytes++ },
		"header":            func(_ *archive.Snapshot, e *archive.StreamEntry) { e.CSV.Header = "\"id\"\n" },
		"none":              func(_ *archive.Snapshot, e *archive.StreamEntry) { e.CSV = nil },
		"other columns":     func(_ *archive.Snapshot, e *archive.StreamEntry) { e.Stream.Schema.Fields[1].Name = "title" },
		"empty ledger":      func(s *archive.Snapshot, _ *archive.StreamEntry) { s.Descriptor.Sallyport.LeftOut = nil },
		"no schema to read": func(_ *archive.Snapshot, e *archive.StreamEntry) { e.Stream.Schema.Fields = nil },
	} {
		s := openCSV(t, w, d)
		e, err := s.Stream("cases")
		if err != nil {
			t.Fatal(err)
		}
		change(s, e)
		if r := verifyCSV(t, s); r.Content != verify.Fail {
			t.Errorf("%s: %s, %v", name, r.Content, r.Findings)
		}
	}
}
