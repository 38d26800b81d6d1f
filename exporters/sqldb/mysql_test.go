package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

const mysqlTorture = `
CREATE TABLE types (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, t1 tinyint, tu tinyint unsigned, b1 tinyint(1), s smallint, m mediumint unsigned, i int, iu int unsigned, b bigint, bu bigint unsigned,
	d decimal(65,30), d2 decimal(10,2), f float, fd double, bit1 bit, bit9 bit(9), bit64 bit(64), dt date, tm time(6), dtm datetime, dtm6 datetime(6), ts timestamp(6) NULL, y year,
	c char(5), vc varchar(100), lt longtext, l1 varchar(10) CHARACTER SET latin1, ci varchar(20) COLLATE utf8mb4_general_ci, bin binary(4), vb varbinary(10), bl longblob, tb tinyblob,
	e enum('a','b''c','',' x'), st set('p','q','r s'), g geometry, pt point, js json, u uuid, ip inet6, zf int(8) unsigned zerofill, gen int AS (i * 0 + 1) STORED, vgen int AS (t1) VIRTUAL, def varchar(10) DEFAULT 'x''y' COMMENT 'it''s "default"');
INSERT INTO types (id, t1, tu, b1, s, m, i, iu, b, bu, d, d2, f, fd, bit1, bit9, bit64, dt, tm, dtm, dtm6, ts, y, c, vc, lt, l1, ci, bin, vb, bl, tb, e, st, g, pt, js, u, ip, zf) VALUES
(18446744073709551614, -128, 255, 2, -32768, 16777215, 2147483647, 4294967295, -9223372036854775808, 18446744073709551615, 12345678901234567890123456789012345.123456789012345678901234567891, -0.01,
	3.4028234e38, 1.7976931348623157e308, b'1', b'101010101', 18446744073709551615, '9999-12-31', '838:59:59.000001', '9999-12-31 23:59:59', '1000-01-01 00:00:00.000001', '2038-01-19 03:14:07.999999', 2155,
	'ab ', 'tab	 quote" '' é 😀', CONCAT('nul', CHAR(0), 'x\\y\n\r\Z'), 'éÿ', 'Case', x'00ff', x'00', x'5c27000a', x'', 'b''c', 'p,r s', ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))', 4326), ST_GeomFromText('POINT(1 2)'), '{"a" : 1.10}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1', 42),
(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0.1, b'0', b'0', 0, '0000-00-00', '-838:59:59', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '1970-01-01 00:00:01', 0, '', '', '', '', '', '', '', '', '', '', '', NULL, NULL, 'null', NULL, NULL, 0),
(2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.10, 1.10, 16777217, 123456789.123456789, b'1', b'1', 1, '2026-02-30', '00:00:00.5', '2026-01-01 00:00:00', '2026-01-01 00:00:00.12', '2026-03-29 01:30:00.1', 1970, 'a', ' lead', 'trail ', 'a', 'A', 'a', 'a', 'a', 'a', ' x', 'q', NULL, NULL, '[]', NULL, NULL, 1);
INSERT INTO types (id) VALUES (3);
INSERT INTO types (id, t1, tu, b1, s, m, i, iu, b, bu, d, d2, f, fd, bit1, bit9, bit64, dt, tm, dtm, dtm6, ts, y, c, vc, lt, l1, ci, bin, vb, bl, tb, e, st, g, pt, js, u, ip, zf) VALUES
(9223372036854775807, -1, 1, 1, -1, 1, -2147483648, 1, 9223372036854775807, 9223372036854775807, -0.000000000000000000000000000001, 99999999.99, -1e-30, 5e-320, b'1', b'111111111', 9223372036854775808,
	'0044-03-15', '-838:59:58.999999', '0001-01-01 00:00:00', '9999-12-31 23:59:59.999999', '1970-01-01 00:00:00.1', 2000, 'é', '\\.', '{"a":"\u0000"}', 'ÿ', 'ÀÀ', x'00000000', x'ff', x'00', x'00', 'b''c', 'r s',
	ST_GeomFromText('POINT(1 2)'), NULL, '{}', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '::ffff:1.2.3.4', 99999999);
CREATE TABLE keyless (a int, b varchar(10), f float); INSERT INTO keyless VALUES (1, 'x', 0.1), (1, 'x', 0.1), (NULL, NULL, NULL), (NULL, NULL, NULL), (2, '', 1), (1, 'X', 0.1);
CREATE TABLE isam (id int PRIMARY KEY, v text) ENGINE=MyISAM; INSERT INTO isam VALUES (1, 'a');
CREATE TABLE ${weird} (${select} int, ${a b} varchar(20), ${quote"d} text, ${back${}tick} text, ${new
line} text, ${T} int, PRIMARY KEY (${a b}, ${select}));
INSERT INTO ${weird} VALUES (1, 'k''1', 'q', 'n', 'l', 1), (2, 'k''1', NULL, NULL, NULL, NULL), (1, 'a', '', '', '', 0);
CREATE TABLE parent (id int PRIMARY KEY, name varchar(20) UNIQUE); CREATE TABLE child (id int AUTO_INCREMENT PRIMARY KEY, p int, CONSTRAINT cp FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE, KEY kp (p, id), FULLTEXT ft (v), v text);
INSERT INTO parent VALUES (1, 'a'), (2, 'b'); INSERT INTO child (id, p) VALUES (1, 1), (2, 2), (7, NULL);
CREATE TABLE big (id bigint PRIMARY KEY, v varchar(100)); INSERT INTO big SELECT seq, REPEAT('x', 90) FROM seq_1_to_2000;
CREATE VIEW looks AS SELECT id FROM types; CREATE FUNCTION twice(i int) RETURNS int DETERMINISTIC RETURN i * 2; CREATE SEQUENCE sq;
CREATE TRIGGER tr BEFORE INSERT ON parent FOR EACH ROW SET NEW.name = UPPER(NEW.name)
`

