package sqldb

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
)

// A layout is where the streams of a test lie in a target. It is what the target's
// marker holds.
type layout struct {
	Test    dataset.ID     `json:"test"`
	Schemas []string       `json:"schemas,omitempty"` // made by the test
	Types   []pgType       `json:"types,omitempty"`   // made by the test
	Tables  []*tableLayout `json:"tables"`
}

// A tableLayout is one stream in a target.
type tableLayout struct {
	Stream  dataset.Stream `json:"stream"`
	Schema  string         `json:"schema,omitempty"`
	Name    string         `json:"name"`
	View    string         `json:"view,omitempty"` // of a document table: its fields as columns
	Columns []columnLayout `json:"columns,omitempty"`

	// Document is set for streams that no SQL database made: the table then holds key,
	// ordinal and the JSON of each record as it is.
	Document bool `json:"document,omitempty"`

	// Native is set for a table of the target's own kind whose definitions are run: it
	// then has all that the source's has.
	Native bool `json:"native,omitempty"`

	// Keyed says that the primary key of the stream is one in the target.
	Keyed bool `json:"keyed,omitempty"`
}

// A columnLayout is one field in a target.
type columnLayout struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape shape  `json:"shape"`
	Own   bool   `json:"own,omitempty"` // of the target's own kind: Type is the source's

	// Computed is set if the target computes the values and takes none.
	Computed bool `json:"computed,omitempty"`

	Form  form `json:"form"`
	Bits  int  `json:"bits,omitempty"`
	Scale int  `json:"scale,omitempty"`
}

func (l *layout) table(stream string) *tableLayout {
	for _, t := range l.Tables {
		if t.Stream.Name == stream {
			return t
		}
	}
	return nil
}

// streams are those of the layout, sorted by name.
func (l *layout) streams() []dataset.Stream {
	var all []dataset.Stream
	for _, t := range l.Tables {
		all = append(all, t.Stream)
	}
	sortStreams(all)
	return all
}

// A dialect is what the planning of a layout must know of a product.
type dialect struct {
	kind     string
	quote    func(string) string
	fold     bool // names that differ in case are one
	maxBytes int  // of a name; 0 is no limit
	maxRunes int

	native bool // definitions of the same product are run
	code   bool // routines and triggers too
}

// with returns the dialect of a target with options.
func (d dialect) with(o *options) dialect {
	d.native, d.code = o.native, o.code
	return d
}

var (
	postgresDialect = dialect{kind: kindPostgres, quote: doubleQuoted, maxBytes: 63}
	mysqlDialect    = dialect{kind: kindMySQL, quote: backQuoted, fold: true, maxRunes: 64}
	sqliteDialect   = dialect{kind: kindSQLite, quote: doubleQuoted, fold: true}
)

// names gives out names that are legal and used once.
type names struct {
	d    dialect
	used map[string]bool
}

func (d dialect) names() *names { return &names{d, make(map[string]bool)} }

// take returns want, or something like it.
func (n *names) take(want string) string {
	want = strings.ReplaceAll(strings.ToValidUTF8(want, "?"), "\x00", "?")
	if n.d.kind == kindMySQL {
		want = strings.TrimRight(want, " ") // not allowed at the end
	}
	if n.d.kind == kindSQLite && strings.HasPrefix(strings.ToLower(want), "sqlite_") {
		want = "_" + want // reserved
	}
	if want == "" {
		want = "_"
	}
	for i := 1; ; i++ {
		suffix := ""
		if i > 1 {
			suffix = fmt.Sprintf("~%d", i)
		}
		name := n.d.cut(want, len(suffix)) + suffix
		folded := name
		if n.d.fold {
			folded = strings.ToLower(name)
		}
		if !n.used[folded] {
			n.used[folded] = true
			return name
		}
	}
}

