package archive

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// RecordKey returns the key of a line that is data and nothing else: the compact array
// of the primary key's values, or in a keyless stream the hash of the canonical form.
func RecordKey(s *dataset.Stream, line []byte) (string, error) {
	if s.Keyless {
		form, err := dataset.Canonical(nil, line)
		return dataset.KeylessKey(form), err
	}
	var room [4]json.RawMessage
	values := room[:0]
	for _, name := range s.Schema.PrimaryKey {
		v, ok := dataset.Lookup(line, name)
		if !ok {
			return "", fmt.Errorf("record has no %q, which is part of its key", name)
		}
		values = append(values, v)
	}
	return dataset.Key(values)
}

// Records yields the records of a stream in the order of the archive. Blobs can be
// opened while ctx lasts; one that is read from its beginning to its end is held
// against its hash, and what does not agree fails with a *[DamageError] instead of
// io.EOF.
func (s *Snapshot) Records(ctx context.Context, e *StreamEntry) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for part, err := range s.Parts(ctx, e.Table) {
			if err != nil {
				yield(dataset.Record{}, err)
				return
			}
			if !s.partRecords(ctx, e, &part, yield) {
				return
			}
		}
	}
}

// lookahead is how many parts [Snapshot.RecordsAsStored] puts in order at a time: some
// 6 GiB of records.
const lookahead = 4096

// RecordsAsStored yields the records of a stream like [Snapshot.Records], but its parts in
// the order in which packs hold them. Where ranges of a stream were written side by side,
// each pack has some of every range, and is read once this way.
func (s *Snapshot) RecordsAsStored(ctx context.Context, e *StreamEntry) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		var parts []PartEntry
		flush := func() bool {
			for _, p := range asStored(parts) {
				if !s.partRecords(ctx, e, &p, yield) {
					return false
				}
			}
			parts = parts[:0]
			return true
		}
		for part, err := range s.Parts(ctx, e.Table) {
			if err != nil {
				yield(dataset.Record{}, err)
				return
			}
			if parts = append(parts, part); len(parts) == lookahead && !flush() {
				return
			}
		}
		flush()
	}
}

// asStored sorts parts by pack, in the order in which packs come first, and within a pack
// by their place.
func asStored(parts []PartEntry) []PartEntry {
	order := map[dataset.Hash]int{}
	for _, p := range parts {
		if _, ok := order[p.Location.Pack]; !ok {
			order[p.Location.Pack] = len(order)
		}
	}
	slices.SortStableFunc(parts, func(a, b PartEntry) int {
		return cmp.Or(cmp.Compare(order[a.Location.Pack], order[b.Location.Pack]), cmp.Compare(a.Location.Offset, b.Location.Offset))
	})
	return parts
}

func (s *Snapshot) partRecords(ctx context.Context, e *StreamEntry, part *PartEntry, yield func(dataset.Record, error) bool) bool {
	lines, err := s.Lines(ctx, part)
	if err != nil {
		yield(dataset.Record{}, err)
		return false
	}
	for r, err := range s.PartRecords(ctx, e, part, lines) {
		if !yield(r, err) || err != nil {
			return false
		}
	}
	return true
}

// PartRecords yields the records of one part, whose lines the caller has from
// [Snapshot.Lines].
func (s *Snapshot) PartRecords(ctx context.Context, e *StreamEntry, part *PartEntry, lines []byte) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		if !Enveloped(&e.Stream) {
			plainRecords(e, part, lines, yield)
			return
		}
		parsed, err := parseLines(lines, part)
		if err != nil {
			yield(dataset.Record{}, fmt.Errorf("part %s: %w", part.Part, err))
			return
		}
		whole := s.wanted(parsed, part)
		for _, l := range parsed {
			if err := ctx.Err(); err != nil {
				yield(dataset.Record{}, err)
				return
			}
			if !yield(s.record(e.Stream.Name, l, part, whole), nil) {
				return
			}
		}
	}
}

// plainRecords yields records whose lines are their data.
func plainRecords(e *StreamEntry, part *PartEntry, lines []byte, yield func(dataset.Record, error) bool) {
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		k, err := RecordKey(&e.Stream, line)
		if err != nil {
			yield(dataset.Record{}, fmt.Errorf("part %s: %w", part.Part, err))
			return
		}
		if !yield(dataset.Record{Stream: e.Stream.Name, Key: k, Data: line}, nil) {
			return
		}
	}
}

func parseLines(lines []byte, part *PartEntry) ([]*Line, error) {
	parsed := make([]*Line, 0, part.Count)
	for line := range bytes.Lines(lines) {
		l, err := ParseLine(bytes.TrimSuffix(line, []byte{'\n'}))
		if err != nil {
			return nil, err
		}
		for _, loc := range l.Location {
			if loc.Pack >= len(part.Packs) {
				return nil, fmt.Errorf("key %q refers to pack %d of %d", l.Key, loc.Pack, len(part.Packs))
			}
		}
		parsed = append(parsed, l)
	}
	return parsed, nil
}

// wanted says which packs of a part are worth reading whole: those of which the part
// wants an eighth or more, and small members among it.
func (s *Snapshot) wanted(lines []*Line, part *PartEntry) []bool {
	bytes, last, small := make([]int64, len(part.Packs)), make([]int64, len(part.Packs)), make([]bool, len(part.Packs))
	for i := range last {
		last[i] = -1
	}
	for _, l := range lines {
		for _, loc := range l.Location {
			if loc.Offset != last[loc.Pack] { // small members of one frame count once
				bytes[loc.Pack] += loc.Length
				last[loc.Pack] = loc.Offset
			}
			small[loc.Pack] = small[loc.Pack] || loc.Size < smallMember
		}
	}
	whole := make([]bool, len(bytes))
	for i, n := range bytes {
		whole[i] = small[i] && n >= s.Packs[part.Packs[i]].Size/8
	}
	return whole
}

