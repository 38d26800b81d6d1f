package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/dwp/sallyport/dataset"
)

const (
	mysqlRows   = 200      // of an INSERT
	mysqlBytes  = 1 << 20  // of its values, about
	mysqlParams = 60_000   // a statement takes 65,535
	mysqlCommit = 64 << 20 // bytes between commits
)

// A mysqlLoader sends rows in INSERT statements of many.
type mysqlLoader struct {
	c      *sql.Conn
	t      *tableLayout
	gap    func(dataset.Gap)
	width  int // parameters of a row
	full   int // rows of a statement
	stmt   *sql.Stmt
	args   []any
	recs   []dataset.Record // their identities, for gaps
	bytes  int
	unsent int // bytes since the last commit
}

// Load implements [exporters.Target].
func (t *MySQLTarget) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	tl, err := t.state.lookup(s.Name)
	if err != nil {
		return err
	}
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	l := &mysqlLoader{c: c, t: tl, gap: t.state.counted(gap), width: max(1, len(tl.storedNames(backQuoted)))}
	l.full = max(1, min(mysqlRows, mysqlParams/l.width))
	if err := l.load(ctx, recs); err != nil {
		return fmt.Errorf("load %q: %w", s.Name, mysqlError(err))
	}
	return nil
}

func (l *mysqlLoader) load(ctx context.Context, recs iter.Seq2[dataset.Record, error]) error {
	rr, err := newRowReader(l.t)
	if err != nil {
		return err
	}
	if l.stmt, err = l.c.PrepareContext(ctx, l.sql(l.full)); err != nil {
		return err
	}
	defer l.stmt.Close()
	if _, err := l.c.ExecContext(ctx, "START TRANSACTION"); err != nil {
		return err
	}
	for r, err := range recs {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := l.add(rr, r); err != nil {
			l.gap(gapOf(r, dataset.Unsupported, err.Error()))
			continue
		}
		if len(l.recs) == l.full || l.bytes > mysqlBytes {
			if err := l.flush(ctx); err != nil {
				return err
			}
		}
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	_, err = l.c.ExecContext(ctx, "COMMIT")
	return err
}

func (l *mysqlLoader) sql(rows int) string {
	row := "(?" + strings.Repeat(", ?", l.width-1) + ")"
	columns := ""
	if len(l.t.Columns) > 0 {
		columns = " (" + strings.Join(l.t.storedNames(backQuoted), ", ") + ")"
	}
	return "INSERT INTO " + backQuoted(l.t.Name) + columns + " VALUES " + row + strings.Repeat(", "+row, rows-1)
}

// add appends the values of a record.
func (l *mysqlLoader) add(rr *rowReader, r dataset.Record) error {
	switch {
	case r.Gap != nil:
		return fmt.Errorf("it is a gap in the archive: %s", r.Gap.Code)
	case r.Blob != nil:
		return cannot("an object")
	}
	row := make([]any, 0, l.width)
	if l.t.Document {
		row = append(row, []byte(r.Key), r.Ordinal, string(r.Data))
	} else {
		cells, err := rr.read(r.Data)
		if err != nil {
			return err
		}
		for i := range l.t.Columns {
			c := &l.t.Columns[i]
			if c.Computed {
				continue
			}
			v, err := c.mysqlValue(cells[i])
			if err == nil {
				err = c.fits(v)
			}
			if err != nil {
				return fmt.Errorf("column %q: %w", c.Name, err)
			}
			row = append(row, v)
		}
	}
	if len(row) == 0 {
		row = append(row, nil)
	}
	l.args = append(l.args, row...)
	l.recs = append(l.recs, dataset.Record{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal})
	l.bytes += len(r.Data)
	return nil
}

var boundedType = regexp.MustCompile(`^VAR(CHAR|BINARY)\(\d+\)$`)

// fits refuses text that is too long for a column of ours: the server would cut off
// spaces at its end and say so in a note only.
func (c *columnLayout) fits(v any) error {
	if c.Own || !boundedType.MatchString(c.Type) {
		return nil
	}
	n := 0
	switch v := v.(type) {
	case string:
		n = utf8.RuneCountInString(v)
	case []byte:
		n = len(v)
	}
	if n > typeWidth(c.Type) {
		return cannot("a value of length %d in %s", n, c.Type)
	}
	return nil
}

func (l *mysqlLoader) flush(ctx context.Context) error {
	if err := l.insert(ctx, 0, len(l.recs)); err != nil {
		return err
	}
	l.unsent += l.bytes
	clear(l.args)
	l.args, l.recs, l.bytes = l.args[:0], l.recs[:0], 0
	if l.unsent < mysqlCommit {
		return nil
	}
	l.unsent = 0
	if _, err := l.c.ExecContext(ctx, "COMMIT"); err != nil {
		return err
	}
	_, err := l.c.ExecContext(ctx, "START TRANSACTION")
	return err
}

// insert sends the rows from lo up to hi. If the server refuses one, halves find it.
func (l *mysqlLoader) insert(ctx context.Context, lo, hi int) error {
	if lo == hi {
		return nil
	}
	args := l.args[lo*l.width : hi*l.width]
	var err error
	if hi-lo == l.full {
		_, err = l.stmt.ExecContext(ctx, args...)
	} else {
		_, err = l.c.ExecContext(ctx, l.sql(hi-lo), args...)
	}
	if err == nil || !mysqlRefusesValue(err) {
		return err
	}
	if hi-lo == 1 {
		l.gap(gapOf(l.recs[lo], dataset.Unsupported, "the server refuses it: "+err.Error()))
		return nil
	}
	middle := (lo + hi) / 2
	if err := l.insert(ctx, lo, middle); err != nil {
		return err
	}
	return l.insert(ctx, middle, hi)
}

// mysqlRefusesValue tells errors about a value from those about the server.
func mysqlRefusesValue(err error) bool {
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return true
	}
	var me *mysql.MySQLError
	if !errors.As(err, &me) {
		return false
	}
	switch me.Number {
	case 1048, 1062, 1118, 1264, 1265, 1292, 1366, 1367, 1406, 1411, 1416, 1452, 1690, 3140, 3819, 4025, 4078:
		return true
	}
	return false
}

