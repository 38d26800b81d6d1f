package sqldb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// A pgStep is a statement of the end of a restore.
type pgStep struct{ what, sql string }

// pgSteps collects steps.
type pgSteps []pgStep

func (s *pgSteps) add(what, sql string) { *s = append(*s, pgStep{what, sql}) }

// Finish implements [exporters.Target]. It goes on after a failure, so that one key
// that does not hold costs no other, and reports all. What can be done side by side is:
// the keys of different tables, and then all indexes.
func (t *PostgresTarget) Finish(ctx context.Context) error {
	l, err := t.state.current()
	if err != nil {
		return err
	}
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer closeNow(c)
	defs, err := loadedDefinitions(ctx, kindPostgres, l, t.readStream)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	values, err := sequenceValues(defs)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	var keys, indexes, analyze []pgSteps
	var foreign, numbers pgSteps
	for _, tl := range l.Tables {
		keys = append(keys, tl.pgKeys())
		for _, s := range tl.pgIndexes() {
			indexes = append(indexes, pgSteps{s})
		}
		tl.pgForeignKeys(l, foreign.add)
		tl.pgSequences(values, numbers.add)
		analyze = append(analyze, pgSteps{{"analyze " + tl.Stream.Name, "ANALYZE " + tl.pgName()}})
	}
	errs := t.run(ctx, c, keys)
	errs = append(errs, t.run(ctx, c, indexes)...)
	errs = append(errs, t.run(ctx, c, []pgSteps{foreign})...) // one by one: each locks two tables
	if l.native() {
		errs = append(errs, t.restoreDefinitions(ctx, c, defs)...)
		pgSetSequences(values, numbers.add)
	}
	errs = append(errs, t.run(ctx, c, []pgSteps{numbers})...)
	errs = append(errs, t.run(ctx, c, analyze)...)
	if err := ctx.Err(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("finish: %w", errors.Join(errs...))
	}
	return nil
}

// run runs lists of steps side by side over c and more connections, the steps of a list
// one after the other, and returns what failed. Over a connection that broke nothing more
// is tried.
func (t *PostgresTarget) run(ctx context.Context, c *pgx.Conn, lists []pgSteps) []error {
	failed := make([][]error, len(lists))
	var next atomic.Int64
	work := func(c *pgx.Conn) {
		for i := int(next.Add(1)) - 1; i < len(lists); i = int(next.Add(1)) - 1 {
			for _, s := range lists[i] {
				if ctx.Err() != nil {
					return
				}
				if c.IsClosed() {
					failed[i] = append(failed[i], fmt.Errorf("%s: the connection broke", s.what))
					return
				}
				if err := t.step(ctx, c, s); err != nil {
					failed[i] = append(failed[i], err)
				}
			}
		}
	}
	var g errgroup.Group
	for range min(t.loaders, len(lists)) - 1 {
		g.Go(func() error {
			more, err := t.connect(ctx)
			if err != nil {
				return nil // it would have been a help, and is no need
			}
			defer closeNow(more)
			work(more)
			return nil
		})
	}
	work(c)
	g.Wait()
	return slices.Concat(failed...)
}

// step runs one statement.
func (t *PostgresTarget) step(ctx context.Context, c *pgx.Conn, s pgStep) error {
	err := pgExec(ctx, c, s.sql)
	for tries := 0; nameTaken(err) && tries < 3; tries++ {
		err = pgExec(ctx, c, s.sql)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", s.what, err)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == "23503" { // a row without parent
		return t.state.unmet(err)
	}
	return err
}

// nameTaken reports whether a relation of that name is there. The server chooses names
// for keys and indexes, and two sessions at a time can be given the same one.
func nameTaken(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "42P07" || pe.Code == "23505" && pe.ConstraintName == "pg_class_relname_nsp_index")
}

