package verify_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/verify"
)

const hostile = `<script>alert(1)</script>"><img src=x onerror=alert(2)>` + "\u202e\x1b[2J{{.}}'"

// hostileReport is the report of a test in which everything that can be wrong is, and
// in which the source chose its names to harm whoever reads them.
func hostileReport(t testing.TB, named bool) verify.Report {
	t.Helper()
	src := memory.Awkward(keys.Awkward())
	src.Add(dataset.Stream{Name: hostile, Keyless: true}, dataset.Record{Key: strings.Repeat("a", 64), Data: json.RawMessage(`{}`)})
	src.Mutate = func(r dataset.Record) []dataset.Record {
		if r.Stream == "rows" && r.Key == "[1]" {
			return []dataset.Record{{Stream: r.Stream, Key: r.Key, Gap: &dataset.Gap{Code: dataset.Denied, Detail: hostile}}}
		}
		return []dataset.Record{r}
	}
	c := newCourt(t, src, "")
	n := 0
	i := c.try(t, &memory.Target{
		ReadBack: func(r dataset.Record) []dataset.Record {
			switch n++; n % 5 {
			case 0:
				return nil
			case 1:
				r.Data = append(r.Data[:len(r.Data)-1:len(r.Data)-1], []byte(`,"<script>alert(3)</script>":"<img src=x>"}`)...)
			}
			return []dataset.Record{r}
		},
		Losses: func(s dataset.Stream) []dataset.Loss {
			return []dataset.Loss{{Stream: s.Name, Field: hostile, Reason: hostile}}
		},
	})
	i.Waivers = []verify.Waiver{{Stream: "rows", Code: dataset.Denied, Reason: hostile, Until: time.Now().Add(time.Hour)}}
	i.Report.Acceptance = []verify.AcceptanceResult{{Name: hostile, Outcome: verify.Unknown, Detail: hostile}}
	i.Report.Errors = append(i.Report.Errors, hostile)
	i.Report.NotArchived = []string{hostile}
	i.Roles = []string{"exporter"}
	return reportOf(t, c, i, named)
}

func reportOf(t testing.TB, c *court, i verify.Issuance, named bool) verify.Report {
	t.Helper()
	cert, name := issue(t, i)
	stored, err := verify.LoadCertificate(t.Context(), c.a, name)
	if err != nil {
		t.Fatal(err)
	}
	r := verify.Report{Certificate: cert, Doc: stored.Doc, Name: name, Signer: stored.Signer, Made: time.Now()}
	for _, n := range c.store.Names() {
		if p := archive.ParseName(n); p.Class == archive.SignatureObject && p.Document == stored.Hash {
			r.Signature = n
		}
	}
	if r.Check, err = verify.CheckCertificate(t.Context(), c.a, name, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if named {
		if r.Annex, err = cert.OpenAnnex(c.open, c.store.Bytes(cert.Predicate.Annex.Name)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func render(t testing.TB, r verify.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// elements returns the elements of a page with their attributes.
func elements(t testing.TB, page []byte) []xml.StartElement {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(page))
	dec.Strict, dec.AutoClose, dec.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var all []xml.StartElement
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("page is not well formed: %v", err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			all = append(all, e.Copy())
		}
	}
}

func TestReportAsksForNothingAndRunsNothing(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{true, false} {
		page := render(t, hostileReport(t, named))
		for _, e := range elements(t, page) {
			switch e.Name.Local {
			case "script", "img", "iframe", "object", "embed", "link", "form", "base":
				t.Errorf("named %v: the page has a <%s>", named, e.Name.Local)
			}
			for _, a := range e.Attr {
				if a.Name.Local == "src" || strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" && !strings.HasPrefix(a.Value, "#") {
					t.Errorf("named %v: <%s %s=%q>", named, e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
		if regexp.MustCompile(`url\(|@import`).Match(page) {
			t.Error("the style asks for something")
		}
		if bytes.ContainsAny(page, "\u202e\x1b") {
			t.Error("invisible characters of the source reach the page")
		}
	}
}

func TestReportIsMadeForEveryReader(t *testing.T) {
	t.Parallel()
	page := render(t, hostileReport(t, true))
	ids, headings := map[string]bool{}, []string{}
	var tables, captions, svgs, titles int
	all := elements(t, page)
	for _, e := range all {
		switch e.Name.Local {
		case "table":
			tables++
		case "caption":
			captions++
		case "svg":
			svgs++
		case "title":
			titles++
		case "h1", "h2", "h3":
			headings = append(headings, e.Name.Local)
		case "th":
			if attr(e, "scope") == "" {
				t.Error("a <th> has no scope")
			}
		}
		if id := attr(e, "id"); id != "" {
			if ids[id] {
				t.Errorf("id %q is given twice", id)
			}
			ids[id] = true
		}
	}
	for _, e := range all {
		if to, ok := strings.CutPrefix(attr(e, "href"), "#"); ok && !ids[to] {
			t.Errorf("a link goes to #%s, which is nowhere", to)
		}
	}
	if tables == 0 || tables != captions || svgs == 0 || titles != svgs+1 {
		t.Errorf("%d tables with %d captions, %d drawings with %d titles", tables, captions, svgs, titles-1)
	}
	if headings[0] != "h1" || strings.Count(strings.Join(headings, " "), "h1") != 1 {
		t.Errorf("headings %v", headings)
	}
	for _, want := range []string{`<html lang="en-GB">`, `href="#main"`, "ssh-keygen -Y verify", "sallyport certificate verify", "sallyport check"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func TestRedactedReportHoldsNoNameAndTheOtherDoes(t *testing.T) {
	t.Parallel()
	src := secretSource(50)
	c := newCourt(t, src, "")
	victim := memory.Object(1, 0, 300)(17).Key
	i := c.try(t, &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
		if r.Key == victim {
			return nil
		}
		return []dataset.Record{r}
	}})
	r := reportOf(t, c, i, true)
	if page := render(t, r); !bytes.Contains(page, []byte(victim)) || !bytes.Contains(page, []byte("canary-stream")) {
		t.Error("the page with names does not name what is missing")
	}
	r.Annex = nil
	if page := render(t, r); bytes.Contains(page, []byte(victim)) || bytes.Contains(page, []byte("canary")) {
		t.Error("the page without names has some")
	}
}

// largeReport is a report of a million records with n findings.
func largeReport(n int) verify.Report {
	c := &verify.Certificate{Type: verify.StatementType, PredicateType: verify.PredicateType, Subject: []verify.Subject{{Name: "large@run"}}}
	p := &c.Predicate
	p.Service, p.Verdict = "large", verify.NotProven
	p.Scope.Streams = 3000
	a := &verify.Annex{}
	for i := range p.Scope.Streams {
		p.Streams = append(p.Streams, verify.StreamLine{Number: i + 1, Records: 333, Archived: 333, Restored: 333, Source: 333,
			AgainstRestored: map[reconcile.Status]int64{reconcile.OK: 330, reconcile.Missing: 3}})
		a.Streams = append(a.Streams, verify.AnnexStream{Number: i + 1, Name: fmt.Sprintf("stream-%d", i)})
	}
	for i := range n {
		a.Differences = append(a.Differences, verify.AnnexDifference{Stream: i%3000 + 1, Key: archive.Key(fmt.Sprintf("cases/%08d.json", i)),
			Status: reconcile.Missing, Between: "archive and restored copy"})
	}
	p.Annex.Differences, p.Annex.Named = int64(n), int64(n)
	p.Lines = verify.Assess(p)
	return verify.Report{Certificate: c, Annex: a, Signer: crypto.Identity{Principal: "verifier"}}
}

func TestLargeReportIsBounded(t *testing.T) {
	t.Parallel()
	page := render(t, largeReport(100_000))
	if len(page) > 8<<20 || !bytes.Contains(page, []byte("90,000 more in the annex")) || !bytes.Contains(page, []byte("2,000 more streams")) {
		t.Errorf("%d bytes; what is left out is not said", len(page))
	}
}

func BenchmarkReport10000Findings(b *testing.B) {
	r := largeReport(10_000)
	for b.Loop() {
		render(b, r)
	}
}

// A browser is headless Chromium with a profile of its own.
type browser struct{ path, dir string }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return &browser{path, t.TempDir()}
		}
	}
	t.Skip("Chromium is not installed: the report was not opened in a browser")
	return nil
}

func (b *browser) run(t *testing.T, args ...string) []byte {
	t.Helper()
	args = append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + b.dir}, args...)
	cmd := exec.CommandContext(t.Context(), b.path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, 5*time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, stderr.Bytes())
	}
	return stdout.Bytes()
}

