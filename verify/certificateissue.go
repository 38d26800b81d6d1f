package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

// DefaultValidity is how long a certificate proves something unless it is said otherwise.
const DefaultValidity = 90 * 24 * time.Hour

// An Issuance is all that goes into a certificate.
type Issuance struct {
	Archive    *archive.Archive
	Snapshot   *archive.Snapshot // that was tested; unlocked, unless it is damaged too much for that
	Report     *ExitReport
	Check      *CheckReport   // of the archive; nil if it was not checked
	Identities []Identity     // whose keys are tested; none leaves the test undone
	Signer     *crypto.Signer // the verifier's
	Recipients *crypto.Sealer // the managed recipients, to whom the annex is sealed
	Objectives Objectives
	Grade      archive.Grade // that each stream must at least have; empty means best effort
	Waivers    []Waiver
	Retention  *RetentionState // of the service; nil if nobody asked
	Roles      []string        // that the testing host has besides the verifier's
	Product    string          // product and version
	Validity   time.Duration   // 0 means DefaultValidity
	Now        time.Time
}

// An Identity is an age identity by a name that may be published.
type Identity struct {
	Name   string
	Opener *crypto.Opener
}

// Objectives are what a service promises. Zero means that nothing is promised.
type Objectives struct {
	RPO, RTO time.Duration
}

// A Waiver is the owner's acceptance of gaps.
type Waiver struct {
	Stream string
	Code   dataset.Code
	Key    string    // of one record; empty means all of the stream
	Reason string    // for people
	Until  time.Time // it covers nothing from then on
}

func (w *Waiver) covers(g *archive.GapLine, now time.Time) bool {
	return w.Stream == g.Stream && w.Code == g.Code && (w.Key == "" || w.Key == string(g.Key)) && now.Before(w.Until)
}

// Issue concludes what an exit test found, seals the names into an annex, and stores
// both, the certificate signed. It returns the certificate and its name in the store.
// What is not proven is certified as that: an error means that nothing was stored that
// counts. It wraps [crypto.ErrWrongNamespace] if the key may not sign certificates, as
// an exporter's may not.
func Issue(ctx context.Context, i Issuance) (c *Certificate, name string, err error) {
	if err := i.Archive.Trust.MaySign(CertificateNamespace, i.Signer.PublicKey(), i.Now); err != nil {
		return nil, "", fmt.Errorf("issue certificate: nobody would believe it: %w", err)
	}
	b := &builder{Issuance: i, numbers: map[string]int{}}
	if err := b.build(ctx); err != nil {
		return nil, "", fmt.Errorf("issue certificate: %w", err)
	}
	c = &b.certificate
	doc, err := c.Encode()
	if err != nil {
		return nil, "", fmt.Errorf("issue certificate: %w", err)
	}
	if _, err := ParseCertificate(doc); err != nil {
		return nil, "", fmt.Errorf("issue certificate: %w", err) // never sign what nobody would accept
	}
	service := i.Snapshot.Service
	if err := i.Archive.Store.Create(ctx, c.Predicate.Annex.Name, b.sealed); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, "", fmt.Errorf("store annex: %w", err)
	}
	name = archive.DocumentName(service, certificatesFolder, i.Snapshot.Run, doc)
	if err := archive.PutSigned(ctx, i.Archive.Store, i.Signer, service, name, CertificateNamespace, doc); err != nil {
		return nil, "", err
	}
	return c, name, nil
}

// A builder makes one certificate and its annex.
type builder struct {
	Issuance
	certificate Certificate
	annex       Annex
	room        annexRoom
	sealed      []byte
	numbers     map[string]int // of streams, by name
	descriptor  *archive.Descriptor
	damage      []Finding // met while the certificate was made
}

