package sqldb

import (
	"context"
	"database/sql"
	"errors"

	"github.com/dwp/sallyport/dataset"
)

// scanRows yields the records of a result whose columns are those of t and, if there
// are ties, the hash of the row. With raw, values other than numbers are not copied:
// that is for drivers that deliver bytes. more is false if the caller wants no more.
func scanRows(ctx context.Context, rows *sql.Rows, t *table, ties *ties, raw bool, yield func(dataset.Record, error) bool) (more bool, err error) {
	n := len(t.columns)
	values, bytes, pointers := make([]any, n), make([]sql.RawBytes, n), make([]any, n, n+1)
	for i, c := range t.columns {
		if raw && c.form != formNumber {
			pointers[i] = &bytes[i]
		} else {
			pointers[i] = &values[i]
		}
	}
	var hash sql.NullString
	if ties.any() {
		pointers = append(pointers, &hash)
	} else if n == 0 {
		return false, errors.New("table without columns")
	}
	var size int64
	if t.size != "" {
		pointers = append(pointers, &size)
	}
	b := newBuilder(t, ties.counter())
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := rows.Scan(pointers...); err != nil {
			return false, err
		}
		b.begin()
		for i := range n {
			switch {
			case pointers[i] == &values[i]:
				b.value(values[i])
			case bytes[i] == nil:
				b.null()
			default:
				b.text(bytes[i])
			}
		}
		b.size = size
		tie := ""
		if ties.any() {
			tie = ties.of([]byte(hash.String))
		}
		r, err := b.finish(tie)
		if err != nil {
			return false, err
		}
		if !yield(r, nil) {
			return false, nil
		}
	}
	return true, rows.Err()
}
