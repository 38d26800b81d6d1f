package sqldb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/big"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

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

// mysqlOpen returns a handle to a server. Connections that leave the host are
// encrypted and the server's name is verified.
func mysqlOpen(o *options) (*sql.DB, *mysql.Config, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = o.address.User.Username(), o.password
	cfg.DBName = strings.TrimPrefix(o.address.Path, "/")
	if err := checkName(cfg.DBName, 0, 64); err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	cfg.MaxAllowedPacket = 0 // ask the server
	cfg.Logger = &mysql.NopLogger{}
	host, port := o.address.Hostname(), o.address.Port()
	if socket := o.address.Query().Get("socket"); socket != "" {
		cfg.Net, cfg.Addr = "unix", socket
	} else {
		if port == "" {
			port = "3306"
		}
		cfg.Net, cfg.Addr = "tcp", net.JoinHostPort(host, port)
		if !isLocal(host) {
			roots, err := certificates(o.ca)
			if err != nil {
				return nil, nil, err
			}
			cfg.TLS = &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("address: %w", err)
	}
	return sql.OpenDB(c), cfg, nil
}

func certificates(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // those of the system
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca: %s holds no certificate", file)
	}
	return pool, nil
}

// mysqlSession opens a session whose statements mean the same everywhere: strict, in
// UTC, with a backslash that is a backslash.
func mysqlSession(ctx context.Context, db *sql.DB, o *options) (*sql.Conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", mysqlError(err))
	}
	seconds := max(1, int(o.lockTimeout.Seconds()))
	for _, s := range []string{
		"SET NAMES utf8mb4",
		"SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION,ALLOW_INVALID_DATES', time_zone = '+00:00', " +
			"net_write_timeout = 86400, net_read_timeout = 86400, wait_timeout = 86400, foreign_key_checks = 0, unique_checks = 1, sql_safe_updates = 0",
		fmt.Sprintf("SET SESSION lock_wait_timeout = %d, innodb_lock_wait_timeout = %d", seconds, seconds),
		"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
	} {
		if _, err := c.ExecContext(ctx, s); err != nil {
			c.Close()
			return nil, fmt.Errorf("prepare the session: %w", mysqlError(err))
		}
	}
	if o.timeout > 0 {
		// MariaDB and MySQL call it differently; one of the two must work.
		_, err := c.ExecContext(ctx, "SET SESSION max_statement_time = "+strconv.FormatFloat(o.timeout.Seconds(), 'f', 3, 64))
		if err != nil {
			_, err = c.ExecContext(ctx, fmt.Sprintf("SET SESSION max_execution_time = %d", o.timeout.Milliseconds()))
		}
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("set the time-out: %w", mysqlError(err))
		}
	}
	return c, nil
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

func mysqlEndpoint(o *options, database string) string {
	port, err := strconv.ParseUint(o.address.Port(), 10, 16)
	if err != nil {
		port = 3306 // url.Parse lets only digits pass
	}
	return endpointURL(kindMySQL, o.address.Hostname(), uint16(port), database)
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
	return v.db.Close()
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

// grace is how long a statement may go on when its context has ended.
const grace = 5 * time.Second

// graceful returns a context that ends some time after ctx. The driver closes a
// session whose context ends, and a session cannot join a snapshot again; rows that
// are not wanted are therefore read to their end if that is near.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	graced, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-graced.Done():
		}
	})
	return graced, func() {
		stop()
		cancel()
	}
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
	list := t.selectList()
	if ties.any() {
		list += ", " + t.rowHash() + " AS h"
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
	more, err = scanRows(ctx, rows, &t.table, ties, true, yield)
	return more, mysqlError(err)
}

// Split implements [exporters.Splitter] for keys that begin with an integer, of which
// it cuts the span evenly.
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

// mysqlError puts the class of an error in front of it where callers branch on it.
func mysqlError(err error) error {
	var me *mysql.MySQLError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &me):
		switch me.Number {
		case 1044, 1045, 1698: // access denied
			return fmt.Errorf("%w: %w", exporters.ErrCredentials, err)
		case 1040, 1205, 1213, 1317, 1412, 1969, 3024: // connections, locks, interruption, DDL, time-outs
			return fmt.Errorf("%w: %w", exporters.ErrTemporary, err)
		}
	case errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, errBadConn):
		return fmt.Errorf("%w: connection lost: %w", exporters.ErrTemporary, err)
	}
	return err
}

// mysqlDenied makes a gap of a refusal to read one table.
func mysqlDenied(stream string, err error) error {
	var me *mysql.MySQLError
	if errors.As(err, &me) && (me.Number == 1142 || me.Number == 1143) {
		return &dataset.Gap{Stream: stream, Code: dataset.Denied, Detail: me.Message}
	}
	return mysqlError(err)
}
