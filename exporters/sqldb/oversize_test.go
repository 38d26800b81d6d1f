package sqldb

import (
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

// TestARowThatIsTooLargeIsAGapWithItsKey has one row of 40 MB, which the server must not
// send: the server of MySQL could not, and a driver would hold all of it.
func TestARowThatIsTooLargeIsAGapWithItsKey(t *testing.T) {
	t.Parallel()
	pg, _ := pgDatabase(t, `CREATE TABLE t (id integer PRIMARY KEY, v text, b bytea, j jsonb); INSERT INTO t VALUES (1, 'small', '\x00', '{}'), (3, repeat('x', 100000), '\x01', '[1]');
		INSERT INTO t VALUES (2, repeat('x', 40000000), NULL, NULL); CREATE TABLE docs (id integer PRIMARY KEY, j jsonb); INSERT INTO docs VALUES (2, to_jsonb(repeat('x', 40000000))), (1, '1'), (3, '3')`)
	my, _ := mysqlDatabase(t, "CREATE TABLE t (id int PRIMARY KEY, v longtext, b longblob); INSERT INTO t VALUES (1, 'small', 'x'), (2, REPEAT('x', 40000000), REPEAT('y', 30000000)), (3, NULL, '')")
	lite := sqliteDatabase(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, v, b BLOB); INSERT INTO t VALUES (1, 'small', NULL), (2, NULL, zeroblob(40000000)), (3, 1.5, x'00')")
	for _, test := range []struct {
		name   string
		got    []dataset.Record
		detail string
	}{
		{"postgres", records(t, open(t, Postgres, pg), "public.t", 1), "row of 40000000 bytes"},
		{"postgres jsonb", records(t, open(t, Postgres, pg), "public.docs", 1), "row of 40000002 bytes"},
		{"mariadb", records(t, open(t, MySQL, my), "t", 1), "row of 70000000 bytes"},
		{"sqlite", records(t, open(t, SQLite, lite), "t", 1), "row of 40000"},
	} {
		if len(test.got) != 3 {
			t.Fatalf("%s: %d records; want 3", test.name, len(test.got))
		}
		for i, r := range test.got {
			large := strings.Contains(r.Key, "2")
			switch {
			case large != (i == 1):
				t.Errorf("%s: record %d has the key %s", test.name, i, r.Key)
			case large && (r.Gap == nil || r.Gap.Code != dataset.TooLarge || r.Gap.Key != r.Key || !strings.HasPrefix(r.Gap.Detail, test.detail)):
				t.Errorf("%s: %s: %v; want a gap: %s", test.name, r.Key, r.Gap, test.detail)
			case !large && (r.Gap != nil || !strings.HasPrefix(string(r.Data), `{"id":`)):
				t.Errorf("%s: %s: %v %.80s", test.name, r.Key, r.Gap, r.Data)
			}
		}
	}
}
