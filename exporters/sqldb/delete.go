package sqldb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// An eraseSession is a session of its own, outside a view's snapshot, in which records
// are deleted. What the database forbids fails with [exporters.ErrRefused].
type eraseSession interface {
	begin() string // the statement that begins the transaction of one deletion
	exec(ctx context.Context, sql string) error

	// erase deletes r within the transaction that is open, if it is there as archived.
	erase(ctx context.Context, s dataset.Stream, r dataset.Record) error
	close() error
}

// asArchived fails unless the record that the source has now is the archived one.
func asArchived(now, archived dataset.Record) error {
	a, err := dataset.Canonical(nil, now.Data)
	if err != nil {
		return fmt.Errorf("record at the source: %w", err)
	}
	b, err := dataset.Canonical(nil, archived.Data)
	if err != nil {
		return fmt.Errorf("archived record: %w", err)
	}
	if !bytes.Equal(a, b) {
		return exporters.ErrChanged
	}
	return nil
}

// refused says that the database does not let a record go.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", exporters.ErrRefused, fmt.Errorf(format, args...))
}

// notErasable says that records of a stream cannot be deleted one by one.
func notErasable(s dataset.Stream) error {
	return refused("%q is no table with a primary key", s.Name)
}

// errReferenced says that rows refer to a record. The database would refuse, or delete
// or change them with it, of which nobody would know.
func errReferenced(table string) error { return refused("rows of %s refer to it", table) }

// oneRow fails unless a statement deleted the row it was meant for.
func oneRow(n int64) error {
	switch n {
	case 1:
		return nil
	case 0:
		return refused("a trigger or a rule of the database keeps the row")
	}
	return refused("%d rows would be deleted", n)
}

// An eraser deletes at the source of one view: each record in a transaction of its own.
// The zero eraser has no session yet. It is safe for concurrent use.
type eraser struct {
	mu sync.Mutex
	s  eraseSession // nil until one is needed, and after it broke
}

func (e *eraser) delete(ctx context.Context, open func(context.Context) (eraseSession, error), s dataset.Stream, r dataset.Record) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.s == nil {
		var err error
		if e.s, err = open(ctx); err != nil {
			return fmt.Errorf("delete from %q: %w", s.Name, err)
		}
	}
	err, broken := bracketed(ctx, e.s, e.s.begin(), "COMMIT", "ROLLBACK", s, r)
	if broken {
		err = errors.Join(err, e.s.close())
		e.s = nil
	}
	return err
}

// close ends the session, if there is one.
func (e *eraser) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.s == nil {
		return nil
	}
	err := e.s.close()
	e.s = nil
	return err
}

// bracketed deletes a record between two statements. After an error it runs undo; if that
// fails too the session is broken.
func bracketed(ctx context.Context, x eraseSession, begin, end, undo string, s dataset.Stream, r dataset.Record) (err error, broken bool) {
	if err = x.exec(ctx, begin); err != nil {
		return fmt.Errorf("delete from %q: %w", s.Name, err), true
	}
	if err = x.erase(ctx, s, r); err == nil {
		err = x.exec(ctx, end)
	}
	if err != nil {
		broken = x.exec(context.WithoutCancel(ctx), undo) != nil
		err = fmt.Errorf("delete from %q: %w", s.Name, err)
	}
	return err, broken
}

// A rehearsal deletes in one transaction that is rolled back at the end. Until then the
// database locks what was deleted in it.
type rehearsal struct {
	mu  sync.Mutex
	s   eraseSession
	err error // it broke: what comes after would not know of what came before
}

// rehearse begins a rehearsal on a new session.
func rehearse(ctx context.Context, open func(context.Context) (eraseSession, error)) (*rehearsal, error) {
	s, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("rehearse: %w", err)
	}
	if err := s.exec(ctx, s.begin()); err != nil {
		return nil, fmt.Errorf("rehearse: %w", errors.Join(err, s.close()))
	}
	return &rehearsal{s: s}, nil
}

// Delete implements [exporters.Rehearsal].
func (h *rehearsal) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	err, broken := bracketed(ctx, h.s, "SAVEPOINT sallyport", "RELEASE SAVEPOINT sallyport", "ROLLBACK TO SAVEPOINT sallyport", s, r)
	if broken {
		h.err = fmt.Errorf("the rehearsal broke off: %w", err)
	}
	return err
}

// Close implements [exporters.Rehearsal]: everything is as it was.
func (h *rehearsal) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		h.s.close() // it said why when it broke
		return nil
	}
	return errors.Join(h.s.exec(context.Background(), "ROLLBACK"), h.s.close())
}

var (
	_ exporters.Rehearser = (*pgView)(nil)
	_ exporters.Rehearser = (*mysqlView)(nil)
	_ exporters.Rehearser = (*sqliteView)(nil)
)
