package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

// A deletable is a database of one of the products, made with the same script, and a
// session of somebody else's in it.
type deletable struct {
	kind   exporters.Kind
	url    string
	prefix string // of stream names
	exec   func(string)
}

// deletables makes the databases. Names of tables stand between spaces in what exec runs.
func deletables(t *testing.T, script string) []deletable {
	t.Helper()
	pgURL, admin := pgDatabase(t, script)
	myURL, db := mysqlDatabase(t, script)
	all := []deletable{
		{Postgres, pgURL, "public.", func(q string) { pgRun(t, admin, "SET search_path = public", q) }},
		{MySQL, myURL, "", func(q string) { mysqlExec(t, db, q) }},
	}
	for _, mode := range []string{"wal", "delete"} { // of which the second lets nobody write beside a reader
		address := sqliteDatabase(t, "PRAGMA journal_mode = "+mode+"; "+script)
		lite, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(address, "sqlite://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lite.Close() })
		all = append(all, deletable{SQLite, address, "", func(q string) { mysqlExec(t, lite, q) }})
	}
	return all
}

func (d *deletable) open(t *testing.T) exporters.Exporter { return open(t, d.kind, d.url) }

func TestDeletersObeyTheirLaw(t *testing.T) {
	t.Parallel()
	for _, d := range deletables(t, `CREATE TABLE t (id bigint PRIMARY KEY, v varchar(20), d decimal(10,2), b timestamp);
		INSERT INTO t VALUES (1, 'a', 1.10, '2010-01-01 00:00:00'), (2, 'b', 2, '2011-01-01 00:00:00'), (3, NULL, NULL, NULL), (4, '', 0, '2012-01-01 00:00:00')`) {
		err := exportertest.CheckDeleter(t.Context(), exportertest.DeleterSource{
			Open:   func() (exporters.Exporter, error) { return d.open(t), nil },
			Stream: d.prefix + "t",
			Change: func(context.Context, string) error { d.exec("UPDATE t SET v = 'changed' WHERE id = 2"); return nil },
			Other:  func(r dataset.Record) dataset.Record { r.Key = `["99"]`; return r },
		})
		if err != nil {
			t.Errorf("%s: %v", d.kind.Name, err)
		}
	}
}

// What rows refer to is refused by name, whatever the foreign key would do about it, and
// goes once nothing does any more.
func TestARowThatOthersReferToIsRefusedUntilTheyAreGone(t *testing.T) {
	t.Parallel()
	for _, d := range deletables(t, `CREATE TABLE parent (id integer PRIMARY KEY, boss integer, FOREIGN KEY (boss) REFERENCES parent (id));
		CREATE TABLE plain (id integer PRIMARY KEY, p integer, FOREIGN KEY (p) REFERENCES parent (id));
		CREATE TABLE cascading (id integer PRIMARY KEY, p integer, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);
		CREATE TABLE clearing (id integer PRIMARY KEY, p integer, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL);
		INSERT INTO parent VALUES (1, NULL), (2, NULL), (3, NULL), (4, NULL), (5, 4), (6, 6);
		INSERT INTO plain VALUES (1, 1); INSERT INTO cascading VALUES (1, 2); INSERT INTO clearing VALUES (1, 3)`) {
		x := d.open(t)
		parents := records(t, x, d.prefix+"parent", 1)
		children := map[string]dataset.Record{}
		for _, name := range []string{"plain", "cascading", "clearing"} {
			children[name] = records(t, x, d.prefix+name, 1)[0]
		}
		h, err := x.(exporters.Rehearser).Rehearse(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		desks := []exporters.Deleter{h, x.(exporters.Deleter)}
		for i, desk := range desks {
			s := stream(t, x, d.prefix+"parent")
			refuses := func(r dataset.Record, by string) {
				t.Helper()
				if err := desk.Delete(t.Context(), s, r); !errors.Is(err, exporters.ErrRefused) || !strings.Contains(err.Error(), by) {
					t.Errorf("%s: delete %s, to which %s refers: %v; want a refusal that says so", d.kind.Name, r.Key, by, err)
				}
			}
			goes := func(s dataset.Stream, r dataset.Record) {
				t.Helper()
				if err := desk.Delete(t.Context(), s, r); err != nil {
					t.Errorf("%s: delete %s of %s: %v", d.kind.Name, r.Key, s.Name, err)
				}
			}
			for n, name := range []string{"plain", "cascading", "clearing"} {
				refuses(parents[n], name)
				goes(stream(t, x, d.prefix+name), children[name])
				goes(s, parents[n])
			}
			refuses(parents[3], "parent")
			goes(s, parents[4])
			goes(s, parents[3])
			if d.kind.Name == kindMySQL { // InnoDB takes a row that refers to itself for one that another refers to
				refuses(parents[5], "parent")
			} else {
				goes(s, parents[5])
			}
			if i == 0 {
				if err := h.Close(); err != nil {
					t.Errorf("%s: close the rehearsal: %v", d.kind.Name, err)
				}
			}
		}
		x.Close()
		want := 0
		if d.kind.Name == kindMySQL {
			want = 1
		}
		if left := records(t, d.open(t), d.prefix+"parent", 1); len(left) != want {
			t.Errorf("%s: left are %v", d.kind.Name, left)
		}
	}
}

// What the database's own rules keep is refused, and never taken for deleted or gone.
func TestRowsThatTriggersOrPoliciesKeepAreNotSaidToBeDeleted(t *testing.T) {
	t.Parallel()
	pgURL, admin := pgDatabase(t, `CREATE TABLE kept (id integer PRIMARY KEY); CREATE TABLE raised (id integer PRIMARY KEY); CREATE TABLE deferred (id integer PRIMARY KEY);
		CREATE TABLE guarded (id integer PRIMARY KEY); CREATE TABLE denied (id integer PRIMARY KEY);
		INSERT INTO kept VALUES (1); INSERT INTO raised VALUES (1); INSERT INTO deferred VALUES (1); INSERT INTO guarded VALUES (1); INSERT INTO denied VALUES (1);
		CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
		CREATE TRIGGER k BEFORE DELETE ON kept FOR EACH ROW EXECUTE FUNCTION keep();
		CREATE TRIGGER r BEFORE DELETE ON raised FOR EACH ROW EXECUTE FUNCTION complain();
		CREATE CONSTRAINT TRIGGER d AFTER DELETE ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION complain()`)
	x := open(t, Postgres, pgURL)
	was := map[string]dataset.Record{}
	for _, name := range []string{"kept", "raised", "deferred", "guarded", "denied"} {
		was[name] = records(t, x, "public."+name, 1)[0]
	}
	// While the view is open, tables cannot be altered; purge opens its own.
	x.Close()
	role := admin.Config().Database
	pgRun(t, admin, "ALTER TABLE public.guarded OWNER TO postgres; GRANT SELECT, DELETE ON public.guarded TO "+role,
		"ALTER TABLE public.denied OWNER TO postgres; GRANT SELECT ON public.denied TO "+role)
	x = open(t, Postgres, pgURL)
	streams := map[string]dataset.Stream{}
	for name := range was {
		streams[name] = stream(t, x, "public."+name)
	}
	h, err := x.(exporters.Rehearser).Rehearse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, desk := range []exporters.Deleter{h, x.(exporters.Deleter)} {
		for name, want := range map[string]string{"kept": "keeps the row", "raised": "not this one", "deferred": "not this one"} {
			if err := desk.Delete(t.Context(), streams[name], was[name]); !errors.Is(err, exporters.ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want a refusal that says %q", name, err, want)
			}
		}
		if err := desk.Delete(t.Context(), streams["denied"], was["denied"]); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("denied: %v; want what the server says", err)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	// A policy that hides the row from this role must not make it look gone.
	x.Close()
	pgRun(t, admin, "ALTER TABLE public.guarded ENABLE ROW LEVEL SECURITY")
	x, err = Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": pgURL}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	err = x.(exporters.Deleter).Delete(t.Context(), streams["guarded"], was["guarded"])
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("guarded: %v; want what the server says of row-level security", err)
	}
	var n int
	if err := admin.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM public.kept) + (SELECT count(*) FROM public.raised) + (SELECT count(*) FROM public.deferred) + (SELECT count(*) FROM public.guarded) + (SELECT count(*) FROM public.denied)").Scan(&n); err != nil || n != 5 {
		t.Errorf("%d rows are left, %v; want all 5", n, err)
	}
}

// A row that somebody changes while its deletion goes on is not deleted.
func TestARowChangedByAnOpenTransactionIsNotDeleted(t *testing.T) {
	t.Parallel()
	pgURL, admin := pgDatabase(t, "CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
	x, err := Postgres.Open(t.Context(), exporters.Config{Options: map[string]any{"url": pgURL}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	s := stream(t, x, "public.t")
	was := records(t, x, "public.t", 1)[0]
	pgRun(t, admin, "BEGIN", "UPDATE public.t SET v = 'b'")
	done := make(chan error, 1)
	go func() { done <- x.(exporters.Deleter).Delete(t.Context(), s, was) }()
	watcher := pgConn(t, pgURL)       // a transaction sees one state of the others
	for waiting := false; !waiting; { // until the deletion waits for the lock
		if err := watcher.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	pgRun(t, admin, "COMMIT")
	if err := <-done; !errors.Is(err, exporters.ErrTemporary) {
		t.Errorf("delete beside a change: %v; want a temporary failure", err)
	}
	if err := x.(exporters.Deleter).Delete(t.Context(), s, was); !errors.Is(err, exporters.ErrChanged) {
		t.Errorf("delete after a change: %v; want ErrChanged", err)
	}
}
