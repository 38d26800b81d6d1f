package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func exportCommand() command {
	return command{
		name: "export", aliases: []string{"backup"}, summary: "export services, or a URL, into the archive",
		args: "[SERVICE|URL...]", max: -1,
		detail: "Without arguments all services of the configuration are exported. A URL needs no configuration:\n" +
			"sallyport export --store ./archive --recipients keys.txt s3://bucket",
		uses: []flagGroup{configFlags, storeFlags, writerFlags},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "service", Usage: "call the service of a URL `NAME` (default: after the URL)"},
			&cli.StringFlag{Name: "classification", Value: "OFFICIAL", Usage: "classification of the data of a URL: OFFICIAL or OFFICIAL-SENSITIVE"},
			&cli.BoolFlag{Name: "csv", Usage: "carry records as CSV too, beside JSON Lines"},
			&cli.StringFlag{Name: "grade", Usage: "prove the export by `METHOD`: single-read, count-checked, double-read or exact"},
			&cli.BoolFlag{Name: "due", Usage: "export only what is due by its schedule or objectives"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "say what would be exported, and read nothing"},
		},
		run: runExport,
	}
}

func runExport(ctx context.Context, i *invocation) error {
	s, err := i.newSession()
	if err != nil {
		return err
	}
	// What may be refused is refused before a store is made or anything is read.
	sources, err := s.sources(i.args())
	if err != nil {
		return err
	}
	for _, src := range sources {
		if err := errors.Join(s.checkGrade(src), s.refuseItself(src)); err != nil {
			return err
		}
	}
	if _, _, err := s.recipients(); err != nil {
		return err
	}
	if err := s.openArchive(ctx, !i.c.Bool("dry-run")); err != nil {
		for _, src := range sources {
			s.record(src.name, func(m *serviceMetrics) { m.exported(time.Now(), nil, false) })
		}
		return err
	}
	defer s.close()
	if i.c.Bool("due") {
		if sources, err = s.due(ctx, sources, time.Now()); err != nil {
			return err
		}
	}
	var errs []error
	var results []exportResult
	for _, src := range sources {
		if i.c.Bool("dry-run") {
			errs = append(errs, s.announce(ctx, src))
			continue
		}
		r, err := s.export(ctx, src)
		if r != nil {
			results = append(results, *r)
		}
		if err != nil && len(sources) > 1 {
			err = fmt.Errorf("export %s: %w", src.name, err)
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	i.result = results
	return errors.Join(errs...)
}

// announce says which streams would be exported.
func (s *session) announce(ctx context.Context, src source) error {
	view, err := s.open(ctx, src)
	if err != nil {
		return err
	}
	defer view.Close()
	streams, err := view.Streams(ctx)
	if err != nil {
		return err
	}
	for _, st := range streams {
		s.printf("%s: would export stream %s\n", src.name, dataset.Escape(st.Name))
	}
	return nil
}

// An exportResult is what --json says of an export.
type exportResult struct {
	Service  string                 `json:"service"`
	Snapshot archive.RunID          `json:"snapshot"`
	State    archive.State          `json:"state"`
	Resumed  bool                   `json:"resumed,omitempty"`
	Manifest dataset.Hash           `json:"manifest"`
	Counts   archive.Counts         `json:"counts"`
	Gaps     map[dataset.Code]int64 `json:"gaps"`
	Waived   int64                  `json:"waived"`
	LeftOut  int64                  `json:"left_out,omitempty"` // records that no row of CSV can hold
	Seconds  float64                `json:"seconds"`
}

// export exports one service, and tells monitoring how it ended.
func (s *session) export(ctx context.Context, src source) (*exportResult, error) {
	unlock, err := s.lock(src.name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	started := time.Now()
	r, err := s.exportLocked(ctx, src, started)
	s.record(src.name, func(m *serviceMetrics) { m.exported(started, r, err == nil) })
	if err == nil && src.service != nil {
		err = s.beat(ctx, src.service.Heartbeat.Export)
	}
	return r, err
}

func (s *session) exportLocked(ctx context.Context, src source, started time.Time) (*exportResult, error) {
	signer, err := s.signingKey()
	if err != nil {
		return nil, err
	}
	data, index, err := s.recipients()
	if err != nil {
		return nil, err
	}
	gaps := &gapCounter{ui: s.ui, service: src.name, now: started, waivers: waivers(src)}
	job := transfer.Job{
		Archive: s.archive,
		Options: archive.Options{Service: src.name, Exporter: src.kind.Name, Classification: src.classification,
			Product: "sallyport " + thisBuild().Version, Signer: signer, Recipients: data, IndexRecipients: index,
			PostQuantum: s.config != nil && s.config.Keys.PostQuantum, MonthKeys: s.config != nil && s.config.Keys.Period == "month",
			State: filepath.Join(s.state, "export")},
		Open:     func(ctx context.Context) (exporters.Exporter, error) { return s.open(ctx, src) },
		Method:   s.method(src),
		Progress: new(transfer.Progress), OnGap: gaps.take,
		OnNote: func(text string) { s.warn(fmt.Errorf("%s: %s", src.name, text)) },
	}
	leftOut := &leftOutCounter{ui: s.ui, service: src.name}
	job.OnRun = func() { gaps.reset(); leftOut.count = 0 }
	job.Options.CSV, job.Options.OnLeftOut = s.c.Bool("csv") || src.service != nil && src.service.CSV, leftOut.take
	if src.service != nil {
		job.Select = transfer.Selection{Include: src.service.Streams, Exclude: src.service.Exclude}
	}
	if err := s.avoid(ctx, &job.Options); err != nil {
		return nil, err
	}
	act := s.logStart(ctx, audit.Export, src.name, "")
	job.Log = act.checkpoint
	stop := s.watch("export "+src.name, "record", job.Progress)
	d, err := transfer.Export(ctx, job)
	stop()
	if err != nil {
		act.end(ctx, err, "", dataset.Hash{}, nil)
		return nil, err
	}
	act.end(ctx, nil, d.Run, d.Hash, map[string]int64{"records": d.Manifest.Counts.Records, "gaps": gapCount(d), "packs": d.Manifest.Counts.Packs})
	r := &exportResult{Service: src.name, Snapshot: d.Run, State: d.Manifest.State, Manifest: d.Hash, Counts: d.Manifest.Counts,
		Gaps: d.Manifest.Gaps, Waived: gaps.waived, LeftOut: leftOut.count, Seconds: time.Since(started).Seconds()}
	s.printExport(r)
	if n := max(gaps.count, gapCount(d)) - gaps.waived; n > 0 {
		return r, &exitError{code: exitIncomplete, err: fmt.Errorf("snapshot %s is incomplete: %s", d.Run, count(int(n), "gap"))}
	}
	if r.LeftOut > 0 {
		return r, &exitError{code: exitIncomplete, err: fmt.Errorf("snapshot %s has every record, and its CSV lacks %s", d.Run, count(int(r.LeftOut), "row"))}
	}
	if wanted := s.grade(src); wanted != "" && wanted != string(transfer.SingleRead) && !verify.GradeSuffices(d.Manifest, archive.Grade(wanted)) {
		return r, &exitError{code: exitIncomplete, err: fmt.Errorf("snapshot %s is not proven as asked: not every stream has the grade %s", d.Run, wanted),
			hint: "sallyport ls " + src.name + "@latest says of each stream why"}
	}
	return r, nil
}

// refuseItself refuses to export a directory that holds the store, or lies in it: the
// archive would hold itself, and grow with each run.
func (s *session) refuseItself(src source) error {
	dir, ok := src.options["path"].(string)
	if !ok || src.kind.Name != "dir" {
		return nil
	}
	at, err := s.storeLocation()
	if err != nil {
		return err
	}
	store := config.Config{Store: at}
	if why := store.Collision(config.Location(dir), config.FollowLinks); why != "" {
		return &exitError{code: exitPolicy, err: fmt.Errorf("service %s: %s %s", src.name, visible(dir), why), hint: "keep the store outside what is exported"}
	}
	return nil
}

// checkGrade refuses a method that nobody knows, or that no view of the source can be held
// to: an export must not look proven.
func (s *session) checkGrade(src source) error {
	switch grade := s.grade(src); grade {
	case "", "single-read", "count-checked", "double-read":
	case "exact":
		if !src.kind.Snapshots {
			return usage("double-read is the best it can have", "--grade exact: a view of %s does not hold still while it is read", src.kind.Name)
		}
	default:
		return usage("the methods are single-read, count-checked, double-read and exact", "--grade %s: no such method", grade)
	}
	return nil
}

// grade is how an export is to be proven: as the flag says, else as the register does.
func (s *session) grade(src source) string {
	grade := s.c.String("grade")
	if grade == "" && src.service != nil {
		grade = src.service.Grade
	}
	return grade
}

func (s *session) method(src source) transfer.Method {
	grade := s.grade(src)
	if grade == "count-checked" { // every export asks a source that can count
		return transfer.SingleRead
	}
	return transfer.Method(grade)
}

func (s *session) printExport(r *exportResult) {
	c := r.Counts
	s.printf("%s@%s  %s\n", r.Service, r.Snapshot, r.State)
	s.printf("  %s in %s, %s; %s in %s, of which %s are new; %.1f s\n",
		count(int(c.Records), "record"), count(int(c.Streams), "stream"), humanize.IBytes(uint64(c.BlobBytes)),
		humanize.IBytes(uint64(c.PackBytes)), count(int(c.Packs), "pack"), humanize.IBytes(uint64(c.New)), r.Seconds)
	for _, code := range dataset.Codes {
		if n := r.Gaps[code]; n > 0 {
			s.printf("  %s: %s\n", count(int(n), "gap"), code)
		}
	}
	if r.Waived > 0 {
		s.printf("  %s accepted by the configuration\n", count(int(r.Waived), "gap"))
	}
	if c.Vanished > 0 {
		s.printf("  %s went away during the export, as the source confirms\n", count(int(c.Vanished), "object"))
	}
	if c.Unchecked > 0 {
		s.printf("  metadata of %s was not read again\n", count(int(c.Unchecked), "object"))
	}
}

// A gapCounter prints gaps and tells those that are waived.
type gapCounter struct {
	*ui
	service string
	now     time.Time
	waivers []config.Waiver

	mu            sync.Mutex
	count, waived int64
}

// A leftOutCounter prints records that no row of CSV can hold. They are in the archive as
// JSON Lines.
type leftOutCounter struct {
	*ui
	service string
	count   int64
}

func (l *leftOutCounter) take(line archive.LeftOutLine) {
	l.count++
	l.warn(fmt.Errorf("%s: record %s of stream %s has no row of CSV: %s", l.service, dataset.Escape(string(line.Key)), dataset.Escape(line.Stream), line.Reason))
}

func waivers(src source) []config.Waiver {
	if src.service == nil {
		return nil
	}
	return src.service.Waive
}

// reset begins to count anew: a run that another continues leaves its gaps behind.
func (g *gapCounter) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count, g.waived = 0, 0
}

func (g *gapCounter) take(gap dataset.Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	if g.accepts(&gap) {
		g.waived++
		g.detail("waived: %s", dataset.Escape(gap.Error()))
		return
	}
	g.gap(g.service, &gap)
}

func (g *gapCounter) accepts(gap *dataset.Gap) bool {
	for _, w := range g.waivers {
		if w.Stream == gap.Stream && dataset.Code(w.Code) == gap.Code && (w.Key == "" || w.Key == gap.Key) && g.now.Before(w.Until.End()) {
			return true
		}
	}
	return false
}

// watch shows how far a transfer has come, until the returned function is called.
func (u *ui) watch(name, noun string, p *transfer.Progress) (stop func()) {
	task := u.progress().Task(name, noun)
	var items, bytes int64
	step := func() {
		n, b := p.Records.Load(), p.Bytes.Load()+p.Reused.Load()
		task.Add(n-items, b-bytes)
		items, bytes = n, b
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				step()
			case <-done:
				step()
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		task.End()
	}
}
