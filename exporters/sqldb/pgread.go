package sqldb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Read implements [exporters.Exporter].
func (v *pgView) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, s := range q.Streams {
			more, err := v.readStream(ctx, s, q, yield)
			if err != nil {
				yield(dataset.Record{}, fmt.Errorf("read %q: %w", s.Name, err))
			}
			if !more || err != nil {
				return
			}
		}
	}
}

func (v *pgView) readStream(ctx context.Context, s dataset.Stream, q exporters.Query, yield func(dataset.Record, error) bool) (more bool, err error) {
	if q.After != "" {
		return false, errors.New("a cursor, which this exporter does not make")
	}
	if s.Name == definitionsStream {
		return v.readDefinitions(ctx, yield)
	}
	t, err := v.table(s)
	if err != nil {
		return false, err
	}
	if t.denied {
		return false, &dataset.Gap{Stream: s.Name, Code: dataset.Denied, Detail: "the role may not select from the table"}
	}
	c, err := v.acquire(ctx, t)
	if err != nil {
		return false, err
	}
	defer v.release(c)
	where, err := t.condition(q.Range)
	if err != nil {
		return false, err
	}
	ties, err := t.findTies(ctx, c)
	if err != nil {
		return false, err
	}
	stopped := false
	if v.isMain(c) {
		// Breaking a COPY off costs the connection, and this one holds the locks.
		give := yield
		yield = func(r dataset.Record, err error) bool {
			stopped = stopped || !give(r, err) // rows after that are thrown away
			return true
		}
	}
	read, err := t.guard(ctx, c)
	if err != nil {
		return false, err
	}
	more, err = pgCopyOut(ctx, c, read, where, ties, yield)
	return more && !stopped, err
}

func (v *pgView) readDefinitions(ctx context.Context, yield func(dataset.Record, error) bool) (bool, error) {
	v.mu.Lock()
	shut := v.shut
	v.mu.Unlock()
	if shut {
		return false, errClosed
	}
	return yieldDefinitions(ctx, kindPostgres, v.defs, yield)
}

// rowHash is equal for equal rows.
const rowHash = "hashtextextended((t.*)::text, 0)"

// pgCopyOut reads rows as COPY writes them and yields a record for each. more is false
// if the caller wants no more.
func pgCopyOut(ctx context.Context, c *pgx.Conn, t *table, where string, ties *ties, yield func(dataset.Record, error) bool) (more bool, err error) {
	list := t.selectList()
	if ties.any() {
		list = strings.TrimPrefix(list+", "+rowHash, ", ")
	}
	if t.size != "" {
		list += ", " + t.size
	}
	sql := "SELECT " + list + " FROM " + t.from + " AS t" + where
	switch {
	case len(t.key) > 0:
		order := make([]string, len(t.key))
		for i, k := range t.key {
			order[i] = "t." + t.columns[k].ident
		}
		sql += " ORDER BY " + strings.Join(order, ", ")
	case ties.many():
		sql += " ORDER BY " + rowHash
	}
	w := &copyReader{b: newBuilder(t, ties.counter()), ties: ties, yield: yield}
	if _, err := c.PgConn().CopyTo(ctx, w, "COPY ("+sql+") TO STDOUT"); err != nil {
		if errors.Is(err, errEnough) {
			return false, nil
		}
		return false, pgDenied(t.stream.Name, pgError(err))
	}
	if len(w.rest) > 0 {
		return false, errors.New("COPY ended within a row")
	}
	return true, nil
}

// errEnough breaks a COPY off.
var errEnough = errors.New("no more records wanted")

// A copyReader turns the text format of COPY into records.
// https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
type copyReader struct {
	b     *builder
	ties  *ties
	yield func(dataset.Record, error) bool
	rest  []byte // of a row that is not complete
}

// Write takes whole rows, as the server sends them, and copes with pieces.
func (w *copyReader) Write(p []byte) (int, error) {
	n := len(p)
	if len(w.rest) > 0 {
		w.rest = append(w.rest, p...)
		p = w.rest
	}
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			break
		}
		r, err := w.row(p[:end])
		if err != nil {
			return 0, err
		}
		if !w.yield(r, nil) {
			return 0, errEnough
		}
		p = p[end+1:]
	}
	w.rest = append(w.rest[:0], p...)
	return n, nil
}

func (w *copyReader) row(line []byte) (dataset.Record, error) {
	b := w.b
	b.begin()
	tie := ""
	for i := range b.t.columns {
		var cell []byte
		tab := bytes.IndexByte(line, '\t')
		switch {
		case tab >= 0:
			cell, line = line[:tab], line[tab+1:]
		case i < len(b.t.columns)-1 || w.ties.any() || b.t.size != "":
			return dataset.Record{}, fmt.Errorf("row ends after column %d", i+1)
		default:
			cell, line = line, nil
		}
		w.cell(cell)
	}
	if b.t.size != "" {
		i := bytes.LastIndexByte(line, '\t')
		size, err := strconv.ParseInt(string(line[i+1:]), 10, 64)
		if err != nil {
			return dataset.Record{}, fmt.Errorf("size of a row: %w", err)
		}
		b.size, line = size, line[:max(i, 0)]
	}
	if w.ties.any() {
		tie = w.ties.of(line)
	} else if len(line) > 0 {
		return dataset.Record{}, errors.New("row has more columns than expected")
	}
	return b.finish(tie)
}

func (w *copyReader) cell(cell []byte) {
	b := w.b
	if len(cell) == 2 && cell[0] == '\\' && cell[1] == 'N' {
		b.null()
		return
	}
	c := &b.t.columns[b.next]
	switch {
	case c.form == formText && utf8.Valid(cell):
		b.open()
		b.data = appendCopyText(b.data, cell)
		b.close()
	case c.form == formHex && len(cell) > 0:
		b.text(cell[1:]) // the backslash comes doubled
	case bytes.IndexByte(cell, '\\') >= 0:
		b.text(unescapeCopy(cell))
	default:
		b.text(cell)
	}
}

// copyEscapes are the letters that COPY writes behind a backslash.
var copyEscapes = [256]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\'}

func unescapeCopy(cell []byte) []byte {
	out := make([]byte, 0, len(cell))
	for i := 0; i < len(cell); i++ {
		c := cell[i]
		if c == '\\' && i+1 < len(cell) {
			i++
			if c = copyEscapes[cell[i]]; c == 0 {
				c = cell[i]
			}
		}
		out = append(out, c)
	}
	return out
}

// plainInCopy marks the bytes that COPY text and JSON strings both hold as they are.
var plainInCopy = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

// appendCopyText appends a text cell as a JSON string, in one pass from COPY's
// escapes to those of JSON. The cell must be UTF-8.
func appendCopyText(dst, cell []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(cell); i++ {
		c := cell[i]
		if plainInCopy[c] {
			continue
		}
		dst = append(dst, cell[start:i]...)
		if c == '\\' && i+1 < len(cell) {
			i++
			if c = copyEscapes[cell[i]]; c == 0 {
				c = cell[i]
			}
		}
		start = i + 1
		dst = appendEscape(dst, c)
	}
	return append(append(dst, cell[start:]...), '"')
}

// appendEscape appends one byte of ASCII to the inside of a JSON string, as
// [dataset.Quote] does.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\t':
		return append(dst, '\\', 't')
	case '\r':
		return append(dst, '\\', 'r')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	}
	if c < ' ' {
		const hex = "0123456789abcdef"
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
	return append(dst, c)
}
