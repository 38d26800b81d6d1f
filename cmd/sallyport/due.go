package main

import (
	"context"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/schedule"
	"github.com/dwp/sallyport/verify"
)

// due returns those of the sources whose export is due at now. Without a configuration
// nothing is scheduled.
func (s *session) due(ctx context.Context, sources []source, now time.Time) ([]source, error) {
	var list []source
	for _, src := range sources {
		if src.service == nil {
			return nil, usage("", "--due is for services of the configuration; %s is a URL", src.name)
		}
		last, err := s.lastExport(ctx, src.name)
		if err != nil {
			return nil, err
		}
		job := schedule.Job{Cron: src.service.Schedule.Cron, Every: src.service.Objectives.RPO.Std()}
		v := job.At(now, last)
		s.detail("%s: %s", src.name, v.Reason)
		if v.Due {
			list = append(list, src)
		}
	}
	return list, nil
}

// lastExport returns when the newest snapshot of a service began, complete or not: the
// gaps of an incomplete one were reported, and reading all again an hour later closes
// few of them. One that is to be continued does not count, so that it is.
func (s *session) lastExport(ctx context.Context, service string) (time.Time, error) {
	all, err := s.archive.Snapshots(ctx, service)
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, list := range [][]*archive.Decision{all.All, all.Expired} {
		for _, d := range list {
			if began := d.Manifest.Started.Time; d.Manifest.Gaps[dataset.ToBeContinued] == 0 && began.After(last) {
				last = began
			}
		}
	}
	return last, nil
}

// testAgain is how long after an exit test that did not prove the exit the next is due:
// trying again every hour would cost more than it tells.
const testAgain = 24 * time.Hour

// dueTests returns those of the sources whose exit test is due at now.
func (s *session) dueTests(ctx context.Context, sources []source, now time.Time) ([]source, error) {
	var list []source
	for _, src := range sources {
		proven, newest, err := s.certificates(ctx, src.name)
		if err != nil {
			return nil, err
		}
		v := testJob(src.service).At(now, issued(proven))
		if v.Due && newest != nil && newest != proven && now.Sub(issued(newest)) < testAgain {
			v.Due, v.Reason = false, "tested within a day, and not proven"
		}
		s.detail("%s: %s", src.name, v.Reason)
		if v.Due {
			list = append(list, src)
		}
	}
	return list, nil
}

// testJob is when the exit of a service is to be tested.
func testJob(svc *config.Service) schedule.Job {
	return schedule.Job{Every: svc.Objectives.ExitTestEvery.Std()}
}

// certificates returns the newest certificate of a service that proves its exit, and the
// newest of all; nil where there is none.
func (s *session) certificates(ctx context.Context, service string) (proven, newest *verify.StoredCertificate, err error) {
	newest, err = s.lastCertificate(ctx, service, func(c *verify.StoredCertificate) bool {
		if c.Certificate.Predicate.Verdict == verify.Proven {
			proven = c
		}
		return true
	})
	return proven, newest, err
}

// issued is when a certificate was issued; zero if there is none.
func issued(c *verify.StoredCertificate) time.Time {
	if c == nil {
		return time.Time{}
	}
	return c.Certificate.Predicate.Issued.Time
}
