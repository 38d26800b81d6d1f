package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

const (
	verifiedFormat    = "sallyport-verified/1"
	verifiedNamespace = "sallyport-verified"
)

// A Verified is a verifier's record of one snapshot. One that says "pass" is the
// countersignature without which a snapshot counts for nothing when retention decides
// what may expire: whoever can write snapshots cannot make old ones superfluous.
type Verified struct {
	Format   string         `json:"format"`
	Store    dataset.ID     `json:"store"`
	Service  string         `json:"service"`
	Run      archive.RunID  `json:"run"`
	Manifest dataset.Hash   `json:"manifest"`
	Verified archive.Time   `json:"verified"` // by the verifier's clock
	Outcome  Outcome        `json:"outcome"`  // pass or fail
	Tags     []string       `json:"tags"`     // that the verifier gave the snapshot, for keep rules; sorted
	Decoded  []ListSummary  `json:"decoded"`  // lists of the manifest whose packs were decoded
	Trusted  []TrustedList  `json:"trusted"`  // lists whose packs were taken from an earlier record
	Damaged  []dataset.Hash `json:"damaged"`  // packs that are not what they should be; sorted
	Counts   VerifiedCounts `json:"counts"`
	Root     dataset.Hash   `json:"root"` // of the snapshot, recomputed
}

// A ListSummary names the packs of one origin run by the list that holds them.
type ListSummary struct {
	SHA256 dataset.Hash `json:"sha256"`
	Packs  int64        `json:"packs"`
}

// A TrustedList names packs that an earlier record, not older than [TrustFor], decoded.
type TrustedList struct {
	ListSummary
	Record dataset.Hash `json:"record"`
}

// TrustFor is how old a record may be for a later one to rely on it.
const TrustFor = 30 * 24 * time.Hour

// VerifiedCounts are what a verification decoded.
type VerifiedCounts struct {
	Records int64 `json:"records"`
	Blobs   int64 `json:"blobs"`
	Bytes   int64 `json:"bytes"` // of lines and blobs
	Parts   int64 `json:"parts"`
}

var tagForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// CheckTag says whether text may be a tag: public words of a-z, 0-9, dot, dash and
// underscore, because records are public.
func CheckTag(text string) error {
	if !tagForm.MatchString(text) {
		return fmt.Errorf("tag %q: must be 1 to 63 characters of a-z, 0-9, dot, dash and underscore", text)
	}
	return nil
}

// WriteVerified signs and stores the record of a verification that ran to its end. The
// signer must be allowed to sign for sallyport-verified by the archive's own trust.
func WriteVerified(ctx context.Context, a *archive.Archive, signer *crypto.Signer, s *archive.Snapshot, r *VerifyReport, tags []string, now time.Time) (dataset.Hash, error) {
	if r.Content != Pass && r.Content != Fail {
		return dataset.Hash{}, fmt.Errorf("a verification that ended %q is no verdict", r.Content)
	}
	if err := a.Trust.MaySign(verifiedNamespace, signer.PublicKey(), now); err != nil {
		return dataset.Hash{}, fmt.Errorf("nobody would believe it: %w", err)
	}
	v := Verified{Format: verifiedFormat, Store: a.ID, Service: s.Service, Run: s.Run, Manifest: s.Hash,
		Verified: archive.At(now), Outcome: r.Content, Tags: slices.Concat([]string{}, tags),
		Decoded: []ListSummary{}, Trusted: []TrustedList{}, Damaged: damagedPacks(r.Findings),
		Counts: VerifiedCounts{r.Records, r.Blobs, r.Bytes, r.Parts}, Root: s.Manifest.Root}
	slices.Sort(v.Tags)
	for _, l := range s.Manifest.Lists {
		v.Decoded = append(v.Decoded, ListSummary{l.SHA256, l.Packs})
	}
	doc, err := archive.Encode(v)
	if err == nil {
		_, err = parseVerified(doc)
	}
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("record of verification: %w", err)
	}
	return dataset.Sum(doc), archive.PutSigned(ctx, a.Store, signer, s.Service, archive.DocumentName(s.Service, "verified", s.Run, doc), verifiedNamespace, doc)
}

