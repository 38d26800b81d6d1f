package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// errBadConn makes database/sql throw a connection away.
var errBadConn = driver.ErrBadConn

// mysqlNative is the Schema.Native of a MySQL table.
type mysqlNative struct {
	Kind       string            `json:"kind"`
	Engine     string            `json:"engine,omitempty"`
	Collation  string            `json:"collation,omitempty"`
	Collations map[string]string `json:"collations,omitempty"` // of columns, where they differ
	Comment    string            `json:"comment,omitempty"`
	SQL        string            `json:"sql,omitempty"`       // the CREATE statement, for people and native restores
	Sequences  map[string]string `json:"sequences,omitempty"` // CREATE statements of those that defaults count with
}

// texts runs a query of n columns and returns its rows as text, nulls as empty text.
func (v *mysqlView) texts(ctx context.Context, n int, query string, args ...any) ([][]string, error) {
	rows, err := v.holder.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, mysqlError(err)
	}
	defer rows.Close()
	var all [][]string
	for rows.Next() {
		row, pointers := make([]sql.NullString, n), make([]any, n)
		for i := range row {
			pointers[i] = &row[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			return nil, err
		}
		texts := make([]string, n)
		for i := range row {
			texts[i] = row[i].String
		}
		all = append(all, texts)
	}
	return all, mysqlError(rows.Err())
}

// readCatalog makes the streams, and pins each table by opening it in the holder's
// transaction.
func (v *mysqlView) readCatalog(ctx context.Context) (err error) {
	if err := mysqlEscapes(ctx, v.holder, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mysqlEscapes(ctx, v.holder, false)) }()
	version, err := v.texts(ctx, 3, "SELECT VERSION(), @@version_comment, @@lower_case_table_names")
	if err != nil {
		return fmt.Errorf("server version: %w", err)
	}
	product := "MySQL"
	position := "SELECT @@GLOBAL.gtid_executed"
	if strings.Contains(version[0][0]+version[0][1], "MariaDB") {
		product, position = "MariaDB", "SELECT @@GLOBAL.gtid_binlog_pos"
	}
	v.facts.Versions = map[string]string{product: version[0][0], "lower_case_table_names": version[0][2]}
	if p, err := v.texts(ctx, 1, position); err != nil {
		v.facts.Notes = append(v.facts.Notes, "The server tells no replication position: "+err.Error())
	} else {
		v.facts.Position = strings.ReplaceAll(p[0][0], "\n", "")
	}
	v.tables = map[string]*mysqlTable{definitionsStream: {}}
	v.streams = []dataset.Stream{definitionsOf(kindMySQL)}
	// MySQL, not MariaDB, tells old counters unless asked not to.
	v.holder.ExecContext(ctx, "SET SESSION information_schema_stats_expiry = 0")
	list, err := v.texts(ctx, 6, `SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_COLLATION, TABLE_COMMENT, COALESCE(AUTO_INCREMENT, '')
		FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY TABLE_NAME`)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, row := range list {
		name := row[0]
		switch row[1] {
		case "BASE TABLE":
		case "SYSTEM VERSIONED":
			v.facts.Filters = append(v.facts.Filters, fmt.Sprintf("Of the versioned table %q the current rows are exported and not their history.", name))
		case "VIEW", "SEQUENCE":
			columns := 4
			if row[1] == "SEQUENCE" {
				columns = 2
			}
			def, err := v.create(ctx, row[1], name, 1, columns)
			if err != nil {
				return err
			}
			v.defs = append(v.defs, definition{kind: strings.ToLower(row[1]), name: name, sql: def})
			if row[1] == "SEQUENCE" {
				d, err := v.sequence(ctx, name)
				if err != nil {
					return err
				}
				v.defs = append(v.defs, d)
			}
			continue
		default:
			v.defs = append(v.defs, definition{kind: strings.ToLower(row[1]), name: name, sql: ""})
			continue
		}
		if n, err := strconv.ParseInt(row[5], 10, 64); err == nil {
			v.defs = append(v.defs, definition{kind: sequenceValueKind, name: name, sql: sequenceValue{Last: n, Auto: true}.text()})
		} else if row[5] != "" {
			v.facts.Notes = append(v.facts.Notes, fmt.Sprintf("The counter of table %q is at %s and is not kept.", name, row[5]))
		}
		t, err := v.describe(ctx, name, mysqlNative{Kind: kindMySQL, Engine: row[2], Collation: row[3], Comment: row[4]})
		if err != nil {
			return fmt.Errorf("table %q: %w", name, err)
		}
		v.tables[t.stream.Name] = t
		v.streams = append(v.streams, t.stream)
	}
	sortStreams(v.streams)
	return v.otherDefinitions(ctx)
}

