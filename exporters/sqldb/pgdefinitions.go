package sqldb

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
)

// pgDefinitions are the queries that make the definitions of a database: of each its
// kind, schema, name and the one statement that makes it. Kinds that no restore makes
// (see pgOrder) hold what the server says of them. A null statement is of something
// that was dropped meanwhile.
var pgDefinitions = []struct{ what, sql string }{
	{"views", `SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, n.nspname::text, c.relname::text,
		CASE c.relkind WHEN 'v' THEN 'CREATE VIEW ' ELSE 'CREATE MATERIALIZED VIEW ' END || ` + pgRel + `
			|| coalesce(' WITH (' || array_to_string(c.reloptions, ', ') || ')', '') || ' AS ' || rtrim(pg_get_viewdef(c.oid), ';')
			|| CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN ' WITH NO DATA' ELSE '' END
		` + pgFromClass + ` WHERE c.relkind IN ('v', 'm') AND ` + pgOwn},
	{"routines", `SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' ELSE 'routine' END, n.nspname::text, format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
		CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE pg_get_functiondef(p.oid) END
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE ` + userSpace + ` AND NOT ` + ofExtension("pg_proc", "p.oid") + `
			AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')`},
	{"triggers", `SELECT 'trigger', n.nspname::text, format('%I.%I', c.relname, t.tgname), pg_get_triggerdef(t.oid)
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND ` + pgOwn},
	{"trigger states", `SELECT 'trigger state', n.nspname::text, format('%I.%I', c.relname, t.tgname),
			format('ALTER TABLE %s %s TRIGGER %I', ` + pgRel + `, CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, t.tgname)
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled <> 'O' AND ` + pgOwn},
	{"rules", `SELECT 'rule', n.nspname::text, format('%I.%I', c.relname, r.rulename), rtrim(pg_get_ruledef(r.oid), ';')
		FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE r.rulename <> '_RETURN' AND ` + pgOwn},
	{"policies", `SELECT 'policy', n.nspname::text, format('%I.%I', c.relname, p.polname),
			format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, ` + pgRel + `, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
				CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
				(SELECT string_agg(CASE x WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x)) END, ', ') FROM unnest(p.polroles) x))
			|| coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '') || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
		FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ` + pgOwn},
	{"row security", `SELECT 'row security', n.nspname::text, x.what || ' ' || quote_ident(c.relname), 'ALTER TABLE ' || ` + pgRel + ` || ' ' || x.what || ' ROW LEVEL SECURITY'
		` + pgFromClass + ` CROSS JOIN (VALUES ('ENABLE'), ('FORCE')) AS x(what)
		WHERE (x.what = 'ENABLE' AND c.relrowsecurity OR x.what = 'FORCE' AND c.relforcerowsecurity) AND ` + pgOwn},
	{"sequences", `SELECT 'sequence', n.nspname::text, c.relname::text, 'CREATE SEQUENCE ' || ` + pgRel + ` || ' AS ' || format_type(s.seqtypid, NULL) || ` + pgSequence + `
		FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE ` + pgOwn + ` AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')`},
	{"sequence owners", `SELECT 'sequence owner', n.nspname::text, c.relname::text, format('ALTER SEQUENCE %s OWNED BY %I.%I.%I', ` + pgRel + `, tn.nspname, t.relname, a.attname)
		` + pgFromClass + ` JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
		JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
		WHERE c.relkind = 'S' AND ` + pgOwn},
	{"identities", `SELECT 'identity', n.nspname::text, format('%I.%I', c.relname, a.attname), format('ALTER TABLE %s ALTER COLUMN %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %I.%I', ` + pgRel + `,
			a.attname, CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, qn.nspname, q.relname) || ` + pgSequence + ` || ')'
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''
		JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
		JOIN pg_class q ON q.oid = d.objid JOIN pg_namespace qn ON qn.oid = q.relnamespace JOIN pg_sequence s ON s.seqrelid = q.oid WHERE ` + pgOwn},
	{"defaults", `SELECT 'default', n.nspname::text, format('%I.%I', c.relname, a.attname),
			format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT ', ` + pgRel + `, a.attname) || pg_get_expr(d.adbin, d.adrelid)
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attgenerated = '' JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relkind IN ('r', 'p', 'v') AND ` + pgOwn},
	{"columns of partitions", `SELECT 'not null', n.nspname::text, format('%I.%I', c.relname, a.attname), format('ALTER TABLE ONLY %s ALTER COLUMN %I SET NOT NULL', ` + pgRel + `, a.attname)
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnotnull AND a.attnum > 0 JOIN pg_inherits i ON i.inhrelid = c.oid
		JOIN pg_attribute pa ON pa.attrelid = i.inhparent AND pa.attname = a.attname AND NOT pa.attnotnull WHERE c.relispartition AND c.relkind IN ('r', 'p') AND ` + pgOwn},
	{"domains", `SELECT 'domain default', n.nspname::text, t.typname::text, format('ALTER DOMAIN %I.%I SET DEFAULT ', n.nspname, t.typname) || pg_get_expr(t.typdefaultbin, 'pg_class'::regclass)
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'd' AND t.typdefaultbin IS NOT NULL AND ` + userSpace + ` AND NOT ` + ofExtension("pg_type", "t.oid")},
	{"domain constraints", `SELECT 'domain constraint', n.nspname::text, format('%I.%I', t.typname, k.conname), format('ALTER DOMAIN %I.%I ADD CONSTRAINT %I ', n.nspname, t.typname, k.conname) || pg_get_constraintdef(k.oid)
		FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
		WHERE k.contype = 'c' AND ` + userSpace + ` AND NOT ` + ofExtension("pg_type", "t.oid")},
	{"constraints", `SELECT CASE k.contype WHEN 'f' THEN 'foreign key' ELSE 'constraint' END, n.nspname::text, format('%I.%I', c.relname, k.conname),
			format('ALTER TABLE %s%s ADD CONSTRAINT %I ', CASE WHEN k.contype = 'c' AND NOT k.connoinherit OR k.contype = 'f' AND c.relkind = 'p' THEN '' ELSE 'ONLY ' END, ` + pgRel + `, k.conname) || pg_get_constraintdef(k.oid)
		FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE (k.contype IN ('p', 'u', 'x') OR k.contype = 'c' AND (k.coninhcount = 0 OR k.conislocal) OR k.contype = 'f' AND k.conparentid = 0) AND ` + pgOwn},
	{"indexes", `SELECT 'index', n.nspname::text, x.relname::text, pg_get_indexdef(i.indexrelid)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'm') AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.oid AND k.contype IN ('p', 'u', 'x')) AND ` + pgOwn},
	{"index attachments", `SELECT 'index attachment', n.nspname::text, c.relname::text, format('ALTER INDEX %I.%I ATTACH PARTITION ', pn.nspname, p.relname) || ` + pgRel + `
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE c.relkind IN ('i', 'I') AND ` + userSpace},
	{"index roles", `SELECT x.what, n.nspname::text, format('%I.%I', c.relname, ix.relname), format(x.how, ` + pgRel + `, ix.relname)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class ix ON ix.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN (VALUES ('cluster', 'ALTER TABLE %s CLUSTER ON %I'), ('replica identity', 'ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I')) AS x(what, how)
		WHERE (x.what = 'cluster' AND i.indisclustered OR x.what <> 'cluster' AND i.indisreplident) AND ` + pgOwn},
	{"storage", `SELECT 'storage', n.nspname::text, quote_ident(c.relname), 'ALTER TABLE ONLY ' || ` + pgRel + ` || ' SET (' || array_to_string(c.reloptions, ', ') || ')'
		` + pgFromClass + ` WHERE c.relkind = 'r' AND c.reloptions IS NOT NULL AND ` + pgOwn},
	{"replica identities", `SELECT 'replica identity', n.nspname::text, quote_ident(c.relname), 'ALTER TABLE ONLY ' || ` + pgRel + ` || ' REPLICA IDENTITY ' || CASE c.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END
		` + pgFromClass + ` WHERE c.relkind IN ('r', 'p') AND c.relreplident IN ('f', 'n') AND ` + pgOwn},
	{"column storage", `SELECT 'storage', n.nspname::text, format('%I.%I %s', c.relname, a.attname, x.what), format('ALTER TABLE ONLY %s ALTER COLUMN %I SET %s %s', ` + pgRel + `, a.attname, x.what, x.value)
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid CROSS JOIN LATERAL (VALUES
			('STORAGE', CASE WHEN a.attstorage <> t.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
			('STATISTICS', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END),
			('COMPRESSION', CASE to_jsonb(a) ->> 'attcompression' WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END)) AS x(what, value)
		WHERE c.relkind IN ('r', 'p', 'm') AND x.value IS NOT NULL AND ` + pgOwn},
	{"column options", `SELECT 'storage', n.nspname::text, format('%I.%I options', c.relname, a.attname), format('ALTER TABLE ONLY %s ALTER COLUMN %I SET (%s)', ` + pgRel + `, a.attname, array_to_string(a.attoptions, ', '))
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE c.relkind IN ('r', 'p', 'm') AND a.attoptions IS NOT NULL AND ` + pgOwn},
	{"toast storage", `SELECT 'storage', n.nspname::text, quote_ident(c.relname) || ' toast', 'ALTER TABLE ONLY ' || ` + pgRel + ` || ' SET (' || (SELECT string_agg('toast.' || o, ', ') FROM unnest(toast.reloptions) o) || ')'
		` + pgFromClass + ` JOIN pg_class toast ON toast.oid = c.reltoastrelid WHERE c.relkind IN ('r', 'm') AND toast.reloptions IS NOT NULL AND ` + pgOwn},
	{"options of key indexes", `SELECT 'index option', n.nspname::text, quote_ident(c.relname), 'ALTER INDEX ' || ` + pgRel + ` || ' SET (' || array_to_string(c.reloptions, ', ') || ')'
		` + pgFromClass + ` WHERE c.relkind IN ('i', 'I') AND c.reloptions IS NOT NULL AND EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')) AND ` + pgOwn},
	{"statistics of index columns", `SELECT 'index option', n.nspname::text, format('%I %s', c.relname, a.attnum), format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', ` + pgRel + `, a.attnum, a.attstattarget)
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE c.relkind IN ('i', 'I') AND a.attstattarget >= 0 AND ` + pgOwn},
	{"statistics targets", `SELECT 'statistics target', n.nspname::text, s.stxname::text, format('ALTER STATISTICS %I.%I SET STATISTICS %s', n.nspname, s.stxname, s.stxstattarget)
		FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxstattarget >= 0 AND ` + userSpace},
	{"statistics", `SELECT 'statistics', n.nspname::text, s.stxname::text, pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE ` + userSpace},
	{"comments", `SELECT 'comment', n.nspname::text, quote_ident(c.relname), format('COMMENT ON %s %s IS %L', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
			WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX' WHEN 'c' THEN 'TYPE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, ` + pgRel + `, de.description)
		` + pgFromClass + ` JOIN pg_description de ON de.classoid = 'pg_class'::regclass AND de.objoid = c.oid AND de.objsubid = 0 WHERE ` + pgOwn},
	{"comments of columns", `SELECT 'comment', n.nspname::text, format('%I.%I', c.relname, a.attname), format('COMMENT ON COLUMN %s.%I IS %L', ` + pgRel + `, a.attname, de.description)
		` + pgFromClass + ` JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_description de ON de.classoid = 'pg_class'::regclass AND de.objoid = c.oid AND de.objsubid = a.attnum WHERE ` + pgOwn},
	{"comments of constraints", `SELECT 'comment', n.nspname::text, format('constraint %I.%I', c.relname, k.conname), format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, ` + pgRel + `, de.description)
		FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_description de ON de.classoid = 'pg_constraint'::regclass AND de.objoid = k.oid AND de.objsubid = 0 WHERE ` + pgOwn},
	{"comments of types", `SELECT 'comment', n.nspname::text, 'type ' || quote_ident(t.typname), format('COMMENT ON %s %I.%I IS %L', CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, n.nspname, t.typname, de.description)
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_description de ON de.classoid = 'pg_type'::regclass AND de.objoid = t.oid AND de.objsubid = 0 WHERE t.typtype <> 'c' AND ` + userSpace},
	{"comments of schemas", `SELECT 'comment', n.nspname::text, '', format('COMMENT ON SCHEMA %I IS %L', n.nspname, de.description)
		FROM pg_namespace n JOIN pg_description de ON de.classoid = 'pg_namespace'::regclass AND de.objoid = n.oid AND de.objsubid = 0 WHERE n.nspname <> 'public' AND ` + userSpace},
	{"comments of routines", `SELECT 'routine comment', n.nspname::text, format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
			format('COMMENT ON ROUTINE %I.%I(%s) IS %L', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), de.description)
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_description de ON de.classoid = 'pg_proc'::regclass AND de.objoid = p.oid AND de.objsubid = 0 WHERE ` + userSpace + ` AND NOT ` + ofExtension("pg_proc", "p.oid")},
	{"schemas", `SELECT 'schema', n.nspname::text, '', format('CREATE SCHEMA %I', n.nspname) FROM pg_namespace n WHERE n.nspname <> 'public' AND ` + userSpace + ` AND NOT ` + ofExtension("pg_namespace", "n.oid")},
	{"partitions", `SELECT 'partition', n.nspname::text, c.relname::text, format('%I.%I ', pn.nspname, p.relname) || coalesce(pg_get_expr(c.relpartbound, c.oid), '')
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
		WHERE c.relispartition AND c.relkind IN ('r', 'p', 'f') AND ` + userSpace},
	{"inheritance", `SELECT 'inheritance', n.nspname::text, c.relname::text, string_agg(format('%I.%I', pn.nspname, p.relname), ', ' ORDER BY i.inhseqno)
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
		WHERE NOT c.relispartition AND c.relkind = 'r' AND ` + userSpace + ` GROUP BY 1, 2, 3`},
	{"extensions", `SELECT 'extension', n.nspname::text, e.extname::text, e.extversion
		FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'`},
	{"large objects", `SELECT 'large object', '', m.oid::text, '' FROM pg_largeobject_metadata m`},
}

