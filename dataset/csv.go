package dataset

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The CSV we write is RFC 4180 made exact, so that one table has one file:
//
//   - UTF-8 without a byte order mark; rows end with LF; the first row names the columns;
//   - every value is in double quotes, with quotes inside doubled; whatever else a value
//     holds (commas, CR, LF, CRLF, NUL, leading blanks) stands for itself;
//   - NULL is the bare token \N, and nothing else is bare. "\N" in quotes is a text.
//
// PostgreSQL reads it with
//
//	COPY t FROM 'file.csv' WITH (FORMAT csv, HEADER true, NULL '\N', ENCODING 'UTF8')
//
// and gets the same values and the same NULLs. Two limits are PostgreSQL's own: its texts
// cannot hold NUL, and psql's \copy (before version 18; COPY itself does not) takes a
// line that is only \. for the end of the data even inside quotes.
//
// encoding/csv cannot do this: it turns CRLF inside a value into LF, drops a row whose
// only value is empty, and knows no NULL.

// A Cell is one value of a CSV row.
type Cell struct {
	Text string // empty if Null
	Null bool
}

// A CSVError says what is wrong with CSV, and where.
type CSVError struct {
	Row    int64 // 0 is the row of column names
	Column int   // from 1; 0 if it concerns the row
	Reason string
}

func (e *CSVError) Error() string {
	if e.Column == 0 {
		return fmt.Sprintf("csv row %d: %s", e.Row, e.Reason)
	}
	return fmt.Sprintf("csv row %d, column %d: %s", e.Row, e.Column, e.Reason)
}

// A CSVWriter writes one table. It is not safe for concurrent use.
type CSVWriter struct {
	w       *bufio.Writer
	columns int
	row     int64
}

// NewCSVWriter begins a table with the row of its column names, which must be at least
// one and all different. Call [CSVWriter.Flush] at the end.
func NewCSVWriter(w io.Writer, columns []string) (*CSVWriter, error) {
	if err := checkColumns(columns); err != nil {
		return nil, err
	}
	cw := &CSVWriter{w: bufio.NewWriterSize(w, 64<<10), columns: len(columns)}
	names := make([]Cell, len(columns))
	for i, c := range columns {
		names[i].Text = c
	}
	return cw, cw.writeRow(names)
}

func checkColumns(columns []string) error {
	if len(columns) == 0 {
		return &CSVError{Reason: "a table needs a column"}
	}
	seen := make(map[string]bool, len(columns))
	for i, c := range columns {
		if seen[c] {
			return &CSVError{0, i + 1, fmt.Sprintf(`second column called "%s"`, Escape(c))}
		}
		seen[c] = true
	}
	return nil
}

// Write writes a row. It fails with a *[CSVError], and has then written nothing of it,
// if the row has not as many cells as there are columns, a text is not UTF-8, or a NULL
// has a text.
func (w *CSVWriter) Write(row []Cell) error {
	w.row++
	return w.writeRow(row)
}

func (w *CSVWriter) writeRow(row []Cell) error {
	if len(row) != w.columns {
		return &CSVError{w.row, 0, fmt.Sprintf("has %d cells, not %d", len(row), w.columns)}
	}
	for i, c := range row {
		if !utf8.ValidString(c.Text) {
			return &CSVError{w.row, i + 1, ErrNotUTF8.Error()}
		}
		if c.Null && c.Text != "" {
			return &CSVError{w.row, i + 1, "is NULL and has a text"}
		}
	}
	for i, c := range row { // a bufio.Writer keeps its first error; the last write returns it
		if i > 0 {
			w.w.WriteByte(',')
		}
		if c.Null {
			w.w.WriteString(`\N`)
			continue
		}
		w.w.WriteByte('"')
		rest := c.Text
		for {
			before, after, found := strings.Cut(rest, `"`)
			w.w.WriteString(before)
			if !found {
				break
			}
			w.w.WriteString(`""`)
			rest = after
		}
		w.w.WriteByte('"')
	}
	return w.w.WriteByte('\n')
}

// Flush writes what is buffered, and returns the first error of the underlying writer.
func (w *CSVWriter) Flush() error { return w.w.Flush() }

