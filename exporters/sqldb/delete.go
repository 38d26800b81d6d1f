package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// errCascade says that a deletion would reach further than its record.
var errCascade = fmt.Errorf("a foreign key would delete or change rows of other tables with it: %w", errors.ErrUnsupported)

// asArchived fails unless the record that the source has now is the archived one.
func asArchived(now, archived dataset.Record) error {
	a, err := dataset.Canonical(nil, now.Data)
	if err != nil {
		return fmt.Errorf("record at the source: %w", err)
	}
	b, err := dataset.Canonical(nil, archived.Data)
	if err != nil {
		return fmt.Errorf("archived record: %w", err)
	}
	if !bytes.Equal(a, b) {
		return exporters.ErrChanged
	}
	return nil
}

// Delete implements [exporters.Deleter], outside the view's snapshot: the row is
// locked, compared and deleted in one transaction. It fails with
// [errors.ErrUnsupported] for tables without a key, and for those whose rows take rows
// of other tables with them.
func (v *pgView) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	t, err := v.table(s)
	if err != nil {
		return err
	}
	if t.stream.Keyless {
		return errKeyless(s)
	}
	c, err := v.dial(ctx)
	if err != nil {
		return err
	}
	defer closeNow(c)
	if err := v.delete(ctx, c, t, r); err != nil {
		return fmt.Errorf("delete from %q: %w", s.Name, err)
	}
	return nil
}

func (v *pgView) delete(ctx context.Context, c *pgx.Conn, t *pgTable, r dataset.Record) error {
	where, err := t.keyCondition(r.Key)
	if err != nil {
		return err
	}
	if err := pgExec(ctx, c, "BEGIN"); err != nil {
		return err
	}
	var cascades bool
	err = c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE contype = 'f' AND confrelid = $1 AND confdeltype IN ('c', 'n', 'd'))", t.oid).Scan(&cascades)
	switch {
	case err != nil:
		return pgError(err)
	case cascades:
		return errCascade
	}
	if err := pgExec(ctx, c, "SELECT 1 FROM "+t.from+" AS t"+where+" FOR UPDATE"); err != nil {
		return err
	}
	now, err := pgGet(ctx, c, t, r.Key)
	if err != nil {
		return err
	}
	if err := asArchived(now, r); err != nil {
		return err
	}
	tag, err := c.Exec(ctx, "DELETE FROM "+t.from+" AS t"+where)
	if err != nil {
		return pgError(err)
	}
	if n := tag.RowsAffected(); n != 1 {
		return fmt.Errorf("the source would delete %d rows", n)
	}
	return pgExec(ctx, c, "COMMIT")
}

// Delete implements [exporters.Deleter], as that of PostgreSQL does.
func (v *mysqlView) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	t, err := v.table(s)
	if err != nil {
		return err
	}
	if t.from == "" || t.stream.Keyless {
		return errKeyless(s)
	}
	c, err := mysqlSession(ctx, v.db, v.o)
	if err != nil {
		return err
	}
	defer v.drop(c)
	if err := t.delete(ctx, c, r); err != nil {
		return fmt.Errorf("delete from %q: %w", s.Name, err)
	}
	return nil
}

func (t *mysqlTable) delete(ctx context.Context, c *sql.Conn, r dataset.Record) error {
	a, _ := attributesOf(t.stream)
	if a.BestEffort {
		return fmt.Errorf("the engine %s has no transactions: %w", a.Engine, errors.ErrUnsupported)
	}
	where, args, err := t.keyCondition(mysqlDialect, r.Key, (*columnLayout).mysqlValue)
	if err != nil {
		return err
	}
	var cascades int
	if err := c.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE UNIQUE_CONSTRAINT_SCHEMA = DATABASE()
		AND REFERENCED_TABLE_NAME = ? AND DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION')`, a.Table).Scan(&cascades); err != nil {
		return mysqlError(err)
	}
	if cascades > 0 {
		return errCascade
	}
	for _, s := range []string{"SET SESSION foreign_key_checks = 1", "START TRANSACTION"} {
		if _, err := c.ExecContext(ctx, s); err != nil {
			return mysqlError(err)
		}
	}
	now, err := mysqlGet(ctx, c, t, r.Key, " FOR UPDATE")
	if err != nil {
		return err
	}
	if err := asArchived(now, r); err != nil {
		return err
	}
	res, err := c.ExecContext(ctx, "DELETE t FROM "+t.from+" AS t"+where, args...)
	if err != nil {
		return mysqlError(err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("the source would delete %d rows: %w", n, err)
	}
	_, err = c.ExecContext(ctx, "COMMIT")
	return mysqlError(err)
}

// Delete implements [exporters.Deleter], as that of PostgreSQL does. It waits for
// readers, of which the view itself is one: a file in rollback mode cannot be written
// to before the view is closed.
func (v *sqliteView) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	t, err := v.table(s)
	if err != nil {
		return err
	}
	if t.from == "" || t.stream.Keyless {
		return errKeyless(s)
	}
	db, err := sqliteOpen(v.path, "rw", v.o)
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("delete from %q: %w", s.Name, err)
	}
	defer c.Close()
	if err := t.delete(ctx, c, r); err != nil {
		return fmt.Errorf("delete from %q: %w", s.Name, err)
	}
	return nil
}

func (t *sqliteTable) delete(ctx context.Context, c *sql.Conn, r dataset.Record) (err error) {
	where, args, err := t.keyCondition(sqliteDialect, r.Key, (*columnLayout).sqliteValue)
	if err != nil {
		return err
	}
	a, _ := attributesOf(t.stream)
	// Without enforcement a row could be deleted that others refer to.
	for _, s := range []string{"PRAGMA foreign_keys = ON", "BEGIN IMMEDIATE"} {
		if _, err := c.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			_, undo := c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			err = errors.Join(err, undo)
		}
	}()
	var cascades int
	if err := c.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
		WHERE s.type = 'table' AND f."table" = ? COLLATE NOCASE AND f.on_delete NOT IN ('NO ACTION', 'RESTRICT')`, a.Table).Scan(&cascades); err != nil {
		return err
	}
	if cascades > 0 {
		return errCascade
	}
	now, err := sqliteGet(ctx, c, t, r.Key)
	if err != nil {
		return err
	}
	if err := asArchived(now, r); err != nil {
		return err
	}
	res, err := c.ExecContext(ctx, "DELETE FROM "+t.from+" AS t"+where, args...)
	if err != nil {
		return err
	}
	switch n, err := res.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return fs.ErrNotExist
	case n > 1:
		return fmt.Errorf("the source would delete %d rows", n)
	}
	_, err = c.ExecContext(ctx, "COMMIT")
	return err
}
