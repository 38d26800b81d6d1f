package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/dwp/sallyport/dataset"
)

// Where a run carries CSV, each part of a stream that can be a table has a second
// member, made of exactly the part's records: a whole CSV file with a header of its own.
// JSON Lines stay the truth; CSV is read back and held against them before it is packed,
// and by every verification.

const (
	maxCSV   = MaxRecord // bytes of a CSV member
	csvInUse = 64 << 20  // bytes of memory, about, in which CSV is being made
)

// A CSVPart is the CSV of one part.
type CSVPart struct {
	Rows     int64        `json:"rows"`
	LeftOut  int64        `json:"left_out"` // records that cannot be a row; see the ledger
	Absent   int64        `json:"absent"`   // cells that are NULL because the record has no such field
	Bytes    int64        `json:"bytes"`
	SHA256   dataset.Hash `json:"sha256"`
	Location MemberRef    `json:"location"`
}

// A StreamCSV is the CSV of one stream: the header, and the rows of its parts in order.
type StreamCSV struct {
	Header   string                `json:"header"` // the row of column names, with its line feed
	Rows     int64                 `json:"rows"`
	LeftOut  int64                 `json:"left_out"`
	Absent   int64                 `json:"absent"`
	Bytes    int64                 `json:"bytes"` // of header and rows in one file
	Resource *dataset.DataResource `json:"resource"`
	Metadata *dataset.CSVWTable    `json:"metadata"`
}

// A LeftOutLine is one line of the ledger of records that no row of CSV holds.
type LeftOutLine struct {
	Stream string `json:"stream"`
	Key    Key    `json:"key"`
	Reason string `json:"reason"`
}

// csvWriting is what a run that carries CSV needs for it.
type csvWriting struct {
	room    *semaphore.Weighted
	buffers chan []byte
	mu      sync.Mutex // guards the ledger
	ledger  *Section
}

func newCSVWriting(w *Writer) *csvWriting {
	c := &csvWriting{room: semaphore.NewWeighted(csvInUse), buffers: make(chan []byte, 3), ledger: newLedger(w, "left out")}
	c.ledger.inline = true
	return c
}

// csvTable returns the table of a stream, or says why it has none.
func csvTable(s *dataset.Stream) (*dataset.Table, error) {
	switch {
	case s.Blobs:
		return nil, errors.New("its records are objects with bytes")
	case Enveloped(s):
		return nil, errors.New("the keys of its records are not in their data")
	}
	return dataset.NewCSVTable(s.Schema)
}

// Schema changes the schema of the stream from the next record on. CSV is given up for a
// stream whose columns change after its first record: one file has one header.
func (s *Section) Schema(schema *dataset.Schema) { s.sw.setColumns(schema, s.begun()) }

// NoCSV says why a stream is not carried as CSV. It is nil if it is, or if the run carries
// no CSV at all.
func (sw *StreamWriter) NoCSV() error {
	sw.csv.Lock()
	defer sw.csv.Unlock()
	return sw.csv.err
}

func (s *Section) begun() bool { return len(s.parts) > 0 || s.part.entry.Count > 0 }

func (sw *StreamWriter) setColumns(schema *dataset.Schema, begun bool) {
	if sw.w.csv == nil {
		return
	}
	sw.csv.Lock()
	defer sw.csv.Unlock()
	changed := sw.stream
	changed.Schema = schema
	table, err := csvTable(&changed)
	switch {
	case sw.csv.table != nil && table != nil && sw.csv.table.SameColumns(table):
	case begun && sw.csv.err == nil:
		sw.csv.table, sw.csv.err = nil, errors.New("its columns changed while it was read")
	case !begun:
		sw.csv.table, sw.csv.err = table, err
	}
}

// streamCSV is how a stream is written as CSV.
type streamCSV struct {
	sync.Mutex
	table *dataset.Table // nil: not at all
	err   error          // why not
}

func (c *streamCSV) now() *dataset.Table {
	c.Lock()
	defer c.Unlock()
	return c.table
}

// csvEntry is what the part table says of a part's CSV, whose pack it notes as needed.
func (sw *StreamWriter) csvEntry(p *part, all *sealed) *CSVPart {
	if p.entry.CSV == nil || sw.csv.now() == nil {
		return nil
	}
	e := *p.entry.CSV
	e.Location = MemberRef{p.csvAt.pack.hash, p.csvAt.offset, p.csvAt.length, p.csvAt.member}
	all.packs[p.csvAt.pack] = true
	all.live[p.csvAt.pack.hash] += p.csvAt.length
	return &e
}

// manifestFormat is the lowest version that can say what the snapshot holds.
func (w *Writer) manifestFormat() string {
	if w.csv != nil {
		return manifestWithCSV
	}
	return manifestFormat
}

