package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// A Summary is what only the engine knows about a run.
type Summary struct {
	Facts     dataset.Facts
	Scope     []string // what was chosen and left out, one sentence each
	Log       *Checkpoint
	Unchecked int64 // lines whose metadata was not read again
}

// Commit makes the run a snapshot: complete if no gap was recorded, else incomplete.
// When it returns nil the decision is in the store. [ErrFenced] means that somebody
// else decided the run; after any other error the run stays open, and a later [Begin]
// with the same state goes on.
func (w *Writer) Commit(ctx context.Context, sum Summary) (*Decision, error) {
	d, err := w.commit(ctx, sum)
	if err != nil {
		w.Abandon()
		return nil, err
	}
	return d, nil
}

func (w *Writer) commit(ctx context.Context, sum Summary) (*Decision, error) {
	m, parts, err := w.seal(ctx, sum)
	if err != nil {
		return nil, err
	}
	lists, err := w.lists(m, parts)
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		if err := createSame(ctx, w.a.Store, ListName(w.o.Service, dataset.Sum(l)), l); err != nil {
			return nil, fmt.Errorf("store list: %w", err)
		}
	}
	if err := w.confirm(ctx, m, parts, lists); err != nil { // W4
		return nil, err
	}
	doc, err := encode(m)
	if err != nil {
		return nil, err
	}
	h := dataset.Sum(doc)
	if err := w.journal.prepare(h, parts); err != nil {
		return nil, err
	}
	if err := w.decide(ctx, doc); err != nil { // W5 to W7
		return nil, err
	}
	if err := w.journal.commit(); err != nil {
		return nil, fmt.Errorf("snapshot %s is committed, but the state directory could not be written: %w", w.run, err)
	}
	return &Decision{Run: w.run, Hash: h, Manifest: m, Doc: doc}, nil
}

// sealed is what the streams of a run became.
type sealed struct {
	entries []PartEntry // of all streams, ledgers and tables, for the journal
	packs   map[*pack]bool
	live    map[dataset.Hash]int64 // as the journal keeps it

	remembered map[string]json.RawMessage // by stream
}

// seal ends all streams, writes the part tables and the descriptor, and fills in the
// manifest but for its lists and keys.
func (w *Writer) seal(ctx context.Context, sum Summary) (*Manifest, *sealed, error) {
	all := &sealed{packs: map[*pack]bool{}, live: map[dataset.Hash]int64{}, remembered: map[string]json.RawMessage{}}
	streams, err := w.closeStreams(ctx)
	if err != nil {
		return nil, nil, err
	}
	d, err := w.describe(ctx, streams, sum, all)
	if err != nil {
		return nil, nil, err
	}
	doc, err := encode(d)
	if err != nil {
		return nil, nil, err
	}
	if len(doc) > MaxRecord {
		return nil, nil, fmt.Errorf("descriptor of %d bytes: too many streams for one snapshot", len(doc))
	}
	at, err := w.index.put(ctx, "p/"+w.nextID()+".json", doc)
	if err == nil {
		err = w.flushAll(ctx, w.index)
	}
	if err != nil {
		return nil, nil, err
	}
	all.packs[at.pack] = true
	m := &Manifest{Format: w.manifestFormat(), Store: w.a.ID, Service: w.o.Service, Run: w.run,
		Parents: []dataset.Hash{}, Sequence: 1, Started: At(w.started), Ended: At(w.o.Now()), State: Complete,
		Writer: w.o.Product, Exporter: w.o.Exporter, Classification: w.o.Classification,
		Gaps: w.gaps, Grades: map[Grade]int64{}, Descriptor: MemberRef{at.pack.hash, at.offset, at.length, at.member},
		Intent: w.intent, Log: sum.Log, Endpoints: slices.Concat([]dataset.Endpoint{}, sum.Facts.Endpoints), Lists: []ListRef{}, Keys: []KeyRef{}}
	if len(w.gaps) > 0 {
		m.State = Incomplete
	}
	for _, h := range w.base.heads {
		m.Parents = append(m.Parents, h.Hash)
		m.Sequence = max(m.Sequence, h.Manifest.Sequence+1)
	}
	slices.SortFunc(m.Parents, func(a, b dataset.Hash) int { return bytes.Compare(a[:], b[:]) })
	var root dataset.SnapshotRoot
	for _, r := range d.Resources {
		s := r.Sallyport
		if err := root.Add(s.Stream.Name, s.Root); err != nil {
			return nil, nil, err
		}
		m.Grades[s.Grade]++
		m.Counts.add(s)
	}
	m.Root = root.Root()
	m.Counts.Vanished = int64(len(sum.Facts.Vanished))
	m.Counts.Unchecked = sum.Unchecked
	return m, all, nil
}

func (c *Counts) add(s StreamEntry) {
	c.Streams++
	c.Records += s.Records
	c.Blobs += s.Blobs
	c.BlobBytes += s.Bytes
	c.Parts += s.Parts
}

