package verify

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// Summary writes the certificate for a terminal: the verdict first, then what it rests
// on. It names nothing of the source.
func (c *Certificate) Summary(w io.Writer) error {
	p := &c.Predicate
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", c.Subject[0].Name, p.Verdict)
	for _, r := range p.Reasons {
		fmt.Fprintf(&b, "  because: %s\n", r)
	}
	fmt.Fprintf(&b, "\nTested %s, issued %s, valid until %s\n", p.Started.Format(time.RFC3339), p.Issued.Format(time.RFC3339), p.Expires.Format(time.RFC3339))
	fmt.Fprintf(&b, "Manifest sha256 %s\n\n", c.Subject[0].Digest.SHA256)
	for _, l := range p.Lines {
		fmt.Fprintf(&b, "%-13s %-8s %s\n", l.ID, l.Outcome, l.Finding)
	}
	fmt.Fprintf(&b, "\n%-7s %12s %12s %12s %12s  %-13s %s\n", "stream", "archive", "restored", "equal", "source now", "grade", "differences")
	for _, s := range p.Streams {
		wrong, other := statuses(s.AgainstRestored)
		now, since := statuses(s.AgainstSource)
		found := strings.Join(notEmpty(wrong, other, now, since), ", ")
		equal := int64(-1)
		if s.Restored >= 0 {
			equal = s.AgainstRestored["ok"]
		}
		fmt.Fprintf(&b, "%-7d %12s %12s %12s %12s  %-13s %s\n", s.Number, countText(s.Archived), countText(s.Restored), countText(equal), countText(s.Source), s.Grade, found)
	}
	list(&b, "Retention and audit logs", p.Upkeep())
	list(&b, "What the verdict leaves out", p.Exceptions)
	list(&b, "What it does not prove", p.Limits)
	fmt.Fprintf(&b, "\nNames are in the sealed annex %s\n", p.Annex.Name)
	_, err := io.WriteString(w, b.String())
	return err
}

// Upkeep says in sentences what retention, holds and purges have done, and where the audit
// logs stand.
func (p *Predicate) Upkeep() []string {
	var out []string
	if r := p.Retention; r != nil {
		rules := "No keep rules: nothing expires."
		if r.Policy != "" {
			rules = fmt.Sprintf("Keep %s: of %s, %d would expire now; %d expired before.", r.Policy, plural(int64(r.Snapshots), "snapshot"), r.Expiring, r.Expired)
		}
		out = append(out, rules, fmt.Sprintf("%s in force.", plural(int64(r.Holds), "legal hold")))
		if r.Purges > 0 {
			out = append(out, fmt.Sprintf("%s deleted at the source by %s, the last %s.", plural(r.Purged, "item"), plural(int64(r.Purges), "certified purge"), r.LastPurge.Format(time.RFC3339)))
		}
	}
	for _, l := range p.Logs {
		out = append(out, fmt.Sprintf("Audit log %s: %s, the newest %s, %d without an end; root %s.", l.Log, plural(l.Size, "event"), l.Newest.Format(time.RFC3339), l.Unmatched, l.Root))
	}
	return out
}

// Summary writes what a check of a certificate found, line by line.
func (r *CertificateReport) Summary(w io.Writer) error {
	var b strings.Builder
	for _, l := range r.Lines {
		fmt.Fprintf(&b, "%-8s %s %s\n", l.Outcome, l.Question, dataset.Escape(l.Detail))
	}
	switch r.Holds {
	case Pass:
		fmt.Fprintf(&b, "The certificate holds: %s.\n", r.Certificate.Predicate.Verdict)
	case Fail:
		b.WriteString("The certificate does not hold.\n")
	default:
		b.WriteString("Whether the certificate holds could not be found out.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func list(b *strings.Builder, title string, items []string) {
	if len(items) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, s := range items {
		fmt.Fprintf(b, "  - %s\n", s)
	}
}

func notEmpty(words ...string) []string {
	var kept []string
	for _, s := range words {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}
