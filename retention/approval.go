package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A Round is one of the two rounds of approvals.
type Round int

// The rounds.
const (
	First  Round = 1 // over the plan
	Second Round = 2 // over the plan and the number of items, typed in
)

// An Approval is a signature by a person who may approve.
type Approval struct {
	Round  Round           `json:"round"`
	Signer crypto.Identity `json:"signer"`
}

// machineNamespaces are those that hosts sign under. Whoever may sign under any of them
// is no person, and approves nothing.
var machineNamespaces = []string{"sallyport-store", "sallyport-intent", "sallyport-keys", "sallyport-manifest", "sallyport-abort",
	"sallyport-verified", "sallyport-certificate", "sallyport-expiry", nsLedger, nsDeletion, "sallyport-checkpoint"}

// mayApprove says why an identity may not approve a plan, nil if it may. A key of a
// principal who has a machine's key too is refused like that one.
func mayApprove(trust *crypto.Verifier, planner, by crypto.Identity) error {
	if by.Principal == planner.Principal || by.Fingerprint == planner.Fingerprint {
		return refuse("not-approved", "%s made the plan and cannot approve it", by.Principal)
	}
	for _, s := range trust.Signers() {
		if s.Principal != by.Principal {
			continue
		}
		for _, ns := range machineNamespaces {
			if trust.Allows(ns, s.Key()) {
				return refuse("not-approved", "%s is no person: the key %s may sign for %s", by.Principal, s.Fingerprint(), ns)
			}
		}
	}
	return nil
}

// confirmation returns the document of the second round.
func (p *SignedPlan) confirmation(items int64) ([]byte, error) {
	return archive.Encode(Confirmation{head{confirmationFormat, p.Store, p.Service}, p.Hash, items})
}

// ToSign returns the bytes that an approver signs: the plan itself, or, in the second
// round, a document with the number of items as typed in, which must be the plan's. A
// person may sign them anywhere:
//
//	ssh-keygen -Y sign -n sallyport-approval -f KEY FILE
func (p *SignedPlan) ToSign(round Round, typed int64) ([]byte, error) {
	if round == First {
		return p.Doc, nil
	}
	if typed != p.Counts.Items {
		return nil, refuse("wrong-number", "the plan deletes %d items, not %d", p.Counts.Items, typed)
	}
	return p.confirmation(typed)
}

// Approve adds the signature of a person to a plan. It fails with a *[PolicyError] if
// that person may not approve it, and with [crypto.ErrBadSignature] if the signature is
// not of this plan.
func (o *Office) Approve(ctx context.Context, p *SignedPlan, round Round, typed int64, armored []byte) (crypto.Identity, error) {
	now, err := storeTime(ctx, o.Archive.Store)
	if err != nil {
		return crypto.Identity{}, err
	}
	if !now.Before(p.Expires.Time) {
		return crypto.Identity{}, refuse("plan-expired", "the plan expired on %s", stamp(p.Expires.Time))
	}
	doc, err := p.ToSign(round, typed)
	if err != nil {
		return crypto.Identity{}, err
	}
	id, err := o.Archive.Trust.Verify(nsApproval, doc, armored, now)
	switch {
	case errors.Is(err, crypto.ErrWrongNamespace), errors.Is(err, crypto.ErrUnknownSigner), errors.Is(err, crypto.ErrNotValid):
		return id, refuse("not-approved", "whoever signed may not approve: %v", err)
	case err != nil:
		return id, fmt.Errorf("approval: %w", err)
	}
	if err := mayApprove(o.Archive.Trust, p.Planner, id); err != nil {
		return id, err
	}
	if err := o.Archive.AddSignature(ctx, p.Service, dataset.Sum(doc), nsApproval, armored); err != nil {
		return id, err
	}
	if round == Second { // a signature first, so that nothing unsigned lies there
		name := archive.RecordName(p.Service, "purges", doc)
		if err := o.Archive.Store.Create(ctx, name, doc); err != nil && !errors.Is(err, fs.ErrExist) {
			return id, fmt.Errorf("store confirmation: %w", err)
		}
	}
	return id, nil
}

// Approvals returns who approved a plan, each person once a round, by the allowed
// signers as they are now. Why other signatures do not count comes back too.
func (o *Office) Approvals(ctx context.Context, p *SignedPlan) (list []Approval, refused []error, err error) {
	now, err := storeTime(ctx, o.Archive.Store)
	if err != nil {
		return nil, nil, err
	}
	for _, round := range []Round{First, Second} {
		doc, err := p.ToSign(round, p.Counts.Items)
		if err != nil {
			return nil, nil, err
		}
		sigs, err := o.Archive.Signatures(ctx, p.Service, dataset.Sum(doc), nsApproval)
		if err != nil {
			return nil, nil, err
		}
		for _, s := range sigs {
			id, err := o.Archive.Trust.Verify(nsApproval, doc, s.Text, now)
			if err == nil {
				err = mayApprove(o.Archive.Trust, p.Planner, id)
			}
			if err == nil && slices.ContainsFunc(list, func(a Approval) bool { return a.Round == round && a.Signer.Principal == id.Principal }) {
				err = fmt.Errorf("%s has approved already: a person counts once", id.Principal)
			}
			if err != nil {
				refused = append(refused, fmt.Errorf("%s: %w", s.Name, err))
				continue
			}
			list = append(list, Approval{round, id})
		}
	}
	slices.SortFunc(list, func(a, b Approval) int {
		if a.Round != b.Round {
			return int(a.Round - b.Round)
		}
		return strings.Compare(a.Signer.Principal, b.Signer.Principal)
	})
	return list, refused, nil
}

// approved fails with a *[PolicyError] unless enough people approved a plan. beyond says
// why they must have confirmed it too; it is empty if they need not.
func (o *Office) approved(ctx context.Context, p *SignedPlan, beyond string) ([]Approval, error) {
	list, refused, err := o.Approvals(ctx, p)
	if err != nil {
		return nil, err
	}
	n := map[Round]int{}
	for _, a := range list {
		n[a.Round]++
	}
	why := ""
	if len(refused) > 0 {
		why = ": " + strings.ReplaceAll(errors.Join(refused...).Error(), "\n", "; ")
	}
	if n[First] < p.Approvals {
		return nil, refuse("not-approved", "the plan needs %d approvals and has %d%s", p.Approvals, n[First], why)
	}
	if beyond != "" && n[Second] < p.Approvals {
		return nil, refuse("not-confirmed", "the plan is larger than the limits allow: %s; so %d people must confirm it with the number of items, and %d did%s", beyond, p.Approvals, n[Second], why)
	}
	return list, nil
}
