package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/maphash"
)

// Repeats recognise what came before, exactly and in bounded memory: a [Table] of salted
// 128-bit hashes of keys, with keyed 64-bit hashes of what first came under them. Nobody
// who cannot read this process can make two keys or contents look alike, and that they do
// by chance is less likely than that the machine errs.
//
// Repeats are not safe for concurrent use.
type Repeats struct {
	table *Table
	seed  maphash.Seed
	salt  [16]byte
	buf   []byte
}

// NewRepeats returns Repeats that have seen nothing, and keep about memory bytes of what
// they will see; the rest goes to files in dir (empty: the system's temporary directory).
// The caller closes.
func NewRepeats(dir string, memory int64) *Repeats {
	r := &Repeats{table: NewTable(dir, memory), seed: maphash.MakeSeed()}
	rand.Read(r.salt[:]) // never fails
	return r
}

// id hashes a key; what differs in kind is never the same.
func (r *Repeats) id(kind byte, key string) ID {
	r.buf = append(append(append(r.buf[:0], r.salt[:]...), kind), key...)
	sum := sha256.Sum256(r.buf)
	return ID(sum[:16])
}

// Record says whether key was recorded before, and if so whether with the same content.
// The content that came first is the one that counts.
func (r *Repeats) Record(key string, content []byte) (before, same bool, err error) {
	id, sum := r.id('r', key), maphash.Bytes(r.seed, content)
	first, before, err := r.table.Get(id)
	if before || err != nil {
		return before, first == sum && err == nil, err
	}
	return false, false, r.table.Put(id, sum)
}

// Count returns how often it was called with key before.
func (r *Repeats) Count(key string) (int, error) {
	id := r.id('c', key)
	n, _, err := r.table.Get(id)
	if err != nil {
		return 0, err
	}
	return int(n), r.table.Put(id, n+1)
}

// Close forgets everything and frees its room.
func (r *Repeats) Close() error { return r.table.Close() }
