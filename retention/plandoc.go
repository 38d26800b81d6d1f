package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

const (
	planFormat         = "sallyport-plan/1"
	confirmationFormat = "sallyport-confirmation/1"
)

// planLife is how long a plan may be approved and applied.
const planLife = 14 * 24 * time.Hour

// A PurgePlan is the public header of a plan to delete at the source. Its hash is what
// people approve; it names its body, which names the items, by hash.
type PurgePlan struct {
	head
	Planned     archive.Time   `json:"planned"`
	Expires     archive.Time   `json:"expires"`
	Run         archive.RunID  `json:"run"`         // whose snapshot holds what is deleted
	Manifest    dataset.Hash   `json:"manifest"`    // of that run
	Certificate dataset.Hash   `json:"certificate"` // that proves it
	Counts      Counts         `json:"counts"`
	Approvals   int            `json:"approvals"` // people needed
	Confirm     bool           `json:"confirm"`   // a second round, in which the number is typed in, is needed
	KeepUntil   archive.Time   `json:"keep_until,omitzero"`
	Packs       []dataset.Hash `json:"packs"` // that hold what is deleted: later exports do not reuse them; sorted
	Annex       dataset.Hash   `json:"annex"` // a sealed [Selection]
}

// A Confirmation is what people sign in the second round: the plan, and the number of
// items as they typed it in.
type Confirmation struct {
	head
	Plan  dataset.Hash `json:"plan"`
	Items int64        `json:"items"`
}

