package sqldb

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// sqliteNative is the Schema.Native of a SQLite table.
type sqliteNative struct {
	Kind         string `json:"kind"`
	Strict       bool   `json:"strict,omitempty"`
	WithoutRowID bool   `json:"without_rowid,omitempty"`
	SQL          string `json:"sql"` // the CREATE statement, for people and native restores
}

type sqliteEntry struct {
	name, kind           string
	withoutRowID, strict bool
	sql                  string
}

// readCatalog makes the streams.
func (v *sqliteView) readCatalog(ctx context.Context) error {
	entries, err := v.list(ctx)
	if err != nil {
		return err
	}
	v.tables = map[string]*sqliteTable{definitionsStream: {}}
	v.streams = []dataset.Stream{definitionsOf(kindSQLite)}
	for _, e := range entries {
		switch e.kind {
		case "view":
			v.defs = append(v.defs, definition{kind: "view", name: e.name, sql: e.sql})
			continue
		case "virtual":
			v.defs = append(v.defs, definition{kind: "virtual table", name: e.name, sql: e.sql})
			v.facts.Filters = append(v.facts.Filters, fmt.Sprintf(
				"Virtual table %q is exported as a definition; the tables in which its module keeps rows are exported as they are.", e.name))
			continue
		}
		t, err := v.describe(ctx, e)
		if err != nil {
			return fmt.Errorf("table %q: %w", e.name, err)
		}
		v.tables[t.stream.Name] = t
		v.streams = append(v.streams, t.stream)
	}
	sortStreams(v.streams)
	return v.otherDefinitions(ctx)
}

