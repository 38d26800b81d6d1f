package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// A base is what a run found when it began (W2): its parents, and the packs of an
// earlier snapshot, or of its own interrupted attempts, that it may reuse.
type base struct {
	heads    []*Decision
	bad      []error
	usable   map[dataset.Hash]*pack
	own      map[int]*pack // durable packs of earlier attempts, by journal number
	numbered map[int]*pack // those of the earlier snapshot's run, likewise
	keys     map[dataset.Hash]KeyRef
	lists    map[RunID]ListRef           // of the earlier snapshot, by origin
	entries  map[dataset.Hash]*PartEntry // parts of the earlier snapshot, by the hash of their lines
	manifest dataset.Hash

	remembered map[string]json.RawMessage // of the earlier snapshot, by stream

	run  RunID  // whose journal has the lines; empty if there is none
	full string // why nothing of an earlier snapshot is reused, for people
}

// A Stored is where an earlier run put a blob.
type Stored struct {
	segments []*Placement
	data     json.RawMessage
}

// readBase reads the un-expired commits and finds out what of them the journal knows.
func (w *Writer) readBase(ctx context.Context) (*base, error) {
	s, err := w.a.Snapshots(ctx, w.o.Service)
	if err != nil {
		return nil, err
	}
	b := &base{heads: s.Heads, bad: s.Bad, usable: map[dataset.Hash]*pack{}, own: map[int]*pack{}, numbered: map[int]*pack{},
		keys: map[dataset.Hash]KeyRef{}, lists: map[RunID]ListRef{}, entries: map[dataset.Hash]*PartEntry{}}
	for _, p := range w.journal.ownPacks(w.run) {
		b.own[p.Number] = durablePack(p.SHA256, p.Size, p.Key, p.Run)
		b.usable[p.SHA256] = b.own[p.Number]
	}
	run, last := w.journal.lastCommitted()
	if last == nil {
		b.full = "nothing is remembered of an earlier export"
		return b, nil
	}
	i := slices.IndexFunc(s.All, func(d *Decision) bool { return d.Run == run && d.Hash == last.Manifest })
	if i < 0 {
		b.full = "the export that is remembered is no snapshot of this store any more"
		return b, nil
	}
	b.manifest, b.run, b.remembered = last.Manifest, run, last.Remembered
	m := s.All[i].Manifest
	for _, ref := range m.Lists {
		if err := w.allow(ctx, b, ref, last.Live); err != nil {
			return nil, err
		}
		b.lists[ref.Run] = ref
	}
	for _, p := range w.journal.ownPacks(run) {
		b.numbered[p.Number] = b.usable[p.SHA256]
	}
	for _, k := range m.Keys {
		b.keys[k.ID] = k
	}
	for i, e := range last.Parts {
		b.entries[e.SHA256] = &last.Parts[i]
	}
	return b, nil
}

// allow makes the packs of a list usable, unless they are too old, to be avoided, or
// for the most part dead.
func (w *Writer) allow(ctx context.Context, b *base, ref ListRef, live map[dataset.Hash]int64) error {
	packs, err := w.a.List(ctx, w.o.Service, ref)
	if err != nil {
		return err
	}
	made, err := time.Parse(runTime, strings.SplitN(string(ref.Run), "-", 2)[0])
	if err != nil || w.o.Now().Sub(made) > w.o.Reuse {
		return nil
	}
	for _, p := range packs {
		if !w.o.Avoid[p.SHA256] && !sparse(live[p.SHA256], p.Size) {
			b.usable[p.SHA256] = durablePack(p.SHA256, p.Size, p.Key, ref.Run)
		}
	}
	return nil
}

// sparse reports whether so little of a pack is referred to that it is better written
// anew: less than 70 %, what packs of every size have besides left aside.
func sparse(live, size int64) bool {
	const besides = 4 << 10
	return size-besides-live > size*3/10
}

func durablePack(h dataset.Hash, size int64, key dataset.Hash, run RunID) *pack {
	return &pack{done: closed, hash: h, size: size, key: key, run: run, number: -1}
}

// part returns an earlier part with the same lines, if all of it may be reused.
func (b *base) part(sum dataset.Hash, p *part) (*PartEntry, *Placement) {
	e := b.entries[sum]
	if e == nil || b.usable[e.Location.Pack] == nil || len(e.Packs) != len(p.packs) {
		return nil, nil
	}
	for i, k := range p.packs {
		if !k.durable() || k.hash != e.Packs[i] {
			return nil, nil
		}
	}
	return e, b.place(e.Location, e.Bytes)
}

// place returns the placement of a member of a usable pack.
func (b *base) place(m MemberRef, size int64) *Placement {
	return &Placement{placed: closed, pack: b.usable[m.Pack], offset: m.Offset, length: m.Length, member: m.Member, size: size}
}

