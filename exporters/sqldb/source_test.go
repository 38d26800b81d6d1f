package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/fixtures/sqlservers"
)

// stream returns a stream of x by name.
func stream(t testing.TB, x exporters.Exporter, name string) dataset.Stream {
	t.Helper()
	all, err := x.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no stream %q", name)
	return dataset.Stream{}
}

// records reads a stream, in as many ranges as it is split into, and returns copies.
func records(t testing.TB, x exporters.Exporter, name string, ranges int) []dataset.Record {
	t.Helper()
	s := stream(t, x, name)
	parts, err := exporters.Ranges(t.Context(), x, s, ranges)
	if err != nil {
		t.Fatal(err)
	}
	var all []dataset.Record
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, part := range parts {
		wg.Go(func() {
			for r, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}, Range: part}) {
				if err != nil {
					t.Error(err)
					return
				}
				r.Data = append([]byte(nil), r.Data...)
				mu.Lock()
				all = append(all, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// balance sums the field "balance" of records.
func balance(t testing.TB, recs []dataset.Record) (sum int64) {
	t.Helper()
	for _, r := range recs {
		raw, _ := dataset.Lookup(r.Data, "balance")
		n, err := strconv.ParseInt(strings.Trim(string(raw), `"`), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

const accounts = "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, filler varchar(250))"

// TestTransfersDuringAnExportDoNotChangeTheSum moves money between accounts all the
// time: each view, read in parallel ranges, must see all of it and no more.
func TestTransfersDuringAnExportDoNotChangeTheSum(t *testing.T) {
	t.Parallel()
	const n, each = 2000, 1000
	fill := func(rows string) string {
		return accounts + "; INSERT INTO accounts SELECT g, 1000, '" + strings.Repeat("x", 200) + "' FROM " + rows
	}
	mariadb := func(t *testing.T, grants ...string) (exporters.Kind, string, *sql.DB) {
		url, db := mysqlDatabase(t, fill("(SELECT seq AS g FROM seq_1_to_2000) s"), grants...)
		return MySQL, url, db
	}
	for name, start := range map[string]func(t *testing.T) (exporters.Kind, string, func(string) error){
		"postgres": func(t *testing.T) (exporters.Kind, string, func(string) error) {
			url, admin := pgDatabase(t, fill("generate_series(1, 2000) g"))
			return Postgres, url, func(q string) error {
				_, err := admin.PgConn().Exec(context.Background(), q).ReadAll()
				return err
			}
		},
		"mariadb with a read lock": func(t *testing.T) (exporters.Kind, string, func(string) error) {
			k, url, db := mariadb(t, "RELOAD ON *.*")
			return k, url, func(q string) error { _, err := db.Exec(q); return err }
		},
		"mariadb without": func(t *testing.T) (exporters.Kind, string, func(string) error) {
			k, url, db := mariadb(t)
			return k, url, func(q string) error { _, err := db.Exec(q); return err }
		},
		"sqlite": func(t *testing.T) (exporters.Kind, string, func(string) error) {
			url := sqliteDatabase(t, "PRAGMA journal_mode = wal; WITH RECURSIVE c(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM c WHERE g < 2000) "+
				"SELECT 1; "+accounts+"; INSERT INTO accounts WITH RECURSIVE c(g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM c WHERE g < 2000) SELECT g, 1000, '' FROM c")
			u := strings.TrimPrefix(url, "sqlite://")
			db, err := sql.Open("sqlite", "file:"+u+"?_pragma=busy_timeout(5000)")
			if err != nil {
				t.Fatal(err)
			}
			db.SetMaxOpenConns(1)
			t.Cleanup(func() { db.Close() })
			return SQLite, url, func(q string) error { _, err := db.Exec(q); return err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kind, url, exec := start(t)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			moved := make(chan struct{}) // one for each transfer that somebody waits for
			wg.Go(func() {
				defer close(moved)
				for i := 0; ctx.Err() == nil; i++ {
					q := fmt.Sprintf("BEGIN; UPDATE accounts SET balance = balance - 7 WHERE id = %d; UPDATE accounts SET balance = balance + 7 WHERE id = %d; COMMIT", i%n+1, (i*31+5)%n+1)
					if err := exec(q); err != nil {
						t.Errorf("transfer: %v", err)
						return
					}
					select {
					case moved <- struct{}{}:
					default:
					}
				}
			})
			for range 3 {
				x := open(t, kind, url)
				for range 3 {
					if _, ok := <-moved; !ok {
						t.Fatal("the transfers ended")
					}
				}
				name := "accounts"
				if kind.Name == kindPostgres {
					name = "public.accounts"
				}
				recs := records(t, x, name, 4)
				if got := balance(t, recs); len(recs) != n || got != n*each {
					t.Errorf("%d accounts hold %d; want %d, %d", len(recs), got, n, n*each)
				}
				x.Close()
			}
		})
	}
}

// TestDDLWhileAViewOpensIsNoticed truncates and refills a table in one transaction
// again and again. TRUNCATE is not transactional for older snapshots: whoever took
// his before and locks the table after sees an empty one.
func TestDDLWhileAViewOpensIsNoticed(t *testing.T) {
	t.Parallel()
	url, _ := pgDatabase(t, "CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g; ALTER TABLE t ADD PRIMARY KEY (id)")
	admin := pgConn(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			pgRun(t, admin, "BEGIN; TRUNCATE public.t; INSERT INTO public.t SELECT generate_series(1, 100); COMMIT",
				"BEGIN; ALTER TABLE public.t RENAME TO old; CREATE TABLE public.t AS SELECT * FROM public.old; ALTER TABLE public.t ADD PRIMARY KEY (id); DROP TABLE public.old; COMMIT")
			time.Sleep(time.Millisecond)
		}
	})
	for range 8 {
		x, err := Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url}})
		if errors.Is(err, exporters.ErrTemporary) {
			continue
		}
		if err != nil {
			t.Error(err)
			break
		}
		if n := len(records(t, x, "public.t", 1)); n != 100 {
			t.Errorf("a view saw %d rows; want 100", n)
		}
		x.Close()
	}
	cancel()
	wg.Wait()
}

// TestATableSwappedForAViewIsNotReadThroughIt puts a view in the place of a table and the
// table back, again and again. Whoever reads by a name that he looked up before would run
// what the view's owner wrote (CVE-2024-7348).
func TestATableSwappedForAViewIsNotReadThroughIt(t *testing.T) {
	t.Parallel()
	url, _ := pgDatabase(t, `CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g; ALTER TABLE t ADD PRIMARY KEY (id);
		CREATE FUNCTION trap() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the trap was sprung'; END $$`)
	owner := pgConn(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			pgRun(t, owner, "BEGIN; ALTER TABLE public.t RENAME TO old; CREATE VIEW public.t AS SELECT id + public.trap() AS id FROM public.old; COMMIT",
				"BEGIN; DROP VIEW public.t; ALTER TABLE public.old RENAME TO t; COMMIT")
			time.Sleep(time.Millisecond)
		}
	})
	defer wg.Wait()
	defer cancel()
	for range 8 {
		x, err := Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url}})
		if errors.Is(err, exporters.ErrTemporary) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		streams, err := x.Streams(t.Context())
		if err != nil {
			t.Error(err)
		}
		for _, s := range streams {
			if s.Name == definitionsStream {
				continue
			}
			if n, err := drain(t.Context(), x, s.Name); n != 100 || err != nil {
				t.Errorf("%d rows of %q, %v; want 100", n, s.Name, err)
			}
		}
		x.Close()
	}
}

