package sqldb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

var errClosed = errors.New("the view is closed")

// pgSession makes every session read the same text, obey no row security and find
// nothing by a search path. It is run as statements, not as start-up parameters, which
// poolers refuse.
const pgSession = `SET search_path = ''; SET row_security = off; SET client_encoding = 'UTF8';
SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'iso_8601'; SET extra_float_digits = 3;
SET bytea_output = 'hex'; SET standard_conforming_strings = on; SET idle_in_transaction_session_timeout = 0;
SET synchronous_commit = off; SET lc_monetary = 'C'; SET xmlbinary = 'base64'; SET xmloption = 'content'`

const pgBegin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// A pgView is one snapshot of a PostgreSQL database, shared by as many connections as
// are read at a time. One more connection exports the snapshot and holds an ACCESS
// SHARE lock on every table, so that none can be truncated or altered below us. Whoever
// waits to alter a table keeps others from locking it; it is then read over that one
// connection, as everything is where snapshots cannot be shared.
type pgView struct {
	dial     func(ctx context.Context) (*pgx.Conn, error)
	snapshot string // id; empty if it cannot be shared
	main     *pgx.Conn
	tables   map[string]*pgTable
	streams  []dataset.Stream
	defs     []definition
	facts    dataset.Facts
	eraser   eraser

	slots    chan struct{}  // one for each connection that may read
	mainFree chan *pgx.Conn // main, while nobody reads over it
	mu       sync.Mutex
	idle     []*pgx.Conn
	shut     bool
}

type pgTable struct {
	table
	oid     uint32
	relkind string
	denied  bool
	split   bool // its key can be compared by operators of pg_catalog
	mu      sync.Mutex
	ties    *ties  // of keyless tables, once known
	read    *table // as which it is read, once known; see guard
}

// pgConnect opens a session.
func pgConnect(ctx context.Context, cfg *pgx.ConnConfig, o *options) (*pgx.Conn, error) {
	c, err := pgx.ConnectConfig(ctx, cfg.Copy())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", pgError(err))
	}
	set := fmt.Sprintf("%s; SET lock_timeout = %d; SET statement_timeout = %d", pgSession, o.lockTimeout.Milliseconds(), o.timeout.Milliseconds())
	if _, err := c.PgConn().Exec(ctx, set).ReadAll(); err != nil {
		c.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("prepare the session: %w", pgError(err))
	}
	return c, nil
}

// openPostgres opens a view. Between the moment of a snapshot and the locks a table
// can be altered; that is noticed and all is begun again.
func openPostgres(ctx context.Context, cfg *pgx.ConnConfig, o *options) (*pgView, error) {
	dial := func(ctx context.Context) (*pgx.Conn, error) { return pgConnect(ctx, cfg, o) }
	var err error
	for range 10 {
		v := &pgView{dial: dial, slots: make(chan struct{}, o.connections), mainFree: make(chan *pgx.Conn, 1)}
		if err = v.open(ctx); err == nil {
			v.facts.Endpoints = []dataset.Endpoint{{URL: endpointURL(kindPostgres, cfg.Host, cfg.Port, cfg.Database)}}
			return v, nil
		}
		v.Close()
		if !isDDL(err) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: tables change faster than they can be locked: %w", exporters.ErrTemporary, err)
}

var errDDL = errors.New("something was altered while the view opened")

// isDDL tells errors that come of something altered or dropped after the snapshot,
// which still shows it.
func isDDL(err error) bool {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		switch pe.Code {
		case "42P01", "42703", "42704", "42883", "3F000", "XX000": // undefined table, column, object, function, schema; cache lookup failed
			return true
		}
	}
	return errors.Is(err, errDDL)
}

func (v *pgView) open(ctx context.Context) (err error) {
	if v.main, err = v.dial(ctx); err != nil {
		return err
	}
	if err := v.share(ctx); err != nil {
		return err
	}
	if err := v.position(ctx); err != nil {
		return err
	}
	cat, err := listPgTables(ctx, v.main)
	if err != nil {
		return err
	}
	oids := cat.partitions // locked with their parents
	for _, rel := range cat.relations {
		if rel.Denied {
			continue
		}
		oids = append(oids, rel.OID)
		if _, err := v.main.Exec(ctx, "LOCK TABLE "+rel.from()+" IN ACCESS SHARE MODE"); err != nil {
			var pe *pgconn.PgError
			if errors.As(err, &pe) && pe.Code == "42501" {
				err = fmt.Errorf("%w: another table has its name: %w", errDDL, err) // we might read the one we saw
			}
			return fmt.Errorf("lock %s: %w", streamName(rel.Schema, rel.Name), pgError(err))
		}
	}
	if err := v.checkLocked(ctx, oids); err != nil {
		return err
	}
	if err := cat.read(ctx, v.main); err != nil {
		return err
	}
	if v.streams, v.tables, err = cat.streams(); err != nil {
		return err
	}
	v.mainFree <- v.main
	v.defs = cat.definitions
	v.facts.Filters, v.facts.Notes = cat.filters, append(v.facts.Notes, cat.notes...)
	return nil
}

