package sqldb

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// readPgTypes reads the types that users made, those first that others are made of.
func readPgTypes(ctx context.Context, c *pgx.Conn) ([]pgType, error) {
	// Object identifiers grow, and a type is made after those it is made of, except
	// where ALTER TYPE added a field later; begin of a target copes with that.
	return pgRows[pgType](ctx, c, "types", `SELECT n.nspname::text, t.typname::text,
			CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'c' THEN 'composite' WHEN 'd' THEN 'domain' ELSE 'range' END,
			coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), '{}'),
			coalesce((SELECT jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
				FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'c'), '[]'),
			CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
				WHEN 'r' THEN (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid) ELSE '' END,
			CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation THEN
				(SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname) FROM pg_collation co
				JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = t.typcollation) ELSE '' END,
			t.typnotnull,
			coalesce((SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = t.oid), '{}')
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_type b ON b.oid = t.typbasetype
		WHERE `+userSpace+` AND NOT `+ofExtension("pg_type", "t.oid")+`
			AND (t.typtype IN ('e', 'd', 'r') OR t.typtype = 'c' AND EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
		ORDER BY t.oid`)
}

// sql is the statement that makes the type. With checks it holds expressions of the
// source.
func (t pgType) sql(checks bool) string {
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
		}
		return "CREATE TYPE " + name + " AS (" + strings.Join(fields, ", ") + ")"
	case "range":
		return "CREATE TYPE " + name + " AS RANGE (SUBTYPE = " + t.Base + ")"
	}
	s := "CREATE DOMAIN " + name + " AS " + t.Base
	if t.Collation != "" {
		s += " COLLATE " + t.Collation
	}
	if t.Required {
		s += " NOT NULL"
	}
	if checks {
		for _, k := range t.Checks {
			s += " " + k
		}
	}
	return s
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

// readDefinitions reads what is no table and what no portable schema can say.
func (cat *pgCatalog) readDefinitions(ctx context.Context, c *pgx.Conn) error {
	type row struct {
		Kind, Schema, Name string
		SQL                *string // null if it was dropped since
	}
	for _, q := range []struct{ what, sql string }{
		{"views", `SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, n.nspname::text, c.relname::text, pg_get_viewdef(c.oid)
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('v', 'm') AND ` + userSpace + ` AND NOT ` + ofExtension("pg_class", "c.oid")},
		{"routines", `SELECT 'routine', n.nspname::text, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
			CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END
			FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + userSpace + ` AND NOT ` + ofExtension("pg_proc", "p.oid") + `
				AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')`},
		{"triggers", `SELECT 'trigger', n.nspname::text, c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
			FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND ` + userSpace},
		{"rules", `SELECT 'rule', n.nspname::text, c.relname || '.' || r.rulename, pg_get_ruledef(r.oid)
			FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE r.rulename <> '_RETURN' AND ` + userSpace},
		{"policies", `SELECT 'policy', n.nspname::text, c.relname || '.' || p.polname,
				concat_ws(' ', 'FOR', p.polcmd, 'USING', pg_get_expr(p.polqual, p.polrelid), 'WITH CHECK', pg_get_expr(p.polwithcheck, p.polrelid))
			FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ` + userSpace},
		{"sequences", `SELECT 'sequence', n.nspname::text, c.relname::text,
				format('AS %s INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s%s', format_type(s.seqtypid, NULL), s.seqincrement,
					s.seqmin, s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
			FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ` + userSpace},
		{"partitions", `SELECT 'partition', n.nspname::text, c.relname::text, pn.nspname || '.' || p.relname || ' ' || coalesce(pg_get_expr(c.relpartbound, c.oid), '')
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
			WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND ` + userSpace},
		{"inheritance", `SELECT 'inheritance', n.nspname::text, c.relname::text, string_agg(pn.nspname || '.' || p.relname, ', ' ORDER BY i.inhseqno)
			FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
			WHERE NOT c.relispartition AND c.relkind = 'r' AND ` + userSpace + ` GROUP BY 1, 2, 3`},
		{"extensions", `SELECT 'extension', n.nspname::text, e.extname::text, e.extversion
			FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'`},
		{"comments", `SELECT 'comment', n.nspname::text, c.relname::text, obj_description(c.oid, 'pg_class')
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE obj_description(c.oid, 'pg_class') IS NOT NULL AND ` + userSpace},
		{"constraints", `SELECT 'constraint', n.nspname::text, c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
			FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE k.contype IN ('c', 'x', 'f', 't') AND ` + userSpace},
		{"large objects", `SELECT 'large object', '', m.oid::text, '' FROM pg_largeobject_metadata m`},
	} {
		rows, err := pgRows[row](ctx, c, q.what, q.sql)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.SQL == nil {
				return fmt.Errorf("%s %s: %w", r.Kind, r.Name, errDDL)
			}
			cat.definitions = append(cat.definitions, definition{r.Kind, r.Schema, r.Name, *r.SQL})
		}
		if q.what == "large objects" && len(rows) > 0 {
			cat.filters = append(cat.filters, fmt.Sprintf("%d large objects are listed among the definitions; their bytes are not exported.", len(rows)))
		}
		if q.what == "views" && len(rows) > 0 {
			cat.notes = append(cat.notes, fmt.Sprintf("%d views are exported as definitions; their rows are those of their tables.", len(rows)))
		}
	}
	for _, t := range cat.types {
		cat.definitions = append(cat.definitions, definition{"type", t.Schema, t.Name, t.sql(true)})
	}
	return nil
}
