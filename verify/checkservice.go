package verify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
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

	docs       map[dataset.Hash][]byte // signed documents by their hash
	parsed     []parsedDocument
	lists      map[dataset.Hash][]byte
	signed     map[signedAs]bool // documents with a good signature
	decisions  map[dataset.Hash]*archive.Decision
	manifests  map[archive.RunID]dataset.Hash // of the decisions
	statements map[dataset.Hash]bool          // statements that are there, by their hash
	keys       map[dataset.Hash]string        // sealed keys that are there and whole: hash to name
	sealed     map[dataset.Hash]bool          // ids of those keys
	stated     map[dataset.Hash]bool          // sealed keys that a signed statement is about
	expiries   map[archive.RunID][]parsedDocument
	intents    map[archive.RunID]dataset.Hash

	report ServiceReport
}

// signedAs is a document and the namespace under which it is signed.
type signedAs struct {
	document  dataset.Hash
	namespace string
}

type parsedDocument struct {
	name string
	hash dataset.Hash
	*archive.Document
}

func newServiceRun(c *checkRun, objects *serviceObjects, name string) *serviceRun {
	return &serviceRun{checkRun: c, name: name, objects: objects,
		docs: map[dataset.Hash][]byte{}, lists: map[dataset.Hash][]byte{}, signed: map[signedAs]bool{},
		decisions: map[dataset.Hash]*archive.Decision{}, manifests: map[archive.RunID]dataset.Hash{},
		statements: map[dataset.Hash]bool{}, keys: map[dataset.Hash]string{}, sealed: map[dataset.Hash]bool{}, stated: map[dataset.Hash]bool{},
		expiries: map[archive.RunID][]parsedDocument{}, intents: map[archive.RunID]dataset.Hash{},
		report: ServiceReport{Service: name, Heads: []Pin{}, Open: []archive.RunID{}}}
}

// documents reads everything but packs and signatures, holds it against its name and
// parses it.
func (s *serviceRun) documents(ctx context.Context) error {
	return s.each(ctx, slices.Collect(maps.Keys(s.objects.names)), s.document)
}

func (s *serviceRun) document(name string, doc []byte) {
	n, h := archive.ParseName(name), dataset.Sum(doc)
	if !n.Hash.IsZero() && n.Hash != h {
		s.wrong(name, "is damaged: its %d bytes have sha256 %s", len(doc), h)
		return
	}
	switch n.Class {
	case archive.ListObject:
		s.lists[h] = doc
		return
	case archive.KeyObject:
		s.keys[h], s.sealed[n.Key] = name, true
		return
	case archive.AnnexObject:
		return // sealed, and named by its hash
	case archive.RecordsObject, archive.VerifiedObject, archive.CertificateObject:
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
		s.statements[h] = true
	}
}

// recordNamespaces are those under which a hold's or a purge's documents are signed.
var recordNamespaces = []string{"sallyport-hold", "sallyport-release", "sallyport-plan", "sallyport-approval",
	"sallyport-ledger", "sallyport-deletion", "sallyport-erasure"}

// signatures verifies every signature, and finds the documents without one. A
// signature whose document is not there is no finding: a writer that died left it.
func (s *serviceRun) signatures(ctx context.Context) error {
	at := map[dataset.Hash]time.Time{}
	for _, d := range s.parsed {
		at[d.hash] = d.At
	}
	var names []string
	for _, infos := range s.objects.sigs {
		for _, info := range infos {
			names = append(names, info.Name)
		}
	}
	orphans := map[string][]string{} // by namespace: documents
	err := s.each(ctx, names, func(name string, sig []byte) {
		n := archive.ParseName(name)
		doc, ok := s.docs[n.Document]
		switch {
		case !ok && n.Hash != dataset.Sum(sig):
			s.wrong(name, "is damaged: its %d bytes have sha256 %s", len(sig), dataset.Sum(sig))
		case !ok:
			orphans[n.Namespace] = append(orphans[n.Namespace], n.Document.String())
		case s.signature(name, sig, doc, at[n.Document]):
			s.signed[signedAs{n.Document, n.Namespace}] = true
		}
	})
	if err != nil {
		return err
	}
	for _, ns := range slices.Sorted(maps.Keys(orphans)) {
		s.note("%s: %s as %s without a document, the first of %s: a writer died before it wrote that, or it was removed",
			s.name, plural(int64(len(orphans[ns])), "signature"), ns, slices.Min(orphans[ns]))
	}
	for _, d := range s.parsed {
		if !s.signed[signedAs{d.hash, d.Namespace}] {
			s.find(d.name, "has no valid signature")
			continue
		}
		s.accept(d)
	}
	for _, name := range slices.Sorted(maps.Keys(s.objects.names)) {
		s.record(name)
	}
	s.belongings()
	return nil
}

