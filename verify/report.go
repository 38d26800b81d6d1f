package verify

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

//go:embed report.html.tmpl
var reportText string

//go:embed report.css
var reportCSS string

// How much of a certificate and of its annex a page shows; what is left out is counted.
const (
	maxBars        = 12
	maxPageStreams = 1000
	maxPageSteps   = 300
	maxPageItems   = 10_000
	fewDifferences = 50 // are shown without being asked for
)

// A Report is a certificate as a page for people: one HTML file that needs nothing else,
// runs no script and asks for nothing from anywhere. Whatever came from a source is
// escaped.
type Report struct {
	Certificate *Certificate
	Doc         []byte             // the certificate as it is signed
	Name        string             // of the certificate in the store
	Signature   string             // name of its signature in the store
	Signer      crypto.Identity    // who signed it
	Annex       *Annex             // the names; nil makes a page that holds none
	Check       *CertificateReport // what a check said of it; may be nil
	Made        time.Time          // zero leaves it out
}

// HTML writes the page.
func (r Report) HTML(w io.Writer) error {
	t, err := template.New("report").Funcs(reportFuncs).Parse(reportText)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := t.Execute(w, newPage(r)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

var reportFuncs = template.FuncMap{
	"n":      func(v any) string { return figure(asInt(v)) },
	"count":  countText,
	"bytes":  size,
	"period": period,
	"day":    func(t archive.Time) string { return t.Format("2 January 2006") },
	"moment": func(t archive.Time) string { return t.Format("2 January 2006, 15:04 UTC") },
	"clock":  func(t archive.Time) string { return t.Format("15:04:05 UTC") },
	"show":   func(v any) string { return dataset.Escape(fmt.Sprint(v)) },
	"json":   showJSON,
	"class":  func(o Outcome) string { return strings.ReplaceAll(o.String(), " ", "") },
	"word":   func(o Outcome) string { return outcomeWords[o] },
	"control": func(s ControlStatus) string {
		return map[ControlStatus]string{Met: "met", NotMet: "notmet"}[s]
	},
	"cap":  func(f []Finding) []Finding { return f[:min(len(f), maxPageSteps)] },
	"cap2": func(s []string) []string { return s[:min(len(s), maxPageSteps)] },
}

var outcomeWords = map[Outcome]string{Pass: "Yes", Fail: "No", Unknown: "Not decided", NotRun: "Not asked"}

// showJSON makes JSON text fit to be shown: as [dataset.Escape] does, but its own quotes
// and backslashes stay as they are.
func showJSON(v any) string {
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(dataset.Escape(fmt.Sprint(v)))
}

func asInt(v any) int64 {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int64:
		return v
	}
	return 0
}

// countText writes a count of which -1 means that nobody counted.
func countText(n int64) string {
	if n < 0 {
		return "not read"
	}
	return figure(n)
}

// A page is a report as its template needs it.
type page struct {
	Report
	P        *Predicate
	CSS      template.CSS
	Tone     string // class: empty for proven
	Answer   string
	Plain    string
	Age      string
	Hash     dataset.Hash
	Signer   string
	Made     string
	Subject  string
	Ref      string
	Manifest dataset.Hash

	ManifestName, Principal string
	Records, BlobBytes      int64
	Lines                   []pageLine
	Streams                 []pageStream
	MoreStreams             int
	Bars                    []pageStream
	MoreBars                int
	Objectives              []pageBar
	Time                    []pageBar
	Total                   int64
	Differences             []pageDifference
	MoreDifferences         int64
	FewDifferences          bool
	Worst                   []pageDifference // some that are wrong, for the top of the page
	Gaps                    []AnnexGap
	MoreGaps                int64
	Steps                   []pageStep
	MoreSteps               int
	Losses                  []dataset.Loss
	TargetGaps              []AnnexGap
	TargetText              string
	Answers                 []pageAnswer
}

// A pageLine is a line with its question in plain words and where its evidence is.
type pageLine struct {
	Line
	Question, Anchor, Evidence string
}

var questions = map[string][3]string{
	LineIntegrity:  {"Is the archive intact?", "archive", "Hashes and signatures"},
	LineFreshness:  {"Is it the newest state of the archive?", "archive", "Earlier states"},
	LineContent:    {"Can all of it be decrypted and read?", "archive", "Contents"},
	LineKeys:       {"Do the organisation's own keys open it?", "keys", "Key test"},
	LineComplete:   {"Did the export take everything?", "streams", "Grades"},
	LineGaps:       {"Is nothing known to be missing?", "gaps", "Gaps"},
	LineRestore:    {"Could everything be loaded into another product?", "target", "Steps"},
	LineComparison: {"Is the restored copy the same, record by record?", "streams", "Counts by stream"},
	LineSource:     {"Does the archive agree with the service as it is now?", "streams", "Counts by stream"},
	LineAcceptance: {"Does the restored data answer the owner's questions?", "acceptance", "Acceptance checks"},
	LineRPO:        {"Was the snapshot recent enough?", "figures", "Objectives"},
	LineRTO:        {"Was the restore fast enough?", "figures", "Time line"},
	LineSelfTest:   {"Would the verifier have noticed a fault?", "selftest", "Planted faults"},
	LineDestroyed:  {"Was the restored copy removed?", "target", "Steps"},
}

// A pageStream is a stream with its name, if that may be shown.
type pageStream struct {
	StreamLine
	Name, Proof                  string
	Equal                        int64
	Wrong, Changed, AtExportText string
	Bars                         []pageBar
}

// A pageBar is one bar of a chart, in thousandths of its room.
type pageBar struct {
	Label, Class, Title, Text, Against string
	X, Width, Mark                     int64
}

type pageDifference struct {
	AnnexDifference
	Key    string
	Stream string
	Bad    bool
}

// A pageAnswer is an acceptance check, with its words if those may be shown.
type pageAnswer struct {
	Answer
	Name, Detail string
}

type pageStep struct {
	StepLine
	StreamText string
}

func newPage(r Report) *page {
	p := &r.Certificate.Predicate
	g := &page{Report: r, P: p, CSS: template.CSS(reportCSS), Hash: dataset.Sum(r.Doc), Signer: r.Signer.Principal,
		Subject: r.Certificate.Subject[0].Name, Ref: r.Certificate.Subject[0].Name, Manifest: r.Certificate.Subject[0].Digest.SHA256,
		ManifestName: archive.DecisionName(p.Service, p.Run), Principal: r.Signer.Principal, Age: period(p.Objectives.RPO.MeasuredMS)}
	if g.Principal == "" {
		g.Principal = "PRINCIPAL"
	}
	if !r.Made.IsZero() {
		g.Made = r.Made.UTC().Format("2 January 2006, 15:04 UTC")
	}
	for _, l := range p.Lines {
		q := questions[l.ID]
		g.Lines = append(g.Lines, pageLine{l, q[0], q[1], q[2]})
	}
	g.streams()
	g.verdict()
	g.objectives()
	g.steps()
	for i, a := range p.Acceptance {
		answer := pageAnswer{Answer: a}
		if r.Annex != nil && i < len(r.Annex.Acceptance) {
			answer.Name, answer.Detail = dataset.Escape(r.Annex.Acceptance[i].Name), dataset.Escape(r.Annex.Acceptance[i].Detail)
		}
		g.Answers = append(g.Answers, answer)
	}
	g.names()
	return g
}

// verdict words the answer for a reader who reads nothing else.
func (g *page) verdict() {
	var withheld int64
	for _, s := range g.P.Streams {
		withheld += s.AgainstRestored[reconcile.Withheld]
	}
	data := fmt.Sprintf("%s in %s", plural(g.Records-withheld, "record"), plural(int64(len(g.P.Streams)), "stream"))
	switch g.P.Verdict {
	case Proven:
		g.Answer = "Proven: the data can leave"
		g.Plain = fmt.Sprintf("All %s were restored from the archive into an empty %s target and compared: they are the same.", data, g.P.Target.Kind)
		if withheld > 0 {
			g.Plain += fmt.Sprintf(" Withheld %s erased at the source.", plural(withheld, "record"))
		}
		if len(g.P.Exceptions) > 0 {
			g.Plain += fmt.Sprintf(" %s below.", isAre(len(g.P.Exceptions), "exception"))
		}
	case NotProven:
		g.Tone, g.Answer = "bad", "Not proven"
		g.Plain = "Something is wrong. Until it is put right, do not rely on being able to leave with all of the data, and delete nothing at the source."
	default:
		g.Tone, g.Answer = "open", "Undecided"
		g.Plain = "Nothing was found to be wrong, and not everything could be found out. An undecided test proves nothing: resolve what is open and test again."
	}
}

// streams lists the streams, those that differ first if there is no room for all.
func (g *page) streams() {
	var all []pageStream
	for i, s := range g.P.Streams {
		g.Records += s.Records
		g.BlobBytes += s.BlobBytes
		ps := pageStream{StreamLine: s, Equal: -1, Wrong: "none", Changed: "none", AtExportText: "no difference"}
		if s.Restored >= 0 {
			ps.Equal = s.AgainstRestored[reconcile.OK]
		}
		for _, c := range []struct {
			to     *string
			counts map[reconcile.Status]int64
			read   bool
		}{{&ps.Wrong, s.AgainstRestored, s.Restored >= 0}, {&ps.Changed, s.AgainstSource, s.Source >= 0}, {&ps.AtExportText, s.AtExport, true}} {
			bad, other := statuses(c.counts)
			if both := strings.Trim(bad+", "+other, ", "); both != "" {
				*c.to = both
			} else if !c.read {
				*c.to = "not compared"
			}
		}
		if g.Annex != nil && i < len(g.Annex.Streams) {
			ps.Name, ps.Proof = dataset.Escape(g.Annex.Streams[i].Name), dataset.Escape(g.Annex.Streams[i].Proof)
		}
		all = append(all, ps)
	}
	g.bars(all)
	if len(all) > maxPageStreams {
		slices.SortStableFunc(all, func(a, b pageStream) int { return rank(a) - rank(b) })
		g.MoreStreams = len(all) - maxPageStreams
		all = all[:maxPageStreams]
	}
	g.Streams = all
}

func rank(s pageStream) int {
	if s.Wrong != "none" || s.Changed != "none" {
		return 0
	}
	return 1
}

// bars draws the largest streams.
func (g *page) bars(all []pageStream) {
	large := slices.Clone(all)
	slices.SortStableFunc(large, func(a, b pageStream) int { return int(b.Records - a.Records) })
	if len(large) > maxBars {
		large, g.MoreBars = large[:maxBars], len(large)-maxBars
	}
	most := int64(1)
	for _, s := range large {
		most = max(most, s.Archived, s.Restored, s.Source)
	}
	for i := range large {
		s := &large[i]
		for _, side := range []struct {
			label, class string
			n            int64
		}{{"Source now", "f-source", s.Source}, {"Archive", "f-archive", s.Archived}, {"Restored", "f-restored", s.Restored}} {
			s.Bars = append(s.Bars, pageBar{Label: side.label, Class: side.class, Text: countText(side.n), Width: share(side.n, most),
				Title: fmt.Sprintf("%s: %s", side.label, countText(side.n))})
		}
	}
	g.Bars = large
}

// share is n of all in thousandths; what is not nothing can be seen.
func share(n, all int64) int64 {
	if n <= 0 || all <= 0 {
		return 0
	}
	return max(4, int64(float64(n)/float64(all)*1000))
}

func (g *page) objectives() {
	for _, o := range []struct {
		label string
		m     Measure
	}{{"Age of the data (RPO)", g.P.Objectives.RPO}, {"Time to restore (RTO)", g.P.Objectives.RTO}} {
		room := max(o.m.MeasuredMS, o.m.ObjectiveMS) * 21 / 20
		b := pageBar{Label: o.label, Class: "f-archive", Text: period(o.m.MeasuredMS), Against: "no objective", Width: share(o.m.MeasuredMS, room)}
		if o.m.ObjectiveMS > 0 {
			b.Against = "of " + period(o.m.ObjectiveMS)
			b.Mark = share(o.m.ObjectiveMS, room)
		}
		b.Title = fmt.Sprintf("%s: %s, %s", o.label, b.Text, b.Against)
		g.Objectives = append(g.Objectives, b)
	}
}

// steps draws the time line, comparisons taken together, and lists the steps.
func (g *page) steps() {
	g.Total = 1
	for _, s := range g.P.Steps {
		g.Total = max(g.Total, s.AfterMS+s.TookMS)
	}
	at := map[string]int{}
	var spans []StepLine
	for _, s := range g.P.Steps {
		if i, again := at[s.Name]; again {
			spans[i].TookMS = max(spans[i].TookMS, s.AfterMS+s.TookMS-spans[i].AfterMS)
			continue
		}
		if strings.HasPrefix(s.Name, "restore: ") {
			continue // a part of "restore"
		}
		at[s.Name] = len(spans)
		spans = append(spans, s)
	}
	for _, s := range spans {
		b := pageBar{Label: capital(s.Name), Class: "f-archive", X: min(s.AfterMS*1000/g.Total, 996), Width: share(s.TookMS, g.Total), Text: period(s.TookMS)}
		if s.Name == "restore" {
			b.Class = "f-restored"
		}
		b.Title = fmt.Sprintf("%s: began after %s, took %s", b.Label, period(s.AfterMS), b.Text)
		g.Time = append(g.Time, b)
	}
	for i, s := range g.P.Steps {
		if i == maxPageSteps {
			g.MoreSteps = len(g.P.Steps) - i
			break
		}
		g.Steps = append(g.Steps, pageStep{s, streamNumbers(s.Streams)})
	}
	t := &g.P.Target
	g.TargetText = fmt.Sprintf("The snapshot was restored into a target of kind %s. It said beforehand that it cannot carry %s, and did not take %s.",
		t.Kind, plural(int64(t.Losses), "thing"), plural(t.Gaps, "record"))
	if t.Stressed {
		g.TargetText += " The source was not asked for anything."
	}
}

func capital(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] }

