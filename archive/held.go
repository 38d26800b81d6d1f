package archive

import (
	"container/list"
	"fmt"
	"sync"

	"github.com/dwp/sallyport/dataset"
)

// A heldPack is a pack in memory, or on its way there. Nobody may look at z or err
// before ready is closed.
type heldPack struct {
	hash  dataset.Hash
	ready chan struct{}
	z     []byte // the zstd stream, verified
	err   error

	users int // guarded by the set's mutex, like used
	used  int64
}

// frames returns a stretch of the zstd stream, which must hold a member.
func (p *heldPack) frames(off, n int64, member string) ([]byte, error) {
	if !within(off, n, int64(len(p.z))) {
		return nil, fmt.Errorf("member %s lies outside its pack", member)
	}
	return p.z[off : off+n], nil
}

// A heldSet holds a few packs for whoever uses them, and those used last for whoever
// may want them next. Its methods are safe for concurrent use.
type heldSet struct {
	mu    *sync.Mutex
	freed *sync.Cond
	packs map[dataset.Hash]*heldPack
	clock int64
}

func newHeldSet(mu *sync.Mutex) heldSet {
	return heldSet{mu: mu, freed: sync.NewCond(mu), packs: map[dataset.Hash]*heldPack{}}
}

// has reports whether the pack is held or on its way.
func (s *heldSet) has(pack dataset.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packs[pack] != nil
}

// take returns the pack as one that is used, until drop. If mine is set it is the
// caller who reads it, into the room in z, and closes ready. Where the set is full of
// packs that others use take waits: they use them for one member only.
func (s *heldSet) take(pack dataset.Hash) (p *heldPack, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		s.clock++
		if p := s.packs[pack]; p != nil {
			p.users++
			p.used = s.clock
			return p, false
		}
		room, ok := s.makeRoom()
		if ok {
			p := &heldPack{hash: pack, ready: make(chan struct{}), z: room, users: 1, used: s.clock}
			s.packs[pack] = p
			return p, true
		}
		s.freed.Wait()
	}
}

// makeRoom lets go of the pack that was used the longest ago, if the set is full, and
// returns its memory.
func (s *heldSet) makeRoom() (room []byte, ok bool) {
	if len(s.packs) < heldPacks {
		return nil, true
	}
	var oldest *heldPack
	for _, p := range s.packs {
		if p.users == 0 && (oldest == nil || p.used < oldest.used) {
			oldest = p
		}
	}
	if oldest == nil {
		return nil, false
	}
	delete(s.packs, oldest.hash)
	return oldest.z[:0], true
}

// drop ends the use of a pack. One that could not be read is forgotten.
func (s *heldSet) drop(p *heldPack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.users--
	select {
	case <-p.ready:
		if p.err != nil && s.packs[p.hash] == p {
			delete(s.packs, p.hash)
		}
	default: // its reader goes on
	}
	if p.users == 0 {
		s.freed.Broadcast()
	}
}

// An lru keeps the values that were used last. It is not safe for concurrent use.
type lru[K comparable, V any] struct {
	max   int
	order *list.List
	at    map[K]*list.Element
}

type lruItem[K comparable, V any] struct {
	key K
	val V
}

func newLRU[K comparable, V any](max int) lru[K, V] {
	return lru[K, V]{max, list.New(), map[K]*list.Element{}}
}

func (l *lru[K, V]) get(k K) (val V, ok bool) {
	e, ok := l.at[k]
	if !ok {
		return val, false
	}
	l.order.MoveToFront(e)
	return e.Value.(lruItem[K, V]).val, true
}

func (l *lru[K, V]) put(k K, v V) {
	l.at[k] = l.order.PushFront(lruItem[K, V]{k, v})
	if l.order.Len() > l.max {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.at, last.Value.(lruItem[K, V]).key)
	}
}