const (
	pgRel       = `format('%I.%I', n.nspname, c.relname)`
	pgFromClass = `FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace`

	// pgSequence are the options of a pg_sequence s.
	pgSequence = `format(' INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s%s', s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)`
)

// pgOwn keeps relations of the server and of extensions out, and temporary ones.
var pgOwn = userSpace + " AND c.relpersistence <> 't' AND NOT " + ofExtension("pg_class", "c.oid")

// readDefinitions reads what is no table and what no portable schema can say.
func (cat *pgCatalog) readDefinitions(ctx context.Context, c *pgx.Conn) error {
	type row struct {
		Kind, Schema, Name string
		SQL                *string
	}
	for _, q := range pgDefinitions {
		rows, err := pgRows[row](ctx, c, q.what, q.sql)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.SQL == nil {
				return fmt.Errorf("%s %s: %w", r.Kind, r.Name, errDDL)
			}
			cat.definitions = append(cat.definitions, definition{kind: r.Kind, schema: r.Schema, name: r.Name, sql: *r.SQL})
		}
		if q.what == "large objects" && len(rows) > 0 {
			cat.filters = append(cat.filters, fmt.Sprintf("%d large objects are listed among the definitions; their bytes are not exported.", len(rows)))
		}
		if q.what == "views" && len(rows) > 0 {
			cat.notes = append(cat.notes, fmt.Sprintf("%d views are exported as definitions; their rows are those of their tables.", len(rows)))
		}
	}
	for _, t := range cat.types {
		for _, f := range t.Range.Functions {
			cat.filters = append(cat.filters, fmt.Sprintf("Range type %s is exported without its function %s.", streamName(t.Schema, t.Name), f))
		}
		cat.definitions = append(cat.definitions, definition{kind: "type", schema: t.Schema, name: t.Name, sql: t.sql()})
	}
	if err := cat.readSequences(ctx, c); err != nil {
		return err
	}
	return cat.countOthers(ctx, c)
}