func (b *builder) build(ctx context.Context) error {
	s, r := b.Snapshot, b.Report
	b.room = annexBudget
	if b.descriptor = s.Descriptor; b.descriptor == nil {
		b.descriptor = new(archive.Descriptor)
	}
	p := &b.certificate.Predicate
	b.certificate.Type, b.certificate.PredicateType = StatementType, PredicateType
	b.certificate.Subject = []Subject{{SubjectName(s.Service, s.Run), Digest{s.Hash}}}
	p.Store, p.Service, p.Run, p.Test, p.Tool = b.Archive.ID, s.Service, s.Run, r.Test, b.Product
	p.Started, p.Ended, p.Issued = archive.At(r.Started), archive.At(r.Ended), archive.At(b.Now)
	p.Expires = archive.At(b.Now.Add(cmp.Or(b.Validity, DefaultValidity)))
	b.annex = Annex{Format: annexFormat, Store: p.Store, Service: p.Service, Run: p.Run, Test: p.Test,
		Streams: []AnnexStream{}, Differences: []AnnexDifference{}, Gaps: []AnnexGap{}, TargetGaps: []AnnexGap{},
		Acceptance: []AcceptanceResult{}, Findings: []Finding{}, Waivers: []AnnexWaiver{}}
	b.scope(p)
	b.streams(p)
	for _, f := range []func(context.Context, *Predicate) error{b.atExport, b.gaps, b.archive, b.keys} {
		if err := f(ctx, p); err != nil {
			return err
		}
	}
	if err := b.target(p); err != nil {
		return err
	}
	b.steps(p)
	b.objectives(p)
	b.acceptance(p)
	b.logs(p)
	p.SelfTest = append([]Planted{}, r.SelfTest...)
	if err := b.roles(ctx, p); err != nil {
		return err
	}
	if err := b.differences(p); err != nil {
		return err
	}
	controls, err := ParseControls(controlsFile)
	if err != nil {
		return err
	}
	p.Lines = Assess(p)
	p.Controls, p.Mapping = MapControls(controls, p.Lines), controlsHash()
	p.Verdict, p.Reasons = Decide(p.Lines)
	p.Exceptions, p.Limits = exceptions(p), limits(p)
	return b.seal(p)
}

// scope says what was chosen and left out: figures in public, sentences in the annex.
func (b *builder) scope(p *Predicate) {
	m, d := b.Snapshot.Manifest, b.descriptor.Sallyport
	p.Scope = Scope{Exporter: m.Exporter, Classification: m.Classification, Endpoints: append([]dataset.Endpoint{}, m.Endpoints...),
		Streams: int(m.Counts.Streams), LeftOut: len(d.Scope), NotArchived: len(b.Report.NotArchived),
		Filters: len(d.Facts.Filters), Unchecked: m.Counts.Unchecked, Grade: cmp.Or(b.Grade, archive.BestEffort)}
	for _, i := range d.Facts.Ignored {
		p.Scope.Ignored += i.Count
	}
	b.annex.Scope, b.annex.Filters, b.annex.Notes = texts(d.Scope), texts(d.Facts.Filters), texts(slices.Concat(d.Facts.Notes, b.Report.TargetNotes))
	b.annex.Ignored = append([]dataset.Ignored{}, d.Facts.Ignored...)
	b.annex.NotArchived, b.annex.Errors, b.annex.Source = texts(b.Report.NotArchived), texts(b.Report.Errors), text(b.Report.SourceError)
}

func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}

// streams lists the streams with the figures of the comparison.
func (b *builder) streams(p *Predicate) {
	compared := map[string]*reconcile.Comparison{}
	for i := range b.Report.Comparisons {
		compared[b.Report.Comparisons[i].Stream] = &b.Report.Comparisons[i]
	}
	p.Streams = []StreamLine{}
	for i, res := range b.descriptor.Resources {
		e := res.Sallyport
		l := StreamLine{Number: i + 1, Root: e.Root, Grade: e.Grade, Records: e.Records, Blobs: e.Blobs, BlobBytes: e.Bytes,
			SourceCount: e.Source, Vanished: e.Vanished, AtExport: map[reconcile.Status]int64{}, Archived: -1, Restored: -1, Source: -1,
			AgainstRestored: map[reconcile.Status]int64{}, AgainstSource: map[reconcile.Status]int64{}, TargetGaps: b.Report.GapsIn[res.Title]}
		if c := compared[res.Title]; c != nil {
			l.Archived, l.Restored, l.Source = c.Counts[reconcile.Archived], c.Counts[reconcile.Restored], c.Counts[reconcile.SourceNow]
			l.AgainstRestored, l.AgainstSource, l.Withheld = c.Restored, c.Source, c.Withheld
		}
		named := AnnexStream{Number: l.Number, Name: text(res.Title), Proof: text(e.Proof), Losses: []dataset.Loss{}}
		for _, loss := range b.Report.Losses {
			if loss.Stream == res.Title {
				l.Losses++
				named.Losses = append(named.Losses, dataset.Loss{Stream: text(loss.Stream), Field: text(loss.Field), Reason: text(loss.Reason)})
			}
		}
		b.numbers[res.Title] = l.Number
		p.Streams = append(p.Streams, l)
		b.annex.Streams = append(b.annex.Streams, named)
	}
}

