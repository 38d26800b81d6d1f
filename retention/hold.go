package retention

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

const (
	holdFormat    = "sallyport-hold/1"
	releaseFormat = "sallyport-release/1"
)

// HoldReasons are the public reasons of holds and of their releases. Whatever else there
// is to say is in the annex.
var HoldReasons = []string{"litigation", "inquiry", "investigation", "subject-request", "information-request", "audit", "other", "ended"}

// A Hold forbids every deletion that could touch what it is about. It says in public that
// there is one, why in a word, and how much is behind it; the scope is sealed.
type Hold struct {
	head
	Placed archive.Time `json:"placed"`
	Reason string       `json:"reason"` // one of [HoldReasons]
	Scopes int          `json:"scopes"` // how many there are in the annex
	Annex  dataset.Hash `json:"annex"`  // a sealed [HoldAnnex]
}

// A Release ends a hold.
type Release struct {
	head
	Hold     dataset.Hash `json:"hold"`
	Released archive.Time `json:"released"`
	Reason   string       `json:"reason"`
	Annex    dataset.Hash `json:"annex"` // a sealed [HoldAnnex] without scopes
}

// A HoldAnnex is what a hold keeps to those who may know.
type HoldAnnex struct {
	Authority string  `json:"authority"` // who ordered it: a court, a case number, an officer
	Reason    string  `json:"reason"`
	Scopes    []Scope `json:"scopes,omitempty"`
}

// A Scope is what a hold is about. The members that are set must all match; the zero
// Scope is the whole service. Subject matches any record whose key or data contains it,
// as bytes.
type Scope struct {
	Stream  string      `json:"stream,omitempty"`
	Prefix  archive.Key `json:"prefix,omitzero"`
	Key     archive.Key `json:"key,omitzero"`
	Subject string      `json:"subject,omitempty"`
}

// Matches reports whether a record is within the scope.
func (s Scope) Matches(r *dataset.Record) bool {
	return (s.Stream == "" || s.Stream == r.Stream) &&
		strings.HasPrefix(r.Key, string(s.Prefix)) &&
		(s.Key == "" || string(s.Key) == r.Key) &&
		(s.Subject == "" || strings.Contains(r.Key, s.Subject) || strings.Contains(string(r.Data), s.Subject))
}

// An ActiveHold is a hold that no release ends.
type ActiveHold struct {
	Hold
	Hash   dataset.Hash
	Signer crypto.Identity
	Sealed *HoldAnnex // nil if no identity opened it
}

// Place records a hold.
func (o *Office) Place(ctx context.Context, service, reason string, annex HoldAnnex) (dataset.Hash, error) {
	if err := CheckReason(reason); err != nil {
		return dataset.Hash{}, err
	}
	if len(annex.Scopes) == 0 || annex.Authority == "" {
		return dataset.Hash{}, errors.New("a hold needs a scope and an authority")
	}
	sealed, err := o.putAnnex(ctx, service, annex)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("place hold: %w", err)
	}
	h, err := o.put(ctx, service, "holds", nsHold, Hold{head{holdFormat, o.Archive.ID, service}, archive.At(o.now()), reason, len(annex.Scopes), sealed})
	if err != nil {
		return h, fmt.Errorf("place hold: %w", err)
	}
	return h, nil
}

// Release records the end of a hold that is in force.
func (o *Office) Release(ctx context.Context, service string, hold dataset.Hash, reason string, annex HoldAnnex) (dataset.Hash, error) {
	if err := CheckReason(reason); err != nil {
		return dataset.Hash{}, err
	}
	if annex.Authority == "" {
		return dataset.Hash{}, errors.New("the release of a hold needs an authority")
	}
	active, err := o.Holds(ctx, service)
	if err != nil {
		return dataset.Hash{}, err
	}
	if !slices.ContainsFunc(active, func(h ActiveHold) bool { return h.Hash == hold }) {
		return dataset.Hash{}, fmt.Errorf("hold %s is not in force", hold)
	}
	annex.Scopes = nil
	sealed, err := o.putAnnex(ctx, service, annex)
	if err != nil {
		return dataset.Hash{}, fmt.Errorf("release hold: %w", err)
	}
	h, err := o.put(ctx, service, "holds", nsRelease, Release{head{releaseFormat, o.Archive.ID, service}, hold, archive.At(o.now()), reason, sealed})
	if err != nil {
		return h, fmt.Errorf("release hold: %w", err)
	}
	return h, nil
}

// CheckReason says whether a word may be the public reason of a hold or of its release.
func CheckReason(reason string) error {
	if !slices.Contains(HoldReasons, reason) {
		return fmt.Errorf("reason %q is public, so it must be one of %s", reason, strings.Join(HoldReasons, ", "))
	}
	return nil
}

