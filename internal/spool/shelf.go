package spool

import "sync"

// A Shelf keeps byte strings that are asked for by number. It takes about 24 bytes of
// memory for each, and is safe for concurrent use until Close.
type Shelf struct {
	f *file

	mu   sync.Mutex
	refs []ref
}

// NewShelf returns an empty Shelf with a file in dir (empty: the system's temporary
// directory). The caller closes.
func NewShelf(dir string) (*Shelf, error) {
	f, err := newFile(dir)
	if err != nil {
		return nil, err
	}
	return &Shelf{f: f}, nil
}

// Put stores a copy of b and returns its number.
func (s *Shelf) Put(b []byte) (int, error) {
	r, err := s.f.write(b)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refs = append(s.refs, r)
	return len(s.refs) - 1, nil
}

// Get returns what was put under a number that Put returned.
func (s *Shelf) Get(n int) ([]byte, error) {
	s.mu.Lock()
	r := s.refs[n]
	s.mu.Unlock()
	return s.f.read(r, nil)
}

// Close forgets everything and frees its room.
func (s *Shelf) Close() error { return s.f.close() }
