package sqldb

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
)

// findTies learns once which rows of a keyless table have equals.
func (t *pgTable) findTies(ctx context.Context, c *pgx.Conn) (*ties, error) {
	if !t.stream.Keyless {
		return nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ties != nil {
		return t.ties, nil
	}
	sql := fmt.Sprintf("SELECT h::text FROM (SELECT %s AS h FROM %s AS t) x GROUP BY h HAVING count(*) > 1 LIMIT %d", rowHash, t.from, maxTies+1)
	rows, err := c.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("look for equal rows: %w", pgDenied(t.stream.Name, pgError(err)))
	}
	hashes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for equal rows: %w", pgDenied(t.stream.Name, pgError(err)))
	}
	t.ties = newTies(hashes)
	return t.ties, nil
}

// Split implements [exporters.Splitter]: by key, from a sample of the table's blocks,
// or by block where there is no key and no two rows are equal. What can not be split
// comes back as one range.
func (v *pgView) Split(ctx context.Context, s dataset.Stream, n int) ([]dataset.Range, error) {
	whole := []dataset.Range{{}}
	if s.Name == definitionsStream || n < 2 {
		return whole, nil
	}
	t, err := v.table(s)
	if err != nil {
		return nil, err
	}
	if t.denied || t.relkind != "r" || !t.split {
		return whole, nil
	}
	c, err := v.acquire(ctx, t)
	if err != nil {
		return nil, err
	}
	defer v.release(c)
	var blocks int64
	err = c.QueryRow(ctx, "SELECT pg_relation_size($1::oid) / current_setting('block_size')::bigint", t.oid).Scan(&blocks)
	if err != nil {
		return nil, fmt.Errorf("size of %q: %w", s.Name, pgError(err))
	}
	if blocks < int64(n) {
		return whole, nil
	}
	var bounds []string
	if t.stream.Keyless {
		ties, err := t.findTies(ctx, c)
		if err != nil || ties.any() {
			return whole, err
		}
		for i := range int64(n - 1) {
			bounds = append(bounds, fmt.Sprintf("(%d,0)", (i+1)*blocks/int64(n)))
		}
	} else if bounds, err = t.sample(ctx, c, n, blocks); err != nil {
		return nil, fmt.Errorf("sample %q: %w", s.Name, err)
	}
	return between(bounds), nil
}

// between makes ranges of the bounds between them.
func between(bounds []string) []dataset.Range {
	ranges := make([]dataset.Range, 0, len(bounds)+1)
	after := ""
	for _, b := range bounds {
		ranges = append(ranges, dataset.Range{After: after, UpTo: b})
		after = b
	}
	return append(ranges, dataset.Range{After: after})
}

// sample returns up to n-1 keys that cut the table into about equal parts.
func (t *pgTable) sample(ctx context.Context, c *pgx.Conn, n int, blocks int64) ([]string, error) {
	percent := 100 * min(1, float64(200*n)/float64(blocks))
	keys := t.table
	keys.columns = nil
	order := make([]string, len(t.key))
	for i, k := range t.key {
		keys.columns = append(keys.columns, t.columns[k])
		order[i] = "t." + t.columns[k].expr
	}
	keys.key = nil
	for i := range keys.columns {
		keys.key = append(keys.key, i)
	}
	by := strings.Join(order, ", ")
	sql := fmt.Sprintf("SELECT %s FROM %s AS t TABLESAMPLE SYSTEM (%g) REPEATABLE (1) ORDER BY %s", keys.selectList(), t.from, percent, by)
	var all []string
	w := &copyReader{b: newBuilder(&keys, nil), yield: func(r dataset.Record, err error) bool {
		all = append(all, r.Key)
		return err == nil && len(all) < 1<<20
	}}
	if _, err := c.PgConn().CopyTo(ctx, w, "COPY ("+sql+") TO STDOUT"); err != nil {
		return nil, pgError(err)
	}
	var bounds []string
	for i := 1; i < n; i++ {
		if at := i * len(all) / n; at < len(all) && (len(bounds) == 0 || bounds[len(bounds)-1] != all[at]) {
			bounds = append(bounds, all[at])
		}
	}
	return bounds, nil
}

