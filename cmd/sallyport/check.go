package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func checkCommand() command {
	return command{
		name: "check", summary: "check the archive without any key: names, signatures, the chain of snapshots, the audit logs, every byte",
		args: "[SNAPSHOT...]", max: -1,
		detail: "With snapshots, only their packs are read; everything else is always checked. The heads that a check\n" +
			"accepts are remembered: a later check fails if the store shows an older state.",
		uses: []flagGroup{configFlags, storeFlags},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "bundle", Usage: "the store is a copy of a bundle's data folder, which holds the packs of one snapshot; --store BUNDLE/data says so by itself"},
			&cli.BoolFlag{Name: "quick", Usage: "read no packs: only look whether they are there, in their size"},
			&cli.IntFlag{Name: "sample", Usage: "read `PERCENT` of the packs, chosen at random"},
			&cli.DurationFlag{Name: "max-age", Usage: "fail if the newest snapshot of a service is older"},
			&cli.StringSliceFlag{Name: "expect", Usage: "fail unless the manifest with `SHA256` is there (of a certificate, or of a colleague's check)"},
		},
		run: runCheck,
	}
}

func runCheck(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	// A store that the configuration names is never taken for a bundle: whoever can write
	// beside it could otherwise make checks look at less.
	c := verify.Check{Archive: s.archive, Bundle: i.c.Bool("bundle") || s.bag && i.c.IsSet("store"), Quick: i.c.Bool("quick"), MaxAge: i.c.Duration("max-age"), Now: time.Now()}
	if p := i.c.Int("sample"); i.c.IsSet("sample") {
		if p < 1 || p > 100 {
			return usage("", "--sample wants a percentage from 1 to 100, not %d", p)
		}
		if p < 100 {
			c.Sample = float64(p) / 100
		}
	}
	switch {
	case c.MaxAge < 0:
		return usage("", "--max-age wants an age, not %s", c.MaxAge)
	case i.c.IsSet("max-age") && c.MaxAge == 0:
		return usage("", "--max-age 0s would accept no snapshot at all")
	case c.Quick && c.Sample > 0:
		return usage("", "--quick reads no packs, so there is no --sample of them")
	}
	for _, ref := range i.args() {
		_, d, err := s.find(ctx, ref)
		if err != nil {
			return err
		}
		c.Only = append(c.Only, d.Hash)
	}
	if !c.Bundle { // which is of its time, and no rollback of the store that it comes from
		if c.Pins, err = s.pins(); err != nil {
			return err
		}
	}
	expected, err := expectations(i.c.StringSlice("expect"))
	if err != nil {
		return err
	}
	task := s.progress().Task("check", "pack")
	var before int64
	c.Progress = func(done, total int64) {
		task.Add(1, done-before)
		before = done
	}
	r, err := c.Run(ctx)
	task.End()
	if r == nil {
		return err
	}
	findings := append(r.Findings, unmet(r, expected)...)
	if r.Freshness == verify.NotRun && len(expected) > 0 { // what is expected pins the store too
		r.Freshness = verify.Pass
	}
	if r.Freshness == verify.Pass && len(findings) > len(r.Findings) {
		r.Freshness = verify.Fail
	}
	r.Findings = findings
	s.printCheck(r, findings, c.Bundle)
	i.result = r
	switch {
	case len(findings) > 0:
		said := &exitError{code: exitIntegrity, err: fmt.Errorf("%w: %s", errSaid, count(len(findings), "finding"))}
		if !c.Bundle && s.bag {
			said.hint = "if this is the data folder of a bundle, say so with --bundle"
		}
		return errors.Join(said, err)
	case err != nil, c.Bundle:
		return err
	}
	return s.accept(r, c.Pins)
}

// expectations parses the manifests that must be there.
func expectations(list []string) ([]dataset.Hash, error) {
	var hashes []dataset.Hash
	for _, e := range list {
		h, err := dataset.ParseHash(e)
		if err != nil {
			return nil, usage("it is 64 lower-case hex digits", "--expect %s: %w", e, err)
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}

func unmet(r *verify.CheckReport, expected []dataset.Hash) []verify.Finding {
	var missing []verify.Finding
	for _, h := range expected {
		found := false
		for _, svc := range r.Services {
			for _, d := range svc.Snapshots {
				found = found || d.Hash == h
			}
		}
		if !found {
			missing = append(missing, verify.Finding{Object: "manifest " + h.String(), Detail: "is expected and is not there: the store shows an older state, or the snapshot expired"})
		}
	}
	return missing
}

func (s *session) printCheck(r *verify.CheckReport, findings []verify.Finding, bundle bool) {
	switch {
	case r.Freshness == verify.NotRun && bundle:
		s.printf("freshness: not checked: a bundle is of its time\n")
	case r.Freshness == verify.NotRun:
		s.printf("freshness: not checked: this host has not seen the store before, and --expect was not given\n")
	default:
		s.printf("freshness: %s\n", r.Freshness)
	}
	for _, f := range findings {
		s.emit(struct {
			Type string `json:"message_type"`
			verify.Finding
		}{"finding", f})
		s.printf("%s\n", visible(f.String()))
	}
	for _, n := range r.Notes {
		s.printf("note: %s\n", visible(n)) // also with --quiet: what was not checked is part of the answer
	}
	for _, svc := range r.Services {
		s.printf("%s: %s, %s\n", svc.Service, count(len(svc.Snapshots), "snapshot"), count(len(svc.Heads), "head"))
	}
	for _, l := range r.Logs {
		if l.Size > 0 { // else a finding says why
			s.printf("audit log %s: %s, %s; root %s\n", l.Log, count(int(l.Size), "event"), count(l.Checkpoints, "checkpoint"), l.Root)
		}
		if l.Unmatched > 0 {
			s.printf("audit log %s: %s without a result: an act that died, or goes on\n", l.Log, count(l.Unmatched, "intent"))
		}
	}
	verdict := "intact"
	if len(findings) > 0 {
		verdict = "NOT INTACT: " + count(len(findings), "finding")
	}
	s.printf("%s: %s, %s of %s read (%s)\n", verdict, count(int(r.Objects), "object"), fmt.Sprint(r.PacksRead), count(int(r.Packs), "pack"), humanize.IBytes(uint64(r.BytesRead)))
}

// accept remembers the heads.
func (s *session) accept(r *verify.CheckReport, pins map[string][]verify.Pin) error {
	for _, svc := range r.Services {
		pins[svc.Service] = svc.Heads
	}
	return s.remember(pins)
}

// joinFindings is an integrity failure if there are any.
func joinFindings(bad []error) error {
	if len(bad) == 0 {
		return nil
	}
	return &exitError{code: exitIntegrity, err: errors.Join(bad...)}
}