// describeCSV says of each stream as what CSV it is there, or why it is not.
func describeCSV(streams []*StreamWriter, resources []Resource, slugs map[string]string) error {
	tables := map[string]string{} // slugs of what has CSV
	for _, sw := range streams {
		if sw.csv.now() != nil {
			tables[sw.stream.Name] = slugs[sw.stream.Name]
		}
	}
	for i, sw := range streams {
		e := &resources[i].Sallyport
		table := sw.csv.now()
		if table == nil {
			e.NoCSV = sw.csv.err.Error()
			continue
		}
		var header bytes.Buffer
		cw, err := dataset.NewCSVWriter(&header, table.Columns())
		if err == nil {
			err = cw.Flush()
		}
		c := &StreamCSV{Header: header.String(), Bytes: int64(header.Len())}
		file := slugs[sw.stream.Name] + ".csv"
		if err == nil {
			c.Resource, err = dataset.NewCSVResource(sw.stream, file, tables)
		}
		if err == nil {
			c.Metadata, err = dataset.NewCSVWTable(file, sw.stream.Schema)
		}
		if err != nil {
			return fmt.Errorf("csv of stream %q: %w", sw.stream.Name, err)
		}
		for _, s := range sw.sections {
			for _, p := range s.parts {
				part := p.entry.CSV
				c.Rows += part.Rows
				c.LeftOut += part.LeftOut
				c.Absent += part.Absent
				c.Bytes += part.Bytes - int64(header.Len())
			}
		}
		e.CSV = c
	}
	return nil
}

// finishCSV makes the CSV of a part, or finds that an earlier snapshot has the same.
func (w *Writer) finishCSV(ctx context.Context, p *part, lines []byte) error {
	old := p.entry.CSV
	p.entry.CSV = nil
	if p.table == nil {
		return nil
	}
	weight := min(4*int64(len(lines)), csvInUse)
	if err := w.csv.room.Acquire(ctx, weight); err != nil {
		return err
	}
	defer w.csv.room.Release(weight)
	var buf []byte
	select {
	case buf = <-w.csv.buffers:
	default:
	}
	e, csv, err := makeCSV(p.table, lines, buf[:0], func(line []byte, reason error) error { return w.leaveOut(ctx, p, line, reason) })
	if err != nil {
		return err
	}
	defer func() {
		if cap(csv) > 4*maxPart {
			return // of one long record
		}
		select {
		case w.csv.buffers <- csv:
		default:
		}
	}()
	if old != nil && old.SHA256 == e.SHA256 && old.Bytes == e.Bytes && w.base.usable[old.Location.Pack] != nil {
		p.entry.CSV, p.csvAt = old, w.base.place(old.Location, old.Bytes)
		return nil
	}
	if err := e.Check(p.table, lines, csv); err != nil {
		return fmt.Errorf("csv does not read back as the records it was made of (faulty memory or processor?): %w", err)
	}
	p.entry.CSV = e
	p.csvAt, err = w.data.put(ctx, "p/"+w.nextID()+".csv", csv)
	return err
}

// makeCSV appends the CSV of the records in lines to csv. A record that cannot be a row
// is handed to leaveOut.
func makeCSV(table *dataset.Table, lines, csv []byte, leaveOut func(line []byte, reason error) error) (*CSVPart, []byte, error) {
	e := new(CSVPart)
	b := bytes.NewBuffer(csv)
	cw, err := dataset.NewCSVWriter(b, table.Columns())
	if err != nil {
		return nil, csv, err
	}
	var row []dataset.Cell
	size := headerSize(table)
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		var absent int
		var n int64
		if row, absent, n, err = rowOf(table, row[:0], line, size); err != nil {
			e.LeftOut++
			if err := leaveOut(line, err); err != nil {
				return nil, csv, err
			}
			continue
		}
		if err := cw.Write(row); err != nil {
			return nil, csv, err
		}
		e.Rows, e.Absent, size = e.Rows+1, e.Absent+int64(absent), size+n
	}
	if err := cw.Flush(); err != nil {
		return nil, csv, err
	}
	csv = b.Bytes()
	e.Bytes, e.SHA256 = int64(len(csv)), dataset.Sum(csv)
	return e, csv, nil
}

// rowOf returns the row of a record, and how long it is as CSV, if it can be one after
// size bytes of CSV.
func rowOf(table *dataset.Table, dst []dataset.Cell, line []byte, size int64) (row []dataset.Cell, absent int, n int64, err error) {
	if row, absent, err = table.Row(dst, line); err != nil {
		return row, 0, 0, err
	}
	if n = rowSize(row); size+n > maxCSV {
		return row, 0, 0, fmt.Errorf("the CSV of its part would have more than %d bytes", maxCSV)
	}
	return row, absent, n, nil
}

