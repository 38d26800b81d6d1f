package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func auditCommand() command {
	logFlag := func() []cli.Flag {
		return []cli.Flag{&cli.StringFlag{Name: "log", Usage: "only the log `NAME` (default: all logs of the store)"}}
	}
	return command{
		name: "audit", summary: "read, prove and export the tamper-evident log of every act",
		group: []command{
			{
				name: "show", summary: "list the events of the logs",
				detail: "Every event is proven to be in the log before it is shown. With --syslog each is a line of RFC 5424.",
				uses:   []flagGroup{configFlags, storeFlags, logFlag},
				flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "activity", Usage: "only events of `ACTIVITY`: export, verify, purge, refusal..."},
					&cli.StringFlag{Name: "service", Usage: "only events about the service `NAME`"},
					&cli.StringFlag{Name: "run", Usage: "only events about the run `ID`"},
					&cli.StringFlag{Name: "since", Usage: "only events from `TIME` on (2026-03-01, or RFC 3339)"},
					&cli.StringFlag{Name: "until", Usage: "only events before `TIME`"},
					&cli.BoolFlag{Name: "failures", Usage: "only failures and refusals"},
					&cli.BoolFlag{Name: "syslog", Usage: "print lines of RFC 5424"},
				},
				run: runAuditShow,
			},
			{
				name: "verify", summary: "recompute the logs, and find whatever was changed, removed, inserted or reordered",
				detail: "Checkpoints of the logs that manifests and certificates carry are compared too. --checkpoint takes one that you\n" +
					"kept: LOG:SIZE:ROOT, as audit verify prints it.",
				uses:  []flagGroup{configFlags, storeFlags, logFlag},
				flags: []cli.Flag{&cli.StringSliceFlag{Name: "checkpoint", Usage: "the log must continue `LOG:SIZE:ROOT`"}},
				run:   runAuditVerify,
			},
			{
				name: "export", summary: "copy a log to a directory, in the standard layout", args: "LOG DIRECTORY", min: 2, max: 2,
				uses: []flagGroup{configFlags, storeFlags},
				run: func(ctx context.Context, i *invocation) error {
					s, err := i.openSession(ctx)
					if err != nil {
						return err
					}
					defer s.close()
					r, err := audit.NewReader(s.store, s.archive.ID, i.arg(0), s.archive.Trust)
					if err != nil {
						return usage("", "%w", err)
					}
					head, err := r.Head(ctx)
					if err != nil {
						return err
					}
					i.result = head
					i.note("%s has %s", i.arg(0), count(int(head.Size), "event"))
					return r.Export(ctx, head, i.arg(1))
				},
			},
		},
	}
}

// readers opens the logs that the flag names, or all of the store.
func (s *session) readers(ctx context.Context) ([]*audit.Reader, []string, error) {
	names := []string{s.c.String("log")}
	if names[0] == "" {
		var err error
		if names, err = audit.Logs(ctx, s.store); err != nil {
			return nil, nil, err
		}
	}
	var list []*audit.Reader
	for _, n := range names {
		r, err := audit.NewReader(s.store, s.archive.ID, n, s.archive.Trust)
		if err != nil {
			return nil, nil, usage("", "%w", err)
		}
		list = append(list, r)
	}
	return list, names, nil
}

func auditFilter(c *cli.Context) (audit.Filter, error) {
	f := audit.Filter{Service: c.String("service"), Run: archive.RunID(c.String("run")), Failures: c.Bool("failures")}
	for _, a := range c.StringSlice("activity") {
		f.Activities = append(f.Activities, audit.Activity(a))
	}
	for name, to := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		text := c.String(name)
		if text == "" {
			continue
		}
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t, err = time.Parse(time.RFC3339, text)
		}
		if err != nil {
			return f, usage("2026-03-01, or 2026-03-01T09:30:00Z", "--%s %q is no time", name, text)
		}
		*to = t
	}
	return f, nil
}

