package sqldb

import (
	"fmt"
	"slices"
	"strings"
	"sync"
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
	var mu sync.Mutex
	var gaps []dataset.Gap
	gap := func(g dataset.Gap) {
		mu.Lock()
		defer mu.Unlock()
		gaps = append(gaps, g)
	}
	for _, s := range all {
		seq := src.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}})
		if err := dst.Load(t.Context(), s, seq, gap); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	return gaps, test
}

// TestEveryProductRestoresIntoEveryOther restores the torture schemas and compares
// every record. What is missing afterwards must have been reported, and is listed here.
func TestEveryProductRestoresIntoEveryOther(t *testing.T) {
	t.Parallel()
	kinds := map[string]exporters.Kind{kindPostgres: Postgres, kindMySQL: MySQL, kindSQLite: SQLite}
	empty := func(t *testing.T, kind, script string) string {
		switch kind {
		case kindPostgres:
			url, _ := pgDatabase(t, script)
			return url
		case kindMySQL:
			url, _ := mysqlDatabase(t, script)
			return url
		}
		if script != "" {
			return sqliteDatabase(t, script)
		}
		return "sqlite:" + t.TempDir() + "/to.db"
	}
	for _, test := range []struct {
		from, to string
		gaps     []string // stream, key: column
	}{
		{kindPostgres, kindPostgres, nil},
		{kindMySQL, kindMySQL, nil},
		{kindSQLite, kindSQLite, nil},
		{kindPostgres, kindSQLite, []string{
			`public.nums ["NaN","infinity","NaN","AA=="]: "f": cannot be stored: NaN`,
			`public.types ["-1"]: "f4": cannot be stored: NaN`,
			`public.types ["2"]: "f4": cannot be stored: negative zero`,
			`public.types ["5"]: "f8": cannot be stored: NaN`,
		}},
		{kindPostgres, kindMySQL, []string{
			`public.nums ["1.1000001","0044-03-15 BC","Infinity","/w=="]: "d": cannot be stored: the date 0044-03-15 BC`,
			`public.nums ["NaN","infinity","NaN","AA=="]: "k": cannot be stored: NaN`,
			`public.types ["-1"]: "f4": cannot be stored: NaN`,
			`public.types ["5"]: "f4": cannot be stored: Infinity`,
			`public.types ["9007199254740993"]: "d": cannot be stored: the date infinity`,
		}},
		{kindMySQL, kindPostgres, []string{
			`types ["1"]: the server refuses it: date/time field value out of range: "0000-00-00"`,
			`types ["18446744073709551614"]: "lt": cannot be stored: text holds a NUL`,
			`types ["2"]: the server refuses it: date/time field value out of range: "0000-00-00"`,
		}},
		{kindMySQL, kindSQLite, []string{
			`types ["18446744073709551614"]: "id": cannot be stored: the integer 18446744073709551614`,
		}},
		{kindSQLite, kindPostgres, []string{
			`types ["-9223372036854775808"]: "bl": cannot be stored: a value of another class: {"$integer":"0"}`,
			`types ["1"]: "n": cannot be stored: a value of another class: {"$integer":"9007199254740993"}`,
			`types ["2"]: "i": cannot be stored: a value of another class: {"$text":"text in integer"}`,
			`types ["3"]: "i": cannot be stored: a value of another class: {"$real":"1.5"}`,
			`types ["4"]: "i": cannot be stored: a value of another class: {"$real":"1e+300"}`,
			`types ["8"]: "t": cannot be stored: text holds a NUL`,
		}},
		{kindSQLite, kindMySQL, []string{
			`types ["-9223372036854775808"]: "bl": cannot be stored: a value of another class: {"$integer":"0"}`,
			`types ["1"]: "n": cannot be stored: a value of another class: {"$integer":"9007199254740993"}`,
			`types ["2"]: "i": cannot be stored: a value of another class: {"$text":"text in integer"}`,
			`types ["3"]: "i": cannot be stored: a value of another class: {"$real":"1.5"}`,
			`types ["4"]: "i": cannot be stored: a value of another class: {"$real":"1e+300"}`,
		}},
	} {
		t.Run(test.from+" to "+test.to, func(t *testing.T) {
			t.Parallel()
			script := map[string]string{kindPostgres: pgTorture, kindMySQL: mysqlTorture, kindSQLite: sqliteTorture}[test.from]
			src := open(t, kinds[test.from], empty(t, test.from, script))
			dst := openTarget(t, kinds[test.to], empty(t, test.to, ""))
			if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
				t.Error(err)
			}
			gaps, _ := copyAll(t, dst, src)
			var got []string
			for _, g := range gaps {
				got = append(got, fmt.Sprintf("%s %s: %s", g.Stream, g.Key, strings.TrimPrefix(g.Detail, "column ")))
			}
			slices.Sort(got)
			if !slices.Equal(got, test.gaps) {
				t.Errorf("gaps:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.gaps, "\n"))
			}
		})
	}
}
