package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
)

func runPurgeApply(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	o, err := s.office()
	if err != nil {
		return err
	}
	if i.c.Bool("due") {
		return s.applyDue(ctx, &o)
	}
	if len(i.args()) != 2 {
		return usage("sallyport purge apply SERVICE PLAN, or --due", "name the service and the plan")
	}
	plan, err := s.findPlan(ctx, &o, i.arg(0), i.arg(1))
	if err != nil {
		return err
	}
	r, err := s.applyPlan(ctx, &o, plan)
	if r != nil {
		i.result = r
	}
	return err
}

// applyDue applies every plan that is approved and waits to be carried out.
func (s *session) applyDue(ctx context.Context, o *retention.Office) error {
	if s.c.String("expect") != "" || s.c.Path("report") != "" {
		return usage("name the service and the plan", "--expect and --report are about one plan")
	}
	services := s.args()
	if len(services) == 0 {
		var err error
		if services, err = s.purged(); err != nil {
			return err
		}
	}
	var results []*purgeResult
	var errs []error
	for _, name := range services {
		_, purge, err := s.purgeOf(name)
		if err != nil {
			return err
		}
		plans, err := o.Waiting(ctx, name)
		errs = append(errs, err)
		for _, plan := range plans {
			var policy *retention.PolicyError
			p := retention.Purger{Office: *o, Limits: purgeLimits(purge)}
			if err := p.Approved(ctx, &plan); errors.As(err, &policy) {
				s.note("%s: plan %s waits: %s", name, plan.Hash, visible(policy.Reason))
				continue
			} else if err != nil {
				errs = append(errs, err)
				continue
			}
			r, err := s.applyPlan(ctx, o, &plan)
			if err != nil {
				err = fmt.Errorf("%s: plan %s: %w", name, plan.Hash, err)
			}
			if errs = append(errs, err); r != nil {
				results = append(results, r)
			}
		}
	}
	s.result = results
	return errors.Join(errs...)
}

// applyPlan carries a plan out, or rehearses it.
func (s *session) applyPlan(ctx context.Context, o *retention.Office, plan *retention.SignedPlan) (r *purgeResult, err error) {
	name := plan.Service
	_, purge, err := s.purgeOf(name)
	if err != nil {
		return nil, err
	}
	src, err := s.source(name)
	if err != nil {
		return nil, err
	}
	var expect dataset.Hash
	if text := s.c.String("expect"); text != "" {
		if expect, err = dataset.ParseHash(text); err != nil {
			return nil, usage("purge apply --dry-run prints it", "--expect: %w", err)
		}
	}
	unlock, err := s.lock(name + "-purge")
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = s.withLog(ctx, func(l *audit.Log) error {
		proof, err := retention.FindProof(ctx, s.archive, name, plan.Certificate, time.Now())
		if err != nil {
			return err
		}
		task := s.progress().Task("purge "+name, "item")
		p := retention.Purger{Office: *o, Log: l, Memory: s.holdMemory(), Proof: proof, Within: purge.ProofWithin.Std(), OneHost: s.config.Role == "",
			Limits: purgeLimits(purge), Expect: expect,
			Source: func(ctx context.Context) (exporters.Exporter, error) { return s.open(ctx, src) },
			State:  filepath.Join(s.state, "purge", string(s.archive.ID)),
			OnItem: func(int, retention.Fate, error) { task.Add(1, 0) }}
		act := p.Apply
		if s.c.Bool("dry-run") {
			act = p.Rehearse
		}
		out, err := act(ctx, plan)
		task.End()
		if out != nil {
			body, berr := o.Body(ctx, plan)
			if berr != nil {
				return errors.Join(err, berr)
			}
			r = s.printPurged(out, body)
		}
		if err != nil {
			return err
		}
		if s.c.Bool("dry-run") {
			s.printf("nothing was deleted; apply --expect does this or nothing: %s\n", r.Hash)
			return unfinished(out.Fates[retention.Failed] == 0)
		}
		return s.certifyPurge(ctx, l, out, r)
	})
	return r, err
}

// A purgeResult is what --json says of a plan that was carried out or rehearsed.
type purgeResult struct {
	Service     string                   `json:"service"`
	Plan        dataset.Hash             `json:"plan"`
	DryRun      bool                     `json:"dry_run,omitempty"`
	Fates       map[retention.Fate]int64 `json:"fates"`
	Actions     []purgeAction            `json:"actions"`
	Hash        dataset.Hash             `json:"hash"`              // of the actions, for --expect
	Found       []int                    `json:"found,omitempty"`   // items that should be gone and are there
	Altered     []int                    `json:"altered,omitempty"` // items of whose keys there are records with other data
	Certificate dataset.Hash             `json:"certificate,omitzero"`
	Deletion    *retention.Deletion      `json:"deletion,omitempty"`
}