// check refuses a proof that does not prove what is to be deleted.
func (p *Proof) check(now time.Time, within time.Duration, store dataset.ID, service string, manifest *archive.Decision, oneHost bool) error {
	switch {
	case p.Store != store:
		return refuse("no-proof", "the certificate is of another store, %s", p.Store)
	case p.Service != service:
		return refuse("no-proof", "the certificate is of another service, %s", p.Service)
	case p.Manifest != manifest.Hash:
		return refuse("no-proof", "the certificate is of another snapshot")
	case !p.Proven:
		return refuse("no-proof", "the certificate does not say that the exit is proven")
	case p.Issued.After(now.Add(skew)):
		return refuse("no-proof", "the certificate is dated %s, which is in the future", stamp(p.Issued))
	case now.Sub(p.Issued) > within:
		return refuse("stale-proof", "the certificate of %s is older than %s", stamp(p.Issued), span(within))
	case !p.Expires.IsZero() && !now.Before(p.Expires):
		return refuse("stale-proof", "the certificate expired on %s", stamp(p.Expires))
	case !oneHost && p.Signer.Principal == manifest.Signer.Principal:
		return refuse("no-proof", "the certificate is signed by %s, who also signed the snapshot", p.Signer.Principal)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// span writes a duration for people: in days if it is whole days.
func span(d time.Duration) string {
	if day := 24 * time.Hour; d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// A Planner makes plans to delete at the source. It reads a snapshot, so it has the data
// identity; whoever applies the plan needs only the identity that plans are sealed to.
type Planner struct {
	Office
	Rules     []Rule
	Limits    Limits
	Approvals int           // people needed, at least 1
	Within    time.Duration // how old the certificate may be
	KeepUntil time.Time     // how long the archive must keep what is deleted; zero means until told otherwise
	OneHost   bool          // one host has all roles, so that a certificate's signer may have signed the snapshot too
	Memory    Memory        // of holds
}

// Try selects what a plan over an unlocked snapshot would delete, and stores nothing.
func (p *Planner) Try(ctx context.Context, s *archive.Snapshot, proof *Proof) (*Selection, error) {
	sel, _, _, err := p.choose(ctx, s, proof)
	return sel, err
}

// Plan makes, signs and stores a plan over an unlocked snapshot that proof proves. If
// nothing is to be deleted there is no plan, and the hash is zero.
func (p *Planner) Plan(ctx context.Context, s *archive.Snapshot, proof *Proof) (dataset.Hash, *PurgePlan, *Selection, error) {
	var none dataset.Hash
	sel, streams, now, err := p.choose(ctx, s, proof)
	if err != nil || len(sel.Items) == 0 {
		return none, nil, sel, err
	}
	purged := map[string]bool{}
	for _, it := range sel.Items {
		purged[it.Stream+"\x00"+string(it.Key)] = true
	}
	packs, err := Touched(ctx, s, func(stream, key string) bool { return purged[stream+"\x00"+key] })
	if err != nil {
		return none, nil, nil, err
	}
	annex, err := p.putAnnex(ctx, s.Service, sel)
	if err != nil {
		return none, nil, nil, err
	}
	counts := sel.Count(streams)
	beyond, err := p.beyond(ctx, s.Service, p.Limits, counts, now, none)
	if err != nil {
		return none, nil, nil, err
	}
	plan := &PurgePlan{head: head{planFormat, p.Archive.ID, s.Service}, Planned: archive.At(now), Expires: archive.At(now.Add(planLife)),
		Run: s.Run, Manifest: s.Hash, Certificate: proof.Certificate, Counts: counts, Approvals: p.Approvals,
		Confirm: beyond != "", Packs: packs, Annex: annex}
	if !p.KeepUntil.IsZero() {
		plan.KeepUntil = archive.At(p.KeepUntil)
	}
	h, err := p.put(ctx, s.Service, "purges", nsPlan, plan)
	if err != nil {
		return none, nil, nil, fmt.Errorf("store plan: %w", err)
	}
	return h, plan, sel, nil
}

// beyond says why a plan needs a second round of approvals; "" if it needs none. What was
// deleted by the plan of a hash is not counted twice.
func (o *Office) beyond(ctx context.Context, service string, l Limits, c Counts, now time.Time, but dataset.Hash) (string, error) {
	if l.Period == 0 {
		return l.exceeded(c, 0, 0), nil
	}
	items, share, err := o.Recent(ctx, service, now.Add(-l.Period), but)
	if err != nil {
		return "", fmt.Errorf("what was deleted before: %w", err)
	}
	return l.exceeded(c, items, share), nil
}

// choose looks for every reason not to plan, and selects.
func (p *Planner) choose(ctx context.Context, s *archive.Snapshot, proof *Proof) (*Selection, []StreamSource, time.Time, error) {
	now, err := storeTime(ctx, p.Archive.Store)
	if err != nil {
		return nil, nil, now, err
	}
	if len(p.Rules) == 0 {
		return nil, nil, now, refuse("no-rules", "there are no rules that say what may be deleted")
	}
	if p.Approvals < 1 || p.Limits.Items < 1 || p.Limits.Percent < 1 {
		return nil, nil, now, refuse("no-rules", "approvals and limits must be at least 1")
	}
	if err := proof.check(now, p.Within, p.Archive.ID, s.Service, s.Decision, p.OneHost); err != nil {
		return nil, nil, now, err
	}
	if err := p.Memory.Check(ctx, p.Archive, s.Service); err != nil {
		return nil, nil, now, err
	}
	holds, err := p.Holds(ctx, s.Service)
	if err != nil {
		return nil, nil, now, err
	}
	streams, err := sourcesOf(ctx, s)
	if err != nil {
		return nil, nil, now, err
	}
	sel, err := Select(now, p.Rules, streams, holds)
	return sel, streams, now, err
}

// sourcesOf returns the streams of a snapshot as a selection reads them.
func sourcesOf(ctx context.Context, s *archive.Snapshot) ([]StreamSource, error) {
	gaps := map[string]map[string]bool{}
	for g, err := range s.Gaps(ctx) {
		if err != nil {
			return nil, fmt.Errorf("gaps: %w", err)
		}
		if gaps[g.Stream] == nil {
			gaps[g.Stream] = map[string]bool{}
		}
		gaps[g.Stream][string(g.Key)] = true
	}
	var list []StreamSource
	for i := range s.Descriptor.Resources {
		e := &s.Descriptor.Resources[i].Sallyport
		if e.Stream.Keyless {
			continue // records that have no identity cannot be deleted one by one
		}
		list = append(list, StreamSource{e.Stream, e.Records, s.Records(ctx, e), gaps[e.Stream.Name]})
	}
	return list, nil
}

// A SignedPlan is a plan that was found in the store, validly signed.
type SignedPlan struct {
	PurgePlan
	Hash    dataset.Hash
	Doc     []byte
	Planner crypto.Identity
}

// Plans returns the plans of a service, in the order in which they were made.
func (o *Office) Plans(ctx context.Context, service string) ([]SignedPlan, error) {
	docs, err := folder(ctx, o.Archive, service, "purges")
	if err != nil {
		return nil, err
	}
	var plans []SignedPlan
	for _, d := range docs {
		if d.format != planFormat {
			continue
		}
		p, err := o.signedPlan(ctx, service, d)
		if err != nil {
			return nil, err
		}
		plans = append(plans, *p)
	}
	slices.SortFunc(plans, func(a, b SignedPlan) int {
		if c := a.Planned.Compare(b.Planned.Time); c != 0 {
			return c
		}
		return slices.Compare(a.Hash[:], b.Hash[:])
	})
	return plans, nil
}

// Waiting returns the plans of a service that are neither carried out nor expired, in the
// order in which they were made.
func (o *Office) Waiting(ctx context.Context, service string) ([]SignedPlan, error) {
	now, err := storeTime(ctx, o.Archive.Store)
	if err != nil {
		return nil, err
	}
	plans, err := o.Plans(ctx, service)
	if err != nil {
		return nil, err
	}
	deletions, err := o.Deletions(ctx, service)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(plans, func(p SignedPlan) bool {
		done := slices.ContainsFunc(deletions, func(d SignedDeletion) bool { return d.Plan == p.Hash })
		return done || !now.Before(p.Expires.Time)
	}), nil
}

// ReadPlan returns the plan of a hash.
func (o *Office) ReadPlan(ctx context.Context, service string, h dataset.Hash) (*SignedPlan, error) {
	name := service + "/purges/" + h.String() + ".json"
	doc, err := o.Archive.Read(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("plan %s: %w", h, err)
	}
	return o.signedPlan(ctx, service, stored{name, h, doc, planFormat})
}

func (o *Office) signedPlan(ctx context.Context, service string, d stored) (*SignedPlan, error) {
	p := &SignedPlan{Hash: d.hash, Doc: d.doc}
	var err error
	p.Planner, err = o.verified(ctx, service, nsPlan, d, &p.PurgePlan, &p.head, planFormat, func() archive.Time { return p.Planned })
	if err == nil && (p.Approvals < 1 || p.Counts.Items < 1) {
		err = &archive.IntegrityError{Name: d.name, Err: errors.New("is a plan without items or approvals")}
	}
	return p, err
}

// Body opens the sealed body of a plan.
func (o *Office) Body(ctx context.Context, p *SignedPlan) (*Selection, error) {
	s := new(Selection)
	if err := o.annex(ctx, p.Service, p.Annex, s); err != nil {
		return nil, err
	}
	var c Counts
	if c = s.Count(nil); c.Items != p.Counts.Items || c.Bytes != p.Counts.Bytes {
		return nil, &archive.IntegrityError{Name: "plan " + p.Hash.String(), Err: fmt.Errorf("its body has %d items of %d bytes, its header %d of %d", c.Items, c.Bytes, p.Counts.Items, p.Counts.Bytes)}
	}
	return s, nil
}