// A CSVReader reads one table as [CSVWriter] writes it, and refuses everything else. It
// is not safe for concurrent use.
type CSVReader struct {
	r       *bufio.Reader
	max     int
	columns []string
	row     int64
	size    int // bytes of text in the row so far
	text    []byte
	err     error // ends the table
}

// NewCSVReader reads the row of column names. A row whose texts have more than max bytes
// together is refused, and so are more than max columns; memory is bounded by that.
func NewCSVReader(r io.Reader, max int) (*CSVReader, error) {
	cr := &CSVReader{r: bufio.NewReaderSize(r, 64<<10), max: max}
	row, err := cr.readRow(nil)
	if err == io.EOF {
		err = &CSVError{Reason: "there is no row of column names"}
	}
	if err != nil {
		return nil, err
	}
	for i, c := range row {
		if c.Null {
			return nil, &CSVError{0, i + 1, "name is NULL"}
		}
		cr.columns = append(cr.columns, c.Text)
	}
	return cr, checkColumns(cr.columns)
}

// Columns returns the names of the columns.
func (r *CSVReader) Columns() []string { return r.columns }

// Read appends the cells of the next row to dst. It fails with [io.EOF] when there is
// none, with a *[CSVError] if the row is not as we write it, and with the error of the
// underlying reader; every error ends the table.
func (r *CSVReader) Read(dst []Cell) ([]Cell, error) {
	if r.err != nil {
		return dst, r.err
	}
	r.row++
	row, err := r.readRow(dst)
	if n := len(row) - len(dst); err == nil && n != len(r.columns) {
		err = r.fail(0, fmt.Sprintf("has %d cells, not %d", n, len(r.columns)))
	}
	if err != nil {
		r.err = err
		return dst, err
	}
	return row, nil
}

func (r *CSVReader) fail(column int, reason string) error {
	return &CSVError{r.row, column, reason}
}

// inside turns the end of the file inside a row into an error.
func (r *CSVReader) inside(column int, err error) error {
	if err == io.EOF {
		return r.fail(column, "file ends inside a row")
	}
	return err
}

func (r *CSVReader) readRow(dst []Cell) ([]Cell, error) {
	r.size = 0
	most := len(r.columns)
	if most == 0 {
		most = r.max
	}
	for column := 1; ; column++ {
		if column > most {
			return dst, r.fail(0, fmt.Sprintf("has more than %d cells", most))
		}
		c, err := r.r.ReadByte()
		if err == io.EOF && column == 1 {
			return dst, io.EOF
		}
		if err != nil {
			return dst, r.inside(column, err)
		}
		cell, err := r.readCell(column, c)
		if err != nil {
			return dst, err
		}
		dst = append(dst, cell)
		switch c, err = r.r.ReadByte(); {
		case err != nil:
			return dst, r.inside(column, err)
		case c == '\n':
			return dst, nil
		case c != ',':
			return dst, r.fail(column, "neither a comma nor a line end after the value")
		}
	}
}

// readCell reads the cell that begins with c.
func (r *CSVReader) readCell(column int, c byte) (Cell, error) {
	switch c {
	case '\\':
		c, err := r.r.ReadByte()
		if err != nil {
			return Cell{}, r.inside(column, err)
		}
		if c != 'N' {
			return Cell{}, r.fail(column, `only \N may stand without quotes`)
		}
		return Cell{Null: true}, nil
	case '"':
	default:
		return Cell{}, r.fail(column, "a value without quotes")
	}
	r.text = r.text[:0]
	for {
		chunk, err := r.r.ReadSlice('"')
		if r.size += len(chunk); r.size-1 > r.max {
			return Cell{}, r.fail(column, "row is too long")
		}
		r.text = append(r.text, chunk...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return Cell{}, r.inside(column, err)
		}
		next, err := r.r.Peek(1)
		if err != nil {
			return Cell{}, r.inside(column, err)
		}
		if next[0] == '"' { // a doubled quote: its first half is the end of chunk
			r.r.Discard(1)
			continue
		}
		text := r.text[:len(r.text)-1]
		r.size-- // the closing quote
		if !utf8.Valid(text) {
			return Cell{}, r.fail(column, ErrNotUTF8.Error())
		}
		return Cell{Text: string(text)}, nil
	}
}
