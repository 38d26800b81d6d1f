package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Delete implements [exporters.Deleter], as that of PostgreSQL does. The first deletion
// ends the view's snapshot, because a file in rollback mode cannot be written to while it
// is read; what the view reads afterwards is what is there then.
func (v *sqliteView) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	return v.eraser.delete(ctx, v.eraseSession, s, r)
}

// Rehearse implements [exporters.Rehearser]. It ends the view's snapshot, as Delete does.
func (v *sqliteView) Rehearse(ctx context.Context) (exporters.Rehearsal, error) {
	return rehearse(ctx, v.eraseSession)
}

func (v *sqliteView) eraseSession(ctx context.Context) (eraseSession, error) {
	if err := v.endSnapshot(ctx); err != nil {
		return nil, fmt.Errorf("end the snapshot: %w", err)
	}
	db, err := sqliteOpen(v.path, "rw", v.o)
	if err != nil {
		return nil, err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	x := &sqliteErasing{v, db, c, map[string][]reference{}}
	// Without enforcement a row could be deleted that others refer to.
	if err := x.exec(ctx, "PRAGMA foreign_keys = ON"); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

// endSnapshot ends the view's read transaction, once.
func (v *sqliteView) endSnapshot(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut {
		return errClosed
	}
	if v.ended {
		return nil
	}
	_, err := v.conn.ExecContext(ctx, "COMMIT")
	v.ended = err == nil
	return err
}

type sqliteErasing struct {
	v    *sqliteView
	db   *sql.DB
	c    *sql.Conn
	refs map[string][]reference // by table, once known
}

func (*sqliteErasing) begin() string { return "BEGIN IMMEDIATE" }

func (x *sqliteErasing) exec(ctx context.Context, sql string) error {
	_, err := x.c.ExecContext(ctx, sql)
	return sqliteRefusal(err)
}

func (x *sqliteErasing) close() error { return errors.Join(x.c.Close(), x.db.Close()) }

func (x *sqliteErasing) erase(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	t, err := x.v.table(s)
	if err != nil {
		return err
	}
	if t.from == "" || t.stream.Keyless {
		return notErasable(s)
	}
	now, err := sqliteGet(ctx, x.c, t, r.Key)
	if err != nil {
		return err
	}
	if err := asArchived(now, r); err != nil {
		return err
	}
	where, args, err := t.keyCondition(sqliteDialect, r.Key, (*columnLayout).sqliteValue)
	if err != nil {
		return err
	}
	refs, err := x.references(ctx, t)
	if err != nil {
		return fmt.Errorf("foreign keys: %w", err)
	}
	for _, f := range refs {
		found, err := rowExists(ctx, x.c, f.query(&t.table, where)+" LIMIT 1", args)
		if err != nil {
			return fmt.Errorf("rows of %s: %w", f.table, err)
		}
		if found {
			return errReferenced(f.table)
		}
	}
	res, err := x.c.ExecContext(ctx, "DELETE FROM "+t.from+" AS t"+where, args...)
	if err != nil {
		return sqliteRefusal(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	return oneRow(n)
}

// references returns the foreign keys that refer to a table. One that names no columns
// means the primary key.
func (x *sqliteErasing) references(ctx context.Context, t *sqliteTable) ([]reference, error) {
	a, _ := attributesOf(t.stream)
	if refs, ok := x.refs[a.Table]; ok {
		return refs, nil
	}
	rows, err := x.c.QueryContext(ctx, `SELECT s.name, f.id, f.seq, f."from", coalesce(f."to", '') FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
		WHERE s.type = 'table' AND f."table" = ? COLLATE NOCASE ORDER BY s.name, f.id, f.seq`, a.Table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	refs := []reference{}
	for rows.Next() {
		var name, from, to string
		var id, seq int
		if err := rows.Scan(&name, &id, &seq, &from, &to); err != nil {
			return nil, err
		}
		if to = doubleQuoted(to); to == `""` && seq < len(t.key) {
			to = t.columns[t.key[seq]].ident
		}
		on := "t." + to + " = c." + doubleQuoted(from)
		if seq > 0 {
			refs[len(refs)-1].on += " AND " + on
			continue
		}
		refs = append(refs, reference{doubleQuoted(name), on, strings.EqualFold(name, a.Table)})
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	x.refs[a.Table] = refs
	return refs, nil
}

// sqliteRefusal says of constraints and of what triggers raise that the database refuses,
// and of a file that somebody else writes that it may help to try again.
func sqliteRefusal(err error) error {
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT:
			return refused("%w", err)
		case sqlite3.SQLITE_BUSY:
			return fmt.Errorf("%w: %w", exporters.ErrTemporary, err)
		}
	}
	return err
}
