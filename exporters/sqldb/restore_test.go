package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/memory"
)

// A querier answers acceptance checks.
type querier interface {
	exporters.Target
	Query(ctx context.Context, sql string, timeout time.Duration) ([][]string, error)
}

// emptyTargets opens an empty target of each kind and returns how to open it again.
func emptyTargets(t *testing.T) map[string]func() querier {
	all := make(map[string]func() querier)
	add := func(k exporters.Kind, url string) {
		all[k.Name] = func() querier { return openTarget(t, k, url).(querier) }
	}
	pg, _ := pgDatabase(t, "")
	my, _ := mysqlDatabase(t, "")
	add(Postgres, pg)
	add(MySQL, my)
	add(SQLite, "sqlite:"+t.TempDir()+"/to.db")
	return all
}

func TestStreamsThatNoDatabaseMadeAreKeptAsDocuments(t *testing.T) {
	t.Parallel()
	for name, target := range emptyTargets(t) {
		src, err := memory.Awkward([]string{"a", "b/c"}).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := exportertest.CheckTarget(t.Context(), target(), src); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		src.Close()
	}
}

// cases is a small database such as a check is asked of.
const cases = `CREATE TABLE cases (id integer PRIMARY KEY, body varchar(100), amount numeric(10,2));
	CREATE TABLE notes (id integer PRIMARY KEY, c integer NOT NULL, FOREIGN KEY (c) REFERENCES cases (id));
	INSERT INTO cases VALUES (1, 'one', 1.10), (2, '', 2.20), (3, NULL, 30.00); INSERT INTO notes VALUES (7, 1), (8, 3)`

func TestAcceptanceChecksReadAndCannotWrite(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, cases)
	src := open(t, Postgres, from)
	for name, target := range emptyTargets(t) {
		dst := target()
		if gaps, _ := copyAll(t, dst, src); len(gaps) > 0 {
			t.Errorf("%s: gaps %v", name, gaps)
		}
		for query, want := range map[string]string{
			"SELECT count(*) FROM cases WHERE body = ''":                                                          "[[1]]",
			"SELECT id, body FROM cases WHERE body IS NULL OR id < 2 ORDER BY id":                                 `[[1 one] [3 \N]]`,
			"SELECT count(*) FROM notes n LEFT JOIN cases c ON c.id = n.c WHERE c.id IS NULL AND n.c IS NOT NULL": "[[0]]",
			"SELECT id FROM cases WHERE amount > 10":                                                              "[[3]]",
			"SELECT id FROM cases WHERE id < 0":                                                                   "[]",
		} {
			rows, err := dst.Query(t.Context(), query, 5*time.Second)
			if err != nil {
				t.Errorf("%s: %s: %v", name, query, err)
				continue
			}
			var lines []string
			for _, r := range rows {
				lines = append(lines, "["+strings.Join(r, " ")+"]")
			}
			if got := "[" + strings.Join(lines, " ") + "]"; got != want {
				t.Errorf("%s: %s = %s; want %s", name, query, got, want)
			}
		}
		for _, query := range []string{
			"DELETE FROM cases", "INSERT INTO cases VALUES (9, 'x', 1)", "DROP TABLE notes", "CREATE TABLE more (id integer)",
			"COMMIT; DELETE FROM cases", "SELECT 1; DELETE FROM notes", "ROLLBACK; DROP TABLE notes", "PRAGMA query_only = 0; DELETE FROM notes",
			"ATTACH '/tmp/other.db' AS other", "WITH d AS (DELETE FROM notes RETURNING 1) SELECT * FROM d", "UPDATE cases SET id = 1",
		} {
			if _, err := dst.Query(t.Context(), query, 5*time.Second); err == nil {
				t.Errorf("%s: %s was carried out", name, query)
			}
		}
		rows, err := dst.Query(t.Context(), "SELECT (SELECT count(*) FROM cases), (SELECT count(*) FROM notes)", 5*time.Second)
		if err != nil || len(rows) != 1 || !slices.Equal(rows[0], []string{"3", "2"}) {
			t.Errorf("%s: after the attempts there are %v, %v", name, rows, err)
		}
		slow := map[string]string{kindPostgres: "SELECT pg_sleep(30)", kindMySQL: "SELECT count(*) FROM seq_1_to_1000000 a JOIN seq_1_to_1000000 b ON a.seq % 7 <> b.seq % 11",
			kindSQLite: "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"}[name]
		if _, err := dst.Query(t.Context(), slow, 100*time.Millisecond); !errors.Is(err, exporters.ErrTemporary) {
			t.Errorf("%s: a slow check: %v; want ErrTemporary", name, err)
		}
	}
}