func TestTablesCannotBeAlteredWhileAViewIsOpen(t *testing.T) {
	t.Parallel()
	url, admin := pgDatabase(t, "CREATE TABLE t (id integer PRIMARY KEY)")
	x := open(t, Postgres, url)
	if _, err := admin.PgConn().Exec(t.Context(), "SET lock_timeout = 50; ALTER TABLE public.t DROP COLUMN id").ReadAll(); err == nil {
		t.Error("a table was altered below the view")
	}
	x.Close()
	pgRun(t, admin, "ALTER TABLE public.t DROP COLUMN id")

	murl, db := mysqlDatabase(t, "CREATE TABLE t (id int PRIMARY KEY)")
	m := open(t, MySQL, murl)
	if _, err := db.Exec("SET STATEMENT lock_wait_timeout = 1 FOR ALTER TABLE t ADD COLUMN c int"); err == nil {
		t.Error("a table was altered below the view")
	}
	m.Close()
	mysqlExec(t, db, "ALTER TABLE t ADD COLUMN c int")
}

func TestALockThatIsNotGivenIsATemporaryFailure(t *testing.T) {
	t.Parallel()
	url, admin := pgDatabase(t, "CREATE TABLE t (id integer PRIMARY KEY)")
	pgRun(t, admin, "BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
	_, err := Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url, "lock_timeout": 50 * time.Millisecond}})
	if !errors.Is(err, exporters.ErrTemporary) {
		t.Errorf("Open of a locked table: %v; want ErrTemporary", err)
	}
}