// sequence reads how far a sequence of MariaDB has counted. Like AUTO_INCREMENT it is in
// no snapshot: what is read is the state after it, so that it is never behind the rows.
func (v *mysqlView) sequence(ctx context.Context, name string) (definition, error) {
	d := definition{kind: sequenceValueKind, name: name}
	rows, err := v.texts(ctx, 2, "SELECT next_not_cached_value, cycle_count FROM "+backQuoted(name))
	if err != nil {
		var gap *dataset.Gap
		if !errors.As(mysqlDenied(name, err), &gap) {
			return d, fmt.Errorf("sequence %q: %w", name, err)
		}
		d.gap = gap
		return d, nil
	}
	var s sequenceValue
	if s.Last, err = strconv.ParseInt(rows[0][0], 10, 64); err == nil {
		s.Cycles, err = strconv.ParseInt(rows[0][1], 10, 64)
	}
	if err != nil {
		return d, fmt.Errorf("sequence %q: %w", name, err)
	}
	d.sql = s.text()
	return d, nil
}

// sequencesOf returns the CREATE statements of the sequences that defaults of a table
// count with. The server names them with their database, which is another elsewhere.
func (v *mysqlView) sequencesOf(ctx context.Context, native *mysqlNative) error {
	if !strings.Contains(native.SQL, "nextval(`") {
		return nil
	}
	database, err := v.texts(ctx, 1, "SELECT DATABASE()")
	if err != nil {
		return err
	}
	native.SQL = strings.ReplaceAll(native.SQL, "nextval("+backQuoted(database[0][0])+".", "nextval(")
	names, err := v.texts(ctx, 1, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'SEQUENCE'")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !strings.Contains(native.SQL, "nextval("+backQuoted(n[0])+")") {
			continue
		}
		if native.Sequences == nil {
			native.Sequences = make(map[string]string)
		}
		if native.Sequences[n[0]], err = v.create(ctx, "SEQUENCE", n[0], 1, 2); err != nil {
			return err
		}
	}
	return nil
}

// create returns the statement by which the server would make something, or why it
// does not tell.
func (v *mysqlView) create(ctx context.Context, what, name string, column, columns int) (string, error) {
	rows, err := v.texts(ctx, columns, "SHOW CREATE "+what+" "+backQuoted(name))
	if err != nil || len(rows) == 0 {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return fmt.Sprintf("not told by the server: %v", err), nil
	}
	if rows[0][column] == "" {
		return "not told by the server: the role may not see it", nil
	}
	return rows[0][column], nil
}

// transactional are the engines whose tables are part of the snapshot.
var transactional = []string{"INNODB", "ROCKSDB", "TOKUDB", "XTRADB"}

