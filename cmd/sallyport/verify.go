package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func verifyCommand() command {
	return command{
		name: "verify", summary: "decrypt and decode everything a snapshot holds, and hold it against its hashes",
		args: "[SNAPSHOT...]", max: -1,
		detail: "Without arguments the newest snapshot of every service is verified. With a configuration whose signing key may,\n" +
			"the outcome is signed and stored: retention lets nothing expire that was not verified.",
		uses:  []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{&cli.StringSliceFlag{Name: "tag", Usage: "give the snapshot the public `TAG`, for keep rules"}},
		run: func(ctx context.Context, i *invocation) error {
			s, err := i.openSession(ctx)
			if err != nil {
				return err
			}
			defer s.close()
			refs := i.args()
			if len(refs) == 0 {
				services, err := s.archive.Services(ctx)
				if err != nil {
					return err
				}
				for _, name := range services {
					refs = append(refs, name+"@latest")
				}
			}
			var errs []error
			var reports []*verify.VerifyReport
			for _, ref := range refs {
				r, err := s.verify(ctx, ref)
				if r != nil {
					reports = append(reports, r)
				}
				errs = append(errs, err)
			}
			i.result = reports
			return errors.Join(errs...)
		},
	}
}

func (s *session) verify(ctx context.Context, ref string) (*verify.VerifyReport, error) {
	snap, err := s.unlock(ctx, ref)
	if err != nil {
		return nil, err
	}
	task := s.progress().Task("verify "+snap.Service, "record")
	var items, size int64
	v := verify.Verification{Snapshot: snap, Progress: func(n, b int64) {
		task.Add(n-items, b-size)
		items, size = n, b
	}}
	act := s.logBegin(ctx, audit.Verify, snap.Service, snap.Run)
	r, err := v.Run(ctx)
	task.End()
	outcome := err
	if outcome == nil && len(r.Findings) > 0 {
		outcome = &exitError{code: exitIntegrity, err: errSaid}
	}
	act.end(ctx, outcome, snap.Run, snap.Hash, map[string]int64{"records": r.Records, "findings": int64(len(r.Findings))})
	for _, f := range r.Findings {
		s.emit(struct {
			Type string `json:"message_type"`
			verify.Finding
		}{"finding", f})
		s.printf("%s\n", visible(f.String()))
	}
	if err != nil {
		return r, err
	}
	s.printf("%s@%s: %s: %s, %s decoded (%s)\n", snap.Service, snap.Run, r.Content, count(int(r.Records), "record"), count(int(r.Blobs), "object"), humanize.IBytes(uint64(r.Bytes)))
	if err := s.countersign(ctx, snap, r); err != nil {
		return r, err
	}
	if len(r.Findings) > 0 {
		return r, &exitError{code: exitIntegrity, err: fmt.Errorf("%w: %s", errSaid, count(len(r.Findings), "finding"))}
	}
	return r, nil
}

// countersign stores the outcome of a verification, signed, if this host is a verifier,
// and records that it did.
func (s *session) countersign(ctx context.Context, snap *archive.Snapshot, r *verify.VerifyReport) error {
	tags := s.c.StringSlice("tag")
	var k *crypto.Signer
	if s.config != nil {
		var err error
		if k, err = s.signingKey(); err != nil {
			return err
		}
	}
	switch may := k != nil && s.archive.Trust.Allows("sallyport-verified", k.PublicKey()); {
	case !may && len(tags) > 0:
		return usage("verify on the verifier, with its configuration", "--tag is stored with the verifier's signature, which this host cannot give")
	case !may:
		return nil
	case s.bag:
		s.note("not countersigned: a bundle is not written to")
		return nil
	}
	record, err := verify.WriteVerified(ctx, s.archive, k, snap, r, tags, time.Now())
	if err != nil {
		return fmt.Errorf("countersign: %w", err)
	}
	e := audit.NewEvent(audit.Verify, audit.Fact, time.Now())
	e.Service, e.Run, e.Document, e.Code = snap.Service, snap.Run, record, "countersigned" // so that the record is missed if it goes
	s.logEvent(ctx, e)
	s.detail("countersigned %s@%s: %s", snap.Service, snap.Run, r.Content)
	return nil
}
