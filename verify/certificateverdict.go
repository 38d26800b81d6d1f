package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/reconcile"
)

// Ids of the lines of a certificate, in order.
const (
	LineIntegrity  = "integrity"
	LineFreshness  = "freshness"
	LineContent    = "content"
	LineKeys       = "keys"
	LineComplete   = "completeness"
	LineGaps       = "gaps"
	LineRestore    = "restore"
	LineComparison = "comparison"
	LineSource     = "source"
	LineAcceptance = "acceptance"
	LineRPO        = "rpo"
	LineRTO        = "rto"
	LineSelfTest   = "self-test"
	LineDestroyed  = "destroyed"
)

// Assess concludes the lines of a certificate from what is measured in it, and from
// nothing else: it is a pure function, so that a checker concludes the same.
func Assess(p *Predicate) []Line {
	return []Line{
		lineIntegrity(&p.Archive),
		lineFreshness(&p.Archive),
		lineContent(&p.Archive),
		lineKeys(&p.Keys),
		lineComplete(p),
		lineGaps(p),
		lineRestore(&p.Target),
		lineComparison(p),
		lineSource(p),
		lineAcceptance(p.Acceptance),
		lineObjective(LineRPO, "The snapshot was %s old when the test began", p.Objectives.RPO),
		lineObjective(LineRTO, "The restore took %s", p.Objectives.RTO),
		lineSelfTest(p.SelfTest),
		lineDestroyed(&p.Target),
	}
}

// Decide concludes the verdict from the lines. One line that failed is enough for "not
// proven"; otherwise one that could not be decided, or that is required and was not
// asked, is enough for "undecided".
func Decide(lines []Line) (Verdict, []string) {
	reasons := map[Outcome][]string{}
	for _, l := range lines {
		switch {
		case l.Outcome == Fail, l.Outcome == Unknown:
			reasons[l.Outcome] = append(reasons[l.Outcome], l.Finding)
		case l.Outcome == NotRun && l.Required:
			reasons[Unknown] = append(reasons[Unknown], l.Finding)
		}
	}
	why := append(append([]string{}, reasons[Fail]...), reasons[Unknown]...)
	switch {
	case len(lines) == 0:
		return Undecided, []string{"Nothing was asked."}
	case len(reasons[Fail]) > 0:
		return NotProven, why
	case len(reasons[Unknown]) > 0:
		return Undecided, why
	}
	return Proven, why
}

// Damaged reports whether stored bytes, or signatures, are not what they should be: the
// check of the archive or the reading of the snapshot's contents found something.
func (p *Predicate) Damaged() bool {
	return p.Archive.Integrity == Fail || p.Archive.Content == Fail
}

func lineIntegrity(a *ArchiveState) Line {
	l := Line{ID: LineIntegrity, Outcome: a.Integrity, Required: true}
	switch {
	case a.Integrity == NotRun:
		l.Finding = "The archive's signatures and stored bytes were not checked."
	case a.Integrity == Fail:
		l.Finding = fmt.Sprintf("The archive is not intact: %s.", plural(int64(a.Findings), "finding"))
	case a.Integrity == Unknown:
		l.Finding = "The check of the archive did not come to its end."
	case !a.Covered:
		l.Outcome, l.Finding = Unknown, "The check of the archive did not cover this snapshot."
	case a.PacksRead < a.Packs:
		l.Outcome, l.Finding = Unknown, fmt.Sprintf("Only %s of %s packs were read.", figure(a.PacksRead), figure(a.Packs))
	default:
		l.Finding = fmt.Sprintf("Every signature is good and every stored byte is as it was written: %s, %s.",
			plural(a.PacksRead, "pack"), size(a.BytesRead))
	}
	return l
}

func lineFreshness(a *ArchiveState) Line {
	l := Line{ID: LineFreshness, Outcome: a.Freshness}
	switch a.Freshness {
	case Pass:
		l.Finding = "Every state of the archive that was seen before is still part of it."
	case Fail:
		l.Finding = "The archive shows an older state than one that was seen before."
	case Unknown:
		l.Finding = "Whether the archive shows its newest state could not be found out."
	default:
		l.Finding = "No earlier state of the archive was remembered, so a removed newest snapshot would not be noticed."
	}
	return l
}

