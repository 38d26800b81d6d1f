package sqldb

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

// openNative opens a target that runs definitions.
func openNative(t testing.TB, k exporters.Kind, url string, code bool) exporters.Target {
	t.Helper()
	x, err := k.OpenTarget(t.Context(), exporters.Config{Options: map[string]any{"url": url, "native": true, "native_code": code}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// output runs a command and returns its standard output.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.String())
	}
	return out.String()
}

// compareDumps reports the lines in which two dumps differ.
func compareDumps(t testing.TB, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			t.Errorf("missing: %s", l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			t.Errorf("not in the source: %s", l)
		}
	}
	if !t.Failed() {
		t.Errorf("the same lines in another order:\n%s", got)
	}
}

// pgRich is what pgTorture lacks of a schema.
const pgRich = `
CREATE SCHEMA app; CREATE SCHEMA "Empty one"; COMMENT ON SCHEMA app IS 'the application';
CREATE TYPE app.state AS ENUM ('new', 'done'); COMMENT ON TYPE app.state IS 'of a case';
CREATE DOMAIN app.mail AS varchar(100) DEFAULT 'none@example.org' CONSTRAINT has_at CHECK (VALUE LIKE '%@%') CONSTRAINT short CHECK (length(VALUE) < 90);
CREATE SEQUENCE app.numbers AS integer INCREMENT BY 5 START 100 MAXVALUE 10000 CYCLE; SELECT nextval('app.numbers'), nextval('app.numbers');
CREATE SEQUENCE app.untouched;
CREATE TABLE app.cases (id bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 10) PRIMARY KEY, nr integer DEFAULT nextval('app.numbers') NOT NULL, ser serial,
	opened timestamptz DEFAULT now() NOT NULL, st app.state DEFAULT 'new', mail app.mail, amount numeric(10,2) CONSTRAINT positive CHECK (amount > 0),
	net numeric GENERATED ALWAYS AS (amount * 0.84) STORED, during tstzrange, body text COLLATE "C" DEFAULT 'it''s', "odd ""name" jsonb DEFAULT '{}',
	CONSTRAINT nr_unique UNIQUE (nr) DEFERRABLE, CHECK (id > 0) NO INHERIT, EXCLUDE USING gist (during WITH &&));
ALTER TABLE app.cases ALTER COLUMN body SET STORAGE EXTERNAL; ALTER TABLE app.cases ALTER COLUMN nr SET STATISTICS 77; ALTER TABLE app.cases SET (fillfactor = 80);
CREATE INDEX by_lower ON app.cases (lower(body)) INCLUDE (nr) WHERE st = 'new'; CREATE INDEX "by JSON" ON app.cases USING gin ("odd ""name");
CREATE INDEX by_desc ON app.cases (opened DESC NULLS LAST, nr); ALTER TABLE app.cases CLUSTER ON by_desc; COMMENT ON INDEX app.by_desc IS 'newest first';
CREATE UNIQUE INDEX for_replicas ON app.cases (id, nr); ALTER TABLE app.cases REPLICA IDENTITY USING INDEX for_replicas;
CREATE STATISTICS app.both (dependencies) ON nr, ser FROM app.cases;
COMMENT ON COLUMN app.cases.nr IS 'the file''s number'; COMMENT ON CONSTRAINT positive ON app.cases IS 'no refunds';
INSERT INTO app.cases (amount, mail, body) SELECT g, 'a@b', 'body ' || g FROM generate_series(1, 20) g; DELETE FROM app.cases WHERE id > 1100;
CREATE UNLOGGED TABLE app.scratch (id integer REFERENCES public."Table" ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE VIEW app.b_first WITH (security_barrier = true) AS SELECT id, net FROM app.cases WHERE amount > 1 WITH CHECK OPTION;
CREATE VIEW app.a_second AS SELECT count(*) AS n, max(net) AS "Max" FROM app.b_first; COMMENT ON VIEW app.a_second IS 'needs b_first';
CREATE MATERIALIZED VIEW app.sums AS SELECT st, sum(amount) AS total FROM app.cases GROUP BY st; CREATE UNIQUE INDEX sums_st ON app.sums (st);
CREATE MATERIALIZED VIEW app.later AS SELECT 1 AS one WITH NO DATA;
CREATE TYPE app.span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi); CREATE TYPE app.words AS RANGE (SUBTYPE = text, SUBTYPE_OPCLASS = text_pattern_ops, COLLATION = "C", MULTIRANGE_TYPE_NAME = app."many Words");
CREATE TYPE app.pair AS (a text COLLATE "C", "B b" varchar(7) COLLATE "POSIX", n integer); CREATE TABLE app.typed (id integer, s app.span, w app.words, m app."many Words", p app.pair, v text);
INSERT INTO app.typed VALUES (1, '[1.5,2)', '[a,b)', '{[a,b),[c,d)}', '(x,y,1)', repeat('x', 9000));
ALTER TABLE app.typed SET (toast.autovacuum_enabled = false, toast.vacuum_truncate = false, autovacuum_vacuum_threshold = 7); ALTER TABLE app.typed ALTER v SET STORAGE MAIN, ALTER v SET (n_distinct = -0.5, n_distinct_inherited = 9), ALTER v SET COMPRESSION pglz;
ALTER TABLE app.typed ADD CONSTRAINT typed_key PRIMARY KEY (id) WITH (fillfactor = 55); CREATE INDEX typed_length ON app.typed (length(v)) WITH (fillfactor = 66); ALTER INDEX app.typed_length ALTER COLUMN 1 SET STATISTICS 321;
ALTER STATISTICS app.both SET STATISTICS 55; ALTER MATERIALIZED VIEW app.sums ALTER total SET STATISTICS 12;
CREATE TABLE app.log (at date NOT NULL, region text NOT NULL DEFAULT 'x', n integer, CONSTRAINT n_positive CHECK (n > 0), PRIMARY KEY (at, region)) PARTITION BY RANGE (at);
CREATE TABLE app.log_2025 PARTITION OF app.log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (region);
CREATE TABLE app.log_2025_x PARTITION OF app.log_2025 FOR VALUES IN ('x'); CREATE TABLE app.log_2025_rest PARTITION OF app.log_2025 DEFAULT;
CREATE TABLE app.log_rest PARTITION OF app.log DEFAULT; CREATE INDEX log_n ON app.log (n); ALTER TABLE app.log_rest ALTER COLUMN n SET NOT NULL; ALTER TABLE app.log_rest ALTER COLUMN region SET DEFAULT 'rest';
INSERT INTO app.log VALUES ('2025-05-05', 'x', 1), ('2025-05-05', 'y', 2), ('2026-01-01', 'x', 3);
CREATE TABLE app.base (id integer PRIMARY KEY, v text DEFAULT 'b' CHECK (v <> ''), at date); CREATE TABLE app.a_heir (more text NOT NULL, CHECK (more <> 'x')) INHERITS (app.base);
ALTER TABLE app.a_heir ALTER COLUMN v SET DEFAULT 'heir'; INSERT INTO app.a_heir VALUES (1, 'v', NULL, 'm');
ALTER TABLE refs ADD CONSTRAINT unchecked CHECK (id < 1000000) NOT VALID;
`

