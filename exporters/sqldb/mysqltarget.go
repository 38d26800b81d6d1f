package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A MySQLTarget is a MySQL or MariaDB database that can be filled. Its role needs all
// privileges on that database and none beyond. It is safe for concurrent use.
type MySQLTarget struct {
	db       *sql.DB
	o        *options
	endpoint dataset.Endpoint
	dialect  dialect
	exact    string // a collation in which only equal text is equal

	state targetState
}

func openMySQLTarget(ctx context.Context, c exporters.Config) (*MySQLTarget, error) {
	o, err := parseOptions(ctx, kindMySQL, c)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	db, cfg, err := mysqlOpen(o)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	t := &MySQLTarget{db: db, o: o, dialect: mysqlDialect.with(o), endpoint: dataset.Endpoint{URL: mysqlEndpoint(o, cfg.DBName)}}
	if err := t.learn(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("mysql: %w", err)
	}
	return t, nil
}

// learn finds out what server this is and whether it holds a test.
func (t *MySQLTarget) learn(ctx context.Context) error {
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	// The server's own collations ignore case, accents or trailing spaces.
	err = c.QueryRowContext(ctx, `SELECT COLLATION_NAME FROM information_schema.COLLATIONS
		WHERE COLLATION_NAME IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin') LIMIT 1`).Scan(&t.exact)
	if err != nil {
		return fmt.Errorf("collations: %w", mysqlError(err))
	}
	l, err := mysqlReadMarker(ctx, c)
	t.state.layout = l
	return err
}

func (t *MySQLTarget) session(ctx context.Context) (*sql.Conn, error) {
	return mysqlSession(ctx, t.db, t.o)
}

func mysqlReadMarker(ctx context.Context, c *sql.Conn) (*layout, error) {
	var n int
	err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?", markerTable).Scan(&n)
	if err != nil || n == 0 {
		return nil, mysqlError(err)
	}
	var raw []byte
	if err := c.QueryRowContext(ctx, "SELECT layout FROM "+backQuoted(markerTable)).Scan(&raw); err != nil {
		return nil, fmt.Errorf("marker: %w", mysqlError(err))
	}
	return parseLayout(raw)
}

// Fidelity implements [exporters.Target].
func (t *MySQLTarget) Fidelity(s dataset.Stream) []dataset.Loss {
	_, losses := t.dialect.plan([]dataset.Stream{s})
	return losses
}