var blockBound = regexp.MustCompile(`^\(\d{1,10},0\)$`)

// condition is the WHERE clause of a range.
func (t *pgTable) condition(r dataset.Range) (string, error) {
	var terms []string
	for _, end := range []struct{ op, bound string }{{">", r.After}, {"<=", r.UpTo}} {
		if end.bound == "" {
			continue
		}
		if t.stream.Keyless {
			if !blockBound.MatchString(end.bound) {
				return "", fmt.Errorf("malformed range %q", end.bound)
			}
			terms = append(terms, "t.ctid "+end.op+" '"+end.bound+"'::tid")
			continue
		}
		values, err := t.keyLiterals(end.bound)
		if err != nil {
			return "", fmt.Errorf("range: %w", err)
		}
		names := make([]string, len(t.key))
		for i, k := range t.key {
			names[i] = "t." + t.columns[k].expr
		}
		terms = append(terms, "("+strings.Join(names, ", ")+") "+end.op+" ("+strings.Join(values, ", ")+")")
	}
	if terms == nil {
		return "", nil
	}
	return " WHERE " + strings.Join(terms, " AND "), nil
}

// keyLiterals turns a record's key into SQL literals of the key columns' types.
func (t *pgTable) keyLiterals(key string) ([]string, error) {
	cells, err := splitKey(key, len(t.key))
	if err != nil {
		return nil, err
	}
	literals := make([]string, len(cells))
	for i, k := range t.key {
		f := t.stream.Schema.Fields[k]
		text, err := pgInput(f, cells[i])
		if err != nil {
			return nil, fmt.Errorf("key column %q: %w", f.Name, err)
		}
		literals[i] = singleQuoted(text) + "::" + f.Native
	}
	return literals, nil
}

// splitKey returns the values of a key of n columns.
func splitKey(key string, n int) ([]json.RawMessage, error) {
	var cells []json.RawMessage
	if err := json.Unmarshal([]byte(key), &cells); err != nil {
		return nil, fmt.Errorf("malformed key: %w", err)
	}
	if len(cells) != n {
		return nil, fmt.Errorf("key of %d values; want %d", len(cells), n)
	}
	return cells, nil
}

// pgInput returns the text that PostgreSQL reads as the value of a JSON lexeme.
func pgInput(f dataset.Field, raw json.RawMessage) (string, error) {
	text, err := plainText(raw)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(text, 0) {
		return "", errNUL
	}
	if f.Lexical == dataset.Base64 {
		b, err := strictBase64.DecodeString(text)
		if err != nil {
			return "", err
		}
		return `\x` + hex.EncodeToString(b), nil
	}
	return text, nil
}

var errNUL = errors.New("text holds a NUL, which PostgreSQL cannot store")

// plainText returns the value of a string, or the lexeme of a number or boolean.
func plainText(raw json.RawMessage) (string, error) {
	switch {
	case len(raw) == 0 || raw[0] == '{' || raw[0] == '[':
		return "", errors.New("not a plain value")
	case raw[0] == '"':
		return dataset.Unquote(raw)
	}
	return string(raw), nil
}

// keyCondition is the WHERE clause of one record.
func (t *pgTable) keyCondition(key string) (string, error) {
	values, err := t.keyLiterals(key)
	if err != nil {
		return "", err
	}
	terms := make([]string, len(values))
	for i, k := range t.key {
		terms[i] = "t." + t.columns[k].expr + " = " + values[i]
	}
	return " WHERE " + strings.Join(terms, " AND "), nil
}

// pgDenied makes a gap of a refusal: insufficient privilege, also because row
// security would hide rows.
func pgDenied(stream string, err error) error {
	if strings.Contains(err.Error(), "SQLSTATE 42501") {
		return &dataset.Gap{Stream: stream, Code: dataset.Denied, Detail: err.Error()}
	}
	return err
}
