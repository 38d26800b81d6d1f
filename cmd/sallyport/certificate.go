package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func certificateCommand() command {
	return command{
		name: "certificate", summary: "show and verify the certificates of exit tests",
		group: []command{
			{
				name: "show", summary: "show a certificate, with the names of its sealed annex if an identity opens it", args: "CERTIFICATE", min: 1, max: 1,
				detail: "A CERTIFICATE is a service (its newest certificate), SERVICE@SNAPSHOT, a name in the store, or a file.",
				uses:   []flagGroup{configFlags, storeFlags, identityFlags},
				flags: []cli.Flag{
					&cli.PathFlag{Name: "html", TakesFile: true, Usage: "write the report for people to `FILE`"},
					&cli.BoolFlag{Name: "redacted", Usage: "leave the sealed annex closed: nothing names an item of the source"},
				},
				run: showCertificate,
			},
			{
				name: "verify", summary: "find out whether a certificate holds: signature, validity, and the snapshot it names; no key needed",
				args: "CERTIFICATE", min: 1, max: 1,
				detail: "A CERTIFICATE is named as for show. For a file, FILE.sig beside it is its signature, else the store has it.\n" +
					"The exit code says whether the certificate holds, not what its verdict is.",
				uses:  []flagGroup{configFlags, storeFlags},
				flags: []cli.Flag{&cli.BoolFlag{Name: "quick", Usage: "read no packs: only look whether they are there, in their size"}},
				run:   verifyCertificate,
			},
			{
				name: "schema", summary: "print the JSON Schema of certificates",
				run: func(_ context.Context, i *invocation) error {
					doc, err := verify.CertificateSchema()
					if err != nil {
						return err
					}
					_, err = i.out.Write(doc) // a document, also with --json
					return err
				},
			},
		},
	}
}

// A certificateFile is a certificate as it was found, not verified.
type certificateFile struct {
	name      string // in the store; empty if it came from a file
	doc       []byte
	signature []byte // armored; nil if the store has it
}

// findCertificate finds what ref names.
func (s *session) findCertificate(ctx context.Context, ref string) (*certificateFile, error) {
	if doc, err := os.ReadFile(ref); err == nil {
		f := &certificateFile{doc: doc}
		if f.signature, err = os.ReadFile(ref + ".sig"); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return f, err
	}
	name := ref
	if archive.ParseName(ref).Class != archive.CertificateObject {
		service, run, _ := strings.Cut(ref, "@")
		c, err := s.lastCertificate(ctx, service, func(c *verify.StoredCertificate) bool {
			return run == "" || run == "latest" || strings.HasPrefix(string(c.Certificate.Predicate.Run), run)
		})
		if err != nil {
			return nil, err
		}
		if c == nil {
			return nil, &exitError{code: exitNotFound, err: fmt.Errorf("%q: no such certificate", ref), hint: "sallyport exit-test issues one; sallyport status shows the last"}
		}
		name = c.Name
	}
	doc, err := s.archive.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = &exitError{code: exitNotFound, err: fmt.Errorf("%q: no such certificate", ref)}
	}
	return &certificateFile{name: name, doc: doc}, err
}

// lastCertificate returns the newest validly signed certificate of a service that is
// wanted; nil if there is none. Of two of one second, one that proves nothing counts as
// the newer. What is not validly signed is said to be passed over.
func (s *session) lastCertificate(ctx context.Context, service string, wanted func(*verify.StoredCertificate) bool) (*verify.StoredCertificate, error) {
	if err := archive.CheckService(service); err != nil {
		return nil, usage("", "%w", err)
	}
	all, bad, err := verify.LoadCertificates(ctx, s.archive, service)
	if err != nil {
		return nil, err
	}
	for _, b := range bad {
		s.warn(fmt.Errorf("passed over: %w", b))
	}
	var last *verify.StoredCertificate
	for n := range all {
		c := &all[n]
		proves := c.Certificate.Predicate.Verdict == verify.Proven
		if wanted(c) && (!proves || !issued(c).Equal(issued(last))) {
			last = c
		}
	}
	return last, nil
}

func verifyCertificate(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	f, err := s.findCertificate(ctx, i.arg(0))
	if err != nil {
		return err
	}
	n := archive.ParseName(f.name)
	task := s.progress().Task("certificate verify", "pack")
	var before int64
	r, err := verify.CertificateCheck{Archive: s.archive, Doc: f.doc, Signature: f.signature, Service: n.Service, Snapshot: n.Run,
		Now: time.Now(), Quick: i.c.Bool("quick"), Bundle: s.bag && i.c.IsSet("store"), Progress: func(done, total int64) {
			task.Add(1, done-before)
			before = done
		}}.Run(ctx)
	task.End()
	if err != nil {
		return err
	}
	var rows [][]string
	for _, l := range r.Lines {
		rows = append(rows, []string{l.Outcome.String(), l.Question, l.Detail})
	}
	s.table([]string{"outcome", "question", "answer"}, rows)
	s.result = r
	switch r.Holds {
	case verify.Pass:
		s.printf("the certificate holds\n")
		return nil
	case verify.Fail:
		s.printf("the certificate does NOT hold\n")
		return &exitError{code: exitIntegrity, err: fmt.Errorf("%w: the certificate does not hold", errSaid)}
	}
	return &exitError{code: exitIncomplete, err: errors.New("whether the certificate holds could not be decided")}
}

