package verify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

const annexFormat = "sallyport-certificate-annex/1"

// An annex is a sealed object, and no document of a store is longer than 16 MiB.
const (
	maxAnnex    = 15 << 20
	annexBudget = 12 << 20 // for items; what does not fit is counted and not named
	maxValue    = 256      // bytes of a value that are shown
	maxGapLines = 10_000
)

// An Annex holds the names that belong to a certificate: streams, records that differ
// with their fields, gaps, and what was said in words. It is sealed to the managed
// recipients; the certificate has its hash.
type Annex struct {
	Format      string             `json:"format"`
	Store       dataset.ID         `json:"store"`
	Service     string             `json:"service"`
	Run         archive.RunID      `json:"run"`
	Test        dataset.ID         `json:"test"`
	Streams     []AnnexStream      `json:"streams"` // by number
	Differences []AnnexDifference  `json:"differences"`
	Gaps        []AnnexGap         `json:"gaps"`         // of the snapshot
	GapsUnnamed int64              `json:"gaps_unnamed"` // further ones, for which there is no room
	TargetGaps  []AnnexGap         `json:"target_gaps"`  // what the target did not take
	Scope       []string           `json:"scope"`        // what was chosen and left out
	Filters     []string           `json:"filters"`
	Ignored     []dataset.Ignored  `json:"ignored"`
	Notes       []string           `json:"notes"`
	NotArchived []string           `json:"not_archived"` // streams that the source offers now
	Waivers     []AnnexWaiver      `json:"waivers"`
	Acceptance  []AcceptanceResult `json:"acceptance"`
	Findings    []Finding          `json:"findings"` // of the check and of the verification
	Errors      []string           `json:"errors"`   // what kept the test from deciding
	Source      string             `json:"source"`   // why the source could not be compared
}

// An AnnexStream names a stream of a certificate.
type AnnexStream struct {
	Number int            `json:"number"`
	Name   string         `json:"name"`
	Proof  string         `json:"proof"` // how its grade was reached
	Losses []dataset.Loss `json:"losses"`
}

// An AnnexDifference names a record that is not the same on all sides.
type AnnexDifference struct {
	Stream  int              `json:"stream"` // number
	Key     archive.Key      `json:"key"`
	Ordinal int              `json:"ordinal"`
	Status  reconcile.Status `json:"status"`
	Between string           `json:"between"`
	Fields  []AnnexField     `json:"fields"`
	Blob    bool             `json:"blob"` // the bytes differ
}

// An AnnexField is one place where a record differs. Long values are cut, and say so.
type AnnexField struct {
	Path     string `json:"path"` // a JSON Pointer
	Archived string `json:"archived"`
	Restored string `json:"restored"`
}

// An AnnexGap names a gap.
type AnnexGap struct {
	Stream  string       `json:"stream"`
	Key     archive.Key  `json:"key"` // empty if the whole stream is missing
	Ordinal int          `json:"ordinal"`
	Code    dataset.Code `json:"code"`
	Detail  string       `json:"detail"`
	Waived  string       `json:"waived"` // the reason of the waiver that covers it
}

// An AnnexWaiver is a waiver as it was configured.
type AnnexWaiver struct {
	Stream string       `json:"stream"`
	Code   dataset.Code `json:"code"`
	Key    archive.Key  `json:"key"`
	Reason string       `json:"reason"`
	Until  archive.Time `json:"until"`
	Used   int64        `json:"used"` // gaps that it covers
}

// ParseAnnex accepts only what was sealed as an annex.
func ParseAnnex(doc []byte) (*Annex, error) {
	var a Annex
	if err := archive.Decode(doc, &a); err != nil {
		return nil, fmt.Errorf("annex: %w", err)
	}
	if a.Format != annexFormat {
		return nil, fmt.Errorf("annex: format %q is not one this version reads", a.Format)
	}
	return &a, nil
}

// OpenAnnex opens the sealed annex of a certificate and makes sure that it belongs to
// it. It fails with [crypto.ErrNoKey] if o does not open it.
func (c *Certificate) OpenAnnex(o *crypto.Opener, sealed []byte) (*Annex, error) {
	p := &c.Predicate
	if got := dataset.Sum(sealed); got != p.Annex.SHA256 {
		return nil, &archive.DamageError{Name: p.Annex.Name, Want: p.Annex.SHA256, Got: got, Size: int64(len(sealed))}
	}
	doc, err := o.Open(sealed)
	if err != nil {
		return nil, fmt.Errorf("annex: %w", err)
	}
	a, err := ParseAnnex(doc)
	if err != nil {
		return nil, err
	}
	if a.Store != p.Store || a.Service != p.Service || a.Run != p.Run || a.Test != p.Test {
		return nil, errors.New("annex: belongs to another exit test")
	}
	return a, nil
}

// text makes words fit for JSON: what is not UTF-8 is written as an escape.
func text(s string) string {
	if strings.ToValidUTF8(s, "") == s {
		return s
	}
	return dataset.Escape(s)
}

// value shortens a field's value for people.
func value(raw []byte) string {
	switch {
	case raw == nil:
		return "(absent)"
	case len(raw) <= maxValue:
		return text(string(raw))
	}
	return fmt.Sprintf("%s... (cut: %d bytes, sha256 %s)", text(string(raw[:maxValue])), len(raw), dataset.Sum(raw))
}

// seal returns the annex as it is stored.
func (a *Annex) seal(to *crypto.Sealer) ([]byte, error) {
	doc, err := archive.Encode(a)
	if err != nil {
		return nil, fmt.Errorf("annex: %w", err)
	}
	if len(doc) > maxAnnex {
		return nil, fmt.Errorf("annex: %d bytes are more than an annex may have", len(doc))
	}
	sealed, err := to.Seal(doc)
	if err != nil {
		return nil, fmt.Errorf("seal annex: %w", err)
	}
	return sealed, nil
}

// An annexRoom is what is left for items.
type annexRoom int

// fits takes an item's room, if there is enough.
func (r *annexRoom) fits(item any) (bool, error) {
	doc, err := archive.Encode(item)
	if err != nil {
		return false, fmt.Errorf("annex: %w", err)
	}
	n := annexRoom(len(doc) * 2) // indentation
	if n > *r {
		return false, nil
	}
	*r -= n
	return true, nil
}
