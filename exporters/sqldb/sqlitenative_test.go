package sqldb

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters/exportertest"
)

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
