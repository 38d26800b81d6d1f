package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Delete implements [exporters.Deleter], outside the view's snapshot: the row is locked,
// compared and deleted in one transaction. A record that rows of any table refer to, one
// without a key, and those of engines without transactions are refused.
func (v *mysqlView) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	return v.eraser.delete(ctx, v.eraseSession, s, r)
}

// Rehearse implements [exporters.Rehearser].
func (v *mysqlView) Rehearse(ctx context.Context) (exporters.Rehearsal, error) {
	return rehearse(ctx, v.eraseSession)
}

func (v *mysqlView) eraseSession(ctx context.Context) (eraseSession, error) {
	c, err := mysqlSession(ctx, v.db, v.o)
	if err != nil {
		return nil, err
	}
	x := &mysqlErasing{v, c, map[string][]reference{}}
	if err := x.exec(ctx, "SET SESSION foreign_key_checks = 1"); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

type mysqlErasing struct {
	v    *mysqlView
	c    *sql.Conn
	refs map[string][]reference // by table, once known
}

func (*mysqlErasing) begin() string { return "START TRANSACTION" }

func (x *mysqlErasing) exec(ctx context.Context, sql string) error {
	_, err := x.c.ExecContext(ctx, sql)
	return mysqlRefusal(mysqlError(err))
}

func (x *mysqlErasing) close() error {
	x.v.drop(x.c)
	return nil
}

func (x *mysqlErasing) erase(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	t, err := x.v.table(s)
	if err != nil {
		return err
	}
	if t.from == "" || t.stream.Keyless {
		return notErasable(s)
	}
	a, _ := attributesOf(t.stream)
	if a.BestEffort {
		return refused("the engine %s has no transactions", a.Engine)
	}
	now, err := mysqlGet(ctx, x.c, t, r.Key, " FOR UPDATE")
	if err != nil {
		return mysqlError(err)
	}
	if err := asArchived(now, r); err != nil {
		return err
	}
	where, args, err := t.keyCondition(mysqlDialect, r.Key, (*columnLayout).mysqlValue)
	if err != nil {
		return err
	}
	refs, err := x.references(ctx, a.Table)
	if err != nil {
		return fmt.Errorf("foreign keys: %w", err)
	}
	for _, f := range refs {
		// The lock lets it see what is there now, not what was when the transaction began.
		found, err := rowExists(ctx, x.c, f.query(&t.table, where)+" LIMIT 1 LOCK IN SHARE MODE", args)
		if err != nil {
			return fmt.Errorf("rows of %s: %w", f.table, mysqlError(err))
		}
		if found {
			return errReferenced(f.table)
		}
	}
	res, err := x.c.ExecContext(ctx, "DELETE t FROM "+t.from+" AS t"+where, args...)
	if err != nil {
		return mysqlRefusal(mysqlError(err))
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	return oneRow(n)
}

// rowExists reports whether a query has rows.
func rowExists(ctx context.Context, c *sql.Conn, query string, args []any) (bool, error) {
	var one int
	err := c.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// references returns the foreign keys that refer to a table.
func (x *mysqlErasing) references(ctx context.Context, table string) ([]reference, error) {
	if refs, ok := x.refs[table]; ok {
		return refs, nil
	}
	rows, err := x.c.QueryContext(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_COLUMN_NAME,
		TABLE_SCHEMA = REFERENCED_TABLE_SCHEMA AND TABLE_NAME = REFERENCED_TABLE_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME = ?
		ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION`, table)
	if err != nil {
		return nil, mysqlError(err)
	}
	defer rows.Close()
	refs := []reference{}
	last := ""
	for rows.Next() {
		var schema, name, constraint, from, to string
		var self bool
		if err := rows.Scan(&schema, &name, &constraint, &from, &to, &self); err != nil {
			return nil, mysqlError(err)
		}
		on := "t." + backQuoted(to) + " = c." + backQuoted(from)
		if id := strings.Join([]string{schema, name, constraint}, "\x00"); id == last {
			refs[len(refs)-1].on += " AND " + on
		} else {
			refs = append(refs, reference{backQuoted(schema) + "." + backQuoted(name), on, self})
			last = id
		}
	}
	if err := rows.Err(); err != nil {
		return nil, mysqlError(err)
	}
	x.refs[table] = refs
	return refs, nil
}

// mysqlRefusal says of foreign keys, of checks and of what triggers signal that the
// database refuses.
func mysqlRefusal(err error) error {
	var me *mysql.MySQLError
	if errors.As(err, &me) && (me.Number == 1451 || me.Number == 1217 || me.SQLState == [5]byte{'4', '5', '0', '0', '0'}) {
		return refused("%w", err)
	}
	return err
}
