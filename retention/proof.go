package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// A Proof is what a certificate says that deletion rests on. It comes from [FindProof],
// which has verified it.
type Proof struct {
	Certificate dataset.Hash
	Store       dataset.ID
	Service     string
	Manifest    dataset.Hash // of the snapshot that was restored and compared
	Proven      bool         // the verdict
	Issued      time.Time
	Expires     time.Time
	Signer      crypto.Identity
}

// FindProof checks a certificate of a service against the archive as it is now: its
// signature, its conclusions, its validity, and whether the snapshot it proves is there,
// every pack of it, byte for byte. The zero hash asks for the newest that says proven. It
// fails with a *[PolicyError] if there is none that holds.
func FindProof(ctx context.Context, a *archive.Archive, service string, h dataset.Hash, now time.Time) (*Proof, error) {
	valid, bad, err := verify.LoadCertificates(ctx, a, service)
	if err != nil {
		return nil, err
	}
	for _, c := range slices.Backward(valid) {
		p := &c.Certificate.Predicate
		if !h.IsZero() && c.Hash != h || h.IsZero() && p.Verdict != verify.Proven {
			continue
		}
		r, err := verify.CertificateCheck{Archive: a, Doc: c.Doc, Service: service, Now: now}.Run(ctx)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.Hash, err)
		}
		if r.Holds != verify.Pass {
			return nil, refuse("no-proof", "the certificate %s does not hold: %s", c.Hash, broken(r))
		}
		return &Proof{c.Hash, p.Store, p.Service, c.Certificate.Subject[0].Digest.SHA256, p.Verdict == verify.Proven, p.Issued.Time, p.Expires.Time, c.Signer}, nil
	}
	why := ""
	if len(bad) > 0 {
		why = fmt.Sprintf(" (%v)", errors.Join(bad...))
	}
	if !h.IsZero() {
		return nil, refuse("no-proof", "there is no certificate %s of %s%s", h, service, why)
	}
	return nil, refuse("no-proof", "no certificate of %s says that its exit is proven%s", service, why)
}

// broken says which questions about a certificate are not answered with yes.
func broken(r *verify.CertificateReport) string {
	for _, l := range r.Lines {
		if l.Outcome != verify.Pass {
			return l.Question + " " + l.Detail
		}
	}
	return "it could not be read"
}
