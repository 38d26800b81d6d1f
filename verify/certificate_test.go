package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// A court is an archive in which exporter and verifier have keys of their own.
type court struct {
	src                *memory.Source
	store              *archivetest.Memory
	a                  *archive.Archive
	s                  *archive.Snapshot
	exporter, verifier *crypto.Signer
	open               *crypto.Opener
	seal               *crypto.Sealer
	allowed            string
}

func newSigner(t testing.TB, principal, namespaces string) (*crypto.Signer, string) {
	t.Helper()
	private, public, err := crypto.GenerateSigningKey(principal)
	if err != nil {
		t.Fatal(err)
	}
	s, err := crypto.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s, principal + ` namespaces="` + namespaces + `" ` + public
}

func newCourt(t testing.TB, src *memory.Source, method transfer.Method) *court {
	t.Helper()
	c := &court{src: src, store: new(archivetest.Memory)}
	var e, v string
	c.exporter, e = newSigner(t, "exporter", "sallyport-store,sallyport-intent,sallyport-keys,sallyport-manifest")
	c.verifier, v = newSigner(t, "verifier", "sallyport-verified,sallyport-certificate,sallyport-keys")
	c.allowed = strings.TrimSpace(e) + "\n" + strings.TrimSpace(v) + "\n"
	trust, err := crypto.ParseAllowedSigners([]byte(c.allowed), "allowed_signers")
	if err != nil {
		t.Fatal(err)
	}
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	if c.open, err = crypto.ParseIdentities(file, "identity"); err != nil {
		t.Fatal(err)
	}
	if c.seal, err = crypto.NewSealer(recipient); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Init(t.Context(), c.store, c.exporter, time.Now()); err != nil {
		t.Fatal(err)
	}
	if c.a, err = archive.Open(t.Context(), c.store, trust); err != nil {
		t.Fatal(err)
	}
	d, err := transfer.Export(t.Context(), transfer.Job{Archive: c.a, Method: method,
		Options: archive.Options{Service: "case-files", Exporter: "memory", Classification: "OFFICIAL-SENSITIVE", Product: "test",
			Signer: c.exporter, Recipients: c.seal, State: t.TempDir()},
		Open: c.view})
	if err != nil {
		t.Fatal(err)
	}
	if c.s, err = c.a.Snapshot(t.Context(), "case-files", d); err != nil {
		t.Fatal(err)
	}
	if err := c.s.Unlock(t.Context(), c.open); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *court) view(ctx context.Context) (exporters.Exporter, error) { return c.src.Open(ctx) }

// try tests and prepares the certificate.
func (c *court) try(t testing.TB, dst *memory.Target) verify.Issuance {
	t.Helper()
	check, err := verify.Check{Archive: c.a, Service: "case-files", Now: time.Now()}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := verify.ExitTest{Snapshot: c.s, Target: dst, Kind: "memory", Source: c.view, Where: "memory:"}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return verify.Issuance{Archive: c.a, Snapshot: c.s, Report: report, Check: check,
		Identities: []verify.Identity{{Name: "managed", Opener: c.open}}, Signer: c.verifier, Recipients: c.seal,
		Objectives: verify.Objectives{RPO: 24 * time.Hour, RTO: 4 * time.Hour}, Product: "sallyport test", Now: time.Now()}
}

