package sqldb

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// TestEveryRowThatTheServerRefusesIsNamed loads rows enough for several connections,
// also where the server grants fewer.
func TestEveryRowThatTheServerRefusesIsNamed(t *testing.T) {
	t.Parallel()
	const rows, each = 25_000, 3_000
	from, _ := pgDatabase(t, fmt.Sprintf(`CREATE TABLE t AS SELECT g AS id, '2026-03-01'::date AS day, repeat('x', 250) AS pad FROM generate_series(1, %d) g;
		ALTER TABLE t ADD PRIMARY KEY (id)`, rows))
	for _, limit := range []int{-1, 2} {
		t.Run(fmt.Sprintf("connection limit %d", limit), func(t *testing.T) {
			t.Parallel()
			src := open(t, Postgres, from)
			all, err := src.Streams(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := all[slices.IndexFunc(all, func(s dataset.Stream) bool { return s.Name == "public.t" })]
			url, admin := pgDatabase(t, "")
			pgRun(t, admin, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", admin.Config().Database, limit))
			dst := openTarget(t, Postgres, url)
			if err := dst.Begin(t.Context(), dataset.NewID(), all); err != nil {
				t.Fatal(err)
			}
			want, got := loadSpoilt(t, src, dst, s, each)
			if !slices.Equal(got, want) {
				t.Errorf("refused were %v; want %v", got, want)
			}
			var loaded, different int
			if err := admin.QueryRow(t.Context(), "SELECT count(*), count(DISTINCT id) FROM public.t").Scan(&loaded, &different); err != nil {
				t.Fatal(err)
			}
			if loaded != rows-len(want) || different != loaded {
				t.Errorf("%d rows were loaded, %d different ones; want %d", loaded, different, rows-len(want))
			}
		})
	}
}

// loadSpoilt restores a stream of which every so many-th record has a date that there is
// not, and returns the sorted keys of those and of the gaps.
func loadSpoilt(t *testing.T, src exporters.Exporter, dst exporters.Target, s dataset.Stream, each int) (spoilt, gaps []string) {
	t.Helper()
	n := 0
	recs := func(yield func(dataset.Record, error) bool) {
		for r, err := range src.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}}) {
			if n++; n%each == 0 {
				r.Data = bytes.Replace(r.Data, []byte("2026-03-01"), []byte("2026-13-01"), 1)
				spoilt = append(spoilt, r.Key)
			}
			if !yield(r, err) {
				return
			}
		}
	}
	var mu sync.Mutex
	err := dst.Load(t.Context(), s, recs, func(g dataset.Gap) {
		mu.Lock()
		defer mu.Unlock()
		gaps = append(gaps, g.Key)
	})
	if err == nil {
		err = dst.Finish(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(spoilt)
	slices.Sort(gaps)
	return spoilt, gaps
}

// TestKeysForWhichTheServerChoosesOneNameAreMadeAtOnce restores tables whose keys and
// indexes PostgreSQL would call the same: a of b_c and a_b of c.
func TestKeysForWhichTheServerChoosesOneNameAreMadeAtOnce(t *testing.T) {
	t.Parallel()
	script := ""
	const pairs = 6
	for i := range pairs {
		script += fmt.Sprintf(`CREATE TABLE x%d (b_c INTEGER NOT NULL, d INTEGER, UNIQUE (b_c)); CREATE INDEX i%d ON x%d (d, b_c);
			CREATE TABLE x%d_b (c INTEGER NOT NULL, UNIQUE (c)); CREATE INDEX j%d ON x%d_b (c);
			CREATE TABLE x%d_d_b (c INTEGER NOT NULL); CREATE INDEX k%d ON x%d_d_b (c);`, i, i, i, i, i, i, i, i, i)
	}
	src := open(t, SQLite, sqliteDatabase(t, script))
	url, admin := pgDatabase(t, "")
	if gaps, _ := copyAll(t, openTarget(t, Postgres, url), src); len(gaps) > 0 {
		t.Error(gaps)
	}
	var n int
	if err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND tablename LIKE 'x%'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if n != 5*pairs {
		t.Errorf("%d indexes were made; want %d", n, 5*pairs)
	}
}
