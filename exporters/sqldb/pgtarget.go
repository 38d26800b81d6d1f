package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/retry"
)

// A PostgresTarget is a PostgreSQL database that can be filled. Its role needs CREATE
// on the database and nothing more. It is safe for concurrent use.
type PostgresTarget struct {
	connect  func(ctx context.Context) (*pgx.Conn, error)
	endpoint dataset.Endpoint
	dialect  dialect
	loaders  int // connections that fill one table at a time

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
		connect:  func(ctx context.Context) (*pgx.Conn, error) { return pgConnect(ctx, cfg, o) },
		dialect:  postgresDialect.with(o),
		loaders:  min(o.connections, pgLoaders),
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

// dial opens a session. Where the server limits their number, one that was closed a moment
// ago still counts: then it is tried again for a while.
func (t *PostgresTarget) dial(ctx context.Context) (c *pgx.Conn, err error) {
	tooMany := func(err error) retry.Verdict {
		var pe *pgconn.PgError
		return retry.Verdict{Again: errors.As(err, &pe) && pe.Code == "53300"}
	}
	err = retry.Do(ctx, retry.Policy{Tries: 20, Total: 10 * time.Second, Min: 50 * time.Millisecond, Max: time.Second}, tooMany, func(ctx context.Context) (err error) {
		c, err = t.connect(ctx)
		return err
	})
	return c, err
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
	_, losses := t.dialect.plan([]dataset.Stream{s})
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
	l, _ := t.dialect.plan(all)
	if err := l.checkNative(); err != nil {
		return err
	}
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

// AnyOrder implements [exporters.Unordered]: tables are heaps, and their indexes come
// last.
func (t *PostgresTarget) AnyOrder(dataset.Stream) bool { return true }

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
	from := tl.pgName()
	if tl.Native && pgNativeOf(tl.Stream.Schema).PartitionBy == "" {
		from = "ONLY " + from // heirs are streams of their own
	}
	read, err := tl.reader(postgresDialect, from)
	if err != nil {
		return false, err
	}
	pt := &pgTable{table: *read}
	ties, err := pt.findTies(ctx, c)
	if err != nil {
		return false, err
	}
	return pgCopyOut(ctx, c, &pt.table, "", ties, yield)
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
	if err := pgDestroy(ctx, c, l); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	if err := pgExec(ctx, c, "COMMIT"); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	t.state.set(nil, nil)
	return nil
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

var (
	_ exporters.Target    = (*PostgresTarget)(nil)
	_ exporters.Unordered = (*PostgresTarget)(nil)
)
