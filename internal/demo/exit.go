package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// An exit is the way of one service out of its cloud.
type exit struct {
	service, exporter string
	source            func(ctx context.Context) (exporters.Exporter, error)
	target            exporters.Target
	kind              string // of the target
	acceptance        []verify.Acceptance

	snapshot *archive.Snapshot
	check    *verify.CheckReport
	named    []string // what the test found to be wrong
}

// takeOut exports, checks and verifies.
func (d *demo) takeOut(ctx context.Context, e *exit) error {
	if err := d.step("export, encrypted and signed", func() (string, error) { return d.export(ctx, e) }); err != nil {
		return err
	}
	if err := d.step("check, without any key", func() (string, error) { return d.check(ctx, e) }); err != nil {
		return err
	}
	return d.step("verify, with the key", func() (string, error) { return d.verify(ctx, e) })
}

func (d *demo) export(ctx context.Context, e *exit) (string, error) {
	dec, err := transfer.Export(ctx, transfer.Job{
		Archive: d.archive,
		Options: archive.Options{Service: e.service, Exporter: e.exporter, Classification: "OFFICIAL", Product: d.Product,
			Signer: d.keys.signer, Recipients: d.keys.seal, State: d.path("state")},
		Open:   e.source,
		Method: transfer.DoubleRead,
		OnGap:  func(g dataset.Gap) { d.say("  gap: %s", dataset.Escape(g.Error())) },
	})
	if err != nil {
		return "", err
	}
	if e.snapshot, err = d.archive.Snapshot(ctx, e.service, dec); err != nil {
		return "", err
	}
	m := dec.Manifest
	d.expect(m.State == archive.Complete, "the snapshot of %s is %s", e.service, m.State)
	return fmt.Sprintf("%s: %d records, %s in %d packs", m.State, m.Counts.Records, humanize.IBytes(uint64(m.Counts.PackBytes)), m.Counts.Packs),
		e.snapshot.Unlock(ctx, d.keys.open)
}

func (d *demo) check(ctx context.Context, e *exit) (out string, err error) {
	if e.check, err = (verify.Check{Archive: d.archive, Service: e.service}).Run(ctx); err != nil {
		return "", err
	}
	for _, f := range e.check.Findings {
		d.say("  finding: %s", dataset.Escape(f.String()))
	}
	d.expect(e.check.Integrity == verify.Pass, "the check of the archive ended with: %s", e.check.Integrity)
	return fmt.Sprintf("%s: %d objects, %s read", e.check.Integrity, e.check.Objects, humanize.IBytes(uint64(e.check.BytesRead))), nil
}

func (d *demo) verify(ctx context.Context, e *exit) (string, error) {
	r, err := verify.Verification{Snapshot: e.snapshot}.Run(ctx)
	if err != nil {
		return "", err
	}
	d.expect(r.Content == verify.Pass, "the verification ended with: %s", r.Content)
	return fmt.Sprintf("%s: %d records, %d objects, %s", r.Content, r.Records, r.Blobs, humanize.IBytes(uint64(r.Bytes))), nil
}

// prove restores into the target, reads it back, compares source, archive and copy, and
// certifies what came of it.
func (d *demo) prove(ctx context.Context, e *exit, what string, want verify.Verdict) error {
	var report *verify.ExitReport
	err := d.step(what, func() (out string, err error) { report, out, err = d.exitTest(ctx, e); return })
	if err != nil {
		return err
	}
	for _, a := range report.Acceptance {
		d.say("  asked: %-27s %s: %s", a.Name, a.Outcome, a.Detail)
	}
	for _, n := range e.named {
		d.say("  %s", n)
	}
	cert, name, err := verify.Issue(ctx, verify.Issuance{Archive: d.archive, Snapshot: e.snapshot, Report: report, Check: e.check,
		Identities: []verify.Identity{{Name: d.keys.open.Recipients()[0], Opener: d.keys.open}},
		Signer:     d.keys.signer, Recipients: d.keys.seal, Objectives: verify.Objectives{RPO: 24 * time.Hour, RTO: 4 * time.Hour},
		Grade: archive.BestEffort, Roles: []string{"exporter", "keeper"}, Product: d.Product, Now: time.Now()})
	if err != nil {
		return err
	}
	page := d.path("report-" + e.service + ".html")
	if err := d.writeReport(ctx, cert, name, page); err != nil {
		return err
	}
	verdict := cert.Predicate.Verdict
	d.say("  verdict:     %s", verdict)
	d.say("  certificate: %s", filepath.Join(d.path("archive"), filepath.FromSlash(name)))
	d.say("  report:      %s", page)
	d.expect(verdict == want, "the exit of %s is %s, because: %q", e.service, verdict, cert.Predicate.Reasons)
	return nil
}

func (d *demo) exitTest(ctx context.Context, e *exit) (*verify.ExitReport, string, error) {
	r, err := verify.ExitTest{Snapshot: e.snapshot, Target: e.target, Kind: e.kind, Source: e.source, Acceptance: e.acceptance, TempDir: d.Dir}.Run(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, text := range r.Errors {
		d.say("  %s", dataset.Escape(text))
	}
	var same, compared int64
	for _, c := range r.Comparisons {
		for s, n := range c.Restored {
			if compared += n; s == reconcile.OK {
				same += n
			}
		}
		for _, diff := range c.Differences {
			if diff.Status.Bad() {
				e.named = append(e.named, fmt.Sprintf("%s: %s %s", diff.Status, dataset.Escape(diff.Stream), dataset.Escape(diff.Key)))
			}
		}
	}
	return r, fmt.Sprintf("%d records compared, %d are the same", compared, same), nil
}

// writeReport writes the page for people.
func (d *demo) writeReport(ctx context.Context, cert *verify.Certificate, name, file string) error {
	stored, err := verify.LoadCertificate(ctx, d.archive, name)
	if err != nil {
		return err
	}
	sealed, err := d.archive.Read(ctx, cert.Predicate.Annex.Name)
	if err != nil {
		return err
	}
	r := verify.Report{Certificate: cert, Doc: stored.Doc, Name: name, Signer: stored.Signer, Made: time.Now()}
	if r.Annex, err = cert.OpenAnnex(d.keys.open, sealed); err != nil {
		return err
	}
	if r.Check, err = (verify.CertificateCheck{Archive: d.archive, Doc: stored.Doc, Service: cert.Predicate.Service, Now: time.Now(), Quick: true}).Run(ctx); err != nil {
		return err
	}
	d.expect(r.Check.Holds == verify.Pass, "whether the certificate of %s holds: %s", cert.Predicate.Service, r.Check.Holds)
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		return err
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

// directory restores into a directory, which a person can look into.
func (d *demo) directory(ctx context.Context, snap *archive.Snapshot) (string, error) {
	target := dir.NewTarget(d.path("restored"), dir.Options{NoSync: true})
	defer target.Close()
	p := new(transfer.Progress)
	out, err := transfer.Restore{Snapshot: snap, Target: target, Test: dataset.NewID(), Progress: p}.Run(ctx)
	if err != nil {
		return "", err
	}
	for _, g := range out.Gaps {
		d.failed = append(d.failed, &g)
	}
	return fmt.Sprintf("%d records, %s", p.Records.Load(), humanize.IBytes(uint64(p.Bytes.Load()))), nil
}
