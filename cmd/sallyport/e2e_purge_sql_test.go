package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/fixtures/sqlservers"
	"github.com/jackc/pgx/v5"
)

// oldCases is a register of which every even row is old enough to go.
const oldCases = `
CREATE TABLE cases (id integer PRIMARY KEY, closed timestamptz, body text);
CREATE TABLE notes (id integer PRIMARY KEY, about integer NOT NULL REFERENCES cases, written date);
CREATE TABLE appeals (id integer PRIMARY KEY, about integer NOT NULL REFERENCES cases ON DELETE CASCADE);
CREATE TABLE consents (id integer PRIMARY KEY, person text);
CREATE TABLE sealed (id integer PRIMARY KEY, closed date);
INSERT INTO cases SELECT i, CASE WHEN i % 2 = 0 THEN '2010-05-05 12:00:00+00' ELSE now() - interval '1 year' END, 'case ' || i FROM generate_series(1, 40) i;
INSERT INTO notes SELECT i, i, '2010-06-01' FROM generate_series(2, 20, 2) i;
INSERT INTO consents SELECT i, 'person ' || i FROM generate_series(1, 5) i;
INSERT INTO sealed VALUES (1, '2010-01-01');`

// purgeOutcome is what --json says last of purge apply.
type purgeOutcome struct {
	Result purgeResult `json:"result"`
}

// outcome finds the summary in what --json printed.
func outcome(t *testing.T, out string) purgeResult {
	t.Helper()
	for line := range strings.Lines(out) {
		var o purgeOutcome
		if strings.Contains(line, `"summary"`) {
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			return o.Result
		}
	}
	t.Fatalf("no summary:\n%s", out)
	return purgeResult{}
}

