package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A SQLiteTarget is a SQLite file that can be filled: the embedded target of an exit
// test. It is safe for concurrent use; loads take turns.
type SQLiteTarget struct {
	db      *sql.DB
	path    string
	dialect dialect

	load  sync.Mutex // SQLite has one writer
	state targetState
}

func openSQLiteTarget(ctx context.Context, c exporters.Config) (*SQLiteTarget, error) {
	o, err := parseOptions(ctx, kindSQLite, c)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	path, err := sqlitePath(o.address)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	// Made here, because SQLite would let others read it.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	t := &SQLiteTarget{path: path, dialect: sqliteDialect.with(o)}
	if t.db, err = sqliteOpen(path, "rw", o); err != nil {
		return nil, err
	}
	if t.state.layout, err = t.readMarker(ctx); err != nil {
		t.db.Close()
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return t, nil
}

func (t *SQLiteTarget) readMarker(ctx context.Context) (*layout, error) {
	var n int
	if err := t.db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", markerTable).Scan(&n); err != nil || n == 0 {
		return nil, err
	}
	var raw []byte
	if err := t.db.QueryRowContext(ctx, "SELECT layout FROM "+doubleQuoted(markerTable)).Scan(&raw); err != nil {
		return nil, fmt.Errorf("marker: %w", err)
	}
	return parseLayout(raw)
}

// Fidelity implements [exporters.Target].
func (t *SQLiteTarget) Fidelity(s dataset.Stream) []dataset.Loss {
	_, losses := t.dialect.plan([]dataset.Stream{s})
	return losses
}

// Begin implements [exporters.Target].
func (t *SQLiteTarget) Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error {
	t.load.Lock()
	defer t.load.Unlock()
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'`).Scan(&n); err != nil {
		return fmt.Errorf("look whether the file is empty: %w", err)
	}
	if n > 0 {
		return fmt.Errorf("%w: %d tables, views or others are there", exporters.ErrNotEmpty, n)
	}
	l, _ := t.dialect.plan(all)
	if err := l.checkNative(); err != nil {
		return err
	}
	l.Test = test
	notes, err := sqliteNativeTables(ctx, tx, l)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE "+doubleQuoted(markerTable)+" (test TEXT PRIMARY KEY NOT NULL, layout TEXT NOT NULL)"); err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+doubleQuoted(markerTable)+" VALUES (?, ?)", string(test), string(raw)); err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	for _, tl := range l.Tables {
		if tl.Native {
			continue // it is there
		}
		statements, err := tl.sqliteCreate(l)
		if err != nil {
			return fmt.Errorf("table of %q: %w", tl.Stream.Name, err)
		}
		for _, s := range statements {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("table of %q: %w", tl.Stream.Name, err)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	t.state.set(l, notes)
	return nil
}

// Load implements [exporters.Target], in one transaction.
func (t *SQLiteTarget) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	tl, err := t.state.lookup(s.Name)
	if err != nil {
		return err
	}
	rr, err := newRowReader(tl)
	if err != nil {
		return fmt.Errorf("load %q: %w", s.Name, err)
	}
	gap = t.state.counted(gap)
	t.load.Lock()
	defer t.load.Unlock()
	// Without a context that can end: the driver would start a goroutine a row.
	quiet := context.WithoutCancel(ctx)
	tx, err := t.db.BeginTx(quiet, nil)
	if err != nil {
		return fmt.Errorf("load %q: %w", s.Name, err)
	}
	defer tx.Rollback()
	stored := tl.storedNames(doubleQuoted)
	insert := "INSERT INTO " + doubleQuoted(tl.Name)
	if len(stored) > 0 {
		insert += " (" + strings.Join(stored, ", ") + ")"
	}
	insert += " VALUES (?" + strings.Repeat(", ?", max(0, len(stored)-1)) + ")"
	stmt, err := tx.PrepareContext(quiet, insert)
	if err != nil {
		return fmt.Errorf("load %q: %w", s.Name, err)
	}
	defer stmt.Close()
	values := make([]any, max(1, len(stored)))
	for r, err := range recs {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("load %q: %w", s.Name, err)
		}
		if err := tl.sqliteRow(rr, r, values); err != nil {
			gap(gapOf(r, dataset.Unsupported, err.Error()))
			continue
		}
		if _, err := stmt.ExecContext(quiet, values...); err != nil {
			if !sqliteRefusesValue(err) {
				return fmt.Errorf("load %q: %w", s.Name, err)
			}
			gap(gapOf(r, dataset.Unsupported, "the database refuses it: "+err.Error()))
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("load %q: %w", s.Name, err)
	}
	return nil
}

