package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
	"github.com/urfave/cli/v2"
)

func keysRotateCommand() command {
	return command{
		name: "rotate", summary: "seal every run key to the present recipients", args: "[SERVICE...]", max: -1,
		detail: "No pack is touched. Interrupted, it goes on when it is run again. The keeper's retention apply removes the files that\n" +
			"were replaced. Rotation is not revocation: whoever held an old identity may have kept the run keys, or copies of\n" +
			"the sealed files; only new exports are closed to them.",
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		run:  runKeysRotate,
	}
}

func runKeysRotate(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	services, err := s.known(i.args())
	if err != nil {
		return err
	}
	signer, err := s.signingKey()
	if err != nil {
		return err
	}
	data, index, err := s.recipients()
	if err != nil {
		return err
	}
	var keeper *crypto.Sealer
	if s.config != nil && s.config.Keys.KeeperRecipients != "" {
		if keeper, err = joinRecipients(nil, string(s.config.Keys.KeeperRecipients)); err != nil {
			return err
		}
	}
	open, err := s.opener()
	if err != nil {
		return err
	}
	return s.withLog(ctx, func(l *audit.Log) error {
		var results []map[string]any
		for _, name := range services {
			task := s.progress().Task("rotate "+name, "key")
			r := retention.Rotation{Archive: s.archive, Signer: signer, Open: open, Data: data, Index: index, Keeper: keeper, Log: l, Now: time.Now,
				OnKey: func(dataset.Hash, bool) { task.Add(1, 0) }}
			out, err := r.Run(ctx, name)
			task.End()
			if err != nil {
				return fmt.Errorf("rotate the keys of %s: %w", name, err)
			}
			s.printf("%s: %s, %d sealed anew, %d were already\n", name, count(out.Keys, "key"), out.Resealed, out.Already)
			if out.HashKeys > 0 {
				s.printf("%s: the erasure register can be read by the present recipients\n", name)
			}
			results = append(results, map[string]any{"service": name, "keys": out.Keys, "resealed": out.Resealed, "already": out.Already, "hash_keys": out.HashKeys})
		}
		s.result = results
		return nil
	})
}

func keysAccessCommand() command {
	return command{
		name: "access", summary: "prove who opens which run key of every snapshot, and say to whom each is sealed", args: "[SERVICE...]", max: -1,
		detail: "Give every identity that should open the archive with -i. The answer is yes if each key of every snapshot is opened\n" +
			"by at least as many of them as --independent says.",
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "list every key, and not only those that fail"},
			&cli.IntFlag{Name: "independent", Value: 2, Usage: "identities that must open each data key, a `NUMBER`"},
		},
		run: runKeysAccess,
	}
}

func runKeysAccess(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	services := i.args()
	if len(services) == 0 {
		if services, err = s.serviceNames(ctx); err != nil {
			return err
		}
	}
	identities, err := s.identities()
	if err != nil {
		return err
	}
	s.warnExpiry(time.Now())
	need := i.c.Int("independent")
	var results []retention.KeyTest
	var rows [][]string
	short := 0
	for _, name := range services {
		tests, err := retention.TestKeys(ctx, s.archive, name, identities)
		if err != nil {
			return err
		}
		for _, t := range tests {
			bad := len(t.Opened) < need
			if bad {
				short++
			}
			results = append(results, t)
			if bad || i.c.Bool("all") {
				rows = append(rows, keyRow(name, &t))
			}
		}
	}
	s.table([]string{"service", "key", "role", "snapshots", "opened by", "sealed to"}, rows)
	s.result = results
	s.printf("%s tested with %s\n", count(len(results), "key"), countOf(len(identities), "identity", "identities"))
	if short > 0 {
		return &exitError{code: exitNo, err: fmt.Errorf("%s opened by fewer than %d of the identities given", count(short, "key"), need)}
	}
	return nil
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func keyRow(service string, t *retention.KeyTest) []string {
	opened := "nobody"
	if len(t.Opened) > 0 {
		opened = strings.Join(t.Opened, " ")
	}
	return []string{service, t.Key.ID.String(), string(t.Key.Role), fmt.Sprint(len(t.Snapshots)), opened, strings.Join(t.SealedTo, " ")}
}

// warnExpiry says which signing keys end soon.
func (s *session) warnExpiry(now time.Time) {
	for _, a := range s.archive.Trust.Signers() {
		switch left := a.ValidBefore.Sub(now); {
		case a.ValidBefore.IsZero() || left > 90*24*time.Hour:
		case left < 0:
			s.note("the signing key %s of %s ended on %s", a.Fingerprint(), a.Principal, a.ValidBefore.Format(time.DateOnly))
		default:
			s.note("the signing key %s of %s ends on %s", a.Fingerprint(), a.Principal, a.ValidBefore.Format(time.DateOnly))
		}
	}
}

// snapshotOf opens the un-expired snapshot of a manifest, unlocked.
func (s *session) snapshotOf(ctx context.Context, service string, manifest dataset.Hash) (*archive.Snapshot, error) {
	all, err := s.archive.Snapshots(ctx, service)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all.All, func(d *archive.Decision) bool { return d.Hash == manifest })
	if n < 0 {
		return nil, errors.Join(append([]error{fmt.Errorf("manifest %s of %s: %w", manifest, service, archive.ErrNoSnapshot)}, all.Bad...)...)
	}
	o, err := s.opener()
	if err != nil {
		return nil, err
	}
	snap, err := s.archive.Snapshot(ctx, service, all.All[n])
	if err != nil {
		return nil, err
	}
	return snap, snap.Unlock(ctx, o)
}