func streamNumbers(numbers []int) string {
	if len(numbers) == 0 {
		return "all"
	}
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}

// names adds what only the annex knows.
func (g *page) names() {
	a := g.Annex
	if a == nil {
		return
	}
	stream := func(number int) string {
		if number < 1 || number > len(a.Streams) {
			return fmt.Sprint(number)
		}
		return dataset.Escape(a.Streams[number-1].Name)
	}
	for i, d := range a.Differences {
		if i == maxPageItems {
			break
		}
		g.Differences = append(g.Differences, pageDifference{d, showJSON(string(d.Key)), stream(d.Stream), d.Status.Bad()})
	}
	for _, d := range g.Differences {
		if d.Bad && len(g.Worst) < 5 {
			g.Worst = append(g.Worst, d)
		}
	}
	g.MoreDifferences = g.P.Annex.Differences - int64(len(g.Differences))
	g.FewDifferences = len(g.Differences) <= fewDifferences
	g.Gaps = a.Gaps[:min(len(a.Gaps), maxPageItems)]
	g.MoreGaps = a.GapsUnnamed + int64(len(a.Gaps)-len(g.Gaps))
	for _, s := range a.Streams {
		g.Losses = append(g.Losses, s.Losses...)
	}
	g.Losses = g.Losses[:min(len(g.Losses), maxPageItems)]
	g.TargetGaps = a.TargetGaps[:min(len(a.TargetGaps), maxPageItems)]
}
