package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// attach compares what this host remembers with the store, once.
//
//   - The store's newest checkpoint must continue the one remembered.
//   - Where it is newer, this host published it and died before it wrote that down, so
//     each of the entries in between must be one of the journal's.
//   - A host that remembers nothing (its state was lost, or never was) takes the store's
//     word, and adopts entries that lie beyond the newest checkpoint as they are: they
//     may be its own, and their names are taken. An event says so.
//
// Nothing is written down: that comes with the next checkpoint, and until then a crash
// leads here again.
func (l *Log) attach(ctx context.Context) error {
	if l.attached {
		return nil
	}
	head, err := l.read.head(ctx)
	if errors.Is(err, ErrNoLog) && l.tree.N == 0 {
		head, err = tlog.Tree{}, nil
	} else if errors.Is(err, ErrNoLog) {
		err = fmt.Errorf("%w: it had %d entries and has no checkpoint: %w", ErrInconsistent, l.tree.N, err)
	}
	if err == nil && l.tree.N > 0 {
		err = l.read.Continues(ctx, l.s.checkpoint(l.tree), l.s.checkpoint(head))
	}
	if err != nil {
		return err
	}
	pending, err := l.unpublished(ctx, head)
	if err != nil {
		return err
	}
	edge, err := l.proven(ctx, head, head.N/tileWidth*tileWidth, head.N)
	if err != nil {
		return err
	}
	if l.tree.N == 0 {
		orphans, err := l.orphans(ctx, head, edge)
		if err != nil {
			return err
		}
		if pending, err = l.adopt(head, orphans, pending); err != nil {
			return err
		}
	}
	moved := head.N > l.tree.N
	l.tree, l.pending, l.edge, l.attached = head, pending, edge, true
	if moved && len(pending) == 0 {
		return l.rotate()
	}
	return nil
}

// proven returns some entries of a tree, compared with its hashes.
func (l *Log) proven(ctx context.Context, tree tlog.Tree, from, to int64) ([][]byte, error) {
	if from == to {
		return nil, nil
	}
	entries, err := l.s.entries(ctx, from, to, tree.N)
	if err != nil {
		return nil, err
	}
	return entries, proveEntries(l.s.hashes(ctx, tree), from, entries)
}

// unpublished returns the events of the journal that are not in the store's tree. It
// fails with [ErrInconsistent] if that holds others, written since this host's last
// memory of it.
func (l *Log) unpublished(ctx context.Context, head tlog.Tree) ([][]byte, error) {
	if len(l.pending) == 0 && l.tree.N == 0 {
		return nil, nil
	}
	waiting := make(map[string]bool, len(l.pending))
	for _, entry := range l.pending {
		waiting[string(entry)] = true
	}
	for at := l.tree.N; at < head.N; {
		to := min((at/tileWidth+1)*tileWidth, head.N)
		added, err := l.proven(ctx, head, at, to)
		if err != nil {
			return nil, err
		}
		for i, entry := range added {
			if !waiting[string(entry)] && l.tree.N > 0 {
				return nil, fmt.Errorf("%w: entry %d was written by someone else", ErrInconsistent, at+int64(i))
			}
			delete(waiting, string(entry))
		}
		at = to
	}
	var out [][]byte
	for _, entry := range l.pending {
		if waiting[string(entry)] {
			out = append(out, entry)
		}
	}
	return out, nil
}

// adopt puts orphans in front of the pending events, and an event that says so between.
// If the orphans are but what a publication of the pending events left, there is
// nothing to adopt.
func (l *Log) adopt(head tlog.Tree, orphans, pending [][]byte) ([][]byte, error) {
	n := min(len(orphans), len(pending))
	if slices.EqualFunc(orphans[:n], pending[:n], slices.Equal) && n == len(orphans) {
		return pending, nil
	}
	e := NewEvent(LogKeep, Fact, l.o.Now())
	e.Code, e.Counts = "adopted", map[string]int64{"first": head.N, "entries": int64(len(orphans))}
	marker, err := e.encode(l.o.Name)
	if err != nil {
		return nil, err
	}
	out := append(slices.Clone(orphans), marker)
	for _, entry := range pending {
		if !slices.ContainsFunc(orphans, func(o []byte) bool { return slices.Equal(o, entry) }) {
			out = append(out, entry)
		}
	}
	return out, nil
}

// orphans returns the events that lie in the store beyond a tree with the entries edge
// in its last, partial bundle: those of the widest bundle there, and of the bundles that
// follow without a break. What is no bundle of events is no orphan; [Reader.Verify]
// reports it.
func (l *Log) orphans(ctx context.Context, head tlog.Tree, edge [][]byte) ([][]byte, error) {
	widths := make(map[int64][]int)
	for info, err := range l.s.List(ctx, l.s.folder()+"tile/entries/") {
		if err != nil {
			return nil, fmt.Errorf("list entries of %s: %w", l.s.log, err)
		}
		if t, ok := l.s.parseTile(info.Name); ok && !info.Marker && !info.Later {
			widths[t.N] = append(widths[t.N], t.W)
		}
	}
	var orphans [][]byte
	for n := head.N / tileWidth; ; n++ {
		entries, err := l.widest(ctx, n, widths[n], edge)
		if err != nil {
			return nil, err
		}
		orphans = append(orphans, entries[min(len(edge), len(entries)):]...)
		if len(entries) < tileWidth {
			return orphans, nil
		}
		edge = nil
	}
}

// widest returns the entries of the widest sound bundle of a number, nil if there is
// none. They begin with the entries known.
func (l *Log) widest(ctx context.Context, n int64, widths []int, known [][]byte) ([][]byte, error) {
	slices.Sort(widths)
	for _, w := range slices.Backward(widths) {
		bundle, err := l.s.read(ctx, l.s.tileName(tlog.Tile{H: tileHeight, L: entryLevel, N: n, W: w}))
		if err != nil {
			return nil, err
		}
		entries, err := splitBundle(bundle)
		sound := err == nil && len(entries) == w && w > len(known) && slices.EqualFunc(known, entries[:len(known)], slices.Equal)
		for _, entry := range entries {
			_, err := decodeEvent(l.o.Name, entry)
			sound = sound && err == nil
		}
		if sound {
			return entries, nil
		}
	}
	return nil, nil
}