func (v *mysqlView) describe(ctx context.Context, name string, native mysqlNative) (*mysqlTable, error) {
	var err error
	if native.SQL, err = v.create(ctx, "TABLE", name, 1, 2); err != nil {
		return nil, err
	}
	if err := v.sequencesOf(ctx, &native); err != nil {
		return nil, fmt.Errorf("sequences: %w", err)
	}
	schema := new(dataset.Schema)
	columns, err := v.fields(ctx, name, schema, &native)
	if err != nil {
		return nil, fmt.Errorf("columns: %w", err)
	}
	if err := v.keys(ctx, name, schema); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if schema.Native, err = json.Marshal(native); err != nil {
		return nil, err
	}
	a := attributes{Kind: kindMySQL, Table: name, Engine: native.Engine, BestEffort: !slices.Contains(transactional, strings.ToUpper(native.Engine))}
	if a.BestEffort {
		v.facts.Notes = append(v.facts.Notes, fmt.Sprintf("Table %q has the engine %s, which has no snapshots; it is read as it is at that time.", name, native.Engine))
	}
	s := dataset.Stream{Name: streamName("", name), Schema: schema, Keyless: len(schema.PrimaryKey) == 0, Attributes: a.raw()}
	read, err := newTable(s, backQuoted(name), columns)
	if err != nil {
		return nil, err
	}
	t := &mysqlTable{table: *read}
	if len(t.key) > 0 {
		t.split = schema.Fields[t.key[0]].Type == dataset.Integer
	}
	// Opening it takes the metadata lock; a table that may not be read has none.
	if _, err := v.texts(ctx, 1, "SELECT 1 FROM "+t.from+" LIMIT 0"); err != nil {
		if err := mysqlDenied(s.Name, err); !isGap(err) {
			return nil, fmt.Errorf("open: %w", err)
		}
	}
	return t, nil
}

func (v *mysqlView) fields(ctx context.Context, table string, schema *dataset.Schema, native *mysqlNative) ([]column, error) {
	rows, err := v.texts(ctx, 9, `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, GENERATION_EXPRESSION, COLUMN_COMMENT, COLLATION_NAME
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`, table)
	if err != nil {
		return nil, err
	}
	var columns []column
	for _, r := range rows {
		f := dataset.Field{Name: r[0], Native: r[2], Required: r[3] == "NO", Generated: r[6], Description: r[7],
			Identity: strings.Contains(strings.ToLower(r[5]), "auto_increment")}
		if r[4] != "" && f.Generated == "" && !(r[4] == "NULL" && !f.Required) {
			f.Default = &r[4]
		}
		if r[8] != "" && r[8] != native.Collation {
			if native.Collations == nil {
				native.Collations = make(map[string]string)
			}
			native.Collations[f.Name] = r[8]
		}
		c, err := newColumn(f.Name, "t."+backQuoted(f.Name), formText)
		if err != nil {
			return nil, err
		}
		c.ident = backQuoted(f.Name)
		f.Type, f.Lexical, c.form = mysqlFieldType(r[1])
		switch {
		case r[1] == "float":
			c.expr, c.bits = "(t."+backQuoted(f.Name)+" + 0e0)", 32 // else only six digits come
		case r[1] == "bit":
			c.bits = typeWidth(r[2])
		}
		schema.Fields = append(schema.Fields, f)
		columns = append(columns, c)
	}
	return columns, nil
}

var widthPattern = regexp.MustCompile(`\((\d+)\)`)

// typeWidth is the number in parentheses of a type.
func typeWidth(native string) int {
	if m := widthPattern.FindStringSubmatch(native); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits
		return n
	}
	return 1
}

