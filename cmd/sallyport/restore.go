package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/transfer"
	"github.com/urfave/cli/v2"
)

func restoreCommand() command {
	return command{
		name: "restore", summary: "fill an empty target from a snapshot: all of it, a prefix, a key or a version",
		args: "SNAPSHOT", min: 1, max: 1,
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Required: true, Usage: "the empty `TARGET`: a directory, or a URL such as s3://bucket?endpoint=URL"},
			&cli.StringSliceFlag{Name: "stream", Usage: "restore stream `NAME` only"},
			&cli.StringFlag{Name: "prefix", Usage: "restore keys that begin with `TEXT`"},
			&cli.StringFlag{Name: "key", Usage: "restore one `KEY`"},
			&cli.StringFlag{Name: "version", Usage: "restore one version of the key: its ordinal, or the source's `ID`"},
			&cli.StringFlag{Name: "format", Usage: "write records to a directory as `FORMAT`: jsonl or csv"},
			&cli.BoolFlag{Name: "with-locks", Usage: "apply retention and legal holds in an S3 target"},
			&cli.BoolFlag{Name: "with-policies", Usage: "apply ACLs and the bucket's configuration in an S3 target"},
		},
		run: runRestore,
	}
}

func runRestore(ctx context.Context, i *invocation) (err error) {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if i.c.String("version") != "" && i.c.String("key") == "" {
		return usage("--key KEY names it", "--version is a version of one key")
	}
	snap, err := s.unlock(ctx, i.arg(0))
	if err != nil {
		return err
	}
	with := map[string]any{}
	if f := i.c.String("format"); f != "" {
		if f != "jsonl" && f != "csv" {
			return usage("the formats are jsonl and csv", "--format %s: no such format", f)
		}
		with["format"] = f
	}
	for _, name := range []string{"with-locks", "with-policies"} {
		if i.c.Bool(name) {
			with[map[string]string{"with-locks": "with_locks", "with-policies": "with_policies"}[name]] = true
		}
	}
	if err := s.refuseStore(i.c.String("to")); err != nil {
		return err
	}
	target, err := s.openTarget(ctx, i.c.String("to"), with)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	p := new(transfer.Progress)
	r := transfer.Restore{Snapshot: snap, Target: target, Test: dataset.NewID(), Progress: p,
		Filter:  transfer.Filter{Streams: i.c.StringSlice("stream"), Prefix: i.c.String("prefix"), Key: i.c.String("key"), Version: i.c.String("version")},
		OnGap:   func(g dataset.Gap) { s.gap(snap.Service, &g) },
		Compare: i.c.String("format") == "csv"} // which is derived: whoever reads it must be able to rely on it
	open, err := s.opener()
	if err != nil {
		return err
	}
	if r.Withhold, err = s.withhold(ctx, snap.Service, open); err != nil {
		return err
	}
	act := s.logBegin(ctx, audit.Restore, snap.Service, snap.Run)
	stop := s.watch("restore", "record", p)
	out, err := r.Run(ctx)
	stop()
	if errors.Is(err, transfer.ErrNotInSnapshot) {
		err = notFound(err)
	}
	if err == nil {
		err = s.printRestored(out, p)
	}
	act.end(ctx, err, snap.Run, snap.Hash, map[string]int64{"records": p.Records.Load(), "gaps": p.Gaps.Load()})
	return err
}

// refuseStore refuses to write what comes out of the archive into the archive.
func (s *session) refuseStore(to string) error {
	at, err := s.storeLocation()
	if err != nil {
		return err
	}
	store := config.Config{Store: at}
	if why := store.Collision(config.Location(to), config.FollowLinks); why != "" {
		return &exitError{code: exitPolicy, err: fmt.Errorf("--to %s %s", visible(to), why)}
	}
	return nil
}

func (s *session) printRestored(out *transfer.Restored, p *transfer.Progress) error {
	for _, l := range out.Losses {
		s.note("the target cannot carry %s: %s", visible(dataset.Escape(l.Stream+" "+l.Field)), visible(l.Reason))
	}
	for _, n := range out.Notes {
		s.note("the target says: %s", visible(dataset.Escape(n)))
	}
	var gaps, withheld int64
	var rows [][]string
	for _, st := range out.Streams {
		gaps += st.Gaps
		withheld += st.Withheld
		rows = append(rows, []string{st.Name, fmt.Sprint(st.Records), fmt.Sprint(st.Gaps)})
	}
	s.table([]string{"stream", "records", "not restored"}, rows)
	s.printf("restored %s, %s\n", count(int(p.Records.Load()-gaps), "record"), humanize.IBytes(uint64(p.Bytes.Load())))
	if withheld > 0 {
		s.printf("withheld %s erased at the source\n", count(int(withheld), "record"))
	}
	s.result = out
	switch {
	case gaps > 0 && out.Cause != nil:
		return fmt.Errorf("%s could not be restored: %w", count(int(gaps), "record"), out.Cause)
	case gaps > 0:
		return &exitError{code: exitIncomplete, err: fmt.Errorf("%s could not be restored", count(int(gaps), "record"))}
	case out.Missing > 0:
		return &exitError{code: exitIncomplete, err: fmt.Errorf("the snapshot itself is incomplete: %s", count(int(out.Missing), "gap"))}
	}
	return nil
}
