package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func exitTestCommand() command {
	return command{
		name: "exit-test", summary: "restore a snapshot into an empty target, compare source, archive and copy, and certify the result",
		args: "[SERVICE...]", max: -1,
		detail: "The newest snapshot that is complete and proven as well as the service's grade asks is tested; where there is\n" +
			"none, the service is exported first. Without restore_to in the configuration the target is embedded: a directory, or\n" +
			"SQLite where there are records alone. It is destroyed at the end. The exit code is 0 for proven, 4 for not proven\n" +
			"(5 if that is because stored bytes are damaged), 3 for undecided. Without arguments all services of the configuration\n" +
			"are tested.",
		uses: []flagGroup{configFlags, storeFlags, identityFlags, writerFlags},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "due", Usage: "test only what is due by its objectives"},
			&cli.BoolFlag{Name: "stressed", Usage: "test as if the service were gone: the source is not contacted"},
			&cli.PathFlag{Name: "report", TakesFile: true, Usage: "write the report for people to `FILE` (default: in the state directory)"},
			&cli.StringFlag{Name: "grade", Usage: "prove an export that is needed first by `METHOD`, as export does"},
		},
		run: runExitTest,
	}
}

// An exitTestResult is what --json says of an exit test.
type exitTestResult struct {
	Service     string         `json:"service"`
	Snapshot    archive.RunID  `json:"snapshot"`
	Verdict     verify.Verdict `json:"verdict"`
	Reasons     []string       `json:"reasons"`
	Certificate string         `json:"certificate"` // name in the store
	Report      string         `json:"report"`      // file
	Expires     time.Time      `json:"expires"`
	Seconds     float64        `json:"seconds"`
}

