package sqldb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
)

// maxRecord is the size above which a record cannot be archived.
const maxRecord = 30 << 20

// A column says how one field of a stream is read from one database.
type column struct {
	name   string // of the field
	expr   string // SQL expression of its value, names quoted
	ident  string // its quoted name, by which rows are ordered and found
	form   form
	bits   int    // width, for formBits and floats; 0 is 64 bits
	scale  int    // digits behind the point, for formFixed
	member []byte // `,"name":`
	coded  []byte // `,"name_b64":"`, for text that is not UTF-8
}

func newColumn(name, expr string, f form) (column, error) {
	quoted, err := dataset.Quote(nil, name)
	if err != nil {
		return column{}, fmt.Errorf("column name %q: %w", name, err)
	}
	coded, err := dataset.Quote(nil, name+"_b64")
	if err != nil {
		return column{}, fmt.Errorf("column name %q: %w", name, err)
	}
	return column{
		name: name, expr: expr, ident: expr, form: f,
		member: []byte("," + string(quoted) + ":"),
		coded:  []byte("," + string(coded) + `:"`),
	}, nil
}

// A table is how one stream is read from one database.
type table struct {
	stream  dataset.Stream
	from    string // quoted name, with ONLY where descendants do not belong to it
	columns []column
	key     []int // indexes into columns of the primary key; empty: keyless
	sorted  []int // indexes into columns in the order of names, if no value is an object

	// size is an SQL expression of the bytes of a row, which then comes as its last
	// column, if rows may be too large. See guarded.
	size string
}

// newTable joins a stream and its columns, which must be those of its schema.
func newTable(s dataset.Stream, from string, columns []column) (*table, error) {
	t := &table{stream: s, from: from, columns: columns}
	names := make(map[string]bool)
	for _, c := range columns {
		if names[c.name] {
			return nil, fmt.Errorf("two columns are called %q", c.name)
		}
		names[c.name] = true
	}
	for _, c := range columns {
		if names[c.name+"_b64"] && c.form == formText {
			// Text that is not UTF-8 would be taken for the other column.
			t.noCoded(c.name)
		}
	}
	for _, k := range s.Schema.PrimaryKey {
		i := t.index(k)
		if i < 0 {
			return nil, fmt.Errorf("primary key names %q, which is no column", k)
		}
		t.key = append(t.key, i)
	}
	if s.Keyless {
		t.key = nil
		t.sorted = sortedColumns(columns)
	}
	return t, nil
}

// sortedColumns returns the order of columns by name, in which the canonical form has
// them, or nil if values may have members of their own to be sorted.
func sortedColumns(columns []column) []int {
	order := make([]int, len(columns))
	for i, c := range columns {
		if c.form == formJSON || c.form >= formAnyInteger {
			return nil
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(columns[a].name, columns[b].name) })
	return order
}

func (t *table) noCoded(name string) { t.columns[t.index(name)].coded = nil }

func (t *table) index(name string) int {
	for i, c := range t.columns {
		if c.name == name {
			return i
		}
	}
	return -1
}

// selectList returns the expressions of the columns, separated by commas.
func (t *table) selectList() string {
	exprs := make([]string, len(t.columns))
	for i, c := range t.columns {
		exprs[i] = c.expr
	}
	return strings.Join(exprs, ", ")
}

// A builder makes records of rows, column by column. Its records are valid until the
// next one is begun.
type builder struct {
	t       *table
	data    []byte
	spans   []span // of the values, by column
	key     []byte
	canon   []byte
	scratch []byte
	next    int   // column
	size    int64 // of the row, if known and larger than its data
	deep    bool  // a value may be nested as deep as a record may be
	renamed bool  // a member has another name than its column
	err     error // the first value that could not be written
	seen    *ordinals
}

type span struct{ from, to int }

func newBuilder(t *table, seen *ordinals) *builder {
	return &builder{t: t, spans: make([]span, len(t.columns)), seen: seen}
}

func (b *builder) begin() {
	b.data, b.next, b.err, b.size = b.data[:0], 0, nil, 0
	b.deep, b.renamed = false, false
}

// open begins the value of the next column.
func (b *builder) open() *column {
	c := &b.t.columns[b.next]
	b.data = append(b.data, c.member...)
	b.spans[b.next].from = len(b.data)
	return c
}

func (b *builder) close() {
	b.spans[b.next].to = len(b.data)
	b.next++
}

// null adds a null.
func (b *builder) null() {
	b.open()
	b.data = append(b.data, "null"...)
	b.close()
}

// text adds a value that the database wrote as text.
func (b *builder) text(text []byte) {
	c := b.open()
	var err error
	switch {
	case c.form == formText && !utf8.Valid(text):
		b.coded(c, text)
		return
	case c.form == formBits:
		b.data = append(appendBits(append(b.data, '"'), text, c.bits), '"')
	default:
		b.data, err = appendValue(b.data, c.form, text)
		b.deep = b.deep || c.form == formJSON && len(text) > dataset.MaxDepth
	}
	b.fail(c, err)
	b.close()
}

