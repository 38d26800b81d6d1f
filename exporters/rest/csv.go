package rest

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// csv reads rows as Python's csv.DictReader does, but a row that has more or fewer
// fields than the header is an error.
func (d *decoder) csv(r io.Reader, yield func(jinja.Value) bool) error {
	c := &csvReader{r: bufio.NewReaderSize(r, 64<<10), delimiter: d.delimiter}
	header, err := c.row()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	for i, h := range header {
		if slices.Contains(header[:i], h) {
			return fmt.Errorf("csv: the column %q is there twice", h)
		}
	}
	for {
		row, err := c.row()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(row) != len(header) {
			return fmt.Errorf("csv: row %d has %d fields, the header has %d", c.rows, len(row), len(header))
		}
		v := new(jinja.Dict)
		for i, h := range header {
			if slices.Contains(d.nulls, row[i]) {
				v.Set(h, nil)
			} else {
				v.Set(h, row[i])
			}
		}
		if !yield(v) {
			return errStopped
		}
	}
}

// A csvReader reads RFC 4180 with any delimiter and keeps every byte of a field.
type csvReader struct {
	r         *bufio.Reader
	delimiter byte
	rows      int
	size      int
}

// maxRow bounds one row.
const maxRow = 30 << 20

func (c *csvReader) next() (byte, error) {
	b, err := c.r.ReadByte()
	if c.size++; c.size > maxRow {
		return 0, fmt.Errorf("csv: row %d: %w", c.rows+1, errTooLarge)
	}
	return b, err
}

// row reads one row; empty lines are skipped. It fails with io.EOF after the last.
func (c *csvReader) row() ([]string, error) {
	c.size = 0
	var fields []string
	var field []byte
	started, quoted := false, false
	flush := func() error {
		if !utf8.Valid(field) {
			return fmt.Errorf("csv: row %d is not UTF-8", c.rows+1)
		}
		fields = append(fields, string(field))
		field, started, quoted = field[:0], false, false
		return nil
	}
	for {
		b, err := c.next()
		switch {
		case err == io.EOF && fields == nil && !started:
			return nil, io.EOF
		case err == io.EOF || err == nil && (b == '\n' || b == '\r'):
			if b == '\r' {
				if next, perr := c.r.Peek(1); perr == nil && next[0] == '\n' {
					c.r.ReadByte()
				}
			}
			if err == nil && fields == nil && !started {
				continue
			}
			if err := flush(); err != nil {
				return nil, err
			}
			c.rows++
			return fields, nil
		case err != nil:
			return nil, err
		case b == '"' && !started:
			started, quoted = true, true
			if field, err = c.quoted(field); err != nil {
				return nil, err
			}
		case b == c.delimiter:
			if err := flush(); err != nil {
				return nil, err
			}
			if fields == nil {
				fields = []string{}
			}
		default:
			if quoted {
				return nil, fmt.Errorf("csv: row %d has bytes after a closing quote", c.rows+1)
			}
			started = true
			field = append(field, b)
		}
	}
}

// quoted reads up to the closing quote.
func (c *csvReader) quoted(field []byte) ([]byte, error) {
	for {
		b, err := c.next()
		if err != nil {
			if err == io.EOF {
				err = fmt.Errorf("csv: row %d ends within quotes", c.rows+1)
			}
			return nil, err
		}
		if b == '"' {
			if next, err := c.r.Peek(1); err != nil || next[0] != '"' {
				return field, nil
			}
			c.next()
		}
		field = append(field, b)
	}
}
