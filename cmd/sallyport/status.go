package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/schedule"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func statusCommand() command {
	return command{
		name: "status", summary: "say of every service how old its last good snapshot is, what is due, and what deletes or forbids it",
		detail: "Then follow the audit logs: how far they go, and how many acts began and have no end. They are read, and not searched for\n" +
			"damage: that is sallyport check.",
		uses:  []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit 3 if any service misses an objective, or its exit is not proven by a valid certificate any more"}},
		run:   runStatus,
	}
}

// A serviceStatus is what --json says of a service.
type serviceStatus struct {
	Service     string             `json:"service"`
	Snapshots   int                `json:"snapshots"`
	Last        archive.RunID      `json:"last,omitempty"`      // complete, or with gaps that the owner accepted
	Ended       *time.Time         `json:"ended,omitempty"`     // of Last
	Newer       int                `json:"incomplete,omitzero"` // incomplete ones since
	Open        []archive.RunID    `json:"open,omitempty"`
	Export      schedule.Verdict   `json:"export"`
	Certificate *certificateStatus `json:"certificate,omitempty"` // the newest
	ExitTest    schedule.Verdict   `json:"exit_test"`
	Retention   retentionStatus    `json:"retention"`
}

// A certificateStatus is what is said of a certificate.
type certificateStatus struct {
	Name    string         `json:"name"`
	Verdict verify.Verdict `json:"verdict"`
	Issued  time.Time      `json:"issued"`
	Expires time.Time      `json:"expires"`
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
	var rows, upkeep, logRows [][]string
	list := []serviceStatus{}
	overdue := 0
	for _, name := range names {
		st, err := s.status(ctx, name, now)
		if err != nil {
			return err
		}
		if st.Export.Overdue || st.ExitTest.Overdue {
			overdue++
		}
		st.Retention = s.retentionStatus(ctx, name)
		list = append(list, *st)
		rows = append(rows, st.row(now))
		upkeep = append(upkeep, st.Retention.row(name))
	}
	logs, err := s.logStatuses(ctx)
	if err != nil {
		return err
	}
	for i := range logs {
		logRows = append(logRows, logs[i].row())
	}
	s.table([]string{"service", "snapshots", "last complete", "age", "open", "export", "certificate", "exit test"}, rows)
	s.table([]string{"service", "keeps", "would expire", "expired", "holds", "purged at the source"}, upkeep)
	s.table([]string{"audit log", "events", "newest", "without an end", "root"}, logRows)
	for _, st := range list {
		if st.Retention.Problem != "" {
			s.printf("%s: what deletes is not known: %s\n", st.Service, visible(st.Retention.Problem))
		}
	}
	for _, l := range logs {
		if l.Problem != "" {
			s.printf("audit log %s: %s\n", l.Log, visible(l.Problem))
		}
	}
	s.result = struct {
		Services []serviceStatus `json:"services"`
		Logs     []logStatus     `json:"logs"`
	}{list, logs}
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
	all, err := s.snapshots(ctx, name)
	if err != nil {
		return nil, err
	}
	src := source{name: name}
	if s.config != nil {
		src.service = s.config.Services[name]
	}
	st := &serviceStatus{Service: name, Snapshots: len(all.All), Open: all.Open, ExitTest: schedule.Job{}.At(now, now)}
	var began time.Time
	for _, d := range slices.Backward(all.All) {
		good, err := s.good(ctx, src, d)
		if err != nil {
			return nil, err
		}
		if good {
			st.Last, st.Ended, began = d.Run, &d.Manifest.Ended.Time, d.Manifest.Started.Time
			break
		}
		st.Newer++
	}
	st.Export = s.exportJob(name).At(now, began)
	return st, s.certified(ctx, src, st, now)
}

// certified adds what certificates say of the service.
func (s *session) certified(ctx context.Context, src source, st *serviceStatus, now time.Time) error {
	proven, newest, err := s.certificates(ctx, src.name)
	if err != nil {
		return err
	}
	if newest != nil {
		p := &newest.Certificate.Predicate
		st.Certificate = &certificateStatus{newest.Name, p.Verdict, p.Issued.Time, p.Expires.Time}
	}
	if src.service != nil {
		st.ExitTest = testJob(src.service).At(now, issued(proven))
	}
	switch {
	case newest != nil && newest.Certificate.Predicate.Verdict == verify.NotProven:
		st.ExitTest.Overdue, st.ExitTest.Reason = true, "the last exit test did not prove the exit"
	case proven != nil && !now.Before(proven.Certificate.Predicate.Expires.Time):
		st.ExitTest.Overdue, st.ExitTest.Reason = true, "the certificate expired "+proven.Certificate.Predicate.Expires.Format(time.DateOnly)
	}
	return nil
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
	last, age, certificate := "none", "", "none"
	if st.Ended != nil {
		last, age = st.Ended.Format("2006-01-02 15:04"), config.Duration(now.Sub(*st.Ended).Truncate(time.Minute)).String()
	}
	if c := st.Certificate; c != nil {
		certificate = fmt.Sprintf("%s, until %s", c.Verdict, c.Expires.Format(time.DateOnly))
	}
	return []string{st.Service, fmt.Sprint(st.Snapshots), last, age, fmt.Sprint(len(st.Open)), loud(st.Export), certificate, loud(st.ExitTest)}
}

func loud(v schedule.Verdict) string {
	if v.Overdue {
		return "OVERDUE: " + v.Reason
	}
	return v.Reason
}
