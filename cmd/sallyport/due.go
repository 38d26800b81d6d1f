package main

import (
	"context"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/schedule"
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
