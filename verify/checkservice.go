package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A serviceRun is the check of one service.
type serviceRun struct {
	*checkRun
	name    string
	objects *serviceObjects

	docs      map[dataset.Hash][]byte // control documents by their hash
	parsed    []parsedDocument
	lists     map[dataset.Hash][]byte
	signed    map[dataset.Hash]bool // documents with a good signature
	decisions map[dataset.Hash]*archive.Decision
	statement map[dataset.Hash]bool         // statements that are there, by their hash
	keys      map[dataset.Hash]dataset.Hash // sealed keys that are there and whole, to their key id
	expired   map[archive.RunID]dataset.Hash
	intents   map[archive.RunID]dataset.Hash

	report ServiceReport
}

type parsedDocument struct {
	name string
	hash dataset.Hash
	*archive.Document
}

// documents reads everything but packs and signatures, holds it against its name and
// parses it.
func (s *serviceRun) documents(ctx context.Context) error {
	s.lists, s.statement = map[dataset.Hash][]byte{}, map[dataset.Hash]bool{}
	s.keys, s.expired, s.intents = map[dataset.Hash]dataset.Hash{}, map[archive.RunID]dataset.Hash{}, map[archive.RunID]dataset.Hash{}
	names := make([]string, 0, len(s.objects.names))
	for name := range s.objects.names {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		doc, err := s.read(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed; what needs it will say so
		} else if err != nil {
			return err
		}
		s.document(name, doc)
	}
	return nil
}

func (s *serviceRun) document(name string, doc []byte) {
	n, h := archive.ParseName(name), dataset.Sum(doc)
	if !n.Hash.IsZero() && n.Hash != h {
		s.find(name, "is damaged: its %d bytes have sha256 %s", len(doc), h)
		return
	}
	switch n.Class {
	case archive.ListObject:
		s.lists[h] = doc
		return
	case archive.KeyObject:
		s.keys[h] = n.Key
		return
	case archive.AnnexObject, archive.RecordsObject, archive.VerifiedObject, archive.CertificateObject:
		s.docs[h] = doc
		return
	}
	d, err := s.Archive.Parse(name, doc)
	if err != nil {
		s.find(name, "%v", err)
		return
	}
	s.docs[h] = doc
	s.parsed = append(s.parsed, parsedDocument{name, h, d})
	switch {
	case d.Intent != nil:
		s.intents[n.Run] = h
	case d.Statement != nil:
		s.statement[h] = true
	}
}

// signatures verifies every signature, and finds the control documents without one.
func (s *serviceRun) signatures(ctx context.Context) error {
	at := map[dataset.Hash]time.Time{}
	for _, d := range s.parsed {
		at[d.hash] = d.At
	}
	for doc, infos := range s.objects.sigs {
		for _, info := range infos {
			good, err := s.signature(ctx, info, s.docs[doc], at[doc])
			if err != nil {
				return err
			}
			if good {
				s.signed[signedAs(doc, archive.ParseName(info.Name).Namespace)] = true
			}
		}
	}
	for _, d := range s.parsed {
		if !s.signed[signedAs(d.hash, d.Namespace)] {
			s.find(d.name, "has no valid signature")
			continue
		}
		s.accept(d)
	}
	for name := range s.objects.names {
		n := archive.ParseName(name)
		if ns := map[archive.Class]string{archive.VerifiedObject: "sallyport-verified", archive.CertificateObject: "sallyport-certificate"}[n.Class]; ns != "" && !s.signed[signedAs(n.Hash, ns)] && s.docs[n.Hash] != nil {
			s.find(name, "has no valid signature")
		}
	}
	return nil
}

// signedAs is one key for a document and the namespace under which it is signed.
func signedAs(h dataset.Hash, namespace string) dataset.Hash {
	return dataset.Sum(append(h[:], namespace...))
}

// signature verifies one signature. One whose document is not there is no finding: a
// writer that died left it.
func (c *checkRun) signature(ctx context.Context, info archive.Info, doc []byte, at time.Time) (good bool, err error) {
	sig, err := c.read(ctx, info.Name)
	if err != nil {
		return false, err
	}
	n := archive.ParseName(info.Name)
	if n.Hash != dataset.Sum(sig) {
		c.find(info.Name, "is damaged: its %d bytes have sha256 %s", len(sig), dataset.Sum(sig))
		return false, nil
	}
	if doc == nil {
		return false, nil
	}
	if _, err := c.Archive.Trust.Verify(n.Namespace, doc, sig, at); err != nil {
		c.find(info.Name, "%v", err)
		return false, nil
	}
	return true, nil
}