func issue(t testing.TB, i verify.Issuance) (*verify.Certificate, string) {
	t.Helper()
	c, name, err := verify.Issue(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	return c, name
}

// secretSource has names that nobody may find in a public document.
func secretSource(n int) *memory.Source {
	src := new(memory.Source)
	src.Generate(dataset.Stream{Name: "canary-stream", Blobs: true}, n, memory.Object(1, 0, 300))
	src.Add(dataset.Stream{Name: "canary-rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "canary_id", Type: dataset.Integer}}, PrimaryKey: []string{"canary_id"}}},
		dataset.Record{Key: "[1]", Data: json.RawMessage(`{"canary_id":1}`)})
	return src
}

func TestCleanExitTestIsProvenAndItsCertificateHolds(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(300), transfer.DoubleRead)
	i := c.try(t, new(memory.Target))
	i.Grade = archive.DoubleRead
	cert, name := issue(t, i)
	p := cert.Predicate
	if p.Verdict != verify.Proven || len(p.Reasons) != 0 {
		t.Fatalf("verdict %s because of %q", p.Verdict, p.Reasons)
	}
	r, err := verify.CheckCertificate(t.Context(), c.a, name, time.Now().Add(time.Hour))
	if err != nil || r.Holds != verify.Pass || r.Signer.Principal != "verifier" {
		t.Errorf("check: %+v, %v", r, err)
	}
	valid, bad, err := verify.LoadCertificates(t.Context(), c.a, "case-files")
	if err != nil || len(bad) != 0 || len(valid) != 1 || valid[0].Name != name {
		t.Errorf("load: %d valid, bad %v, %v", len(valid), bad, err)
	}
	check, err := verify.Check{Archive: c.a}.Run(t.Context())
	if err != nil || check.Integrity != verify.Pass {
		t.Errorf("the store with its certificate: %+v, %v", check.Findings, err)
	}
	if got := p.Streams; len(got) != 2 || got[1].Records != 300 || got[1].AgainstRestored[reconcile.OK] != 300 || got[1].AgainstSource[reconcile.OK] != 300 {
		t.Errorf("streams %+v", got)
	}
	if k := p.Keys; len(k.Keys) == 0 || k.Keys[0].Outcome != verify.Pass || !slices.Equal(k.Keys[0].OpenedBy, c.seal.Recipients()) || !slices.Equal(k.Recipients, c.seal.Recipients()) {
		t.Errorf("keys %+v", k)
	}
}

func TestCertificateNamesNothingOfTheSourceAndItsAnnexDoes(t *testing.T) {
	t.Parallel()
	src := secretSource(50)
	src.Mutate = func(r dataset.Record) []dataset.Record {
		if r.Stream == "canary-rows" {
			return []dataset.Record{{Stream: r.Stream, Key: "[2]", Gap: &dataset.Gap{Code: dataset.Denied, Detail: "canary detail"}}}
		}
		return []dataset.Record{r}
	}
	c := newCourt(t, src, "")
	victim := memory.Object(1, 0, 300)(17).Key
	dst := &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
		if r.Key == victim {
			r.Data = bytes.Replace(r.Data, []byte("{"), []byte(`{"canary_field":"x",`), 1)
		}
		return []dataset.Record{r}
	}, Losses: func(s dataset.Stream) []dataset.Loss {
		return []dataset.Loss{{Stream: s.Name, Field: "canary_lost", Reason: "canary reason"}}
	}}
	i := c.try(t, dst)
	i.Waivers = []verify.Waiver{{Stream: "canary-rows", Code: dataset.Denied, Reason: "canary waiver", Until: time.Now().Add(time.Hour)}}
	i.Report.Acceptance = []verify.AcceptanceResult{{Name: "canary question", Outcome: verify.Fail, Detail: "canary answer"}}
	i.Report.Errors = append(i.Report.Errors, "canary error")
	cert, name := issue(t, i)
	doc := c.store.Bytes(name)
	if bytes.Contains(bytes.ToLower(doc), []byte("canary")) || bytes.Contains(doc, []byte(victim)) {
		t.Errorf("the certificate names something of the source:\n%s", doc)
	}
	if cert.Predicate.Verdict != verify.NotProven {
		t.Errorf("verdict %s", cert.Predicate.Verdict)
	}
	annex, err := cert.OpenAnnex(c.open, c.store.Bytes(cert.Predicate.Annex.Name))
	if err != nil {
		t.Fatal(err)
	}
	if len(annex.Differences) != 1 || string(annex.Differences[0].Key) != victim || annex.Differences[0].Fields[0].Path != "/canary_field" {
		t.Errorf("differences %+v", annex.Differences)
	}
	if len(annex.Gaps) != 1 || annex.Gaps[0].Detail != "canary detail" || annex.Gaps[0].Waived != "canary waiver" || annex.Waivers[0].Used != 1 {
		t.Errorf("gaps %+v, waivers %+v", annex.Gaps, annex.Waivers)
	}
	if annex.Streams[0].Name != "canary-rows" || annex.Streams[0].Losses[0].Reason != "canary reason" {
		t.Errorf("streams %+v", annex.Streams)
	}
}

