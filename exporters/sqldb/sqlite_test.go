package sqldb

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

const sqliteTorture = `
CREATE TABLE types (id INTEGER PRIMARY KEY AUTOINCREMENT, i INTEGER, big BIGINT, r REAL, d DOUBLE, n NUMERIC, dec DECIMAL(10,2), b BOOLEAN, t TEXT, vc VARCHAR(3),
	bl BLOB, none, dt DATETIME, day DATE, js JSON, u UUID, odd "weird (type)", gen AS (i * 2), gens TEXT AS (t || '!') STORED, def TEXT DEFAULT 'x''y');
INSERT INTO types (id, i, big, r, d, n, dec, b, t, vc, bl, none, dt, day, js, u, odd) VALUES
(1, 9223372036854775807, -9223372036854775808, 0.1, 1e300, 9007199254740993, 1.10, 1, 'a' || char(0) || 'b', 'longer than three', x'00ff', 1, '2026-01-01 00:00:00', '2026-01-01', '{"a" : 1}', 'u', 'o'),
(2, 'text in integer', x'00', 'text', x'', 'text', 'NaN', 'true', x'c3', 12, 'text in blob', 1.0, 1767225600, 2460676.5, 12, 0, 1.5),
(3, 1.5, '12', 1e999, -1e999, 1e20, 123456789.123456789, 2, CAST(x'ff61' AS TEXT), '', 1.5, 'text', NULL, x'01', 1.5, NULL, x'02'),
(4, 1e300, 0, 9007199254740993.0, 5e-324, 0.1, -0.0, NULL, '', 'é😀' || char(8232), '', x'', '', '', '', '', ''),
(5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
(-9223372036854775808, 0, 0, -0.0, 0, 0, 0, 0, '0', '0', 0, 9007199254740993, 0, 0, 0, 0, 0);
INSERT INTO types (id, i, big, r, d, n, dec, b, t, vc, bl, none, dt, day, js, u, odd) VALUES
(9223372036854775807, -9223372036854775808, 9223372036854775807, 1.5, 5e-324, 9007199254740992, -1.10, 0, 'é ''\' || char(9), ' ', x'', 1.0, 'x', '0000-00-00', '{}', '', 'text'),
(7, 1, 1, -1e300, 0.1, 1e20, 0.1, 1, '', '', x'00', x'00', '', '', '', '', x'ff'),
(8, 1, 1, 1, 1, 1, 1, 1, 'a' || char(0), '', x'00', 'a' || char(0), '', '', '', '', 9223372036854775807);
CREATE TABLE keyless (a, b TEXT);
INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (1.0, 'x'), (NULL, NULL), (NULL, NULL), (2, '');
CREATE TABLE nullkey (k TEXT PRIMARY KEY, v); INSERT INTO nullkey VALUES (NULL, 1), (NULL, 1), ('a', 2);
CREATE TABLE "we""ird.name ; -- é
x" ("select" INTEGER, "a b" TEXT, "quote""d" TEXT, "new
line" TEXT, "T" INTEGER, "nosuch" TEXT, PRIMARY KEY ("a b", "select")) WITHOUT ROWID;
INSERT INTO "we""ird.name ; -- é
x" VALUES (1, 'k''1', 'q', 'n', 1, 2), (2, 'k''1', NULL, NULL, NULL, NULL);
CREATE TABLE strict (id INT PRIMARY KEY NOT NULL, a ANY, r REAL, b BLOB) STRICT;
INSERT INTO strict VALUES (1, '12', 1, x'00'), (2, 12, 1.5, NULL), (3, 1.0, 2, NULL);
CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE);
CREATE TABLE child (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent ON DELETE CASCADE, up INTEGER REFERENCES child (id));
INSERT INTO parent VALUES (1, 'a'), (2, 'b'); INSERT INTO child VALUES (1, 1, NULL), (2, 2, 1);
CREATE INDEX child_p ON child (p); CREATE INDEX child_x ON child (p + 1) WHERE p > 1;
CREATE VIEW looks AS SELECT id FROM types; CREATE TRIGGER tr AFTER INSERT ON child BEGIN SELECT 1; END;
CREATE VIRTUAL TABLE fts USING fts5(body); INSERT INTO fts VALUES ('some words');
`

func sqliteDatabase(t testing.TB, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d#b?%20 é.db")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), script+"; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "sqlite", Path: path}).String()
}

func TestSQLiteObeysTheLawOfExporters(t *testing.T) {
	t.Parallel()
	address := sqliteDatabase(t, sqliteTorture)
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) {
		return SQLite.Open(t.Context(), exporters.Config{Options: map[string]any{"url": address}})
	}, exportertest.Options{})
	if err != nil {
		t.Error(err)
	}
}
