package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"regexp"
	"slices"
	"strings"
	"sync"
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
	exact    string // a collation in which only equal text is equal

	state targetState
}

// targetState is what targets know between calls.
type targetState struct {
	mu     sync.Mutex
	layout *layout // nil before Begin
	notes  []string
	gaps   bool // a record was not loaded
	shut   bool
}

func (s *targetState) set(l *layout, notes []string) {
	s.mu.Lock()
	s.layout, s.notes, s.gaps = l, notes, false
	s.mu.Unlock()
}

// current returns the layout, or an error before Begin and after Close.
func (s *targetState) current() (*layout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.shut:
		return nil, errClosed
	case s.layout == nil:
		return nil, exporters.ErrNotOurs
	}
	return s.layout, nil
}

func (s *targetState) lookup(stream string) (*tableLayout, error) {
	l, err := s.current()
	if err != nil {
		return nil, err
	}
	t := l.table(stream)
	if t == nil {
		return nil, fmt.Errorf("stream %q: %w", stream, fs.ErrNotExist)
	}
	return t, nil
}

func (s *targetState) streams(ctx context.Context) ([]dataset.Stream, error) {
	l, err := s.current()
	if errors.Is(err, exporters.ErrNotOurs) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.streams(), ctx.Err()
}

func (s *targetState) facts(e dataset.Endpoint) dataset.Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return dataset.Facts{Endpoints: []dataset.Endpoint{e}, Notes: slices.Clone(s.notes)}
}

// counted returns gap, and remembers that it was called.
func (s *targetState) counted(gap func(dataset.Gap)) func(dataset.Gap) {
	return func(g dataset.Gap) {
		s.mu.Lock()
		s.gaps = true
		s.mu.Unlock()
		gap(g)
	}
}

// unmet decides what a foreign key that does not hold means: where records are
// missing, which were reported as gaps, it is a note; else an error.
func (s *targetState) unmet(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gaps {
		return err
	}
	s.notes = append(s.notes, fmt.Sprintf("A key does not hold, as records are missing: %v.", err))
	return nil
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
	t := &MySQLTarget{db: db, o: o, endpoint: dataset.Endpoint{URL: mysqlEndpoint(o, cfg.DBName)}}
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
	_, losses := mysqlDialect.plan([]dataset.Stream{s})
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
	l, _ := mysqlDialect.plan(all)
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
	for _, tl := range l.Tables {
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
	t.state.set(l, nil)
	return nil
}

var (
	// mysqlType is what may stand as a type in a statement; in quotes, the members of
	// ENUM and SET.
	mysqlType      = regexp.MustCompile(`^(?i)[a-z0-9]+( precision)?(\(\s*(\d+(\s*,\s*\d+)?|'([^']|'')*'(,'([^']|'')*')*)\s*\))?( unsigned)?( zerofill)?$`)
	mysqlCollation = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// mysqlCreate are the statements that make a table with its primary key, by which
// InnoDB stores it.
func (t *tableLayout) mysqlCreate(exact string) ([]string, error) {
	name := backQuoted(t.Name)
	end := ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE "
	if t.Document {
		all := []string{"CREATE TABLE " + name + " (record_key LONGBLOB NOT NULL, record_ordinal BIGINT NOT NULL, record LONGTEXT NOT NULL" + end + exact}
		if t.View != "" {
			all = append(all, t.mysqlDocumentView())
		}
		return all, nil
	}
	s := t.Stream.Schema
	native := mysqlNative{Collation: exact}
	if a, _ := attributesOf(t.Stream); a.Kind == kindMySQL && s.Native != nil {
		if err := json.Unmarshal(s.Native, &native); err != nil {
			return nil, fmt.Errorf("native schema: %w", err)
		}
	}
	if !mysqlCollation.MatchString(native.Collation) {
		native.Collation = exact
	}
	var parts []string
	for i, c := range t.Columns {
		if !mysqlType.MatchString(c.Type) {
			return nil, fmt.Errorf("column %q has the type %q, which is none of MySQL", c.Name, c.Type)
		}
		f := s.Fields[i]
		part := backQuoted(c.Name) + " " + c.Type
		if own := native.Collations[f.Name]; c.Own && mysqlCollation.MatchString(own) {
			part += " COLLATE " + own
		}
		if f.Required || t.Keyed && slices.Contains(s.PrimaryKey, f.Name) {
			part += " NOT NULL"
		} else {
			part += " NULL" // said, because time stamps are otherwise not
		}
		if f.Identity && t.Keyed && s.PrimaryKey[0] == f.Name && strings.Contains(strings.ToLower(c.Type), "int") {
			part += " AUTO_INCREMENT"
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		parts = []string{"`no columns` INT"} // MySQL has no table without
	}
	if t.Keyed {
		parts = append(parts, "PRIMARY KEY ("+strings.Join(t.key(backQuoted), ", ")+")")
	}
	return []string{"CREATE TABLE " + name + " (" + strings.Join(parts, ", ") + end + native.Collation}, nil
}

// mysqlDocumentView shows the plain fields of a document table as columns.
func (t *tableLayout) mysqlDocumentView() string {
	n := mysqlDialect.names()
	exprs := []string{backQuoted(n.take("record_key")), backQuoted(n.take("record_ordinal"))}
	for _, f := range t.Stream.Schema.Fields {
		if strings.ContainsAny(f.Name, "\x00\"\\") {
			continue // no JSON path can name it
		}
		exprs = append(exprs, "JSON_VALUE(record, "+singleQuoted(`$."`+f.Name+`"`)+") AS "+backQuoted(n.take(f.Name)))
	}
	return "CREATE VIEW " + backQuoted(t.View) + " AS SELECT " + strings.Join(exprs, ", ") + " FROM " + backQuoted(t.Name)
}

// Streams implements [exporters.Exporter]: those that were loaded.
func (t *MySQLTarget) Streams(ctx context.Context) ([]dataset.Stream, error) {
	return t.state.streams(ctx)
}

// Read implements [exporters.Exporter].
func (t *MySQLTarget) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return readBack(ctx, q, t.readStream)
}

// readBack yields the records of the streams of q, each by read.
func readBack(ctx context.Context, q exporters.Query, read func(ctx context.Context, s dataset.Stream, yield func(dataset.Record, error) bool) (bool, error)) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, s := range q.Streams {
			more, err := false, error(nil)
			if q.After != "" || q.Range != (dataset.Range{}) {
				err = errors.New("a cursor or range, which a target does not make")
			} else {
				more, err = read(ctx, s, yield)
			}
			if err != nil {
				yield(dataset.Record{}, fmt.Errorf("read %q back: %w", s.Name, err))
			}
			if !more || err != nil {
				return
			}
		}
	}
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

// yieldEmpty yields as many records without fields as the row counts.
func yieldEmpty(row *sql.Row, t *tableLayout, yield func(dataset.Record, error) bool) (more bool, err error) {
	var n int
	if err := row.Scan(&n); err != nil {
		return false, err
	}
	key := dataset.KeylessKey([]byte("{}"))
	for i := range n {
		if !yield(dataset.Record{Stream: t.Stream.Name, Key: key, Ordinal: i, Data: json.RawMessage("{}")}, nil) {
			return false, nil
		}
	}
	return true, nil
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
