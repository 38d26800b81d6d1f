package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// targetState is what targets know between calls.
type targetState struct {
	mu     sync.Mutex
	layout *layout // nil before Begin
	notes  []string
	gaps   bool // a record was not loaded
	shut   bool
}

func (s *targetState) set(l *layout, notes []string) {
	s.mu.Lock()
	s.layout, s.notes, s.gaps = l, notes, false
	s.mu.Unlock()
}

// current returns the layout, or an error before Begin and after Close.
func (s *targetState) current() (*layout, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.shut:
		return nil, errClosed
	case s.layout == nil:
		return nil, exporters.ErrNotOurs
	}
	return s.layout, nil
}

func (s *targetState) lookup(stream string) (*tableLayout, error) {
	l, err := s.current()
	if err != nil {
		return nil, err
	}
	t := l.table(stream)
	if t == nil {
		return nil, fmt.Errorf("stream %q: %w", stream, fs.ErrNotExist)
	}
	return t, nil
}

func (s *targetState) streams(ctx context.Context) ([]dataset.Stream, error) {
	l, err := s.current()
	if errors.Is(err, exporters.ErrNotOurs) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.streams(), ctx.Err()
}

func (s *targetState) facts(e dataset.Endpoint) dataset.Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return dataset.Facts{Endpoints: []dataset.Endpoint{e}, Notes: slices.Clone(s.notes)}
}

// note adds a sentence to the facts.
func (s *targetState) note(format string, args ...any) {
	s.mu.Lock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
	s.mu.Unlock()
}

// counted returns gap, and remembers that it was called.
func (s *targetState) counted(gap func(dataset.Gap)) func(dataset.Gap) {
	return func(g dataset.Gap) {
		s.mu.Lock()
		s.gaps = true
		s.mu.Unlock()
		gap(g)
	}
}

// unmet decides what a foreign key that does not hold means: where records are
// missing, which were reported as gaps, it is a note; else an error.
func (s *targetState) unmet(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gaps {
		return err
	}
	s.notes = append(s.notes, fmt.Sprintf("A key does not hold, as records are missing: %v.", err))
	return nil
}

// readBack yields the records of the streams of q, each by read.
func readBack(ctx context.Context, q exporters.Query, read func(ctx context.Context, s dataset.Stream, yield func(dataset.Record, error) bool) (bool, error)) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, s := range q.Streams {
			more, err := false, error(nil)
			if q.After != "" || q.Range != (dataset.Range{}) {
				err = errors.New("a cursor or range, which a target does not make")
			} else {
				more, err = read(ctx, s, yield)
			}
			if err != nil {
				yield(dataset.Record{}, fmt.Errorf("read %q back: %w", s.Name, err))
			}
			if !more || err != nil {
				return
			}
		}
	}
}

// yieldEmpty yields as many records without fields as the row counts.
func yieldEmpty(row *sql.Row, t *tableLayout, yield func(dataset.Record, error) bool) (more bool, err error) {
	var n int
	if err := row.Scan(&n); err != nil {
		return false, err
	}
	key := dataset.KeylessKey([]byte("{}"))
	for i := range n {
		if !yield(dataset.Record{Stream: t.Stream.Name, Key: key, Ordinal: i, Data: json.RawMessage("{}")}, nil) {
			return false, nil
		}
	}
	return true, nil
}
