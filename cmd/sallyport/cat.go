package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

func catCommand() command {
	return command{
		name: "cat", summary: "write one object, or one record as JSON, to standard output",
		args: "SNAPSHOT STREAM KEY", min: 3, max: 3,
		detail: "The bytes are held against their hash as they go: exit 5 says that what came out is not to be trusted.",
		uses:   []flagGroup{configFlags, storeFlags, identityFlags},
		flags:  []cli.Flag{&cli.IntFlag{Name: "ordinal", Value: -1, Usage: "the version with this `NUMBER`, counted from the oldest (default: the newest)"}},
		run: func(ctx context.Context, i *invocation) error {
			s, err := i.openSession(ctx)
			if err != nil {
				return err
			}
			defer s.close()
			snap, err := s.unlock(ctx, i.arg(0))
			if err != nil {
				return err
			}
			e, err := snap.Stream(i.arg(1))
			if err != nil {
				return notFound(err)
			}
			r, err := snap.Find(ctx, e, i.arg(2), i.c.Int("ordinal"))
			if err != nil {
				return notFound(err)
			}
			if r.Blob == nil {
				_, err := fmt.Fprintf(i.out, "%s\n", r.Data)
				return err
			}
			body, err := r.Blob.Open(ctx, 0, -1)
			if err != nil {
				return err
			}
			_, err = io.Copy(i.out, body)
			return errors.Join(err, body.Close())
		},
	}
}
