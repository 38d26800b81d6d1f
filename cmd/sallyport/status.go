package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/schedule"
	"github.com/urfave/cli/v2"
)

func statusCommand() command {
	return command{
		name: "status", summary: "say of every service how old its last good snapshot is, and what is due",
		uses:  []flagGroup{configFlags, storeFlags},
		flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit 3 if any service misses an objective"}},
		run:   runStatus,
	}
}

// A serviceStatus is what --json says of a service.
type serviceStatus struct {
	Service   string           `json:"service"`
	Snapshots int              `json:"snapshots"`
	Last      archive.RunID    `json:"last,omitempty"`      // complete
	Ended     *time.Time       `json:"ended,omitempty"`     // of Last
	Newer     int              `json:"incomplete,omitzero"` // incomplete ones since
	Open      []archive.RunID  `json:"open,omitempty"`
	Export    schedule.Verdict `json:"export"`
}

func runStatus(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	names, err := s.serviceNames(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var rows [][]string
	var list []serviceStatus
	overdue := 0
	for _, name := range names {
		st, err := s.status(ctx, name, now)
		if err != nil {
			return err
		}
		if st.Export.Overdue {
			overdue++
		}
		list = append(list, *st)
		rows = append(rows, st.row(now))
	}
	s.table([]string{"service", "snapshots", "last complete", "age", "open", "export"}, rows)
	s.result = list
	if overdue > 0 && i.c.Bool("check") {
		return &exitError{code: exitIncomplete, err: fmt.Errorf("%s past an objective", count(overdue, "service"))}
	}
	return nil
}

// serviceNames are those of the configuration, else those of the archive.
func (s *session) serviceNames(ctx context.Context) ([]string, error) {
	if s.config != nil {
		return s.config.Names(), nil
	}
	return s.archive.Services(ctx)
}

func (s *session) status(ctx context.Context, name string, now time.Time) (*serviceStatus, error) {
	all, err := s.archive.Snapshots(ctx, name)
	if err != nil {
		return nil, err
	}
	st := &serviceStatus{Service: name, Snapshots: len(all.All), Open: all.Open}
	var began time.Time
	for _, d := range all.All {
		if d.Manifest.State != archive.Complete {
			st.Newer++
			continue
		}
		st.Last, st.Ended, began, st.Newer = d.Run, &d.Manifest.Ended.Time, d.Manifest.Started.Time, 0
	}
	st.Export = s.exportJob(name).At(now, began)
	return st, nil
}

// exportJob is when a service is to be exported.
func (s *session) exportJob(name string) schedule.Job {
	if s.config == nil || s.config.Services[name] == nil {
		return schedule.Job{}
	}
	svc := s.config.Services[name]
	return schedule.Job{Cron: svc.Schedule.Cron, Every: svc.Objectives.RPO.Std()}
}

func (st *serviceStatus) row(now time.Time) []string {
	last, age := "none", ""
	if st.Ended != nil {
		last, age = st.Ended.Format("2006-01-02 15:04"), config.Duration(now.Sub(*st.Ended).Truncate(time.Minute)).String()
	}
	verdict := st.Export.Reason
	if st.Export.Overdue {
		verdict = "OVERDUE: " + verdict
	}
	return []string{st.Service, fmt.Sprint(st.Snapshots), last, age, fmt.Sprint(len(st.Open)), verdict}
}
