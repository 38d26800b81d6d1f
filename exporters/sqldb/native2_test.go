package sqldb

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters/exportertest"
)

// mysqlRich is what a schema of MariaDB may hold besides types.
const mysqlRich = `
CREATE SEQUENCE nrs START WITH 100 INCREMENT BY 5 CACHE 10; SELECT NEXTVAL(nrs); SELECT NEXTVAL(nrs);
CREATE TABLE areas (id int PRIMARY KEY, name varchar(20) NOT NULL COMMENT 'it''s here', KEY (name DESC)) ENGINE=InnoDB COLLATE utf8mb4_general_ci COMMENT='of the "map"';
CREATE TABLE cases (id int unsigned AUTO_INCREMENT PRIMARY KEY, nr bigint DEFAULT (NEXTVAL(nrs)), area int, amount decimal(10,2) CHECK (amount > 0), net decimal(12,4) AS (amount * 0.84) STORED, half double AS (amount / 2) VIRTUAL,
	body text CHARACTER SET latin1 DEFAULT 'x''\\y', at timestamp(3) NOT NULL DEFAULT current_timestamp(3) ON UPDATE current_timestamp(3), hidden int INVISIBLE DEFAULT 7, u uuid DEFAULT uuid(), j json,
	CONSTRAINT of_area FOREIGN KEY (area) REFERENCES areas (id) ON DELETE SET NULL ON UPDATE CASCADE, CONSTRAINT some CHECK (nr > 0 OR amount > 0), FULLTEXT words (body), KEY start (body(10)), UNIQUE KEY nr (nr));
INSERT INTO areas VALUES (1, 'a'), (2, 'b'); INSERT INTO cases (area, amount, body) VALUES (1, 1.5, 'one'), (2, 2.5, 'two'), (NULL, 3, 'é'); INSERT INTO cases (id, amount) VALUES (70, 1); DELETE FROM cases WHERE id = 70;
CREATE TABLE parts (id int NOT NULL, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (YEAR(at)) (PARTITION old VALUES LESS THAN (2020), PARTITION rest VALUES LESS THAN MAXVALUE);
INSERT INTO parts VALUES (1, '2019-01-01'), (2, '2026-01-01'); CREATE TABLE isam (id int PRIMARY KEY) ENGINE=MyISAM ROW_FORMAT=FIXED; INSERT INTO isam VALUES (1);
CREATE VIEW b_first AS SELECT id, net FROM cases WHERE amount > 1 WITH CHECK OPTION; CREATE SQL SECURITY INVOKER VIEW a_second AS SELECT COUNT(*) AS n FROM b_first
`

const mysqlProgram = `; CREATE FUNCTION twice(i int) RETURNS int DETERMINISTIC RETURN i * 2; CREATE PROCEDURE twice(i int) SELECT i * 2; CREATE VIEW doubles AS SELECT twice(id) FROM cases;
CREATE TRIGGER tr AFTER INSERT ON areas FOR EACH ROW DELETE FROM isam WHERE id = NEW.id; CREATE TRIGGER a_tr2 AFTER INSERT ON areas FOR EACH ROW FOLLOWS tr INSERT INTO isam VALUES (NEW.id)`

var mysqlNoise = regexp.MustCompile("(?m)^(--.*|/\\*M!999999.*|/\\*M?!\\d+ SET .*|USE .*)?\n| DEFINER=`[^`]*`@`[^`]*`|/\\*!50017\\*/ |/\\*!50017 DEFINER=`[^`]*`@`[^`]*`\\*/ ?|/\\*!50013 DEFINER=`[^`]*`@`[^`]*` SQL SECURITY")

func mysqlSchema(t testing.TB, database string) string {
	t.Helper()
	args := []string{"--no-defaults", "--socket=" + running(t, servers.mariadb).Socket, "--user=root", "--no-data", "--routines", "--triggers", "--skip-dump-date", "--skip-comments"}
	for _, own := range []string{markerTable, madeTable, definitionsStream} {
		args = append(args, "--ignore-table="+database+"."+own)
	}
	dump := mysqlNoise.ReplaceAllString(output(t, "mariadb-dump", append(args, database)...), "")
	return strings.ReplaceAll(dump, backQuoted(database)+".", "")
}

