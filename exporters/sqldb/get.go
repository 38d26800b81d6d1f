package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// one collects the only record of a reading.
type one struct {
	found dataset.Record
	n     int
}

func (o *one) yield(r dataset.Record, _ error) bool {
	r.Data = slices.Clone(r.Data)
	o.found = r
	o.n++
	return true
}

// answer returns the record that was asked for by key.
func (o *one) answer(key string) (dataset.Record, error) {
	switch {
	case o.n == 0:
		return dataset.Record{}, fs.ErrNotExist
	case o.n > 1 || o.found.Key != key:
		// A collation may call two keys equal that are written otherwise.
		return dataset.Record{}, fmt.Errorf("the database takes the key for that of another record, %s", o.found.Key)
	case o.found.Gap != nil:
		return dataset.Record{}, o.found.Gap
	}
	return o.found, nil
}

// errKeyless says that a record has no key to ask by.
func errKeyless(s dataset.Stream) error {
	return fmt.Errorf("%q has no key: %w", s.Name, errors.ErrUnsupported)
}

// Get implements [exporters.Getter], within the snapshot. It fails with
// [errors.ErrUnsupported] for tables without a key.
func (v *pgView) Get(ctx context.Context, s dataset.Stream, key string, _ int) (dataset.Record, error) {
	if s.Name == definitionsStream {
		return getDefinition(kindPostgres, v.defs, key)
	}
	t, err := v.table(s)
	if err != nil {
		return dataset.Record{}, err
	}
	if t.stream.Keyless {
		return dataset.Record{}, errKeyless(s)
	}
	c, err := v.acquire(ctx, t)
	if err != nil {
		return dataset.Record{}, err
	}
	defer v.release(c)
	return pgGet(ctx, c, t, key)
}

func pgGet(ctx context.Context, c *pgx.Conn, t *pgTable, key string) (dataset.Record, error) {
	var o one
	where, err := t.keyCondition(key)
	if err == nil {
		_, err = pgCopyOut(ctx, c, &t.table, where, nil, o.yield)
	}
	var r dataset.Record
	if err == nil {
		r, err = o.answer(key)
	}
	if err != nil {
		return dataset.Record{}, fmt.Errorf("get from %q: %w", t.stream.Name, err)
	}
	return r, nil
}

// Get implements [exporters.Getter], within the snapshot. It fails with
// [errors.ErrUnsupported] for tables without a key.
func (v *mysqlView) Get(ctx context.Context, s dataset.Stream, key string, _ int) (dataset.Record, error) {
	t, err := v.table(s)
	if err != nil {
		return dataset.Record{}, err
	}
	if t.from == "" {
		return getDefinition(kindMySQL, v.defs, key)
	}
	if t.stream.Keyless {
		return dataset.Record{}, errKeyless(s)
	}
	c, err := v.acquire(ctx)
	if err != nil {
		return dataset.Record{}, err
	}
	defer v.release(c)
	return mysqlGet(ctx, c, t, key, "")
}

// mysqlGet reads one record; lock is put behind the statement.
func mysqlGet(ctx context.Context, c *sql.Conn, t *mysqlTable, key, lock string) (dataset.Record, error) {
	var o one
	where, args, err := t.keyCondition(mysqlDialect, key, (*columnLayout).mysqlValue)
	if err == nil {
		_, err = mysqlRead(ctx, c, t, where, args, nil, lock, o.yield)
	}
	var r dataset.Record
	if err == nil {
		r, err = o.answer(key)
	}
	if err != nil {
		return dataset.Record{}, fmt.Errorf("get from %q: %w", t.stream.Name, err)
	}
	return r, nil
}

// Get implements [exporters.Getter], within the transaction. It fails with
// [errors.ErrUnsupported] for tables without a key.
func (v *sqliteView) Get(ctx context.Context, s dataset.Stream, key string, _ int) (dataset.Record, error) {
	t, err := v.table(s)
	if err != nil {
		return dataset.Record{}, err
	}
	if t.from == "" {
		return getDefinition(kindSQLite, v.defs, key)
	}
	if t.stream.Keyless {
		return dataset.Record{}, errKeyless(s)
	}
	return sqliteGet(ctx, v.conn, t, key)
}

func sqliteGet(ctx context.Context, c *sql.Conn, t *sqliteTable, key string) (dataset.Record, error) {
	var o one
	where, args, err := t.keyCondition(sqliteDialect, key, (*columnLayout).sqliteValue)
	if err == nil {
		_, err = t.read(ctx, c, where, args, nil, o.yield)
	}
	var r dataset.Record
	if err == nil {
		r, err = o.answer(key)
	}
	if err != nil {
		return dataset.Record{}, fmt.Errorf("get from %q: %w", t.stream.Name, err)
	}
	return r, nil
}

// keyCondition is the WHERE clause of one record, and its arguments.
func (t *table) keyCondition(d dialect, key string, value func(*columnLayout, json.RawMessage) (any, error)) (string, []any, error) {
	cells, err := splitKey(key, len(t.key))
	if err != nil {
		return "", nil, err
	}
	var terms []string
	var args []any
	for i, k := range t.key {
		f := t.stream.Schema.Fields[k]
		c := columnLayout{Name: f.Name, Own: true, Shape: shapeOf(d.kind, f)}
		d.ownColumn(&c, f)
		v, err := value(&c, cells[i])
		if err != nil {
			return "", nil, fmt.Errorf("key column %q: %w", f.Name, err)
		}
		terms = append(terms, "t."+t.columns[k].ident+" = ?")
		args = append(args, v)
	}
	return " WHERE " + strings.Join(terms, " AND "), args, nil
}

var (
	_ exporters.Splitter = (*pgView)(nil)
	_ exporters.Getter   = (*pgView)(nil)
	_ exporters.Counter  = (*pgView)(nil)
	_ exporters.Deleter  = (*pgView)(nil)
	_ exporters.Splitter = (*mysqlView)(nil)
	_ exporters.Getter   = (*mysqlView)(nil)
	_ exporters.Counter  = (*mysqlView)(nil)
	_ exporters.Deleter  = (*mysqlView)(nil)
	_ exporters.Getter   = (*sqliteView)(nil)
	_ exporters.Counter  = (*sqliteView)(nil)
	_ exporters.Deleter  = (*sqliteView)(nil)
)
