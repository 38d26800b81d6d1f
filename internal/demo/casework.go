package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	_ "modernc.org/sqlite" // the database that stands for a service's

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/verify"
)

const casework = `
CREATE TABLE claimants (id INTEGER PRIMARY KEY, name TEXT NOT NULL, born TEXT NOT NULL, nino TEXT UNIQUE);
CREATE TABLE cases (id INTEGER PRIMARY KEY, claimant INTEGER NOT NULL REFERENCES claimants, opened TEXT NOT NULL, body TEXT NOT NULL, weekly NUMERIC);
CREATE TABLE decisions (cas INTEGER NOT NULL REFERENCES cases, step INTEGER NOT NULL, outcome TEXT, note BLOB, PRIMARY KEY (cas, step));
CREATE INDEX cases_of ON cases (claimant);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
	INSERT INTO claimants SELECT i, 'Claimant ' || i || char(10) || 'care of "O''Neill, Zoë"', date('1950-01-01', (i * 31) || ' days'), CASE WHEN i % 9 THEN printf('QQ%06dC', i) END FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
	INSERT INTO cases SELECT i, 1 + i % 400, date('2019-01-01', i || ' days'), 'Housing, disability, =1+1, and \N as text', i * 0.25 FROM n;
INSERT INTO decisions SELECT id, step, CASE step WHEN 1 THEN 'awarded' WHEN 2 THEN 'appealed' END, CASE WHEN step = 3 THEN x'00ff80' ELSE x'' END
	FROM cases, (SELECT 1 AS step UNION SELECT 2 UNION SELECT 3);
`

// makeDatabase makes the database of a small case-management system, and returns how
// many rows it has.
func makeDatabase(ctx context.Context, file string) (rows int, err error) {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, casework); err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM claimants) + (SELECT count(*) FROM cases) + (SELECT count(*) FROM decisions)`).Scan(&rows)
	return rows, err
}

// questions are what the owner of the service wants to know of a restored copy.
func questions() []verify.Acceptance {
	var list []verify.Acceptance
	for _, q := range []struct{ name, sql, want string }{
		{"no case without a claimant", "SELECT count(*) FROM cases WHERE claimant NOT IN (SELECT id FROM claimants)", "0"},
		{"the sum of all awards", "SELECT sum(weekly) FROM cases", "180150"},
		{"three decisions a case", "SELECT count(*) FROM (SELECT cas FROM decisions GROUP BY cas HAVING count(*) <> 3)", "0"},
	} {
		list = append(list, verify.Acceptance{Name: q.name, Ask: func(ctx context.Context, t exporters.Target) (verify.Outcome, string) {
			db, ok := t.(interface {
				Query(ctx context.Context, sql string, timeout time.Duration) ([][]string, error)
			})
			if !ok {
				return verify.Unknown, "the target does not understand SQL"
			}
			rows, err := db.Query(ctx, q.sql, time.Minute)
			switch {
			case err != nil:
				return verify.Unknown, err.Error()
			case len(rows) != 1 || rows[0][0] != q.want:
				return verify.Fail, fmt.Sprintf("%q, and %s was expected", rows, q.want)
			}
			return verify.Pass, rows[0][0]
		}})
	}
	return list
}

// A lossyTarget takes a record and does not keep it.
type lossyTarget struct {
	exporters.Target
	key string
}

// Load implements [exporters.Target], but for one record.
func (t *lossyTarget) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	return t.Target.Load(ctx, s, func(yield func(dataset.Record, error) bool) {
		for r, err := range recs {
			if err == nil && r.Key == t.key {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}, gap)
}