// mysqlScript puts the awkward names, which a Go raw string cannot hold, in place.
func mysqlScript(s string) string {
	s = strings.ReplaceAll(s, "${back${}tick}", "`back``tick`")
	s = strings.ReplaceAll(s, "${weird}", "`we``ird\".name ; -- é\nx`")
	for _, n := range []string{"select", "a b", `quote"d`, "new\nline", "T"} {
		s = strings.ReplaceAll(s, "${"+n+"}", "`"+n+"`")
	}
	return s
}

// mysqlDatabase makes a database with a role of its own and returns the URL and an
// administrator's handle on it.
func mysqlDatabase(t testing.TB, script string, grants ...string) (string, *sql.DB) {
	t.Helper()
	s := running(t, servers.mariadb)
	name := fmt.Sprintf("db%d", servers.databases.Add(1))
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.MultiStatements = "root", "unix", s.Socket, true
	cfg.Params = map[string]string{"sql_mode": "''", "time_zone": "'+00:00'"}
	run := func(statements ...string) {
		c, err := mysql.NewConnector(cfg)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(c)
		defer db.Close()
		for _, q := range statements {
			if _, err := db.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%v\n%.300s", err, q)
			}
		}
	}
	run("CREATE DATABASE "+name, "CREATE USER "+name, "GRANT ALL ON "+name+".* TO "+name)
	for _, g := range grants {
		run("GRANT " + g + " TO " + name)
	}
	cfg.DBName = name
	if script != "" {
		run(mysqlScript(script))
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { db.Close() })
	return s.MariaDBURL(name, name), db
}

func mysqlExec(t testing.TB, db *sql.DB, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), q); err != nil {
			t.Fatalf("%v\n%.300s", err, q)
		}
	}
}

func TestMySQLObeysTheLawOfExporters(t *testing.T) {
	t.Parallel()
	for name, grants := range map[string][]string{"one session": nil, "read lock": {"RELOAD ON *.*"}} {
		url, _ := mysqlDatabase(t, mysqlTorture, grants...)
		err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) {
			return MySQL.Open(t.Context(), exporters.Config{Options: map[string]any{"url": url}})
		}, exportertest.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