func (v *mysqlView) keys(ctx context.Context, table string, schema *dataset.Schema) error {
	rows, err := v.texts(ctx, 6, `SELECT INDEX_NAME, NON_UNIQUE, COALESCE(COLUMN_NAME, ''), COALESCE(SUB_PART, ''), INDEX_TYPE, COALESCE(COLLATION, '')
		FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX`, table)
	if err != nil {
		return err
	}
	var all []dataset.Index
	for _, r := range rows {
		if r[0] == "PRIMARY" {
			schema.PrimaryKey = append(schema.PrimaryKey, r[2])
			continue
		}
		if len(all) == 0 || all[len(all)-1].Name != r[0] {
			all = append(all, dataset.Index{Name: r[0], Unique: r[1] == "0"})
		}
		x := &all[len(all)-1]
		if r[2] != "" {
			x.Fields = append(x.Fields, r[2])
		}
		if r[2] == "" || r[3] != "" || r[4] != "BTREE" && r[4] != "HASH" {
			x.Expression = fmt.Sprintf("%s index; see the CREATE statement", r[4])
		}
	}
	schema.Indexes = all
	rows, err = v.texts(ctx, 6, `SELECT k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.UPDATE_RULE, r.DELETE_RULE
		FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r
		ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME
		WHERE k.TABLE_SCHEMA = DATABASE() AND k.TABLE_NAME = ? AND k.REFERENCED_TABLE_SCHEMA = DATABASE() ORDER BY 1, k.ORDINAL_POSITION`, table)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if n := len(schema.ForeignKeys); n == 0 || schema.ForeignKeys[n-1].Name != r[0] {
			schema.ForeignKeys = append(schema.ForeignKeys, dataset.ForeignKey{Name: r[0], RefStream: streamName("", r[2]),
				OnUpdate: action(r[4]), OnDelete: action(r[5])})
		}
		k := &schema.ForeignKeys[len(schema.ForeignKeys)-1]
		k.Fields, k.RefFields = append(k.Fields, r[1]), append(k.RefFields, r[3])
	}
	return nil
}

// action leaves out what is the default everywhere.
func action(rule string) string {
	if rule == "NO ACTION" || rule == "RESTRICT" {
		return ""
	}
	return rule
}

func (v *mysqlView) otherDefinitions(ctx context.Context) error {
	for _, q := range []struct {
		kind, what, list string
		column, columns  int
	}{
		{"routine", "FUNCTION", "SELECT ROUTINE_NAME, '' FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'FUNCTION' ORDER BY 1", 2, 6},
		{"routine", "PROCEDURE", "SELECT ROUTINE_NAME, '' FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'PROCEDURE' ORDER BY 1", 2, 6},
		{"trigger", "TRIGGER", `SELECT TRIGGER_NAME, COALESCE(LAG(TRIGGER_NAME) OVER (PARTITION BY EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING ORDER BY ACTION_ORDER), '')
			FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY 1`, 2, 7},
		{"event", "EVENT", "SELECT EVENT_NAME, '' FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE() ORDER BY 1", 3, 7},
	} {
		names, err := v.texts(ctx, 2, q.list)
		if err != nil {
			return fmt.Errorf("list %ss: %w", q.kind, err)
		}
		for _, n := range names {
			def, err := v.create(ctx, q.what, n[0], q.column, q.columns)
			if err != nil {
				return err
			}
			name := n[0]
			if n[1] != "" { // the server does not say after which other trigger it runs
				def = strings.Replace(def, " FOR EACH ROW ", " FOR EACH ROW FOLLOWS "+backQuoted(n[1])+" ", 1)
			}
			if q.what == "PROCEDURE" {
				name += "()"
			}
			v.defs = append(v.defs, definition{kind: q.kind, name: name, sql: def})
		}
	}
	return nil
}

func isGap(err error) bool {
	_, ok := err.(*dataset.Gap)
	return ok
}

// mysqlFieldType says how values of a type are written.
func mysqlFieldType(base string) (dataset.Type, dataset.Lexical, form) {
	switch base {
	case "tinyint", "smallint", "mediumint", "int", "year":
		return dataset.Integer, dataset.Plain, formNumber
	case "bigint":
		return dataset.Integer, dataset.Text, formToken
	case "decimal":
		return dataset.Number, dataset.Text, formToken
	case "float", "double":
		return dataset.Number, dataset.Plain, formNumber
	case "date":
		return dataset.Date, dataset.Plain, formToken
	case "time":
		return dataset.Time, dataset.Plain, formFraction
	case "datetime":
		return dataset.Datetime, dataset.Plain, formDatetime
	case "timestamp":
		return dataset.Datetime, dataset.Plain, formInstant
	case "json":
		return dataset.AnyType, dataset.Text, formText
	case "bit":
		return dataset.String, dataset.Plain, formBits
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "geometry", "point", "linestring", "polygon",
		"multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection", "vector":
		return dataset.String, dataset.Base64, formBytes
	}
	return dataset.String, dataset.Plain, formText
}
