package rest

import (
	"hash/maphash"
)

// A tracker recognises records that come again. It keeps 16 bytes a record: keyed
// 64-bit hashes of key and content, so a server cannot make records collide. A chance
// collision (one in a million at five million records) shows as a false duplicate,
// never as silence.
type tracker struct {
	seed  maphash.Seed
	slots [][2]uint64
	used  int
}

func newTracker() *tracker {
	return &tracker{seed: maphash.MakeSeed(), slots: make([][2]uint64, 1024)}
}

func (t *tracker) find(key uint64) int {
	mask := uint64(len(t.slots) - 1)
	for i := key & mask; ; i = (i + 1) & mask {
		if t.slots[i][0] == key || t.slots[i][0] == 0 {
			return int(i)
		}
	}
}

func (t *tracker) grow() {
	old := t.slots
	t.slots = make([][2]uint64, 2*len(old))
	for _, s := range old {
		if s[0] != 0 {
			t.slots[t.find(s[0])] = s
		}
	}
}

// slot returns the place of a key, made if it is new.
func (t *tracker) slot(key string) (s *[2]uint64, isNew bool) {
	if t.used*4 >= len(t.slots)*3 {
		t.grow()
	}
	h := maphash.String(t.seed, key) | 1 // 0 marks a free slot
	i := t.find(h)
	if t.slots[i][0] == 0 {
		t.slots[i][0] = h
		t.used++
		return &t.slots[i], true
	}
	return &t.slots[i], false
}

// seen records (key, content). It reports whether the key came before, and if so
// whether with the same content.
func (t *tracker) seen(key string, content []byte) (before, same bool) {
	h := maphash.Bytes(t.seed, content)
	s, isNew := t.slot(key)
	if isNew {
		s[1] = h
		return false, false
	}
	return true, s[1] == h
}

// ordinal counts how often a key came before.
func (t *tracker) ordinal(key string) int {
	s, _ := t.slot(key)
	s[1]++
	return int(s[1] - 1)
}
