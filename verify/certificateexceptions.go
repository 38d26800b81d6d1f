package verify

import (
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/reconcile"
)

// exceptions says in public words what a proof leaves out. It is concluded from what is
// measured, like the lines.
func exceptions(p *Predicate) []string {
	list := []string{}
	add := func(n int64, format string, args ...any) {
		if n > 0 {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	for _, g := range p.Gaps {
		where := "in a stream that is not in the snapshot"
		if g.Stream > 0 {
			where = fmt.Sprintf("in stream %d", g.Stream)
		}
		add(g.Waived, "%s %s (%s): accepted by the owner until %s.", plural(g.Waived, "gap"), where, g.Code, g.WaivedUntil.Format(time.DateOnly))
	}
	for _, s := range p.Streams {
		add(int64(s.Losses), "Stream %d: the target cannot carry %s of it; those were not compared.", s.Number, plural(int64(s.Losses), "thing"))
	}
	add(int64(p.Scope.LeftOut), "%s of the service left out by name.", isAre(p.Scope.LeftOut, "stream"))
	add(int64(p.Scope.NotArchived), "%s offered by the source now and not in the snapshot: left out, or new since.", isAre(p.Scope.NotArchived, "stream"))
	add(int64(p.Scope.Filters), "%s in force at the source.", isAre(p.Scope.Filters, "filter"))
	add(p.Scope.Ignored, "%s of the source ignored, as the connector was told.", plural(p.Scope.Ignored, "answer"))
	add(p.Scope.Unchecked, "The metadata of %s was carried over from an earlier export and not read again.", plural(p.Scope.Unchecked, "record"))
	list = append(list, changed(p)...)
	if p.Archive.Freshness == NotRun {
		list = append(list, lineFreshness(&p.Archive).Finding)
	}
	if p.Target.Stressed {
		list = append(list, lineSource(p).Finding)
	}
	if m := p.Objectives; m.RPO.ObjectiveMS > 0 && m.LongestGap > m.RPO.ObjectiveMS {
		list = append(list, fmt.Sprintf("In the 30 days before the test, %s passed between two complete snapshots; the objective is %s.", period(m.LongestGap), period(m.RPO.ObjectiveMS)))
	}
	for _, r := range p.Keys.Managed {
		if len(p.Keys.Keys) > 0 && !slices.Contains(p.Keys.Recipients, r) {
			list = append(list, fmt.Sprintf("The snapshot is not sealed to the managed recipient %s.", r))
		}
	}
	if p.Roles.Signer == p.Roles.ExportSigner {
		list = append(list, "The key that signed the export also signed this certificate: who exported tested their own work.")
	}
	for _, role := range p.Roles.SharedHost {
		list = append(list, fmt.Sprintf("The testing host also has the role of the %s.", role))
	}
	add(p.Annex.Differences-p.Annex.Named, "%s for which the annex has no room counted and not named.", isAre(int(p.Annex.Differences-p.Annex.Named), "difference"))
	return list
}

// changed says what happened at the source during and since the export.
func changed(p *Predicate) []string {
	var list []string
	for _, s := range p.Streams {
		var vanished, withheld int64 = s.Vanished, s.Withheld
		for _, c := range []struct {
			n    int64
			what string
		}{
			{s.AtExport[reconcile.Added], "added at the source while it was exported"},
			{s.AtExport[reconcile.ChangedDuring], "changed at the source while it was exported"},
			{vanished + s.AtExport[reconcile.Vanished], "deleted at the source while it was exported"},
			{s.AgainstSource[reconcile.Added], "added at the source since"},
			{s.AgainstSource[reconcile.ChangedSince], "changed at the source since"},
			{s.AgainstSource[reconcile.Vanished], "deleted at the source since"},
			{s.AgainstSource[reconcile.Unchecked], "at the source now that are known gaps of the snapshot"},
			{s.AgainstRestored[reconcile.Withheld], "erased at the source and withheld from the restored copy"},
			{s.AgainstSource[reconcile.Withheld], "on the register of erasures and at the source all the same"},
		} {
			if c.n > 0 {
				list = append(list, fmt.Sprintf("Stream %d: %s %s.", s.Number, plural(c.n, "record"), c.what))
			}
		}
		if withheld > 0 {
			list = append(list, fmt.Sprintf("Stream %d: %s of fields that a copy need not repeat not compared.", s.Number, plural(withheld, "value")))
		}
	}
	return list
}

func isAre(n int, noun string) string {
	if n == 1 {
		return plural(1, noun) + " is"
	}
	return plural(int64(n), noun) + " are"
}

// limits says what a certificate never proves, and what this one does not.
func limits(p *Predicate) []string {
	list := []string{
		"That the service holds nothing that its interface does not show to the credential that exported.",
		"That the data was right at the source: what was wrong there is wrong in the archive too.",
		"That an organisation can work with another product: the restored copy holds the data, not the service's functions.",
		"That times are right: they are those of the clocks of the hosts that exported and tested.",
		"That whoever holds the verifier's key was honest: they could sign what they did not test.",
	}
	if p.Archive.Freshness != Pass {
		list = append(list, "That this was the newest snapshot: no earlier state of the archive was held against it.")
	}
	if p.Target.Stressed {
		list = append(list, "That the archive agrees with the source as it is now: it was not asked.")
	}
	if slices.ContainsFunc(p.Streams, func(s StreamLine) bool { return gradeRank(s.Grade) <= 0 }) {
		list = append(list, "That streams of the grade best-effort are complete: they were read once, and nothing else says that it was all.")
	}
	return list
}
