package sqldb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A definitionKind is one that a native restore makes: how its statements begin, so that
// none of a harmless kind is one of another, and how they are undone.
type definitionKind struct {
	name   string
	begins []string
	undo   string // "DROP VIEW"; empty if it goes with a table
}

// pgKinds are made when the rows are loaded, those first that others need. What still
// needs something later is tried again.
var pgKinds = []definitionKind{
	{"schema", []string{"CREATE SCHEMA "}, "DROP SCHEMA"},
	{"type", []string{"CREATE TYPE ", "CREATE DOMAIN "}, "DROP TYPE"},
	{"sequence", []string{"CREATE SEQUENCE "}, "DROP SEQUENCE"},
	{"sequence owner", []string{"ALTER SEQUENCE "}, ""},
	{"domain default", []string{"ALTER DOMAIN "}, ""},
	{"domain constraint", []string{"ALTER DOMAIN "}, ""},
	{"default", []string{"ALTER TABLE "}, ""},
	{"identity", []string{"ALTER TABLE "}, ""},
	{"not null", []string{"ALTER TABLE "}, ""},
	{"storage", []string{"ALTER TABLE "}, ""},
	{"constraint", []string{"ALTER TABLE "}, ""},
	{"index", []string{"CREATE INDEX ", "CREATE UNIQUE INDEX "}, ""},
	{"index attachment", []string{"ALTER INDEX "}, ""},
	{"index option", []string{"ALTER INDEX "}, ""},
	{"foreign key", []string{"ALTER TABLE "}, ""},
	{"view", []string{"CREATE VIEW "}, "DROP VIEW"},
	{"materialized view", []string{"CREATE MATERIALIZED VIEW "}, "DROP MATERIALIZED VIEW"},
	{"cluster", []string{"ALTER TABLE "}, ""},
	{"replica identity", []string{"ALTER TABLE "}, ""},
	{"statistics", []string{"CREATE STATISTICS "}, "DROP STATISTICS"},
	{"statistics target", []string{"ALTER STATISTICS "}, ""},
	{"comment", []string{"COMMENT ON "}, ""},
}

// pgRoutines come before the others, and pgCode last: they run when others use the
// database.
var (
	pgRoutines = []definitionKind{{"routine", []string{"CREATE OR REPLACE FUNCTION ", "CREATE OR REPLACE PROCEDURE "}, "DROP ROUTINE"}}
	pgCode     = []definitionKind{
		{"routine comment", []string{"COMMENT ON ROUTINE "}, ""},
		{"trigger", []string{"CREATE TRIGGER ", "CREATE CONSTRAINT TRIGGER "}, ""},
		{"trigger state", []string{"ALTER TABLE "}, ""},
		{"rule", []string{"CREATE RULE "}, ""},
		{"policy", []string{"CREATE POLICY "}, ""},
		{"row security", []string{"ALTER TABLE "}, ""},
	}
)

// pgMade is the table of the statements that undo what definitions made.
const pgMade = `"` + pgMarkerSchema + `"."sallyport_made"`

// parentsFirst returns the tables in an order in which those that inherit can be made.
func (b *pgBuilder) parentsFirst() []*tableLayout {
	var order []*tableLayout
	made := make(map[string]bool)
	pending := b.l.Tables
	for len(pending) > 0 {
		var later []*tableLayout
		for _, t := range pending {
			ready := true
			if t.Native {
				for _, p := range pgNativeOf(t.Stream.Schema).Inherits {
					name := streamName(p[0], p[1])
					ready = ready && (made[name] || b.l.table(name) == nil)
				}
			}
			if !ready {
				later = append(later, t)
				continue
			}
			made[t.Stream.Name] = true
			order = append(order, t)
		}
		if len(later) == len(pending) {
			return append(order, later...) // a circle, which no server made
		}
		pending = later
	}
	return order
}

// nativeTable makes a table with what must be there before its rows: computed columns,
// parents, partitions.
func (b *pgBuilder) nativeTable(ctx context.Context, t *tableLayout) error {
	native := pgNativeOf(t.Stream.Schema)
	sql, err := b.createTable(ctx, t)
	if err != nil {
		return err
	}
	made, reason, err := b.attempt(ctx, sql)
	if err != nil {
		return err
	}
	if made {
		return b.partitions(ctx, native)
	}
	b.notes = append(b.notes, fmt.Sprintf("Table %q is made without computed columns, parents and partitions, because the server refuses one of them: %v.", t.Stream.Name, reason))
	t.Native = false // so createTable leaves them out
	for i := range t.Columns {
		t.Columns[i].Computed = false
	}
	sql, err = b.createTable(ctx, t)
	t.Native = true
	if err != nil {
		return err
	}
	return pgExec(ctx, b.c, sql)
}

// attempt runs a statement in a savepoint. reason is why the server refused it.
func (b *pgBuilder) attempt(ctx context.Context, sql string) (made bool, reason, err error) {
	made, err = b.try(ctx, func() error {
		reason = pgExec(ctx, b.c, sql)
		return reason
	})
	return made, reason, err
}