// Begin implements [exporters.Target]. The marker comes before the tables, because
// MySQL cannot undo their making.
func (t *MySQLTarget) Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error {
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var n int
	err = c.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE())
		+ (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE())`).Scan(&n)
	switch {
	case err != nil:
		return fmt.Errorf("look whether the database is empty: %w", mysqlError(err))
	case n > 0:
		return fmt.Errorf("%w: %d tables, views or routines are there", exporters.ErrNotEmpty, n)
	}
	l, _ := t.dialect.plan(all)
	if err := l.checkNative(); err != nil {
		return err
	}
	l.Test = test
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	if _, err := c.ExecContext(ctx, "CREATE TABLE "+backQuoted(markerTable)+" (test VARCHAR(64) PRIMARY KEY, layout LONGTEXT NOT NULL) CHARACTER SET utf8mb4"); err != nil {
		return fmt.Errorf("marker: %w", mysqlError(err))
	}
	if _, err := c.ExecContext(ctx, "INSERT INTO "+backQuoted(markerTable)+" VALUES (?, ?)", string(test), string(raw)); err != nil {
		return fmt.Errorf("marker: %w", mysqlError(err))
	}
	made, notes, err := mysqlNativeTables(ctx, c, l)
	if err != nil {
		return err
	}
	for _, tl := range l.Tables {
		if made[tl] {
			continue
		}
		statements, err := tl.mysqlCreate(t.exact)
		if err != nil {
			return fmt.Errorf("table of %q: %w", tl.Stream.Name, err)
		}
		for _, s := range statements {
			if _, err := c.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("table of %q: %w", tl.Stream.Name, mysqlError(err))
			}
		}
	}
	if l.native() || len(notes) > 0 {
		// Which tables are native is known by now.
		if raw, err = json.Marshal(l); err != nil {
			return fmt.Errorf("marker: %w", err)
		}
		if _, err := c.ExecContext(ctx, "UPDATE "+backQuoted(markerTable)+" SET layout = ?", string(raw)); err != nil {
			return fmt.Errorf("marker: %w", mysqlError(err))
		}
	}
	t.state.set(l, notes)
	return nil
}

// Streams implements [exporters.Exporter]: those that were loaded.
func (t *MySQLTarget) Streams(ctx context.Context) ([]dataset.Stream, error) {
	return t.state.streams(ctx)
}

// Read implements [exporters.Exporter].
func (t *MySQLTarget) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return readBack(ctx, q, t.readStream)
}

func (t *MySQLTarget) readStream(ctx context.Context, s dataset.Stream, yield func(dataset.Record, error) bool) (more bool, err error) {
	tl, err := t.state.lookup(s.Name)
	if err != nil {
		return false, err
	}
	c, err := t.session(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if tl.Document {
		rows, err := c.QueryContext(ctx, "SELECT record_key, record_ordinal, record FROM "+backQuoted(tl.Name)+" ORDER BY "+tl.documentOrder())
		if err != nil {
			return false, mysqlError(err)
		}
		return scanDocuments(rows, s.Name, yield)
	}
	if len(tl.Columns) == 0 {
		return yieldEmpty(c.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+backQuoted(tl.Name)), tl, yield)
	}
	read, err := tl.reader(mysqlDialect, backQuoted(tl.Name))
	if err != nil {
		return false, err
	}
	for i := range read.columns {
		if col := &read.columns[i]; col.form == formNumber && col.bits == 32 {
			col.expr = "(" + col.ident + " + 0e0)" // as in mysqlView.fields
		}
	}
	mt := &mysqlTable{table: *read}
	ties, err := mt.findTies(ctx, c)
	if err != nil {
		return false, err
	}
	return mysqlRead(ctx, c, mt, "", nil, ties, "", yield)
}

// Facts implements [exporters.Exporter].
func (t *MySQLTarget) Facts() dataset.Facts { return t.state.facts(t.endpoint) }

// Close implements [exporters.Exporter].
func (t *MySQLTarget) Close() error {
	t.state.mu.Lock()
	t.state.shut = true
	t.state.mu.Unlock()
	return t.db.Close()
}

// Destroy implements [exporters.Target].
func (t *MySQLTarget) Destroy(ctx context.Context, test dataset.ID) error {
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := mysqlReadMarker(ctx, c)
	if err != nil {
		return err
	}
	if l == nil || l.Test != test {
		return exporters.ErrNotOurs
	}
	if err := mysqlUndo(ctx, c); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	for _, tl := range l.Tables {
		drops := []string{"DROP TABLE IF EXISTS " + backQuoted(tl.Name)}
		if tl.View != "" {
			drops = slices.Insert(drops, 0, "DROP VIEW IF EXISTS "+backQuoted(tl.View))
		}
		for _, s := range drops {
			if _, err := c.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("destroy: %w", mysqlError(err))
			}
		}
	}
	if _, err := c.ExecContext(ctx, "DROP TABLE "+backQuoted(markerTable)); err != nil {
		return fmt.Errorf("destroy: %w", mysqlError(err))
	}
	t.state.set(nil, nil)
	return nil
}

// Query runs one read-only statement over the restored data and returns its rows as
// text, nulls as \N. It can change nothing; it fails with [exporters.ErrTemporary]
// after the time-out, and if there are more than 10,000 rows.
func (t *MySQLTarget) Query(ctx context.Context, query string, timeout time.Duration) ([][]string, error) {
	if _, err := t.state.current(); err != nil {
		return nil, err
	}
	o := *t.o
	o.timeout = max(timeout, time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, timeout+5*time.Second) // the server's own time-out comes first
	defer cancel()
	c, err := mysqlSession(ctx, t.db, &o)
	if err != nil {
		return nil, err
	}
	// The session is not used again: its time-out is for this statement.
	defer func() {
		c.Raw(func(any) error { return errBadConn })
		c.Close()
	}()
	// For the session, because DDL ends a transaction first and then looks at that.
	for _, s := range []string{"SET SESSION TRANSACTION READ ONLY", "START TRANSACTION READ ONLY"} {
		if _, err := c.ExecContext(ctx, s); err != nil {
			return nil, mysqlError(err)
		}
	}
	start := time.Now()
	rows, err := c.QueryContext(ctx, query)
	if err != nil {
		return nil, mysqlError(err)
	}
	defer rows.Close()
	answer, err := scanAnswer(rows)
	if err == nil && time.Since(start) >= timeout {
		// Functions like SLEEP answer wrongly, and without an error, when time is up.
		return nil, fmt.Errorf("%w: the statement took longer than %v", exporters.ErrTemporary, timeout)
	}
	return answer, mysqlError(err)
}

var _ exporters.Target = (*MySQLTarget)(nil)
