// Package spool keeps what does not fit into memory in temporary files that nobody can
// read: each is encrypted under a random key that never leaves the process, and has no
// name, so that the kernel frees it when the process ends, however it ends.
//
// [Buckets] scatter records over numbered buckets that are read back one by one;
// a [Sorter] returns pairs in the order of their keys; a [Table] is asked for single
// entries, and [Repeats] with it for what came before. All hold little more in memory
// than they are told to.
package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
)

// A file holds sealed chunks. It is safe for concurrent use.
type file struct {
	f    *os.File
	aead cipher.AEAD

	mu   sync.Mutex
	next uint64 // number of the next chunk; its nonce
	end  int64
}

// A ref is where a chunk lies.
type ref struct {
	number uint64
	off    int64
	size   int // sealed
}

// newFile makes a file in dir, or in the system's temporary directory if dir is empty.
// A crash before the name is gone leaves an empty file behind.
func newFile(dir string) (*file, error) {
	f, err := os.CreateTemp(dir, "sallyport-spool-*")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &file{f: f, aead: aead}, nil
}

// write seals a chunk and stores it.
func (f *file) write(plain []byte) (ref, error) {
	f.mu.Lock()
	r := ref{f.next, f.end, len(plain) + f.aead.Overhead()}
	f.next++
	f.end += int64(r.size)
	f.mu.Unlock()
	sealed := f.aead.Seal(make([]byte, 0, r.size), f.nonce(r), plain, nil)
	if _, err := f.f.WriteAt(sealed, r.off); err != nil {
		return ref{}, fmt.Errorf("spool: %w", err)
	}
	return r, nil
}

// read returns a chunk, in buf if that is large enough.
func (f *file) read(r ref, buf []byte) ([]byte, error) {
	if cap(buf) < r.size {
		buf = make([]byte, r.size)
	}
	buf = buf[:r.size]
	if _, err := f.f.ReadAt(buf, r.off); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	plain, err := f.aead.Open(buf[:0], f.nonce(r), buf, nil)
	if err != nil {
		return nil, fmt.Errorf("spool: chunk %d is not what was written: %w", r.number, err)
	}
	return plain, nil
}

// nonce is the number of the chunk: a chunk in another's place does not open.
func (f *file) nonce(r ref) []byte {
	nonce := make([]byte, f.aead.NonceSize())
	binary.BigEndian.PutUint64(nonce[4:], r.number)
	return nonce
}

func (f *file) close() error { return f.f.Close() }

// appendBytes appends b behind its length; cutBytes is the inverse.
func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

func cutBytes(from []byte) (b, rest []byte, err error) {
	n, w := binary.Uvarint(from)
	if w <= 0 || n > uint64(len(from)-w) {
		return nil, nil, fmt.Errorf("spool: malformed chunk")
	}
	return from[w : w+int(n)], from[w+int(n):], nil
}