const dark = "--blink-settings=preferredColorScheme=0"

func TestReportOpensLightDarkNarrowAndOnPaper(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, render(t, hostileReport(t, true)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"light.png":  {"--window-size=1200,1600"},
		"dark.png":   {"--window-size=1200,1600", dark},
		"narrow.png": {"--window-size=500,1600"},
		"report.pdf": nil,
	} {
		out := filepath.Join(dir, name)
		how := "--screenshot=" + out
		if name == "report.pdf" {
			how = "--print-to-pdf=" + out
		}
		b.run(t, append(args, how, "file://"+file)...)
		if info, err := os.Stat(out); err != nil || info.Size() < 10_000 {
			t.Errorf("%s was not made: %v", name, err)
		}
	}
}

// axeRun finds what keeps people from reading a page, and writes it into the page.
const axeRun = `<script>axe.run(document).then(r => {
  const out = document.createElement('pre'); out.id = 'axe-result';
  out.textContent = JSON.stringify({passes: r.passes.length, violations: r.violations.map(v => ({id: v.id, nodes: v.nodes.map(n => n.html + ' ' + n.failureSummary)}))});
  document.body.replaceChildren(out);
})</script>`

func TestAxeFindsNoViolation(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("testdata/axe/node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Skip("axe-core is not installed: run npm install in verify/testdata/axe")
	}
	b := newBrowser(t)
	page := render(t, hostileReport(t, true))
	page = regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`).ReplaceAll(page, nil) // lets axe run
	page = bytes.Replace(page, []byte("<details>"), []byte("<details open>"), -1)
	page = bytes.Replace(page, []byte("</body>"), append([]byte("<script>"), append(axe, []byte("</script>"+axeRun+"</body>")...)...), 1)
	file := filepath.Join(t.TempDir(), "axe.html")
	if err := os.WriteFile(file, page, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"light": {"--window-size=1200,1600"}, "dark": {"--window-size=1200,1600", dark}, "narrow": {"--window-size=500,1600"}} {
		dom := b.run(t, append(args, "--virtual-time-budget=60000", "--dump-dom", "file://"+file)...)
		m := regexp.MustCompile(`(?s)<pre id="axe-result">(.*?)</pre>`).FindSubmatch(dom)
		if m == nil {
			t.Fatalf("%s: axe did not come to its end", name)
		}
		var found struct {
			Passes     int
			Violations []struct {
				ID    string
				Nodes []string
			}
		}
		text := strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(string(m[1]))
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatal(err)
		}
		if found.Passes < 20 {
			t.Errorf("%s: only %d rules passed", name, found.Passes)
		}
		for _, v := range found.Violations {
			t.Errorf("%s: %s: %q", name, v.ID, v.Nodes[:min(3, len(v.Nodes))])
		}
	}
}