func databaseOf(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

func TestANativeRestoreOfMariaDBIsTheSameByItsOwnDump(t *testing.T) {
	t.Parallel()
	from, _ := mysqlDatabase(t, mysqlRich+mysqlProgram, "SELECT ON mysql.*")
	to, db := mysqlDatabase(t, "")
	admin, _ := mysqlDatabase(t, "SET GLOBAL log_bin_trust_function_creators = 1") // else routines need a superuser
	src, dst := open(t, MySQL, from), openNative(t, MySQL, to, true)
	gaps, test := copyAll(t, dst, src)
	if len(gaps) > 0 {
		t.Errorf("gaps %v", gaps)
	}
	if notes := dst.Facts().Notes; len(notes) > 0 {
		t.Errorf("notes:\n%s", strings.Join(notes, "\n"))
	}
	compareDumps(t, mysqlSchema(t, databaseOf(t, from)), mysqlSchema(t, databaseOf(t, to)))
	mysqlExec(t, db, "INSERT INTO cases (amount) VALUES (9)")
	var id, hidden int
	var net string
	if err := db.QueryRow("SELECT id, hidden, net FROM cases WHERE amount = 9").Scan(&id, &hidden, &net); err != nil || id != 71 || hidden != 7 || net != "7.5600" {
		t.Errorf("a new row is %d, %d, %s, %v; want 71, 7, 7.5600", id, hidden, net, err)
	}
	if err := dst.Destroy(t.Context(), test); err != nil {
		t.Errorf("Destroy: %v", err)
	}
	compareDumps(t, mysqlSchema(t, databaseOf(t, admin)), mysqlSchema(t, databaseOf(t, to)))
}

func TestANativeRestoreOfMariaDBKeepsEveryRecord(t *testing.T) {
	t.Parallel()
	from, _ := mysqlDatabase(t, mysqlTorture)
	to, _ := mysqlDatabase(t, "")
	if err := exportertest.CheckTarget(t.Context(), openNative(t, MySQL, to, false), open(t, MySQL, from)); err != nil {
		t.Error(err)
	}
}

// sqliteRich is what sqliteTorture lacks of a schema.
const sqliteRich = `
CREATE TABLE "people -- ;" (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL DEFAULT 'a;b' COLLATE NOCASE CHECK (name <> ';'), born DATE DEFAULT (date('now')),
	up INTEGER REFERENCES "people -- ;" DEFERRABLE INITIALLY DEFERRED, twice INTEGER GENERATED ALWAYS AS (id * 2) VIRTUAL, /* a ; comment */ UNIQUE (name, born) ON CONFLICT IGNORE);
INSERT INTO "people -- ;" (id, name, up) VALUES (1, 'a', NULL), (2, 'b', 1), (99, 'z', NULL); DELETE FROM "people -- ;" WHERE id = 99;
CREATE INDEX half ON "people -- ;" (lower(name), born DESC) WHERE up IS NOT NULL;
CREATE VIEW z_first AS SELECT id FROM "people -- ;"; CREATE VIEW a_second (n) AS SELECT count(*) FROM z_first;
PRAGMA application_id = 77;
`

func sqliteSchema(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: u.Path}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// As the shell's .schema --nosys does, but without the order of making.
	rows, err := db.Query(`SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'sallyport%' AND name <> ?
		UNION ALL SELECT 'version ' || user_version FROM pragma_user_version
		UNION ALL SELECT 'application ' || application_id FROM pragma_application_id ORDER BY 1`, definitionsStream)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := scanTexts(rows)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func TestANativeRestoreOfSQLiteIsTheSameByItsSchema(t *testing.T) {
	t.Parallel()
	script := sqliteTorture[:strings.Index(sqliteTorture, "CREATE VIRTUAL TABLE")] + sqliteRich
	from, to := sqliteDatabase(t, script), (&url.URL{Scheme: "sqlite", Path: filepath.Join(t.TempDir(), "to.db")}).String()
	src, dst := open(t, SQLite, from), openNative(t, SQLite, to, true)
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
	gaps, test := copyAll(t, dst, src)
	if len(gaps) > 0 {
		t.Errorf("gaps %v", gaps)
	}
	if notes := dst.Facts().Notes; len(notes) > 0 {
		t.Errorf("notes:\n%s", strings.Join(notes, "\n"))
	}
	compareDumps(t, sqliteSchema(t, from), sqliteSchema(t, to))
	rows, err := dst.(querier).Query(t.Context(), "SELECT name, seq FROM sqlite_sequence ORDER BY 1", time.Second)
	if got := fmt.Sprint(rows); err != nil || got != "[[people -- ; 99] [types 9223372036854775807]]" {
		t.Errorf("counters %s, %v", got, err)
	}
	if err := dst.Destroy(t.Context(), test); err != nil {
		t.Errorf("Destroy: %v", err)
	}
	if s := sqliteSchema(t, to); s != "application 0\nversion 0" {
		t.Errorf("left behind: %s", s)
	}
}

func TestASecondStatementOfSQLiteIsSeen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"CREATE TABLE t (a)": true, "CREATE TABLE t (a DEFAULT ';')": true, `CREATE TABLE ";" (a)`: true, "CREATE TABLE [;] (a)": true, "CREATE TABLE `;` (a)": true,
		"CREATE TABLE t (a -- ;\n)": true, "CREATE TABLE t (a /* ; */)": true, "CREATE TABLE t (a DEFAULT ''';')": true, "CREATE TABLE t (a DEFAULT '\\')": true,
		"CREATE TABLE t (a); DROP TABLE u": false, "CREATE TABLE t (a DEFAULT ''); DROP TABLE u; --'": false, "CREATE TABLE t (a) /**/; DROP TABLE u": false,
		"CREATE TABLE t (a) /*/; DROP TABLE u": true, "CREATE TABLE t (a) -- \n; DROP TABLE u": false, "CREATE TABLE t (a DEFAULT '\\'); DROP TABLE u": false,
	} {
		if got := oneStatement(text); got != want {
			t.Errorf("oneStatement(%q) = %t; want %t", text, got, want)
		}
	}
}
