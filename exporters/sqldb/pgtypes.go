package sqldb

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// pgCollationName is the quoted name of a collation co.
const pgCollationName = `quote_ident(cn.nspname) || '.' || quote_ident(co.collname) FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace`

// pgRangeOptions are the options of a range type as a [pgRange]. The name that the server
// gives a multirange is not stated; servers before version 14 have none.
const pgRangeOptions = `SELECT jsonb_build_object(
		'opclass', (SELECT jsonb_build_array(n.nspname, o.opcname) FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace WHERE o.oid = r.rngsubopc AND NOT o.opcdefault),
		'multirange', (SELECT jsonb_build_array(n.nspname, m.typname) FROM pg_type m JOIN pg_namespace n ON n.oid = m.typnamespace
			WHERE m.oid = (to_jsonb(r) ->> 'rngmultitypid')::oid AND (m.typnamespace <> t.typnamespace
				OR m.typname <> CASE WHEN t.typname LIKE '%range%' THEN regexp_replace(t.typname, 'range', 'multirange') ELSE t.typname || '_multirange' END)),
		'difference', (SELECT p.proname FROM pg_proc p WHERE p.oid = r.rngsubdiff AND p.pronamespace = 'pg_catalog'::regnamespace),
		'functions', (SELECT jsonb_agg(format('%I.%I', n.nspname, p.proname) ORDER BY p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE p.oid IN (r.rngsubdiff, r.rngcanonical) AND n.nspname <> 'pg_catalog')) FROM pg_range r`

// readPgTypes reads the types that users made, those first that others are made of.
func readPgTypes(ctx context.Context, c *pgx.Conn) ([]pgType, error) {
	// Object identifiers grow, and a type is made after those it is made of, except
	// where ALTER TYPE added a field later; begin of a target copes with that.
	return pgRows[pgType](ctx, c, "types", `SELECT n.nspname::text, t.typname::text,
			CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'c' THEN 'composite' WHEN 'd' THEN 'domain' ELSE 'range' END,
			coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), '{}'),
			coalesce((SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'collation',
					(SELECT `+pgCollationName+` WHERE co.oid = a.attcollation AND a.attcollation <> f.typcollation)) ORDER BY a.attnum)
				FROM pg_attribute a JOIN pg_type f ON f.oid = a.atttypid WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'c'), '[]'),
			CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
				WHEN 'r' THEN (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid) ELSE '' END,
			coalesce((SELECT `+pgCollationName+` WHERE CASE t.typtype WHEN 'd' THEN co.oid = t.typcollation AND t.typcollation <> b.typcollation
				ELSE co.oid = (SELECT r.rngcollation FROM pg_range r JOIN pg_type s ON s.oid = r.rngsubtype WHERE r.rngtypid = t.oid AND r.rngcollation <> s.typcollation) END), ''),
			t.typnotnull,
			coalesce((`+pgRangeOptions+` WHERE r.rngtypid = t.oid), '{}')
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type b ON b.oid = t.typbasetype
		WHERE `+userSpace+` AND NOT `+ofExtension("pg_type", "t.oid")+`
			AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
		ORDER BY t.oid`)
}

// sql is the statement that makes the type, without a domain's default and checks,
// which are expressions of the source.
func (t pgType) sql() string {
	name := doubleQuoted(t.Schema) + "." + doubleQuoted(t.Name)
	switch t.Kind {
	case "enum":
		labels := make([]string, len(t.Labels))
		for i, l := range t.Labels {
			labels[i] = singleQuoted(l)
		}
		return "CREATE TYPE " + name + " AS ENUM (" + strings.Join(labels, ", ") + ")"
	case "composite":
		fields := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = doubleQuoted(f.Name) + " " + f.Type
			if f.Collation != "" {
				fields[i] += " COLLATE " + f.Collation
			}
		}
		return "CREATE TYPE " + name + " AS (" + strings.Join(fields, ", ") + ")"
	case "range":
		return "CREATE TYPE " + name + " AS RANGE (" + t.rangeOptions() + ")"
	}
	s := "CREATE DOMAIN " + name + " AS " + t.Base
	if t.Collation != "" {
		s += " COLLATE " + t.Collation
	}
	if t.Required {
		s += " NOT NULL"
	}
	return s
}

func (t pgType) rangeOptions() string {
	options := "SUBTYPE = " + t.Base
	if qualified := t.Range.OpClass; len(qualified) == 2 {
		options += ", SUBTYPE_OPCLASS = " + doubleQuoted(qualified[0]) + "." + doubleQuoted(qualified[1])
	}
	if t.Collation != "" {
		options += ", COLLATION = " + t.Collation
	}
	if t.Range.Difference != "" {
		options += ", SUBTYPE_DIFF = pg_catalog." + doubleQuoted(t.Range.Difference)
	}
	if qualified := t.Range.Multirange; len(qualified) == 2 {
		options += ", MULTIRANGE_TYPE_NAME = " + doubleQuoted(qualified[0]) + "." + doubleQuoted(qualified[1])
	}
	return options
}

// typesOf returns the users' types that the columns of a table may need: all, if it
// has a column of any, for they are few and refer to each other.
func (cat *pgCatalog) typesOf(table uint32) []pgType {
	for _, c := range cat.columns[table] {
		// format_type writes the schema of every type outside pg_catalog.
		if strings.Contains(c.Type, ".") {
			return cat.types
		}
	}
	return nil
}
