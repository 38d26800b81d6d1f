package main

import (
	"context"
	"os"

	"github.com/dwp/sallyport/internal/demo"
	"github.com/urfave/cli/v2"
)

func demoCommand() command {
	return command{
		name: "demo", summary: "take a small cloud service out, prove it, and tamper with a copy",
		detail: "Everything is embedded: two S3 servers on the loopback address, an archive in a directory, keys made for the purpose.",
		flags:  []cli.Flag{&cli.PathFlag{Name: "keep", TakesFile: true, Usage: "work in `DIRECTORY`, which must be empty, and leave everything there"}},
		run: func(ctx context.Context, i *invocation) error {
			dir := i.c.Path("keep")
			if dir == "" {
				var err error
				if dir, err = os.MkdirTemp("", "sallyport-demo-"); err != nil {
					return err
				}
				defer os.RemoveAll(dir)
			}
			err := demo.Run(ctx, demo.Options{Dir: dir, Out: i.out, Product: "sallyport " + thisBuild().Version})
			if i.c.Path("keep") != "" {
				i.note("archive, keys and restored files lie in %s", dir)
			}
			return err
		},
	}
}
