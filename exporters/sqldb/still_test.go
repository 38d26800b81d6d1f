package sqldb

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

func TestOnlyWhatIsPartOfTheSnapshotHoldsStill(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		open  func(t *testing.T) exporters.Exporter
		still map[string]bool
	}{
		{"postgres", func(t *testing.T) exporters.Exporter {
			url, admin := pgDatabase(t, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (1) TO (9)")
			pgRun(t, admin, "CREATE FOREIGN DATA WRAPPER nowhere", "CREATE SERVER away FOREIGN DATA WRAPPER nowhere",
				"CREATE TABLE mixed (id int) PARTITION BY RANGE (id)", "CREATE FOREIGN TABLE m1 PARTITION OF mixed FOR VALUES FROM (1) TO (9) SERVER away",
				"GRANT SELECT ON mixed, m1 TO PUBLIC")
			return open(t, Postgres, url)
		}, map[string]bool{"public.a": true, "public.parts": true, "public.mixed": false, definitionsStream: true, "public.none": false}},
		{"mysql", func(t *testing.T) exporters.Exporter {
			url, _ := mysqlDatabase(t, "CREATE TABLE a (id int PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE b (id int PRIMARY KEY) ENGINE=MyISAM")
			return open(t, MySQL, url)
		}, map[string]bool{"a": true, "b": false, definitionsStream: true, "none": false}},
		{"sqlite", func(t *testing.T) exporters.Exporter {
			path := filepath.Join(t.TempDir(), "a.db")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return open(t, SQLite, "sqlite:"+path)
		}, map[string]bool{definitionsStream: true, "none": false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			view := test.open(t)
			for name, want := range test.still {
				if got := exporters.Still(view, dataset.Stream{Name: name}); got != want {
					t.Errorf("%s: Still = %v; want %v", name, got, want)
				}
			}
		})
	}
}
