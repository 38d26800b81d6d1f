package sqldb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Delete implements [exporters.Deleter], outside the view's snapshot: the row is read,
// compared and deleted in one transaction, which fails if somebody changes it meanwhile.
// A record that rows of any table refer to, and one without a key, is refused.
func (v *pgView) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	return v.eraser.delete(ctx, v.eraseSession, s, r)
}

// Rehearse implements [exporters.Rehearser].
func (v *pgView) Rehearse(ctx context.Context) (exporters.Rehearsal, error) {
	return rehearse(ctx, v.eraseSession)
}

func (v *pgView) eraseSession(ctx context.Context) (eraseSession, error) {
	c, err := v.dial(ctx)
	if err != nil {
		return nil, err
	}
	x := &pgErasing{v, c, map[uint32][]reference{}}
	// What was certified as deleted must not come back with a crash of the server.
	if err := x.exec(ctx, "SET synchronous_commit = on"); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

type pgErasing struct {
	v    *pgView
	c    *pgx.Conn
	refs map[uint32][]reference // by table, once known
}

// A reference is a foreign key by which rows of a table refer to another's.
type reference struct {
	table string // quoted
	on    string // how rows of c refer to rows of t
	self  bool   // it is the table itself
}

func (*pgErasing) begin() string { return "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE" }

func (x *pgErasing) exec(ctx context.Context, sql string) error {
	return pgRefusal(pgExec(ctx, x.c, sql))
}

func (x *pgErasing) close() error {
	closeNow(x.c)
	return nil
}

func (x *pgErasing) erase(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	t, ok := x.v.tables[s.Name]
	if !ok || t.stream.Keyless {
		return notErasable(s)
	}
	now, err := pgGet(ctx, x.c, t, r.Key)
	if err != nil {
		return err
	}
	if err := asArchived(now, r); err != nil {
		return err
	}
	where, err := t.keyCondition(r.Key)
	if err != nil {
		return err
	}
	// Whoever comes to refer to the row after this transaction began makes the deletion fail.
	if err := x.referred(ctx, t, where); err != nil {
		return err
	}
	tag, err := x.c.Exec(ctx, "DELETE FROM "+t.from+" AS t"+where)
	if err != nil {
		return pgRefusal(pgError(err))
	}
	if err := oneRow(tag.RowsAffected()); err != nil {
		return err
	}
	return x.exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE") // so that a rehearsal meets deferred ones too
}

// referred fails if rows refer to the one that where names.
func (x *pgErasing) referred(ctx context.Context, t *pgTable, where string) error {
	refs, ok := x.refs[t.oid]
	if !ok {
		var err error
		if refs, err = x.references(ctx, t); err != nil {
			return fmt.Errorf("foreign keys: %w", err)
		}
		x.refs[t.oid] = refs
	}
	for _, f := range refs {
		var found bool
		if err := x.c.QueryRow(ctx, "SELECT EXISTS ("+f.query(&t.table, where)+")").Scan(&found); err != nil {
			return fmt.Errorf("rows of %s: %w", f.table, pgError(err))
		}
		if found {
			return errReferenced(f.table)
		}
	}
	return nil
}

// query asks for rows that refer to the row of t that where names, other than itself.
func (f reference) query(t *table, where string) string {
	q := "SELECT 1 FROM " + f.table + " AS c JOIN " + t.from + " AS t ON " + f.on + where
	if f.self {
		terms := make([]string, len(t.key))
		for i, k := range t.key {
			terms[i] = "c." + t.columns[k].ident + " = t." + t.columns[k].ident
		}
		q += " AND NOT (" + strings.Join(terms, " AND ") + ")"
	}
	return q
}

func (x *pgErasing) references(ctx context.Context, t *pgTable) ([]reference, error) {
	rows, err := x.c.Query(ctx, `SELECT k.conrelid::regclass::text, k.conrelid = k.confrelid,
		(SELECT string_agg(format('t.%I OPERATOR(%I.%s) c.%I', ta.attname, n.nspname, o.oprname, ca.attname), ' AND ' ORDER BY u.i)
			FROM unnest(k.confkey, k.conkey, k.conpfeqop) WITH ORDINALITY AS u (t, c, op, i)
			JOIN pg_attribute ta ON ta.attrelid = k.confrelid AND ta.attnum = u.t
			JOIN pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = u.c
			JOIN pg_operator o ON o.oid = u.op JOIN pg_namespace n ON n.oid = o.oprnamespace)
		FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = $1 ORDER BY k.oid`, t.oid)
	if err != nil {
		return nil, pgError(err)
	}
	refs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f reference, err error) {
		return f, row.Scan(&f.table, &f.self, &f.on)
	})
	return refs, pgError(err)
}

// pgRefusal says of integrity constraints and of what triggers raise that the database
// refuses.
func pgRefusal(err error) error {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && (pe.Code[:2] == "23" || pe.Code == "P0001") {
		return refused("%w", err)
	}
	return err
}