func showCertificate(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	f, err := s.findCertificate(ctx, i.arg(0))
	if err != nil {
		return err
	}
	stored, err := s.stored(ctx, f)
	if err != nil {
		return err
	}
	page, err := s.page(ctx, stored, !i.c.Bool("redacted"))
	if err != nil {
		return err
	}
	if file := i.c.Path("html"); file != "" {
		var b bytes.Buffer
		if err := page.HTML(&b); err != nil {
			return err
		}
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			return err
		}
		i.printf("%s\n", file)
	} else {
		s.printCertificate(page)
	}
	i.result = struct {
		Name        string          `json:"name,omitempty"`
		Certificate json.RawMessage `json:"certificate"`
		Annex       *verify.Annex   `json:"annex,omitempty"`
	}{stored.Name, stored.Doc, page.Annex}
	return nil
}

// stored makes sure that a certificate is signed by someone who may.
func (s *session) stored(ctx context.Context, f *certificateFile) (*verify.StoredCertificate, error) {
	if f.name != "" {
		return verify.LoadCertificate(ctx, s.archive, f.name)
	}
	c, err := verify.ParseCertificate(f.doc)
	if err != nil {
		return nil, &exitError{code: exitIntegrity, err: err}
	}
	p := &c.Predicate
	var id crypto.Identity
	if f.signature != nil {
		id, err = s.archive.Trust.Verify(verify.CertificateNamespace, f.doc, f.signature, p.Issued.Time)
	} else {
		id, err = s.archive.Verify(ctx, p.Service, verify.CertificateNamespace, f.doc, p.Issued.Time)
	}
	return &verify.StoredCertificate{Hash: dataset.Sum(f.doc), Doc: f.doc, Certificate: c, Signer: id}, err
}

// page makes the report of a certificate, with the names of its annex if they are wanted
// and an identity of this host opens them.
func (s *session) page(ctx context.Context, c *verify.StoredCertificate, names bool) (*verify.Report, error) {
	r := &verify.Report{Certificate: c.Certificate, Doc: c.Doc, Name: c.Name, Signer: c.Signer, Made: time.Now()}
	p := &c.Certificate.Predicate
	if p.Store != s.archive.ID {
		return r, nil // shown as it is; what it is about lies elsewhere
	}
	for info, err := range s.archive.Store.List(ctx, p.Service+"/signatures/"+c.Hash.String()+"/"+verify.CertificateNamespace+"/") {
		if err != nil {
			return nil, err
		}
		r.Signature = info.Name
	}
	var err error
	check := verify.CertificateCheck{Archive: s.archive, Doc: c.Doc, Service: p.Service, Snapshot: p.Run, Now: time.Now(), Quick: true, Bundle: s.bag && s.c.IsSet("store")}
	if r.Check, err = check.Run(ctx); err != nil {
		return nil, err
	}
	if !names || len(s.identityFiles()) == 0 {
		return r, nil
	}
	o, err := s.opener()
	if err != nil {
		return nil, err
	}
	sealed, err := s.archive.Read(ctx, p.Annex.Name)
	if err == nil {
		r.Annex, err = c.Certificate.OpenAnnex(o, sealed)
	}
	if err != nil {
		s.warn(fmt.Errorf("the names stay sealed: %w", err))
	}
	return r, nil
}

func (s *session) printCertificate(r *verify.Report) {
	p := &r.Certificate.Predicate
	s.printf("%s@%s: %s\n", p.Service, p.Run, p.Verdict)
	s.printf("issued %s by %s, valid until %s\n\n", p.Issued.Format(time.RFC3339), r.Signer.Principal, p.Expires.Format(time.RFC3339))
	var rows [][]string
	for _, l := range p.Lines {
		rows = append(rows, []string{l.Outcome.String(), l.ID, l.Finding})
	}
	s.table([]string{"outcome", "line", "finding"}, rows)
	s.printf("\n")
	rows = nil
	for _, st := range p.Streams {
		name := strconv.Itoa(st.Number)
		if r.Annex != nil && st.Number <= len(r.Annex.Streams) {
			name += " " + r.Annex.Streams[st.Number-1].Name
		}
		rows = append(rows, []string{name, string(st.Grade), figure(st.Source), figure(st.Archived), figure(st.Restored), fmt.Sprint(st.Gaps)})
	}
	s.table([]string{"stream", "grade", "source now", "archive", "restored", "gaps"}, rows)
	if r.Annex != nil {
		s.printNames(r.Annex)
	}
	if upkeep := p.Upkeep(); len(upkeep) > 0 {
		s.printf("\nRetention and audit logs:\n")
		for _, l := range upkeep {
			s.printf("  %s\n", visible(l))
		}
	}
	s.printf("\nIt does not prove:\n")
	for _, l := range p.Limits {
		s.printf("  %s\n", visible(l))
	}
}

// figure is a count of which -1 means that nobody counted.
func figure(n int64) string {
	if n < 0 {
		return "not read"
	}
	return strconv.FormatInt(n, 10)
}

// printNames prints what the annex names.
func (s *session) printNames(a *verify.Annex) {
	for _, d := range a.Differences {
		s.printf("%s: %s %s (%s)\n", d.Status, dataset.Escape(a.Streams[d.Stream-1].Name), dataset.Escape(string(d.Key)), d.Between)
	}
	for _, g := range a.Gaps {
		waived := ""
		if g.Waived != "" {
			waived = " (accepted: " + dataset.Escape(g.Waived) + ")"
		}
		s.printf("gap: %s %s: %s%s\n", dataset.Escape(g.Stream), dataset.Escape(string(g.Key)), g.Code, waived)
	}
	for _, c := range a.Acceptance {
		s.printf("acceptance: %s: %s (%s)\n", dataset.Escape(c.Name), c.Outcome, dataset.Escape(c.Detail))
	}
	for _, e := range a.Errors {
		s.printf("%s\n", visible(dataset.Escape(e)))
	}
}
