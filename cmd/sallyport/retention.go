package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	archives3 "github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/retention"
	"github.com/urfave/cli/v2"
)

func retentionCommand() command {
	return command{
		name: "retention", summary: "let snapshots expire by the keep rules, and collect what none needs any longer",
		group: []command{
			{
				name: "plan", summary: "say of every snapshot which rule keeps it, or that it expires", args: "[SERVICE...]", max: -1,
				detail: "Nothing is changed. The hash of the plan names what would expire: apply --expect HASH does that or nothing.",
				uses:   []flagGroup{configFlags, storeFlags, identityFlags},
				run:    runRetentionPlan,
			},
			{
				name: "apply", summary: "write signed records of expiry, and remove what no snapshot needs", args: "[SERVICE...]", max: -1,
				detail: "This is the keeper's. Without keep rules nothing expires, and what interrupted runs left is collected all the same.\n" +
					"Holds stop both. What the store retains by Object Lock stays until the lock lapses; what is still needed is locked\n" +
					"again in time.",
				uses: []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.BoolFlag{Name: "due", Usage: "only services for which it was not done for a day"},
					&cli.StringFlag{Name: "expect", Usage: "do nothing unless the plan has this `HASH`"},
				},
				run: runRetentionApply,
			},
		},
	}
}

// office returns where this host keeps records: signed with its key, sealed to the
// managed recipients and the keeper's, opened with the identities at hand, if any.
func (s *session) office() (retention.Office, error) {
	o := retention.Office{Archive: s.archive}
	if s.config == nil {
		return o, usage("sallyport init writes one", "this needs a configuration: it says who signs, and for whom records are sealed")
	}
	var err error
	if o.Signer, err = s.signingKey(); err != nil {
		return o, err
	}
	if o.Seal, _, err = s.recipients(); err != nil {
		return o, err
	}
	if path := string(s.config.Keys.KeeperRecipients); path != "" {
		if o.Seal, err = joinRecipients(o.Seal, path); err != nil {
			return o, err
		}
	}
	if o.Open, err = s.opener(); errors.Is(err, crypto.ErrNoKey) {
		o.Open, err = nil, nil
	}
	return o, err
}

func (s *session) holdMemory() retention.Memory {
	return retention.Memory{Dir: filepath.Join(s.state, "holds")}
}

// keeper returns what deletes in the archive.
func (s *session) keeper(log retention.Log) (*retention.Keeper, error) {
	o, err := s.office()
	if err != nil {
		return nil, err
	}
	k := &retention.Keeper{Office: o, Log: log, Memory: s.holdMemory()}
	switch st := s.store.(type) {
	case archive.Remover:
		k.Remover = st
	case *archives3.Store:
		k.Remover = archives3.Remover{Store: st}
	default:
		return nil, usage("", "nothing can be removed from this kind of store")
	}
	if l := s.config.ObjectLock; l != nil {
		k.LockFor = l.For.Std()
	}
	return k, nil
}

// keepOf returns the keep rules of a service at a time.
func (s *session) keepOf(service string) func(time.Time) retention.Keep {
	return func(now time.Time) retention.Keep {
		svc := s.config.Services[service]
		if svc == nil || svc.Keep == nil {
			return retention.Keep{}
		}
		k := svc.Keep
		keep := retention.Keep{Last: k.Last, Hourly: k.Hourly, Daily: k.Daily, Weekly: k.Weekly, Monthly: k.Monthly, Yearly: k.Yearly, Tags: k.Tags}
		if !k.Within.IsZero() {
			keep.Since = k.Within.Before(now)
		}
		return keep
	}
}

// known returns the services that the arguments name, or all of the configuration.
func (s *session) known(args []string) ([]string, error) {
	if s.config == nil {
		return nil, usage("sallyport init writes one", "this needs a configuration: it holds the rules")
	}
	if len(args) == 0 {
		return s.config.Names(), nil
	}
	for _, a := range args {
		if s.config.Services[a] == nil {
			return nil, usage("the services are "+strings.Join(s.config.Names(), ", "), "no such service: %q", a)
		}
	}
	return args, nil
}

// A retentionLine is what --json says of a snapshot.
type retentionLine struct {
	Service  string             `json:"service"`
	Snapshot archive.RunID      `json:"snapshot"`
	Time     time.Time          `json:"time"`
	Expires  bool               `json:"expires"`
	Reasons  []retention.Reason `json:"reasons"`
}

func runRetentionPlan(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	services, err := s.known(i.args())
	if err != nil {
		return err
	}
	k, err := s.keeper(nil) // it plans, and has no log to delete with
	if err != nil {
		return err
	}
	var lines []retentionLine
	var rows [][]string
	for _, name := range services {
		p, err := k.Propose(ctx, name, s.keepOf(name))
		if err != nil {
			return err
		}
		for _, d := range p.Snapshots {
			l := retentionLine{name, d.Run, d.Time, d.Expires, d.Reasons}
			lines = append(lines, l)
			rows = append(rows, l.row())
		}
		for _, junk := range p.State.Junk {
			s.note("counts for nothing: %v", junk)
		}
		if len(p.Holds) > 0 {
			s.note("%s: %s in force: nothing expires", name, count(len(p.Holds), "hold"))
		}
		defer s.printf("%s: %s of %d; plan %s\n", name, expiring(&p.Plan), len(p.Snapshots), p.Hash())
	}
	s.table([]string{"service", "snapshot", "time", "plan", "because"}, rows)
	i.result = lines
	return nil
}