// create completes the statement that makes a table.
func (n pgNative) create(table string) string {
	sql := "CREATE " + table
	if n.Unlogged {
		sql = "CREATE UNLOGGED " + table
	}
	if len(n.Inherits) > 0 {
		parents := make([]string, len(n.Inherits))
		for i, p := range n.Inherits {
			parents[i] = doubleQuoted(p[0]) + "." + doubleQuoted(p[1])
		}
		sql += " INHERITS (" + strings.Join(parents, ", ") + ")"
	}
	if n.PartitionBy != "" {
		sql += " PARTITION BY " + n.PartitionBy
	}
	return sql
}

// partitions makes the partitions of a table, in the order of the source: parents first.
func (b *pgBuilder) partitions(ctx context.Context, n pgNative) error {
	for _, p := range n.Partitions {
		name := doubleQuoted(p.Schema) + "." + doubleQuoted(p.Name)
		if p.Foreign {
			b.notes = append(b.notes, fmt.Sprintf("Partition %s is not made, because its rows live in another server.", name))
			continue
		}
		if err := b.schema(ctx, p.Schema); err != nil {
			return err
		}
		what := "CREATE TABLE "
		if p.Unlogged {
			what = "CREATE UNLOGGED TABLE "
		}
		sql := what + name + " PARTITION OF " + doubleQuoted(p.Parent[0]) + "." + doubleQuoted(p.Parent[1]) + " " + p.Bound
		if p.By != "" {
			sql += " PARTITION BY " + p.By
		}
		made, reason, err := b.attempt(ctx, sql)
		if err != nil {
			return err
		}
		if !made {
			b.notes = append(b.notes, fmt.Sprintf("Partition %s is not made: %v.", name, reason))
		}
	}
	return nil
}

// restoreDefinitions makes what definitions say. What the server refuses is noted,
// except keys that do not hold, which are errors.
func (t *PostgresTarget) restoreDefinitions(ctx context.Context, c *pgx.Conn, defs []definition) []error {
	kinds := pgKinds
	if t.dialect.code {
		kinds = slices.Concat(pgKinds[:2], pgRoutines, pgKinds[2:], pgCode)
		if err := pgExec(ctx, c, "SET check_function_bodies = off"); err != nil {
			return []error{err}
		}
	}
	return t.state.define(sortDefinitions(defs, kinds), func(d statement) (refused, missing bool, err error) {
		err = pgDefine(ctx, c, d)
		var pe *pgconn.PgError
		switch {
		case !errors.As(err, &pe):
			return false, false, err
		case (d.kind == "schema" || d.kind == "type") && slices.Contains([]string{"42P06", "42710", "42P07"}, pe.Code):
			return false, false, nil // it was made for a table already
		case strings.HasPrefix(pe.Code, "23"):
			return false, false, t.state.unmet(err)
		}
		return true, isMissing(pe.Code), err
	})
}

// isMissing tells errors about something that a later definition may make: an undefined
// table, column, routine, object, schema, or an index without its parts.
func isMissing(code string) bool {
	return slices.Contains([]string{"42P01", "42703", "42883", "42704", "3F000", "55000"}, code)
}

// pgDefine runs a statement: one, over the extended protocol, which takes no second.
// How it is undone is remembered with it.
func pgDefine(ctx context.Context, c *pgx.Conn, d statement) error {
	if err := d.check(); err != nil {
		return err
	}
	undo := ""
	switch name := doubleQuoted(d.schema); {
	case d.of.undo == "":
	case d.kind == "schema":
		undo = d.of.undo + " IF EXISTS " + name
	case d.kind == "routine":
		undo = d.of.undo + " IF EXISTS " + name + "." + d.name // quoted, with its arguments
	default:
		undo = d.of.undo + " IF EXISTS " + name + "." + doubleQuoted(d.name)
	}
	if err := pgExec(ctx, c, "BEGIN"); err != nil {
		return err
	}
	err := pgExec(ctx, c, d.sql)
	if err == nil && undo != "" {
		_, err = c.Exec(ctx, "INSERT INTO "+pgMade+" (undo) VALUES ($1)", undo)
	}
	if err != nil {
		return errors.Join(err, pgExec(ctx, c, "ROLLBACK"))
	}
	return pgExec(ctx, c, "COMMIT")
}

// pgDestroy drops what a test made, in a transaction. What depends on something else of
// it is tried again after that; what somebody else built upon it makes this fail.
func pgDestroy(ctx context.Context, c *pgx.Conn, l *layout) error {
	type row struct{ Undo string }
	made, err := pgRows[row](ctx, c, "what was made", "SELECT undo FROM "+pgMade+" ORDER BY id DESC")
	if err != nil {
		return err
	}
	var pending []string
	for _, m := range made {
		pending = append(pending, m.Undo)
	}
	pending = append(pending, l.pgDrops()...)
	b := &pgBuilder{c: c}
	for len(pending) > 0 {
		var later []string
		var reasons error
		for _, sql := range pending {
			done, reason, err := b.attempt(ctx, sql)
			if err != nil {
				return err
			}
			if !done {
				later, reasons = append(later, sql), errors.Join(reasons, reason)
			}
		}
		if len(later) == len(pending) {
			return reasons
		}
		pending = later
	}
	for _, sql := range []string{"DROP TABLE " + pgMade, "DROP TABLE " + pgMarker, "DROP SCHEMA " + doubleQuoted(pgMarkerSchema)} {
		if err := pgExec(ctx, c, sql); err != nil {
			return err
		}
	}
	return nil
}
