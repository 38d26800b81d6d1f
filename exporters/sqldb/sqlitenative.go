package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"modernc.org/sqlite"
)

// sqliteKinds are the definitions that a native restore makes when the rows are loaded.
// Tables have their keys and checks from their CREATE statement. Virtual tables are
// never made: their modules would write.
var (
	sqliteKinds = []definitionKind{
		{"index", []string{"CREATE INDEX ", "CREATE UNIQUE INDEX "}, ""},
		{"view", []string{"CREATE VIEW "}, ""},
		{"pragma", []string{"PRAGMA user_version = ", "PRAGMA application_id = "}, ""},
	}
	sqliteCode = []definitionKind{{"trigger", []string{"CREATE TRIGGER "}, ""}}
)

// sqliteNativeTables makes the native tables as their CREATE statements say. A table that
// is refused is not native any more, and noted.
func sqliteNativeTables(ctx context.Context, tx *sql.Tx, l *layout) ([]string, error) {
	if !l.native() {
		return nil, nil
	}
	if _, err := tx.ExecContext(ctx, "CREATE TABLE "+doubleQuoted(madeTable)+" (id INTEGER PRIMARY KEY, undo TEXT NOT NULL)"); err != nil {
		return nil, fmt.Errorf("marker: %w", err)
	}
	var notes []string
	for _, t := range l.Tables {
		if !t.Native {
			continue
		}
		err := sqliteNativeTable(ctx, tx, t)
		var se *sqlite.Error
		switch {
		case err == nil:
		case errors.As(err, &se) || errors.Is(err, errForeign):
			notes = append(notes, fmt.Sprintf("Table %q is made without defaults, checks and computed columns, because its definition is refused: %v.", t.Stream.Name, err))
			t.Native = false
			for i := range t.Columns {
				t.Columns[i].Computed = false
			}
		default:
			return nil, fmt.Errorf("table of %q: %w", t.Stream.Name, err)
		}
	}
	return notes, nil
}

func sqliteNativeTable(ctx context.Context, tx *sql.Tx, t *tableLayout) error {
	var native sqliteNative
	if err := json.Unmarshal(t.Stream.Schema.Native, &native); err != nil {
		return fmt.Errorf("%w: %w", errForeign, err)
	}
	d := statement{definition{kind: "table", sql: native.SQL}, definitionKind{begins: []string{"CREATE TABLE "}}}
	if _, err := tx.ExecContext(ctx, "SAVEPOINT made"); err != nil {
		return err
	}
	err := sqliteDefine(ctx, tx, d)
	if err == nil {
		var n int
		err = tx.QueryRowContext(ctx, "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND name = ?", t.Name).Scan(&n)
		if err == nil && n != 1 {
			err = fmt.Errorf("%w: it makes another table", errForeign)
		}
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, "RELEASE made")
		return err
	}
	for _, s := range []string{"ROLLBACK TO made", "RELEASE made"} {
		if _, e := tx.ExecContext(ctx, s); e != nil {
			return fmt.Errorf("%v: %w", err, e)
		}
	}
	return err
}

// sqliteDefine runs a statement, and none that follows it: the driver would. How it is
// undone is remembered with it.
func sqliteDefine(ctx context.Context, tx *sql.Tx, d statement) error {
	if err := d.check(); err != nil {
		return err
	}
	if d.kind != "trigger" && !oneStatement(d.sql) { // a trigger is made of statements
		return fmt.Errorf("%w: it holds a second statement", errForeign)
	}
	undo := ""
	switch d.kind {
	case "view":
		undo = "DROP VIEW IF EXISTS " + doubleQuoted(d.name)
	case "pragma":
		name, _, _ := strings.Cut(d.sql, "=")
		undo = name + "= 0"
	}
	if _, err := tx.ExecContext(ctx, d.sql); err != nil || undo == "" {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+doubleQuoted(madeTable)+" (undo) VALUES (?)", undo)
	return err
}

// oneStatement reports whether text holds no semicolon but in quotes and comments, as
// https://www.sqlite.org/lang_keywords.html and lang_comment.html define them.
func oneStatement(text string) bool {
	for i := 0; i < len(text); i++ {
		end := ""
		switch {
		case text[i] == ';':
			return false
		case strings.IndexByte("'\"`", text[i]) >= 0:
			end = text[i : i+1] // doubled ones end it and begin it again
		case text[i] == '[':
			end = "]"
		case strings.HasPrefix(text[i:], "--"):
			end = "\n"
		case strings.HasPrefix(text[i:], "/*"):
			end = "*/"
			i++
		default:
			continue
		}
		n := strings.Index(text[i+1:], end)
		if n < 0 {
			return true // it goes on to the end
		}
		i += n + len(end)
	}
	return true
}

// restoreDefinitions makes what definitions say, if that was asked for, and sets the
// counters of AUTOINCREMENT.
func (t *SQLiteTarget) restoreDefinitions(ctx context.Context, l *layout) []error {
	defs, err := loadedDefinitions(ctx, kindSQLite, l, t.readStream)
	if err != nil {
		return []error{err}
	}
	values, err := sequenceValues(defs)
	if err != nil {
		return []error{err}
	}
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return []error{err}
	}
	defer tx.Rollback()
	var errs []error
	if l.native() {
		kinds := sqliteKinds
		if t.dialect.code {
			kinds = slices.Concat(kinds, sqliteCode)
		}
		errs = t.state.define(sortDefinitions(defs, kinds), func(d statement) (refused, missing bool, err error) {
			err = sqliteDefine(ctx, tx, d)
			var se *sqlite.Error
			return errors.As(err, &se), err != nil && strings.Contains(err.Error(), "no such"), err
		})
	}
	for name, v := range values {
		if err := sqliteCounter(ctx, tx, l, name[1], v); err != nil {
			errs = append(errs, fmt.Errorf("counter of %q: %w", name[1], err))
		}
	}
	if err := tx.Commit(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// sqliteCounter sets the counter of a table, if that has one.
func sqliteCounter(ctx context.Context, tx *sql.Tx, l *layout, table string, v sequenceValue) error {
	i := slices.IndexFunc(l.Tables, func(t *tableLayout) bool {
		a, ok := attributesOf(t.Stream)
		return ok && a.Kind == kindSQLite && a.Table == table && t.Stream.Name != definitionsStream
	})
	if i < 0 {
		return nil
	}
	name := l.Tables[i].Name
	var n int
	err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ? AND sql LIKE '%AUTOINCREMENT%'`, name).Scan(&n)
	if err != nil || n == 0 {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM sqlite_sequence WHERE name = ?", name); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", name, v.Last)
	return err
}

// sqliteUndo drops what definitions made.
func sqliteUndo(ctx context.Context, tx *sql.Tx) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", madeTable).Scan(&n); err != nil || n == 0 {
		return err
	}
	rows, err := tx.QueryContext(ctx, "SELECT undo FROM "+doubleQuoted(madeTable)+" ORDER BY id DESC")
	if err != nil {
		return err
	}
	made, err := scanTexts(rows)
	if err != nil {
		return err
	}
	for _, s := range append(made, "DROP TABLE "+doubleQuoted(madeTable)) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}