// position learns where the snapshot is.
func (v *pgView) position(ctx context.Context) error {
	var version, encoding string
	var standby bool
	err := v.main.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_encoding'), pg_is_in_recovery()`).
		Scan(&version, &encoding, &standby)
	if err != nil {
		return fmt.Errorf("server version: %w", pgError(err))
	}
	position := "SELECT pg_current_wal_lsn()::text"
	if standby {
		position = "SELECT coalesce(pg_last_wal_replay_lsn()::text, '')"
	}
	if err := v.main.QueryRow(ctx, position).Scan(&v.facts.Position); err != nil {
		return fmt.Errorf("position: %w", pgError(err))
	}
	v.facts.Versions = map[string]string{"PostgreSQL": version, "server_encoding": encoding}
	return nil
}

// share exports the snapshot. Some services forbid it; then all is read over one
// connection, in a new transaction because this one is broken.
func (v *pgView) share(ctx context.Context) error {
	if _, err := v.main.Exec(ctx, pgBegin); err != nil {
		return fmt.Errorf("begin: %w", pgError(err))
	}
	err := v.main.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&v.snapshot)
	var pe *pgconn.PgError
	if err == nil || !errors.As(err, &pe) {
		return err
	}
	if _, err := v.main.Exec(ctx, "ROLLBACK"); err != nil {
		return fmt.Errorf("export the snapshot: %w", pgError(err))
	}
	if _, err := v.main.Exec(ctx, pgBegin); err != nil {
		return fmt.Errorf("begin: %w", pgError(err))
	}
	v.facts.Notes = append(v.facts.Notes, "The server shares no snapshots; tables were read one after the other over one connection.")
	return nil
}

// checkLocked compares the catalogues as the snapshot has them with those of now,
// which the locks hold still. A difference means that a table was truncated, rewritten
// or altered before its lock, and would be read as it was never.
func (v *pgView) checkLocked(ctx context.Context, oids []uint32) error {
	const signature = `SELECT coalesce(string_agg(s, ';' ORDER BY s), '') FROM (
		SELECT concat_ws(',', c.oid, c.relname, c.relkind, c.relfilenode, c.relrowsecurity,
			(SELECT string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod, attisdropped), ',' ORDER BY attnum)
				FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)) AS s
		FROM pg_class c WHERE c.oid = ANY($1::oid[])) x`
	now, err := v.dial(ctx)
	if err != nil {
		return err
	}
	var then, current string
	if err := v.main.QueryRow(ctx, signature, oids).Scan(&then); err != nil {
		now.Close(ctx)
		return fmt.Errorf("compare catalogues: %w", pgError(err))
	}
	if err := now.QueryRow(ctx, signature, oids).Scan(&current); err != nil {
		now.Close(ctx)
		return fmt.Errorf("compare catalogues: %w", pgError(err))
	}
	if then != current {
		now.Close(ctx)
		return errDDL
	}
	if v.snapshot == "" {
		return now.Close(ctx)
	}
	if err := v.join(ctx, now); err != nil {
		return err
	}
	v.idle = append(v.idle, now)
	return nil
}

// join makes a session see the snapshot.
func (v *pgView) join(ctx context.Context, c *pgx.Conn) error {
	sql := pgBegin + "; SET TRANSACTION SNAPSHOT " + singleQuoted(v.snapshot)
	if _, err := c.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		c.Close(context.WithoutCancel(ctx))
		return fmt.Errorf("join the snapshot: %w", pgError(err))
	}
	return nil
}

// acquire returns a connection in the snapshot that holds a lock on t; give it back
// with release.
func (v *pgView) acquire(ctx context.Context, t *pgTable) (*pgx.Conn, error) {
	if v.snapshot == "" {
		return v.acquireMain(ctx)
	}
	c, err := v.acquireWorker(ctx)
	if err != nil {
		return nil, err
	}
	err = pgExec(ctx, c, "LOCK TABLE "+t.from+" IN ACCESS SHARE MODE NOWAIT")
	if err == nil {
		return c, nil
	}
	v.release(c)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "55P03" { // lock not available: somebody waits to alter the table
		return v.acquireMain(ctx)
	}
	return nil, fmt.Errorf("lock: %w", err)
}