// damagedPacks returns the packs that findings name, sorted.
func damagedPacks(findings []Finding) []dataset.Hash {
	packs := []dataset.Hash{}
	for _, f := range findings {
		if n := archive.ParseName(f.Object); n.Class == archive.PackObject {
			packs = append(packs, n.Hash)
		}
	}
	slices.SortFunc(packs, func(a, b dataset.Hash) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(packs)
}

func parseVerified(doc []byte) (*Verified, error) {
	var v Verified
	if err := archive.Decode(doc, &v); err != nil {
		return nil, err
	}
	switch {
	case v.Format != verifiedFormat:
		return nil, fmt.Errorf("format %q is not one this version reads", v.Format)
	case v.Outcome != Pass && v.Outcome != Fail:
		return nil, fmt.Errorf("outcome %q is no verdict", v.Outcome)
	case !slices.IsSorted(v.Tags):
		return nil, errors.New("tags are not sorted")
	}
	for _, t := range v.Tags {
		if err := CheckTag(t); err != nil {
			return nil, err
		}
	}
	return &v, nil
}

// A Countersignature is a record of verification that was found in the store, validly
// signed and about the manifest asked for.
type Countersignature struct {
	Verified
	Hash   dataset.Hash
	Signer crypto.Identity
	Stored time.Time // when the store got it, by its own clock
}

// ReadVerified returns the records of a service's snapshots by manifest, each list in
// the order of their time. What is in their place and is no record, or is not validly
// signed, comes back in junk, each an [archive.IntegrityError], and counts for nothing.
func ReadVerified(ctx context.Context, a *archive.Archive, service string) (records map[dataset.Hash][]Countersignature, junk []error, err error) {
	records = map[dataset.Hash][]Countersignature{}
	for info, err := range a.Store.List(ctx, service+"/verified/") {
		if err != nil {
			return nil, nil, fmt.Errorf("list verified records of %s: %w", service, err)
		}
		if n := archive.ParseName(info.Name); n.Class != archive.VerifiedObject || info.Later || info.Marker {
			continue
		}
		c, err := readVerified(ctx, a, service, info)
		var damage *archive.DamageError
		var integrity *archive.IntegrityError
		switch {
		case errors.As(err, &damage), errors.As(err, &integrity):
			junk = append(junk, err)
			continue
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, nil, fmt.Errorf("read %s: %w", info.Name, err)
		}
		records[c.Manifest] = append(records[c.Manifest], *c)
	}
	for _, list := range records {
		slices.SortFunc(list, func(a, b Countersignature) int {
			if c := a.Verified.Verified.Compare(b.Verified.Verified.Time); c != 0 {
				return c
			}
			return slices.Compare(a.Hash[:], b.Hash[:])
		})
	}
	return records, junk, nil
}

func readVerified(ctx context.Context, a *archive.Archive, service string, info archive.Info) (*Countersignature, error) {
	doc, err := a.Read(ctx, info.Name)
	if err != nil {
		return nil, err
	}
	v, err := parseVerified(doc)
	if err == nil {
		switch {
		case v.Store != a.ID:
			err = fmt.Errorf("is a record of another store, %s", v.Store)
		case v.Service != service:
			err = fmt.Errorf("is a record of another service, %s", v.Service)
		case v.Run != archive.ParseName(info.Name).Run:
			err = fmt.Errorf("is a record of another run, %s", v.Run)
		}
	}
	if err != nil {
		return nil, &archive.IntegrityError{Name: info.Name, Err: err}
	}
	c := &Countersignature{Verified: *v, Hash: dataset.Sum(doc), Stored: info.Time}
	if c.Signer, err = a.Verify(ctx, service, verifiedNamespace, doc, v.Verified.Time); err != nil {
		return nil, err
	}
	return c, nil
}
