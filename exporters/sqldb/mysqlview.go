package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/big"
	"slices"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A mysqlView is a set of sessions in one snapshot. Where the role may, they begin
// under a short global read lock; else there is one session. A session more holds a
// metadata lock on every table, so that none is altered meanwhile.
type mysqlView struct {
	db      *sql.DB
	o       *options
	holder  *sql.Conn
	pool    chan *sql.Conn // nil stands for a session that broke
	tables  map[string]*mysqlTable
	streams []dataset.Stream
	defs    []definition
	facts   dataset.Facts
	eraser  eraser

	mu   sync.Mutex
	shut bool
	all  []*sql.Conn
}

type mysqlTable struct {
	table
	split bool // its key begins with an integer
	mu    sync.Mutex
	ties  *ties
}

func openMySQL(ctx context.Context, c exporters.Config) (_ *mysqlView, err error) {
	o, err := parseOptions(ctx, kindMySQL, c)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	v := new(mysqlView)
	var cfg *mysql.Config
	if v.db, cfg, err = mysqlOpen(o); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	v.o = o
	if err := v.snapshot(ctx, o); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	v.facts.Endpoints = []dataset.Endpoint{{URL: mysqlEndpoint(o, cfg.DBName)}}
	return v, nil
}

const mysqlBegin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"

// snapshot begins all sessions at one moment, reads the catalogue and pins the tables.
func (v *mysqlView) snapshot(ctx context.Context, o *options) (err error) {
	if v.holder, err = v.session(ctx, o); err != nil {
		return err
	}
	readers := o.connections
	lock, err := v.session(ctx, o)
	if err != nil {
		return err
	}
	defer v.drop(lock)
	_, err = lock.ExecContext(ctx, "FLUSH TABLES WITH READ LOCK")
	var me *mysql.MySQLError
	switch {
	case err == nil:
	case errors.As(err, &me) && (me.Number == 1227 || me.Number == 1044 || me.Number == 1045 || me.Number == 1290):
		readers = 0
		v.facts.Notes = append(v.facts.Notes, "The role may not take a global read lock; tables were read one after the other in one transaction.")
	default:
		return fmt.Errorf("take the read lock: %w", mysqlError(err))
	}
	v.pool = make(chan *sql.Conn, max(1, readers))
	members := []*sql.Conn{v.holder}
	for range readers {
		c, err := v.session(ctx, o)
		if err != nil {
			return err
		}
		members = append(members, c)
		v.pool <- c
	}
	if readers == 0 {
		v.pool <- v.holder
	}
	for _, c := range members {
		if _, err := c.ExecContext(ctx, mysqlBegin); err != nil {
			return fmt.Errorf("begin: %w", mysqlError(err))
		}
	}
	if err := v.readCatalog(ctx); err != nil {
		return err
	}
	if _, err := lock.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
		return fmt.Errorf("release the read lock: %w", mysqlError(err))
	}
	return nil
}

func (v *mysqlView) session(ctx context.Context, o *options) (*sql.Conn, error) {
	c, err := mysqlSession(ctx, v.db, o)
	if err == nil {
		v.all = append(v.all, c)
	}
	return c, err
}

// drop ends a session for good; the pool of database/sql must not keep its locks.
func (v *mysqlView) drop(c *sql.Conn) {
	c.Raw(func(any) error { return errBadConn })
	c.Close()
}

// Streams implements [exporters.Exporter].
func (v *mysqlView) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(v.streams), nil
}

// Facts implements [exporters.Exporter].
func (v *mysqlView) Facts() dataset.Facts { return v.facts }

// Close implements [exporters.Exporter].
func (v *mysqlView) Close() error {
	v.mu.Lock()
	shut := v.shut
	v.shut = true
	v.mu.Unlock()
	if shut {
		return nil
	}
	for _, c := range v.all {
		c.Close() // says only that it was closed before
	}
	return errors.Join(v.eraser.close(), v.db.Close())
}

func (v *mysqlView) table(s dataset.Stream) (*mysqlTable, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut {
		return nil, errClosed
	}
	t, ok := v.tables[s.Name]
	if !ok {
		return nil, fmt.Errorf("stream %q: %w", s.Name, fs.ErrNotExist)
	}
	return t, nil
}

