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
		name: "check", summary: "check the archive without any key: names, signatures, the chain of snapshots, every byte",
		args: "[SNAPSHOT...]", max: -1,
		detail: "With snapshots, only their packs are read; everything else is always checked. The heads that a check\n" +
			"accepts are remembered: a later check fails if the store shows an older state.",
		uses: []flagGroup{configFlags, storeFlags},
		flags: []cli.Flag{
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
	c := verify.Check{Archive: s.archive, Quick: i.c.Bool("quick"), MaxAge: i.c.Duration("max-age"), Now: time.Now()}
	if p := i.c.Int("sample"); i.c.IsSet("sample") {
		if p < 1 || p > 100 {
			return usage("", "--sample wants a percentage from 1 to 100, not %d", p)
		}
		if p < 100 {
			c.Sample = float64(p) / 100
		}
	}
	for _, ref := range i.args() {
		_, d, err := s.find(ctx, ref)
		if err != nil {
			return err
		}
		c.Only = append(c.Only, d.Hash)
	}
	if c.Pins, err = s.pins(); err != nil {
		return err
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
	s.printCheck(r, findings)
	i.result = r
	switch {
	case len(findings) > 0:
		return errors.Join(err, &exitError{code: exitIntegrity, err: fmt.Errorf("%w: %s", errSaid, count(len(findings), "finding"))})
	case err != nil:
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

func (s *session) printCheck(r *verify.CheckReport, findings []verify.Finding) {
	if r.Freshness == verify.NotRun {
		s.printf("freshness: not checked: this host has not seen the store before, and --expect was not given\n")
	} else {
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
		s.note("%s", visible(n))
	}
	for _, svc := range r.Services {
		s.printf("%s: %s, %s\n", svc.Service, count(len(svc.Snapshots), "snapshot"), count(len(svc.Heads), "head"))
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