// accept takes a document that is validly signed for what it says.
func (s *serviceRun) accept(d parsedDocument) {
	n := archive.ParseName(d.name)
	switch {
	case d.Manifest != nil:
		s.decisions[d.hash] = &archive.Decision{Run: n.Run, Hash: d.hash, Manifest: d.Manifest, Doc: s.docs[d.hash]}
	case d.Abort != nil:
		s.report.Aborted++
		s.intent(d.name, d.Abort.Run, d.Abort.Intent)
	case d.Expiry != nil:
		s.expired[n.Run] = d.Expiry.Manifest
	case d.Statement != nil && s.keys[d.Statement.SHA256] != n.Key:
		s.find(d.name, "is the statement of a sealed key that is not there or damaged")
	}
}

// intent makes sure that a decision's intent is the one that it names.
func (s *serviceRun) intent(name string, r archive.RunID, want dataset.Hash) {
	if got, ok := s.intents[r]; !ok {
		s.find(name, "the intent of its run is missing or damaged")
	} else if got != want {
		s.find(name, "the intent of its run is another one")
	}
}

// snapshots checks the chain of snapshots and what each of them needs.
func (s *serviceRun) snapshots(ctx context.Context) error {
	parents := map[dataset.Hash]bool{}
	var live []*archive.Decision
	for _, d := range s.decisions {
		for _, p := range d.Manifest.Parents {
			parents[p] = true
			if s.decisions[p] == nil {
				s.find(archive.DecisionName(s.name, d.Run), "its parent %s is missing or damaged", p)
			}
		}
		s.intent(archive.DecisionName(s.name, d.Run), d.Run, d.Manifest.Intent)
		if s.expired[d.Run] == d.Hash {
			s.report.Expired++
			continue
		}
		live = append(live, d)
	}
	slices.SortFunc(live, func(a, b *archive.Decision) int {
		if a.Manifest.Sequence != b.Manifest.Sequence {
			return int(a.Manifest.Sequence - b.Manifest.Sequence)
		}
		return bytes.Compare(a.Hash[:], b.Hash[:])
	})
	s.report.Snapshots = live
	var heads []*archive.Decision
	for _, d := range live {
		if !parents[d.Hash] {
			heads = append(heads, d)
			s.report.Heads = append(s.report.Heads, Pin{d.Hash, d.Run, d.Manifest.Sequence})
		}
	}
	s.openRuns()
	s.freshness(live)
	if s.Bundle {
		return s.contents(ctx, heads)
	}
	return s.contents(ctx, live)
}

// openRuns notes the runs without a decision.
func (s *serviceRun) openRuns() {
	decided := map[archive.RunID]bool{}
	for name := range s.objects.names {
		if n := archive.ParseName(name); n.Class == archive.DecisionObject {
			decided[n.Run] = true
		}
	}
	for r := range s.intents {
		if !decided[r] {
			s.report.Open = append(s.report.Open, r)
		}
	}
	slices.Sort(s.report.Open)
}

// freshness holds the chain against what was seen before.
func (s *serviceRun) freshness(live []*archive.Decision) {
	if s.MaxAge > 0 && s.Now.Sub(newest(live)) > s.MaxAge {
		s.find(s.name, "has no snapshot that is younger than %s", s.MaxAge)
	}
	pins := s.Pins[s.name]
	if len(pins) == 0 {
		return
	}
	if s.checkRun.report.Freshness == NotRun {
		s.checkRun.report.Freshness = Pass
	}
	for _, p := range pins {
		if s.decisions[p.Manifest] == nil {
			s.checkRun.report.Freshness = Fail
			s.find(archive.DecisionName(s.name, p.Run), "was seen before and is gone: the store shows an older state")
		}
	}
}

func newest(live []*archive.Decision) (t time.Time) {
	for _, d := range live {
		if d.Manifest.Ended.After(t) {
			t = d.Manifest.Ended.Time
		}
	}
	return t
}

