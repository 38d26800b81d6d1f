package sqldb

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
)

// A pgCatalog is what a database says of itself, within one snapshot.
type pgCatalog struct {
	relations   []pgRelation
	partitions  []uint32
	columns     map[uint32][]pgColumn
	constraints map[uint32][]pgConstraint
	indexes     map[uint32][]pgIndex
	types       []pgType
	below       map[uint32][]pgPartition // of partitioned tables
	definitions []definition
	filters     []string
	notes       []string
}

type pgRelation struct {
	OID          uint32
	Schema, Name string
	Kind         string // r, p (partitioned) or f (foreign)
	Denied       bool
	Partition    bool // its rows are read through its parent
	Security     bool // row-level security
	Key          string
	Comment      string
	Unlogged     bool
	Parents      [][2]string // schema and name of what it inherits from
}

// from names the table without its heirs, which are streams of their own, and with its
// partitions, which are not.
func (r pgRelation) from() string {
	name := doubleQuoted(r.Schema) + "." + doubleQuoted(r.Name)
	if r.Kind == "p" {
		return name
	}
	return "ONLY " + name
}

type pgColumn struct {
	Table               uint32
	Number              int16
	Name, Type          string
	Base                string // name of the type below all domains, if of pg_catalog
	Class               string // b(ase), e(num), c(omposite), r(ange), ...
	Required            bool
	Default             *string
	Generated, Identity bool
	Collation           string
	Comment             string
	Local               bool // not only inherited
}

type pgConstraint struct {
	Table      uint32
	Name       string
	Kind       string // p, u, f, c, x
	Columns    []int16
	Ref        uint32
	RefColumns []int16
	OnDelete   string
	OnUpdate   string
	Definition string
}

type pgIndex struct {
	Table      uint32
	Name       string
	Columns    []int16 // 0 is an expression
	Unique     bool
	Plain      bool // a B-tree over columns and nothing else
	Definition string
}

// A pgType is a type that tables need and that must be made before them.
type pgType struct {
	Schema    string     `json:"schema"`
	Name      string     `json:"name"`
	Kind      string     `json:"kind"` // enum, composite, domain, range
	Labels    []string   `json:"labels,omitempty"`
	Fields    []pgMember `json:"fields,omitempty"`
	Base      string     `json:"base,omitempty"`
	Collation string     `json:"collation,omitempty"`
	Required  bool       `json:"required,omitempty"`
	Range     pgRange    `json:"range,omitzero"`
}

type pgMember struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Collation string `json:"collation,omitempty"` // where it is not the type's own
}

// A pgRange is what a range type has beside its subtype and collation. Functions are not
// carried: the server calls them, whoever wrote them.
type pgRange struct {
	OpClass    []string `json:"opclass,omitempty"`    // schema and name, where it is not the default one
	Multirange []string `json:"multirange,omitempty"` // likewise
	Difference string   `json:"difference,omitempty"` // a function of pg_catalog
	Functions  []string `json:"functions,omitempty"`  // that are lost: of other schemas
}

// userSpace keeps what the server itself owns out of a query over pg_class c or
// pg_type and pg_namespace n.
const userSpace = `n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'`

// ofExtension tells objects that CREATE EXTENSION made.
func ofExtension(catalog, oid string) string {
	return "EXISTS (SELECT 1 FROM pg_depend x WHERE x.classid = '" + catalog + "'::regclass AND x.objid = " + oid + " AND x.deptype = 'e')"
}

func pgRows[T any](ctx context.Context, c *pgx.Conn, what, sql string, args ...any) ([]T, error) {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("catalogue of %s: %w", what, pgError(err))
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, fmt.Errorf("catalogue of %s: %w", what, pgError(err))
	}
	return all, nil
}

// listPgTables begins a catalogue with what must be locked before the rest is read.
func listPgTables(ctx context.Context, c *pgx.Conn) (*pgCatalog, error) {
	cat := &pgCatalog{
		columns:     make(map[uint32][]pgColumn),
		constraints: make(map[uint32][]pgConstraint),
		indexes:     make(map[uint32][]pgIndex),
	}
	rels, err := pgRows[pgRelation](ctx, c, "tables", `SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
			NOT coalesce(has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), true), c.relispartition, c.relrowsecurity,
			coalesce(pg_get_partkeydef(c.oid), ''), coalesce(obj_description(c.oid, 'pg_class'), ''), c.relpersistence = 'u',
			(SELECT jsonb_agg(jsonb_build_array(pn.nspname, p.relname) ORDER BY i.inhseqno) FROM pg_inherits i
				JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE i.inhrelid = c.oid AND NOT c.relispartition)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND `+userSpace+` ORDER BY 2, 3`)
	if err != nil {
		return nil, err
	}
	return cat, cat.sift(ctx, c, rels)
}

