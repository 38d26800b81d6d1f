package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A StoredCertificate is a certificate as a store has it, validly signed.
type StoredCertificate struct {
	Name        string // in the store
	Hash        dataset.Hash
	Doc         []byte
	Certificate *Certificate
	Signer      crypto.Identity
}

// LoadCertificates reads the certificates of a service, by time of issue. Those that
// are not whole, or that nobody signed who may, are in bad and count for nothing;
// whether a valid one still holds, [CheckCertificate] says.
func LoadCertificates(ctx context.Context, a *archive.Archive, service string) (valid []StoredCertificate, bad []error, err error) {
	for info, err := range a.Store.List(ctx, service+"/"+certificatesFolder+"/") {
		if err != nil {
			return nil, nil, fmt.Errorf("list certificates of %s: %w", service, err)
		}
		if info.Later || info.Marker || archive.ParseName(info.Name).Class != archive.CertificateObject {
			continue
		}
		c, err := LoadCertificate(ctx, a, info.Name)
		var integrity *archive.IntegrityError
		switch {
		case errors.As(err, &integrity):
			bad = append(bad, err)
		case err != nil:
			return nil, nil, err
		default:
			valid = append(valid, *c)
		}
	}
	slices.SortFunc(valid, func(a, b StoredCertificate) int {
		if n := a.Certificate.Predicate.Issued.Compare(b.Certificate.Predicate.Issued.Time); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return valid, bad, nil
}

// LoadCertificate reads one certificate by its name in the store. It fails with an
// [archive.IntegrityError] if it is not whole, not of its place, or nobody signed it who
// may sign certificates.
func LoadCertificate(ctx context.Context, a *archive.Archive, name string) (*StoredCertificate, error) {
	doc, err := readObject(ctx, a.Store, name, maxCertificate)
	if err != nil {
		return nil, err
	}
	c, err := ParseCertificate(doc)
	if err != nil {
		return nil, &archive.IntegrityError{Name: name, Err: err}
	}
	if err := c.belongs(a.ID, archive.ParseName(name)); err != nil {
		return nil, &archive.IntegrityError{Name: name, Err: err}
	}
	id, err := a.Verify(ctx, c.Predicate.Service, CertificateNamespace, doc, c.Predicate.Issued.Time)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &StoredCertificate{name, dataset.Sum(doc), doc, c, id}, nil
}

// belongs says whether a certificate is about the store, service and run in whose place
// it lies.
func (c *Certificate) belongs(store dataset.ID, n archive.Name) error {
	p := &c.Predicate
	switch {
	case p.Store != store:
		return fmt.Errorf("is a certificate for another store, %s", p.Store)
	case n.Service != "" && p.Service != n.Service:
		return fmt.Errorf("is a certificate for another service, %s", p.Service)
	case n.Run != "" && p.Run != n.Run:
		return fmt.Errorf("is a certificate for another snapshot, %s", p.Run)
	}
	return nil
}

// A CertificateCheck checks a certificate against an archive and a clock. Nothing in it
// needs a key.
type CertificateCheck struct {
	Archive   *archive.Archive
	Doc       []byte        // the certificate, from the store or from anywhere
	Signature []byte        // armored, if it came beside the certificate; nil looks in the store
	Service   string        // that it should be for; empty means any
	Snapshot  archive.RunID // that it should be for; empty means any
	Now       time.Time
	Quick     bool                    // do not read the snapshot's packs: only presence and size
	Bundle    bool                    // the store is a bundle's payload, which holds no audit logs
	Progress  func(done, total int64) // bytes of packs; may be nil; called from any goroutine
}

// A CertificateReport says line by line whether a certificate holds.
type CertificateReport struct {
	Certificate *Certificate    `json:"-"` // nil if it could not be read
	Signer      crypto.Identity `json:"signer"`
	Holds       Outcome         `json:"holds"` // Pass if every line passes
	Lines       []CheckLine     `json:"lines"`
}

// A CheckLine is one question about a certificate.
type CheckLine struct {
	Question string  `json:"question"`
	Outcome  Outcome `json:"outcome"`
	Detail   string  `json:"detail"` // why not, or what the answer rests on
}

// CheckCertificate checks a certificate that is in the store, by name, and reads every
// pack of the snapshot that it names.
func CheckCertificate(ctx context.Context, a *archive.Archive, name string, now time.Time) (*CertificateReport, error) {
	doc, err := readObject(ctx, a.Store, name, maxCertificate)
	var junk *archive.IntegrityError
	if errors.As(err, &junk) {
		return &CertificateReport{Holds: Fail, Lines: []CheckLine{{"Is it whole?", Fail, err.Error()}}}, nil
	} else if err != nil {
		return nil, err
	}
	n := archive.ParseName(name)
	return CertificateCheck{Archive: a, Doc: doc, Service: n.Service, Snapshot: n.Run, Now: now}.Run(ctx)
}

// Run checks. What is wrong is in the report; an error means that it could not be found
// out.
func (c CertificateCheck) Run(ctx context.Context) (*CertificateReport, error) {
	r := new(CertificateReport)
	err := c.all(ctx, r)
	r.Holds = Pass
	for _, l := range r.Lines {
		if l.Outcome == Fail || r.Holds == Pass && l.Outcome != Pass {
			r.Holds = l.Outcome
		}
	}
	if err != nil && r.Holds != Fail {
		r.Holds = Unknown
	}
	return r, err
}

func (r *CertificateReport) add(question string, o Outcome, format string, args ...any) bool {
	r.Lines = append(r.Lines, CheckLine{question, o, fmt.Sprintf(format, args...)})
	return o == Pass
}

// ask adds a line that passes if there is nothing wrong.
func (r *CertificateReport) ask(question string, wrong error, right string, args ...any) bool {
	if wrong != nil {
		return r.add(question, Fail, "%v", wrong)
	}
	return r.add(question, Pass, right, args...)
}

func (c *CertificateCheck) all(ctx context.Context, r *CertificateReport) error {
	cert, err := ParseCertificate(c.Doc)
	if !r.ask("Is it a certificate in the one form that is accepted?", err, "in-toto statement, sha256 %s", dataset.Sum(c.Doc)) {
		return nil
	}
	r.Certificate = cert
	p := &cert.Predicate
	if err := c.signature(ctx, r, p); err != nil {
		return err
	}
	r.ask("Is it for this store, service and snapshot?", cert.belongs(c.Archive.ID, archive.Name{Service: c.Service, Run: c.Snapshot}),
		"store %s, %s", p.Store, cert.Subject[0].Name)
	r.ask("Is it valid now?", p.validAt(c.Now), "from %s until %s", p.Issued.Format(time.RFC3339), p.Expires.Format(time.RFC3339))
	r.ask("Does its verdict follow from what was measured?", p.consistent(), "the lines, the controls and the verdict were concluded again")
	r.add("What is its verdict?", Pass, "%s", p.Verdict)
	if p.Store != c.Archive.ID {
		return nil // nothing of it can be here
	}
	if err := c.snapshot(ctx, r, cert); err != nil {
		return err
	}
	if err := c.annex(ctx, r, p); err != nil || c.Bundle {
		return err
	}
	return c.logs(ctx, r, p)
}

func (c *CertificateCheck) signature(ctx context.Context, r *CertificateReport, p *Predicate) error {
	const question = "Was it signed by someone who may sign certificates?"
	var err error
	if c.Signature != nil {
		r.Signer, err = c.Archive.Trust.Verify(CertificateNamespace, c.Doc, c.Signature, p.Issued.Time)
		r.ask(question, err, "%s, key %s", r.Signer.Principal, r.Signer.Fingerprint)
	} else {
		r.Signer, err = c.Archive.Verify(ctx, p.Service, CertificateNamespace, c.Doc, p.Issued.Time)
		var integrity *archive.IntegrityError
		if err != nil && !errors.As(err, &integrity) {
			return err
		}
		r.ask(question, err, "%s, key %s", r.Signer.Principal, r.Signer.Fingerprint)
	}
	if err == nil && r.Signer.Fingerprint != p.Roles.Signer {
		r.add("Is the signer the one it names?", Fail, "it names key %s", p.Roles.Signer)
	}
	return nil
}

// validAt says why a certificate proves nothing at a time.
func (p *Predicate) validAt(now time.Time) error {
	switch {
	case now.Before(p.Issued.Time):
		return fmt.Errorf("it is issued %s, which is later than now", p.Issued.Format(time.RFC3339))
	case !now.Before(p.Expires.Time):
		return fmt.Errorf("it expired %s", p.Expires.Format(time.RFC3339))
	}
	return nil
}

// consistent concludes again, and says what the certificate concludes otherwise. Only
// answers are compared: words may differ between versions.
func (p *Predicate) consistent() error {
	lines := Assess(p)
	if len(lines) != len(p.Lines) {
		return fmt.Errorf("it has %d lines instead of %d", len(p.Lines), len(lines))
	}
	for i, l := range lines {
		if got := p.Lines[i]; got.ID != l.ID || got.Outcome != l.Outcome || got.Required != l.Required {
			return fmt.Errorf("its line %q says %s; what was measured says %s", got.ID, got.Outcome, l.Outcome)
		}
	}
	if v, _ := Decide(lines); v != p.Verdict {
		return fmt.Errorf("it says %s; what was measured says %s", p.Verdict, v)
	}
	for i, control := range MapControls(p.Controls, lines) {
		if control.Status != p.Controls[i].Status {
			return fmt.Errorf("it says that %s %s is %s; what was measured says %s", control.Standard, control.Clause, p.Controls[i].Status, control.Status)
		}
	}
	return nil
}

// snapshot makes sure that the snapshot is still there and unaltered.
func (c *CertificateCheck) snapshot(ctx context.Context, r *CertificateReport, cert *Certificate) error {
	p := &cert.Predicate
	const question = "Is the snapshot that it names still there?"
	all, err := c.Archive.Snapshots(ctx, p.Service)
	if err != nil {
		return err
	}
	is := func(d *archive.Decision) bool { return d.Run == p.Run }
	i := slices.IndexFunc(all.All, is)
	switch {
	case i < 0 && slices.ContainsFunc(all.Expired, is):
		r.add(question, Fail, "it was given up: a signed record ended it")
		return nil
	case i < 0:
		r.add(question, Fail, "the store has no valid manifest of run %s", p.Run)
		return nil
	case all.All[i].Hash != cert.Subject[0].Digest.SHA256:
		r.add(question, Fail, "the store has another manifest, %s", all.All[i].Hash)
		return nil
	}
	d := all.All[i]
	r.add(question, Pass, "manifest %s, signed by %s", d.Hash, d.Signer.Principal)
	if m := d.Manifest; m.Sequence != p.Archive.Sequence || m.State != p.Archive.State || d.Signer.Fingerprint != p.Roles.ExportSigner {
		r.add("Does it say of the snapshot what its manifest says?", Fail, "sequence %d, %s, signed by key %s", m.Sequence, m.State, d.Signer.Fingerprint)
	}
	return c.packs(ctx, r, p.Service, d)
}

// packs holds what the snapshot needs against its names.
func (c *CertificateCheck) packs(ctx context.Context, r *CertificateReport, service string, d *archive.Decision) error {
	const question = "Is it unaltered?"
	s, err := c.Archive.Snapshot(ctx, service, d)
	var integrity *archive.IntegrityError
	var damage *archive.DamageError
	if errors.As(err, &integrity) || errors.As(err, &damage) || errors.Is(err, fs.ErrNotExist) {
		r.add(question, Fail, "%v", err)
		return nil
	} else if err != nil {
		return err
	}
	k := &packCheck{CertificateCheck: c, service: service}
	refs := make([]archive.PackRef, 0, len(s.Packs))
	for _, p := range s.Packs {
		refs = append(refs, p)
		k.total += p.Size
	}
	slices.SortFunc(refs, func(a, b archive.PackRef) int { return slices.Compare(a.SHA256[:], b.SHA256[:]) })
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, ref := range refs {
		g.Go(func() error { return k.pack(gctx, ref) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	slices.Sort(k.wrong)
	switch {
	case len(k.wrong) > 0:
		r.add(question, Fail, "%s of %s: %s", plural(int64(len(k.wrong)), "pack"), figure(int64(len(refs))), first(k.wrong))
	case c.Quick:
		r.add(question, Pass, "%s are there in full length; their bytes were not read", plural(int64(len(refs)), "pack"))
	default:
		r.add(question, Pass, "%s, %s, have the hashes they are named by", plural(int64(len(refs)), "pack"), size(k.total))
	}
	return nil
}

// A packCheck reads packs, many at once.
type packCheck struct {
	*CertificateCheck
	service string
	total   int64

	mu    sync.Mutex
	done  int64
	wrong []string
}

func (k *packCheck) pack(ctx context.Context, ref archive.PackRef) error {
	name := archive.PackName(k.service, ref.SHA256)
	got, n, err := k.read(ctx, name, ref)
	wrong := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		wrong = "pack " + ref.SHA256.String() + " is missing"
	case err != nil:
		return err
	case n != ref.Size || got != ref.SHA256:
		wrong = (&archive.DamageError{Name: name, Want: ref.SHA256, Got: got, Size: n}).Error()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if wrong != "" {
		k.wrong = append(k.wrong, wrong)
	}
	if k.done += ref.Size; k.Progress != nil {
		k.Progress(k.done, k.total)
	}
	return nil
}

// read returns what a pack is: its hash and size, or in a quick check its size alone.
func (k *packCheck) read(ctx context.Context, name string, ref archive.PackRef) (h dataset.Hash, n int64, err error) {
	if k.Quick {
		for info, err := range k.Archive.Store.List(ctx, name) {
			if err != nil {
				return h, 0, fmt.Errorf("list %s: %w", name, err)
			}
			if info.Name == name && !info.Marker && !info.Later {
				return ref.SHA256, info.Size, nil
			}
		}
		return h, 0, fs.ErrNotExist
	}
	body, err := k.Archive.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return h, 0, fmt.Errorf("read %s: %w", name, err)
	}
	sum := sha256.New()
	n, err = io.Copy(sum, body)
	if err = errors.Join(err, body.Close()); err != nil {
		return h, n, fmt.Errorf("read %s: %w", name, err)
	}
	sum.Sum(h[:0])
	return h, n, nil
}

// annex makes sure that the sealed names are there.
func (c *CertificateCheck) annex(ctx context.Context, r *CertificateReport, p *Predicate) error {
	const question = "Is its sealed annex there?"
	n := archive.ParseName(p.Annex.Name)
	if n.Class != archive.AnnexObject || n.Service != p.Service || n.Hash != p.Annex.SHA256 {
		r.add(question, Fail, "%q is no name of that annex", p.Annex.Name)
		return nil
	}
	_, err := readObject(ctx, c.Archive.Store, p.Annex.Name, maxCertificate)
	var junk *archive.IntegrityError
	if err != nil && !errors.As(err, &junk) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.ask(question, err, "sha256 %s", p.Annex.SHA256)
	return nil
}

// logs makes sure that the audit logs of now continue those that the certificate saw: a
// store that was rolled back to before it does not have what came since.
func (c *CertificateCheck) logs(ctx context.Context, r *CertificateReport, p *Predicate) error {
	const question = "Do the audit logs continue those that it saw?"
	var pins []archive.Checkpoint
	if p.Archive.Log != nil {
		pins = append(pins, *p.Archive.Log)
	}
	for _, l := range p.Logs {
		pins = append(pins, l.Checkpoint())
	}
	if len(pins) == 0 {
		return nil // it saw none
	}
	var wrong []error
	for _, pin := range pins {
		log, err := audit.NewReader(c.Archive.Store, c.Archive.ID, pin.Log, c.Archive.Trust)
		var head archive.Checkpoint
		if err == nil {
			head, err = log.Head(ctx)
		}
		if err == nil {
			err = log.Continues(ctx, pin, head)
		}
		switch {
		case errors.Is(err, audit.ErrNoLog), errors.Is(err, audit.ErrInconsistent), errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, fmt.Errorf("%s: %w", pin.Log, err))
		case err != nil:
			return err
		}
	}
	r.ask(question, errors.Join(wrong...), "%s", plural(int64(len(p.Logs)), "log"))
	return nil
}
