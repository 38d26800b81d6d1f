package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A PostgresTarget is a PostgreSQL database that can be filled. Its role needs CREATE
// on the database and nothing more. It is safe for concurrent use.
type PostgresTarget struct {
	dial     func(ctx context.Context) (*pgx.Conn, error)
	endpoint dataset.Endpoint

	state targetState
}

// pgMarkerSchema keeps the marker apart from what is restored.
const pgMarkerSchema = "sallyport"

const pgMarker = `"` + pgMarkerSchema + `"."` + markerTable + `"`

func openPostgresTarget(ctx context.Context, c exporters.Config) (*PostgresTarget, error) {
	cfg, o, err := pgConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	t := &PostgresTarget{
		dial:     func(ctx context.Context) (*pgx.Conn, error) { return pgConnect(ctx, cfg, o) },
		endpoint: dataset.Endpoint{URL: endpointURL(kindPostgres, cfg.Host, cfg.Port, cfg.Database)},
	}
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer closeNow(conn)
	t.state.layout, err = pgReadMarker(ctx, conn)
	return t, err
}

// pgReadMarker returns the layout that the marker holds, or nil if there is no marker.
func pgReadMarker(ctx context.Context, c *pgx.Conn) (*layout, error) {
	var exists bool
	if err := c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", pgMarker).Scan(&exists); err != nil || !exists {
		return nil, pgError(err)
	}
	var raw []byte
	if err := c.QueryRow(ctx, "SELECT layout FROM "+pgMarker).Scan(&raw); err != nil {
		return nil, fmt.Errorf("marker: %w", pgError(err))
	}
	return parseLayout(raw)
}

func parseLayout(raw []byte) (*layout, error) {
	l := new(layout)
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, fmt.Errorf("marker: %w", err)
	}
	for _, t := range l.Tables {
		if !t.Document && (t.Stream.Schema == nil || len(t.Columns) != len(t.Stream.Schema.Fields)) {
			return nil, fmt.Errorf("marker: columns and fields of %q do not agree", t.Stream.Name)
		}
	}
	return l, nil
}

// pgExec runs one statement. The extended protocol takes no second one, whatever the
// text holds.
func pgExec(ctx context.Context, c *pgx.Conn, sql string) error {
	_, err := c.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close()
	return pgError(err)
}

// Fidelity implements [exporters.Target].
func (t *PostgresTarget) Fidelity(s dataset.Stream) []dataset.Loss {
	_, losses := postgresDialect.plan([]dataset.Stream{s})
	return losses
}

