package sqldb

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// bareType are the types that stand in a statement as they are. SQLite takes anything
// for a type; what else a source has is quoted, so that no part of it is a constraint.
var bareType = regexp.MustCompile(`^(?i)(INT|INTEGER|BIGINT|REAL|TEXT|BLOB|ANY|BOOLEAN|DECIMAL\(\d+,\d+\))$`)

// sqliteCreate are the statements that make a table. Keys are part of it, because
// SQLite adds none later; it does not enforce foreign keys while loading.
func (t *tableLayout) sqliteCreate(l *layout) ([]string, error) {
	name := doubleQuoted(t.Name)
	if t.Document {
		all := []string{"CREATE TABLE " + name + " (record_key BLOB NOT NULL, record_ordinal INTEGER NOT NULL, record TEXT NOT NULL)"}
		if t.View != "" {
			all = append(all, t.sqliteDocumentView())
		}
		return all, nil
	}
	s := t.Stream.Schema
	var native sqliteNative
	if a, _ := attributesOf(t.Stream); a.Kind == kindSQLite && s.Native != nil {
		if err := json.Unmarshal(s.Native, &native); err != nil {
			return nil, fmt.Errorf("native schema: %w", err)
		}
	}
	var parts []string
	rowid := t.rowid(native)
	for i, c := range t.Columns {
		part := doubleQuoted(c.Name)
		if bareType.MatchString(c.Type) {
			part += " " + c.Type
		} else if c.Type != "" {
			part += " " + doubleQuoted(c.Type)
		}
		if rowid && s.Fields[i].Name == s.PrimaryKey[0] {
			part = doubleQuoted(c.Name) + " INTEGER PRIMARY KEY"
			if s.Fields[i].Identity {
				part += " AUTOINCREMENT"
			}
		} else if s.Fields[i].Required || t.Keyed && slices.Contains(s.PrimaryKey, s.Fields[i].Name) {
			part += " NOT NULL"
		}
		parts = append(parts, part)
	}
	if t.Keyed && !rowid {
		parts = append(parts, "PRIMARY KEY ("+strings.Join(t.key(doubleQuoted), ", ")+")")
	}
	for _, k := range s.ForeignKeys {
		if ref := l.table(k.RefStream); ref != nil && !ref.Document {
			parts = append(parts, foreignKey{k}.sql(doubleQuoted, t, ref, doubleQuoted(ref.Name)))
		}
	}
	if len(t.Columns) == 0 {
		parts = []string{`"no columns"`} // SQLite has no table without
	}
	create := "CREATE TABLE " + name + " (" + strings.Join(parts, ", ") + ")"
	switch {
	case native.WithoutRowID && native.Strict:
		create += " WITHOUT ROWID, STRICT"
	case native.WithoutRowID:
		create += " WITHOUT ROWID"
	case native.Strict:
		create += " STRICT"
	}
	return []string{create}, nil
}

// rowid reports whether the primary key is one integer, which SQLite stores as the row
// id.
func (t *tableLayout) rowid(native sqliteNative) bool {
	s := t.Stream.Schema
	if !t.Keyed || len(s.PrimaryKey) != 1 || native.WithoutRowID {
		return false
	}
	i := slices.IndexFunc(s.Fields, func(f dataset.Field) bool { return f.Name == s.PrimaryKey[0] })
	return i >= 0 && strings.EqualFold(t.Columns[i].Type, "INTEGER")
}

// sqliteDocumentView shows the fields of a document table as columns.
func (t *tableLayout) sqliteDocumentView() string {
	n := sqliteDialect.names()
	exprs := []string{doubleQuoted(n.take("record_key")), doubleQuoted(n.take("record_ordinal"))}
	for _, f := range t.Stream.Schema.Fields {
		if strings.ContainsAny(f.Name, "\x00\"\\") {
			continue // no JSON path can name it
		}
		exprs = append(exprs, "record ->> "+singleQuoted(`$."`+f.Name+`"`)+" AS "+doubleQuoted(n.take(f.Name)))
	}
	return "CREATE VIEW " + doubleQuoted(t.View) + " AS SELECT " + strings.Join(exprs, ", ") + " FROM " + doubleQuoted(t.Name)
}

func (t *tableLayout) sqliteRow(rr *rowReader, r dataset.Record, values []any) error {
	switch {
	case r.Gap != nil:
		return fmt.Errorf("it is a gap in the archive: %s", r.Gap.Code)
	case r.Blob != nil:
		return cannot("an object")
	case t.Document:
		values[0], values[1], values[2] = []byte(r.Key), int64(r.Ordinal), string(r.Data)
		return nil
	}
	cells, err := rr.read(r.Data)
	if err != nil {
		return err
	}
	n := 0
	for i := range t.Columns {
		if t.Columns[i].Computed {
			continue
		}
		if values[n], err = t.Columns[i].sqliteValue(cells[i]); err != nil {
			return fmt.Errorf("column %q: %w", t.Columns[i].Name, err)
		}
		n++
	}
	return nil
}

func (t *tableLayout) sqliteIndexes(n *names) []string {
	if t.Native {
		return nil // they are definitions
	}
	if t.Document {
		return []string{"CREATE INDEX " + doubleQuoted(n.take(t.Name+" by key")) + " ON " + doubleQuoted(t.Name) + " (record_key, record_ordinal)"}
	}
	var all []string
	add := func(kind, name string, fields []string) {
		if columns := t.columnsOf(doubleQuoted, fields); len(columns) > 0 {
			all = append(all, "CREATE "+kind+" "+doubleQuoted(n.take(name))+" ON "+doubleQuoted(t.Name)+" ("+strings.Join(columns, ", ")+")")
		}
	}
	for _, u := range t.Stream.Schema.UniqueKeys {
		add("UNIQUE INDEX", t.Name+" unique "+strings.Join(u, " "), u)
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