// read completes the catalogue.
func (cat *pgCatalog) read(ctx context.Context, c *pgx.Conn) error {
	columns, err := pgRows[pgColumn](ctx, c, "columns", pgColumnsQuery)
	if err != nil {
		return err
	}
	for _, col := range columns {
		cat.columns[col.Table] = append(cat.columns[col.Table], col)
	}
	constraints, err := pgRows[pgConstraint](ctx, c, "constraints", `SELECT k.conrelid, k.conname::text, k.contype::text, coalesce(k.conkey, '{}'),
			k.confrelid, coalesce(k.confkey, '{}'), k.confdeltype::text, k.confupdtype::text, pg_get_constraintdef(k.oid)
		FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
		WHERE k.conrelid <> 0 AND k.conparentid = 0 AND k.contype IN ('p', 'u', 'f', 'c', 'x') AND `+userSpace+` ORDER BY k.conname`)
	if err != nil {
		return err
	}
	for _, k := range constraints {
		cat.constraints[k.Table] = append(cat.constraints[k.Table], k)
	}
	indexes, err := pgRows[pgIndex](ctx, c, "indexes", `SELECT i.indrelid, c.relname::text, (i.indkey::int2[])[0:i.indnkeyatts - 1], i.indisunique,
			i.indpred IS NULL AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts AND a.amname = 'btree', pg_get_indexdef(c.oid)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
		WHERE `+userSpace+` AND NOT c.relispartition
			AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')) ORDER BY 2`)
	if err != nil {
		return err
	}
	for _, i := range indexes {
		cat.indexes[i.Table] = append(cat.indexes[i.Table], i)
	}
	if cat.types, err = readPgTypes(ctx, c); err != nil {
		return err
	}
	if cat.below, err = readPgPartitions(ctx, c); err != nil {
		return err
	}
	return cat.readDefinitions(ctx, c)
}

// sift keeps the tables whose rows are the database's own, and says what it leaves out.
func (cat *pgCatalog) sift(ctx context.Context, c *pgx.Conn, rels []pgRelation) error {
	ext, err := pgRows[struct{ OID uint32 }](ctx, c, "extensions", `SELECT c.oid FROM pg_class c WHERE `+ofExtension("pg_class", "c.oid"))
	if err != nil {
		return err
	}
	owned := make(map[uint32]bool)
	for _, x := range ext {
		owned[x.OID] = true
	}
	for _, r := range rels {
		name := streamName(r.Schema, r.Name)
		switch {
		case owned[r.OID]:
			cat.filters = append(cat.filters, fmt.Sprintf("Table %q belongs to an extension and is not exported.", name))
		case r.Partition:
			cat.partitions = append(cat.partitions, r.OID) // read through its parent
		case r.Kind == "f":
			cat.filters = append(cat.filters, fmt.Sprintf("Foreign table %q is exported as a definition; its rows live in another server.", name))
			cat.definitions = append(cat.definitions, definition{kind: "foreign table", schema: r.Schema, name: r.Name, sql: ""})
		default:
			cat.relations = append(cat.relations, r)
		}
	}
	return nil
}

// pgColumnsQuery resolves domains to the type below them, because that decides how a
// value is written.
const pgColumnsQuery = `WITH RECURSIVE base(oid, below) AS (
		SELECT oid, oid FROM pg_type
		UNION ALL SELECT b.oid, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.below WHERE t.typtype = 'd'
	)
	SELECT a.attrelid, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod),
		CASE WHEN bn.nspname = 'pg_catalog' THEN bt.typname::text ELSE '' END, bt.typtype::text, a.attnotnull,
		pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> '',
		a.attidentity <> '' OR EXISTS (SELECT 1 FROM pg_depend s JOIN pg_class q ON q.oid = s.objid AND q.relkind = 'S'
			WHERE s.classid = 'pg_class'::regclass AND s.refclassid = 'pg_class'::regclass AND s.refobjid = a.attrelid
			AND s.refobjsubid = a.attnum AND s.deptype IN ('a', 'i')),
		CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) ELSE '' END,
		coalesce(col_description(a.attrelid, a.attnum), ''), a.attislocal
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_type t ON t.oid = a.atttypid
	JOIN base ON base.oid = a.atttypid JOIN pg_type bt ON bt.oid = base.below AND bt.typtype <> 'd'
	JOIN pg_namespace bn ON bn.oid = bt.typnamespace
	LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	LEFT JOIN pg_collation co ON co.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
	WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND ` + userSpace + ` ORDER BY 1, 2`

