package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// D08 with the real binary: killed at any operation of the store, before and after it took
// effect, a purge goes on when it is run again, deletes what was approved and nothing twice,
// and its certificate counts every item once.
func TestKilledPurgesConverge(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a binary is killed many times")
	}
	h := newHost(t)
	cases := func(q string) (left string) {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+h.path("register.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := db.QueryRow(q + "; SELECT group_concat(id) FROM cases").Scan(&left); err != nil {
			t.Fatal(err)
		}
		return left
	}
	cases("CREATE TABLE cases (id INTEGER PRIMARY KEY, closed TEXT); INSERT INTO cases VALUES (1, '2010-01-01'), (2, '2010-01-01'), (3, '2010-01-01'), (4, NULL)")
	h.configuration("archive", `    exporter: sqlite
    with: {url: "sqlite:register.db"}
    purge:
      rules: [{name: closed, stream: cases, because: age, field: closed, older_than: 7y, authority: schedule 12}]
      approvals: 1
      max_percent: 100
`)
	h.approver("alex")
	h.must(0, "exit-test", "files")
	plan := planHash.FindStringSubmatch(h.must(0, "purge", "plan", "files"))[1]
	h.must(0, "purge", "approve", "--approval-key", "alex", "files", plan)
	begin := t.TempDir()
	if err := os.CopyFS(begin, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	again := func() {
		t.Helper()
		for _, name := range []string{"archive", "state", "register.db"} {
			if err := os.RemoveAll(h.path(name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"archive", "state"} {
			if err := os.CopyFS(h.path(name), os.DirFS(filepath.Join(begin, name))); err != nil {
				t.Fatal(err)
			}
		}
		db, err := os.ReadFile(filepath.Join(begin, "register.db"))
		if err != nil {
			t.Fatal(err)
		}
		h.write("register.db", string(db))
	}
	kills, step := 0, 29
	if os.Getenv("SALLYPORT_EXHAUSTIVE") != "" {
		step = 1
	}
	for k := 1; ; k += step {
		again()
		at := fmt.Sprint(k)
		if k%2 == 0 {
			at += "+" // after it took effect
		}
		code, out := h.run(crashVariable+"="+at, "purge", "apply", "files", plan)
		if code == 0 {
			break
		} else if code != -1 {
			t.Fatalf("operation %s: exit code %d\n%s", at, code, out)
		}
		kills++
		code, out = h.run("purge", "apply", "--json", "files", plan)
		switch {
		case code == 6 && strings.Contains(out, "carried out before"): // killed after it was certified
		case code != 0:
			t.Fatalf("operation %s: run again: exit code %d\n%s", at, code, out)
		default:
			if r := outcome(t, out); r.Fates["deleted"]+r.Fates["gone"] != 3 || r.Deletion == nil {
				t.Errorf("operation %s: fates %v", at, r.Fates)
			}
		}
		if left := cases("SELECT 1"); left != "4" {
			t.Fatalf("operation %s: left are cases %s; want 4", at, left)
		}
		h.must(0, "check")
	}
	if kills < 3 {
		t.Errorf("the purge was killed %d times: it has too few operations to prove anything", kills)
	}
	h.must(0, "audit", "verify")
}