// damaged notes that a ledger cannot be read because of what is stored, which the
// certificate says; any other error is returned.
func (b *builder) damaged(ledger string, err error) error {
	f, ok := Damage(err)
	if !ok {
		return fmt.Errorf("%s: %w", ledger, err)
	}
	b.damage = append(b.damage, Finding{f.Object, ledger + ": " + f.Detail})
	return nil
}

// atExport counts what second readings at export saw otherwise.
func (b *builder) atExport(ctx context.Context, p *Predicate) error {
	if b.Snapshot.Descriptor == nil {
		return nil
	}
	for l, err := range b.Snapshot.Second(ctx) {
		if err != nil {
			return b.damaged("second readings", err)
		}
		n := b.numbers[l.Stream]
		if n == 0 {
			return fmt.Errorf("second readings: stream %q is not in the snapshot", l.Stream)
		}
		p.Streams[n-1].AtExport[reconcile.Status(l.Status)]++
	}
	return nil
}

// gaps counts the gaps of the snapshot, waived and not.
func (b *builder) gaps(ctx context.Context, p *Predicate) error {
	type of struct {
		stream int
		code   dataset.Code
	}
	counts := map[of]*GapCount{}
	used := make([]int64, len(b.Waivers))
	for l, err := range b.ledger(ctx) {
		if err != nil {
			if err := b.damaged("ledger of gaps", err); err != nil {
				return err
			}
			break
		}
		id := of{b.numbers[l.Stream], l.Code}
		c := counts[id]
		if c == nil {
			c = &GapCount{Stream: id.stream, Code: l.Code}
			counts[id] = c
		}
		c.Count++
		if id.stream > 0 {
			p.Streams[id.stream-1].Gaps++
		}
		reason := ""
		if i := slices.IndexFunc(b.Waivers, func(w Waiver) bool { return w.covers(&l, b.Now) }); i >= 0 {
			w := b.Waivers[i]
			used[i]++
			c.Waived++
			if until := archive.At(w.Until); c.WaivedUntil.IsZero() || until.Before(c.WaivedUntil.Time) {
				c.WaivedUntil = until
			}
			reason = w.Reason
		}
		named := AnnexGap{text(l.Stream), l.Key, l.Ordinal, l.Code, text(l.Detail), text(reason)}
		if err := b.nameGap(&b.annex.Gaps, named, &b.annex.GapsUnnamed); err != nil {
			return err
		}
	}
	p.Gaps = []GapCount{}
	for _, c := range counts {
		p.Gaps = append(p.Gaps, *c)
	}
	slices.SortFunc(p.Gaps, func(a, b GapCount) int { return cmp.Or(a.Stream-b.Stream, cmp.Compare(a.Code, b.Code)) })
	for i, w := range b.Waivers {
		b.annex.Waivers = append(b.annex.Waivers, AnnexWaiver{text(w.Stream), w.Code, archive.Key(w.Key), text(w.Reason), archive.At(w.Until), used[i]})
	}
	return nil
}

// ledger yields the gaps of the snapshot, as far as it can be opened.
func (b *builder) ledger(ctx context.Context) iter.Seq2[archive.GapLine, error] {
	if b.Snapshot.Descriptor == nil {
		return func(func(archive.GapLine, error) bool) {}
	}
	return b.Snapshot.Gaps(ctx)
}

