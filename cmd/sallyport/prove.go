package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/urfave/cli/v2"
)

func proveCommand() command {
	return command{
		name: "prove", summary: "write one record with a proof that it is in a signed snapshot, or check such a proof",
		args: "SNAPSHOT STREAM KEY", max: 3,
		detail: "The proof discloses nothing of other records but how many there are. It is checked offline, without archive\n" +
			"and key: sallyport prove --check FILE --allowed-signers FILE",
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.IntFlag{Name: "ordinal", Value: -1, Usage: "the version with this `NUMBER`, counted from the oldest (default: the newest)"},
			&cli.PathFlag{Name: "check", TakesFile: true, Usage: "check the proof in `FILE`"},
		},
		run: func(ctx context.Context, i *invocation) error {
			if file := i.c.Path("check"); file != "" {
				return i.checkProof(file)
			}
			if len(i.args()) != 3 {
				return usage("see sallyport prove --help", "sallyport prove wants SNAPSHOT STREAM KEY, or --check FILE")
			}
			return i.prove(ctx)
		},
	}
}

func (i *invocation) prove(ctx context.Context) error {
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
	p, err := snap.Prove(ctx, e, i.arg(2), i.c.Int("ordinal"))
	if err != nil {
		return notFound(err)
	}
	doc, err := p.Encode()
	if err != nil {
		return err
	}
	_, err = i.out.Write(doc) // a document, also with --json
	return err
}

func (i *invocation) checkProof(file string) error {
	s, err := i.newSession()
	if err != nil {
		return err
	}
	trust, err := s.trust()
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	p, m, who, err := archive.CheckProof(doc, trust)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	s.printf("proven: this record was in stream %s of %s@%s, which ended %s and was signed by %s\n%s\n",
		dataset.Escape(p.Stream), m.Service, m.Run, m.Ended.Format(time.RFC3339), who.Principal, visible(p.Line))
	s.result = map[string]any{"service": m.Service, "snapshot": m.Run, "stream": p.Stream, "line": p.Line, "signer": who.Principal}
	return nil
}