const pgProgram = `
CREATE FUNCTION app.label(i bigint) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 'case ' || i; END $$;
CREATE PROCEDURE app."tidy Up"(n integer) LANGUAGE sql AS 'DELETE FROM app.scratch WHERE id = n'; COMMENT ON FUNCTION app.label(bigint) IS 'for people';
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.body := NEW.body || ''!''; RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT ON app.cases FOR EACH ROW EXECUTE FUNCTION app.stamp(); ALTER TABLE app.cases DISABLE TRIGGER stamp;
CREATE TRIGGER stamp2 BEFORE UPDATE OF body ON app.cases FOR EACH ROW WHEN (OLD.body IS DISTINCT FROM NEW.body) EXECUTE FUNCTION app.stamp();
CREATE INDEX by_label ON app.cases (app.label(id)); CREATE VIEW app.labels AS SELECT app.label(id) FROM app.cases;
CREATE RULE nothing AS ON DELETE TO app.scratch DO INSTEAD NOTHING;
CREATE POLICY mine ON app.base FOR SELECT USING (id > 0); ALTER TABLE app.base ENABLE ROW LEVEL SECURITY;
`

var pgNoise = regexp.MustCompile(`(?m)^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict .*)?\n`)

func pgSchema(t testing.TB, url string) string {
	t.Helper()
	return pgNoise.ReplaceAllString(output(t, "pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--exclude-schema=sallyport", url), "")
}

func TestANativeRestoreOfPostgresIsTheSameByItsOwnDump(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, pgTorture+pgRich+pgProgram)
	to, admin := pgDatabase(t, "")
	src, dst := open(t, Postgres, from), openNative(t, Postgres, to, true)
	gaps, test := copyAll(t, dst, src)
	if len(gaps) > 0 {
		t.Errorf("gaps %v", gaps)
	}
	if notes := dst.Facts().Notes; len(notes) > 0 {
		t.Errorf("notes:\n%s", strings.Join(notes, "\n"))
	}
	compareDumps(t, pgSchema(t, from), pgSchema(t, to))
	for _, q := range []string{
		"SELECT 1 / (nextval('app.numbers') = 210)::int", "SELECT 1 / (nextval('app.untouched') = 1)::int",
		"INSERT INTO app.cases (amount) VALUES (7)", "SELECT 1 / count(*) FROM app.cases WHERE id = 1200 AND net = 5.88 AND nr = 215 AND ser = 21",
	} {
		pgRun(t, admin, q)
	}
	if err := dst.Destroy(t.Context(), test); err != nil {
		t.Errorf("Destroy: %v", err)
	}
	fresh, _ := pgDatabase(t, "")
	compareDumps(t, pgSchema(t, fresh), pgSchema(t, to))
}

