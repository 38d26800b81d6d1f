package sqldb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/fixtures/sqlservers"
)

// servers are started when the first test needs them and stopped after the last.
var servers struct {
	postgres, mariadb func() (*sqlservers.Server, error)
	started           []*sqlservers.Server
	mu                sync.Mutex
	databases         atomic.Int64
}

func TestMain(m *testing.M) {
	once := func(start func(context.Context) (*sqlservers.Server, error)) func() (*sqlservers.Server, error) {
		return sync.OnceValues(func() (*sqlservers.Server, error) {
			s, err := start(context.Background())
			if err == nil {
				servers.mu.Lock()
				servers.started = append(servers.started, s)
				servers.mu.Unlock()
			}
			return s, err
		})
	}
	servers.postgres, servers.mariadb = once(sqlservers.StartPostgres), once(sqlservers.StartMariaDB)
	code := m.Run()
	for _, s := range servers.started {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func running(t testing.TB, start func() (*sqlservers.Server, error)) *sqlservers.Server {
	t.Helper()
	s, err := start()
	if errors.Is(err, sqlservers.ErrNotInstalled) {
		t.Skip("no database server to test with: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pgDatabase makes an empty database with a role of its own that is no superuser, and
// runs sql in it. It returns the URL as that role and a connection as superuser.
func pgDatabase(t testing.TB, sql string) (string, *pgx.Conn) {
	t.Helper()
	s := running(t, servers.postgres)
	name := fmt.Sprintf("db%d", servers.databases.Add(1))
	pgRun(t, pgAdmin(t, s, "postgres"), "CREATE ROLE "+name+" LOGIN", "CREATE DATABASE "+name+" OWNER "+name)
	if sql != "" {
		pgRun(t, pgConn(t, s.PostgresURL(name, name)), sql)
	}
	return s.PostgresURL(name, name), pgAdmin(t, s, name)
}

func pgAdmin(t testing.TB, s *sqlservers.Server, database string) *pgx.Conn {
	t.Helper()
	return pgConn(t, s.PostgresURL("postgres", database))
}

func pgConn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func pgRun(t testing.TB, c *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := c.PgConn().Exec(t.Context(), s).ReadAll(); err != nil {
			t.Fatalf("%v\n%.500s", err, s)
		}
	}
}

// open opens a view that is closed at the end of the test.
func open(t testing.TB, k exporters.Kind, url string) exporters.Exporter {
	t.Helper()
	x, err := k.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}
