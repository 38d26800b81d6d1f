package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
)

// proofAge is how old the certificate may be that a purge rests on.
const proofAge = 30 * 24 * time.Hour

// A purge deletes a service at its source.
type purge struct {
	*demo
	exit   *exit
	office retention.Office
	log    *audit.Log
	proof  *retention.Proof
	plan   *retention.SignedPlan
	out    *retention.Purged

	certificate string // file of the deletion certificate
}

// serviceIsGivenUp empties the bucket, of which the first exit proved that the archive
// has it, and brings everything back from there.
func (d *demo) serviceIsGivenUp(ctx context.Context) (err error) {
	log, err := audit.Open(audit.Options{Store: d.store, StoreID: d.archive.ID, Name: "demo", Signer: d.keys.signer, Trust: d.keys.trust, State: d.path("audit")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	d.say("\nThe first service is given up. Its exit is proven, so its bucket may be emptied:")
	p := &purge{demo: d, exit: d.left, log: log,
		office: retention.Office{Archive: d.archive, Signer: d.keys.signer, Seal: d.keys.seal, Open: d.keys.open}}
	for _, s := range []struct {
		what string
		do   func(context.Context) (string, error)
	}{
		{"plan the purge", p.makePlan},
		{"apply, approved by nobody", p.tooEarly},
		{"approve, with alex's own key", func(ctx context.Context) (string, error) { return p.approve(ctx, "alex") }},
		{"approve, with blair's own key", func(ctx context.Context) (string, error) { return p.approve(ctx, "blair") }},
		{"apply: delete, then look again", p.apply},
		{"certify the deletion", p.certify},
		{"restore into the emptied bucket", p.bringBack},
		{"check, audit log and all", func(ctx context.Context) (string, error) { return d.check(ctx, p.exit) }},
	} {
		if err := d.step(s.what, func() (string, error) { return s.do(ctx) }); err != nil {
			return err
		}
	}
	d.say("  certificate: %s", p.certificate)
	d.say("  in words:    %s", d.path("deletion-"+p.exit.service+".txt"))
	return nil
}

// makePlan picks all objects, because the service has come to its end.
func (p *purge) makePlan(ctx context.Context) (out string, err error) {
	if p.proof, err = retention.FindProof(ctx, p.archive, p.exit.service, dataset.Hash{}, time.Now()); err != nil {
		return "", err
	}
	planner := retention.Planner{Office: p.office, Approvals: 2, Limits: retention.Limits{Items: 1000, Percent: 100}, Within: proofAge, OneHost: true,
		Rules: []retention.Rule{{Name: "service given up", Stream: "objects", Because: "decommissioned", Since: time.Now().AddDate(0, 0, -1)}}}
	h, plan, _, err := planner.Plan(ctx, p.exit.snapshot, p.proof)
	if err != nil {
		return "", err
	}
	if plan == nil {
		return "", errors.New("the rule picks nothing")
	}
	if p.plan, err = p.office.ReadPlan(ctx, p.exit.service, h); err != nil {
		return "", err
	}
	p.expect(plan.Counts.Items == int64(p.bucket.versions), "the plan deletes %d of %d versions", plan.Counts.Items, p.bucket.versions)
	return fmt.Sprintf("%d versions of objects, needs %d approvals", plan.Counts.Items, plan.Approvals), p.event(ctx, audit.Plan, h, "")
}

// event records what deleted nothing.
func (p *purge) event(ctx context.Context, a audit.Activity, document dataset.Hash, code string) error {
	e := audit.NewEvent(a, audit.Fact, time.Now())
	e.Service, e.Run, e.Document, e.Code = p.exit.service, p.exit.snapshot.Run, document, code
	if err := p.log.Append(e); err != nil {
		return err
	}
	_, err := p.log.Publish(ctx)
	return err
}

func (p *purge) purger() *retention.Purger {
	return &retention.Purger{Office: p.office, Log: p.log, Proof: p.proof, Within: proofAge, OneHost: true, State: p.path("purge"), Source: p.exit.source}
}

// tooEarly wants a refusal.
func (p *purge) tooEarly(ctx context.Context) (string, error) {
	_, err := p.purger().Apply(ctx, p.plan)
	var refused *retention.PolicyError
	if !errors.As(err, &refused) {
		return "", fmt.Errorf("a plan that nobody approved was not refused: %w", err)
	}
	return refused.Error(), nil
}

// approve signs the plan with the key of a person, who may sign nothing else.
func (p *purge) approve(ctx context.Context, person string) (string, error) {
	key, err := crypto.LoadSigner(p.path(person))
	if err != nil {
		return "", err
	}
	doc, err := p.plan.ToSign(retention.First, 0)
	if err != nil {
		return "", err
	}
	sig, err := key.Sign("sallyport-approval", doc)
	if err != nil {
		return "", err
	}
	id, err := p.office.Approve(ctx, p.plan, retention.First, 0, sig)
	if err != nil {
		return "", err
	}
	return "approved by " + id.Principal, p.event(ctx, audit.Approval, p.plan.Hash, "")
}

// apply deletes, and wants the bucket to be empty.
func (p *purge) apply(ctx context.Context) (_ string, err error) {
	if p.out, err = p.purger().Apply(ctx, p.plan); err != nil {
		return "", err
	}
	left := len(p.bucket.server.Versions(bucketName))
	p.expect(p.out.Done() && left == 0, "the purge left %d versions in the bucket", left)
	return fmt.Sprintf("%d deleted, %d left in the bucket", p.out.Fates[retention.Deleted], left), nil
}

// certify certifies the deletion, after everything was read back from the archive alone.
func (p *purge) certify(ctx context.Context) (string, error) {
	body, err := p.office.Body(ctx, p.plan)
	if err != nil {
		return "", err
	}
	rebuilt, err := retention.Rebuild(ctx, p.exit.snapshot, body)
	if err != nil {
		return "", err
	}
	keeper := retention.Keeper{Office: p.office, Remover: p.store, Log: p.log}
	holders, err := keeper.Propose(ctx, p.exit.service, func(time.Time) retention.Keep { return retention.Keep{} })
	if err != nil {
		return "", err
	}
	h, deletion, err := p.office.Certify(ctx, p.out, holders.Plan, rebuilt)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(p.path("deletion-"+p.exit.service+".txt"), []byte(deletion.Report()), 0o600); err != nil {
		return "", err
	}
	p.expect(deletion.Absent == verify.Pass && deletion.Rebuilt == verify.Pass, "the deletion is certified with absence %s, rebuilt %s", deletion.Absent, deletion.Rebuilt)
	p.certificate = p.path("archive") + filepath.FromSlash("/"+p.exit.service+"/purges/"+h.String()+".json")
	return fmt.Sprintf("gone at the source: %s; in the archive alone: %s", deletion.Absent, deletion.Rebuilt), p.event(ctx, audit.Purge, h, "certified")
}

// bringBack restores the snapshot into the bucket that was emptied, and compares.
func (p *purge) bringBack(ctx context.Context) (string, error) {
	target, err := s3.OpenTarget(p.bucket.settings)
	if err != nil {
		return "", err
	}
	defer target.Close()
	back := exit{service: p.exit.service, kind: p.exit.kind, target: keptTarget{target}, snapshot: p.exit.snapshot}
	r, said, err := p.exitTest(ctx, &back)
	if err != nil {
		return "", err
	}
	p.expect(r.Restored == verify.Pass && len(r.Errors) == 0 && len(back.named) == 0, "what came back: %s, %q, %q", r.Restored, r.Errors, back.named)
	return said, nil
}

// A keptTarget is not emptied when it has been compared: what came back stays.
type keptTarget struct{ exporters.Target }

// Destroy implements [exporters.Target], and does nothing.
func (keptTarget) Destroy(context.Context, dataset.ID) error { return nil }