func lineContent(a *ArchiveState) Line {
	l := Line{ID: LineContent, Outcome: a.Content, Required: true}
	switch a.Content {
	case Pass:
		l.Finding = fmt.Sprintf("The whole snapshot was decrypted and decoded, and agrees with its hashes: %s.", size(a.ContentBytes))
	case Fail:
		l.Finding = fmt.Sprintf("The contents of the snapshot are not what they should be: %s.", plural(int64(a.ContentWrong), "finding"))
	case Unknown:
		l.Finding = "Reading the snapshot did not come to its end."
	default:
		l.Finding = "The contents of the snapshot were not read."
	}
	return l
}

func lineKeys(k *KeyTest) Line {
	l := Line{ID: LineKeys, Required: true}
	opened, unknown := 0, 0
	by := map[string]bool{}
	for _, key := range k.Keys {
		switch key.Outcome {
		case Pass:
			opened++
		case Unknown, NotRun:
			unknown++
		}
		for _, id := range key.OpenedBy {
			by[id] = true
		}
	}
	switch {
	case len(k.Keys) == 0:
		l.Finding = "Whether the managed keys open the snapshot was not tested."
	case opened == len(k.Keys):
		l.Outcome, l.Finding = Pass, fmt.Sprintf("%s, opened by %s; sealed to %s.",
			plural(int64(opened), "run key"), plural(int64(len(by)), "managed identity"), plural(int64(len(k.Recipients)), "recipient"))
	case opened+unknown == len(k.Keys):
		l.Outcome, l.Finding = Unknown, fmt.Sprintf("%s could not be tested.", plural(int64(unknown), "run key"))
	default:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("%s could not be opened.", plural(int64(len(k.Keys)-opened-unknown), "run key"))
	}
	return l
}

// gradeRank orders grades; a grade that is not known is the worst.
func gradeRank(g archive.Grade) int {
	return slices.Index([]archive.Grade{archive.BestEffort, archive.CountChecked, archive.DoubleRead, archive.Exact}, g)
}

// GradeSuffices reports whether every stream of a snapshot has at least a grade, by its
// public manifest: whether an exit test can use the snapshot, or must export first.
func GradeSuffices(m *archive.Manifest, least archive.Grade) bool {
	for g, n := range m.Grades {
		if n > 0 && gradeRank(g) < gradeRank(least) {
			return false
		}
	}
	return gradeRank(least) >= 0
}

func lineComplete(p *Predicate) Line {
	l := Line{ID: LineComplete, Outcome: Pass, Required: true}
	short := []string{}
	for _, s := range p.Streams {
		if gradeRank(s.Grade) < gradeRank(p.Scope.Grade) {
			short = append(short, fmt.Sprintf("stream %d is %s", s.Number, s.Grade))
		}
	}
	switch {
	case gradeRank(p.Scope.Grade) < 0 || len(p.Streams) != p.Scope.Streams:
		l.Outcome, l.Finding = Unknown, "How well the export was proven to be complete could not be judged."
	case len(short) > 0:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("The export was to be proven as %s, and %s.", p.Scope.Grade, first(short))
	default:
		l.Finding = fmt.Sprintf("The export of every stream is proven as %s or better.", p.Scope.Grade)
	}
	return l
}

func lineGaps(p *Predicate) Line {
	l := Line{ID: LineGaps, Outcome: Pass, Required: true}
	var all, waived int64
	for _, g := range p.Gaps {
		all, waived = all+g.Count, waived+g.Waived
	}
	switch {
	case waived < all:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("%s of the snapshot: known to be missing and not accepted by its owner.", plural(all-waived, "gap"))
	case p.Archive.State != archive.Complete && all == 0:
		l.Outcome, l.Finding = Unknown, "The snapshot is incomplete, and its gaps were not counted."
	case all > 0:
		l.Finding = fmt.Sprintf("%s, all accepted by the owner of the service.", plural(all, "gap"))
	default:
		l.Finding = "Nothing is known to be missing from the snapshot."
	}
	return l
}

func lineRestore(t *TargetState) Line {
	l := Line{ID: LineRestore, Outcome: t.Restored, Required: true}
	switch {
	case t.Gaps > 0:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("The target did not take %s.", plural(t.Gaps, "record"))
	case t.Restored == Pass:
		l.Finding = fmt.Sprintf("Everything was loaded into an empty target (%s).", t.Kind)
	case t.Restored == Fail:
		l.Finding = "The restore failed."
	case t.Restored == Unknown:
		l.Finding = "The restore did not come to its end."
	default:
		l.Finding = "Nothing was restored."
	}
	return l
}