// nameGap puts a gap into the annex if there is room, and else counts it.
func (b *builder) nameGap(list *[]AnnexGap, g AnnexGap, unnamed *int64) error {
	ok := len(*list) < maxGapLines
	if ok {
		var err error
		if ok, err = b.room.fits(g); err != nil {
			return err
		}
	}
	if !ok {
		*unnamed++
		return nil
	}
	*list = append(*list, g)
	return nil
}

// archive says how the archive was found, and where the snapshot stands in it.
func (b *builder) archive(ctx context.Context, p *Predicate) error {
	m := b.Snapshot.Manifest
	a := ArchiveState{State: m.State, Sequence: m.Sequence, Parents: append([]dataset.Hash{}, m.Parents...),
		ExportStarted: m.Started, ExportEnded: m.Ended, Log: m.Log}
	if c := b.Check; c != nil {
		a.Integrity, a.Freshness, a.Findings = c.Integrity, c.Freshness, len(c.Findings)
		a.Objects, a.Packs, a.PacksRead, a.BytesRead = c.Objects, c.Packs, c.PacksRead, c.BytesRead
		for _, s := range c.Services {
			if s.Service == b.Snapshot.Service {
				a.Covered = slices.ContainsFunc(s.Snapshots, func(d *archive.Decision) bool { return d.Hash == b.Snapshot.Hash })
			}
		}
		b.findings(c.Findings)
	}
	if v := b.Report.Verified; v != nil {
		a.Content, a.ContentBytes, a.ContentWrong = v.Content, v.Bytes, len(v.Findings)
		b.findings(v.Findings)
	}
	if len(b.damage) > 0 { // the verification says so too, of what it reads
		a.Content, a.ContentWrong = Fail, a.ContentWrong+len(b.damage)
		b.findings(b.damage)
	}
	all, err := b.Archive.Snapshots(ctx, b.Snapshot.Service)
	if err != nil {
		return err
	}
	b.history(p, &a, append(slices.Clone(all.All), all.Expired...))
	p.Archive = a
	return nil
}

func (b *builder) findings(list []Finding) {
	for _, f := range list {
		b.annex.Findings = append(b.annex.Findings, Finding{text(f.Object), text(f.Detail)})
	}
}

// historyWindow is how far back intervals between snapshots are measured.
const historyWindow = 30 * 24 * time.Hour

// history counts newer snapshots, and measures the longest time without a complete one.
func (b *builder) history(p *Predicate, a *ArchiveState, all []*archive.Decision) {
	var complete []time.Time
	from := b.Report.Started.Add(-historyWindow)
	for _, d := range all {
		if d.Manifest.Sequence > a.Sequence {
			a.Newer++
		}
		if t := d.Manifest.Started.Time; d.Manifest.State == archive.Complete && t.After(from) && !t.After(b.Report.Started) {
			complete = append(complete, t)
		}
	}
	slices.SortFunc(complete, time.Time.Compare)
	p.Objectives.Complete = len(complete)
	for i := 1; i < len(complete); i++ {
		p.Objectives.LongestGap = max(p.Objectives.LongestGap, complete[i].Sub(complete[i-1]).Milliseconds())
	}
}

// target says what the snapshot was restored into.
func (b *builder) target(p *Predicate) error {
	r := b.Report
	p.Target = TargetState{Kind: r.TargetKind, Restored: r.Restored, Losses: len(r.Losses), Gaps: r.GapCount, Stressed: r.Stressed, Destroyed: r.Destroyed}
	unnamed := int64(0) // the certificate counts them all
	for _, g := range r.Gaps {
		named := AnnexGap{text(g.Stream), archive.Key(g.Key), g.Ordinal, g.Code, text(g.Detail), ""}
		if err := b.nameGap(&b.annex.TargetGaps, named, &unnamed); err != nil {
			return err
		}
	}
	return nil
}

