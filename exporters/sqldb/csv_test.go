package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/fixtures/keys"
)

// ourCSV is what COPY needs to be told of our CSV.
const ourCSV = `FORMAT csv, NULL '\N', ENCODING 'UTF8'`

// tortureRows are rows of an id and two texts of which one may be NULL: awkward strings,
// and random ones of what CSV finds hard. There is no NUL in them: no server takes it.
func tortureRows() [][]dataset.Cell {
	texts := []string{"", `\N`, `\.`, "\\.\n", "\r\n", "\n", "\r", `"`, `""`, ",", " ", "\t", "=1+1", "+1", "-1", "@x", "NULL", "null", `\`, `\\`, "\ufeff", "a\u2028b", "\u202e", "e\u0301", strings.Repeat("x\"\r\n", 5000)}
	for _, k := range keys.Awkward() {
		if utf8.ValidString(k) && !strings.Contains(k, "\x00") {
			texts = append(texts, k)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("\"\"\\\\N,,\r\n\n ab.=é\ufeff🏴")
	for range 1000 {
		text := make([]rune, r.IntN(8))
		for i := range text {
			text[i] = alphabet[r.IntN(len(alphabet))]
		}
		texts = append(texts, string(text))
	}
	var rows [][]dataset.Cell
	for i, text := range texts {
		other := dataset.Cell{Text: texts[(i*7+3)%len(texts)]}
		if i%3 == 0 {
			other = dataset.Cell{Null: true}
		}
		rows = append(rows, []dataset.Cell{{Text: fmt.Sprint(i)}, {Text: text}, other})
	}
	return rows
}

func csvFile(t testing.TB, columns []string, rows [][]dataset.Cell) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := dataset.NewCSVWriter(&b, columns)
	for i := 0; err == nil && i < len(rows); i++ {
		err = w.Write(rows[i])
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func csvRows(t testing.TB, file []byte) (rows [][]dataset.Cell) {
	t.Helper()
	r, err := dataset.NewCSVReader(bytes.NewReader(file), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for {
		row, err := r.Read(nil)
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
}

// sameRows names the first row that differs.
func sameRows(t testing.TB, what string, got, want [][]dataset.Cell) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !slices.Equal(got[i], want[i]) {
			t.Fatalf("%s: row %d is %q; want %q", what, i, fmt.Sprint(got[i]), fmt.Sprint(want[i]))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows; want %d", what, len(got), len(want))
	}
}

func TestPostgresReadsOurCSVAndWritesTheSame(t *testing.T) {
	t.Parallel()
	_, c := pgDatabase(t, "")
	columns := []string{"id", "a \"quoted\", name", "line\nend"}
	pgRun(t, c, `CREATE TABLE t (id bigint PRIMARY KEY, "a ""quoted"", name" text, "line
end" text)`)
	want := tortureRows()
	file := csvFile(t, columns, want)
	if _, err := c.PgConn().CopyFrom(t.Context(), bytes.NewReader(file), "COPY t FROM STDIN WITH ("+ourCSV+", HEADER match)"); err != nil {
		t.Fatal(err)
	}
	rows, err := c.Query(t.Context(), "SELECT * FROM t ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	var loaded [][]dataset.Cell
	for rows.Next() {
		var id int64
		var a, b *string
		if err := rows.Scan(&id, &a, &b); err != nil {
			t.Fatal(err)
		}
		row := []dataset.Cell{{Text: fmt.Sprint(id)}}
		for _, s := range []*string{a, b} {
			if s == nil {
				row = append(row, dataset.Cell{Null: true})
			} else {
				row = append(row, dataset.Cell{Text: *s})
			}
		}
		loaded = append(loaded, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	sameRows(t, "what COPY loaded of our CSV", loaded, want)

	// COPY quotes no names that need none, so the rows alone are compared: byte for byte.
	var theirs bytes.Buffer
	if _, err := c.PgConn().CopyTo(t.Context(), &theirs, "COPY (SELECT * FROM t ORDER BY id) TO STDOUT WITH ("+ourCSV+", FORCE_QUOTE *)"); err != nil {
		t.Fatal(err)
	}
	header := csvFile(t, columns, nil)
	sameRows(t, "our reading of what COPY wrote", csvRows(t, append(slices.Clone(header), theirs.Bytes()...)), want)
	if !bytes.Equal(theirs.Bytes(), file[len(header):]) {
		t.Error("COPY writes the same rows otherwise than we do")
	}
}

// TestPostgresLoadsTheCSVOfAnExportedTable is the way of a record: out of a table with
// our exporter, into CSV as an archive has it, and into another table with COPY alone.
func TestPostgresLoadsTheCSVOfAnExportedTable(t *testing.T) {
	t.Parallel()
	const columns = `(id bigint PRIMARY KEY, n numeric, f double precision, b boolean, d date, at timestamptz, i interval, u uuid, j jsonb, x text)`
	url, c := pgDatabase(t, `CREATE TABLE source `+columns+`;
		INSERT INTO source VALUES
		(1, 12345678901234567890.10, 0.1, true, '2026-02-28', '2026-03-29 01:30:00.123456+00', '1 year 2 mons 3 days 04:05:06.7', '00000000-0000-0000-0000-000000000001', '{"a": [1.10, "\"x\""]}', E'=1+1\r\n"x"'),
		(2, 'NaN', 'Infinity', false, 'infinity', '-infinity', '-1 mons', NULL, 'null', ''),
		(9007199254740993, '-Infinity', '-0', NULL, '4713-01-01 BC', '294276-12-31 23:59:59.999999+00', '0', NULL, NULL, NULL),
		(4, NULL, 1e-307, NULL, NULL, NULL, NULL, NULL, '"text"', '\N')`)
	view := open(t, Postgres, url)
	streams, err := view.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(streams, func(s dataset.Stream) bool { return strings.HasSuffix(s.Name, "source") })
	if i < 0 {
		t.Fatalf("no table among %d streams", len(streams))
	}
	table, err := dataset.NewCSVTable(streams[i].Schema)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]dataset.Cell
	for r, err := range view.Read(t.Context(), exporters.Query{Streams: streams[i : i+1]}) {
		if err != nil {
			t.Fatal(err)
		}
		row, absent, err := table.Row(nil, r.Data)
		if err != nil || absent != 0 {
			t.Fatalf("%s: %d absent, %v", r.Data, absent, err)
		}
		rows = append(rows, row)
	}
	pgRun(t, c, `CREATE TABLE copy `+columns)
	file := csvFile(t, table.Columns(), rows)
	if _, err := c.PgConn().CopyFrom(t.Context(), bytes.NewReader(file), "COPY copy FROM STDIN WITH ("+ourCSV+", HEADER match)"); err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	var differ, n int
	err = c.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM ((TABLE source EXCEPT TABLE copy) UNION ALL (TABLE copy EXCEPT TABLE source)) d), (SELECT count(*) FROM copy)`).Scan(&differ, &n)
	if err != nil || differ != 0 || n != 4 {
		t.Errorf("%d of %d rows differ, %v\n%s", differ, n, err, file)
	}
}

func TestSQLiteShellImportsOurCSV(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("our CSV was not imported: sqlite3 is not installed")
	}
	want := tortureRows()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "t.csv"), csvFile(t, []string{"id", "a", "b"}, want), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shell, "-batch", "t.db")
	cmd.Dir = folder
	cmd.Stdin = strings.NewReader("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT);\n.import --csv --skip 1 t.csv t\n")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v\n%.500s", err, out)
	}
	db, err := sql.Open("sqlite", filepath.Join(folder, "t.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), "SELECT id, a, b FROM t ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got [][]dataset.Cell
	for rows.Next() {
		row := make([]dataset.Cell, 3)
		if err := rows.Scan(&row[0].Text, &row[1].Text, &row[2].Text); err != nil {
			t.Fatal(err)
		}
		got = append(got, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, row := range want { // the shell knows no NULL: it reads the bare token as a text
		for i := range row {
			if row[i].Null {
				row[i] = dataset.Cell{Text: `\N`}
			}
		}
	}
	sameRows(t, "what .import loaded of our CSV", got, want)
}
