package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Rows that are too large for an archive must not come over the wire: drivers hold a row
// whole, and a row can be of a gigabyte. Where a table may have such rows, the server is
// asked for nulls instead of their values, and for their size, by which they become gaps.

// guarded returns the table read that way. Wide are the columns that hold large values
// and size is an SQL expression of their bytes.
func (t *table) guarded(size string, wide []string) *table {
	g := *t
	g.size, g.columns = size, slices.Clone(t.columns)
	for i := range g.columns {
		c := &g.columns[i]
		if slices.Contains(wide, c.name) && !slices.Contains(t.key, i) {
			c.expr = fmt.Sprintf("CASE WHEN %s > %d THEN NULL ELSE %s END", size, maxRecord, c.expr)
		}
	}
	return &g
}

// largestRatio is how much the compression of PostgreSQL can make of a byte, at most.
const largestRatio = 255

// guard returns the table as it is to be read: guarded if it has rows that are too large.
// It costs a look at the catalogue, and a scan of the table without its large values only
// if those could be large enough.
func (t *pgTable) guard(ctx context.Context, c *pgx.Conn) (*table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.read != nil {
		return t.read, nil
	}
	var stored int64
	err := c.QueryRow(ctx, `SELECT coalesce(sum(pg_relation_size(c.reltoastrelid)), 0)::bigint FROM pg_class c WHERE c.reltoastrelid <> 0
		AND c.oid IN (SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))`, t.oid).Scan(&stored)
	if err != nil {
		return nil, fmt.Errorf("look for large rows: %w", pgError(err))
	}
	if stored*largestRatio < maxRecord {
		t.read = &t.table
		return t.read, nil
	}
	type row struct{ Name, Base string }
	columns, err := pgRows[row](ctx, c, "large columns", `WITH RECURSIVE base(oid, below) AS (SELECT oid, oid FROM pg_type
			UNION ALL SELECT b.oid, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.below WHERE t.typtype = 'd')
		SELECT a.attname::text, bt.typname::text FROM pg_attribute a JOIN base ON base.oid = a.atttypid JOIN pg_type bt ON bt.oid = base.below AND bt.typtype <> 'd'
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1 ORDER BY a.attnum`, t.oid)
	if err != nil {
		return nil, err
	}
	var sizes, wide []string
	for _, col := range columns {
		name := "t." + doubleQuoted(col.Name)
		size := "octet_length(" + name + ")::bigint" // which needs no look at the value
		switch col.Base {
		case "text", "varchar", "bpchar":
		case "bytea":
			size += " * 4 / 3" // in base64
		default:
			size = "CASE WHEN pg_column_size(" + name + ") > 16384 THEN octet_length(" + name + "::text)::bigint END"
		}
		sizes, wide = append(sizes, "coalesce("+size+", 0)"), append(wide, col.Name)
	}
	t.read = &t.table
	if len(sizes) == 0 {
		return t.read, nil
	}
	size := "(" + strings.Join(sizes, " + ") + ")"
	var any bool
	err = c.QueryRow(ctx, fmt.Sprintf("SELECT EXISTS (SELECT 1 FROM %s AS t WHERE %s > %d)", t.from, size, maxRecord)).Scan(&any)
	if err != nil {
		t.read = nil
		return nil, fmt.Errorf("look for large rows: %w", pgDenied(t.stream.Name, pgError(err)))
	}
	if any {
		t.read = t.guarded(size, wide)
	}
	return t.read, nil
}

// mysqlWide are the types whose values can be too large.
var mysqlWide = []string{"mediumtext", "longtext", "mediumblob", "longblob", "json"}

// mysqlGuard returns the table guarded if it has columns of such types. The server reads
// each value once in either case.
func (t *table) mysqlGuard() *table {
	var sizes, wide []string
	for i, f := range t.stream.Schema.Fields {
		if slices.Contains(mysqlWide, strings.ToLower(f.Native)) {
			sizes, wide = append(sizes, "COALESCE(LENGTH(t."+t.columns[i].ident+"), 0)"), append(wide, f.Name)
		}
	}
	if len(wide) == 0 {
		return t
	}
	return t.guarded("("+strings.Join(sizes, " + ")+")", wide)
}

// guard returns the table as it is to be read: guarded if the file is large enough for a
// row that is too large, and the table has one.
func (t *sqliteTable) guard(ctx context.Context, c *sql.Conn) (*table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readAs != nil {
		return t.readAs, nil
	}
	ctx = context.WithoutCancel(ctx)
	var bytes int64
	if err := c.QueryRowContext(ctx, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&bytes); err != nil {
		return nil, fmt.Errorf("look for large rows: %w", err)
	}
	if bytes < maxRecord || len(t.columns) == 0 {
		t.readAs = &t.table
		return t.readAs, nil
	}
	var sizes, wide []string
	for _, col := range t.columns {
		sizes, wide = append(sizes, "coalesce(octet_length(t."+col.ident+"), 0)"), append(wide, col.name)
	}
	size := "(" + strings.Join(sizes, " + ") + ")"
	var any bool
	if err := c.QueryRowContext(ctx, fmt.Sprintf("SELECT EXISTS (SELECT 1 FROM %s AS t WHERE %s > %d)", t.from, size, maxRecord)).Scan(&any); err != nil {
		return nil, fmt.Errorf("look for large rows: %w", err)
	}
	t.readAs = &t.table
	if any {
		t.readAs = t.guarded(size, wide)
	}
	return t.readAs, nil
}