func TestKeyThatMayNotCertifyIssuesNothing(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(5), "")
	i := c.try(t, new(memory.Target))
	i.Signer = c.exporter
	before := len(c.store.Names())
	if _, _, err := verify.Issue(t.Context(), i); !errors.Is(err, crypto.ErrWrongNamespace) || len(c.store.Names()) != before {
		t.Errorf("error %v, %d objects more", err, len(c.store.Names())-before)
	}
}

// refusedBecause checks a certificate and returns the details of the lines that fail.
func refusedBecause(t *testing.T, check verify.CertificateCheck) string {
	t.Helper()
	r, err := check.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Holds == verify.Pass {
		return ""
	}
	var why []string
	for _, l := range r.Lines {
		if l.Outcome != verify.Pass {
			why = append(why, l.Detail)
		}
	}
	return strings.Join(why, "\n")
}

func TestCertificateIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(20), "")
	i := c.try(t, new(memory.Target))
	cert, name := issue(t, i)
	doc := c.store.Bytes(name)
	other := newCourt(t, secretSource(20), "")
	resign := func(s *crypto.Signer, doc []byte) []byte {
		sig, err := s.Sign(verify.CertificateNamespace, doc)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	forged := *cert
	forged.Predicate.Streams = slices.Clone(cert.Predicate.Streams)
	forged.Predicate.Streams[0].Restored--
	lying, err := forged.Encode()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(time.Minute)
	for _, test := range []struct {
		name  string
		check verify.CertificateCheck
		want  string
	}{
		{"a good one", verify.CertificateCheck{Archive: c.a, Doc: doc, Now: now}, ""},
		{"altered", verify.CertificateCheck{Archive: c.a, Doc: bytes.Replace(doc, []byte(`"sequence": 1`), []byte(`"sequence": 2`), 1), Now: now}, "no signature"},
		{"not in its one form", verify.CertificateCheck{Archive: c.a, Doc: append(bytes.Clone(doc), '\n'), Now: now}, "canonical form"},
		{"expired", verify.CertificateCheck{Archive: c.a, Doc: doc, Now: now.Add(91 * 24 * time.Hour)}, "expired"},
		{"not yet issued", verify.CertificateCheck{Archive: c.a, Doc: doc, Now: now.Add(-time.Hour)}, "later than now"},
		{"for another store", verify.CertificateCheck{Archive: other.a, Doc: doc, Now: now}, "another store"},
		{"for another service", verify.CertificateCheck{Archive: c.a, Doc: doc, Service: "payroll", Now: now}, "another service"},
		{"for another snapshot", verify.CertificateCheck{Archive: c.a, Doc: doc, Snapshot: archive.NewRunID(now), Now: now}, "another snapshot"},
		{"signed by the exporter", verify.CertificateCheck{Archive: c.a, Doc: doc, Signature: resign(c.exporter, doc), Now: now}, "wrong namespace"},
		{"signed by a stranger", verify.CertificateCheck{Archive: c.a, Doc: doc, Signature: resign(other.verifier, doc), Now: now}, "unknown signer"},
		{"a verdict that does not follow", verify.CertificateCheck{Archive: c.a, Doc: lying, Signature: resign(c.verifier, lying), Now: now}, "what was measured says"},
	} {
		if got := refusedBecause(t, test.check); test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: refused because of %q; want %q", test.name, got, test.want)
		}
	}
}