// streams makes the streams and how each is read.
func (cat *pgCatalog) streams() ([]dataset.Stream, map[string]*pgTable, error) {
	all, tables := []dataset.Stream{definitionsOf(kindPostgres)}, make(map[string]*pgTable)
	for _, r := range cat.relations {
		t, err := cat.table(r)
		if err != nil {
			return nil, nil, fmt.Errorf("table %s: %w", streamName(r.Schema, r.Name), err)
		}
		tables[t.stream.Name] = t
		all = append(all, t.stream)
	}
	sortStreams(all)
	slices.SortStableFunc(cat.definitions, func(a, b definition) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.schema, b.schema), cmp.Compare(a.name, b.name))
	})
	return all, tables, nil
}

func (cat *pgCatalog) table(r pgRelation) (*pgTable, error) {
	schema, columns, err := cat.fields(r)
	if err != nil {
		return nil, err
	}
	s := dataset.Stream{
		Name: streamName(r.Schema, r.Name), Schema: schema, Keyless: len(schema.PrimaryKey) == 0,
		Attributes: attributes{Kind: kindPostgres, Schema: r.Schema, Table: r.Name}.raw(),
	}
	read, err := newTable(s, r.from(), columns)
	if err != nil {
		return nil, err
	}
	t := &pgTable{table: *read, oid: r.OID, relkind: r.Kind, denied: r.Denied, split: true}
	for _, c := range cat.columns[r.OID] {
		if slices.Contains(schema.PrimaryKey, c.Name) && (c.Base == "" && c.Class != "e" || c.Base == "bpchar") {
			t.split = false // its operators may not be found without a search path
		}
	}
	return t, nil
}

// fields makes the portable schema of a table.
func (cat *pgCatalog) fields(r pgRelation) (*dataset.Schema, []column, error) {
	s := new(dataset.Schema)
	native := pgNative{Kind: kindPostgres, PartitionBy: r.Key, Comment: r.Comment, RowSecurity: r.Security,
		Partitions: cat.below[r.OID], Inherits: r.Parents, Unlogged: r.Unlogged}
	var columns []column
	for _, c := range cat.columns[r.OID] {
		typ, lexical, how := pgFieldType(c.Base)
		f := dataset.Field{Name: c.Name, Type: typ, Lexical: lexical, Native: c.Type, Required: c.Required,
			Identity: c.Identity, Description: c.Comment}
		if c.Generated && c.Default != nil {
			f.Generated = *c.Default
		} else if !c.Identity {
			f.Default = c.Default
		}
		if !c.Local && len(r.Parents) > 0 {
			native.Inherited = append(native.Inherited, c.Name)
		}
		s.Fields = append(s.Fields, f)
		if how == formInstant && !zoned(kindPostgres, c.Type) {
			native.Zoned = append(native.Zoned, c.Name)
		}
		if c.Collation != "" {
			if native.Collations == nil {
				native.Collations = make(map[string]string)
			}
			native.Collations[c.Name] = c.Collation
		}
		col, err := newColumn(c.Name, doubleQuoted(c.Name), how)
		if err != nil {
			return nil, nil, err
		}
		columns = append(columns, col)
	}
	for _, k := range cat.constraints[r.OID] {
		cat.constrain(s, &native, r, k)
	}
	for _, i := range cat.indexes[r.OID] {
		x := dataset.Index{Name: i.Name, Fields: cat.names(r.OID, i.Columns), Unique: i.Unique}
		if !i.Plain {
			x.Expression = i.Definition
		}
		s.Indexes = append(s.Indexes, x)
	}
	native.Types = cat.typesOf(r.OID)
	raw, err := json.Marshal(native)
	s.Native = raw
	return s, columns, err
}

// pgNative is the Schema.Native of a PostgreSQL table: what a target of the same kind
// needs beyond the portable schema.
type pgNative struct {
	Kind        string            `json:"kind"`
	Types       []pgType          `json:"types,omitempty"`
	Collations  map[string]string `json:"collations,omitempty"`
	PartitionBy string            `json:"partition_by,omitempty"`
	Zoned       []string          `json:"zoned,omitempty"`       // columns of a domain over timestamptz
	Constraints map[string]string `json:"constraints,omitempty"` // checks and exclusions, by name
	RowSecurity bool              `json:"row_security,omitempty"`
	Comment     string            `json:"comment,omitempty"`
	Partitions  []pgPartition     `json:"partitions,omitempty"` // each after its parent
	Inherits    [][2]string       `json:"inherits,omitempty"`   // schema and name of the parents
	Inherited   []string          `json:"inherited,omitempty"`  // columns that only the parents define
	Unlogged    bool              `json:"unlogged,omitempty"`
}