// Prior yields what earlier runs have of a blob stream, in its order, as far as its
// packs may be reused: the interrupted attempts of this run, newest first, over the
// last snapshot. What cannot be read of the journal is left out, so that the source
// is asked again.
func (w *Writer) Prior(stream string) iter.Seq2[dataset.Record, error] {
	if w.journal.dir == "" {
		return nil
	}
	dirs := w.journal.attempts(w.run)
	if w.base.run != "" {
		if last := w.journal.attempts(w.base.run); len(last) > 0 {
			dirs = append(dirs, last[0])
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	return func(yield func(dataset.Record, error) bool) {
		var heads []*priorLines
		for _, dir := range dirs {
			next, stop := iter.Pull(w.journalLines(dir, stream))
			defer stop()
			heads = append(heads, &priorLines{next: next})
		}
		mergePrior(heads, stream, yield)
	}
}

// Written yields what this run has written of a blob stream so far, in its order, as
// prior knowledge for a second reading: blobs have their hash, and nothing of them can
// be opened or written again. It is nil where nothing is remembered.
func (w *Writer) Written(stream string) iter.Seq2[dataset.Record, error] {
	if w.journal.packs == nil {
		return nil
	}
	dir := filepath.Join(string(w.run), strconv.Itoa(w.journal.attempt))
	return func(yield func(dataset.Record, error) bool) {
		for _, file := range w.journal.files(dir, stream) {
			text, err := w.journal.read(file)
			if err != nil {
				yield(dataset.Record{}, fmt.Errorf("journal: %w", err))
				return
			}
			_, lines, _ := bytes.Cut(text, []byte{'\n'})
			for line := range bytes.Lines(lines) {
				l, err := ParseLine(bytes.TrimSuffix(line, []byte{'\n'}))
				if err != nil {
					yield(dataset.Record{}, fmt.Errorf("journal: %w", err))
					return
				}
				r := dataset.Record{Stream: stream, Key: l.Key, Ordinal: l.Ordinal, Data: l.Data}
				if l.HasBlob {
					r.Blob = &dataset.Blob{Size: l.Size, SHA256: l.SHA256, Archived: w}
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// priorLines is one sorted source of prior records.
type priorLines struct {
	next func() (dataset.Record, bool)
	head dataset.Record
	live bool
	read bool
}

func (p *priorLines) peek() (*dataset.Record, bool) {
	if !p.read {
		p.head, p.live = p.next()
		p.read = true
	}
	return &p.head, p.live
}

// mergePrior merges sorted sources; where two have a record, the first wins.
func mergePrior(heads []*priorLines, stream string, yield func(dataset.Record, error) bool) {
	for {
		var least *dataset.Record
		for _, h := range heads {
			if r, ok := h.peek(); ok && (least == nil || compareRecords(r, least) < 0) {
				least = r
			}
		}
		if least == nil {
			return
		}
		r := *least
		for _, h := range heads {
			if same, ok := h.peek(); ok && compareRecords(same, &r) == 0 {
				h.read = false
			}
		}
		r.Stream = stream
		if !yield(r, nil) {
			return
		}
	}
}

// compareRecords orders as blob streams are: by key, versions from the newest.
func compareRecords(a, b *dataset.Record) int {
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return b.Ordinal - a.Ordinal
}

// journalLines yields the records of one attempt.
func (w *Writer) journalLines(dir, stream string) iter.Seq[dataset.Record] {
	return func(yield func(dataset.Record) bool) {
		for _, file := range w.journal.files(dir, stream) {
			text, err := w.journal.read(file)
			if err != nil {
				continue
			}
			first, rest, _ := bytes.Cut(text, []byte{'\n'})
			var head linesHead
			if json.Unmarshal(first, &head) != nil || head.Stream != stream {
				continue
			}
			packs := w.base.resolve(head.Packs, dir, w.run)
			for line := range bytes.Lines(rest) {
				if r, ok := priorRecord(bytes.TrimSuffix(line, []byte{'\n'}), packs); ok && !yield(r) {
					return
				}
			}
		}
	}
}

// resolve turns a table of packs into packs; nil where one may not be reused.
func (b *base) resolve(uses []packUse, dir string, run RunID) []*pack {
	packs := make([]*pack, len(uses))
	mine := strings.HasPrefix(dir, string(run)+"/")
	for i, u := range uses {
		switch {
		case u.Number < 0:
			packs[i] = b.usable[u.SHA256]
		case mine:
			packs[i] = b.own[u.Number]
		default:
			packs[i] = b.numbered[u.Number]
		}
	}
	return packs
}

// priorRecord parses an index line. It is false where the line is of no use.
func priorRecord(line []byte, packs []*pack) (dataset.Record, bool) {
	l, err := ParseLine(line)
	if err != nil {
		return dataset.Record{}, false
	}
	r := dataset.Record{Key: l.Key, Ordinal: l.Ordinal, Data: l.Data}
	if !l.HasBlob {
		return r, true
	}
	st := &Stored{data: l.Data}
	for _, loc := range l.Location {
		if loc.Pack >= len(packs) || packs[loc.Pack] == nil {
			return dataset.Record{}, false
		}
		at := &Placement{placed: closed, pack: packs[loc.Pack], offset: loc.Offset, length: loc.Length, member: loc.Member, size: loc.Size}
		st.segments = append(st.segments, at)
	}
	r.Blob = &dataset.Blob{Size: l.Size, SHA256: l.SHA256, Archived: st}
	return r, true
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// List reads and checks a list of packs.
func (a *Archive) List(ctx context.Context, service string, ref ListRef) ([]PackRef, error) {
	name := ListName(service, ref.SHA256)
	doc, err := readAll(ctx, a.Store, name, maxList)
	if err != nil {
		return nil, fmt.Errorf("read list %s: %w", ref.SHA256, missing(name, err))
	}
	return a.ParseList(service, ref, doc)
}