// contents checks that lists, keys and packs of the snapshots are there, and reads the
// packs.
func (s *serviceRun) contents(ctx context.Context, live []*archive.Decision) error {
	needed := map[dataset.Hash]archive.PackRef{}
	wanted := map[dataset.Hash]bool{} // packs of the snapshots that were asked for
	keyIDs := map[dataset.Hash]bool{}
	usedLists := map[dataset.Hash]bool{}
	for _, d := range live {
		asked := len(s.Only) == 0 || slices.Contains(s.Only, d.Hash)
		name := archive.DecisionName(s.name, d.Run)
		inLists := map[dataset.Hash]bool{}
		for _, ref := range d.Manifest.Lists {
			usedLists[ref.SHA256] = true
			packs, err := s.list(ref)
			if err != nil {
				s.find(archive.ListName(s.name, ref.SHA256), "%v (needed by %s)", err, d.Run)
				continue
			}
			for _, p := range packs {
				needed[p.SHA256], inLists[p.SHA256] = p, true
				wanted[p.SHA256] = wanted[p.SHA256] || asked
			}
		}
		if len(d.Manifest.Lists) > 0 && !inLists[d.Manifest.Descriptor.Pack] {
			s.find(name, "its descriptor lies in a pack of none of its lists")
		}
		s.keysOf(d, name, keyIDs, inLists, needed)
	}
	var read []archive.PackRef
	for h, p := range needed {
		name := archive.PackName(s.name, h)
		info, ok := s.objects.packs[h]
		switch {
		case !ok:
			s.find(name, "pack %s is missing", h)
		case info.Size != p.Size:
			s.find(name, "pack %s is damaged: it has %d bytes instead of %d", h, info.Size, p.Size)
		case wanted[h]:
			read = append(read, p)
		}
	}
	s.unneeded(needed, usedLists, keyIDs)
	slices.SortFunc(read, func(a, b archive.PackRef) int { return bytes.Compare(a.SHA256[:], b.SHA256[:]) })
	return s.packs(ctx, s.name, read)
}

func (s *serviceRun) list(ref archive.ListRef) ([]archive.PackRef, error) {
	doc, ok := s.lists[ref.SHA256]
	if !ok {
		return nil, errors.New("list is missing or damaged")
	}
	return s.Archive.ParseList(s.name, ref, doc)
}

// keysOf makes sure that every key that a snapshot's packs need is there, sealed and
// stated.
func (s *serviceRun) keysOf(d *archive.Decision, name string, ids, packs map[dataset.Hash]bool, refs map[dataset.Hash]archive.PackRef) {
	named := map[dataset.Hash]bool{}
	for _, k := range d.Manifest.Keys {
		ids[k.ID], named[k.ID] = true, true
		if !s.statement[k.Statement] {
			s.find(archive.StatementName(s.name, k.ID, k.Statement), "is missing or damaged (needed by %s)", d.Run)
		}
		sealed := false
		for _, id := range s.keys {
			sealed = sealed || id == k.ID
		}
		if !sealed {
			s.find(s.name+"/keys/"+k.ID.String(), "run key is missing or damaged (needed by %s)", d.Run)
		}
	}
	for h := range packs {
		if !named[refs[h].Key] {
			s.find(name, "pack %s needs a key that the manifest does not name", h)
			return
		}
	}
}

// unneeded counts what no snapshot names. A collector removes it once the runs that
// are open have been decided.
func (s *serviceRun) unneeded(packs map[dataset.Hash]archive.PackRef, lists, keys map[dataset.Hash]bool) {
	var bytes int64
	for h, info := range s.objects.packs {
		if _, ok := packs[h]; !ok {
			s.report.Unneeded++
			bytes += info.Size
		}
	}
	for name := range s.objects.names {
		switch n := archive.ParseName(name); n.Class {
		case archive.ListObject:
			if !lists[n.Hash] {
				s.report.Unneeded++
			}
		case archive.KeyObject, archive.StatementObject:
			if !keys[n.Key] {
				s.report.Unneeded++
			}
		}
	}
	if s.report.Unneeded > 0 {
		s.note("%s: %d objects belong to no snapshot (packs of %d bytes); a collector may remove them", s.name, s.report.Unneeded, bytes)
	}
	if len(s.report.Open) > 0 {
		s.note("%s: %d runs are open: %s", s.name, len(s.report.Open), strings.Join(runNames(s.report.Open), ", "))
	}
}

func (s *serviceRun) note(format string, args ...any) {
	s.checkRun.report.Notes = append(s.checkRun.report.Notes, fmt.Sprintf(format, args...))
}

func runNames(rs []archive.RunID) []string {
	names := make([]string, len(rs))
	for i, r := range rs {
		names[i] = string(r)
	}
	return names
}
