package sqldb

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

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
