package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
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