// sqliteRefusesValue tells errors about a value from those about the file.
func sqliteRefusesValue(err error) bool {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return false
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}

// Finish implements [exporters.Target]: it makes indexes and checks foreign keys. It
// goes on after a failure and reports all.
func (t *SQLiteTarget) Finish(ctx context.Context) error {
	l, err := t.state.current()
	if err != nil {
		return err
	}
	t.load.Lock()
	defer t.load.Unlock()
	var errs []error
	n := sqliteDialect.names()
	for _, tl := range l.Tables {
		n.take(tl.Name)
		n.take(tl.View)
	}
	for _, tl := range l.Tables {
		for _, s := range tl.sqliteIndexes(n) {
			if _, err := t.db.ExecContext(ctx, s); err != nil {
				errs = append(errs, fmt.Errorf("index of %s: %w", tl.Stream.Name, err))
			}
		}
	}
	errs = append(errs, t.checkForeignKeys(ctx)...)
	errs = append(errs, t.restoreDefinitions(ctx, l)...)
	if _, err := t.db.ExecContext(ctx, "ANALYZE"); err != nil {
		errs = append(errs, fmt.Errorf("analyze: %w", err))
	}
	if len(errs) > 0 {
		return fmt.Errorf("finish: %w", errors.Join(errs...))
	}
	return nil
}

// checkForeignKeys names tables with rows that refer to none.
func (t *SQLiteTarget) checkForeignKeys(ctx context.Context) []error {
	rows, err := t.db.QueryContext(ctx, `SELECT "table", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2`)
	if err != nil {
		return []error{fmt.Errorf("check foreign keys: %w", err)}
	}
	defer rows.Close()
	var errs []error
	for rows.Next() {
		var table, parent string
		var n int64
		if err := rows.Scan(&table, &parent, &n); err != nil {
			return append(errs, fmt.Errorf("check foreign keys: %w", err))
		}
		if err := t.state.unmet(fmt.Errorf("foreign key: %d rows of %q refer to no row of %q", n, table, parent)); err != nil {
			errs = append(errs, err)
		}
	}
	if err := rows.Err(); err != nil {
		errs = append(errs, fmt.Errorf("check foreign keys: %w", err))
	}
	return errs
}

// Streams implements [exporters.Exporter]: those that were loaded.
func (t *SQLiteTarget) Streams(ctx context.Context) ([]dataset.Stream, error) {
	return t.state.streams(ctx)
}

// Read implements [exporters.Exporter].
func (t *SQLiteTarget) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return readBack(ctx, q, t.readStream)
}

func (t *SQLiteTarget) readStream(ctx context.Context, s dataset.Stream, yield func(dataset.Record, error) bool) (more bool, err error) {
	tl, err := t.state.lookup(s.Name)
	if err != nil {
		return false, err
	}
	c, err := t.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if tl.Document {
		rows, err := c.QueryContext(ctx, "SELECT record_key, record_ordinal, record FROM "+doubleQuoted(tl.Name)+" ORDER BY "+tl.documentOrder())
		if err != nil {
			return false, err
		}
		return scanDocuments(rows, s.Name, yield)
	}
	if len(tl.Columns) == 0 {
		return yieldEmpty(c.QueryRowContext(ctx, "SELECT count(*) FROM "+doubleQuoted(tl.Name)), tl, yield)
	}
	read, err := tl.reader(sqliteDialect, doubleQuoted(tl.Name))
	if err != nil {
		return false, err
	}
	st := &sqliteTable{table: *read}
	if len(read.key) > 0 {
		st.order = "t." + strings.Join(tl.key(doubleQuoted), ", t.")
	}
	ties, err := st.findTies(ctx, c)
	if err != nil {
		return false, err
	}
	return st.read(ctx, c, "", nil, ties, yield)
}