// value adds a value as a driver of database/sql gave it.
func (b *builder) value(v any) {
	c := &b.t.columns[b.next]
	if v == nil {
		b.null()
		return
	}
	if c.form >= formAnyInteger {
		b.open()
		b.data = appendAny(b.data, c.form, v)
		b.close()
		return
	}
	switch v := v.(type) {
	case string:
		b.text([]byte(v))
		return
	case []byte:
		b.text(v)
		return
	case int64:
		b.scratch = strconv.AppendInt(b.scratch[:0], v, 10)
		if c.form == formFixed && c.scale > 0 {
			b.scratch = append(append(b.scratch, '.'), strings.Repeat("0", c.scale)...)
		}
	case uint64:
		b.scratch = strconv.AppendUint(b.scratch[:0], v, 10)
	case float32:
		b.scratch = appendFloat(b.scratch[:0], float64(v), 32)
	case float64:
		if c.bits == 32 {
			b.scratch = appendFloat(b.scratch[:0], v, 32)
		} else if c.form == formFixed {
			b.scratch = strconv.AppendFloat(b.scratch[:0], v, 'f', c.scale, 64)
		} else {
			b.scratch = appendFloat(b.scratch[:0], v, 64)
		}
	default:
		b.fail(c, fmt.Errorf("driver gave a %T", v))
		b.null()
		return
	}
	b.text(b.scratch)
}

// coded puts the member name_b64 in the place of name, because text is not UTF-8.
func (b *builder) coded(c *column, text []byte) {
	if c.coded == nil {
		b.fail(c, fmt.Errorf("text is not UTF-8, and %s_b64 is another column", c.name))
		b.data = append(b.data, "null"...)
		b.close()
		return
	}
	b.renamed = true
	b.data = append(b.data[:len(b.data)-len(c.member)], c.coded...)
	b.spans[b.next].from = len(b.data) - 1
	quoted, err := appendValue(nil, formBytes, text)
	b.data = append(b.data, quoted[1:]...)
	b.fail(c, err)
	b.close()
}

func (b *builder) fail(c *column, err error) {
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("column %q: %w", c.name, err)
	}
}

// finish returns the record of the row. tie is a value that equal rows of a keyless
// stream share, or empty if the stream has no equal rows.
func (b *builder) finish(tie string) (dataset.Record, error) {
	if b.next != len(b.t.columns) {
		return dataset.Record{}, fmt.Errorf("row of %d columns; want %d", b.next, len(b.t.columns))
	}
	if len(b.data) == 0 {
		b.data = append(b.data, ',')
	}
	b.data[0] = '{' // in the place of the first comma
	b.data = append(b.data, '}')
	r := dataset.Record{Stream: b.t.stream.Name, Data: b.data, Compact: !b.deep}
	if b.t.stream.Keyless {
		if err := b.canonical(); err != nil {
			return r, fmt.Errorf("canonical form: %w", err)
		}
		r.Key = dataset.KeylessKey(b.canon)
		r.Ordinal = b.seen.next(r.Key, tie)
	} else {
		r.Key = string(b.appendKey(b.key[:0]))
	}
	if b.err != nil {
		r.Gap = &dataset.Gap{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Malformed, Detail: b.err.Error()}
		r.Data = nil
	} else if size := max(b.size, int64(len(b.data))); size > maxRecord {
		r.Gap = &dataset.Gap{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.TooLarge,
			Detail: fmt.Sprintf("row of %d bytes", size)}
		r.Data = nil
	}
	return r, nil
}

// canonical puts the canonical form of the record into b.canon.
func (b *builder) canonical() (err error) {
	if b.t.sorted == nil || b.renamed || b.err != nil {
		b.canon, err = dataset.Canonical(b.canon[:0], b.data)
		return err
	}
	b.canon = b.canon[:0]
	for _, i := range b.t.sorted {
		b.canon = append(b.canon, b.t.columns[i].member...)
		b.canon = append(b.canon, b.data[b.spans[i].from:b.spans[i].to]...)
	}
	if len(b.canon) == 0 {
		b.canon = append(b.canon, ',')
	}
	b.canon[0] = '{'
	b.canon = append(b.canon, '}')
	return nil
}

// appendKey appends the compact JSON array of the key's values.
func (b *builder) appendKey(dst []byte) []byte {
	dst = append(dst, '[')
	for i, k := range b.t.key {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, b.data[b.spans[k].from:b.spans[k].to]...)
	}
	b.key = append(dst, ']')
	return b.key
}

// ordinals numbers the equal rows of a keyless stream. The database says beforehand
// which rows have equals: tie is empty for the others, so memory grows with those
// alone. If there are many, rows come sorted by tie and only one tie's are kept.
type ordinals struct {
	sorted bool
	last   string
	counts map[string]int
}

func (o *ordinals) next(key, tie string) int {
	if o == nil || tie == "" {
		return 0
	}
	if o.counts == nil || o.sorted && tie != o.last {
		o.last, o.counts = tie, make(map[string]int)
	}
	n := o.counts[key]
	o.counts[key]++
	return n
}