func TestRowSecurityIsARefusalAndNotAnEmptyTable(t *testing.T) {
	t.Parallel()
	url, admin := pgDatabase(t, "")
	pgRun(t, admin, "CREATE TABLE public.secret (id integer); INSERT INTO public.secret VALUES (1); ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.secret TO PUBLIC",
		"CREATE TABLE public.denied (id integer)")
	x := open(t, Postgres, url)
	for _, name := range []string{"public.secret", "public.denied"} {
		s := stream(t, x, name)
		var gap *dataset.Gap
		n := 0
		for _, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}}) {
			n++
			if !errors.As(err, &gap) || gap.Code != dataset.Denied {
				t.Errorf("read %s: %v; want a gap %q", name, err, dataset.Denied)
			}
		}
		if n != 1 {
			t.Errorf("read %s gave %d results", name, n)
		}
	}
}

func TestAStatementTimeoutEndsTheStreamWithAnError(t *testing.T) {
	t.Parallel()
	url, _ := pgDatabase(t, `CREATE TABLE t (id integer); INSERT INTO t SELECT generate_series(1, 1000000)`)
	x, err := Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url, "timeout": 100 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	// The statement lasts as long as its reader: more rows than buffers hold wait for it.
	n := 0
	for _, err = range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "public.t"}}}) {
		if n == 0 {
			time.Sleep(500 * time.Millisecond)
		}
		n++
	}
	if !errors.Is(err, exporters.ErrTemporary) {
		t.Errorf("read with a time-out gave %d records and %v; want ErrTemporary", n, err)
	}
}