// acquireMain waits for the connection that has held all locks from the beginning.
func (v *pgView) acquireMain(ctx context.Context) (*pgx.Conn, error) {
	select {
	case c := <-v.mainFree:
		v.mu.Lock()
		shut := v.shut
		v.mu.Unlock()
		if shut || c.IsClosed() || c.PgConn().TxStatus() != 'T' {
			v.mainFree <- c
			return nil, fmt.Errorf("%w: the view is closed, or its first connection broke", errClosed)
		}
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (v *pgView) acquireWorker(ctx context.Context) (*pgx.Conn, error) {
	select {
	case v.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	v.mu.Lock()
	shut := v.shut
	var c *pgx.Conn
	if n := len(v.idle); n > 0 && !shut {
		c, v.idle = v.idle[n-1], v.idle[:n-1]
	}
	v.mu.Unlock()
	if c != nil {
		return c, nil
	}
	err := errClosed
	if !shut {
		if c, err = v.dial(ctx); err == nil {
			err = v.join(ctx, c)
		}
	}
	if err != nil {
		<-v.slots
		return nil, err
	}
	return c, nil
}

// isMain reports whether c is the connection that must not be broken off.
func (v *pgView) isMain(c *pgx.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return c == v.main
}

// release takes a connection back. A worker that was broken off is closed, not kept.
func (v *pgView) release(c *pgx.Conn) {
	v.mu.Lock()
	if c == v.main {
		v.mu.Unlock()
		v.mainFree <- c
		return
	}
	keep := !v.shut && !c.IsClosed() && c.PgConn().TxStatus() == 'T'
	if keep {
		v.idle = append(v.idle, c)
	}
	v.mu.Unlock()
	if !keep {
		closeNow(c)
	}
	<-v.slots
}

// closeNow ends a session without waiting long for a server that may be gone.
func closeNow(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c.Close(ctx)
}

// Streams implements [exporters.Exporter].
func (v *pgView) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return slices.Clone(v.streams), nil
}

// Facts implements [exporters.Exporter].
func (v *pgView) Facts() dataset.Facts { return v.facts }

// Close implements [exporters.Exporter]. Connections that are being read are closed
// when the reading ends.
func (v *pgView) Close() error {
	v.mu.Lock()
	idle, shut := v.idle, v.shut
	v.idle, v.shut = nil, true
	v.mu.Unlock()
	for _, c := range idle {
		closeNow(c)
	}
	if !shut && v.main != nil {
		v.main.PgConn().Conn().Close() // frees the locks at once, also if a reading hangs
	}
	return v.eraser.close()
}

func (v *pgView) table(s dataset.Stream) (*pgTable, error) {
	t, ok := v.tables[s.Name]
	if !ok {
		return nil, fmt.Errorf("stream %q: %w", s.Name, fs.ErrNotExist)
	}
	return t, nil
}

// Count implements [exporters.Counter], within the snapshot.
func (v *pgView) Count(ctx context.Context, s dataset.Stream) (int64, error) {
	if s.Name == definitionsStream {
		return int64(len(v.defs)), nil
	}
	t, err := v.table(s)
	if err != nil {
		return -1, err
	}
	c, err := v.acquire(ctx, t)
	if err != nil {
		return -1, err
	}
	defer v.release(c)
	var n int64
	if err := c.QueryRow(ctx, "SELECT count(*) FROM "+t.from).Scan(&n); err != nil {
		return -1, fmt.Errorf("count %q: %w", s.Name, pgError(err))
	}
	return n, nil
}

// pgError puts the class of a PostgreSQL error in front of it where callers branch on
// it. Errors of pgx hold no password.
func pgError(err error) error {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return err
	}
	switch {
	case pe.Code[:2] == "28": // invalid authorization
		return fmt.Errorf("%w: %w", exporters.ErrCredentials, err)
	case pe.Code[:2] == "57" || pe.Code == "55P03" || pe.Code[:2] == "53" || pe.Code[:2] == "40":
		// operator intervention and time-outs, locks, resources, rollbacks
		return fmt.Errorf("%w: %w", exporters.ErrTemporary, err)
	}
	return err
}

// sortStreams sorts by name, as Streams promises.
func sortStreams(all []dataset.Stream) {
	slices.SortFunc(all, func(a, b dataset.Stream) int { return cmp.Compare(a.Name, b.Name) })
}