// pgKeys are the steps that make the table's primary and unique keys: each locks all
// others out.
func (t *tableLayout) pgKeys() (steps pgSteps) {
	if t.Native || t.Document {
		return nil // they are definitions, or there are none
	}
	alter := func(what, key string, fields []string) {
		steps.add(what+" of "+t.Stream.Name, "ALTER TABLE "+t.pgName()+" ADD "+key+" ("+strings.Join(t.columnsOf(doubleQuoted, fields), ", ")+")")
	}
	if t.Keyed {
		alter("primary key", "PRIMARY KEY", t.Stream.Schema.PrimaryKey)
	}
	for _, u := range t.Stream.Schema.UniqueKeys {
		alter("unique key", "UNIQUE", u)
	}
	return steps
}

// pgIndexes are the steps that make the table's other indexes.
func (t *tableLayout) pgIndexes() (steps pgSteps) {
	switch {
	case t.Native:
		return nil // they are definitions
	case t.Document:
		return pgSteps{{"index of " + t.Stream.Name, "CREATE INDEX ON " + t.pgName() + " (record_ordinal)"}}
	}
	for _, x := range t.Stream.Schema.Indexes {
		if x.Expression != "" || len(x.Fields) == 0 {
			continue // declared as a loss
		}
		unique, index := "", ""
		if x.Unique {
			unique = "UNIQUE "
		}
		if a, _ := attributesOf(t.Stream); a.Kind == kindPostgres && checkName(x.Name, 63, 0) == nil {
			index = doubleQuoted(x.Name) + " "
		}
		steps.add("index of "+t.Stream.Name, "CREATE "+unique+"INDEX "+index+"ON "+t.pgName()+" ("+strings.Join(t.columnsOf(doubleQuoted, x.Fields), ", ")+")")
	}
	return steps
}

func (t *tableLayout) pgForeignKeys(l *layout, run func(what, sql string)) {
	if t.Document || t.Native {
		return
	}
	for _, k := range t.Stream.Schema.ForeignKeys {
		ref := l.table(k.RefStream)
		if ref == nil || ref.Document {
			continue // not restored with it
		}
		run("foreign key of "+t.Stream.Name, "ALTER TABLE "+t.pgName()+" ADD "+foreignKey{k}.sql(doubleQuoted, t, ref, ref.pgName()))
	}
}

// pgSequences lets numbering go on where the source's did, or after the greatest value
// there is if that is not known.
func (t *tableLayout) pgSequences(values map[[2]string]sequenceValue, run func(what, sql string)) {
	if t.Document || t.Native {
		return
	}
	a, _ := attributesOf(t.Stream)
	for i, f := range t.Stream.Schema.Fields {
		c := t.Columns[i]
		if !f.Identity || c.Type != "smallint" && c.Type != "integer" && c.Type != "bigint" {
			continue
		}
		value := fmt.Sprintf("(SELECT greatest(max(%s), 1) FROM %s), (SELECT max(%s) IS NOT NULL FROM %s)", doubleQuoted(c.Name), t.pgName(), doubleQuoted(c.Name), t.pgName())
		for _, v := range values {
			if slices.Equal(v.Owner, []string{a.Schema, a.Table, f.Name}) && v.Last > 0 {
				value = fmt.Sprintf("%d, %t", v.Last, v.Called)
			}
		}
		run("sequence of "+t.Stream.Name, fmt.Sprintf("SELECT setval(pg_get_serial_sequence(%s, %s), %s)",
			singleQuoted(t.pgName()), singleQuoted(c.Name), value))
	}
}

// pgSetSequences sets the sequences that definitions made.
func pgSetSequences(values map[[2]string]sequenceValue, run func(what, sql string)) {
	for name, v := range values {
		q := doubleQuoted(name[0]) + "." + doubleQuoted(name[1])
		run("value of sequence "+q, fmt.Sprintf("SELECT setval(%s, %d, %t)", singleQuoted(q), v.Last, v.Called))
	}
}
