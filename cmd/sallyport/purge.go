package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/retention"
	"github.com/urfave/cli/v2"
)

func purgeCommand() command {
	number := func() cli.Flag {
		return &cli.IntFlag{Name: "items", Usage: "second round: the `NUMBER` of items that the plan deletes, typed in"}
	}
	return command{
		name: "purge", summary: "delete at the source what the archive is proven to hold and people have approved",
		group: []command{
			{
				name: "plan", summary: "list what the rules let go and a certificate proves", args: "[SERVICE...]", max: -1,
				detail: "The rules are in the configuration (purge.rules). The plan is over the snapshot that the newest proven certificate\n" +
					"is about. It is signed and stored; nothing is deleted.",
				uses: []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "list, and store no plan"},
					&cli.BoolFlag{Name: "due", Usage: "for the services named, or all that have rules, unless a plan waits to be approved or carried out"},
					&cli.StringFlag{Name: "keep-until", Usage: "how long the archive must keep what is deleted: a `DAY` (default: until told otherwise)"},
				},
				run: runPurgePlan,
			},
			{
				name: "show", summary: "show a plan, its approvals, its items and what became of them", args: "SERVICE PLAN", min: 2, max: 2,
				detail: "With --out the document that approvers sign is written to a file:\n" +
					"ssh-keygen -Y sign -n sallyport-approval -f KEY FILE",
				uses: []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.PathFlag{Name: "out", TakesFile: true, Usage: "write what is to be signed to `FILE`"},
					number(),
				},
				run: runPurgeShow,
			},
			{
				name: "approve", summary: "add a person's signature to a plan", args: "SERVICE PLAN", min: 2, max: 2,
				detail: "The signature comes from --signature, or is made with --approval-key. A plan that is larger than the limits allow\n" +
					"needs a second round, with the number of items typed in.",
				uses: []flagGroup{configFlags, storeFlags},
				flags: []cli.Flag{
					&cli.PathFlag{Name: "signature", TakesFile: true, Usage: "the signature `FILE` that ssh-keygen -Y sign wrote"},
					&cli.StringFlag{Name: "approval-key", TakesFile: true, Usage: "sign with the SSH private key `FILE`, or agent:SHA256:..."},
					number(),
				},
				run: runPurgeApprove,
			},
			{
				name: "apply", summary: "delete what an approved plan names, and certify it", args: "[SERVICE [PLAN]]", max: -1,
				detail: "Each item is deleted only if the source still has it exactly as archived. Interrupted, it goes on when it is run\n" +
					"again. At the end the source is read again, and the deletion is certified. --dry-run asks the source of every item\n" +
					"and says what would become of it, and a hash: --expect HASH does that or nothing.",
				uses: []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "say what would become of every item, and delete nothing"},
					&cli.StringFlag{Name: "expect", Usage: "do nothing unless a dry run says `HASH` now"},
					&cli.BoolFlag{Name: "due", Usage: "every plan, of the services named or of all, that is approved and not carried out"},
					&cli.PathFlag{Name: "report", TakesFile: true, Usage: "write the certificate in words to `FILE` too"},
				},
				run: runPurgeApply,
			},
			{
				name: "rebuild", summary: "read everything that a plan deleted back from the archive alone", args: "SERVICE PLAN", min: 2, max: 2,
				uses: []flagGroup{configFlags, storeFlags, identityFlags}, run: runPurgeRebuild,
			},
		},
	}
}

// purgeOf returns what the configuration says of purging a service.
func (s *session) purgeOf(name string) (*config.Service, *config.Purge, error) {
	if s.config == nil || s.config.Services[name] == nil {
		return nil, nil, usage("put it into the configuration", "no such service: %q", name)
	}
	svc := s.config.Services[name]
	if svc.Purge == nil {
		return nil, nil, &exitError{code: exitPolicy, err: fmt.Errorf("%s has no purge rules: nothing may be deleted at the source", name)}
	}
	return svc, svc.Purge, nil
}

func purgeRules(p *config.Purge, now time.Time) []retention.Rule {
	var rules []retention.Rule
	for _, r := range p.Rules {
		rule := retention.Rule{Name: r.Name, Stream: r.Stream, Because: r.Because, Field: r.Field, Since: r.Since.Time, Authority: r.Authority}
		if !r.OlderThan.IsZero() {
			rule.Before = r.OlderThan.Before(now)
		}
		rules = append(rules, rule)
	}
	return rules
}

func purgeLimits(p *config.Purge) retention.Limits {
	return retention.Limits{Items: p.MaxItems, Percent: p.MaxPercent, Period: p.Period.Std()}
}