// scanDocuments yields the records of a document table, and closes rows.
func scanDocuments(rows *sql.Rows, stream string, yield func(dataset.Record, error) bool) (more bool, err error) {
	defer rows.Close()
	for rows.Next() {
		var key, data []byte
		r := dataset.Record{Stream: stream}
		if err := rows.Scan(&key, &r.Ordinal, &data); err != nil {
			return false, err
		}
		r.Key, r.Data = string(key), data
		if !yield(r, nil) {
			return false, nil
		}
	}
	return true, rows.Err()
}

// Facts implements [exporters.Exporter].
func (t *SQLiteTarget) Facts() dataset.Facts {
	return t.state.facts(dataset.Endpoint{URL: "sqlite:"})
}

// Close implements [exporters.Exporter].
func (t *SQLiteTarget) Close() error {
	t.state.mu.Lock()
	t.state.shut = true
	t.state.mu.Unlock()
	return t.db.Close()
}

// Destroy implements [exporters.Target]. Afterwards the file holds none of the data.
func (t *SQLiteTarget) Destroy(ctx context.Context, test dataset.ID) error {
	t.load.Lock()
	defer t.load.Unlock()
	l, err := t.readMarker(ctx)
	if err != nil {
		return err
	}
	if l == nil || l.Test != test {
		return exporters.ErrNotOurs
	}
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	defer tx.Rollback()
	if err := sqliteUndo(ctx, tx); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	for _, tl := range slices.Backward(l.Tables) {
		drops := []string{"DROP TABLE IF EXISTS " + doubleQuoted(tl.Name)}
		if tl.View != "" {
			drops = slices.Insert(drops, 0, "DROP VIEW IF EXISTS "+doubleQuoted(tl.View))
		}
		for _, s := range drops {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("destroy: %w", err)
			}
		}
	}
	if _, err := tx.ExecContext(ctx, "DROP TABLE "+doubleQuoted(markerTable)); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	t.state.set(nil, nil)
	if _, err := t.db.ExecContext(ctx, "VACUUM"); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	return nil
}

// Query runs one read-only statement over the restored data and returns its rows as
// text, nulls as \N. It can neither change anything nor open another file; it fails
// with [exporters.ErrTemporary] after the time-out, and if there are more than 10,000
// rows.
func (t *SQLiteTarget) Query(ctx context.Context, query string, timeout time.Duration) ([][]string, error) {
	if _, err := t.state.current(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	db, err := sqliteOpen(t.path, "ro", &options{lockTimeout: timeout})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := sqlite.Limit(c, sqlite3.SQLITE_LIMIT_ATTACHED, 0); err != nil {
		return nil, fmt.Errorf("limit: %w", err)
	}
	rows, err := c.QueryContext(ctx, query)
	if err == nil {
		defer rows.Close()
		var answer [][]string
		if answer, err = scanAnswer(rows); err == nil {
			return answer, nil
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", exporters.ErrTemporary, ctx.Err())
	}
	return nil, err
}

// scanAnswer returns all rows as text, nulls as \N.
func scanAnswer(rows *sql.Rows) ([][]string, error) {
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, pointers := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		pointers[i] = &values[i]
	}
	var answer [][]string
	for rows.Next() {
		if len(answer) == maxAnswer {
			return nil, fmt.Errorf("the answer has more than %d rows", maxAnswer)
		}
		if err := rows.Scan(pointers...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, v := range values {
			if row[i] = v.String; !v.Valid {
				row[i] = `\N`
			}
		}
		answer = append(answer, row)
	}
	return answer, rows.Err()
}

var _ exporters.Target = (*SQLiteTarget)(nil)
