package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/verify"
)

func verifyCommand() command {
	return command{
		name: "verify", summary: "decrypt and decode everything a snapshot holds, and hold it against its hashes",
		args: "[SNAPSHOT...]", max: -1,
		detail: "Without arguments the newest snapshot of every service is verified.",
		uses:   []flagGroup{configFlags, storeFlags, identityFlags},
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
	task := s.progress().Task("verify "+snap.Service, "records")
	var items, size int64
	v := verify.Verification{Snapshot: snap, Progress: func(n, b int64) {
		task.Add(n-items, b-size)
		items, size = n, b
	}}
	r, err := v.Run(ctx)
	task.End()
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
	if len(r.Findings) > 0 {
		return r, &exitError{code: exitIntegrity, err: fmt.Errorf("%w: %s", errSaid, count(len(r.Findings), "finding"))}
	}
	return r, nil
}
