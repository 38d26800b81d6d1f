package rest

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

func TestPartitionsOfAUnionComeOnce(t *testing.T) {
	t.Parallel()
	tr := start(t, "rare.yaml", fixtures.NewDesk(4), map[string]any{"records": "transformed"}, nil)
	r := tr.read(t, "united")
	want := []string{ // tickets 3, 2, then 1 of those that are found; 4 has no comments
		`{"id":30,"body":"comment 0","of":"named","_partition":{"ticket":3}}`,
		`{"id":31,"body":"comment 1","of":"named","_partition":{"ticket":3}}`,
		`{"id":32,"body":"comment 2","of":"named","_partition":{"ticket":3}}`,
		`{"id":20,"body":"comment 0","of":"named","_partition":{"ticket":2}}`,
		`{"id":21,"body":"comment 1","of":"named","_partition":{"ticket":2}}`,
		`{"id":10,"body":"comment 0","of":"Ticket 1","_partition":{"ticket":1}}`,
	}
	if r.err != nil || len(r.gaps) > 0 || !slices.Equal(r.data, want) {
		t.Errorf("%v %v %s", r.err, r.gaps, strings.Join(r.data, "\n"))
	}
}

func TestPagesThatMayNotGoDeeperGoOnFromTheNewestRecord(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 9, 29, 30, 31, 95} {
		desk := fixtures.NewDesk(n)
		tr := start(t, "rare.yaml", desk, nil, nil)
		if r := tr.read(t, "searched"); r.err != nil || len(r.gaps) > 0 || !slices.Equal(r.data, truth(desk)) {
			t.Errorf("of %d: %v %v, %d records", n, r.err, r.gaps, len(r.data))
		}
		if got := strings.Join(tr.view.Facts().Notes, "\n"); strings.Contains(got, "began anew") != (n >= 30) {
			t.Errorf("of %d: %s", n, got)
		}
	}
	// More records of one time than one may page through are an error, not a loop.
	desk := fixtures.NewDesk(0)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		var offset int
		fmt.Sscan(r.URL.Query().Get("offset"), &offset)
		var out []string
		for i := range 10 {
			out = append(out, fmt.Sprintf(`{"id":%d,"updated_at":"2026-01-02T00:00:00Z"}`, offset+i))
		}
		fmt.Fprintf(w, `{"data":[%s]}`, strings.Join(out, ","))
		return true
	}
	tr := start(t, "rare.yaml", desk, nil, nil)
	if r := tr.read(t, "searched"); r.err == nil || !strings.Contains(r.err.Error(), "nothing is gained") || len(r.data) != 30 {
		t.Errorf("%v, %d records", r.err, len(r.data))
	}
}

// TestPagesOfRecordsWithoutOrderDoNotGoOn: going on from the newest of them would leave
// older ones out.
func TestPagesOfRecordsWithoutOrderDoNotGoOn(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]func(i int) string{
		"falling": func(i int) string { return fmt.Sprintf(`"2026-01-%02dT00:00:00Z"`, 31-i/10) },
		"missing": func(i int) string { return `null` },
	} {
		desk := fixtures.NewDesk(0)
		desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			var offset int
			fmt.Sscan(r.URL.Query().Get("offset"), &offset)
			var out []string
			for i := offset; i < offset+10; i++ {
				out = append(out, fmt.Sprintf(`{"id":%d,"updated_at":%s}`, i, when(i)))
			}
			fmt.Fprintf(w, `{"data":[%s]}`, strings.Join(out, ","))
			return true
		}
		tr := start(t, "rare.yaml", desk, nil, nil)
		if r := tr.read(t, "searched"); r.err == nil || !strings.Contains(r.err.Error(), "order of their times") {
			t.Errorf("%s: %v, %d records", name, r.err, len(r.data))
		}
	}
}

func TestPagesBeginAnewWhereTheServiceForgotThem(t *testing.T) {
	t.Parallel()
	conflicts := func(tr *trial, times int64) {
		var seen atomic.Int64
		tr.desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("offset") != "20" || seen.Add(1) > times {
				return false
			}
			w.WriteHeader(http.StatusConflict)
			return true
		}
	}
	tr := start(t, "rare.yaml", fixtures.NewDesk(25), nil, nil)
	conflicts(tr, 1)
	if r := tr.read(t, "restarted"); r.err != nil || len(r.gaps) > 0 || !slices.Equal(r.data, truth(tr.desk)) {
		t.Errorf("%v %v, %d records", r.err, r.gaps, len(r.data))
	}
	if got := tr.view.facts.repeated["restarted"]; got != 20 {
		t.Errorf("%d records came again; want 20", got)
	}
	conflicts(tr, 9)
	if r := tr.read(t, "restarted"); r.err == nil || !strings.Contains(r.err.Error(), "nothing is gained") {
		t.Errorf("for ever: %v", r.err)
	}
	conflicts(tr, 1)
	if r := tr.read(t, "restarted_without_key"); r.err == nil || !strings.Contains(r.err.Error(), "without a primary key") {
		t.Errorf("without a key: %v", r.err)
	}
}

