package retention

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

const deletionFormat = "sallyport-deletion/1"

// A Deletion is the certificate of a purge: what was deleted at the source, who approved
// it, what proves that it is gone there, and where and until when it still is. It is
// public and names nothing of the source.
type Deletion struct {
	head
	Plan        dataset.Hash       `json:"plan"`
	Run         archive.RunID      `json:"run"` // whose snapshot still holds what was deleted
	Manifest    dataset.Hash       `json:"manifest"`
	Certificate dataset.Hash       `json:"certificate"` // that proved the archive before
	Approvals   []Approver         `json:"approvals"`
	Started     archive.Time       `json:"started"`
	Ended       archive.Time       `json:"ended"`
	Planned     int64              `json:"planned"` // items in the plan
	Fates       map[Fate]int64     `json:"fates"`   // their sum is planned
	Kinds       map[ItemKind]int64 `json:"kinds"`   // of the deleted and gone
	Kept        map[KeepCode]int64 `json:"kept"`    // picked by a rule and not in the plan
	Absent      verify.Outcome     `json:"absent"`  // read again, none of the deleted was found
	Checked     archive.Time       `json:"checked"` // when the source was read again
	Rebuilt     verify.Outcome     `json:"rebuilt"` // the archive alone gives all of it back
	KeepUntil   archive.Time       `json:"keep_until,omitzero"`
	Holders     []Holder           `json:"holders"` // snapshots that may hold the bytes
}

// An Approver is a person in a deletion certificate.
type Approver struct {
	Round       Round  `json:"round"`
	Principal   string `json:"principal"`
	Fingerprint string `json:"fingerprint"`
}

// A Holder is a snapshot that may hold the bytes of what was deleted at the source.
type Holder struct {
	Run      archive.RunID `json:"run"`
	Manifest dataset.Hash  `json:"manifest"`
	Reasons  []Reason      `json:"reasons"` // why it is kept at present
}

// Certify signs and stores the certificate of a purge that is done. holders are the
// snapshots of the present plan; rebuilt says whether a restore from the archive alone
// was tried afterwards.
func (o *Office) Certify(ctx context.Context, p *Purged, holders Plan, rebuilt verify.Outcome) (dataset.Hash, *Deletion, error) {
	if !p.Done() {
		return dataset.Hash{}, nil, refuse("not-done", "a purge is certified when every item has its fate and the source was read again")
	}
	d := &Deletion{head: head{deletionFormat, o.Archive.ID, p.Plan.Service}, Plan: p.Plan.Hash, Run: p.Plan.Run, Manifest: p.Plan.Manifest,
		Certificate: p.Plan.Certificate, Approvals: []Approver{}, Started: archive.At(p.Started), Ended: archive.At(p.Ended),
		Planned: p.Plan.Counts.Items, Fates: p.Fates, Kinds: p.Kinds, Kept: p.Plan.Counts.Kept, Absent: verify.Pass,
		Checked: archive.At(p.Absence.Checked), Rebuilt: rebuilt, KeepUntil: p.Plan.KeepUntil, Holders: []Holder{}}
	if len(p.Absence.Altered) > 0 {
		d.Absent = verify.Unknown
	}
	for _, a := range p.Approvals {
		d.Approvals = append(d.Approvals, Approver{a.Round, a.Signer.Principal, a.Signer.Fingerprint})
	}
	for _, s := range holders.Snapshots {
		if !s.Expires {
			d.Holders = append(d.Holders, Holder{s.Run, s.Hash, s.Reasons})
		}
	}
	h, err := o.put(ctx, p.Plan.Service, "purges", nsDeletion, d)
	if err != nil {
		return h, nil, fmt.Errorf("deletion certificate: %w", err)
	}
	return h, d, nil
}

// A SignedDeletion is a deletion certificate that was found in the store, validly signed.
type SignedDeletion struct {
	Deletion
	Hash   dataset.Hash
	Signer crypto.Identity
}

// Deletions returns the deletion certificates of a service, oldest first.
func (o *Office) Deletions(ctx context.Context, service string) ([]SignedDeletion, error) {
	docs, err := folder(ctx, o.Archive, service, "purges")
	if err != nil {
		return nil, err
	}
	var list []SignedDeletion
	for _, d := range docs {
		if d.format != deletionFormat {
			continue
		}
		s := SignedDeletion{Hash: d.hash}
		s.Signer, err = o.verified(ctx, service, nsDeletion, d, &s.Deletion, &s.head, deletionFormat, func() archive.Time { return s.Ended })
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b SignedDeletion) int {
		if c := a.Ended.Compare(b.Ended.Time); c != 0 {
			return c
		}
		return slices.Compare(a.Hash[:], b.Hash[:])
	})
	return list, nil
}