func expiring(p *retention.Plan) string {
	if n := len(p.Expiring()); n != 1 {
		return fmt.Sprintf("%d snapshots expire", n)
	}
	return "1 snapshot expires"
}

func (l retentionLine) row() []string {
	what := "keep"
	if l.Expires {
		what = "expire"
	}
	var why []string
	for _, r := range l.Reasons {
		why = append(why, string(r))
	}
	return []string{l.Service, string(l.Snapshot), l.Time.Format("2006-01-02 15:04"), what, strings.Join(why, ", ")}
}

// A retentionResult is what --json says of what was done for a service.
type retentionResult struct {
	Service    string          `json:"service"`
	Expired    []archive.RunID `json:"expired"`
	Removed    int             `json:"removed"` // objects
	Bytes      int64           `json:"bytes"`
	Superseded int             `json:"superseded_keys"`
	Waiting    []archive.RunID `json:"waiting"`  // open runs: nothing was removed
	Retained   []retainedLine  `json:"retained"` // by the store
	Extended   int             `json:"extended_locks"`
	Holds      int             `json:"holds"`
}

type retainedLine struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until,omitzero"`
}

func runRetentionApply(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	services, err := s.known(i.args())
	if err != nil {
		return err
	}
	if i.c.String("expect") != "" && len(services) != 1 {
		return usage("name one service", "--expect is the hash of one service's plan")
	}
	var results []retentionResult
	var errs []error
	for _, name := range services {
		if i.c.Bool("due") && s.doneLately(name) {
			s.detail("%s: done within a day", name)
			continue
		}
		r, err := s.retain(ctx, name)
		if r != nil {
			results = append(results, *r)
		}
		if errs = append(errs, err); err == nil {
			errs = append(errs, s.markDone(name))
		}
	}
	i.result = results
	return errors.Join(errs...)
}

// retain applies the plan of one service.
func (s *session) retain(ctx context.Context, name string) (r *retentionResult, err error) {
	unlock, err := s.lock(name + "-retention")
	if err != nil {
		return nil, err
	}
	defer unlock()
	err = s.withLog(ctx, func(l *audit.Log) error {
		k, err := s.keeper(l)
		if err != nil {
			return err
		}
		var want dataset.Hash
		if text := s.c.String("expect"); text != "" {
			if want, err = dataset.ParseHash(text); err != nil {
				return usage("retention plan prints it", "--expect: %w", err)
			}
		} else {
			p, err := k.Propose(ctx, name, s.keepOf(name))
			if err != nil {
				return err
			}
			want = p.Hash()
		}
		out, err := k.Apply(ctx, name, s.keepOf(name), want)
		if out != nil {
			r = s.printRetained(name, out)
		}
		return err
	})
	return r, err
}

func (s *session) printRetained(name string, out *retention.Outcome) *retentionResult {
	r := &retentionResult{Service: name, Expired: out.Expired, Superseded: len(out.Superseded), Extended: out.Extended, Holds: out.Held}
	for _, run := range out.Expired {
		s.printf("%s@%s expired\n", name, run)
	}
	if c := out.Collection; c != nil {
		r.Removed, r.Bytes, r.Waiting = len(c.Removed), c.Bytes, c.Waiting
		s.printf("%s: %s removed, %s\n", name, count(len(c.Removed), "object"), humanize.IBytes(uint64(c.Bytes)))
		for _, run := range c.Waiting {
			s.note("%s: run %s is open, so nothing was removed", name, run)
		}
		if c.Held > 0 {
			s.printf("%s: %s kept by a hold\n", name, count(c.Held, "object"))
		}
	}
	if r.Superseded > 0 {
		s.printf("%s: %s replaced by a rotation removed\n", name, count(r.Superseded, "sealed key"))
	}
	for _, l := range out.Retained {
		r.Retained = append(r.Retained, retainedLine{l.Name, l.Until})
		s.printf("%s\n", visible(l.Error()))
	}
	if out.Extended > 0 {
		s.printf("%s: the lock of %s was extended\n", name, count(out.Extended, "object"))
	}
	return r
}

// doneLately reports whether a service's retention was applied within a day, by this
// host's own memory.
func (s *session) doneLately(service string) bool {
	info, err := os.Stat(filepath.Join(s.state, "retention", string(s.archive.ID)+"-"+service))
	return err == nil && time.Since(info.ModTime()) < 20*time.Hour && time.Since(info.ModTime()) >= 0
}

func (s *session) markDone(service string) error {
	d, err := durable.OpenPrivate(filepath.Join(s.state, "retention"))
	if err != nil {
		return fmt.Errorf("remember retention: %w", err)
	}
	return errors.Join(d.Replace(string(s.archive.ID)+"-"+service, nil), d.Close())
}