func (v *mysqlView) acquire(ctx context.Context) (*sql.Conn, error) {
	select {
	case c := <-v.pool:
		if c == nil {
			v.pool <- nil
			return nil, fmt.Errorf("%w: a session of the snapshot broke", exporters.ErrTemporary)
		}
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// release takes a session back, unless it broke: then its snapshot is gone.
func (v *mysqlView) release(c *sql.Conn) {
	if err := c.PingContext(context.Background()); err != nil {
		c = nil
	}
	v.pool <- c
}

// Read implements [exporters.Exporter].
func (v *mysqlView) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
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

func (v *mysqlView) readStream(ctx context.Context, s dataset.Stream, q exporters.Query, yield func(dataset.Record, error) bool) (more bool, err error) {
	if q.After != "" {
		return false, errors.New("a cursor, which this exporter does not make")
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	t, err := v.table(s)
	if err != nil {
		return false, err
	}
	if t.from == "" {
		return yieldDefinitions(ctx, kindMySQL, v.defs, yield)
	}
	where, err := t.condition(q.Range)
	if err != nil {
		return false, err
	}
	c, err := v.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer v.release(c)
	query, stop := graceful(ctx)
	defer stop()
	ties, err := t.findTies(query, c)
	if err != nil {
		return false, err
	}
	return mysqlRead(ctx, c, t, where, nil, ties, "", yield)
}

// rowHash is equal for equal rows. HEX rounds numbers, which only makes it equal for
// more.
func (t *mysqlTable) rowHash() string {
	parts := make([]string, len(t.columns))
	for i, c := range t.columns {
		parts[i] = "IFNULL(HEX(" + c.expr + "), 'n')"
	}
	return "COALESCE(SHA2(CONCAT_WS(',', " + strings.Join(parts, ", ") + "), 256), '')"
}

func (t *mysqlTable) findTies(ctx context.Context, c *sql.Conn) (*ties, error) {
	if !t.stream.Keyless {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ties != nil {
		return t.ties, nil
	}
	rows, err := c.QueryContext(ctx, fmt.Sprintf("SELECT %s AS h FROM %s AS t GROUP BY h HAVING COUNT(*) > 1 LIMIT %d", t.rowHash(), t.from, maxTies+1))
	if err != nil {
		return nil, fmt.Errorf("look for equal rows: %w", mysqlDenied(t.stream.Name, err))
	}
	defer rows.Close()
	var hashes []string
	for rows.Next() {
		var h string
		if err := rows.Scan(&h); err != nil {
			return nil, fmt.Errorf("look for equal rows: %w", err)
		}
		hashes = append(hashes, h)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for equal rows: %w", mysqlError(err))
	}
	t.ties = newTies(hashes)
	return t.ties, nil
}

// mysqlRead yields the rows that fulfil where, over the text protocol if there are no
// arguments. lock is put behind the statement.
func mysqlRead(ctx context.Context, c *sql.Conn, t *mysqlTable, where string, args []any, ties *ties, lock string, yield func(dataset.Record, error) bool) (more bool, err error) {
	read := &t.table
	if lock == "" {
		read = read.mysqlGuard()
	}
	list := read.selectList()
	if ties.any() {
		list += ", " + t.rowHash() + " AS h"
	}
	if read.size != "" {
		list += ", " + read.size
	}
	query := "SELECT " + list + " FROM " + t.from + " AS t" + where
	switch {
	case len(t.key) > 0:
		order := make([]string, len(t.key))
		for i, k := range t.key {
			order[i] = t.columns[k].ident
		}
		query += " ORDER BY t." + strings.Join(order, ", t.")
	case ties.many():
		query += " ORDER BY h"
	}
	graced, stop := graceful(ctx)
	defer stop()
	rows, err := c.QueryContext(graced, query+lock, args...)
	if err != nil {
		return false, mysqlDenied(t.stream.Name, err)
	}
	defer rows.Close()
	more, err = scanRows(ctx, rows, read, ties, true, yield)
	return more, mysqlError(err)
}

// Split implements [exporters.Splitter] for keys that begin with an integer, of which
// it cuts the span evenly. Keys of other types are read in one range, beside the other
// tables. Any value would cut them exactly, for a comparison with a column follows the
// column's collation in both ranges; but no value is known that cuts them evenly: InnoDB
// samples nothing without reading it, and halfway between the least and the greatest text
// means nothing in a collation.
func (v *mysqlView) Split(ctx context.Context, s dataset.Stream, n int) ([]dataset.Range, error) {
	whole := []dataset.Range{{}}
	t, err := v.table(s)
	if err != nil {
		return nil, err
	}
	if !t.split || n < 2 {
		return whole, nil
	}
	c, err := v.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer v.release(c)
	first := t.columns[t.key[0]].ident
	var low, high sql.NullString
	if err := c.QueryRowContext(ctx, "SELECT MIN("+first+"), MAX("+first+") FROM "+t.from).Scan(&low, &high); err != nil {
		return nil, fmt.Errorf("split %q: %w", s.Name, mysqlDenied(s.Name, err))
	}
	a, ok1 := new(big.Int).SetString(low.String, 10)
	z, ok2 := new(big.Int).SetString(high.String, 10)
	if !ok1 || !ok2 {
		return whole, nil // an empty table
	}
	span := new(big.Int).Sub(z, a)
	if span.Cmp(big.NewInt(int64(n))) < 0 {
		return whole, nil
	}
	var bounds []string
	for i := 1; i < n; i++ {
		b := new(big.Int).Mul(span, big.NewInt(int64(i)))
		bounds = append(bounds, b.Div(b, big.NewInt(int64(n))).Add(b, a).String())
	}
	return between(bounds), nil
}

// condition is the WHERE clause of a range that Split made: of the first key column.
func (t *mysqlTable) condition(r dataset.Range) (string, error) {
	var terms []string
	for _, end := range []struct{ op, bound string }{{">", r.After}, {"<=", r.UpTo}} {
		if end.bound == "" {
			continue
		}
		b, ok := new(big.Int).SetString(end.bound, 10)
		if !ok || !t.split {
			return "", fmt.Errorf("malformed range %q", end.bound)
		}
		terms = append(terms, "t."+t.columns[t.key[0]].ident+" "+end.op+" "+b.String())
	}
	if terms == nil {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), nil
}

// Count implements [exporters.Counter], within the snapshot.
func (v *mysqlView) Count(ctx context.Context, s dataset.Stream) (int64, error) {
	t, err := v.table(s)
	if err != nil {
		return -1, err
	}
	if t.from == "" {
		return int64(len(v.defs)), nil
	}
	c, err := v.acquire(ctx)
	if err != nil {
		return -1, err
	}
	defer v.release(c)
	var n int64
	if err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.from).Scan(&n); err != nil {
		return -1, fmt.Errorf("count %q: %w", s.Name, mysqlDenied(s.Name, err))
	}
	return n, nil
}