func runPurgePlan(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	services := i.args()
	due := i.c.Bool("due")
	if due && len(services) == 0 {
		if services, err = s.purged(); err != nil {
			return err
		}
	} else if len(services) != 1 && !due {
		return usage("sallyport purge plan SERVICE, or --due", "name the service")
	}
	o, err := s.office()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range services {
		if due {
			if waiting, err := o.Waiting(ctx, name); err != nil || len(waiting) > 0 {
				errs = append(errs, err)
				continue
			}
		}
		err := s.planPurge(ctx, o, name)
		if err != nil && len(services) > 1 {
			err = fmt.Errorf("%s: %w", name, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// purged returns the services of the configuration that have purge rules.
func (s *session) purged() ([]string, error) {
	all, err := s.known(nil)
	return slices.DeleteFunc(all, func(name string) bool { return s.config.Services[name].Purge == nil }), err
}

// planPurge makes the plan of one service.
func (s *session) planPurge(ctx context.Context, o retention.Office, name string) error {
	_, purge, err := s.purgeOf(name)
	if err != nil {
		return err
	}
	now := time.Now()
	proof, err := retention.FindProof(ctx, s.archive, name, dataset.Hash{}, now)
	if err != nil {
		return err
	}
	snap, err := s.snapshotOf(ctx, name, proof.Manifest)
	if err != nil {
		return err
	}
	p := retention.Planner{Office: o, Rules: purgeRules(purge, now), Limits: purgeLimits(purge),
		Approvals: purge.Approvals, Within: purge.ProofWithin.Std(), OneHost: s.config.Role == "", Memory: s.holdMemory()}
	if text := s.c.String("keep-until"); text != "" {
		if p.KeepUntil, err = time.Parse(time.DateOnly, text); err != nil {
			return usage("2033-03-31", "--keep-until %q is no day", text)
		}
	}
	if s.c.Bool("dry-run") {
		sel, err := p.Try(ctx, snap, proof)
		if err != nil {
			return err
		}
		return s.printSelection(sel)
	}
	h, plan, sel, err := p.Plan(ctx, snap, proof)
	if err != nil {
		return err
	}
	if err := s.printSelection(sel); err != nil || plan == nil {
		return err
	}
	s.logFact(ctx, audit.Plan, name, h)
	s.printf("plan %s\n", h)
	s.printPlan(plan)
	s.result = map[string]any{"plan": h, "header": plan}
	return nil
}

func (s *session) printPlan(p *retention.PurgePlan) {
	s.printf("  %s, %s, up to %d %% of a stream; over snapshot %s\n", count(int(p.Counts.Items), "item"), humanize.IBytes(uint64(p.Counts.Bytes)), p.Counts.Share, p.Run)
	s.printf("  needs %s until %s\n", count(p.Approvals, "approval"), p.Expires.Format("2006-01-02 15:04"))
	if p.Confirm {
		s.printf("  is larger than the limits allow: as many people must confirm it with the number of items\n")
	}
}

// printSelection lists the items, for those who may know them.
func (s *session) printSelection(sel *retention.Selection) error {
	var rows [][]string
	for _, it := range sel.Items {
		rows = append(rows, []string{"delete", it.Stream, string(it.Key), it.Version, string(it.Kind), sel.Rules[it.Rule].Name})
	}
	for _, k := range sel.Kept {
		rows = append(rows, []string{"keep", k.Stream, string(k.Key), "", "", string(k.Code)})
	}
	s.table([]string{"", "stream", "key", "version", "kind", "because"}, rows)
	if len(sel.Items) == 0 {
		s.note("nothing is to be deleted")
	}
	return nil
}

// findPlan reads the plan that an argument names by the beginning of its hash.
func (s *session) findPlan(ctx context.Context, o *retention.Office, service, text string) (*retention.SignedPlan, error) {
	plans, err := o.Plans(ctx, service)
	if err != nil {
		return nil, err
	}
	var hashes []dataset.Hash
	for _, p := range plans {
		hashes = append(hashes, p.Hash)
	}
	h, err := byPrefix(text, hashes)
	if err != nil {
		return nil, err
	}
	return o.ReadPlan(ctx, service, h)
}

func round(i *invocation) retention.Round {
	if i.c.IsSet("items") {
		return retention.Second
	}
	return retention.First
}

// openPlan opens the archive and the plan that the arguments name.
func (i *invocation) openPlan(ctx context.Context) (*session, *retention.Office, *retention.SignedPlan, error) {
	s, err := i.openSession(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	o, err := s.office()
	if err != nil {
		return nil, nil, nil, errors.Join(err, s.close())
	}
	plan, err := s.findPlan(ctx, &o, i.arg(0), i.arg(1))
	if err != nil {
		return nil, nil, nil, errors.Join(err, s.close())
	}
	return s, &o, plan, nil
}

func runPurgeShow(ctx context.Context, i *invocation) error {
	s, o, plan, err := i.openPlan(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if out := i.c.Path("out"); out != "" {
		doc, err := plan.ToSign(round(i), int64(i.c.Int("items")))
		if err != nil {
			return err
		}
		if err := createFile(out, doc, 0o644); err != nil {
			return err
		}
		i.note("sign it: ssh-keygen -Y sign -n sallyport-approval -f KEY %s", out)
		return nil
	}
	s.printf("plan %s by %s\n", plan.Hash, plan.Planner.Principal)
	s.printPlan(&plan.PurgePlan)
	approvals, refused, err := o.Approvals(ctx, plan)
	if err != nil {
		return err
	}
	for _, a := range approvals {
		s.printf("  approved by %s, round %d\n", a.Signer.Principal, a.Round)
	}
	for _, r := range refused {
		s.printf("  does not count: %s\n", visible(r.Error()))
	}
	i.result = map[string]any{"plan": plan.Hash, "header": plan.PurgePlan, "approvals": approvals}
	body, err := o.Body(ctx, plan)
	if errors.Is(err, crypto.ErrNoKey) {
		s.note("the items are sealed, and no identity here opens them")
		return nil
	} else if err != nil {
		return err
	}
	if err := s.printSelection(body); err != nil {
		return err
	}
	return s.printLedger(ctx, o, plan, body)
}

// printLedger says what became of a plan's items so far, by the ledger in the store.
func (s *session) printLedger(ctx context.Context, o *retention.Office, plan *retention.SignedPlan, body *retention.Selection) error {
	ledger, err := o.Ledger(ctx, plan)
	if err != nil || len(ledger) == 0 {
		return err
	}
	var rows [][]string
	for n := range body.Items {
		if l, ok := ledger[n]; ok {
			rows = append(rows, []string{string(l.Fate), body.Items[n].Stream, string(body.Items[n].Key), body.Items[n].Version, l.Detail})
		}
	}
	s.printf("the ledger has %d of %s\n", len(rows), count(len(body.Items), "item"))
	s.table([]string{"", "stream", "key", "version", "because"}, rows)
	return nil
}

func runPurgeApprove(ctx context.Context, i *invocation) error {
	s, o, plan, err := i.openPlan(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	typed := int64(i.c.Int("items"))
	doc, err := plan.ToSign(round(i), typed)
	if err != nil {
		return err
	}
	var sig []byte
	switch file, key := i.c.Path("signature"), i.c.String("approval-key"); {
	case (file == "") == (key == ""):
		return usage("--signature FILE, or --approval-key FILE", "say where the signature comes from")
	case file != "":
		sig, err = os.ReadFile(file)
	default:
		var k *crypto.Signer
		if k, err = crypto.LoadSigner(key); err == nil {
			sig, err = k.Sign("sallyport-approval", doc)
		}
	}
	if err != nil {
		return fmt.Errorf("approval: %w", err)
	}
	id, err := o.Approve(ctx, plan, round(i), typed, sig)
	if err != nil {
		return err
	}
	s.logFact(ctx, audit.Approval, i.arg(0), plan.Hash)
	i.printf("%s approved plan %s, round %d\n", id.Principal, plan.Hash, round(i))
	i.result = map[string]any{"plan": plan.Hash, "principal": id.Principal, "round": round(i)}
	return nil
}

func runPurgeRebuild(ctx context.Context, i *invocation) error {
	s, o, plan, err := i.openPlan(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	snap, err := s.snapshotOf(ctx, i.arg(0), plan.Manifest)
	if err != nil {
		return err
	}
	body, err := o.Body(ctx, plan)
	if err != nil {
		return err
	}
	act := s.logBegin(ctx, audit.Restore, plan.Service, plan.Run)
	if _, err = retention.Rebuild(ctx, snap, body); err != nil {
		err = &exitError{code: exitIntegrity, err: err}
	}
	act.end(ctx, err, plan.Run, plan.Hash, map[string]int64{"items": plan.Counts.Items})
	if err == nil {
		i.printf("%s of the plan can be rebuilt from the archive alone\n", count(int(plan.Counts.Items), "item"))
	}
	return err
}