func TestCertificateInThePlaceOfAnotherIsRefused(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(5), "")
	cert, name := issue(t, c.try(t, new(memory.Target)))
	doc, n := c.store.Bytes(name), archive.ParseName(name)
	for _, test := range []struct {
		place string
		want  string
	}{
		{archive.DocumentName("payroll", "certificates", n.Run, doc), "for another service, case-files"},
		{archive.DocumentName("case-files", "certificates", archive.NewRunID(time.Now()), doc), "for another snapshot, " + string(cert.Predicate.Run)},
	} {
		st := c.store.Clone()
		st.Put(test.place, doc)
		a := &archive.Archive{Store: st, ID: c.a.ID, Trust: c.a.Trust}
		_, bad, err := verify.LoadCertificates(t.Context(), a, archive.ParseName(test.place).Service)
		if err != nil || len(bad) != 1 || !strings.Contains(bad[0].Error(), test.want) {
			t.Errorf("%s: refused because of %v, %v; want %q", test.place, bad, err, test.want)
		}
		r, err := verify.CheckCertificate(t.Context(), a, test.place, time.Now().Add(time.Minute))
		if err != nil || r.Holds != verify.Fail {
			t.Errorf("%s: holds %s, %v", test.place, r.Holds, err)
		}
	}
}

func TestCertificateFallsWithItsSnapshot(t *testing.T) {
	t.Parallel()
	c := newCourt(t, secretSource(20), "")
	_, name := issue(t, c.try(t, new(memory.Target)))
	doc := c.store.Bytes(name)
	var pack string
	for _, n := range c.store.Names() {
		if archive.ParseName(n).Class == archive.PackObject {
			pack = n
		}
	}
	for _, test := range []struct {
		name   string
		damage func(st *archivetest.Memory)
		want   string
	}{
		{"a bit flipped", func(st *archivetest.Memory) {
			b := bytes.Clone(st.Bytes(pack))
			b[len(b)/2] ^= 1
			st.Put(pack, b)
		}, "is damaged"},
		{"a pack deleted", func(st *archivetest.Memory) { st.Put(pack, nil) }, "is missing"},
		{"the manifest deleted", func(st *archivetest.Memory) { st.Put(archive.DecisionName("case-files", c.s.Run), nil) }, "no valid manifest"},
		{"the annex deleted", func(st *archivetest.Memory) {
			for _, n := range st.Names() {
				if archive.ParseName(n).Class == archive.AnnexObject {
					st.Put(n, nil)
				}
			}
		}, "annexes"},
	} {
		st := c.store.Clone()
		test.damage(st)
		a := &archive.Archive{Store: st, ID: c.a.ID, Trust: c.a.Trust}
		if got := refusedBecause(t, verify.CertificateCheck{Archive: a, Doc: doc, Now: time.Now().Add(time.Minute)}); !strings.Contains(got, test.want) {
			t.Errorf("%s: refused because of %q; want %q", test.name, got, test.want)
		}
	}
}

func TestStockSSHKeygenAcceptsACertificate(t *testing.T) {
	t.Parallel()
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not installed")
	}
	c := newCourt(t, secretSource(5), "")
	_, name := issue(t, c.try(t, new(memory.Target)))
	dir := t.TempDir()
	doc := c.store.Bytes(name)
	var sig []byte
	for _, n := range c.store.Names() {
		if p := archive.ParseName(n); p.Class == archive.SignatureObject && p.Document == dataset.Sum(doc) {
			sig = c.store.Bytes(n)
		}
	}
	for file, b := range map[string][]byte{"allowed": []byte(c.allowed), "sig": sig} {
		if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), keygen, "-Y", "verify", "-f", filepath.Join(dir, "allowed"), "-I", "verifier",
		"-n", verify.CertificateNamespace, "-s", filepath.Join(dir, "sig"))
	cmd.Stdin = bytes.NewReader(doc)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen: %v\n%s", err, out)
	}
}

func FuzzCertificateHasOneForm(f *testing.F) {
	c := newCourt(f, secretSource(3), "")
	_, name := issue(f, c.try(f, new(memory.Target)))
	f.Add(c.store.Bytes(name))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := verify.ParseCertificate(doc)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil || !bytes.Equal(again, doc) {
			t.Errorf("%q was accepted and is written as %q", doc, again)
		}
	})
}
