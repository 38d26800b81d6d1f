package main

import (
	"context"
	"os"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive/bundle"
	"github.com/urfave/cli/v2"
)

func bundleCommand() command {
	return command{
		name: "bundle", summary: "write a snapshot as a self-contained BagIt bag that needs no sallyport to restore; no key needed",
		detail: "With --csv the bag is a readable copy instead, for a records office: CSV files, objects, and what describes\n" +
			"them. NOTHING IN IT IS ENCRYPTED, it needs an identity to be made, and it is no archive to restore from.",
		args: "SNAPSHOT", min: 1, max: 1,
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.PathFlag{Name: "to", Required: true, TakesFile: true, Usage: "write to `DIRECTORY`, which must be empty"},
			&cli.BoolFlag{Name: "csv", Usage: "write a readable copy that is NOT encrypted, with records as CSV"},
		},
		run: runBundle,
	}
}

func runBundle(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.refuseStore(i.c.Path("to")); err != nil {
		return err
	}
	o := bundle.Options{Product: "sallyport " + thisBuild().Version}
	if i.c.Bool("csv") {
		return bundleCSV(ctx, s, i.arg(0), o)
	}
	service, d, err := s.find(ctx, i.arg(0))
	if err != nil {
		return err
	}
	snap, err := s.archive.Snapshot(ctx, service, d)
	if err != nil {
		return err
	}
	if path := s.signersFile(); path != "" {
		if o.AllowedSigners, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	task := s.progress().Task("bundle", "pack")
	var before int64
	o.Progress = func(done, total int64) {
		task.Add(1, done-before)
		before = done
	}
	r, err := bundle.Write(ctx, s.archive, snap, i.c.Path("to"), o)
	task.End()
	if err != nil {
		return err
	}
	for _, name := range r.LeftOut {
		s.note("left out, because it is missing, damaged or not validly signed: %s", name)
	}
	for _, name := range r.Doubtful {
		s.note("may be a hold, and nobody can tell: %s; it is in the bundle as it lies, and whoever deletes stops at it", name)
	}
	s.printf("%s@%s: %s, %s; RESTORE.md in %s says how to read it\n", service, d.Run, count(int(r.Files), "file"), humanize.IBytes(uint64(r.Bytes)), i.c.Path("to"))
	s.result = r
	return nil
}
