package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"slices"
	"strings"
	"sync"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A sqliteView is one read transaction of a SQLite file. Reads share its only
// connection and may overlap.
type sqliteView struct {
	path    string
	o       *options
	db      *sql.DB
	conn    *sql.Conn
	streams []dataset.Stream
	tables  map[string]*sqliteTable
	defs    []definition
	facts   dataset.Facts
	eraser  eraser

	mu    sync.Mutex
	shut  bool
	ended bool // the read transaction: a deletion was asked for
}

type sqliteTable struct {
	table
	readAs *table // once known; see guard
	order  string // expressions of the order in which rows are read, or empty
	mu     sync.Mutex
	ties   *ties
}

// sqlitePath is the file that an address names.
func sqlitePath(u *url.URL) (string, error) {
	path := u.Path
	if u.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return "", errors.New("malformed path")
		}
	}
	if path == "" || u.Host != "" || strings.ContainsRune(path, 0) {
		return "", errors.New("want sqlite:/path/to/file.db")
	}
	return path, nil
}

// sqliteOpen opens a file. Mode is ro, rw or rwc.
func sqliteOpen(path, mode string, o *options) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", o.lockTimeout.Milliseconds()), "trusted_schema(0)", "cell_size_check(1)"}}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return db, nil
}

func openSQLite(ctx context.Context, c exporters.Config) (_ *sqliteView, err error) {
	o, err := parseOptions(ctx, kindSQLite, c)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	path, err := sqlitePath(o.address)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	v := &sqliteView{path: path, o: o}
	if v.db, err = sqliteOpen(path, "ro", o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	if v.conn, err = v.db.Conn(ctx); err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	if _, err := v.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return nil, fmt.Errorf("sqlite: begin: %w", err)
	}
	var version, encoding, schema string
	// The first read is what takes the snapshot.
	if err := v.conn.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM sqlite_schema), sqlite_version()").Scan(&schema, &version); err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	if err := v.conn.QueryRowContext(ctx, "SELECT encoding, schema_version FROM pragma_encoding, pragma_schema_version").Scan(&encoding, &schema); err != nil {
		return nil, fmt.Errorf("sqlite: open: %w", err)
	}
	v.facts = dataset.Facts{
		Position:  "schema version " + schema,
		Versions:  map[string]string{"SQLite": version, "encoding": encoding},
		Endpoints: []dataset.Endpoint{{URL: "sqlite:"}},
	}
	if err := v.readCatalog(ctx); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return v, nil
}

// Streams implements [exporters.Exporter].
func (v *sqliteView) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(v.streams), nil
}

// Facts implements [exporters.Exporter].
func (v *sqliteView) Facts() dataset.Facts { return v.facts }

// Close implements [exporters.Exporter].
func (v *sqliteView) Close() error {
	v.mu.Lock()
	shut := v.shut
	v.shut = true
	v.mu.Unlock()
	if shut {
		return nil
	}
	errs := []error{v.eraser.close()}
	if v.conn != nil {
		errs = append(errs, v.conn.Close())
	}
	return errors.Join(append(errs, v.db.Close())...)
}

func (v *sqliteView) table(s dataset.Stream) (*sqliteTable, error) {
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

// Read implements [exporters.Exporter].
func (v *sqliteView) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
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

func (v *sqliteView) readStream(ctx context.Context, s dataset.Stream, q exporters.Query, yield func(dataset.Record, error) bool) (more bool, err error) {
	if q.After != "" || q.Range != (dataset.Range{}) {
		return false, errors.New("a cursor or range, which this exporter does not make")
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	t, err := v.table(s)
	if err != nil {
		return false, err
	}
	if s.Name == definitionsStream && t.from == "" {
		return yieldDefinitions(ctx, kindSQLite, v.defs, yield)
	}
	ties, err := t.findTies(ctx, v.conn)
	if err != nil {
		return false, err
	}
	return t.read(ctx, v.conn, "", nil, ties, yield)
}

// rowHash is equal for equal rows: all of the row as SQL literals.
func (t *sqliteTable) rowHash() string {
	parts := make([]string, len(t.columns))
	for i, c := range t.columns {
		parts[i] = "quote(t." + c.expr + ")"
	}
	return strings.Join(parts, " || ',' || ")
}

// findTies learns once which rows of a keyless table have equals.
func (t *sqliteTable) findTies(ctx context.Context, c *sql.Conn) (*ties, error) {
	if !t.stream.Keyless {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ties != nil {
		return t.ties, nil
	}
	rows, err := c.QueryContext(context.WithoutCancel(ctx), fmt.Sprintf(
		"SELECT h FROM (SELECT %s AS h FROM %s AS t) GROUP BY h HAVING count(*) > 1 LIMIT %d", t.rowHash(), t.from, maxTies+1))
	if err != nil {
		return nil, fmt.Errorf("look for equal rows: %w", err)
	}
	defer rows.Close()
	var hashes []string
	size := 0
	for rows.Next() {
		var h string
		if err := rows.Scan(&h); err != nil {
			return nil, fmt.Errorf("look for equal rows: %w", err)
		}
		if size += len(h); size > 64<<20 {
			hashes = make([]string, maxTies+1) // too much to keep
			break
		}
		hashes = append(hashes, h)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for equal rows: %w", err)
	}
	t.ties = newTies(hashes)
	return t.ties, nil
}

// read yields the rows that fulfil where. The driver interrupts all of a connection's
// statements when one context ends, so ctx is looked at between rows instead.
func (t *sqliteTable) read(ctx context.Context, c *sql.Conn, where string, args []any, ties *ties, yield func(dataset.Record, error) bool) (more bool, err error) {
	read, err := t.guard(ctx, c)
	if err != nil {
		return false, err
	}
	list := make([]string, len(read.columns))
	for i, col := range read.columns {
		if list[i] = col.expr; col.expr != col.ident {
			continue // guarded
		}
		list[i] = "+t." + col.expr // the plus hides the declared type, by which the driver would parse dates
	}
	order := t.order
	if ties.any() {
		list = append(list, t.rowHash())
	}
	if ties.many() {
		order = t.rowHash()
	}
	if read.size != "" {
		list = append(list, read.size)
	}
	if order != "" {
		order = " ORDER BY " + order
	}
	query := "SELECT " + strings.Join(list, ", ") + " FROM " + t.from + " AS t" + where + order
	rows, err := c.QueryContext(context.WithoutCancel(ctx), query, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	return scanRows(ctx, rows, read, ties, false, yield)
}

// Count implements [exporters.Counter], within the transaction.
func (v *sqliteView) Count(ctx context.Context, s dataset.Stream) (int64, error) {
	t, err := v.table(s)
	if err != nil {
		return -1, err
	}
	if t.from == "" {
		return int64(len(v.defs)), nil
	}
	var n int64
	if err := v.conn.QueryRowContext(context.WithoutCancel(ctx), "SELECT count(*) FROM "+t.from).Scan(&n); err != nil {
		return -1, fmt.Errorf("count %q: %w", s.Name, err)
	}
	return n, nil
}