// rowSize is how long a row is as CSV.
func rowSize(row []dataset.Cell) (n int64) {
	for _, c := range row {
		n += 3 // quotes and what comes after, or \N and that
		for _, b := range []byte(c.Text) {
			if n++; b == '"' {
				n++
			}
		}
	}
	return n
}

func headerSize(table *dataset.Table) int64 {
	var names []dataset.Cell
	for _, name := range table.Columns() {
		names = append(names, dataset.Cell{Text: name})
	}
	return rowSize(names)
}

// leaveOut names a record that is in no row.
func (w *Writer) leaveOut(ctx context.Context, p *part, record []byte, reason error) error {
	key, err := RecordKey(&p.stream, record)
	if err != nil {
		return err
	}
	l := LeftOutLine{p.stream.Name, Key(key), readable(reason.Error())}
	line, err := encodeLine(l)
	if err != nil {
		return err
	}
	w.csv.mu.Lock()
	defer w.csv.mu.Unlock()
	if w.o.OnLeftOut != nil {
		w.o.OnLeftOut(l)
	}
	return w.csv.ledger.Record(ctx, key, line)
}

// Check decodes the CSV of a part and holds each row against its record in lines. What
// has no row must be a record that cannot have one.
func (e *CSVPart) Check(table *dataset.Table, lines, csv []byte) error {
	r, err := dataset.NewCSVReader(bytes.NewReader(csv), maxCSV)
	if err != nil {
		return err
	}
	if got, want := r.Columns(), table.Columns(); !slices.Equal(got, want) {
		return fmt.Errorf("it has the columns %q instead of %q", got, want)
	}
	check := dataset.NewRowCheck(table)
	got, size := CSVPart{Bytes: int64(len(csv)), SHA256: e.SHA256, Location: e.Location}, headerSize(table)
	row, end := r.Read(nil)
	n := 0
	for line := range bytes.Lines(lines) {
		n++
		line = bytes.TrimSuffix(line, []byte{'\n'})
		absent, differs := 0, errors.New("there is no row for it")
		if end == nil {
			absent, differs = check.Check(line, row)
		}
		if differs == nil {
			got.Rows, got.Absent, size = got.Rows+1, got.Absent+int64(absent), size+rowSize(row)
			row, end = r.Read(row[:0])
			continue
		}
		if _, _, _, err := rowOf(table, nil, line, size); err == nil {
			if end != nil && end != io.EOF {
				differs = end
			}
			return fmt.Errorf("record %d of its part: %w", n, differs)
		}
		got.LeftOut++
	}
	switch {
	case end == nil:
		return errors.New("it has a row that is no record")
	case end != io.EOF:
		return end
	case got != *e:
		return fmt.Errorf("it has %d rows, %d records left out, %d absent fields and %d bytes, and the index says %d, %d, %d and %d",
			got.Rows, got.LeftOut, got.Absent, got.Bytes, e.Rows, e.LeftOut, e.Absent, e.Bytes)
	}
	return nil
}

// CSV returns the CSV of a part, and makes sure that it is the one that the index names.
func (s *Snapshot) CSV(ctx context.Context, part *PartEntry) ([]byte, error) {
	e := part.CSV
	if e == nil {
		return nil, fmt.Errorf("part %s has no CSV", part.Part)
	}
	if e.Bytes > maxCSV {
		return nil, fmt.Errorf("the CSV of part %s claims %d bytes", part.Part, e.Bytes)
	}
	csv, err := s.reader.member(ctx, e.Location, e.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the CSV of part %s: %w", part.Part, err)
	}
	if got := dataset.Sum(csv); int64(len(csv)) != e.Bytes || got != e.SHA256 {
		return nil, &DamageError{"the CSV of part " + part.Part, e.SHA256, got, int64(len(csv))}
	}
	return csv, nil
}

// CSVTable returns the table as which the stream is written where a snapshot carries
// CSV. It fails where there is none, and says why.
func (e *StreamEntry) CSVTable() (*dataset.Table, error) {
	if e.CSV == nil {
		return nil, fmt.Errorf("stream %q has no CSV: %s", e.Stream.Name, cmp.Or(e.NoCSV, "the snapshot carries none"))
	}
	return csvTable(&e.Stream)
}

// LeftOut yields the ledger of records that no row of CSV holds.
func (s *Snapshot) LeftOut(ctx context.Context) iter.Seq2[LeftOutLine, error] {
	return ledgerLines[LeftOutLine](ctx, s, s.Descriptor.Sallyport.LeftOut)
}
