package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
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
			r, err := findRecord(ctx, snap, i.arg(1), i.arg(2), i.c.Int("ordinal"))
			if err != nil {
				return err
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

// findRecord returns a record of a snapshot; a negative ordinal asks for the newest version.
// It fails with a *[dataset.Gap] if the snapshot says why it does not have it.
func findRecord(ctx context.Context, snap *archive.Snapshot, stream, key string, ordinal int) (dataset.Record, error) {
	e, err := snap.Stream(stream)
	var r dataset.Record
	if err == nil {
		r, err = snap.Find(ctx, e, key, ordinal)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, notFound(err)
	}
	if err == nil && ordinal >= 0 {
		return r, nil
	}
	for g, gerr := range snap.Gaps(ctx) {
		if gerr != nil {
			return r, gerr
		}
		whole := g.Key == "" && e == nil // of a stream, all of which is missing
		newer := string(g.Key) == key && (err != nil && ordinal < 0 || err == nil && g.Ordinal > r.Ordinal || g.Ordinal == ordinal)
		if g.Stream != stream || !whole && !newer {
			continue
		}
		gap := fmt.Errorf("a gap of the snapshot: %w", &dataset.Gap{Stream: g.Stream, Key: string(g.Key), Ordinal: g.Ordinal, Code: g.Code, Detail: g.Detail})
		if err == nil {
			return r, withHint(gap, fmt.Sprintf("an older version is there: --ordinal %d", r.Ordinal))
		}
		return r, gap
	}
	if err != nil {
		return r, notFound(err)
	}
	return r, nil
}