// closeStreams waits until every part of every stream is in a durable pack.
func (w *Writer) closeStreams(ctx context.Context) ([]*StreamWriter, error) {
	var streams []*StreamWriter
	for _, sw := range w.streams {
		streams = append(streams, sw)
		for _, s := range sw.sections {
			if err := s.close(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := errors.Join(w.ledgerErr, w.ledger.close(ctx), w.second.close(ctx)); err != nil {
		return nil, err
	}
	if err := w.work.Wait(); err != nil {
		return nil, err
	}
	if w.csv != nil { // only now is all CSV made
		if err := w.csv.ledger.close(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.flushAll(ctx, w.data, w.index); err != nil {
		return nil, err
	}
	slices.SortFunc(streams, func(a, b *StreamWriter) int { return strings.Compare(a.stream.Name, b.stream.Name) })
	return streams, nil
}

// flushAll closes the packs that fill and waits until all packs are durable.
func (w *Writer) flushAll(ctx context.Context, ks ...*packer) error {
	for _, k := range ks {
		if err := k.flush(ctx); err != nil {
			return err
		}
	}
	return w.uploads.Wait()
}

// describe writes the part tables and makes the descriptor.
func (w *Writer) describe(ctx context.Context, streams []*StreamWriter, sum Summary, all *sealed) (*Descriptor, error) {
	names := make([]string, len(streams))
	tables := make([]*Section, len(streams))
	for i, sw := range streams {
		names[i] = sw.stream.Name
		if sw.remember != nil {
			all.remembered[sw.stream.Name] = sw.remember
		}
		tables[i] = &Section{sw: &StreamWriter{w: w, stream: dataset.Stream{Name: sw.stream.Name}, role: IndexRole}}
		for _, e := range sw.entries(all) {
			line, err := encodeLine(e)
			if err != nil {
				return nil, err
			}
			if err := tables[i].Record(ctx, e.SHA256.String(), line); err != nil {
				return nil, err
			}
		}
		if err := tables[i].close(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.work.Wait(); err != nil {
		return nil, err
	}
	if err := w.flushAll(ctx, w.index); err != nil {
		return nil, err
	}
	d := &Descriptor{Profile: dataset.DataPackageProfile, Name: w.o.Service, Title: w.o.Service, Created: At(w.o.Now()),
		Resources: []Resource{}, Sallyport: Contents{Store: w.a.ID, Service: w.o.Service, Run: w.run, Facts: sum.Facts,
			Scope: slices.Concat([]string{}, sum.Scope), Gaps: w.ledger.entries(all), Second: w.second.entries(all)}}
	slug := dataset.Slugs(names)
	for i, sw := range streams {
		d.Resources = append(d.Resources, sw.resource(slug, tables[i].entries(all)))
	}
	if w.csv == nil {
		return d, nil
	}
	d.Sallyport.LeftOut = w.csv.ledger.entries(all)
	return d, describeCSV(streams, d.Resources, slug)
}

// entries returns the part entries of a stream, and notes their packs as needed.
func (sw *StreamWriter) entries(all *sealed) []PartEntry {
	var es []PartEntry
	for _, s := range sw.sections {
		es = append(es, s.entries(all)...)
	}
	return es
}

func (s *Section) entries(all *sealed) []PartEntry {
	es := make([]PartEntry, 0, len(s.parts))
	for _, p := range s.parts {
		e := p.entry
		all.packs[p.at.pack] = true
		if !p.reused {
			e.Location = MemberRef{p.at.pack.hash, p.at.offset, p.at.length, p.at.member}
			e.Packs = nil
			for _, k := range p.packs {
				e.Packs = append(e.Packs, k.hash)
			}
		}
		e.CSV = s.sw.csvEntry(p, all)
		all.live[p.at.pack.hash] += p.at.length
		for i, k := range p.packs {
			all.packs[k] = true
			all.live[k.hash] += p.live[i].bytes
		}
		es = append(es, e)
	}
	all.entries = append(all.entries, es...)
	return es
}

// resource says what the descriptor says of a stream.
func (sw *StreamWriter) resource(slugs map[string]string, table []PartEntry) Resource {
	e := StreamEntry{Stream: sw.stream, Grade: sw.summary.Grade, Proof: sw.summary.Proof,
		Vanished: sw.summary.Vanished, Source: sw.summary.Source, Table: table}
	var root dataset.StreamRoot
	for _, s := range sw.sections {
		for _, p := range s.parts {
			e.Parts++
			e.Records += p.entry.Count
			e.Blobs += p.entry.Blobs
			e.Bytes += p.entry.Content
			root.Add(p.entry.Root, uint64(p.entry.Count))
		}
	}
	e.Root = root.Root()
	r := newResource(&sw.stream, slugs)
	r.Sallyport = e
	return r
}

// lists makes one list for each run whose packs are needed, unless the snapshot that is
// built on has the same one, and names lists and keys in the manifest.
func (w *Writer) lists(m *Manifest, all *sealed) ([][]byte, error) {
	byRun := map[RunID][]PackRef{}
	keys := map[dataset.Hash]bool{}
	for p := range all.packs {
		byRun[p.run] = append(byRun[p.run], PackRef{p.hash, p.size, p.key})
		keys[p.key] = true
		m.Counts.Packs++
		m.Counts.PackBytes += p.size
		if p.run == w.run {
			m.Counts.New += p.size
		}
	}
	var docs [][]byte
	for run, packs := range byRun {
		if ref, ok := w.base.lists[run]; ok && ref.Packs == int64(len(packs)) {
			m.Lists = append(m.Lists, ref) // packs of that run come from that list alone: it is the same set
			continue
		}
		doc, err := encodeList(listHead{listFormat, w.a.ID, w.o.Service, run, w.run}, packs)
		if err != nil {
			return nil, err
		}
		ref := ListRef{Run: run, SHA256: dataset.Sum(doc), Packs: int64(len(packs))}
		for _, p := range packs {
			ref.Bytes += p.Size
		}
		m.Lists = append(m.Lists, ref)
		docs = append(docs, doc)
	}
	slices.SortFunc(m.Lists, func(a, b ListRef) int { return strings.Compare(string(a.Run), string(b.Run)) })
	for id := range keys {
		ref, ok := w.keyRef(id)
		if !ok {
			return nil, fmt.Errorf("the key %s of a pack is not known", id)
		}
		m.Keys = append(m.Keys, ref)
	}
	slices.SortFunc(m.Keys, func(a, b KeyRef) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return docs, nil
}

// confirm lists what the manifest names and compares sizes (W4). A pack that is not
// there makes the journal worthless, that of the snapshot whose packs are reused
// included, so that the next run reads everything again.
func (w *Writer) confirm(ctx context.Context, m *Manifest, all *sealed, lists [][]byte) error {
	want := map[string]int64{} // size, or -1 where any will do
	for p := range all.packs {
		want[PackName(w.o.Service, p.hash)] = p.size
	}
	for _, ref := range m.Lists {
		want[ListName(w.o.Service, ref.SHA256)] = -1
	}
	for _, l := range lists {
		want[ListName(w.o.Service, dataset.Sum(l))] = int64(len(l))
	}
	sealed := map[dataset.Hash]bool{} // key ids of which a sealed key is there
	for _, k := range m.Keys {
		want[StatementName(w.o.Service, k.ID, k.Statement)] = -1
	}
	var wrong []error
	for _, folder := range []string{"packs", "lists", "keys"} {
		for info, err := range w.a.Store.List(ctx, w.o.Service+"/"+folder+"/") {
			if err != nil {
				return fmt.Errorf("list %s: %w", folder, err)
			}
			if info.Later || info.Marker {
				continue
			}
			if n := ParseName(info.Name); n.Class == KeyObject {
				sealed[n.Key] = true
			}
			size, ok := want[info.Name]
			if ok && size >= 0 && size != info.Size {
				wrong = append(wrong, fmt.Errorf("%s has %d bytes in the store instead of %d", info.Name, info.Size, size))
			}
			delete(want, info.Name)
		}
	}
	for name := range want {
		wrong = append(wrong, fmt.Errorf("%s is not in the store", name))
	}
	for _, k := range m.Keys {
		if !sealed[k.ID] {
			wrong = append(wrong, fmt.Errorf("run key %s is not in the store", k.ID))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	if err := w.fenced(ctx); err != nil {
		return errors.Join(err, w.journal.drop(w.run)) // a collector was right to remove it
	}
	return fmt.Errorf("nothing was committed: %w", errors.Join(append(wrong, w.journal.drop(w.run), w.journal.drop(w.base.run))...))
}

// decide creates the decision. Only a 200 and the bytes themselves count: whatever
// else the store answers is settled by reading back.
func (w *Writer) decide(ctx context.Context, doc []byte) error {
	name := DecisionName(w.o.Service, w.run)
	sig, err := w.o.Signer.Sign(nsManifest, doc)
	if err != nil {
		return fmt.Errorf("sign manifest: %w", err)
	}
	if err := createSame(ctx, w.a.Store, SignatureName(w.o.Service, dataset.Sum(doc), nsManifest, sig), sig); err != nil {
		return fmt.Errorf("store signature of manifest: %w", err)
	}
	err = createSame(ctx, w.a.Store, name, doc)
	if errors.Is(err, fs.ErrExist) {
		return errors.Join(fmt.Errorf("%s: %w", w.run, ErrFenced), w.journal.drop(w.run))
	} else if err != nil {
		return fmt.Errorf("create decision: %w", err)
	}
	return nil
}

// fenced returns [ErrFenced] if somebody decided the run.
func (w *Writer) fenced(ctx context.Context) error {
	_, err := readAll(ctx, w.a.Store, DecisionName(w.o.Service, w.run), maxDocument)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read decision: %w", err)
	}
	return fmt.Errorf("%s: %w", w.run, ErrFenced)
}

func sortedRecipients(to interface{ Recipients() []string }) []string {
	rs := slices.Clone(to.Recipients())
	slices.Sort(rs)
	return rs
}
