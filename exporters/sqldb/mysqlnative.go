package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// madeTable holds the statements that undo what definitions made, in MySQL and SQLite.
const madeTable = "sallyport_made"

// mysqlKinds are the definitions that a native restore makes when the rows are loaded.
// Tables have their indexes, keys and checks from their CREATE statement. Events are
// never made: they would run by themselves.
var (
	mysqlKinds = []definitionKind{
		{"sequence", []string{"CREATE SEQUENCE "}, "DROP SEQUENCE"},
		{"view", []string{"CREATE VIEW ", "CREATE ALGORITHM="}, "DROP VIEW"},
	}
	mysqlRoutines = []definitionKind{{"routine", []string{"CREATE FUNCTION ", "CREATE AGGREGATE FUNCTION ", "CREATE PROCEDURE "}, "DROP FUNCTION"}}
	mysqlCode     = []definitionKind{{"trigger", []string{"CREATE TRIGGER "}, ""}}
)

// mysqlDefiner is the account as which a view or routine runs. Only an administrator may
// name another than himself, so it is left out.
var mysqlDefiner = regexp.MustCompile("^CREATE (ALGORITHM=[A-Z]+ )?DEFINER=`(?:[^`]|``)*`@`(?:[^`]|``)*` ")

// mysqlNativeTables makes the native tables as their CREATE statements say, with foreign
// keys, which are not looked at before the end. A table that the server refuses is not
// native any more, and noted.
func mysqlNativeTables(ctx context.Context, c *sql.Conn, l *layout) (map[*tableLayout]bool, []string, error) {
	made := make(map[*tableLayout]bool)
	if !l.native() {
		return made, nil, nil
	}
	if _, err := c.ExecContext(ctx, "CREATE TABLE "+backQuoted(madeTable)+" (id BIGINT AUTO_INCREMENT PRIMARY KEY, undone_by LONGTEXT NOT NULL) CHARACTER SET utf8mb4"); err != nil {
		return nil, nil, fmt.Errorf("marker: %w", mysqlError(err))
	}
	if err := mysqlEscapes(ctx, c, true); err != nil {
		return nil, nil, err
	}
	var notes []string
	for _, t := range l.Tables {
		if !t.Native {
			continue
		}
		err := mysqlNativeTable(ctx, c, t)
		var me *mysql.MySQLError
		switch {
		case err == nil:
			made[t] = true
		case errors.As(err, &me) || errors.Is(err, errForeign):
			notes = append(notes, fmt.Sprintf("Table %q is made without defaults, checks and computed columns, because its definition is refused: %v.", t.Stream.Name, err))
			t.Native = false
			for i := range t.Columns {
				t.Columns[i].Computed = false
			}
		default:
			return nil, nil, fmt.Errorf("table of %q: %w", t.Stream.Name, mysqlError(err))
		}
	}
	return made, notes, mysqlEscapes(ctx, c, false)
}