func runExitTest(ctx context.Context, i *invocation) error {
	s, err := i.newSession()
	if err != nil {
		return err
	}
	if s.config == nil {
		return usage("sallyport init writes one", "an exit test needs a configuration: it says what is promised and where to restore to")
	}
	for _, name := range i.args() {
		if s.config.Services[name] == nil {
			return usage("the services are "+strings.Join(s.config.Names(), ", "), "an exit test is for a service of the configuration, and %q is none", name)
		}
	}
	sources, err := s.sources(i.args())
	if err != nil {
		return err
	}
	for _, src := range sources {
		if err := errors.Join(s.checkGrade(src), s.refuseTarget(src)); err != nil {
			return err
		}
	}
	if i.c.Path("report") != "" && len(sources) > 1 {
		return usage("name one service", "--report FILE holds the report of one exit test")
	}
	if err := s.openArchive(ctx, false); err != nil {
		for _, src := range sources {
			s.record(src.name, func(m *serviceMetrics) { m.tested(time.Now(), nil) })
		}
		return err
	}
	defer s.close()
	if i.c.Bool("due") {
		if sources, err = s.dueTests(ctx, sources, time.Now()); err != nil {
			return err
		}
	}
	var errs []error
	var results []exitTestResult
	for _, src := range sources {
		r, err := s.exitTest(ctx, src)
		if r != nil {
			results = append(results, *r)
		}
		if err != nil && !errors.Is(err, errSaid) {
			err = fmt.Errorf("exit test of %s: %w", src.name, err)
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	i.result = results
	return worst(errs)
}

// worst joins errors so that what is certainly wrong decides the exit code before what
// could not be decided.
func worst(errs []error) error {
	var damaged, wrong, rest []error
	for _, err := range errs {
		var e *exitError
		switch errors.As(err, &e); {
		case e != nil && e.code == exitIntegrity:
			damaged = append(damaged, err)
		case e != nil && e.code == exitNo:
			wrong = append(wrong, err)
		default:
			rest = append(rest, err)
		}
	}
	return errors.Join(slices.Concat(damaged, wrong, rest)...)
}

// exitTest tests one service, and tells monitoring how it ended.
func (s *session) exitTest(ctx context.Context, src source) (*exitTestResult, error) {
	unlock, err := s.lock(src.name + testLock)
	if err != nil {
		return nil, err
	}
	defer unlock()
	started := time.Now()
	act := s.logBegin(ctx, audit.ExitTest, src.name, "")
	r, cert, err := s.proveExit(ctx, src, started)
	s.logExitTest(ctx, act, r, err)
	if err != nil {
		s.record(src.name, func(m *serviceMetrics) { m.tested(started, nil) })
		return nil, err
	}
	r.Seconds = time.Since(started).Seconds()
	s.record(src.name, func(m *serviceMetrics) { m.tested(started, cert) })
	s.printExitTest(r)
	switch r.Verdict {
	case verify.Proven:
		return r, s.beat(ctx, src.service.Heartbeat.ExitTest)
	case verify.NotProven:
		if cert.Predicate.Damaged() {
			return r, &exitError{code: exitIntegrity, err: fmt.Errorf("%w: not proven: stored bytes are damaged", errSaid)}
		}
		return r, &exitError{code: exitNo, err: fmt.Errorf("%w: not proven", errSaid)}
	}
	return r, &exitError{code: exitIncomplete, err: fmt.Errorf("%w: undecided", errSaid)}
}

// logExitTest records how an exit test ended.
func (s *session) logExitTest(ctx context.Context, act *logged, r *exitTestResult, err error) {
	if r == nil {
		act.end(ctx, err, "", dataset.Hash{}, nil)
		return
	}
	if err == nil && r.Verdict != verify.Proven {
		err = &exitError{code: exitNo, err: errSaid}
	}
	act.end(ctx, err, r.Snapshot, archive.ParseName(r.Certificate).Hash, nil)
}

// proveExit does all that a certificate rests on, and issues it.
func (s *session) proveExit(ctx context.Context, src source, started time.Time) (*exitTestResult, *verify.Certificate, error) {
	signer, err := s.certifier()
	if err != nil {
		return nil, nil, err
	}
	recipients, _, err := s.recipients()
	if err != nil {
		return nil, nil, err
	}
	identities, err := s.identities()
	if err != nil {
		return nil, nil, err
	}
	if err := s.cleanUp(ctx, src.name); err != nil {
		return nil, nil, err
	}
	snap, damage, err := s.testable(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	check, err := s.checkService(ctx, src.name)
	if err != nil {
		return nil, nil, err
	}
	var report *verify.ExitReport
	if damage != nil {
		s.note("%s cannot be opened: %s", snap.Run, visible(damage.String()))
		report = verify.Unreadable("none", *damage, s.stressed(src), started, time.Now())
	} else if report, err = s.restoreAndCompare(ctx, src, snap); err != nil {
		return nil, nil, err
	}
	if v := report.Verified; v != nil && (v.Content == verify.Pass || v.Content == verify.Fail) {
		if err := s.countersign(ctx, snap, v); err != nil {
			return nil, nil, err
		}
	}
	i := verify.Issuance{Archive: s.archive, Snapshot: snap, Report: report, Check: check, Identities: identities, Signer: signer,
		Recipients: recipients, Grade: requiredGrade(src), Waivers: certifiedWaivers(src), Roles: s.sharedRoles(), Retention: s.retentionState(ctx, src.name),
		Objectives: verify.Objectives{RPO: src.service.Objectives.RPO.Std(), RTO: src.service.Objectives.RTO.Std()},
		Product:    "sallyport " + thisBuild().Version, Validity: src.service.Objectives.ExitTestEvery.Std(), Now: time.Now()}
	cert, name, err := verify.Issue(ctx, i)
	if err != nil {
		return nil, nil, err
	}
	file, err := s.writeReport(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	p := &cert.Predicate
	return &exitTestResult{Service: src.name, Snapshot: snap.Run, Verdict: p.Verdict, Reasons: p.Reasons, Certificate: name,
		Report: file, Expires: p.Expires.Time}, cert, nil
}

// certifier opens the signing key, and makes sure before the work that it may sign what
// comes of it.
func (s *session) certifier() (*crypto.Signer, error) {
	k, err := s.signingKey()
	if err != nil {
		return nil, err
	}
	if !s.archive.Trust.Allows(verify.CertificateNamespace, k.PublicKey()) {
		return nil, withHint(fmt.Errorf("key %s may not sign certificates: %w", k.Fingerprint(), crypto.ErrWrongNamespace),
			"exit tests are the verifier's; allowed_signers says what each key may sign")
	}
	return k, nil
}

// sharedRoles are the roles that this host has besides the verifier's.
func (s *session) sharedRoles() []string {
	if s.config.Role == "" {
		return []string{"exporter", "keeper"}
	}
	return nil
}

// checkService checks the archive of a service as sallyport check does, against the
// heads that this host accepted before, and remembers those of now.
func (s *session) checkService(ctx context.Context, service string) (*verify.CheckReport, error) {
	pins, err := s.pins()
	if err != nil {
		return nil, err
	}
	task := s.progress().Task("check "+service, "pack")
	var before int64
	r, err := verify.Check{Archive: s.archive, Service: service, Pins: pins, Now: time.Now(), Progress: func(done, total int64) {
		task.Add(1, done-before)
		before = done
	}}.Run(ctx)
	task.End()
	if err != nil {
		return nil, err
	}
	for _, f := range r.Findings {
		s.printf("%s\n", visible(f.String()))
	}
	if r.Integrity == verify.Pass {
		err = s.accept(r, pins)
	}
	return r, err
}

// stressed reports whether the source is not to be contacted.
func (s *session) stressed(src source) bool {
	return s.c.Bool("stressed") || src.service.ExitTest.Stressed
}

// restoreAndCompare runs the test itself.
func (s *session) restoreAndCompare(ctx context.Context, src source, snap *archive.Snapshot) (report *verify.ExitReport, err error) {
	place, err := s.place(ctx, src, snap)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, place.close()) }()
	stop := func() {}
	t := verify.ExitTest{Snapshot: snap, Target: place.target, Kind: place.kind, Room: place.room, Marks: place.marks, Where: place.where,
		Acceptance: acceptance(src.service.ExitTest.Checks), TempDir: filepath.Join(s.state, "tmp"),
		Progress: func(step string, p *transfer.Progress) {
			stop()
			stop = s.watch("exit test "+src.name+": "+dataset.Escape(step), "record", p)
		}}
	open, err := s.opener()
	if err != nil {
		return nil, err
	}
	if t.Withhold, err = s.withhold(ctx, src.name, open); err != nil {
		return nil, err
	}
	if !s.stressed(src) {
		t.Source = func(ctx context.Context) (exporters.Exporter, error) { return s.open(ctx, src) }
	}
	if err := os.MkdirAll(t.TempDir, 0o700); err != nil {
		return nil, fmt.Errorf("spools: %w", err)
	}
	report, err = t.Run(ctx)
	stop()
	if err != nil {
		return nil, err
	}
	for _, n := range report.TargetNotes {
		s.note("the target says: %s", visible(dataset.Escape(n)))
	}
	for _, e := range report.Errors {
		s.note("%s", visible(e))
	}
	for _, c := range report.Comparisons {
		if n := c.Restored[reconcile.Withheld]; n > 0 {
			s.printf("%s: withheld %s erased at the source\n", dataset.Escape(c.Stream), count(int(n), "record"))
		}
		for _, d := range c.Differences {
			if d.Status.Bad() {
				s.emit(struct {
					Type    string           `json:"message_type"`
					Service string           `json:"service"`
					Status  reconcile.Status `json:"status"`
					Stream  string           `json:"stream"`
					Key     string           `json:"key"` // escaped as dataset.Escape does it
					Ordinal int              `json:"ordinal"`
					Between string           `json:"between"`
				}{"difference", src.name, d.Status, d.Stream, dataset.Escape(d.Key), d.Ordinal, d.Between})
				s.printf("%s: %s %s (%s)\n", d.Status, dataset.Escape(d.Stream), dataset.Escape(d.Key), d.Between)
			}
		}
	}
	return report, nil
}

// writeReport writes the page for people to --report, or into the state directory. It
// holds names of the source, so nobody else may read it.
func (s *session) writeReport(ctx context.Context, name string) (file string, err error) {
	c, err := verify.LoadCertificate(ctx, s.archive, name)
	if err != nil {
		return "", err
	}
	page, err := s.page(ctx, c, true)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := page.HTML(&b); err != nil {
		return "", err
	}
	if file = s.c.Path("report"); file == "" {
		p := &c.Certificate.Predicate
		file = filepath.Join(s.state, "reports", p.Service+"-"+string(p.Run)+"-"+string(p.Test)+".html")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return "", err
		}
	}
	return file, os.WriteFile(file, b.Bytes(), 0o600)
}

func (s *session) printExitTest(r *exitTestResult) {
	s.printf("%s@%s: %s\n", r.Service, r.Snapshot, r.Verdict)
	for _, why := range r.Reasons {
		s.printf("  %s\n", visible(why))
	}
	s.printf("  certificate: %s, until %s\n", r.Certificate, r.Expires.Format(time.DateOnly))
	s.printf("  report: %s\n", r.Report)
}
