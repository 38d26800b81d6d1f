package sqldb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/dataset"
)

const (
	// pgBatch is how many bytes of rows go into one COPY: many enough that its start and
	// end cost nothing, few enough to find a row that the server refuses.
	pgBatch = 1 << 20

	// pgLoaders is the most connections that fill one table: what one goroutine makes of
	// records keeps no more of them busy.
	pgLoaders = 4
)

// A copyBatch is rows in COPY's text format.
type copyBatch struct {
	data []byte
	ends []int    // of the rows in data
	keys []string // of the same, for gaps
	ords []int
}

// Load implements [exporters.Target]. While the server takes some batches the next is
// made.
func (t *PostgresTarget) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	tl, err := t.state.lookup(s.Name)
	if err != nil {
		return err
	}
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	l := &pgLoader{t: tl, gap: t.state.counted(gap), full: make(chan *copyBatch), free: make(chan *copyBatch, t.loaders+1)}
	for range cap(l.free) {
		l.free <- new(copyBatch)
	}
	start := func(c *pgx.Conn) {
		g.Go(func() error {
			defer closeNow(c)
			return l.send(ctx, c)
		})
	}
	start(c)
	for range t.loaders - 1 {
		l.more = append(l.more, func() {
			// One more is a help, and no need: servers limit their connections.
			if c, err := t.connect(ctx); err == nil {
				start(c)
			}
		})
	}
	err = l.fill(ctx, recs)
	close(l.full)
	if werr := g.Wait(); werr != nil {
		err = werr
	}
	if err != nil {
		return fmt.Errorf("load %q: %w", s.Name, err)
	}
	return nil
}

// A pgLoader fills one table: one goroutine makes batches of records and others send
// them, each over its own connection.
type pgLoader struct {
	t          *tableLayout
	gap        func(dataset.Gap)
	full, free chan *copyBatch
	more       []func() // each starts one more sender
}

// send copies full batches until there are no more.
func (l *pgLoader) send(ctx context.Context, c *pgx.Conn) error {
	for b := range l.full {
		if err := l.copy(ctx, c, b, 0, len(b.ends)); err != nil {
			return err
		}
		b.data, b.ends, b.keys, b.ords = b.data[:0], b.ends[:0], b.keys[:0], b.ords[:0]
		l.free <- b
	}
	return nil
}

// fill turns records into batches.
func (l *pgLoader) fill(ctx context.Context, recs iter.Seq2[dataset.Record, error]) error {
	rr, err := newRowReader(l.t)
	if err != nil {
		return err
	}
	var b *copyBatch
	for r, err := range recs {
		if err != nil {
			return err
		}
		if b == nil {
			select {
			case b = <-l.free:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l.add(b, rr, r)
		if len(b.data) >= pgBatch {
			if err := l.hand(ctx, b); err != nil {
				return err
			}
			b = nil
		}
	}
	if b != nil && len(b.ends) > 0 {
		return l.hand(ctx, b)
	}
	return ctx.Err()
}

// hand gives a batch to a sender, and starts one more if all are busy.
func (l *pgLoader) hand(ctx context.Context, b *copyBatch) error {
	select {
	case l.full <- b:
		return nil
	default:
	}
	if len(l.more) > 0 {
		l.more[0]()
		l.more = l.more[1:]
	}
	select {
	case l.full <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add appends a record to a batch, or reports why not.
func (l *pgLoader) add(b *copyBatch, rr *rowReader, r dataset.Record) {
	data, err := l.appendRow(b.data, rr, r)
	if err != nil {
		l.gap(gapOf(r, dataset.Unsupported, err.Error()))
		return
	}
	b.data = append(data, '\n')
	b.ends = append(b.ends, len(b.data))
	b.keys, b.ords = append(b.keys, r.Key), append(b.ords, r.Ordinal)
}

func (l *pgLoader) appendRow(dst []byte, rr *rowReader, r dataset.Record) ([]byte, error) {
	switch {
	case r.Gap != nil:
		return dst, fmt.Errorf("it is a gap in the archive: %s", r.Gap.Code)
	case r.Blob != nil:
		return dst, cannot("an object")
	case l.t.Document:
		dst = fmt.Appendf(dst, `\\x%x`+"\t%d\t", r.Key, r.Ordinal)
		return appendCopyCell(dst, r.Data), nil
	}
	cells, err := rr.read(r.Data)
	if err != nil {
		return dst, err
	}
	first := true
	for i := range l.t.Columns {
		if l.t.Columns[i].Computed {
			continue
		}
		if !first {
			dst = append(dst, '\t')
		}
		first = false
		if dst, err = l.t.Columns[i].pgAppend(dst, cells[i]); err != nil {
			return dst, fmt.Errorf("column %q: %w", l.t.Columns[i].Name, err)
		}
	}
	return dst, nil
}

// copy sends the rows from lo up to hi. If the server refuses one, halves find it.
func (l *pgLoader) copy(ctx context.Context, c *pgx.Conn, b *copyBatch, lo, hi int) error {
	if lo == hi {
		return nil
	}
	start := 0
	if lo > 0 {
		start = b.ends[lo-1]
	}
	sql := "COPY " + l.t.pgName() + " (" + strings.Join(l.t.storedNames(doubleQuoted), ", ") + ") FROM STDIN"
	if len(l.t.Columns) == 0 {
		sql = "COPY " + l.t.pgName() + " FROM STDIN"
	}
	_, err := c.PgConn().CopyFrom(ctx, bytes.NewReader(b.data[start:b.ends[hi-1]]), sql)
	if err == nil {
		return nil
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || !refusesValue(pe.Code) {
		return pgError(err)
	}
	if hi-lo == 1 {
		r := dataset.Record{Stream: l.t.Stream.Name, Key: b.keys[lo], Ordinal: b.ords[lo]}
		l.gap(gapOf(r, dataset.Unsupported, "the server refuses it: "+pe.Message))
		return nil
	}
	middle := (lo + hi) / 2
	if err := l.copy(ctx, c, b, lo, middle); err != nil {
		return err
	}
	return l.copy(ctx, c, b, middle, hi)
}

// refusesValue tells errors about a value from those about the server: data
// exceptions, integrity violations, limits of a row.
func refusesValue(code string) bool {
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "54") || code == "0A000"
}