func TestPropertiesAreAskedForWhereTheManifestWantsThem(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "rare.yaml", desk, nil, nil)
	for _, name := range []string{"asked", "fetched"} {
		if r := tr.read(t, name); r.err != nil || !sameSet(r.data, truth(desk)) {
			t.Errorf("%s: %v %v, %d records", name, r.err, r.gaps, len(r.data))
		}
	}
	got := desk.Requests()
	for _, want := range []string{"GET /all?select=id%2Bid%2Bsubject", "GET /all?select=id%2Bamount", "GET /all?select=id%2Csubject%2Camount"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %q", want, got)
		}
	}
}

func TestSchemasLieBesideTheManifestAndNowhereElse(t *testing.T) {
	t.Parallel()
	tr := start(t, "rare.yaml", fixtures.NewDesk(1), nil, nil)
	if err := os.MkdirAll(filepath.Join(tr.dir, "schemas"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(tr.dir, "schemas", "tickets.json"): `{"type":"object","properties":{"id":{"type":"integer"},"subject":{"type":"string"}}}`,
		filepath.Join(tr.dir, "schemas", "cut.json"):     `{"type":`,
		filepath.Join(tr.dir, "schemas", "list.json"):    `[]`,
		filepath.Join(outside, "secret.json"):            `{"type":"object"}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(outside, "secret.json"), filepath.Join(tr.dir, "schemas", "linked.json")); err != nil {
		t.Fatal(err)
	}
	streams := func(schema string) ([]dataset.Stream, *view, error) {
		v, err := open(t.Context(), exporters.Config{Options: map[string]any{"manifest": filepath.Join(tr.dir, "manifest.yaml"),
			"config": map[string]any{"base": tr.view.config.Text("base"), "schema": schema}}}, tr.clock.now, tr.clock.sleep)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { v.Close() })
		all, err := v.Streams(t.Context())
		return all, v, err
	}
	all, _, err := streams("tickets")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s dataset.Stream) bool { return s.Name == "filed" })
	if f := all[i].Schema.Fields; len(f) != 2 || f[0].Type != dataset.Integer {
		t.Errorf("the schema of the file: %+v", f)
	}
	if _, v, err := streams("missing"); err != nil || !strings.Contains(strings.Join(v.Facts().Notes, "\n"), "missing.json") {
		t.Errorf("a schema that is not there: %v, notes %q", err, v.Facts().Notes)
	}
	for _, bad := range []string{"cut", "list", "linked", "../../secret", "../../../../../../etc/passwd"} {
		if _, v, err := streams(bad); err == nil && !strings.Contains(strings.Join(v.Facts().Notes, "\n"), bad) {
			t.Errorf("%s was taken for a schema", bad)
		} else if bad == "linked" && err == nil {
			t.Error("a link out of the folder was followed")
		}
	}
}

func TestConfigurationsAreValidatedAsTheManifestSays(t *testing.T) {
	t.Parallel()
	tr := start(t, "rare.yaml", fixtures.NewDesk(0), nil, map[string]any{"accounts": []any{map[string]any{"id": "abc"}}})
	for want, config := range map[string]map[string]any{
		"validations[0]": {"base": "http://localhost", "accounts": []any{map[string]any{"id": "abc"}, map[string]any{"id": "hunter2-not-to-be-told"[:2]}}},
		"validations[1]": {"base": "ftp://localhost"},
	} {
		_, err := open(t.Context(), exporters.Config{Options: map[string]any{"manifest": filepath.Join(tr.dir, "manifest.yaml"), "config": config},
			Secret: func(context.Context, string) (string, error) { return "", nil }}, tr.clock.now, tr.clock.sleep)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want a complaint of %s", err, want)
		}
	}
	if tr.view.ahead != 2 {
		t.Errorf("%d slices at once; want 2", tr.view.ahead)
	}
}