// roles says who signed, by the manifest that is in the store now.
func (b *builder) roles(ctx context.Context, p *Predicate) error {
	d, err := b.Archive.Decision(ctx, p.Service, p.Run)
	if err != nil {
		return err
	}
	if d.Hash != b.Snapshot.Hash {
		return &archive.IntegrityError{Name: archive.DecisionName(p.Service, p.Run), Err: errors.New("is not the manifest that was tested")}
	}
	p.Roles = Roles{Signer: b.Signer.Fingerprint(), ExportSigner: d.Signer.Fingerprint, ExportedBy: d.Signer.Principal,
		SharedHost: append([]string{}, b.Roles...)}
	return nil
}

func (b *builder) steps(p *Predicate) {
	p.Steps = []StepLine{}
	for _, s := range b.Report.Steps {
		l := StepLine{Name: s.Name, Streams: []int{}, Started: archive.At(s.Start),
			AfterMS: s.Start.Sub(b.Report.Started).Milliseconds(), TookMS: s.Took.Milliseconds(), Outcome: s.Outcome}
		for _, name := range s.Streams {
			l.Streams = append(l.Streams, b.numbers[name])
		}
		p.Steps = append(p.Steps, l)
	}
}

func (b *builder) objectives(p *Predicate) {
	age := b.Report.Started.Sub(b.Snapshot.Manifest.Started.Time)
	p.Objectives.RPO = measure(b.Objectives.RPO, age, true)
	p.Objectives.RTO = measure(b.Objectives.RTO, b.Report.RTO, b.Report.Restored == Pass || b.Report.Restored == Fail)
}

func measure(objective, measured time.Duration, whole bool) Measure {
	m := Measure{ObjectiveMS: objective.Milliseconds(), MeasuredMS: measured.Milliseconds()}
	switch {
	case objective <= 0:
		m.ObjectiveMS = 0
	case measured > objective:
		m.Outcome = Fail
	case !whole:
		m.Outcome = Unknown
	default:
		m.Outcome = Pass
	}
	return m
}

func (b *builder) acceptance(p *Predicate) {
	p.Acceptance = []Answer{}
	for i, a := range b.Report.Acceptance {
		p.Acceptance = append(p.Acceptance, Answer{i + 1, a.Outcome})
		b.annex.Acceptance = append(b.annex.Acceptance, AcceptanceResult{text(a.Name), a.Outcome, value([]byte(a.Detail))})
	}
}

// differences names the records that are not the same on all sides, what is wrong
// first, as far as there is room.
func (b *builder) differences(p *Predicate) error {
	for _, s := range p.Streams {
		for _, counts := range []map[reconcile.Status]int64{s.AgainstRestored, s.AgainstSource} {
			for status, n := range counts {
				if status != reconcile.OK && status != reconcile.Withheld { // no name of what was erased is written anew
					p.Annex.Differences += n
				}
			}
		}
	}
	for _, bad := range []bool{true, false} {
		for i := range b.Report.Comparisons {
			for _, d := range b.Report.Comparisons[i].Differences {
				if d.Status.Bad() != bad {
					continue
				}
				named := AnnexDifference{Stream: b.numbers[d.Stream], Key: archive.Key(d.Key), Ordinal: d.Ordinal, Status: d.Status,
					Between: d.Between, Fields: []AnnexField{}, Blob: d.Blob}
				for _, f := range d.Fields {
					named.Fields = append(named.Fields, AnnexField{text(f.Path), value(f.A), value(f.B)})
				}
				ok, err := b.room.fits(named)
				if err != nil {
					return err
				}
				if ok {
					b.annex.Differences = append(b.annex.Differences, named)
					p.Annex.Named++
				}
			}
		}
	}
	return nil
}

func (b *builder) seal(p *Predicate) (err error) {
	if b.sealed, err = b.annex.seal(b.Recipients); err != nil {
		return err
	}
	p.Annex.Name, p.Annex.SHA256, p.Annex.Bytes = archive.AnnexName(p.Service, b.sealed), dataset.Sum(b.sealed), int64(len(b.sealed))
	p.Annex.Recipients = b.Recipients.Recipients()
	return nil
}