func TestATargetOpenedAgainKnowsWhatItHoldsAndDestroysOnlyThat(t *testing.T) {
	t.Parallel()
	from, _ := mysqlDatabase(t, cases)
	src := open(t, MySQL, from)
	for name, target := range emptyTargets(t) {
		first := target()
		_, test := copyAll(t, first, src)
		first.Close()
		again := target()
		if got := records(t, again, "cases", 1); len(got) != 3 || string(got[0].Data) != `{"id":1,"body":"one","amount":"1.10"}` {
			t.Errorf("%s: read back %v", name, got)
		}
		if err := again.Begin(t.Context(), dataset.NewID(), nil); !errors.Is(err, exporters.ErrNotEmpty) {
			t.Errorf("%s: Begin of a filled target: %v; want ErrNotEmpty", name, err)
		}
		if err := again.Destroy(t.Context(), dataset.NewID()); !errors.Is(err, exporters.ErrNotOurs) {
			t.Errorf("%s: Destroy by another test: %v; want ErrNotOurs", name, err)
		}
		if err := again.Destroy(t.Context(), test); err != nil {
			t.Errorf("%s: Destroy: %v", name, err)
		}
		if err := target().Destroy(t.Context(), test); !errors.Is(err, exporters.ErrNotOurs) {
			t.Errorf("%s: second Destroy: %v; want ErrNotOurs", name, err)
		}
	}
}

func TestDestroyLeavesWhatOthersAdded(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, cases)
	url, admin := pgDatabase(t, "")
	dst := openTarget(t, Postgres, url)
	_, test := copyAll(t, dst, open(t, Postgres, from))
	pgRun(t, admin, "CREATE TABLE public.theirs (id integer); INSERT INTO public.theirs VALUES (1); CREATE VIEW public.looks AS SELECT * FROM public.cases")
	if err := dst.Destroy(t.Context(), test); err == nil {
		t.Error("Destroy dropped a table that somebody's view depends on")
	}
	pgRun(t, admin, "DROP VIEW public.looks")
	if err := dst.Destroy(t.Context(), test); err != nil {
		t.Error(err)
	}
	pgRun(t, admin, "SELECT 1 / count(*) FROM public.theirs")
}