// A pgPartition is a table that holds some of the rows of a partitioned one.
type pgPartition struct {
	Schema   string    `json:"schema"`
	Name     string    `json:"name"`
	Parent   [2]string `json:"parent"`       // schema and name
	Bound    string    `json:"bound"`        // FOR VALUES ..., or DEFAULT
	By       string    `json:"by,omitempty"` // if it is partitioned itself
	Foreign  bool      `json:"foreign,omitempty"`
	Unlogged bool      `json:"unlogged,omitempty"`
}

// readPgPartitions reads the partitions of each partitioned table that is none itself.
func readPgPartitions(ctx context.Context, c *pgx.Conn) (map[uint32][]pgPartition, error) {
	type row struct {
		Root                 uint32
		Schema, Name         string
		ParentSchema, Parent string
		Bound, By            string
		Foreign, Unlogged    bool
	}
	rows, err := pgRows[row](ctx, c, "partitions", `WITH RECURSIVE tree(root, oid, parent, level) AS (
			SELECT c.oid, c.oid, 0::oid, 0 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'p' AND NOT c.relispartition AND `+userSpace+`
			UNION ALL SELECT t.root, i.inhrelid, i.inhparent, t.level + 1 FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid)
		SELECT t.root, n.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, coalesce(pg_get_expr(c.relpartbound, c.oid), ''),
			coalesce(pg_get_partkeydef(c.oid), ''), c.relkind = 'f', c.relpersistence = 'u'
		FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class p ON p.oid = t.parent JOIN pg_namespace pn ON pn.oid = p.relnamespace ORDER BY t.level, 2, 3`)
	if err != nil {
		return nil, err
	}
	below := make(map[uint32][]pgPartition)
	for _, r := range rows {
		below[r.Root] = append(below[r.Root], pgPartition{r.Schema, r.Name, [2]string{r.ParentSchema, r.Parent}, r.Bound, r.By, r.Foreign, r.Unlogged})
	}
	return below, nil
}

var pgActions = map[string]string{"a": "", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

func (cat *pgCatalog) constrain(s *dataset.Schema, native *pgNative, r pgRelation, k pgConstraint) {
	names := cat.names(r.OID, k.Columns)
	switch k.Kind {
	case "p":
		s.PrimaryKey = names
	case "u":
		s.UniqueKeys = append(s.UniqueKeys, names)
	case "f":
		ref := slices.IndexFunc(cat.relations, func(o pgRelation) bool { return o.OID == k.Ref })
		if ref < 0 {
			break // to a table that is no stream: kept as a definition
		}
		s.ForeignKeys = append(s.ForeignKeys, dataset.ForeignKey{
			Name: k.Name, Fields: names, RefStream: streamName(cat.relations[ref].Schema, cat.relations[ref].Name),
			RefFields: cat.names(k.Ref, k.RefColumns), OnDelete: pgActions[k.OnDelete], OnUpdate: pgActions[k.OnUpdate],
		})
		return
	}
	if k.Kind != "p" && k.Kind != "u" {
		if native.Constraints == nil {
			native.Constraints = make(map[string]string)
		}
		native.Constraints[k.Name] = k.Definition
	}
}

// names returns the names of columns by number; expressions have none.
func (cat *pgCatalog) names(table uint32, numbers []int16) []string {
	var all []string
	for _, n := range numbers {
		for _, c := range cat.columns[table] {
			if c.Number == n {
				all = append(all, c.Name)
			}
		}
	}
	return all
}

// pgFieldType says how values of a type of pg_catalog are written. What is not listed
// is text, as PostgreSQL writes it: arrays, ranges, composites, enums, addresses.
func pgFieldType(base string) (dataset.Type, dataset.Lexical, form) {
	switch base {
	case "bool":
		return dataset.Boolean, dataset.Plain, formBool
	case "int2", "int4", "oid":
		return dataset.Integer, dataset.Plain, formNumber
	case "int8":
		return dataset.Integer, dataset.Text, formToken
	case "float4", "float8":
		return dataset.Number, dataset.Plain, formNumber
	case "numeric":
		return dataset.Number, dataset.Text, formToken
	case "date":
		return dataset.Date, dataset.Plain, formToken
	case "time", "timetz":
		return dataset.Time, dataset.Plain, formToken
	case "timestamp":
		return dataset.Datetime, dataset.Plain, formDatetime
	case "timestamptz":
		return dataset.Datetime, dataset.Plain, formInstant
	case "interval":
		return dataset.Duration, dataset.Plain, formToken
	case "json", "jsonb":
		return dataset.AnyType, dataset.Text, formText
	case "bytea":
		return dataset.String, dataset.Base64, formHex
	case "uuid", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit", "pg_lsn", "xid", "xid8", "cid", "tid":
		return dataset.String, dataset.Plain, formToken
	}
	return dataset.String, dataset.Plain, formText
}