// A purgeAction is what became of one item, or would.
type purgeAction struct {
	Item    int            `json:"item"`
	Fate    retention.Fate `json:"fate"`
	Stream  string         `json:"stream"`
	Key     string         `json:"key"`
	Version string         `json:"version,omitempty"`
	Detail  string         `json:"detail,omitempty"`
}

// printPurged says what became of the items: of a rehearsal and with -v of every one, else
// of those that were left alone or failed.
func (s *session) printPurged(out *retention.Purged, body *retention.Selection) *purgeResult {
	r := &purgeResult{Service: out.Plan.Service, Plan: out.Plan.Hash, DryRun: s.c.Bool("dry-run"), Fates: out.Fates, Hash: out.Hash(), Found: out.Absence.Found, Altered: out.Absence.Altered}
	var rows [][]string
	for _, l := range out.Lines {
		it := &body.Items[l.Item]
		r.Actions = append(r.Actions, purgeAction{l.Item, l.Fate, it.Stream, string(it.Key), it.Version, l.Detail})
		gone := l.Fate == retention.Deleted || l.Fate == retention.Gone || l.Fate == retention.Absent
		if r.DryRun || s.c.Bool("verbose") || !gone {
			rows = append(rows, []string{string(l.Fate), it.Stream, string(it.Key), it.Version, l.Detail})
		}
	}
	if len(rows) > 0 {
		s.table([]string{"", "stream", "key", "version", "because"}, rows)
	}
	for _, f := range retention.Fates {
		if n := out.Fates[f]; n > 0 {
			s.printf("%s: %s\n", f, count(int(n), "item"))
		}
	}
	for _, n := range out.Absence.Found {
		it := &body.Items[n]
		s.printf("should be gone and is there: %s %s %s\n", visible(it.Stream), visible(string(it.Key)), visible(it.Version))
	}
	for _, n := range out.Absence.Altered {
		it := &body.Items[n]
		s.printf("deleted, and there again with other data: %s %s\n", visible(it.Stream), visible(string(it.Key)))
	}
	if out.Absence.Unasked != "" {
		s.note("the source could not be read again: %s", visible(out.Absence.Unasked))
	}
	return r
}

// unfinished is how a purge ends of which items are left over.
func unfinished(done bool) error {
	if done {
		return nil
	}
	return &exitError{code: exitIncomplete, err: errors.New("the purge is not finished"), hint: "run it again; what is deleted is not deleted twice"}
}

// certifyPurge stores the deletion certificate of a purge that is done.
func (s *session) certifyPurge(ctx context.Context, l *audit.Log, out *retention.Purged, r *purgeResult) error {
	if err := unfinished(out.Done()); err != nil {
		return err
	}
	o, err := s.office()
	if err != nil {
		return err
	}
	k := &retention.Keeper{Office: o, Memory: s.holdMemory()} // it says which snapshots stay, and can remove none
	p, err := k.Propose(ctx, out.Plan.Service, s.keepOf(out.Plan.Service))
	if err != nil {
		return err
	}
	rebuilt := s.tryRebuild(ctx, &k.Office, out.Plan)
	h, d, err := k.Certify(ctx, out, p.Plan, rebuilt)
	if err != nil {
		return err
	}
	e := audit.NewEvent(audit.Purge, audit.Fact, time.Now())
	e.Service, e.Run, e.Document, e.Code = out.Plan.Service, out.Plan.Run, h, "certified"
	if err := l.Append(e); err != nil {
		return err
	}
	if _, err := l.Publish(ctx); err != nil {
		return err
	}
	s.printf("deletion certificate %s\n", h)
	if file := s.c.Path("report"); file != "" {
		if err := createFile(file, []byte(d.Report()), 0o644); err != nil {
			return err
		}
	}
	r.Certificate, r.Deletion = h, d
	if rebuilt == verify.Fail {
		return &exitError{code: exitIntegrity, err: errors.New("what was deleted cannot be rebuilt from the archive")}
	}
	if n := len(out.Absence.Altered); n > 0 {
		return &exitError{code: exitIncomplete, err: fmt.Errorf("of %s there are records with other data: new ones, or such as the source only marked as deleted", count(n, "deleted item"))}
	}
	return nil
}

// tryRebuild reads what was deleted back, if this host has the data identity.
func (s *session) tryRebuild(ctx context.Context, o *retention.Office, plan *retention.SignedPlan) verify.Outcome {
	snap, err := s.snapshotOf(ctx, plan.Service, plan.Manifest)
	if errors.Is(err, crypto.ErrNoKey) {
		s.note("this host cannot open the archive: run sallyport purge rebuild on the verifier")
		return verify.NotRun
	}
	var body *retention.Selection
	if err == nil {
		body, err = o.Body(ctx, plan)
	}
	outcome := verify.Unknown
	if err == nil {
		outcome, err = retention.Rebuild(ctx, snap, body)
	}
	if err != nil {
		s.note("%s", visible(err.Error()))
	}
	return outcome
}
