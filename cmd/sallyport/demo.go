package main

import (
	"context"
	"os"

	"github.com/dwp/sallyport/internal/demo"
	"github.com/urfave/cli/v2"
)

func demoCommand() command {
	return command{
		name: "demo", summary: "take a bucket, a database and a ticket system out, prove it, tamper with a copy, lose an object, and purge the bucket",
		detail: "Everything is embedded: servers on the loopback address, a small database, an archive in a directory, keys made\n" +
			"for the purpose. The archive, the certificates and the reports stay for you to look at.",
		flags: []cli.Flag{&cli.PathFlag{Name: "keep", TakesFile: true, Usage: "work in `DIRECTORY`, which must be empty (default: a new one among the system's temporary files)"}},
		run: func(ctx context.Context, i *invocation) error {
			dir := i.c.Path("keep")
			if dir == "" {
				var err error
				if dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
					return err
				}
			}
			err := demo.Run(ctx, demo.Options{Dir: dir, Out: i.out, Product: "sallyport " + thisBuild().Version})
			i.note("archive, keys, certificates and reports lie in %s; remove it when you have seen enough", dir)
			return err
		},
	}
}
