package sqldb

import (
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
)

func openTarget(t testing.TB, k exporters.Kind, url string) exporters.Target {
	t.Helper()
	x, err := k.OpenTarget(t.Context(), exporters.Config{Options: map[string]any{"url": url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func TestPostgresToPostgresObeysTheLawOfTargets(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, pgTorture)
	to, _ := pgDatabase(t, "")
	src, dst := open(t, Postgres, from), openTarget(t, Postgres, to)
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
	gaps, _ := copyAll(t, dst, src)
	for _, g := range gaps {
		t.Errorf("%v", &g)
	}
}

// copyAll restores all of src into dst and returns the gaps.
func copyAll(t testing.TB, dst exporters.Target, src exporters.Exporter) ([]dataset.Gap, dataset.ID) {
	t.Helper()
	all, err := src.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	test := dataset.NewID()
	if err := dst.Begin(t.Context(), test, all); err != nil {
		t.Fatal(err)
	}
	var gaps []dataset.Gap
	for _, s := range all {
		seq := src.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}})
		if err := dst.Load(t.Context(), s, seq, func(g dataset.Gap) { gaps = append(gaps, g) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Finish(t.Context()); err != nil && !strings.Contains(err.Error(), "foreign key") {
		t.Error(err)
	}
	return gaps, test
}

func sqlitePathURL(t testing.TB) string { return "sqlite:" + t.TempDir() + "/to.db" }

func TestSQLiteToSQLiteObeysTheLawOfTargets(t *testing.T) {
	t.Parallel()
	src, dst := open(t, SQLite, sqliteDatabase(t, sqliteTorture)), openTarget(t, SQLite, sqlitePathURL(t))
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
	gaps, _ := copyAll(t, dst, src)
	for _, g := range gaps {
		t.Errorf("%v", &g)
	}
}

func TestPostgresToSQLite(t *testing.T) {
	t.Parallel()
	from, _ := pgDatabase(t, pgTorture)
	src, dst := open(t, Postgres, from), openTarget(t, SQLite, sqlitePathURL(t))
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
	gaps, _ := copyAll(t, dst, src)
	for _, g := range gaps {
		t.Logf("%v", &g)
	}
}

func TestSQLiteToPostgres(t *testing.T) {
	t.Parallel()
	to, _ := pgDatabase(t, "")
	src, dst := open(t, SQLite, sqliteDatabase(t, sqliteTorture)), openTarget(t, Postgres, to)
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
	gaps, _ := copyAll(t, dst, src)
	for _, g := range gaps {
		t.Logf("%v", &g)
	}
}

func TestMySQLToOthers(t *testing.T) {
	t.Parallel()
	to, _ := pgDatabase(t, "")
	from, _ := mysqlDatabase(t, mysqlTorture)
	src := open(t, MySQL, from)
	for _, dst := range []exporters.Target{openTarget(t, Postgres, to), openTarget(t, SQLite, sqlitePathURL(t))} {
		if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
			t.Error(err)
		}
		gaps, _ := copyAll(t, dst, src)
		for _, g := range gaps {
			t.Logf("%v", &g)
		}
	}
}
