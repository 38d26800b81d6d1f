package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A Snapshot is a committed run that is being read. Its methods are safe for
// concurrent use once [Snapshot.Unlock] has returned.
type Snapshot struct {
	*Decision
	Service    string
	Packs      map[dataset.Hash]PackRef // everything that the manifest's lists name
	Descriptor *Descriptor              // nil until unlocked

	a       *Archive
	openers map[dataset.Hash]*crypto.Opener // by key id
	reader  *packReader
}

// Snapshot opens the snapshot of a decision: it reads the lists, for which no key is
// needed.
func (a *Archive) Snapshot(ctx context.Context, service string, d *Decision) (*Snapshot, error) {
	if d.Manifest == nil {
		return nil, fmt.Errorf("run %s was aborted: %w", d.Run, ErrNoSnapshot)
	}
	s := &Snapshot{Decision: d, Service: service, Packs: map[dataset.Hash]PackRef{}, a: a, openers: map[dataset.Hash]*crypto.Opener{}}
	for _, ref := range d.Manifest.Lists {
		packs, err := a.List(ctx, service, ref)
		if err != nil {
			return nil, err
		}
		for _, p := range packs {
			s.Packs[p.SHA256] = p
		}
	}
	s.reader = newPackReader(s)
	return s, nil
}

// Unlock opens the run keys that o can open and reads the descriptor. It fails with
// [crypto.ErrNoKey] if none opens the index. Packs whose key o cannot open stay
// closed: who holds an index identity only sees names and no contents.
func (s *Snapshot) Unlock(ctx context.Context, o *crypto.Opener) error {
	var refused []error
	for _, k := range s.Manifest.Keys {
		opener, err := s.a.openKey(ctx, s.Service, k, o)
		if errors.Is(err, crypto.ErrNoKey) {
			refused = append(refused, err)
			continue
		} else if err != nil {
			return err
		}
		s.openers[k.ID] = opener
	}
	doc, err := s.reader.member(ctx, s.Manifest.Descriptor, -1)
	if err != nil {
		return fmt.Errorf("descriptor: %w", errors.Join(append(refused, err)...))
	}
	d, err := parseDescriptor(doc)
	if err == nil {
		err = d.checkCSV(s.Manifest.HasCSV())
	}
	if err != nil {
		return err
	}
	s.Descriptor = d
	return nil
}

// openKey opens a run key by any of its sealed files.
func (a *Archive) openKey(ctx context.Context, service string, k KeyRef, o *crypto.Opener) (*crypto.Opener, error) {
	var why []error
	for info, err := range a.Store.List(ctx, service+"/keys/"+k.ID.String()+"/") {
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		n := ParseName(info.Name)
		if n.Class != KeyObject || info.Later || info.Marker {
			continue
		}
		sealed, err := readAll(ctx, a.Store, info.Name, maxSealedKey)
		var junk *IntegrityError
		if errors.As(err, &junk) || errors.Is(err, fs.ErrNotExist) {
			why = append(why, err) // what a stranger put there must not hide a good one
			continue
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", info.Name, err)
		}
		if dataset.Sum(sealed) != n.Hash {
			why = append(why, &DamageError{info.Name, n.Hash, dataset.Sum(sealed), int64(len(sealed))})
			continue
		}
		opener, err := crypto.OpenRunKey(o, sealed, k.ID)
		if err == nil {
			return opener, nil
		}
		why = append(why, fmt.Errorf("run key %s: %w", k.ID, err))
	}
	if len(why) == 0 {
		why = []error{fmt.Errorf("run key %s: %w", k.ID, fs.ErrNotExist)}
	}
	return nil, errors.Join(why...)
}

const maxSealedKey = 1 << 20

// Stream returns the descriptor's entry of a stream.
func (s *Snapshot) Stream(name string) (*StreamEntry, error) {
	for i, r := range s.Descriptor.Resources {
		if r.Title == name {
			return &s.Descriptor.Resources[i].Sallyport, nil
		}
	}
	return nil, fmt.Errorf("stream %q: %w", name, fs.ErrNotExist)
}

// Parts yields the parts of a table, in order.
func (s *Snapshot) Parts(ctx context.Context, table []PartEntry) iter.Seq2[PartEntry, error] {
	return func(yield func(PartEntry, error) bool) {
		for _, t := range table {
			lines, err := s.Lines(ctx, &t)
			if err != nil {
				yield(PartEntry{}, err)
				return
			}
			for line := range bytes.Lines(lines) {
				var e PartEntry
				if err := decodeLine(bytes.TrimSuffix(line, []byte{'\n'}), &e); err != nil {
					yield(e, fmt.Errorf("part table %s: %w", t.Part, err))
					return
				}
				if e.CSV != nil && !s.Manifest.HasCSV() {
					yield(e, fmt.Errorf("part table %s: CSV in a snapshot that carries none", t.Part))
					return
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Lines returns the lines of a part, each with its line feed, and makes sure that
// they are the part's: length, number and hash.
func (s *Snapshot) Lines(ctx context.Context, e *PartEntry) ([]byte, error) {
	if e.Bytes > maxLine {
		return nil, fmt.Errorf("part %s claims %d bytes", e.Part, e.Bytes)
	}
	lines, err := s.reader.member(ctx, e.Location, e.Bytes)
	if err != nil {
		return nil, fmt.Errorf("part %s: %w", e.Part, err)
	}
	if got := dataset.Sum(lines); int64(len(lines)) != e.Bytes || got != e.SHA256 || int64(bytes.Count(lines, []byte{'\n'})) != e.Count {
		return nil, &DamageError{"part " + e.Part, e.SHA256, got, int64(len(lines))}
	}
	return lines, nil
}

// CheckRoot computes the root of a part again.
func (e *PartEntry) CheckRoot(lines []byte, blobs bool) error {
	if got := partRoot(e.Salt, lines, blobs); got != e.Root {
		return fmt.Errorf("part %s has root %s instead of %s", e.Part, got, e.Root)
	}
	return nil
}

// Gaps yields the ledger of gaps.
func (s *Snapshot) Gaps(ctx context.Context) iter.Seq2[GapLine, error] {
	return ledgerLines[GapLine](ctx, s, s.Descriptor.Sallyport.Gaps)
}

// Second yields the ledger of second readings.
func (s *Snapshot) Second(ctx context.Context) iter.Seq2[SecondLine, error] {
	return ledgerLines[SecondLine](ctx, s, s.Descriptor.Sallyport.Second)
}

func ledgerLines[T any](ctx context.Context, s *Snapshot, parts []PartEntry) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, e := range parts {
			var l T
			lines, err := s.Lines(ctx, &e)
			if err != nil {
				yield(l, err)
				return
			}
			for line := range bytes.Lines(lines) {
				var l T
				if err := decodeLine(bytes.TrimSuffix(line, []byte{'\n'}), &l); err != nil {
					yield(l, fmt.Errorf("ledger: %w", err))
					return
				}
				if !yield(l, nil) {
					return
				}
			}
		}
	}
}
