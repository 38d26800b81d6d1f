package sqldb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dwp/sallyport/exporters"
)

// pgCheckEmpty fails if anything is in the database that initdb and extensions did not
// put there.
func pgCheckEmpty(ctx context.Context, c *pgx.Conn) error {
	var n int
	err := c.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind NOT IN ('i', 'I', 't') AND c.relpersistence <> 't' AND `+userSpace+` AND NOT `+ofExtension("pg_class", "c.oid")+`)
		+ (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE `+userSpace+` AND NOT `+ofExtension("pg_proc", "p.oid")+`)
		+ (SELECT count(*) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
			WHERE t.typtype IN ('e', 'd', 'r') AND `+userSpace+` AND NOT `+ofExtension("pg_type", "t.oid")+`)
		+ (SELECT count(*) FROM pg_namespace WHERE nspname = $1)`, pgMarkerSchema).Scan(&n)
	switch {
	case err != nil:
		return fmt.Errorf("look whether the database is empty: %w", pgError(err))
	case n > 0:
		return fmt.Errorf("%w: %d tables, types, routines or others are there", exporters.ErrNotEmpty, n)
	}
	return nil
}

// A pgBuilder makes the tables of a layout.
type pgBuilder struct {
	c     *pgx.Conn
	l     *layout
	notes []string
}

func (b *pgBuilder) build(ctx context.Context) error {
	for _, sql := range []string{
		"CREATE SCHEMA " + doubleQuoted(pgMarkerSchema),
		"CREATE TABLE " + pgMarker + " (test text PRIMARY KEY, layout text NOT NULL)",
		"CREATE TABLE " + pgMade + " (id bigint GENERATED ALWAYS AS IDENTITY, undo text NOT NULL)",
	} {
		if err := pgExec(ctx, b.c, sql); err != nil {
			return fmt.Errorf("marker: %w", err)
		}
	}
	if err := b.types(ctx); err != nil {
		return err
	}
	for _, t := range b.parentsFirst() {
		if err := b.schema(ctx, t.Schema); err != nil {
			return err
		}
		if err := b.table(ctx, t); err != nil {
			return fmt.Errorf("table of %q: %w", t.Stream.Name, err)
		}
		if err := b.comments(ctx, t); err != nil {
			return fmt.Errorf("comments of %q: %w", t.Stream.Name, err)
		}
		if t.View == "" {
			continue
		}
		if err := pgExec(ctx, b.c, pgDocumentView(t)); err != nil {
			return fmt.Errorf("view of %q: %w", t.Stream.Name, err)
		}
	}
	return nil
}

// table makes a table. What of its definitions the server refuses is left out and noted.
func (b *pgBuilder) table(ctx context.Context, t *tableLayout) error {
	if !t.Native {
		sql, err := b.createTable(ctx, t)
		if err != nil {
			return err
		}
		return pgExec(ctx, b.c, sql)
	}
	return b.nativeTable(ctx, t)
}

// schema makes a schema that is not there.
func (b *pgBuilder) schema(ctx context.Context, name string) error {
	var exists bool
	if err := b.c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", name).Scan(&exists); err != nil || exists {
		return pgError(err)
	}
	if err := checkName(name, 63, 0); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if err := pgExec(ctx, b.c, "CREATE SCHEMA "+doubleQuoted(name)); err != nil {
		return fmt.Errorf("schema %q: %w", name, err)
	}
	b.l.Schemas = append(b.l.Schemas, name)
	return nil
}

// types makes the types that the source's tables are made of. Types that need others
// are tried again after those; what cannot be made is left to columnType.
func (b *pgBuilder) types(ctx context.Context) error {
	var pending []pgType
	seen := make(map[string]bool)
	for _, t := range b.l.Tables {
		if t.Stream.Schema == nil {
			continue
		}
		for _, typ := range pgNativeOf(t.Stream.Schema).Types {
			if name := streamName(typ.Schema, typ.Name); !seen[name] {
				seen[name] = true
				pending = append(pending, typ)
			}
		}
	}
	for progress := true; progress && len(pending) > 0; {
		progress = false
		var failed []pgType
		for _, typ := range pending {
			ok, err := b.makeType(ctx, typ)
			if err != nil {
				return err
			}
			if !ok {
				failed = append(failed, typ)
				continue
			}
			b.l.Types = append(b.l.Types, typ)
			progress = true
		}
		pending = failed
	}
	return nil
}

// makeType reports whether a type could be made.
func (b *pgBuilder) makeType(ctx context.Context, typ pgType) (bool, error) {
	if err := b.schema(ctx, typ.Schema); err != nil {
		return false, err
	}
	if checkName(typ.Name, 63, 0) != nil {
		return false, nil
	}
	parts := []string{typ.Base}
	if typ.Kind == "enum" || typ.Kind == "composite" {
		parts = nil
	}
	for _, f := range typ.Fields {
		parts = append(parts, f.Type)
	}
	for _, p := range parts {
		if known, err := b.known(ctx, "to_regtype", p); err != nil || !known {
			return false, err
		}
	}
	collations := []string{typ.Collation}
	for _, f := range typ.Fields {
		collations = append(collations, f.Collation)
	}
	for _, c := range collations {
		if c == "" {
			continue
		}
		if known, err := b.known(ctx, "to_regcollation", c); err != nil || !known {
			return false, err
		}
	}
	return b.try(ctx, func() error { return pgExec(ctx, b.c, typ.sql()) })
}

// try runs f in a savepoint and reports whether it succeeded. Only what the server
// refused is no error.
func (b *pgBuilder) try(ctx context.Context, f func() error) (bool, error) {
	if err := pgExec(ctx, b.c, "SAVEPOINT try"); err != nil {
		return false, err
	}
	err := f()
	var pe *pgconn.PgError
	if err != nil && !errors.As(err, &pe) {
		return false, err
	}
	end := "RELEASE SAVEPOINT try"
	if err != nil {
		end = "ROLLBACK TO SAVEPOINT try"
	}
	return err == nil, pgExec(ctx, b.c, end)
}

// known reports whether text is the name of a type or collation that the server knows:
// so nothing else can hide in it.
func (b *pgBuilder) known(ctx context.Context, function, text string) (bool, error) {
	var known bool
	ok, err := b.try(ctx, func() error {
		return b.c.QueryRow(ctx, "SELECT "+function+"($1) IS NOT NULL", text).Scan(&known)
	})
	return ok && known, err
}

// createTable is the statement that makes a table, without keys. A column of a type
// that the server does not know becomes text, which holds the same characters.
func (b *pgBuilder) createTable(ctx context.Context, t *tableLayout) (string, error) {
	var native pgNative
	if !t.Document {
		native = pgNativeOf(t.Stream.Schema)
	}
	var defs []string
	for i := range t.Columns {
		c := &t.Columns[i]
		known, err := b.known(ctx, "to_regtype", c.Type)
		if err != nil {
			return "", err
		}
		if !known {
			b.notes = append(b.notes, fmt.Sprintf("Column %q of %q is text, because this server has no type %s.", c.Name, t.Stream.Name, c.Type))
			c.Type, c.Shape, c.Form = "text", shapeText, formText
		}
		def := doubleQuoted(c.Name) + " " + c.Type
		if t.Document {
			defs = append(defs, def+" NOT NULL")
			continue
		}
		f := t.Stream.Schema.Fields[i]
		if collation := native.Collations[f.Name]; collation != "" && c.Own && known {
			found, err := b.known(ctx, "to_regcollation", collation)
			if err != nil {
				return "", err
			}
			if found {
				def += " COLLATE " + collation
			} else {
				b.notes = append(b.notes, fmt.Sprintf("Column %q of %q has the default collation, because this server has no %s.", c.Name, t.Stream.Name, collation))
			}
		}
		if f.Required {
			def += " NOT NULL"
		}
		if c.Computed {
			def += " GENERATED ALWAYS AS (" + f.Generated + ") STORED"
		}
		if !t.Native && f.Identity && slices.Contains([]string{"smallint", "integer", "bigint"}, c.Type) {
			if !f.Required {
				def += " NOT NULL"
			}
			def += " GENERATED BY DEFAULT AS IDENTITY"
		}
		if t.Native && len(native.Inherits) > 0 && slices.Contains(native.Inherited, f.Name) {
			continue
		}
		defs = append(defs, def)
	}
	sql := "TABLE " + t.pgName() + " (" + strings.Join(defs, ", ") + ")"
	if t.Native {
		return native.create(sql), nil
	}
	return "CREATE " + sql, nil
}

func (t *tableLayout) pgName() string { return doubleQuoted(t.Schema) + "." + doubleQuoted(t.Name) }

// comments repeats the source's comments.
func (b *pgBuilder) comments(ctx context.Context, t *tableLayout) error {
	if t.Document || t.Native {
		return nil // the latter's are definitions
	}
	comment := func(what, text string) error {
		if text == "" || strings.ContainsRune(text, 0) {
			return nil
		}
		return pgExec(ctx, b.c, "COMMENT ON "+what+" IS "+singleQuoted(text))
	}
	if err := comment("TABLE "+t.pgName(), pgNativeOf(t.Stream.Schema).Comment); err != nil {
		return err
	}
	for i, f := range t.Stream.Schema.Fields {
		if err := comment("COLUMN "+t.pgName()+"."+doubleQuoted(t.Columns[i].Name), f.Description); err != nil {
			return err
		}
	}
	return nil
}

// pgDocumentView shows the fields of a document table as columns.
func pgDocumentView(t *tableLayout) string {
	n := postgresDialect.names()
	exprs := []string{doubleQuoted(n.take("record_key")), doubleQuoted(n.take("record_ordinal"))}
	for _, f := range t.Stream.Schema.Fields {
		if strings.ContainsRune(f.Name, 0) {
			continue
		}
		exprs = append(exprs, "record ->> "+singleQuoted(f.Name)+" AS "+doubleQuoted(n.take(f.Name)))
	}
	return "CREATE VIEW " + doubleQuoted(t.Schema) + "." + doubleQuoted(t.View) + " AS SELECT " + strings.Join(exprs, ", ") + " FROM " + t.pgName()
}

// pgDrops are the statements that remove a layout. They drop nothing that depends on
// it: what somebody else built upon it makes them fail.
func (l *layout) pgDrops() []string {
	var all, tables []string
	for _, t := range l.Tables {
		if t.View != "" {
			all = append(all, "DROP VIEW IF EXISTS "+doubleQuoted(t.Schema)+"."+doubleQuoted(t.View))
		}
		tables = append(tables, t.pgName())
	}
	if len(tables) > 0 {
		all = append(all, "DROP TABLE IF EXISTS "+strings.Join(tables, ", "))
	}
	for _, typ := range slices.Backward(l.Types) {
		what := "TYPE"
		if typ.Kind == "domain" {
			what = "DOMAIN"
		}
		all = append(all, "DROP "+what+" IF EXISTS "+doubleQuoted(typ.Schema)+"."+doubleQuoted(typ.Name))
	}
	for _, s := range l.Schemas {
		all = append(all, "DROP SCHEMA IF EXISTS "+doubleQuoted(s))
	}
	return all
}