func TestANativeRestoreOfPostgresKeepsEveryRecord(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, pgTorture+pgRich)
	to, _ := pgDatabase(t, "")
	if err := exportertest.CheckTarget(t.Context(), openNative(t, Postgres, to, false), open(t, Postgres, from)); err != nil {
		t.Error(err)
	}
}

// TestWhatNeedsARoutineIsNamedWhereRoutinesAreNotMade restores without native_code.
func TestWhatNeedsARoutineIsNamedWhereRoutinesAreNotMade(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, "CREATE TABLE public.\"Table\" (id integer PRIMARY KEY); CREATE TABLE refs (id integer);"+pgRich+pgProgram)
	to, admin := pgDatabase(t, "")
	dst := openNative(t, Postgres, to, false)
	copyAll(t, dst, open(t, Postgres, from))
	notes := strings.Join(dst.Facts().Notes, "\n")
	for _, want := range []string{`index "by_label"`, `view "labels"`} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes name no %s:\n%s", want, notes)
		}
	}
	pgRun(t, admin, "SELECT 1 / (1 - count(*)) FROM pg_trigger t WHERE NOT tgisinternal", "SELECT 1 / (1 - count(*)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE nspname = 'app'")
}

// TestADefinitionOfAnotherKindIsRefused loads definitions that are not what they say.
func TestADefinitionOfAnotherKindIsRefused(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, "CREATE TABLE t (id integer PRIMARY KEY)")
	to, admin := pgDatabase(t, "")
	src, dst := open(t, Postgres, from), openNative(t, Postgres, to, false)
	all, err := src.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Begin(t.Context(), dataset.NewID(), all); err != nil {
		t.Fatal(err)
	}
	defs := []definition{
		{kind: "view", schema: "public", name: "v", sql: "DO 'BEGIN CREATE TABLE public.pwned (); END'"},
		{kind: "index", schema: "public", name: "i", sql: "CREATE INDEX i ON public.t (id); CREATE TABLE public.pwned ()"},
		{kind: "trigger", schema: "public", name: "g", sql: "CREATE TABLE public.pwned ()"},
	}
	recs := func(yield func(dataset.Record, error) bool) {
		yieldDefinitions(t.Context(), kindPostgres, defs, yield)
	}
	if err := dst.Load(t.Context(), all[0], recs, func(g dataset.Gap) { t.Error(&g) }); err != nil {
		t.Fatal(err)
	}
	if err := dst.Finish(t.Context()); err == nil || !strings.Contains(err.Error(), `view "v"`) {
		t.Errorf("Finish: %v; want the view named", err)
	}
	if notes := strings.Join(dst.Facts().Notes, "\n"); !strings.Contains(notes, `index "i"`) {
		t.Errorf("a second statement is not named: %s", notes)
	}
	pgRun(t, admin, "SELECT 1 / (1 - count(*)) FROM pg_class WHERE relname = 'pwned'")
}

func TestANativeRestoreNeedsTheDefinitions(t *testing.T) {
	t.Parallel()
	from := sqliteDatabase(t, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
	src := open(t, SQLite, from)
	dst := openNative(t, SQLite, "sqlite:"+filepath.Join(t.TempDir(), "to.db"), false)
	if err := dst.Begin(t.Context(), dataset.NewID(), []dataset.Stream{stream(t, src, "t")}); err == nil {
		t.Error("Begin took tables without their definitions")
	}
}

// TestWhatARangeTypeCannotTakeAlongIsNamed has a range whose difference is a function of
// the source's own.
func TestWhatARangeTypeCannotTakeAlongIsNamed(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, `CREATE FUNCTION minus(a text, b text) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT 1.0::float8';
		CREATE TYPE words AS RANGE (SUBTYPE = text, SUBTYPE_DIFF = minus); CREATE TABLE t (id integer PRIMARY KEY, w words); INSERT INTO t VALUES (1, '[a,b)')`)
	src := open(t, Postgres, from)
	if filters := strings.Join(src.Facts().Filters, "\n"); !strings.Contains(filters, "words") || !strings.Contains(filters, "public.minus") {
		t.Errorf("filters name no function of the range type:\n%s", filters)
	}
	to, _ := pgDatabase(t, "")
	if err := exportertest.CheckTarget(t.Context(), openNative(t, Postgres, to, false), src); err != nil {
		t.Error(err)
	}
}