func lineComparison(p *Predicate) Line {
	l := Line{ID: LineComparison, Outcome: Pass, Required: true}
	var compared, withheld int64
	var wrong, open []string
	for _, s := range p.Streams {
		erased := s.AgainstRestored[reconcile.Withheld]
		counts := maps.Clone(s.AgainstRestored)
		delete(counts, reconcile.Withheld)
		bad, other := statuses(counts)
		switch {
		case bad != "":
			wrong = append(wrong, fmt.Sprintf("stream %d: %s", s.Number, bad))
		case s.Archived < 0 || s.Restored < 0:
			open = append(open, fmt.Sprintf("stream %d was not compared", s.Number))
		case other != "":
			open = append(open, fmt.Sprintf("stream %d: %s", s.Number, other))
		case s.Archived+erased != s.Records || s.AgainstRestored[reconcile.OK] != s.Archived || s.Restored != s.Archived || erased < 0:
			wrong = append(wrong, fmt.Sprintf("stream %d: %s in the snapshot, %s withheld, %s read from it, %s restored and %s equal",
				s.Number, figure(s.Records), figure(erased), figure(s.Archived), figure(s.Restored), figure(s.AgainstRestored[reconcile.OK])))
		default:
			compared += s.Archived
			withheld += erased
		}
	}
	switch {
	case len(wrong) > 0:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("The restored copy is not what was archived: %s.", first(wrong))
	case len(open) > 0 || len(p.Streams) != p.Scope.Streams:
		l.Outcome, l.Finding = Unknown, "The restored copy was not compared in full"
		if len(open) > 0 {
			l.Finding += ": " + first(open)
		}
		l.Finding += "."
	default:
		l.Finding = fmt.Sprintf("The restored copy is the archived data, record by record: %s in %s.",
			plural(compared, "record"), plural(int64(len(p.Streams)), "stream"))
		if withheld > 0 {
			l.Finding += fmt.Sprintf(" Withheld %s erased at the source.", plural(withheld, "record"))
		}
	}
	return l
}

// later are the statuses of records that changed at the source with evidence that they
// did so after the export, that are known gaps, or that are on the register of erasures;
// they speak neither for nor against.
var later = []reconcile.Status{reconcile.OK, reconcile.Added, reconcile.Vanished, reconcile.ChangedSince, reconcile.Unchecked, reconcile.Withheld}

func lineSource(p *Predicate) Line {
	l := Line{ID: LineSource, Outcome: Pass, Required: !p.Target.Stressed}
	if p.Target.Stressed {
		l.Outcome, l.Finding = NotRun, "The source was not asked: the test was done as if it were gone."
		return l
	}
	var wrong, open []string
	var changed int64
	for _, s := range p.Streams {
		bad, _ := statuses(s.AgainstSource)
		if bad != "" {
			wrong = append(wrong, fmt.Sprintf("stream %d: %s", s.Number, bad))
		}
		if s.Source < 0 {
			open = append(open, fmt.Sprintf("stream %d could not be read at the source", s.Number))
		}
		for status, n := range s.AgainstSource {
			switch {
			case slices.Contains(later, status):
				if !slices.Contains([]reconcile.Status{reconcile.OK, reconcile.Unchecked, reconcile.Withheld}, status) {
					changed += n
				}
			case !status.Bad() && n > 0:
				open = append(open, fmt.Sprintf("stream %d: %s %s", s.Number, figure(n), status))
			}
		}
	}
	slices.Sort(open)
	switch {
	case len(wrong) > 0:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("The archive contradicts the source: %s.", first(wrong))
	case len(open) > 0:
		l.Outcome, l.Finding = Unknown, fmt.Sprintf("Whether the archive agrees with the source as it is now could not be decided: %s.", first(open))
	case len(p.Streams) != p.Scope.Streams:
		l.Outcome, l.Finding = Unknown, "The archive was not compared with the source."
	case changed > 0:
		l.Finding = fmt.Sprintf("The archive agrees with the source, but for %s that changed after the export.", plural(changed, "record"))
	default:
		l.Finding = "The archive agrees with the source as it is now."
	}
	return l
}