// readSequences reads how far each sequence has counted. Sequences are in no snapshot:
// what is read here is the state after it, so that it is never behind the rows.
func (cat *pgCatalog) readSequences(ctx context.Context, c *pgx.Conn) error {
	type row struct {
		Schema, Name string
		Allowed      bool
		Owner        []string
	}
	rows, err := pgRows[row](ctx, c, "sequences", `SELECT n.nspname::text, c.relname::text,
			coalesce(has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), true),
			coalesce((SELECT ARRAY[tn.nspname::text, t.relname::text, a.attname::text] FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid
				JOIN pg_namespace tn ON tn.oid = t.relnamespace JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
				WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1), '{}')
		`+pgFromClass+` WHERE c.relkind = 'S' AND `+pgOwn)
	if err != nil {
		return err
	}
	for _, r := range rows {
		d := definition{kind: sequenceValueKind, schema: r.Schema, name: r.Name}
		if !r.Allowed {
			d.gap = &dataset.Gap{Code: dataset.Denied, Detail: "the role may not select from the sequence"}
			cat.definitions = append(cat.definitions, d)
			continue
		}
		v := sequenceValue{Owner: r.Owner}
		sql := "SELECT last_value, is_called FROM " + doubleQuoted(r.Schema) + "." + doubleQuoted(r.Name)
		if err := c.QueryRow(ctx, sql).Scan(&v.Last, &v.Called); err != nil {
			return fmt.Errorf("sequence %s: %w", streamName(r.Schema, r.Name), pgError(err))
		}
		d.sql = v.text()
		cat.definitions = append(cat.definitions, d)
	}
	return nil
}