func (v *sqliteView) list(ctx context.Context) ([]sqliteEntry, error) {
	rows, err := v.conn.QueryContext(ctx, `SELECT l.name, l.type, l.wr, l.strict, coalesce(s.sql, '') FROM pragma_table_list AS l
		JOIN sqlite_schema AS s ON s.name = l.name AND s.type IN ('table', 'view') WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	defer rows.Close()
	var all []sqliteEntry
	for rows.Next() {
		var e sqliteEntry
		if err := rows.Scan(&e.name, &e.kind, &e.withoutRowID, &e.strict, &e.sql); err != nil {
			return nil, fmt.Errorf("list tables: %w", err)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

// otherDefinitions reads indexes, triggers, the numbers that applications keep in a file,
// and the counters of AUTOINCREMENT, which are part of the snapshot.
func (v *sqliteView) otherDefinitions(ctx context.Context) error {
	query := `SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'index') AND sql IS NOT NULL
		UNION ALL SELECT 'pragma', 'user_version', 'PRAGMA user_version = ' || user_version FROM pragma_user_version
		UNION ALL SELECT 'pragma', 'application_id', 'PRAGMA application_id = ' || application_id FROM pragma_application_id`
	var counters int
	if err := v.conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'").Scan(&counters); err != nil {
		return fmt.Errorf("list triggers: %w", err)
	}
	if counters > 0 {
		query += ` UNION ALL SELECT '` + sequenceValueKind + `', name, '{"last_value":"' || seq || '","is_called":true}' FROM sqlite_sequence`
	}
	rows, err := v.conn.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("list triggers: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d definition
		if err := rows.Scan(&d.kind, &d.name, &d.sql); err != nil {
			return fmt.Errorf("list triggers: %w", err)
		}
		v.defs = append(v.defs, d)
	}
	slices.SortFunc(v.defs, func(a, b definition) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
	})
	return rows.Err()
}

// describe makes the stream of a table and says how it is read.
func (v *sqliteView) describe(ctx context.Context, e sqliteEntry) (*sqliteTable, error) {
	native, err := json.Marshal(sqliteNative{kindSQLite, e.strict, e.withoutRowID, e.sql})
	if err != nil {
		return nil, err
	}
	schema := &dataset.Schema{Native: native}
	columns, nullable, err := v.fields(ctx, e, schema)
	if err != nil {
		return nil, err
	}
	if err := v.foreignKeys(ctx, e.name, schema); err != nil {
		return nil, err
	}
	if err := v.indexes(ctx, e.name, schema); err != nil {
		return nil, err
	}
	s := dataset.Stream{Name: streamName("", e.name), Schema: schema, Keyless: len(schema.PrimaryKey) == 0,
		Attributes: attributes{Kind: kindSQLite, Table: e.name}.raw()}
	// For the sake of old files SQLite lets the columns of a primary key be null, and
	// then rows share one.
	if !s.Keyless && len(nullable) > 0 {
		conditions := make([]string, len(nullable))
		for i, c := range nullable {
			conditions[i] = "t." + c + " IS NULL"
		}
		query := "SELECT EXISTS (SELECT 1 FROM " + doubleQuoted(e.name) + " AS t WHERE " + strings.Join(conditions, " OR ") + ")"
		if err := v.conn.QueryRowContext(ctx, query).Scan(&s.Keyless); err != nil {
			return nil, fmt.Errorf("look for nulls in the primary key: %w", err)
		}
		if s.Keyless {
			v.facts.Notes = append(v.facts.Notes, fmt.Sprintf("Table %q has nulls in its primary key and is exported as one without.", e.name))
		}
	}
	read, err := newTable(s, doubleQuoted(e.name), columns)
	if err != nil {
		return nil, err
	}
	t := &sqliteTable{table: *read}
	var order []string
	for _, k := range t.key {
		order = append(order, "t."+columns[k].expr)
	}
	t.order = strings.Join(order, ", ")
	return t, nil
}

// fields reads the columns. nullable are the quoted ones of the primary key that may be null.
func (v *sqliteView) fields(ctx context.Context, e sqliteEntry, schema *dataset.Schema) (columns []column, nullable []string, err error) {
	rows, err := v.conn.QueryContext(ctx, `SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid`, e.name)
	if err != nil {
		return nil, nil, fmt.Errorf("columns: %w", err)
	}
	defer rows.Close()
	keys := make(map[int]string)
	for rows.Next() {
		var name, typ string
		var required bool
		var deflt sql.NullString
		var pk, hidden int
		if err := rows.Scan(&name, &typ, &required, &deflt, &pk, &hidden); err != nil {
			return nil, nil, fmt.Errorf("columns: %w", err)
		}
		f := dataset.Field{Name: name, Native: typ, Required: required}
		var how form
		f.Type, f.Lexical, how = sqliteFieldType(typ, e.strict)
		if deflt.Valid {
			f.Default = &deflt.String
		}
		if hidden == 2 || hidden == 3 {
			f.Generated = "computed; see the CREATE statement"
		}
		if pk > 0 {
			keys[pk] = name
			if !required && !e.withoutRowID {
				nullable = append(nullable, doubleQuoted(name))
			}
			f.Identity = strings.Contains(strings.ToUpper(e.sql), "AUTOINCREMENT")
		}
		schema.Fields = append(schema.Fields, f)
		c, err := newColumn(name, doubleQuoted(name), how)
		if err != nil {
			return nil, nil, err
		}
		columns = append(columns, c)
	}
	for i := 1; i <= len(keys); i++ {
		schema.PrimaryKey = append(schema.PrimaryKey, keys[i])
	}
	return columns, nullable, rows.Err()
}

func (v *sqliteView) foreignKeys(ctx context.Context, table string, schema *dataset.Schema) error {
	rows, err := v.conn.QueryContext(ctx, `SELECT f.id, f."table", f."from", coalesce(f."to", (SELECT p.name FROM pragma_table_info(f."table") AS p WHERE p.pk = f.seq + 1), ''),
		f.on_update, f.on_delete FROM pragma_foreign_key_list(?) AS f ORDER BY f.id, f.seq`, table)
	if err != nil {
		return fmt.Errorf("foreign keys: %w", err)
	}
	defer rows.Close()
	last := -1
	for rows.Next() {
		var id int
		var ref, from, to, update, remove string
		if err := rows.Scan(&id, &ref, &from, &to, &update, &remove); err != nil {
			return fmt.Errorf("foreign keys: %w", err)
		}
		if id != last {
			schema.ForeignKeys = append(schema.ForeignKeys, dataset.ForeignKey{RefStream: streamName("", ref),
				OnUpdate: strings.TrimPrefix(update, "NO ACTION"), OnDelete: strings.TrimPrefix(remove, "NO ACTION")})
			last = id
		}
		k := &schema.ForeignKeys[len(schema.ForeignKeys)-1]
		k.Fields, k.RefFields = append(k.Fields, from), append(k.RefFields, to)
	}
	return rows.Err()
}

func (v *sqliteView) indexes(ctx context.Context, table string, schema *dataset.Schema) error {
	rows, err := v.conn.QueryContext(ctx, `SELECT l.name, l."unique", l.origin, l.partial, x.cid, coalesce(x.name, ''), x."desc", coalesce(x.coll, ''), coalesce(s.sql, '')
		FROM pragma_index_list(?) AS l, pragma_index_xinfo(l.name) AS x LEFT JOIN sqlite_schema AS s ON s.name = l.name AND s.type = 'index'
		WHERE x.key AND l.origin <> 'pk' ORDER BY l.name, x.seqno`, table)
	if err != nil {
		return fmt.Errorf("indexes: %w", err)
	}
	defer rows.Close()
	var all []dataset.Index
	origins := make(map[string]string)
	for rows.Next() {
		var name, origin, column, collation, text string
		var unique, partial, desc bool
		var cid int
		if err := rows.Scan(&name, &unique, &origin, &partial, &cid, &column, &desc, &collation, &text); err != nil {
			return fmt.Errorf("indexes: %w", err)
		}
		if len(all) == 0 || all[len(all)-1].Name != name {
			all = append(all, dataset.Index{Name: name, Unique: unique})
			origins[name] = origin
		}
		x := &all[len(all)-1]
		if cid >= 0 {
			x.Fields = append(x.Fields, column)
		}
		if partial || desc || cid < 0 || collation != "BINARY" {
			x.Expression = text
		}
	}
	for _, x := range all {
		if origins[x.Name] == "u" {
			schema.UniqueKeys = append(schema.UniqueKeys, x.Fields)
		} else {
			schema.Indexes = append(schema.Indexes, x)
		}
	}
	return rows.Err()
}

// sqliteFieldType says how values of a declared type are written, after the rules of
// https://www.sqlite.org/datatype3.html#determination_of_column_affinity.
func sqliteFieldType(declared string, strict bool) (dataset.Type, dataset.Lexical, form) {
	d := strings.ToUpper(declared)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(d, p) })
	}
	switch {
	case strict && d == "ANY" || d == "":
		return dataset.AnyType, dataset.Plain, formAny
	case has("INT"):
		return dataset.Integer, dataset.Text, formAnyInteger
	case has("CHAR", "CLOB", "TEXT"):
		return dataset.String, dataset.Plain, formAnyText
	case has("BLOB"):
		return dataset.String, dataset.Base64, formAnyBytes
	case has("REAL", "FLOA", "DOUB", "DEC", "NUM", "BOOL", "MONEY"):
		return dataset.Number, dataset.Plain, formAnyNumber
	case has("DATE", "TIME", "JSON", "UUID", "STRING"):
		return dataset.String, dataset.Plain, formAnyText
	}
	return dataset.AnyType, dataset.Plain, formAny
}