// Holds returns the holds in force, oldest first. Whatever lies among them and cannot be
// read, parsed or trusted fails it with an [archive.IntegrityError]: it may have been a
// hold, so whoever wants to delete must not.
func (o *Office) Holds(ctx context.Context, service string) ([]ActiveHold, error) {
	docs, err := folder(ctx, o.Archive, service, "holds")
	if err != nil {
		return nil, err
	}
	released := map[dataset.Hash]bool{}
	var holds []ActiveHold
	for _, d := range docs {
		switch d.format {
		case releaseFormat:
			var r Release
			if _, err := o.verified(ctx, service, nsRelease, d, &r, &r.head, releaseFormat, func() archive.Time { return r.Released }); err != nil {
				return nil, err
			}
			released[r.Hold] = true
		default:
			var h Hold
			id, err := o.verified(ctx, service, nsHold, d, &h, &h.head, holdFormat, func() archive.Time { return h.Placed })
			if err != nil {
				return nil, err
			}
			holds = append(holds, ActiveHold{Hold: h, Hash: d.hash, Signer: id})
		}
	}
	holds = slices.DeleteFunc(holds, func(h ActiveHold) bool { return released[h.Hash] })
	for i := range holds {
		if err := o.unseal(ctx, service, &holds[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(holds, func(a, b ActiveHold) int {
		if c := a.Placed.Compare(b.Placed.Time); c != 0 {
			return c
		}
		return slices.Compare(a.Hash[:], b.Hash[:])
	})
	return holds, nil
}

// unseal opens the annex of a hold if an identity does.
func (o *Office) unseal(ctx context.Context, service string, h *ActiveHold) error {
	annex := new(HoldAnnex)
	err := o.annex(ctx, service, h.Annex, annex)
	switch {
	case errors.Is(err, crypto.ErrNoKey):
		return nil
	case err != nil:
		return fmt.Errorf("hold %s: %w", h.Hash, err)
	case len(annex.Scopes) != h.Scopes:
		return &archive.IntegrityError{Name: "hold " + h.Hash.String(), Err: fmt.Errorf("its annex has %d scopes instead of %d", len(annex.Scopes), h.Scopes)}
	}
	h.Sealed = annex
	return nil
}

// verified decodes and verifies one document.
func (o *Office) verified(ctx context.Context, service, namespace string, d stored, v any, h *head, format string, at func() archive.Time) (crypto.Identity, error) {
	err := archive.Decode(d.doc, v)
	if err == nil {
		err = h.check(o.Archive, service, format)
	}
	if err != nil {
		return crypto.Identity{}, &archive.IntegrityError{Name: d.name, Err: err}
	}
	id, err := o.Archive.Verify(ctx, service, namespace, d.doc, at().Time)
	if err != nil {
		return id, fmt.Errorf("%s: %w", d.name, err)
	}
	return id, nil
}

// Covers returns the first hold that forbids the deletion of a record. One whose scope
// nobody here can read forbids all.
func Covers(holds []ActiveHold, r *dataset.Record) (ActiveHold, bool) {
	for _, h := range holds {
		if h.Sealed == nil || slices.ContainsFunc(h.Sealed.Scopes, func(s Scope) bool { return s.Matches(r) }) {
			return h, true
		}
	}
	return ActiveHold{}, false
}

// Hashes names the holds.
func Hashes(holds []ActiveHold) []dataset.Hash {
	var list []dataset.Hash
	for _, h := range holds {
		list = append(list, h.Hash)
	}
	return list
}

// A Memory is what this host remembers of the holds of a service, so that one which is
// taken out of the store is missed. The zero Memory remembers nothing.
type Memory struct {
	Dir string // private; empty remembers nothing
}

// Check fails with an [archive.IntegrityError] if the folder of holds lacks a document
// that was there before, and remembers those that are there now.
func (m Memory) Check(ctx context.Context, a *archive.Archive, service string) error {
	if m.Dir == "" {
		return nil
	}
	docs, err := folder(ctx, a, service, "holds")
	if err != nil {
		return err
	}
	names := make([]string, len(docs))
	for i, d := range docs {
		names[i] = d.hash.String()
	}
	file := string(a.ID) + "-" + service
	text, err := os.ReadFile(filepath.Join(m.Dir, file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remembered holds: %w", err)
	}
	for _, was := range strings.Fields(string(text)) {
		if !slices.Contains(names, was) {
			return &archive.IntegrityError{Name: service + "/holds/" + was + ".json", Err: errors.New("was there and is gone: nothing is deleted while a hold may be missing")}
		}
	}
	if slices.Sort(names); strings.Join(names, "\n") == strings.TrimSpace(string(text)) {
		return nil
	}
	d, err := durable.OpenPrivate(m.Dir)
	if err != nil {
		return fmt.Errorf("remember holds: %w", err)
	}
	return errors.Join(d.Replace(file, []byte(strings.Join(names, "\n")+"\n")), d.Close())
}