// cut shortens a name so that room is left.
func (d dialect) cut(name string, room int) string {
	for d.maxBytes > 0 && len(name)+room > d.maxBytes || d.maxRunes > 0 && utf8.RuneCountInString(name)+room > d.maxRunes {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}

// plan lays streams out. It asks nobody, so Fidelity can use it before Begin.
func (d dialect) plan(streams []dataset.Stream) (*layout, []dataset.Loss) {
	l := new(layout)
	var losses []dataset.Loss
	bare := make(map[string]int) // how many tables have a name, whatever their schema
	for _, s := range streams {
		if a, ok := attributesOf(s); ok {
			bare[strings.ToLower(a.Table)]++
		}
	}
	spaces := make(map[string]*names)
	taker := func(schema string) *names {
		if spaces[schema] == nil {
			spaces[schema] = d.names()
			if d.kind != kindPostgres {
				spaces[schema].take(markerTable)
				spaces[schema].take(madeTable)
			}
		}
		return spaces[schema]
	}
	for _, s := range streams {
		t := &tableLayout{Stream: s}
		lose := func(format string, args ...any) {
			losses = append(losses, dataset.Loss{Stream: s.Name, Reason: fmt.Sprintf(format, args...)})
		}
		a, ok := attributesOf(s)
		want := s.Name
		switch {
		case !ok:
			t.Document = true
		case s.Name == definitionsStream && d.native && a.Kind == d.kind:
			lose("%s", map[string]string{
				kindPostgres: "Owners, privileges, extensions, aggregates, foreign tables and large objects are not made.",
				kindMySQL:    "Definers, privileges and events are not made.",
				kindSQLite:   "Virtual tables are not made; the tables in which they keep rows are.",
			}[d.kind])
			if !d.code {
				lose("Routines, triggers, rules and policies are kept as rows and not made; what needs them is named in the facts of the target.")
			}
		case s.Name == definitionsStream:
			lose("Definitions are kept as rows; nothing in them is executed.")
		case bare[strings.ToLower(a.Table)] == 1 || a.Kind == d.kind:
			want = a.Table
		}
		if d.kind == kindPostgres {
			t.Schema = "public"
			switch {
			case ok && a.Kind == kindPostgres && s.Name != definitionsStream:
				t.Schema = a.Schema
			case d.native:
				t.Schema = pgMarkerSchema // apart from what must be as it was
			}
		}
		if t.Document {
			d.planDocument(t, taker(t.Schema), want, lose)
		} else {
			t.Name = taker(t.Schema).take(want)
			if t.Name != want {
				lose("The table is called %q.", t.Name)
			}
			d.planColumns(t, a, lose)
		}
		l.Tables = append(l.Tables, t)
	}
	return l, losses
}

func (d dialect) planDocument(t *tableLayout, n *names, want string, lose func(string, ...any)) {
	if t.Stream.Blobs {
		lose("A database holds no objects; records of this stream are not loaded.")
	}
	if t.Stream.Schema != nil && len(t.Stream.Schema.Fields) > 0 {
		t.View = n.take(want)
		want += " (records)"
	}
	t.Name = n.take(want)
	keyType, recordType := "bytea", "json"
	switch d.kind {
	case kindMySQL:
		keyType, recordType = "LONGBLOB", "LONGTEXT"
	case kindSQLite:
		keyType, recordType = "BLOB", "TEXT"
	}
	t.Columns = []columnLayout{{Name: "record_key", Type: keyType}, {Name: "record_ordinal", Type: "BIGINT"}, {Name: "record", Type: recordType}}
}

// planColumns chooses names, types and forms of columns, and says what is left out.
func (d dialect) planColumns(t *tableLayout, a attributes, lose func(string, ...any)) {
	n := d.names()
	s := t.Stream.Schema
	own := a.Kind == d.kind && t.Stream.Name != definitionsStream
	native := pgNativeOf(s)
	t.Native = own && d.native
	for _, f := range s.Fields {
		c := columnLayout{Name: n.take(f.Name), Shape: shapeOf(a.Kind, f), Own: own}
		if c.Shape == shapeDatetime && slices.Contains(native.Zoned, f.Name) {
			c.Shape = shapeInstant
		}
		if c.Name != f.Name {
			lose("Column %q is called %q.", f.Name, c.Name)
		}
		if c.Own {
			d.ownColumn(&c, f)
		} else {
			c.Type, c.Form = mappedType(d.kind, c.Shape, f), formOf(d.kind, c.Shape, f)
			if c.Shape == shapeDecimal {
				_, c.Scale, _ = precision(f.Native)
			}
			if loss := c.Shape.loss(d.kind); loss != "" {
				lose("Column %q does not take %s; records with such a value are gaps.", f.Name, loss)
			}
		}
		c.Computed = t.Native && f.Generated != ""
		if t.Native {
			t.Columns = append(t.Columns, c)
			continue
		}
		if f.Default != nil {
			lose("Column %q has no default; it was %s.", f.Name, *f.Default)
		}
		if f.Generated != "" {
			lose("Column %q is not computed, it holds the values; it was %s.", f.Name, f.Generated)
		}
		if f.Description != "" && !d.takesComment(f.Description) {
			lose("The comment of column %q is not kept.", f.Name)
		}
		t.Columns = append(t.Columns, c)
	}
	t.Keyed = len(s.PrimaryKey) > 0 && !t.Stream.Keyless && t.Stream.Name != definitionsStream
	if t.Native {
		return
	}
	d.tableLosses(t, a, own, lose)
	if native.PartitionBy != "" {
		lose("The table is one and not partitioned; it was by %s.", native.PartitionBy)
	}
	if native.RowSecurity {
		lose("Row security is not switched on; its policies are among the definitions.")
	}
	if d.kind == kindMySQL && !own {
		d.mysqlKeyTypes(t, lose)
	}
	for _, x := range s.Indexes {
		if x.Expression != "" {
			lose("Index %q is not made; it was %s.", x.Name, x.Expression)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(native.Constraints)) {
		lose("Constraint %q is not made; it was %s.", name, native.Constraints[name])
	}
}

// tableLosses says what a table loses that belongs to no column.
func (d dialect) tableLosses(t *tableLayout, a attributes, own bool, lose func(string, ...any)) {
	if own && d.kind == kindMySQL && a.Engine != "" && !strings.EqualFold(a.Engine, "InnoDB") {
		lose("The table has the engine InnoDB; it was %s.", a.Engine)
	}
	var native struct{ Comment string }
	if json.Unmarshal(t.Stream.Schema.Native, &native) == nil && native.Comment != "" && (!own || d.kind == kindMySQL && utf8.RuneCountInString(native.Comment) > 2048) {
		lose("The comment of the table is not kept.")
	}
}

// takesComment reports whether a column can have the comment: SQLite knows none, and
// MySQL none that is longer than 1,024 characters.
func (d dialect) takesComment(text string) bool {
	return d.kind != kindSQLite && !strings.ContainsRune(text, 0) && (d.kind != kindMySQL || utf8.RuneCountInString(text) <= 1024)
}

// pgNativeOf returns what only PostgreSQL knows of a schema, or nothing.
func pgNativeOf(s *dataset.Schema) pgNative {
	var native pgNative
	if json.Unmarshal(s.Native, &native) != nil || native.Kind != kindPostgres {
		return pgNative{}
	}
	return native
}

// ownColumn takes a column's type over from a source of the same kind.
func (d dialect) ownColumn(c *columnLayout, f dataset.Field) {
	c.Type = f.Native
	switch d.kind {
	case kindPostgres:
		c.Form = formOf(kindPostgres, c.Shape, f)
	case kindMySQL:
		native := strings.ToLower(f.Native)
		base, _, _ := strings.Cut(native, "(")
		base, _, _ = strings.Cut(base, " ")
		_, _, c.Form = mysqlFieldType(base)
		switch base {
		case "bit":
			c.Bits = typeWidth(native)
		case "float":
			c.Bits = 32
		}
	case kindSQLite:
		_, _, c.Form = sqliteFieldType(f.Native, false)
	}
}

// mysqlKeyTypes gives columns of keys a bounded type, because MySQL makes no index of
// unbounded ones.
func (d dialect) mysqlKeyTypes(t *tableLayout, lose func(string, ...any)) {
	s := t.Stream.Schema
	indexed := make(map[string]int) // the most columns of an index that a field is in
	note := func(fields []string) {
		for _, f := range fields {
			indexed[f] = max(indexed[f], len(fields))
		}
	}
	if t.Keyed {
		note(s.PrimaryKey)
	}
	for _, u := range s.UniqueKeys {
		note(u)
	}
	for _, x := range s.Indexes {
		note(x.Fields)
	}
	for _, k := range s.ForeignKeys {
		note(k.Fields)
	}
	for i, f := range s.Fields {
		width := indexed[f.Name]
		c := &t.Columns[i]
		if width == 0 || c.Type != "LONGTEXT" && c.Type != "LONGBLOB" {
			continue
		}
		if c.Type == "LONGTEXT" {
			c.Type = fmt.Sprintf("VARCHAR(%d)", min(512, 760/width))
		} else {
			c.Type = fmt.Sprintf("VARBINARY(%d)", min(2048, 3040/width))
		}
		lose("Column %q is part of a key and takes no value longer than %s; records with one are gaps.", f.Name, c.Type)
	}
}

// documentOrder is the order in which documents are read back: that of their keys, and
// versions of objects newest first.
func (t *tableLayout) documentOrder() string {
	if t.Stream.Blobs {
		return "record_key, record_ordinal DESC"
	}
	return "record_key, record_ordinal"
}

// key returns the quoted columns of the stream's primary key.
func (t *tableLayout) key(quote func(string) string) []string {
	return t.columnsOf(quote, t.Stream.Schema.PrimaryKey)
}

// columnsOf returns the quoted columns of fields.
func (t *tableLayout) columnsOf(quote func(string) string, fields []string) []string {
	var quoted []string
	for _, f := range fields {
		i := slices.IndexFunc(t.Stream.Schema.Fields, func(x dataset.Field) bool { return x.Name == f })
		if i >= 0 {
			quoted = append(quoted, quote(t.Columns[i].Name))
		}
	}
	return quoted
}

// storedNames returns the quoted names of the columns that take values.
func (t *tableLayout) storedNames(quote func(string) string) []string {
	var quoted []string
	for _, c := range t.Columns {
		if !c.Computed {
			quoted = append(quoted, quote(c.Name))
		}
	}
	return quoted
}

// reader returns the table by which a loaded stream is read back.
func (t *tableLayout) reader(d dialect, from string) (*table, error) {
	var columns []column
	for i, c := range t.Columns {
		col, err := newColumn(t.Stream.Schema.Fields[i].Name, d.quote(c.Name), c.Form)
		if err != nil {
			return nil, err
		}
		col.bits, col.scale = c.Bits, c.Scale
		columns = append(columns, col)
	}
	return newTable(t.Stream, from, columns)
}

// markerTable is the table that says by which test a target was filled.
const markerTable = "sallyport_marker"
