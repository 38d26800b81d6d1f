package retention_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/sqldb"
)

// A file is a SQLite database that others write to.
type file struct {
	path string
	db   *sql.DB
}

// newFile makes a database with n rows of which every other is old enough to go. Notes,
// which no rule picks, refer to every eighth row.
func newFile(t *testing.T, n int) *file {
	t.Helper()
	f := &file{path: filepath.Join(t.TempDir(), "source.db")}
	var err error
	f.db, err = sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(off)")
	check(t, err)
	t.Cleanup(func() { f.db.Close() })
	f.exec(t, "CREATE TABLE rows (id INTEGER PRIMARY KEY, closed TEXT, n INTEGER); CREATE TABLE notes (id INTEGER PRIMARY KEY, about INTEGER REFERENCES rows (id))")
	f.fill(t, n)
	return f
}

// fill puts the rows in place, whatever was there.
func (f *file) fill(t *testing.T, n int) {
	t.Helper()
	f.exec(t, "DELETE FROM notes; DELETE FROM rows")
	for i := range n {
		date := noon.AddDate(-9, 0, 0)
		if i%2 == 1 {
			date = noon.AddDate(-1, 0, 0)
		}
		f.exec(t, fmt.Sprintf("INSERT INTO rows VALUES (%d, '%s', 0)", i, date.Format(time.RFC3339)))
		if i%8 == 2 {
			f.exec(t, fmt.Sprintf("INSERT INTO notes VALUES (%d, %d)", i, i))
		}
	}
}

func (f *file) exec(t testing.TB, q string) {
	t.Helper()
	_, err := f.db.Exec(q)
	check(t, err)
}

// Open implements [place].
func (f *file) Open(ctx context.Context) (exporters.Exporter, error) {
	return sqldb.SQLite.Open(ctx, exporters.Config{Options: map[string]any{"url": "sqlite:" + f.path}})
}

// Put changes a row.
func (f *file) Put(r dataset.Record) error {
	_, err := f.db.Exec("UPDATE rows SET n = n + 1 WHERE id = " + strings.Trim(r.Key, `[]"`))
	return err
}

// Remove deletes a row and whatever refers to it.
func (f *file) Remove(_, key string, _ int) error {
	id := strings.Trim(key, `[]"`)
	_, err := f.db.Exec("DELETE FROM notes WHERE about = " + id + "; DELETE FROM rows WHERE id = " + id)
	return err
}

// The same as of a source in memory, with a database that enforces foreign keys.
func TestRandomPurgesOfADatabaseWithRacesKillsAndLostReplies(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	f := newFile(t, 20)
	c.other = f
	s := c.export(t)
	c.certify(t, s)
	for seed := range uint64(rounds(1000, 8)) {
		if seed > 0 && seed%20 == 0 { // the plans of a store add up
			c = newCourt(t)
			c.other = f
			f.fill(t, 20)
			s = c.export(t)
			c.certify(t, s)
		}
		f.fill(t, 20)
		purgeAtRandom(t, c, s, rand.New(rand.NewPCG(seed, 9)), seed)
		if t.Failed() {
			return
		}
	}
}