// TestNothingOfAnArchiveIsExecuted loads streams whose every part tries to be a
// statement: what an archive says of types and names is data of somebody else.
func TestNothingOfAnArchiveIsExecuted(t *testing.T) {
	t.Parallel()
	const evil = `x"'` + "`" + `); CREATE TABLE pwned (id integer); --`
	column := evil
	stream := func(kind, native string) dataset.Stream {
		attributes := attributes{Kind: kind, Schema: evil, Table: evil}
		expression := "pg_sleep(10)"
		return dataset.Stream{Name: evil, Attributes: attributes.raw(), Schema: &dataset.Schema{
			Fields: []dataset.Field{
				{Name: column, Type: dataset.Integer, Native: native, Required: true, Description: evil},
				{Name: "v", Type: dataset.String, Native: "text", Default: &expression, Generated: evil},
			},
			PrimaryKey:  []string{column},
			UniqueKeys:  [][]string{{column}},
			Indexes:     []dataset.Index{{Name: evil + "i", Fields: []string{column}}, {Name: "y", Expression: evil}},
			ForeignKeys: []dataset.ForeignKey{{Name: evil, Fields: []string{column}, RefStream: evil, RefFields: []string{column}, OnDelete: evil}},
			Native: json.RawMessage(`{"kind":"` + kind + `","collation":"x; DROP","collations":{"v":"pg_catalog.\"C\"; DROP TABLE x"},"constraints":{"c":"CHECK (pg_sleep(10) IS NULL)"},
				"types":[{"schema":"s\"; --","name":"e\"; --","kind":"enum","labels":["a'; DROP TABLE x; --"]},{"schema":"public","name":"d","kind":"domain","base":"integer; DROP TABLE x"}]}`),
		}}
	}
	data, err := json.Marshal(map[string]any{column: 1, "v": evil + "\n\\.\n\\! touch /tmp/pwned"})
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range emptyTargets(t) {
		for _, native := range []string{"integer", "integer); CREATE TABLE pwned (id integer); --", evil, "integer DEFAULT pg_sleep(10)"} {
			s, test := stream(name, native), dataset.NewID()
			dst := target()
			if err := dst.Begin(t.Context(), test, []dataset.Stream{s}); err != nil {
				t.Logf("%s: type %q is refused: %v", name, native, err)
				dst.Destroy(t.Context(), test) // what MySQL, which cannot undo, left
				continue
			}
			seq := func(yield func(dataset.Record, error) bool) {
				yield(dataset.Record{Stream: s.Name, Key: "[1]", Data: data}, nil)
			}
			if err := dst.Load(t.Context(), s, seq, func(g dataset.Gap) { t.Errorf("%s: %v", name, &g) }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := dst.Finish(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := records(t, dst, evil, 1); len(got) != 1 {
				t.Errorf("%s: read back %v", name, got)
			}
			if _, err := dst.Query(t.Context(), "SELECT count(*) FROM pwned", time.Second); err == nil {
				t.Errorf("%s: type %q was executed", name, native)
			}
			if err := dst.Destroy(t.Context(), test); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestNumberingGoesOnAfterARestore inserts a row as an application would.
func TestNumberingGoesOnAfterARestore(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a'), ('b'); CREATE TABLE none (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
	src := open(t, Postgres, from)
	to, admin := pgDatabase(t, "")
	copyAll(t, openTarget(t, Postgres, to), src)
	pgRun(t, admin, "INSERT INTO public.t (v) VALUES ('c')", "SELECT 1 / (count(*) - 2) FROM public.t WHERE id = 3 OR v < 'c'", "INSERT INTO public.none DEFAULT VALUES", "SELECT 1 / count(*) FROM public.none WHERE id = 1")
	// Numbers that were given out and are gone are not given out again.
	pgRun(t, pgConn(t, from), "DELETE FROM t; SELECT setval('t_id_seq', 70)")
	again, admin := pgDatabase(t, "")
	copyAll(t, openTarget(t, Postgres, again), open(t, Postgres, from))
	pgRun(t, admin, "INSERT INTO public.t (v) VALUES ('c')", "SELECT 1 / count(*) FROM public.t WHERE id = 71")
	mfrom, _ := mysqlDatabase(t, "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, v varchar(5)); INSERT INTO t VALUES (70, 'a'); DELETE FROM t")
	mto, mdb := mysqlDatabase(t, "")
	copyAll(t, openTarget(t, MySQL, mto), open(t, MySQL, mfrom))
	mysqlExec(t, mdb, "INSERT INTO t (v) VALUES ('c')", "INSERT INTO t SELECT id + 100, 'd' FROM t WHERE id = 71")
	var n int
	if err := mdb.QueryRow("SELECT COUNT(*) FROM t").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v; want the first to be 71", n, err)
	}
	my, db := mysqlDatabase(t, "")
	copyAll(t, openTarget(t, MySQL, my), src)
	mysqlExec(t, db, "INSERT INTO t (v) VALUES ('c')")
	var id int
	if err := db.QueryRow("SELECT id FROM t WHERE v = 'c'").Scan(&id); err != nil || id != 3 {
		t.Errorf("next number %d, %v; want 3", id, err)
	}
}