// Finish implements [exporters.Target]: it makes keys and indexes. It goes on after a
// failure and reports all.
func (t *MySQLTarget) Finish(ctx context.Context) error {
	l, err := t.state.current()
	if err != nil {
		return err
	}
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "SET SESSION foreign_key_checks = 1"); err != nil {
		return fmt.Errorf("finish: %w", mysqlError(err))
	}
	// The session goes back to a pool of sessions that load.
	defer c.ExecContext(context.WithoutCancel(ctx), "SET SESSION foreign_key_checks = 0")
	defs, err := loadedDefinitions(ctx, kindMySQL, l, t.readStream)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	values, err := sequenceValues(defs)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	var errs []error
	for _, tl := range l.Tables {
		for _, s := range tl.mysqlIndexes() {
			if _, err := c.ExecContext(ctx, s); err != nil {
				errs = append(errs, fmt.Errorf("index of %s: %w", tl.Stream.Name, mysqlError(err)))
			}
		}
	}
	for _, tl := range l.Tables {
		for _, s := range tl.mysqlForeignKeys(l) {
			_, err := c.ExecContext(ctx, s)
			if err == nil {
				continue
			}
			err = fmt.Errorf("foreign key of %s: %w", tl.Stream.Name, mysqlError(err))
			var me *mysql.MySQLError
			if errors.As(err, &me) && me.Number == 1452 { // a row without parent
				err = t.state.unmet(err)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, tl := range l.Tables {
		errs = append(errs, t.checkForeignKeys(ctx, c, l, tl)...)
		if s := tl.mysqlCounter(values); s != "" {
			if _, err := c.ExecContext(ctx, s); err != nil {
				errs = append(errs, fmt.Errorf("counter of %s: %w", tl.Stream.Name, mysqlError(err)))
			}
		}
	}
	if l.native() {
		errs = append(errs, t.restoreDefinitions(ctx, c, defs)...)
		errs = append(errs, mysqlSetSequences(ctx, c, values)...)
	}
	if len(errs) > 0 {
		return fmt.Errorf("finish: %w", errors.Join(errs...))
	}
	return nil
}

// mysqlCounter lets AUTO_INCREMENT go on where the source's did.
func (t *tableLayout) mysqlCounter(values map[[2]string]sequenceValue) string {
	a, _ := attributesOf(t.Stream)
	v, ok := values[[2]string{"", a.Table}]
	if !ok || !v.Auto || v.Last < 1 || a.Kind != kindMySQL || t.Native || !t.Keyed {
		return ""
	}
	first := t.Stream.Schema.PrimaryKey[0] // see mysqlCreate
	if !slices.ContainsFunc(t.Stream.Schema.Fields, func(f dataset.Field) bool { return f.Identity && f.Name == first }) {
		return ""
	}
	return fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT = %d", backQuoted(t.Name), v.Last)
}

func (t *tableLayout) mysqlIndexes() []string {
	if t.Document || t.Native {
		return nil // no index takes keys of any length; native tables have theirs
	}
	a, _ := attributesOf(t.Stream)
	var all []string
	add := func(kind, name string, fields []string) {
		columns := t.columnsOf(backQuoted, fields)
		if len(columns) == 0 {
			return
		}
		if a.Kind != kindMySQL || checkName(name, 0, 64) != nil {
			name = ""
		} else {
			name = backQuoted(name) + " "
		}
		all = append(all, "ALTER TABLE "+backQuoted(t.Name)+" ADD "+kind+" "+name+"("+strings.Join(columns, ", ")+")")
	}
	for _, u := range t.Stream.Schema.UniqueKeys {
		add("UNIQUE INDEX", "", u)
	}
	for _, x := range t.Stream.Schema.Indexes {
		switch {
		case x.Expression != "": // declared as a loss
		case x.Unique:
			add("UNIQUE INDEX", x.Name, x.Fields)
		default:
			add("INDEX", x.Name, x.Fields)
		}
	}
	return all
}

func (t *tableLayout) mysqlForeignKeys(l *layout) []string {
	if t.Document || t.Native {
		return nil
	}
	var all []string
	for _, k := range t.Stream.Schema.ForeignKeys {
		if ref := l.table(k.RefStream); ref != nil && !ref.Document {
			all = append(all, "ALTER TABLE "+backQuoted(t.Name)+" ADD "+foreignKey{k}.sql(backQuoted, t, ref, backQuoted(ref.Name)))
		}
	}
	return all
}