func runAuditShow(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	filter, err := auditFilter(i.c)
	if err != nil {
		return err
	}
	readers, names, err := s.readers(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	shown := 0
	for n, r := range readers {
		head, err := r.Head(ctx)
		if err != nil {
			return err
		}
		for e, err := range r.Entries(ctx, head, 0) {
			if err != nil {
				return err
			}
			if !filter.Match(e.Event) {
				continue
			}
			shown++
			switch {
			case i.json:
				i.emit(struct {
					Type  string `json:"message_type"`
					Log   string `json:"log"`
					Index int64  `json:"index"`
					Event any    `json:"event"`
				}{"event", names[n], e.Index, json.RawMessage(e.JSON)})
			case i.c.Bool("syslog"):
				i.printf("%s\n", e.Syslog(names[n]))
			default:
				rows = append(rows, auditRow(names[n], e))
			}
		}
	}
	s.table([]string{"log", "#", "time", "activity", "phase", "status", "service", "about", "code"}, rows)
	if shown == 0 {
		s.note("there are no such events")
	}
	return nil
}

func auditRow(log string, e audit.Entry) []string {
	about := string(e.Event.Run)
	if about == "" && !e.Event.Document.IsZero() {
		about = e.Event.Document.String()[:16]
	}
	return []string{log, fmt.Sprint(e.Index), e.Event.Time.Format("2006-01-02 15:04:05"), string(e.Event.Activity), string(e.Event.Phase),
		string(e.Event.Status), e.Event.Service, about, e.Event.Code}
}

func runAuditVerify(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	pins, err := s.checkpoints(ctx)
	if err != nil {
		return err
	}
	readers, names, err := s.readers(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	for log := range pins { // a log that vanished is not among the names
		if !slices.Contains(names, log) && i.c.String("log") == "" {
			wrong = append(wrong, &archive.IntegrityError{Name: "audit/" + log, Err: errors.New("is gone: something of the archive names a checkpoint of it")})
		}
	}
	reports := []auditReport{}
	for n, r := range readers {
		report, err := r.Verify(ctx, pins[names[n]]...)
		if err != nil {
			return err
		}
		reports = append(reports, newAuditReport(names[n], &report))
		i.printf("%s: %s, %s; checkpoint %s:%d:%s\n", names[n], count(int(report.Head.Size), "event"), count(report.Checkpoints, "checkpoint"),
			names[n], report.Head.Size, report.Head.Root)
		for _, e := range report.Intents {
			i.printf("%s: entry %d: %s of %s began %s and has no result\n", names[n], e.Index, e.Event.Activity, e.Event.Service, e.Event.Time.Format(time.RFC3339))
		}
		for _, f := range report.Findings {
			if f.Stray {
				i.detail("%s %s: a crash may have left it", f.Name, f.Problem)
				continue
			}
			wrong = append(wrong, &archive.IntegrityError{Name: f.Name, Err: errors.New(f.Problem)})
		}
	}
	i.result = reports
	return errors.Join(wrong...)
}

// An auditReport is what --json says of a log.
type auditReport struct {
	archive.Checkpoint
	Checkpoints int             `json:"checkpoints"`
	Unmatched   []unmatchedLine `json:"unmatched"` // intents without a result
	Findings    []auditFinding  `json:"findings"`
}

type unmatchedLine struct {
	Index    int64          `json:"index"`
	Activity audit.Activity `json:"activity"`
	Service  string         `json:"service,omitempty"`
	Time     time.Time      `json:"time"`
}

type auditFinding struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
	Stray   bool   `json:"stray"` // a crash may have left it; it takes nothing from the log
}

func newAuditReport(log string, r *audit.Report) auditReport {
	out := auditReport{Checkpoint: r.Head, Checkpoints: r.Checkpoints, Unmatched: []unmatchedLine{}, Findings: []auditFinding{}}
	out.Log = log
	for _, e := range r.Intents {
		out.Unmatched = append(out.Unmatched, unmatchedLine{e.Index, e.Event.Activity, e.Event.Service, e.Event.Time})
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, auditFinding(f))
	}
	return out
}

// checkpoints collects what is known of the logs: from manifests, from certificates, and
// from the flag.
func (s *session) checkpoints(ctx context.Context) (map[string][]archive.Checkpoint, error) {
	pins := map[string][]archive.Checkpoint{}
	services, err := s.archive.Services(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range services {
		all, err := s.archive.Snapshots(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, list := range [][]*archive.Decision{all.All, all.Expired} {
			for _, d := range list {
				if c := d.Manifest.Log; c != nil {
					pins[c.Log] = append(pins[c.Log], *c)
				}
			}
		}
		certificates, bad, err := verify.LoadCertificates(ctx, s.archive, name)
		if err != nil {
			return nil, err
		}
		for _, b := range bad {
			s.warn(fmt.Errorf("passed over: %w", b))
		}
		for _, c := range certificates {
			for _, l := range c.Certificate.Predicate.Logs {
				pins[l.Log] = append(pins[l.Log], l.Checkpoint())
			}
		}
	}
	for _, text := range s.c.StringSlice("checkpoint") {
		c, err := parseCheckpoint(text)
		if err != nil {
			return nil, err
		}
		pins[c.Log] = append(pins[c.Log], c)
	}
	return pins, nil
}

func parseCheckpoint(text string) (archive.Checkpoint, error) {
	var c archive.Checkpoint
	var root string
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return c, usage("LOG:SIZE:ROOT, as audit verify prints it", "--checkpoint %q is none", text)
	}
	c.Log, root = parts[0], parts[2]
	if _, err := fmt.Sscanf(parts[1], "%d", &c.Size); err != nil {
		return c, usage("LOG:SIZE:ROOT, as audit verify prints it", "--checkpoint %q is none", text)
	}
	h, err := dataset.ParseHash(root)
	if err != nil {
		return c, usage("LOG:SIZE:ROOT, as audit verify prints it", "--checkpoint %q: %w", text, err)
	}
	c.Root = h
	return c, nil
}
