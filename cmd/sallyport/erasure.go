package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
	"github.com/urfave/cli/v2"
)

func erasureCommand() command {
	return command{
		name: "erasure", summary: "keep what was erased at the source from coming back",
		group: []command{
			{
				name: "add", summary: "record that records were erased at the source", args: "SERVICE STREAM KEY...", min: 3, max: -1,
				detail: "Only keyed hashes are recorded. Every later restore withholds these records and counts them, and no later export\n" +
					"reuses the packs that hold them. What archived snapshots hold goes when they expire.",
				uses: []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.StringFlag{Name: "authority", Required: true, Usage: "who decided it, and where that is written; sealed `TEXT`"},
					&cli.StringFlag{Name: "note", Usage: "anything else; sealed `TEXT`"},
				},
				run: runErasureAdd,
			},
			{
				name: "list", summary: "list the erasures on record, by number", args: "[SERVICE...]", max: -1,
				uses: []flagGroup{configFlags, storeFlags}, run: runErasureList,
			},
			{
				name: "apply", summary: "name the packs that exports must not reuse, or destroy a run key", args: "SERVICE", min: 1, max: 1,
				detail: "Needs the data identity, to look into the snapshots. With --run-key a run key is destroyed, and with it every\n" +
					"snapshot that needs it: each one that has not expired must be named with --destroy.",
				uses: []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.StringFlag{Name: "run-key", Usage: "destroy the run key `ID`"},
					&cli.StringSliceFlag{Name: "destroy", Usage: "the `SNAPSHOT` that goes with it"},
				},
				run: runErasureApply,
			},
		},
	}
}

// unlocked opens all un-expired snapshots of a service.
func (s *session) unlocked(ctx context.Context, service string) ([]*archive.Snapshot, error) {
	all, err := s.archive.Snapshots(ctx, service)
	if err == nil && len(all.Bad) > 0 {
		err = errors.Join(all.Bad...)
	}
	if err != nil {
		return nil, err
	}
	list := []*archive.Snapshot{}
	for _, d := range all.All {
		snap, err := s.snapshotOf(ctx, service, d.Hash)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", d.Run, err)
		}
		list = append(list, snap)
	}
	return list, nil
}

func runErasureAdd(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	args := i.args()
	if err := archive.CheckService(args[0]); err != nil {
		return usage("", "%w", err)
	}
	o, err := s.office()
	if err != nil {
		return err
	}
	var subjects []retention.Subject
	for _, key := range args[2:] {
		subjects = append(subjects, retention.Subject{Stream: args[1], Key: key})
	}
	snapshots, err := s.unlocked(ctx, args[0])
	if errors.Is(err, crypto.ErrNoKey) {
		snapshots, err = nil, nil
		s.note("this host cannot open the snapshots: until sallyport erasure apply is run on the verifier, exports reuse no packs")
	}
	if err != nil {
		return err
	}
	h, err := o.Erase(ctx, args[0], subjects, retention.ErasureAnnex{Authority: i.c.String("authority"), Reason: i.c.String("note")}, snapshots)
	if err != nil {
		return err
	}
	s.logFact(ctx, audit.Erasure, args[0], h)
	if err := s.noteUnfound(ctx, &o, args[0], h); err != nil {
		return err
	}
	i.result = map[string]any{"erasure": h, "records": len(subjects)}
	i.printf("%s\n", h)
	return nil
}

// noteUnfound says so if an erasure is about nothing that is archived: a key that was
// mistyped would withhold nothing, and nobody would know.
func (s *session) noteUnfound(ctx context.Context, o *retention.Office, service string, h dataset.Hash) error {
	r, err := o.Register(ctx, service)
	if err != nil {
		return err
	}
	for _, e := range r.Erasures {
		if e.Hash == h && e.Named && len(e.Packs) == 0 {
			s.note("no snapshot of %s holds any of these records; sallyport ls shows how streams and keys are written", service)
		}
	}
	return nil
}

func runErasureList(ctx context.Context, i *invocation) error {
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
	o := retention.Office{Archive: s.archive}
	var rows [][]string
	var list []retention.SignedErasure
	for _, name := range services {
		r, err := o.Register(ctx, name)
		if err != nil {
			return err
		}
		for _, e := range r.Erasures {
			list = append(list, e)
			rows = append(rows, []string{name, e.Hash.String()[:16], e.Recorded.Format("2006-01-02"), e.Signer.Principal, fmt.Sprint(len(e.Entries)), fmt.Sprint(len(e.Packs))})
		}
	}
	s.table([]string{"service", "erasure", "recorded", "by", "records", "packs"}, rows)
	if len(rows) == 0 {
		s.note("nothing is on record")
	}
	i.result = list
	return nil
}

func runErasureApply(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	name := i.arg(0)
	if key := i.c.String("run-key"); key != "" {
		return s.destroyKey(ctx, name, key)
	}
	o, err := s.office()
	if err != nil {
		return err
	}
	snapshots, err := s.unlocked(ctx, name)
	if err != nil {
		return err
	}
	n, err := o.NameErased(ctx, name, snapshots)
	if err != nil {
		return err
	}
	i.printf("%s: %s will not be reused\n", name, count(n, "pack"))
	return nil
}

// destroyKey destroys a run key and the snapshots that are named.
func (s *session) destroyKey(ctx context.Context, name, key string) error {
	id, err := dataset.ParseHash(key)
	if err != nil {
		return usage("sallyport keys test --all lists them; an id has 64 digits", "--run-key: %w", err)
	}
	plan, err := retention.PlanCryptoErasure(ctx, s.archive, name, id)
	if err != nil {
		return err
	}
	for _, r := range plan.Destroys {
		s.printf("%s@%s cannot be read without it\n", name, r)
	}
	var named []archive.RunID
	for _, r := range s.c.StringSlice("destroy") {
		named = append(named, archive.RunID(r))
	}
	return s.withLog(ctx, func(l *audit.Log) error {
		k, err := s.keeper(l)
		if err != nil {
			return err
		}
		out, err := k.CryptoErase(ctx, name, id, named)
		if err != nil {
			return err
		}
		s.printf("%s of key %s removed\n", countOf(len(out.Superseded), "sealed file", "sealed files"), id)
		if len(out.Retained) > 0 {
			return &exitError{code: exitIncomplete, err: fmt.Errorf("the store retains %s: the key can be read until then", countOf(len(out.Retained), "sealed file", "sealed files"))}
		}
		return nil
	})
}

// withhold returns what a restore must not bring back.
func (s *session) withhold(ctx context.Context, service string, open *crypto.Opener) (func(stream, key string) bool, error) {
	o := retention.Office{Archive: s.archive, Open: open}
	r, err := o.Register(ctx, service)
	if err != nil {
		return nil, err
	}
	for _, junk := range r.Junk {
		s.note("no erasure, though it lies among them: %v", junk)
	}
	return o.Withhold(ctx, service, r)
}

// avoid keeps an export from reusing packs that hold what was purged or erased, or that a
// verifier found damaged.
func (s *session) avoid(ctx context.Context, o *archive.Options) error {
	desk := retention.Office{Archive: s.archive}
	packs, doubts, err := desk.Avoid(ctx, o.Service)
	if err != nil {
		return err
	}
	o.Avoid = packs
	if len(doubts) > 0 {
		s.note("%s: everything is read again: %s", o.Service, visible(errors.Join(doubts...).Error()))
		o.Reuse = time.Nanosecond
	}
	return nil
}