// drain counts the records of a stream up to the first error.
func drain(ctx context.Context, x exporters.Exporter, name string) (n int, err error) {
	for _, err := range x.Read(ctx, exporters.Query{Streams: []dataset.Stream{{Name: name}}}) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// cutter is a proxy in front of a unix socket that breaks every connection once it has
// carried so many bytes from the server.
func cutter(t *testing.T, socket, base string, limit int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cut")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, base)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("unix", socket)
			if err != nil {
				c.Close()
				continue
			}
			wg.Go(func() { io.Copy(s, c); s.Close() })
			wg.Go(func() { io.CopyN(c, s, limit); c.Close(); s.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return dir
}

func TestALostConnectionEndsTheStreamWithAnError(t *testing.T) {
	t.Parallel()
	url, _ := pgDatabase(t, "CREATE TABLE t AS SELECT g AS id, repeat('x', 100) AS v FROM generate_series(1, 20000) g; ALTER TABLE t ADD PRIMARY KEY (id)")
	server := running(t, servers.postgres)
	dir := cutter(t, server.Socket, filepath.Base(server.Socket), 500_000)
	x := open(t, Postgres, strings.Replace(url, "host="+escape(filepath.Dir(server.Socket)), "host="+escape(dir), 1))
	if n, err := drain(t.Context(), x, "public.t"); err == nil || n == 0 || n == 20000 {
		t.Errorf("a connection cut within the stream gave %d records and %v", n, err)
	}
	x.Close()

	murl, _ := mysqlDatabase(t, "CREATE TABLE t (id int PRIMARY KEY, v varchar(100)); INSERT INTO t SELECT seq, REPEAT('x', 100) FROM seq_1_to_20000")
	server = running(t, servers.mariadb)
	dir = cutter(t, server.Socket, "sock", 500_000)
	m := open(t, MySQL, strings.Replace(murl, escape(server.Socket), escape(dir+"/sock"), 1))
	if n, err := drain(t.Context(), m, "t"); err == nil || n == 0 || n == 20000 {
		t.Errorf("a connection cut within the stream gave %d records and %v", n, err)
	}
	if _, err := drain(t.Context(), m, "t"); err == nil {
		t.Error("a view whose only session broke went on")
	}
	m.Close()
}

func escape(path string) string { return strings.ReplaceAll(path, "/", "%2F") }

func TestAKilledServerEndsTheStreamWithAnError(t *testing.T) {
	t.Parallel()
	server, err := sqlservers.StartPostgres(t.Context())
	if errors.Is(err, sqlservers.ErrNotInstalled) {
		t.Skip("no database server to test with: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	url := server.PostgresURL("postgres", "postgres")
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	pgRun(t, c, "CREATE TABLE t AS SELECT g AS id, repeat('x', 1000) AS v FROM generate_series(1, 20000) g")
	c.Close(t.Context())
	x := open(t, Postgres, url)
	n, failed := 0, error(nil)
	for _, err := range x.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "public.t"}}}) {
		if failed = err; err != nil {
			break
		}
		if n++; n == 10 {
			server.Kill()
		}
	}
	if failed == nil || n == 20000 {
		t.Errorf("a server killed within the stream gave %d records and %v", n, failed)
	}
	if _, err := drain(t.Context(), x, "public.t"); err == nil {
		t.Error("a view whose server was killed went on")
	}
}

func TestPasswordsAreNeitherTakenInURLsNorRepeatedInErrors(t *testing.T) {
	t.Parallel()
	const canary = "canary-7c1d"
	for _, k := range []exporters.Kind{Postgres, MySQL} {
		if _, err := k.FromURL(k.Name + "://user:" + canary + "@localhost/db"); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: a password in a URL: %v", k.Name, err)
		}
		for _, url := range []string{"://user@localhost:1/db", "://user@localhost:99999/db", "://user@%zz/db"} {
			_, err := k.Open(t.Context(), exporters.Config{
				Options: map[string]any{"url": k.Name + url, "password": "env:X"},
				Secret:  func(context.Context, string) (string, error) { return canary, nil },
			})
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("%s%s: %v", k.Name, url, err)
			}
		}
	}
}

func TestOtherHostsAreReachedWithVerifiedTLSOnly(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca"} {
		_, _, err := pgConfig(t.Context(), exporters.Config{Options: map[string]any{"url": "postgres://u@db.example.org/d?sslmode=" + mode}})
		if err == nil {
			t.Errorf("sslmode=%s is taken", mode)
		}
	}
	cfg, _, err := pgConfig(t.Context(), exporters.Config{Options: map[string]any{"url": "postgres://u@db.example.org/d"}})
	if err != nil || cfg.TLSConfig == nil || cfg.TLSConfig.InsecureSkipVerify || len(cfg.Fallbacks) > 0 && cfg.Fallbacks[0].TLSConfig == nil {
		t.Errorf("default for another host: %+v, %v", cfg, err)
	}
}
