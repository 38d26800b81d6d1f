package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// Parts are cut by content, so that an insertion moves no later border: at a key whose
// hash says so once the part has minPart bytes, and at maxPart in any case.
const (
	minPart = 1 << 20
	maxPart = 4 << 20
	cutMask = 1<<11 - 1
)

// A StreamWriter writes one stream of a run.
type StreamWriter struct {
	w        *Writer
	stream   dataset.Stream
	role     Role // whose packs hold the parts
	index    bool // lines are index lines
	csv      streamCSV
	sections []*Section
	summary  StreamSummary
	remember json.RawMessage
}

// A StreamSummary is what only the engine knows about a stream.
type StreamSummary struct {
	Grade    Grade
	Proof    string // one sentence: how the grade was reached, for people
	Vanished int64
	Source   int64 // the source's own count, -1 if it has none
}

// Stream starts a stream that is written in n sections, which are in order and may be
// written in parallel. A blob stream has one.
func (w *Writer) Stream(s dataset.Stream, n int) (*StreamWriter, error) {
	if s.Blobs && n != 1 {
		return nil, fmt.Errorf("stream %q: a stream of blobs has one section", s.Name)
	}
	sw := &StreamWriter{w: w, stream: s, role: DataRole, index: Enveloped(&s), summary: StreamSummary{Grade: BestEffort, Source: -1}}
	if s.Blobs {
		sw.role = IndexRole
	}
	if w.csv != nil {
		sw.csv.table, sw.csv.err = csvTable(&s)
	}
	for range n {
		sw.sections = append(sw.sections, &Section{sw: sw})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams[s.Name] != nil {
		return nil, fmt.Errorf("stream %q is written twice", s.Name)
	}
	w.streams[s.Name] = sw
	return sw, nil
}

// Section returns the i-th section.
func (sw *StreamWriter) Section(i int) *Section { return sw.sections[i] }

// Summarise sets what the descriptor says about the stream. The stream's schema is
// taken from s, which may have changed since the stream began.
func (sw *StreamWriter) Summarise(s dataset.Stream, sum StreamSummary) {
	begun := slices.ContainsFunc(sw.sections, (*Section).begun)
	sw.setColumns(s.Schema, begun)
	sw.stream, sw.summary = s, sum
}

// Remember keeps note, which is JSON, for the next run of this host, if this one becomes
// a snapshot: [Writer.Remembered] returns it. Nothing of it is in the snapshot.
func (sw *StreamWriter) Remember(note json.RawMessage) { sw.remember = note }

// Remembered returns what the run of the last snapshot that this host remembers kept of a
// stream, or nil.
func (w *Writer) Remembered(stream string) json.RawMessage { return w.base.remembered[stream] }

// Grade changes the grade of a stream that was summarised.
func (sw *StreamWriter) Grade(g Grade, proof string) { sw.summary.Grade, sw.summary.Proof = g, proof }

// A Section is a run of consecutive records of a stream. It belongs to one goroutine.
type Section struct {
	sw    *StreamWriter
	part  part
	paths dataset.Paths
	last  string // key of the last entry, for versions
	any   bool
	queue []pending
	bytes int // of the queue
	line  []byte
	parts []*part

	journaled int
	inline    bool // parts are finished by whoever writes, who may be at that of another part
}

// A part is a stretch of lines that is one member.
type part struct {
	buf     []byte
	entry   PartEntry
	packs   []*pack // what the lines refer to
	live    []live  // and how much of each
	at      *Placement
	reused  bool
	stream  dataset.Stream
	table   *dataset.Table // of its CSV, or nil
	csvAt   *Placement     // of its CSV
	settled chan struct{}
}

// live is how much of a pack the lines of a part refer to. Small members that share a
// frame follow each other as a rule, and their frame counts once.
type live struct{ bytes, last int64 }

// pending is an index line that waits for the places of its segments.
type pending struct {
	line     Line
	segments []*Placement
}

// Record writes one record of a record stream. line is the record's compact JSON
// without line feed, of at most [MaxRecord] bytes; it is copied.
func (s *Section) Record(ctx context.Context, key string, line []byte) error {
	if len(line) > MaxRecord {
		return fmt.Errorf("record of %d bytes", len(line))
	}
	if len(line)+1 > maxPart {
		if err := s.cut(ctx); err != nil {
			return err
		}
	}
	return s.add(ctx, key, line)
}

// An Entry is one record of an enveloped stream.
type Entry struct {
	Key      string
	Ordinal  int
	Data     json.RawMessage
	HasBlob  bool
	Size     int64
	SHA256   dataset.Hash
	Segments []*Placement // where this run put the blob
	Archived *Stored      // or where an earlier one did
}

// Entry writes one record of an enveloped stream; in a blob stream they come in byte
// order of keys, versions of a key from the newest to the oldest. Data is kept and must
// not be changed any more.
func (s *Section) Entry(ctx context.Context, e Entry) error {
	l := Line{Key: e.Key, Ordinal: e.Ordinal, Data: e.Data, HasBlob: e.HasBlob, Size: e.Size, SHA256: e.SHA256}
	if s.sw.stream.Blobs {
		if err := s.name(&l); err != nil {
			return fmt.Errorf("stream %q: %w", s.sw.stream.Name, err)
		}
	} else if e.HasBlob {
		return fmt.Errorf("stream %q: a blob in a stream of records", s.sw.stream.Name)
	}
	p := pending{line: l, segments: e.Segments}
	if e.Archived != nil {
		p.segments = e.Archived.segments
	}
	s.queue = append(s.queue, p)
	s.bytes += len(l.Data) + 512
	return s.drain(ctx, s.bytes > maxPart)
}

// name gives a blob its path: objects/ holds the newest version of each key, unless it
// is a delete marker, and versions/ all others.
func (s *Section) name(l *Line) error {
	path, err := s.paths.Next(l.Key)
	if err != nil {
		return err
	}
	older := s.any && s.last == l.Key
	s.last, s.any = l.Key, true
	switch {
	case !l.HasBlob:
	case older:
		l.Path = fmt.Sprintf("versions/%s~v%d", path, l.Ordinal)
	default:
		l.Path = "objects/" + path
	}
	return nil
}

// Flush writes what waits, so that [Writer.Written] yields it.
func (s *Section) Flush(ctx context.Context) error { return s.close(ctx) }

// drain writes the lines at the head of the queue whose places are known; all of them
// if force is set.
func (s *Section) drain(ctx context.Context, force bool) error {
	if force {
		if err := s.sw.w.data.flushBatch(ctx); err != nil {
			return err
		}
	}
	n := 0
	for ; n < len(s.queue); n++ {
		p := &s.queue[n]
		if !force && !p.placed() {
			break
		}
		for _, seg := range p.segments {
			if err := seg.wait(ctx); err != nil {
				return err
			}
		}
		if err := s.write(ctx, p); err != nil {
			return err
		}
	}
	s.queue = append(s.queue[:0], s.queue[n:]...)
	return nil
}

func (p *pending) placed() bool {
	for _, seg := range p.segments {
		select {
		case <-seg.placed:
		default:
			return false
		}
	}
	return true
}

// write turns a pending line into bytes, numbering the packs it refers to.
func (s *Section) write(ctx context.Context, p *pending) error {
	s.bytes -= len(p.line.Data) + 512
	if p.room() > maxPart { // before packs are numbered: the line will be a part of its own
		if err := s.cut(ctx); err != nil {
			return err
		}
	}
	p.line.Location = make([]Location, 0, len(p.segments))
	for _, seg := range p.segments {
		p.line.Location = append(p.line.Location, s.part.refer(seg))
	}
	line, err := p.line.appendLine(s.line[:0])
	if err != nil {
		return err
	}
	if s.line = line; cap(line) > maxPart {
		s.line = nil // of one long line
	}
	if len(line)+1 > maxLine {
		return fmt.Errorf("stream %q: the line of %q has %d bytes, which no part can hold", s.sw.stream.Name, p.line.Key, len(line))
	}
	if p.line.HasBlob {
		s.part.entry.Blobs++
		s.part.entry.Content += p.line.Size
	}
	return s.add(ctx, p.line.Key, line)
}

// room is about what the line will take, and rather more than less.
func (p *pending) room() int { return len(p.line.Data) + 6*len(p.line.Key) + 256*len(p.segments) + 512 }

// number returns the place of a pack in the part's table.
func (p *part) number(k *pack) int {
	for i := len(p.packs) - 1; i >= 0; i-- {
		if p.packs[i] == k {
			return i
		}
	}
	p.packs = append(p.packs, k)
	p.live = append(p.live, live{last: -1})
	return len(p.packs) - 1
}

// refer returns the location of a segment, and counts what it keeps alive.
func (p *part) refer(seg *Placement) Location {
	n := p.number(seg.pack)
	if l := &p.live[n]; l.last != seg.offset {
		l.bytes, l.last = l.bytes+seg.length, seg.offset
	}
	return Location{n, seg.offset, seg.length, seg.member, seg.size}
}

// add appends a line to the part and cuts it where the key says so.
func (s *Section) add(ctx context.Context, key string, line []byte) error {
	if s.part.entry.Count == 0 {
		s.part.entry.First = Key(strings.Clone(key)) // of who knows how long a text
		if s.part.buf == nil {
			s.part.buf = s.sw.w.partRoom()
		}
	}
	s.part.entry.Count++
	s.part.entry.Last = Key(key)
	s.part.buf = append(append(s.part.buf, line...), '\n')
	if n := len(s.part.buf); n >= maxPart || n >= minPart && cutAfter(key) {
		return s.cut(ctx)
	}
	return nil
}

func cutAfter(key string) bool {
	h := fnv.New32a()
	h.Write([]byte(key))
	return h.Sum32()&cutMask == 0
}

// cut ends the part and hands it on to be hashed, compressed and packed.
func (s *Section) cut(ctx context.Context) error {
	if s.part.entry.Count == 0 {
		return nil
	}
	p := s.part
	p.entry.Last = Key(strings.Clone(string(p.entry.Last)))
	p.settled = make(chan struct{})
	p.stream, p.table = s.sw.stream, s.sw.csv.now()
	s.part = part{}
	s.parts = append(s.parts, &p)
	w := s.sw.w
	if s.sw.stream.Blobs {
		if err := w.journal.lines(s.sw.stream.Name, len(s.parts), &p); err != nil {
			return err
		}
	}
	index := s.sw.index
	finish := func(ctx context.Context) error {
		defer close(p.settled)
		return w.finishPart(ctx, &p, s.sw.role, index)
	}
	if s.inline {
		return finish(ctx)
	}
	w.background(finish)
	return ctx.Err()
}

// finishPart hashes a part and packs it, unless an earlier snapshot has the same part.
func (w *Writer) finishPart(ctx context.Context, p *part, role Role, blobs bool) error {
	e := &p.entry
	e.Bytes, e.SHA256 = int64(len(p.buf)), dataset.Sum(p.buf)
	defer func() {
		w.partDone(p.buf)
		p.buf = nil
	}()
	if old, at := w.base.part(e.SHA256, p); old != nil {
		p.entry, p.at, p.reused = *old, at, true
		return w.finishCSV(ctx, p, p.buf)
	}
	e.Part = w.nextID()
	rand.Read(e.Salt[:])
	e.Root = partRoot(e.Salt, p.buf, blobs)
	k := w.data
	if role == IndexRole {
		k = w.index
	}
	var err error
	if p.at, err = k.put(ctx, "p/"+e.Part+".jsonl", p.buf); err != nil {
		return err
	}
	return w.finishCSV(ctx, p, p.buf)
}

// partRoom returns an empty buffer for the lines of a part, from a part that is done if
// there is one.
func (w *Writer) partRoom() []byte {
	select {
	case b := <-w.partRooms:
		return b
	default:
		return make([]byte, 0, minPart+minPart/2)
	}
}

func (w *Writer) partDone(b []byte) {
	if cap(b) > 2*maxPart {
		return // of one long line
	}
	select {
	case w.partRooms <- b[:0]:
	default:
	}
}

// close ends a section's last part.
func (s *Section) close(ctx context.Context) error {
	if err := s.drain(ctx, true); err != nil {
		return err
	}
	return s.cut(ctx)
}

// newLedger returns where gaps, or second readings, are written: a stream that is none
// of the source's.
func newLedger(w *Writer, name string) *Section {
	sw := &StreamWriter{w: w, stream: dataset.Stream{Name: name}, role: IndexRole}
	s := &Section{sw: sw}
	sw.sections = []*Section{s}
	return s
}

// partRoot computes the root over the lines of a part.
func partRoot(salt dataset.PartKey, lines []byte, blobs bool) dataset.Hash {
	root := dataset.NewPartRoot(salt)
	var tmp []byte
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, []byte{'\n'})
		if lines = rest; blobs {
			tmp = provenLine(tmp, line)
			line = tmp
		}
		root.Add(line)
	}
	return root.Root()
}