// Rows of a PostgreSQL database are purged by rule; what others changed, refer to, lock or
// hide in the meantime stays and is named.
func TestPurgeOfAPostgreSQLDatabase(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a database server is started")
	}
	server, err := sqlservers.StartPostgres(t.Context())
	if errors.Is(err, sqlservers.ErrNotInstalled) {
		t.Skip("no database server to test with: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	running := true
	stop := func() {
		if running {
			running = false
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	connect := func(user, database string) *pgx.Conn {
		c, err := pgx.Connect(t.Context(), server.PostgresURL(user, database))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(context.Background()) })
		return c
	}
	run := func(c *pgx.Conn, sql string) {
		t.Helper()
		if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
	run(connect("postgres", "postgres"), "CREATE ROLE records LOGIN")
	run(connect("postgres", "postgres"), "CREATE DATABASE register OWNER records")
	run(connect("postgres", "postgres"), "CREATE DATABASE rehearsal OWNER records")
	owner := connect("records", "register")
	run(owner, oldCases)
	run(connect("records", "rehearsal"), oldCases)

	h := newHost(t)
	h.configuration("archive", fmt.Sprintf("    exporter: postgres\n    with: {url: %q}\n", server.PostgresURL("records", "register"))+`
    purge:
      rules:
        - {name: closed cases, stream: public.cases, because: age, field: closed, older_than: 7y, authority: schedule 12}
        - {name: old notes, stream: public.notes, because: age, field: written, older_than: 7y, authority: schedule 12}
        - {name: withdrawn, stream: public.consents, because: basis-expired, since: 2020-01-01, authority: decision 7}
        - {name: closed seals, stream: public.sealed, because: age, field: closed, older_than: 7y, authority: schedule 12}
      max_percent: 100
      proof_within: 2d
`)
	h.approver("alex")
	h.approver("blair")
	h.must(6, "purge", "plan", "files") // nothing is proven yet
	h.must(0, "exit-test", "files")
	out := h.must(0, "purge", "plan", "files")
	plan := planHash.FindStringSubmatch(out)[1]
	if n := strings.Count(out, "delete "); n < 20+10+5+1 {
		t.Errorf("the plan has %d items:\n%s", n, out)
	}
	h.must(6, "purge", "apply", "files", plan)
	h.must(0, "purge", "approve", "--approval-key", "alex", "files", plan)
	h.must(0, "purge", "show", "--out", "to-sign", "files", plan)
	if text, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "sallyport-approval", "-f", h.path("blair"), h.path("to-sign")).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, text)
	}
	h.must(0, "purge", "approve", "--signature", "to-sign.sig", "files", plan)

	// D01: the same tables in another database are another source.
	yaml, err := os.ReadFile(h.path("sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("elsewhere.yaml", strings.ReplaceAll(string(yaml), "/register?", "/rehearsal?"))
	if out := h.must(6, "purge", "apply", "-c", "elsewhere.yaml", "files", plan); !strings.Contains(out, "the snapshot was made of") {
		t.Errorf("another database: %s", out)
	}
	// Life goes on at the source.
	run(owner, `UPDATE cases SET body = 'reopened' WHERE id = 22; DELETE FROM cases WHERE id = 24;
		INSERT INTO appeals VALUES (1, 26); INSERT INTO cases VALUES (100, '2010-05-05', 'found in a drawer');
		ALTER TABLE sealed ENABLE ROW LEVEL SECURITY; ALTER TABLE sealed FORCE ROW LEVEL SECURITY`)
	would := outcome(t, h.must(3, "purge", "apply", "--dry-run", "--json", "files", plan))
	fates := func(r purgeResult) map[string]string {
		m := map[string]string{}
		for _, a := range r.Actions {
			m[strings.TrimPrefix(a.Stream, "public.")+a.Key] = string(a.Fate) + " " + a.Detail
		}
		return m
	}
	for key, want := range map[string]string{"cases[22]": "^changed .*changed since", "cases[24]": "^absent", "cases[26]": "^refused .*rows of public.appeals refer to it",
		"sealed[1]": "^failed .*row-level security", "cases[2]": "^deleted", "notes[2]": "^deleted", "consents[1]": "^deleted"} {
		if got := fates(would)[key]; !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q; want %s", key, got, want)
		}
	}
	left := func(table string) (ids []int) {
		t.Helper()
		rows, err := owner.Query(t.Context(), "SELECT id FROM "+table+" ORDER BY id")
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[int])
		}
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if n := len(left("cases")); n != 40 {
		t.Fatalf("a dry run left %d cases of 40", n)
	}
	// The purge does the same, and is not finished.
	done := outcome(t, h.must(3, "purge", "apply", "--json", "--expect", would.Hash.String(), "files", plan))
	if !reflect.DeepEqual(done.Fates, would.Fates) || done.Hash != would.Hash || len(done.Actions) != 36 {
		t.Errorf("the dry run said %v, done was %v", would.Fates, done.Fates)
	}
	// What failed is tried again. Meanwhile the seal is off.
	run(owner, "ALTER TABLE sealed DISABLE ROW LEVEL SECURITY")
	if out := h.must(6, "purge", "apply", "--expect", would.Hash.String(), "files", plan); !strings.Contains(out, "is not what was shown") {
		t.Errorf("another state than the dry run saw: %s", out)
	}
	text := h.must(0, "purge", "apply", "--report", "deletion.txt", "files", plan)
	for _, want := range []string{"deleted: 33 items", "absent: 1 item", "changed: 1 item", "refused: 1 item", "deletion certificate ", `changed +public.cases +\[22\]`, `refused +public.cases +\[26\].*public.appeals`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the purge does not say %q:\n%s", want, text)
		}
	}
	want := []int{22, 26, 100}
	for i := 1; i < 40; i += 2 {
		want = append(want, i)
	}
	if slices.Sort(want); !slices.Equal(left("cases"), want) {
		t.Errorf("left are cases %v; want %v", left("cases"), want)
	}
	if n := len(left("notes")) + len(left("consents")) + len(left("sealed")); n > 0 || len(left("appeals")) != 1 {
		t.Errorf("%d notes, consents and seals are left, appeals %v", n, left("appeals"))
	}
	if report, err := os.ReadFile(h.path("deletion.txt")); err != nil || !strings.Contains(string(report), "1 refused by the source") || strings.Contains(string(report), "case 2") {
		t.Errorf("report: %v\n%s", err, report)
	}
	h.must(6, "purge", "apply", "files", plan)

	// The source is gone: the archive alone has it all.
	stop()
	h.must(0, "purge", "rebuild", "files", plan)
	h.must(0, "restore", "--to", "sqlite:"+h.path("back.db"), "files@latest")
	db, err := sql.Open("sqlite", "file:"+h.path("back.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]int{
		`SELECT count(*) FROM cases WHERE id % 2 = 0 AND body = 'case ' || id`: 20, `SELECT count(*) FROM notes`: 10,
		`SELECT count(*) FROM consents`: 5, `SELECT count(*) FROM sealed`: 1} {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil || n != want {
			t.Errorf("restored: %s: %d, %v; want %d", query, n, err, want)
		}
	}
	h.must(0, "audit", "verify")
}