// record checks what can be said of a verdict, a certificate, a hold or a purge without
// knowing its kind: that it is signed as such a thing, and is about this service.
func (s *serviceRun) record(name string) {
	n := archive.ParseName(name)
	var as []string
	switch n.Class {
	case archive.VerifiedObject:
		as = []string{"sallyport-verified"}
	case archive.CertificateObject:
		as = []string{"sallyport-certificate"}
	case archive.RecordsObject:
		as = recordNamespaces
	default:
		return
	}
	doc, ok := s.docs[n.Hash]
	if !ok {
		return // damaged, and found
	}
	if !slices.ContainsFunc(as, func(ns string) bool { return s.signed[signedAs{n.Hash, ns}] }) {
		s.find(name, "has no valid signature")
		return
	}
	var about struct {
		Store, Service, Run string
		Annex               dataset.Hash
		HashKey             dataset.Hash `json:"hash_key"`
		Predicate           struct {
			Store, Service, Run string
			Annex               struct{ SHA256 dataset.Hash }
			Archive             struct{ Log *archive.Checkpoint }
			Logs                []archive.Checkpoint
		}
	}
	if err := json.Unmarshal(doc, &about); err != nil {
		s.find(name, "%v", err)
		return
	}
	of := func(says, is, kind string) {
		if says != "" && says != is {
			s.find(name, "is a document of another %s, %s", kind, says)
		}
	}
	of(cmp.Or(about.Store, about.Predicate.Store), string(s.Archive.ID), "store")
	of(cmp.Or(about.Service, about.Predicate.Service), s.name, "service")
	s.pin(about.Predicate.Archive.Log, name)
	for i := range about.Predicate.Logs {
		s.pin(&about.Predicate.Logs[i], name)
	}
	for _, annex := range []dataset.Hash{about.Annex, about.HashKey, about.Predicate.Annex.SHA256} {
		if at := archive.AnnexNameOf(s.name, annex); !annex.IsZero() && s.objects.names[at].Name == "" {
			s.find(at, "is missing (named by %s)", name)
		}
	}
	if n.Run != "" {
		of(cmp.Or(about.Run, about.Predicate.Run), string(n.Run), "run")
		if s.manifests[n.Run].IsZero() {
			s.find(name, "is about a run without a manifest")
		}
	}
}

// accept takes a document that is validly signed for what it says.
func (s *serviceRun) accept(d parsedDocument) {
	n := archive.ParseName(d.name)
	switch {
	case d.Manifest != nil:
		s.decisions[d.hash] = &archive.Decision{Run: n.Run, Hash: d.hash, Manifest: d.Manifest, Doc: s.docs[d.hash]}
		s.manifests[n.Run] = d.hash
		s.pin(d.Manifest.Log, d.name)
	case d.Abort != nil:
		s.report.Aborted++
		s.intent(d.name, d.Abort.Run, d.Abort.Intent)
	case d.Expiry != nil:
		s.expiries[n.Run] = append(s.expiries[n.Run], d)
	case d.Statement != nil:
		s.stated[d.Statement.SHA256] = true
	}
}

