package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// Touched returns the packs of an unlocked snapshot that hold lines or bytes of the
// records that match, sorted.
func Touched(ctx context.Context, s *archive.Snapshot, match func(stream, key string) bool) ([]dataset.Hash, error) {
	packs := map[dataset.Hash]bool{}
	for i := range s.Descriptor.Resources {
		e := &s.Descriptor.Resources[i].Sallyport
		for part, err := range s.Parts(ctx, e.Table) {
			if err != nil {
				return nil, err
			}
			lines, err := s.Lines(ctx, &part)
			if err != nil {
				return nil, err
			}
			if err := touchedBy(e, &part, lines, match, packs); err != nil {
				return nil, err
			}
		}
	}
	return sortedHashes(packs), nil
}

// touchedBy adds the packs of one part.
func touchedBy(e *archive.StreamEntry, part *archive.PartEntry, lines []byte, match func(stream, key string) bool, packs map[dataset.Hash]bool) error {
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if !archive.Enveloped(&e.Stream) {
			key, err := archive.RecordKey(&e.Stream, line)
			if err != nil {
				return err
			}
			if match(e.Stream.Name, key) {
				packs[part.Location.Pack] = true
			}
			continue
		}
		l, err := archive.ParseLine(line)
		if err != nil {
			return err
		}
		if !match(e.Stream.Name, l.Key) {
			continue
		}
		packs[part.Location.Pack] = true
		for _, loc := range l.Location {
			if loc.Pack < 0 || loc.Pack >= len(part.Packs) {
				return errors.New("an index line refers to a pack that its part does not name")
			}
			packs[part.Packs[loc.Pack]] = true
		}
	}
	return nil
}

func sortedHashes(set map[dataset.Hash]bool) []dataset.Hash {
	list := slices.SortedFunc(maps.Keys(set), func(a, b dataset.Hash) int { return slices.Compare(a[:], b[:]) })
	if list == nil {
		list = []dataset.Hash{}
	}
	return list
}

// Avoid returns the packs that no export may reuse: those that hold what was purged or
// erased, and those that a verifier found damaged. Whoever exports needs no key for it.
// Where there are doubts nothing at all may be reused: an erasure is recorded whose packs
// nobody has named yet, or something cannot be trusted.
func (o *Office) Avoid(ctx context.Context, service string) (packs map[dataset.Hash]bool, doubts []error, err error) {
	packs = map[dataset.Hash]bool{}
	plans, err := o.Plans(ctx, service)
	if isJunk(err) {
		doubts = append(doubts, err)
	} else if err != nil {
		return nil, nil, err
	}
	for _, p := range plans {
		for _, h := range p.Packs {
			packs[h] = true
		}
	}
	register, err := o.Register(ctx, service)
	if err != nil {
		return nil, nil, err
	}
	doubts = append(doubts, register.Junk...)
	for _, e := range register.Erasures {
		if !register.named[e.Hash] {
			doubts = append(doubts, fmt.Errorf("nobody has named the packs of erasure %s yet; sallyport erasure apply does", e.Hash))
		}
		for _, h := range e.Packs {
			packs[h] = true
		}
	}
	records, _, err := verify.ReadVerified(ctx, o.Archive, service)
	if err != nil {
		return nil, nil, err
	}
	for _, list := range records {
		for _, r := range list {
			for _, h := range r.Damaged {
				packs[h] = true
			}
		}
	}
	return packs, doubts, nil
}