// countOthers says what a database holds that is not even exported as a definition.
func (cat *pgCatalog) countOthers(ctx context.Context, c *pgx.Conn) error {
	type row struct {
		What string
		N    int64
	}
	var parts []string
	for _, o := range []struct{ what, catalog string }{
		{"operators", "pg_operator"}, {"operator classes", "pg_opclass"}, {"casts", "pg_cast"}, {"collations", "pg_collation"}, {"conversions", "pg_conversion"},
		{"text search configurations", "pg_ts_config"}, {"text search dictionaries", "pg_ts_dict"}, {"event triggers", "pg_event_trigger"},
		{"publications", "pg_publication"}, {"foreign servers", "pg_foreign_server"}, {"default privileges", "pg_default_acl"},
	} {
		// What initdb made has numbers below 16384; what a type brings along, a cast of its
		// own for one, comes back with it.
		parts = append(parts, fmt.Sprintf("SELECT '%s', count(*) FROM %s o WHERE o.oid >= 16384 AND NOT %s AND NOT EXISTS (SELECT 1 FROM pg_depend i WHERE i.classid = '%s'::regclass AND i.objid = o.oid AND i.deptype = 'i')",
			o.what, o.catalog, ofExtension(o.catalog, "o.oid"), o.catalog))
	}
	rows, err := pgRows[row](ctx, c, "others", strings.Join(parts, " UNION ALL "))
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.N > 0 {
			cat.filters = append(cat.filters, fmt.Sprintf("%d %s are not exported.", r.N, r.What))
		}
	}
	return nil
}