// Begin implements [exporters.Target].
func (t *PostgresTarget) Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer closeNow(c)
	if err := pgExec(ctx, c, "BEGIN"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := pgCheckEmpty(ctx, c); err != nil {
		return err
	}
	l, _ := postgresDialect.plan(all)
	l.Test = test
	b := &pgBuilder{c: c, l: l}
	if err := b.build(ctx); err != nil {
		return err
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("marker: %w", err)
	}
	if _, err := c.Exec(ctx, "INSERT INTO "+pgMarker+" (test, layout) VALUES ($1, $2)", string(test), string(raw)); err != nil {
		return fmt.Errorf("marker: %w", pgError(err))
	}
	if err := pgExec(ctx, c, "COMMIT"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	t.state.set(l, b.notes)
	return nil
}

// pgCheckEmpty fails if anything is in the database that initdb and extensions did not
// put there.
func pgCheckEmpty(ctx context.Context, c *pgx.Conn) error {
	var n int
	err := c.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind NOT IN ('i', 'I', 't') AND c.relpersistence <> 't' AND `+userSpace+` AND NOT `+ofExtension("pg_class", "c.oid")+`)
		+ (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE `+userSpace+` AND NOT `+ofExtension("pg_proc", "p.oid")+`)
		+ (SELECT count(*) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
			WHERE t.typtype IN ('e', 'd', 'r') AND `+userSpace+` AND NOT `+ofExtension("pg_type", "t.oid")+`)
		+ (SELECT count(*) FROM pg_namespace WHERE nspname = $1)`, pgMarkerSchema).Scan(&n)
	switch {
	case err != nil:
		return fmt.Errorf("look whether the database is empty: %w", pgError(err))
	case n > 0:
		return fmt.Errorf("%w: %d tables, types, routines or others are there", exporters.ErrNotEmpty, n)
	}
	return nil
}

// A pgBuilder makes the tables of a layout.
type pgBuilder struct {
	c     *pgx.Conn
	l     *layout
	notes []string
}

func (b *pgBuilder) build(ctx context.Context) error {
	for _, sql := range []string{
		"CREATE SCHEMA " + doubleQuoted(pgMarkerSchema),
		"CREATE TABLE " + pgMarker + " (test text PRIMARY KEY, layout text NOT NULL)",
	} {
		if err := pgExec(ctx, b.c, sql); err != nil {
			return fmt.Errorf("marker: %w", err)
		}
	}
	if err := b.types(ctx); err != nil {
		return err
	}
	for _, t := range b.l.Tables {
		if err := b.schema(ctx, t.Schema); err != nil {
			return err
		}
		sql, err := b.createTable(ctx, t)
		if err != nil {
			return fmt.Errorf("table of %q: %w", t.Stream.Name, err)
		}
		if err := pgExec(ctx, b.c, sql); err != nil {
			return fmt.Errorf("table of %q: %w", t.Stream.Name, err)
		}
		if t.View == "" {
			continue
		}
		if err := pgExec(ctx, b.c, pgDocumentView(t)); err != nil {
			return fmt.Errorf("view of %q: %w", t.Stream.Name, err)
		}
	}
	return nil
}

// schema makes a schema that is not there.
func (b *pgBuilder) schema(ctx context.Context, name string) error {
	var exists bool
	if err := b.c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", name).Scan(&exists); err != nil || exists {
		return pgError(err)
	}
	if err := checkName(name, 63, 0); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if err := pgExec(ctx, b.c, "CREATE SCHEMA "+doubleQuoted(name)); err != nil {
		return fmt.Errorf("schema %q: %w", name, err)
	}
	b.l.Schemas = append(b.l.Schemas, name)
	return nil
}

// types makes the types that the source's tables are made of. Types that need others
// are tried again after those; what cannot be made is left to columnType.
func (b *pgBuilder) types(ctx context.Context) error {
	var pending []pgType
	seen := make(map[string]bool)
	for _, t := range b.l.Tables {
		if t.Stream.Schema == nil {
			continue
		}
		for _, typ := range pgNativeOf(t.Stream.Schema).Types {
			if name := streamName(typ.Schema, typ.Name); !seen[name] {
				seen[name] = true
				pending = append(pending, typ)
			}
		}
	}
	for progress := true; progress && len(pending) > 0; {
		progress = false
		var failed []pgType
		for _, typ := range pending {
			ok, err := b.makeType(ctx, typ)
			if err != nil {
				return err
			}
			if !ok {
				failed = append(failed, typ)
				continue
			}
			b.l.Types = append(b.l.Types, typ)
			progress = true
		}
		pending = failed
	}
	return nil
}

// makeType reports whether a type could be made.
func (b *pgBuilder) makeType(ctx context.Context, typ pgType) (bool, error) {
	if err := b.schema(ctx, typ.Schema); err != nil {
		return false, err
	}
	if checkName(typ.Name, 63, 0) != nil {
		return false, nil
	}
	parts := []string{typ.Base}
	if typ.Kind == "enum" || typ.Kind == "composite" {
		parts = nil
	}
	for _, f := range typ.Fields {
		parts = append(parts, f.Type)
	}
	for _, p := range parts {
		if known, err := b.known(ctx, "to_regtype", p); err != nil || !known {
			return false, err
		}
	}
	if typ.Collation != "" {
		if known, err := b.known(ctx, "to_regcollation", typ.Collation); err != nil || !known {
			return false, err
		}
	}
	return b.try(ctx, func() error { return pgExec(ctx, b.c, typ.sql(false)) })
}

// try runs f in a savepoint and reports whether it succeeded. Only what the server
// refused is no error.
func (b *pgBuilder) try(ctx context.Context, f func() error) (bool, error) {
	if err := pgExec(ctx, b.c, "SAVEPOINT try"); err != nil {
		return false, err
	}
	err := f()
	var pe *pgconn.PgError
	if err != nil && !errors.As(err, &pe) {
		return false, err
	}
	end := "RELEASE SAVEPOINT try"
	if err != nil {
		end = "ROLLBACK TO SAVEPOINT try"
	}
	return err == nil, pgExec(ctx, b.c, end)
}

// known reports whether text is the name of a type or collation that the server knows:
// so nothing else can hide in it.
func (b *pgBuilder) known(ctx context.Context, function, text string) (bool, error) {
	var known bool
	ok, err := b.try(ctx, func() error {
		return b.c.QueryRow(ctx, "SELECT "+function+"($1) IS NOT NULL", text).Scan(&known)
	})
	return ok && known, err
}

// createTable is the statement that makes a table, without keys. A column of a type
// that the server does not know becomes text, which holds the same characters.
func (b *pgBuilder) createTable(ctx context.Context, t *tableLayout) (string, error) {
	var native pgNative
	if !t.Document {
		native = pgNativeOf(t.Stream.Schema)
	}
	defs := make([]string, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		known, err := b.known(ctx, "to_regtype", c.Type)
		if err != nil {
			return "", err
		}
		if !known {
			b.notes = append(b.notes, fmt.Sprintf("Column %q of %q is text, because this server has no type %s.", c.Name, t.Stream.Name, c.Type))
			c.Type, c.Shape, c.Form = "text", shapeText, formText
		}
		def := doubleQuoted(c.Name) + " " + c.Type
		if t.Document {
			defs[i] = def + " NOT NULL"
			continue
		}
		f := t.Stream.Schema.Fields[i]
		if collation := native.Collations[f.Name]; collation != "" && c.Own && known {
			found, err := b.known(ctx, "to_regcollation", collation)
			if err != nil {
				return "", err
			}
			if found {
				def += " COLLATE " + collation
			} else {
				b.notes = append(b.notes, fmt.Sprintf("Column %q of %q has the default collation, because this server has no %s.", c.Name, t.Stream.Name, collation))
			}
		}
		if f.Required {
			def += " NOT NULL"
		}
		if f.Identity && slices.Contains([]string{"smallint", "integer", "bigint"}, c.Type) {
			if !f.Required {
				def += " NOT NULL"
			}
			def += " GENERATED BY DEFAULT AS IDENTITY"
		}
		defs[i] = def
	}
	return "CREATE TABLE " + t.pgName() + " (" + strings.Join(defs, ", ") + ")", nil
}

func (t *tableLayout) pgName() string { return doubleQuoted(t.Schema) + "." + doubleQuoted(t.Name) }

// pgDocumentView shows the fields of a document table as columns.
func pgDocumentView(t *tableLayout) string {
	n := postgresDialect.names()
	exprs := []string{doubleQuoted(n.take("record_key")), doubleQuoted(n.take("record_ordinal"))}
	for _, f := range t.Stream.Schema.Fields {
		if strings.ContainsRune(f.Name, 0) {
			continue
		}
		exprs = append(exprs, "record ->> "+singleQuoted(f.Name)+" AS "+doubleQuoted(n.take(f.Name)))
	}
	return "CREATE VIEW " + doubleQuoted(t.Schema) + "." + doubleQuoted(t.View) + " AS SELECT " + strings.Join(exprs, ", ") + " FROM " + t.pgName()
}

// Streams implements [exporters.Exporter]: those that were loaded.
func (t *PostgresTarget) Streams(ctx context.Context) ([]dataset.Stream, error) {
	return t.state.streams(ctx)
}

// Read implements [exporters.Exporter].
func (t *PostgresTarget) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return readBack(ctx, q, t.readStream)
}

func (t *PostgresTarget) readStream(ctx context.Context, s dataset.Stream, yield func(dataset.Record, error) bool) (more bool, err error) {
	tl, err := t.state.lookup(s.Name)
	if err != nil {
		return false, err
	}
	c, err := t.dial(ctx)
	if err != nil {
		return false, err
	}
	defer closeNow(c)
	if tl.Document {
		return pgReadDocuments(ctx, c, tl, yield)
	}
	read, err := tl.reader(postgresDialect, tl.pgName())
	if err != nil {
		return false, err
	}
	pt := &pgTable{table: *read}
	ties, err := pt.findTies(ctx, c)
	if err != nil {
		return false, err
	}
	return pgCopyOut(ctx, c, &pt.table, "", ties, false, yield)
}

func pgReadDocuments(ctx context.Context, c *pgx.Conn, t *tableLayout, yield func(dataset.Record, error) bool) (more bool, err error) {
	rows, err := c.Query(ctx, "SELECT record_key, record_ordinal, record::text FROM "+t.pgName()+" ORDER BY "+t.documentOrder())
	if err != nil {
		return false, pgError(err)
	}
	defer rows.Close()
	for rows.Next() {
		var key []byte
		r := dataset.Record{Stream: t.Stream.Name}
		var data string
		if err := rows.Scan(&key, &r.Ordinal, &data); err != nil {
			return false, err
		}
		r.Key, r.Data = string(key), json.RawMessage(data)
		if !yield(r, nil) {
			return false, nil
		}
	}
	return true, pgError(rows.Err())
}

// Facts implements [exporters.Exporter].
func (t *PostgresTarget) Facts() dataset.Facts { return t.state.facts(t.endpoint) }

// Close implements [exporters.Exporter].
func (t *PostgresTarget) Close() error {
	t.state.mu.Lock()
	t.state.shut = true
	t.state.mu.Unlock()
	return nil
}

// Destroy implements [exporters.Target].
func (t *PostgresTarget) Destroy(ctx context.Context, test dataset.ID) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer closeNow(c)
	l, err := pgReadMarker(ctx, c)
	if err != nil {
		return err
	}
	if l == nil || l.Test != test {
		return exporters.ErrNotOurs
	}
	if err := pgExec(ctx, c, "BEGIN"); err != nil {
		return err
	}
	for _, sql := range l.pgDrops() {
		if err := pgExec(ctx, c, sql); err != nil {
			return fmt.Errorf("destroy: %w", err)
		}
	}
	if err := pgExec(ctx, c, "COMMIT"); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	t.state.set(nil, nil)
	return nil
}

// pgDrops are the statements that remove a layout. They drop nothing that depends on
// it: what somebody else built upon it makes them fail.
func (l *layout) pgDrops() []string {
	var all, tables []string
	for _, t := range l.Tables {
		if t.View != "" {
			all = append(all, "DROP VIEW IF EXISTS "+doubleQuoted(t.Schema)+"."+doubleQuoted(t.View))
		}
		tables = append(tables, t.pgName())
	}
	if len(tables) > 0 {
		all = append(all, "DROP TABLE IF EXISTS "+strings.Join(tables, ", "))
	}
	for _, typ := range slices.Backward(l.Types) {
		what := "TYPE"
		if typ.Kind == "domain" {
			what = "DOMAIN"
		}
		all = append(all, "DROP "+what+" IF EXISTS "+doubleQuoted(typ.Schema)+"."+doubleQuoted(typ.Name))
	}
	for _, s := range l.Schemas {
		all = append(all, "DROP SCHEMA IF EXISTS "+doubleQuoted(s))
	}
	return append(all, "DROP TABLE "+pgMarker, "DROP SCHEMA "+doubleQuoted(pgMarkerSchema))
}

// maxAnswer bounds the answer to an acceptance check, in rows.
const maxAnswer = 10_000

// Query runs one read-only statement over the restored data and returns its rows as
// text, nulls as \N. Unqualified names are looked for in public and in the schemas
// that the restore made. It can change nothing; it fails with [exporters.ErrTemporary]
// after the time-out, and if there are more than 10,000 rows.
func (t *PostgresTarget) Query(ctx context.Context, sql string, timeout time.Duration) ([][]string, error) {
	l, err := t.state.current()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout+5*time.Second) // the server's own time-out comes first
	defer cancel()
	c, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer closeNow(c)
	path := []string{"public"}
	for _, tl := range l.Tables {
		if !slices.Contains(path, tl.Schema) {
			path = append(path, tl.Schema)
		}
	}
	for _, s := range []string{
		fmt.Sprintf("SET statement_timeout = %d", max(1, timeout.Milliseconds())),
		"SET search_path = " + quoteAll(doubleQuoted, path),
		"BEGIN READ ONLY",
	} {
		if err := pgExec(ctx, c, s); err != nil {
			return nil, err
		}
	}
	res := c.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil)
	var rows [][]string
	for res.NextRow() {
		if len(rows) == maxAnswer {
			return nil, fmt.Errorf("the answer has more than %d rows", maxAnswer)
		}
		row := make([]string, len(res.Values()))
		for i, v := range res.Values() {
			if row[i] = string(v); v == nil {
				row[i] = `\N`
			}
		}
		rows = append(rows, row)
	}
	if _, err := res.Close(); err != nil {
		return nil, pgError(err)
	}
	return rows, nil
}

var _ exporters.Target = (*PostgresTarget)(nil)