// Report returns the certificate in words, for people who keep records.
func (d *Deletion) Report() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Deletion at the source of %s", d.Service)
	line("")
	line("Plan %s of %d items, carried out from %s to %s.", d.Plan, d.Planned, stamp(d.Started.Time), stamp(d.Ended.Time))
	for _, f := range Fates {
		if n := d.Fates[f]; n > 0 {
			line("  %d %s", n, fateText[f])
		}
	}
	for _, k := range []ItemKind{RecordItem, ObjectItem, VersionItem, MarkerItem} {
		if n := d.Kinds[k]; n > 0 {
			line("  of the deleted, %d of kind %s", n, k)
		}
	}
	line("Approved by:")
	for _, a := range d.Approvals {
		line("  %s (%s), round %d", a.Principal, a.Fingerprint, a.Round)
	}
	if d.Absent == verify.Pass {
		line("The source was read again at %s: none of what was deleted was found (%s).", stamp(d.Checked.Time), d.Absent)
	} else {
		line("The source was read again at %s: there are records of the same keys with other data, new ones or such as", stamp(d.Checked.Time))
		line("the source only marked as deleted; whether all is gone cannot be said (%s).", d.Absent)
	}
	line("Restore of all of it from the archive alone, afterwards: %s.", d.Rebuilt)
	line("")
	line("The bytes are not gone from the archive. Snapshot %s holds them,", d.Run)
	if d.KeepUntil.IsZero() {
		line("and retention keeps it until it is told otherwise.")
	} else {
		line("and retention keeps it at least until %s.", stamp(d.KeepUntil.Time))
	}
	line("These snapshots may hold them too, each until a record of expiry ends it:")
	for _, h := range d.Holders {
		line("  %s (kept now by: %s)", h.Run, reasonsText(h.Reasons))
	}
	line("What the store retains by Object Lock, it retains until the lock lapses.")
	return b.String()
}

var fateText = map[Fate]string{
	Deleted: "deleted", Gone: "asked for without an answer, and gone", Absent: "gone already", Changed: "changed since they were archived, and left alone",
	Retained: "under a lock or hold of the source, and left alone", Held: "under a legal hold, and left alone",
	Stays:   "left alone, because an older version would have come back",
	Marked:  "only marked as deleted by the source, which has them still",
	Refused: "refused by the source, and left alone", Failed: "failed",
}

func reasonsText(reasons []Reason) string {
	texts := make([]string, len(reasons))
	for i, r := range reasons {
		texts[i] = string(r)
	}
	return strings.Join(texts, ", ")
}

// Rebuild reads everything that a plan deleted back from the unlocked snapshot that
// holds it, byte for byte, and fails with the first item that is not what was deleted.
// The source is not contacted.
func Rebuild(ctx context.Context, s *archive.Snapshot, body *Selection) (verify.Outcome, error) {
	want := map[string]*Item{}
	for i := range body.Items {
		it := &body.Items[i]
		want[identity(it.Stream, string(it.Key), it.Ordinal, "")] = it
	}
	for i := range s.Descriptor.Resources {
		e := &s.Descriptor.Resources[i].Sallyport
		if !slices.ContainsFunc(body.Items, func(it Item) bool { return it.Stream == e.Stream.Name }) {
			continue
		}
		for r, err := range s.Records(ctx, e) {
			if err != nil {
				return verify.Fail, fmt.Errorf("rebuild: stream %q: %w", e.Stream.Name, err)
			}
			id := identity(r.Stream, r.Key, r.Ordinal, "")
			it := want[id]
			if it == nil {
				continue
			}
			if err := rebuilt(ctx, &r, it); err != nil {
				return verify.Fail, fmt.Errorf("rebuild: %q: %w", r.Key, err)
			}
			delete(want, id)
		}
	}
	if len(want) > 0 {
		return verify.Fail, fmt.Errorf("rebuild: not in the snapshot: %d of the items", len(want))
	}
	return verify.Pass, nil
}

// rebuilt compares one record with what was deleted. A blob that is read to its end
// holds itself against its hash.
func rebuilt(ctx context.Context, r *dataset.Record, it *Item) error {
	if string(r.Data) != string(it.Data) {
		return errors.New("its data is not what was deleted")
	}
	if r.Blob == nil {
		return nil
	}
	if r.Blob.SHA256 != it.SHA256 || r.Blob.Size != it.Size {
		return errors.New("its bytes are not what was deleted")
	}
	return drain(ctx, r.Blob)
}

// drain reads a blob to its end.
func drain(ctx context.Context, b *dataset.Blob) error {
	body, err := b.Open(ctx, 0, -1)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	return errors.Join(err, body.Close())
}