func mysqlNativeTable(ctx context.Context, c *sql.Conn, t *tableLayout) error {
	var native mysqlNative
	if err := json.Unmarshal(t.Stream.Schema.Native, &native); err != nil {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	for name, s := range native.Sequences {
		d := statement{definition{kind: "sequence", name: name, sql: s}, mysqlKinds[0]}
		if err := mysqlDefine(ctx, c, d); err != nil && !mysqlExists(err) {
			return err
		}
	}
	d := statement{definition{sql: native.SQL}, definitionKind{begins: []string{"CREATE TABLE " + backQuoted(t.Name) + " ("}}}
	if err := d.check(); err != nil {
		return err
	}
	_, err := c.ExecContext(ctx, native.SQL)
	return err
}

// mysqlDefine runs a statement: one, because the session takes no more at a time. How it
// is undone is remembered before, because MySQL cannot do both in one transaction.
func mysqlDefine(ctx context.Context, c *sql.Conn, d statement) error {
	d.sql = mysqlDefiner.ReplaceAllString(d.sql, "CREATE $1")
	if err := d.check(); err != nil {
		return err
	}
	if d.of.undo == "" {
		_, err := c.ExecContext(ctx, d.sql)
		return err
	}
	undo := d.of.undo + " IF EXISTS " + backQuoted(d.name)
	if strings.HasPrefix(d.sql, "CREATE PROCEDURE ") {
		undo = "DROP PROCEDURE IF EXISTS " + backQuoted(strings.TrimSuffix(d.name, "()"))
	}
	r, err := c.ExecContext(ctx, "INSERT INTO "+backQuoted(madeTable)+" (undone_by) VALUES (?)", undo)
	if err != nil {
		return err
	}
	if _, err = c.ExecContext(ctx, d.sql); err == nil {
		return nil
	}
	if id, e := r.LastInsertId(); e == nil {
		_, e = c.ExecContext(context.WithoutCancel(ctx), "DELETE FROM "+backQuoted(madeTable)+" WHERE id = ?", id)
		return errors.Join(err, e)
	}
	return err
}

// mysqlExists tells errors about a name that is taken.
func mysqlExists(err error) bool {
	var me *mysql.MySQLError
	return errors.As(err, &me) && me.Number == 1050
}

// restoreDefinitions makes what definitions say. What the server refuses is noted.
func (t *MySQLTarget) restoreDefinitions(ctx context.Context, c *sql.Conn, defs []definition) []error {
	if err := mysqlEscapes(ctx, c, true); err != nil {
		return []error{err}
	}
	kinds := mysqlKinds
	if t.dialect.code {
		kinds = slices.Concat(mysqlRoutines, mysqlKinds, mysqlCode)
	}
	return t.state.define(sortDefinitions(defs, kinds), func(d statement) (refused, missing bool, err error) {
		err = mysqlDefine(ctx, c, d)
		if d.kind == "sequence" && mysqlExists(err) {
			err = nil // it was made for a table already
		}
		var me *mysql.MySQLError
		if !errors.As(err, &me) {
			return false, false, mysqlError(err)
		}
		return true, slices.Contains([]uint16{1054, 1146, 1305, 1356, 4031, 4091}, me.Number), err
	})
}

// mysqlSetSequences lets sequences go on where the source's did.
func mysqlSetSequences(ctx context.Context, c *sql.Conn, values map[[2]string]sequenceValue) []error {
	var errs []error
	for name, v := range values {
		if v.Auto {
			continue
		}
		var n sql.NullInt64 // null if it was there already
		if err := c.QueryRowContext(ctx, fmt.Sprintf("SELECT SETVAL(%s, %d, 0, %d)", backQuoted(name[1]), v.Last, v.Cycles)).Scan(&n); err != nil {
			errs = append(errs, fmt.Errorf("value of sequence %q: %w", name[1], mysqlError(err)))
		}
	}
	return errs
}

// checkForeignKeys looks for rows of a native table that refer to none: its keys were
// there while rows were loaded, and switched off.
func (t *MySQLTarget) checkForeignKeys(ctx context.Context, c *sql.Conn, l *layout, tl *tableLayout) []error {
	if !tl.Native {
		return nil
	}
	var errs []error
	for _, k := range tl.Stream.Schema.ForeignKeys {
		ref := l.table(k.RefStream)
		if ref == nil || ref.Document {
			continue
		}
		from, to := tl.columnsOf(backQuoted, k.Fields), ref.columnsOf(backQuoted, k.RefFields)
		if len(from) == 0 || len(from) != len(to) {
			continue
		}
		var on, set []string
		for i := range from {
			on, set = append(on, "p."+to[i]+" = c."+from[i]), append(set, "c."+from[i]+" IS NOT NULL")
		}
		var n int64
		query := "SELECT COUNT(*) FROM " + backQuoted(tl.Name) + " AS c LEFT JOIN " + backQuoted(ref.Name) + " AS p ON " + strings.Join(on, " AND ") +
			" WHERE " + strings.Join(set, " AND ") + " AND p." + to[0] + " IS NULL"
		err := c.QueryRowContext(ctx, query).Scan(&n)
		switch {
		case err != nil:
			err = fmt.Errorf("check foreign key %q of %s: %w", k.Name, tl.Stream.Name, mysqlError(err))
		case n > 0:
			err = t.state.unmet(fmt.Errorf("foreign key %q: %d rows of %q refer to no row of %q", k.Name, n, tl.Name, ref.Name))
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// mysqlUndo drops what definitions made.
func mysqlUndo(ctx context.Context, c *sql.Conn) error {
	var n int
	err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?", madeTable).Scan(&n)
	if err != nil || n == 0 {
		return mysqlError(err)
	}
	rows, err := c.QueryContext(ctx, "SELECT undone_by FROM "+backQuoted(madeTable)+" ORDER BY id DESC")
	if err != nil {
		return mysqlError(err)
	}
	made, err := scanTexts(rows)
	if err != nil {
		return mysqlError(err)
	}
	for _, s := range append(made, "DROP TABLE "+backQuoted(madeTable)) {
		if _, err := c.ExecContext(ctx, s); err != nil {
			return mysqlError(err)
		}
	}
	return nil
}

// scanTexts returns the only column of rows, and closes them.
func scanTexts(rows *sql.Rows) ([]string, error) {
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
