package dir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// maxRow is the most bytes that the texts of one row of CSV may have.
const maxRow = maxLine

// isCSV reports whether the table is written as CSV.
func (p place) isCSV() bool { return strings.HasSuffix(p.Table, ".csv") }

// metadata is the name of the CSVW file beside a table of CSV.
func (p place) metadata() string { return p.Table + "-metadata.json" }

// A rows writes the records of a table.
type rows interface {
	// write writes a record, or returns a gap if the format cannot hold it. The names of
	// fields that the format turns into null come back as absent.
	write(data []byte) (absent []string, gap *dataset.Gap, err error)
	flush() error
}

// jsonRows writes a line for each record.
type jsonRows struct{ w io.Writer }

func (j jsonRows) write(data []byte) ([]string, *dataset.Gap, error) {
	if _, err := j.w.Write(data); err != nil {
		return nil, nil, err
	}
	_, err := j.w.Write([]byte{'\n'})
	return nil, nil, err
}

func (j jsonRows) flush() error { return nil }

// csvRows writes a row for each record.
type csvRows struct {
	table *dataset.Table
	w     *dataset.CSVWriter
	cells []dataset.Cell
}

func newCSVRows(w io.Writer, s *dataset.Schema) (*csvRows, error) {
	table, err := dataset.NewTable(s)
	if err != nil {
		return nil, err
	}
	out, err := dataset.NewCSVWriter(w, table.Columns())
	if err != nil {
		return nil, err
	}
	return &csvRows{table: table, w: out}, nil
}

func (c *csvRows) write(data []byte) (absent []string, gap *dataset.Gap, err error) {
	cells, n, err := c.table.Row(c.cells[:0], data)
	if err != nil {
		return nil, &dataset.Gap{Code: dataset.Unsupported, Detail: err.Error()}, nil
	}
	c.cells = cells
	if n > 0 {
		for _, name := range c.table.Columns() {
			if _, ok := dataset.Lookup(data, name); !ok {
				absent = append(absent, name)
			}
		}
	}
	err = c.w.Write(cells)
	if bad := (*dataset.CSVError)(nil); errors.As(err, &bad) {
		return nil, &dataset.Gap{Code: dataset.Unsupported, Detail: err.Error()}, nil
	}
	return absent, nil, err
}

func (c *csvRows) flush() error { return c.w.Flush() }

// table writes the data of a stream without blobs, and its keymap.
func (l *loader) table(ctx context.Context, recs iter.Seq2[dataset.Record, error]) (err error) {
	data, err := newFile(l.root, l.place.Table)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	keymap, err := newFile(l.root, l.place.Keymap)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keymap.Close()) }()
	var out rows = jsonRows{data}
	if l.place.isCSV() {
		if out, err = newCSVRows(data, l.place.Stream.Schema); err != nil {
			return err
		}
	}
	var line []byte
	for r, err := range recs {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		e, gap, err := l.row(out, r)
		if err != nil {
			return err
		}
		if gap != nil {
			gap.Stream, gap.Key, gap.Ordinal = l.place.Stream.Name, r.Key, r.Ordinal
			l.gap(*gap)
			continue
		}
		if line, err = e.append(line[:0]); err != nil {
			return err
		}
		if _, err := keymap.Write(line); err != nil {
			return err
		}
		l.done.Records++
	}
	return out.flush()
}

// row writes one record and returns its line of the keymap.
func (l *loader) row(out rows, r dataset.Record) (*entry, *dataset.Gap, error) {
	if r.Gap != nil {
		return nil, &dataset.Gap{Code: r.Gap.Code, Detail: r.Gap.Detail}, nil
	}
	it, err := newItem(r)
	if err == nil && r.Blob != nil {
		err = errors.New("bytes in a stream that is said to have none")
	}
	if err != nil {
		return nil, &dataset.Gap{Code: dataset.Malformed, Detail: err.Error()}, nil
	}
	absent, gap, err := out.write(it.entry.data)
	it.entry.data, it.entry.absent = nil, absent
	return &it.entry, gap, err
}

// readTable reads the data of a stream beside its keymap.
func (v *restored) readTable(p place, give func(dataset.Record) error) (n int64, err error) {
	data := lines(v.root, p.Table)
	if p.isCSV() {
		data = csvLines(v.root, p)
	}
	next, stop := iter.Pull2(data)
	defer stop()
	for e, err := range p.entries(v.root) {
		if err != nil {
			return n, err
		}
		line, err, ok := next()
		if err != nil {
			return n, err
		}
		if !ok {
			return n, fmt.Errorf("%s has only %d records, and %s has more", p.Table, n, p.Keymap)
		}
		n++
		if len(e.absent) > 0 {
			line, _, err = dataset.Omit(nil, line, e.absent...)
		} else {
			err = dataset.CheckObject(line)
		}
		if err != nil {
			return n, fmt.Errorf("%s: record %d: %w", p.Table, n, err)
		}
		if err := give(dataset.Record{Key: e.key, Ordinal: e.ordinal, Data: line, Schema: e.schema}); err != nil {
			return n, err
		}
	}
	if _, err, more := next(); err != nil || more {
		return n, errors.Join(fmt.Errorf("%s has more records than %s, which has %d", p.Table, p.Keymap, n), err)
	}
	return n, nil
}

// csvLines yields the records of a table of CSV as lines of JSON.
func csvLines(root *os.Root, p place) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		err := readCSV(root, p, func(line []byte) bool { return yield(line, nil) })
		if err != nil {
			yield(nil, fmt.Errorf("%s: %w", p.Table, err))
		}
	}
}

func readCSV(root *os.Root, p place, yield func(line []byte) bool) error {
	f, err := openRegular(root, p.Table)
	if err != nil {
		return err
	}
	defer f.Close()
	table, err := dataset.NewTable(p.Stream.Schema)
	if err != nil {
		return err
	}
	r, err := dataset.NewCSVReader(f, maxRow)
	if err != nil {
		return err
	}
	var cells []dataset.Cell
	var line []byte
	for {
		if cells, err = r.Read(cells[:0]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if line, err = table.Record(line[:0], cells); err != nil {
			return err
		}
		if !yield(line) {
			return nil
		}
	}
}

// describe writes the descriptors: datapackage.json of all tables and keymaps, and the
// CSVW file of each table of CSV.
func (m *marker) describe(root *os.Root) error {
	var all []dataset.StreamFiles
	for _, p := range m.Streams {
		f := dataset.StreamFiles{Stream: p.Stream, Format: dataset.JSONL, Paths: []string{p.Table}}
		switch {
		case p.Stream.Blobs:
			f.Paths[0] = p.Keymap
		case p.isCSV():
			f.Format = dataset.CSV
			t, err := dataset.NewCSVWTable(url.PathEscape(p.Table), p.Stream.Schema)
			if err != nil {
				return err
			}
			if err := writeJSON(root, p.metadata(), t); err != nil {
				return err
			}
		}
		note, err := json.Marshal(map[string]string{"keymap": p.Keymap})
		if err != nil {
			return err
		}
		f.Note = note
		all = append(all, f)
	}
	d, err := dataset.NewDataPackage("restored by sallyport", all, nil)
	if err != nil {
		return err
	}
	return writeJSON(root, packageName, d)
}