// record makes a record of an index line.
func (s *Snapshot) record(stream string, l *Line, part *PartEntry, whole []bool) dataset.Record {
	r := dataset.Record{Stream: stream, Key: l.Key, Ordinal: l.Ordinal, Data: l.Data}
	if !l.HasBlob {
		return r
	}
	r.Blob = &dataset.Blob{Size: l.Size, SHA256: l.SHA256, Archived: l}
	r.Blob.Open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if off < 0 || off > l.Size {
			return nil, fmt.Errorf("offset %d of a blob of %d bytes", off, l.Size)
		}
		if n < 0 || n > l.Size-off {
			n = l.Size - off
		}
		b := &blobReader{ctx: ctx, s: s, line: l, part: part, whole: whole, off: off, left: n}
		if off == 0 && n == l.Size {
			b.hash = sha256.New()
		}
		return b, nil
	}
	return r
}

// A blobReader reads the segments of a blob one by one.
type blobReader struct {
	ctx    context.Context // of Open; a reader belongs to one caller
	s      *Snapshot
	line   *Line
	part   *PartEntry
	whole  []bool
	next   int   // segment
	off    int64 // still to pass over
	left   int64 // still to deliver
	seg    segment
	data   []byte // rest of the segment at hand
	held   int64  // of the budget
	hash   hash.Hash
	proven bool // the whole blob was read and is what its line says
}

// Proven returns the digest of the blob after all of it was read and agreed with it, so
// that whoever copies a blob need not hash it again.
func (b *blobReader) Proven() (dataset.Hash, error) {
	if !b.proven {
		return dataset.Hash{}, fmt.Errorf("the archived copy of %q was not read to its end", b.line.Key)
	}
	return b.line.SHA256, nil
}

func (b *blobReader) Read(p []byte) (int, error) {
	for len(b.data) == 0 {
		if b.left == 0 {
			return 0, b.end()
		}
		if err := b.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.data)
	b.data, b.left = b.data[n:], b.left-int64(n)
	return n, nil
}

// WriteTo implements [io.WriterTo]: segments go to w as they are.
func (b *blobReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if len(b.data) > 0 {
			n, err := w.Write(b.data)
			b.data, b.left, total = b.data[n:], b.left-int64(n), total+int64(n)
			if err != nil {
				return total, err
			}
			continue
		}
		if b.left == 0 {
			if err := b.end(); err != io.EOF {
				return total, err
			}
			return total, nil
		}
		if err := b.load(); err != nil {
			return total, err
		}
	}
}

// end holds what was read against the hash of the blob.
func (b *blobReader) end() error {
	b.release()
	if b.hash == nil {
		return io.EOF
	}
	var got dataset.Hash
	b.hash.Sum(got[:0])
	if b.proven = got == b.line.SHA256; !b.proven {
		return &DamageError{fmt.Sprintf("the archived copy of %q", b.line.Key), b.line.SHA256, got, b.line.Size}
	}
	return io.EOF
}

// load reads the next segment that is wanted.
func (b *blobReader) load() error {
	b.release()
	for b.next < len(b.line.Location) && b.off >= b.line.Location[b.next].Size {
		b.off -= b.line.Location[b.next].Size
		b.next++
	}
	if b.next >= len(b.line.Location) {
		return io.ErrUnexpectedEOF
	}
	loc := b.line.Location[b.next]
	b.next++
	if err := b.s.reader.budget.Acquire(b.ctx, loc.Size); err != nil {
		return err
	}
	b.held = loc.Size
	pack := b.part.Packs[loc.Pack]
	var err error
	b.seg, err = b.s.reader.segment(b.ctx, pack, loc, b.whole[loc.Pack] || b.hash == nil)
	data := b.seg.data
	if err == nil && int64(len(data)) != loc.Size {
		err = fmt.Errorf("member %s has %d bytes instead of %d", loc.Member, len(data), loc.Size)
	}
	if err != nil {
		return err
	}
	if b.hash != nil {
		b.hash.Write(data)
	}
	data = data[b.off:]
	b.off = 0
	b.data = data[:min(int64(len(data)), b.left)]
	return nil
}

func (b *blobReader) release() {
	b.s.reader.done(b.seg)
	b.seg, b.data = segment{}, nil
	if b.held > 0 {
		b.s.reader.budget.Release(b.held)
		b.held = 0
	}
}

// Close gives back what the reader holds.
func (b *blobReader) Close() error {
	b.release()
	b.left = 0
	if b.hash != nil {
		b.hash = nil
	}
	return nil
}

// Find returns a record by its key: the version with the given ordinal, or with -1 the
// newest that is no delete marker. It reads only the parts that can have it. It fails
// with [fs.ErrNotExist] if there is none.
func (s *Snapshot) Find(ctx context.Context, e *StreamEntry, key string, ordinal int) (dataset.Record, error) {
	for part, err := range s.Parts(ctx, e.Table) {
		if err != nil {
			return dataset.Record{}, err
		}
		if e.Stream.Blobs && (key < string(part.First) || key > string(part.Last)) {
			continue
		}
		lines, err := s.Lines(ctx, &part)
		if err != nil {
			return dataset.Record{}, err
		}
		for r, err := range s.PartRecords(ctx, e, &part, lines) {
			if err != nil {
				return dataset.Record{}, err
			}
			if r.Key == key && (r.Ordinal == ordinal || ordinal < 0 && (r.Blob != nil || !e.Stream.Blobs)) {
				return r, nil
			}
		}
	}
	return dataset.Record{}, fmt.Errorf("key %q in stream %q: %w", key, e.Stream.Name, fs.ErrNotExist)
}
