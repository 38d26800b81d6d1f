// Package memory holds a source and a target that live in memory: real enough to
// export from, restore into and compare, small enough to read, and suspicious of
// their callers.
//
// A [Source] gives out views and can be changed between them; a [Target] is filled
// and read back. Both remember every breach of the contract of package exporters
// that they see (a view read after Close, a blob left open, a Load before Begin) and
// report it from Err, which a test checks at its end. What a caller must not rely on
// is spoilt at once: the Data of a record is overwritten at the next step of the
// sequence that yielded it.
//
// Hooks plant faults: records altered, dropped, doubled or turned into gaps,
// sequences that end in an error, sources that change between two views.
package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A Source is a set of streams. Its zero value is an empty source that is ready to
// use. It is safe for concurrent use; views do not see changes made after they were
// opened.
type Source struct {
	Hooks

	// Facts is what views say of the source.
	Facts dataset.Facts

	// Restless views do not say that they hold still, as those of a directory or a bucket
	// do not.
	Restless bool

	// Reuse makes views yield the blob of a prior record whose Data they find
	// unchanged (see [exporters.Query]).
	Reuse bool

	mu      sync.Mutex
	streams map[string]*stream
	views   int
	police  police
}

// Hooks are the places where faults are planted. They are called without locks held
// and must be set before the first view is opened.
type Hooks struct {
	// Opened is called as view n (from 1) is opened, before it takes its copy: the
	// place to change a source between two sweeps.
	Opened func(n int)

	// Mutate returns what is yielded instead of r: r itself, r altered, nothing,
	// several records. Its own copy of Data is handed over.
	Mutate func(r dataset.Record) []dataset.Record

	// Fail is asked before record i (from 0) of a stream is yielded. An error ends
	// the sequence.
	Fail func(stream string, i int) error
}

// A stream is a sequence of n records. It is never changed: changes replace it.
type stream struct {
	def dataset.Stream
	n   int
	at  func(i int) dataset.Record
	own []dataset.Record // what at reads, or nil if records are generated
}

// Add declares a stream if the source has none of its name, and adds records to it.
// It takes copies of their Data. Records of blob streams are put into order (keys
// rising in byte order, ordinals falling); others keep the order in which they were
// added.
func (s *Source) Add(def dataset.Stream, recs ...dataset.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := slices.Clone(s.lookup(def.Name).own)
	for _, r := range recs {
		r.Stream = def.Name
		r.Data = slices.Clone(r.Data)
		own = append(own, r)
	}
	if def.Blobs {
		slices.SortStableFunc(own, compare)
	}
	s.put(def, own)
}

// Generate declares a stream of n records that are made as they are read, so that a
// stream of any length costs no memory. at must be a pure function; records of a blob
// stream must come in order.
func (s *Source) Generate(def dataset.Stream, n int, at func(i int) dataset.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(&stream{def: def, n: n, at: func(i int) dataset.Record {
		r := at(i)
		r.Stream = def.Name
		return r
	}})
}

// Put replaces the record that has r's stream, key and ordinal, or adds it. It fails
// if there is no such stream or if its records are generated.
func (s *Source) Put(r dataset.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.changeable(r.Stream)
	if err != nil {
		return err
	}
	r.Data = slices.Clone(r.Data)
	own := slices.Clone(st.own)
	if i := st.index(r.Key, r.Ordinal); i >= 0 {
		own[i] = r
	} else {
		own = append(own, r)
	}
	if st.def.Blobs {
		slices.SortStableFunc(own, compare)
	}
	s.put(st.def, own)
	return nil
}

// Remove deletes a record. It fails if there is none or if the records of the stream
// are generated.
func (s *Source) Remove(streamName, key string, ordinal int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.changeable(streamName)
	if err != nil {
		return err
	}
	i := st.index(key, ordinal)
	if i < 0 {
		return fmt.Errorf("memory: no record %q/%d in stream %q", key, ordinal, streamName)
	}
	s.put(st.def, slices.Delete(slices.Clone(st.own), i, i+1))
	return nil
}

// Drop deletes a whole stream, if there is one of that name.
func (s *Source) Drop(streamName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, streamName)
}

// Open opens a view of the source as it is now. The caller closes it.
func (s *Source) Open(ctx context.Context) (exporters.Exporter, error) {
	v, err := s.open(ctx)
	if err != nil {
		return nil, err // not a typed nil
	}
	return v, nil
}

func (s *Source) open(ctx context.Context) (*view, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.views++
	n, opened := s.views, s.Opened
	s.mu.Unlock()
	if opened != nil {
		opened(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &view{src: s, hooks: s.Hooks, facts: s.Facts, reuse: s.Reuse}
	for _, st := range s.streams {
		v.streams = append(v.streams, st)
	}
	slices.SortFunc(v.streams, func(a, b *stream) int { return strings.Compare(a.def.Name, b.def.Name) })
	s.police.opened()
	return v, nil
}

// Err reports every breach of the contract seen so far, and views and blobs that are
// still open.
func (s *Source) Err() error { return s.police.verdict() }

// lookup returns the stream of that name, or one without records. s.mu is held.
func (s *Source) lookup(name string) *stream {
	if st := s.streams[name]; st != nil {
		return st
	}
	return &stream{}
}

func (s *Source) changeable(name string) (*stream, error) {
	st := s.streams[name]
	switch {
	case st == nil:
		return nil, fmt.Errorf("memory: no stream %q", name)
	case st.own == nil && st.n > 0:
		return nil, fmt.Errorf("memory: the records of stream %q are generated", name)
	}
	return st, nil
}

func (s *Source) put(def dataset.Stream, own []dataset.Record) {
	s.set(&stream{def: def, n: len(own), own: own, at: func(i int) dataset.Record { return own[i] }})
}

func (s *Source) set(st *stream) {
	if s.streams == nil {
		s.streams = make(map[string]*stream)
	}
	s.streams[st.def.Name] = st
}

// index returns the place of a record, or -1. Blob streams are searched by halves.
func (st *stream) index(key string, ordinal int) int {
	want := dataset.Record{Key: key, Ordinal: ordinal}
	if !st.def.Blobs {
		for i := range st.n {
			if compare(st.at(i), want) == 0 {
				return i
			}
		}
		return -1
	}
	lo, hi := 0, st.n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := compare(st.at(mid), want); {
		case c == 0:
			return mid
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return -1
}

// compare orders the records of a blob stream: keys rise, versions of one key come
// newest first.
func compare(a, b dataset.Record) int {
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	return b.Ordinal - a.Ordinal
}

// A police remembers breaches of the contract and what is still open.
type police struct {
	mu       sync.Mutex
	breaches []error
	views    int
	blobs    int
}

func (p *police) breach(format string, args ...any) error {
	err := fmt.Errorf("memory: "+format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.breaches) < 100 {
		p.breaches = append(p.breaches, err)
	}
	return err
}

func (p *police) opened()     { p.count(&p.views, 1) }
func (p *police) closed()     { p.count(&p.views, -1) }
func (p *police) blobOpened() { p.count(&p.blobs, 1) }
func (p *police) blobClosed() { p.count(&p.blobs, -1) }

func (p *police) count(n *int, d int) {
	p.mu.Lock()
	*n += d
	p.mu.Unlock()
}

func (p *police) verdict() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := slices.Clone(p.breaches)
	if p.views != 0 {
		errs = append(errs, fmt.Errorf("memory: %d views are not closed", p.views))
	}
	if p.blobs != 0 {
		errs = append(errs, fmt.Errorf("memory: %d blobs are not closed", p.blobs))
	}
	return errors.Join(errs...)
}