// belongings finds documents that came after one that is not there: intents and
// decisions are never deleted.
func (s *serviceRun) belongings() {
	replaced := map[dataset.Hash]bool{}
	for _, d := range s.parsed {
		if d.Statement != nil && s.signed[signedAs{d.hash, d.Namespace}] {
			replaced[d.Statement.Replaces] = true
		}
	}
	for _, d := range s.parsed {
		if d.Statement == nil || !s.signed[signedAs{d.hash, d.Namespace}] {
			continue
		}
		// The keeper removes sealed keys that a rotation replaced, or whose snapshot was
		// ended by destroying its key, and leaves the statements that say so.
		over := replaced[d.hash] || len(s.expiries[d.Statement.Run]) > 0
		if archive.ParseName(s.keys[d.Statement.SHA256]).Key != archive.ParseName(d.name).Key && !over {
			s.find(d.name, "is the statement of a sealed key that is not there or damaged")
		}
		if _, ok := s.intents[d.Statement.Run]; !ok {
			s.find(d.name, "is the statement of a run whose intent is missing or damaged")
		}
	}
	for _, docs := range s.expiries {
		for _, d := range docs {
			if h := s.manifests[d.Expiry.Run]; h.IsZero() {
				s.find(d.name, "ends a snapshot whose manifest is missing or damaged")
			} else if h != d.Expiry.Manifest {
				s.find(d.name, "is about another manifest")
			}
		}
	}
}

// expired reports whether a snapshot need not be kept.
func (s *serviceRun) expired(d *archive.Decision) bool {
	return slices.ContainsFunc(s.expiries[d.Run], func(e parsedDocument) bool { return e.Expiry.Manifest == d.Hash })
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
		if s.expired(d) {
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
	for _, d := range live {
		if !parents[d.Hash] {
			s.report.Heads = append(s.report.Heads, Pin{d.Hash, d.Run, d.Manifest.Sequence})
		}
	}
	s.openRuns()
	s.freshness(live)
	if s.Bundle {
		return s.contents(ctx, s.tips(parents))
	}
	return s.contents(ctx, live)
}

// tips returns the snapshots that none other names as parent, expired ones too: of a
// bundle, the one that it is of. The others are there to prove the chain.
func (s *serviceRun) tips(parents map[dataset.Hash]bool) []*archive.Decision {
	var tips []*archive.Decision
	for h, d := range s.decisions {
		if !parents[h] {
			tips = append(tips, d)
		}
	}
	if n := len(s.decisions) - len(tips); n > 0 {
		s.note("%s: a bundle holds the packs of its own snapshot; of %s before it there is the chain of decisions", s.name, plural(int64(n), "snapshot"))
	}
	return tips
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
	for h, name := range s.keys {
		if keyIDs[archive.ParseName(name).Key] && !s.stated[h] {
			s.find(name, "no signed statement says what this sealed key is")
		}
	}
	s.unneeded(needed, usedLists, keyIDs)
	if len(s.Only) == 0 && s.Sample == 0 {
		for h, info := range s.objects.packs {
			if _, ok := needed[h]; !ok {
				read = append(read, archive.PackRef{SHA256: h, Size: info.Size})
			}
		}
	}
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
		if !s.statements[k.Statement] {
			s.find(archive.StatementName(s.name, k.ID, k.Statement), "is missing or damaged (needed by %s)", d.Run)
		}
		if !s.sealed[k.ID] {
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
		s.note("%s: %s of no snapshot (packs of %d bytes); a collector may remove what no snapshot needs", s.name, plural(int64(s.report.Unneeded), "object"), bytes)
	}
	if len(s.report.Open) > 0 {
		s.note("%s: %s without a decision: %s", s.name, plural(int64(len(s.report.Open)), "run"), strings.Join(runNames(s.report.Open), ", "))
	}
}

func runNames(rs []archive.RunID) []string {
	names := make([]string, len(rs))
	for i, r := range rs {
		names[i] = string(r)
	}
	return names
}