func lineAcceptance(answers []Answer) Line {
	l := Line{ID: LineAcceptance, Required: len(answers) > 0}
	failed, open := 0, 0
	for _, a := range answers {
		switch a.Outcome {
		case Pass:
		case Fail:
			failed++
		default:
			open++
		}
	}
	switch {
	case len(answers) == 0:
		l.Finding = "The owner of the service asked nothing of the restored data."
	case failed > 0:
		l.Outcome, l.Finding = Fail, fmt.Sprintf("The restored data did not answer %d of %s as its owner expects.", failed, plural(int64(len(answers)), "acceptance check"))
	case open > 0:
		l.Outcome, l.Finding = Unknown, fmt.Sprintf("%d of %s could not be answered.", open, plural(int64(len(answers)), "acceptance check"))
	default:
		l.Outcome, l.Finding = Pass, fmt.Sprintf("The restored data answered %s as its owner expects.", plural(int64(len(answers)), "acceptance check"))
	}
	return l
}

func lineObjective(id, text string, m Measure) Line {
	l := Line{ID: id, Outcome: m.Outcome, Required: m.ObjectiveMS > 0}
	took, objective := period(m.MeasuredMS), period(m.ObjectiveMS)
	switch {
	case m.ObjectiveMS == 0:
		l.Outcome, l.Finding = NotRun, fmt.Sprintf(text+"; no objective is set.", took)
	case m.Outcome == Pass && m.MeasuredMS > m.ObjectiveMS:
		l.Outcome = Fail
		fallthrough
	case m.Outcome == Fail:
		l.Finding = fmt.Sprintf(text+"; the objective is %s.", took, objective)
	case m.Outcome == Pass:
		l.Finding = fmt.Sprintf(text+", within the objective of %s.", took, objective)
	default:
		l.Finding = fmt.Sprintf("The objective of %s could not be measured.", objective)
	}
	return l
}

func lineSelfTest(planted []Planted) Line {
	l := Line{ID: LineSelfTest, Required: true}
	found := 0
	for _, p := range planted {
		if p.Found == Pass {
			found++
		}
	}
	switch {
	case len(planted) == 0:
		l.Finding = "Whether the verifier finds faults was not tested."
	case found < len(planted):
		l.Outcome, l.Finding = Fail, fmt.Sprintf("The verifier overlooked %d of %s that were planted for it.", len(planted)-found, plural(int64(len(planted)), "fault"))
	default:
		l.Outcome, l.Finding = Pass, fmt.Sprintf("The verifier found all %s that were planted for it.", plural(int64(found), "fault"))
	}
	return l
}

func lineDestroyed(t *TargetState) Line {
	l := Line{ID: LineDestroyed, Outcome: t.Destroyed, Required: true}
	switch t.Destroyed {
	case Pass:
		l.Finding = "The restored copy was removed after the test."
	case Fail:
		l.Finding = "The restored copy could not be removed: data may be left in the target."
	default:
		l.Finding = "Whether the restored copy was removed is not known."
	}
	return l
}

// statuses words the records that are wrong, and those that are neither wrong nor ok.
func statuses(counts map[reconcile.Status]int64) (bad, other string) {
	var wrong, rest []string
	for s, n := range counts {
		switch {
		case n == 0 || s == reconcile.OK:
		case s.Bad():
			wrong = append(wrong, fmt.Sprintf("%s %s", figure(n), s))
		default:
			rest = append(rest, fmt.Sprintf("%s %s", figure(n), s))
		}
	}
	slices.Sort(wrong)
	slices.Sort(rest)
	return strings.Join(wrong, ", "), strings.Join(rest, ", ")
}

// first words a list of findings: the first few, and how many more there are.
func first(found []string) string {
	const shown = 5
	if len(found) <= shown {
		return strings.Join(found, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(found[:shown], "; "), len(found)-shown)
}

// figure writes a number with commas between thousands.
func figure(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "ty"); ok {
		return figure(n) + " " + stem + "ties"
	}
	return figure(n) + " " + noun + "s"
}

// size writes bytes for people, rounded, with the exact number where it is small.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return plural(n, "byte")
	}
	f, i := float64(n)/unit, 0
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %s", f, []string{"KiB", "MiB", "GiB", "TiB", "PiB"}[i])
}

// period writes milliseconds for people.
func period(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	day := 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", ms)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 2*day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days %d h", d/day, d%day/time.Hour)
}
