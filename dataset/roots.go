package dataset

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"iter"
)

// A PartKey is the random key of one part, kept in the index. It blinds the leaves of
// the part, so that a proof of one record is no oracle for guesses at its neighbours.
type PartKey [32]byte

// A Blind is what one leaf is blinded with: AES-256 under the part's key of the line's
// index in the part, from 0, as 16 bytes big-endian.
type Blind [aes.BlockSize]byte

// A PartRoot computes the Merkle tree hash (RFC 6962, section 2.1) over the lines of
// one part in their order. The leaf of line i is SHA-256(0x00 | blind of i | line).
//
// Its memory is logarithmic in the number of lines. It is not safe for concurrent use.
type PartRoot struct {
	tree  tree
	block cipher.Block
	hash  hash.Hash
	index [aes.BlockSize]byte
	head  [1 + aes.BlockSize]byte // leafPrefix and the blind, as they are hashed
	sum   Hash
}

// NewPartRoot returns a PartRoot without lines.
func NewPartRoot(key PartKey) *PartRoot {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are always a key
	}
	p := &PartRoot{block: block, hash: sha256.New()}
	p.head[0] = leafPrefix
	return p
}

// Add adds the next line: without its LF and, in blob streams, without its location.
func (p *PartRoot) Add(line []byte) {
	p.blind()
	p.hash.Reset()
	p.hash.Write(p.head[:])
	p.hash.Write(line)
	p.hash.Sum(p.sum[:0])
	p.tree.add(p.sum)
}

// blind puts the blind of the next line into p.head.
func (p *PartRoot) blind() {
	binary.BigEndian.PutUint64(p.index[8:], p.tree.size)
	p.block.Encrypt(p.head[1:], p.index[:])
}

// Count returns the number of lines added.
func (p *PartRoot) Count() uint64 { return p.tree.size }

// Root returns the hash of the tree over the lines added so far.
func (p *PartRoot) Root() Hash { return p.tree.root() }

// A StreamRoot computes the Merkle tree hash over the parts of a stream in index order.
// A part's leaf is SHA-256(0x00 | its root | its count of lines as 8 bytes big-endian).
// The zero StreamRoot is an empty stream.
type StreamRoot struct{ tree tree }

// Add adds the next part.
func (s *StreamRoot) Add(part Hash, count uint64) { s.tree.add(partLeaf(part, count)) }

// Root returns the hash of the tree over the parts added so far.
func (s *StreamRoot) Root() Hash { return s.tree.root() }

func partLeaf(part Hash, count uint64) Hash {
	var b [1 + sha256.Size + 8]byte
	b[0] = leafPrefix
	copy(b[1:], part[:])
	binary.BigEndian.PutUint64(b[1+sha256.Size:], count)
	return sha256.Sum256(b[:])
}

// A SnapshotRoot computes the Merkle tree hash over the streams of a snapshot. A
// stream's leaf is SHA-256(0x00 | SHA-256(its name) | its root). The zero SnapshotRoot
// is an empty snapshot.
type SnapshotRoot struct {
	tree tree
	last string
}

// Add adds the next stream. Streams come in byte order of their names; another order,
// or a name twice, is an error and changes nothing.
func (s *SnapshotRoot) Add(name string, stream Hash) error {
	if s.tree.size > 0 && name <= s.last {
		return fmt.Errorf("stream %q comes after %q: names do not rise", name, s.last)
	}
	s.last = name
	s.tree.add(streamLeaf(Sum([]byte(name)), stream))
	return nil
}

// Root returns the hash of the tree over the streams added so far.
func (s *SnapshotRoot) Root() Hash { return s.tree.root() }

func streamLeaf(name, stream Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = leafPrefix
	copy(b[1:], name[:])
	copy(b[1+sha256.Size:], stream[:])
	return sha256.Sum256(b[:])
}

// The prefixes of RFC 6962 that keep leaves and inner nodes apart.
const (
	leafPrefix = 0x00
	nodePrefix = 0x01
)

// A tree is an incremental Merkle tree of RFC 6962, section 2.1. It keeps one hash for
// each bit that is set in its size: the roots of the full subtrees, the largest first.
type tree struct {
	size  uint64
	roots []Hash

	// audit, if not nil, collects the inclusion proof of one leaf.
	audit *audit
}

// An audit follows the subtree that holds leaf number index.
type audit struct {
	index uint64
	at    int // the place of that subtree in roots, -1 as long as there is none
	path  []Hash
}

func (t *tree) add(leaf Hash) {
	if t.audit != nil && t.size == t.audit.index {
		t.audit.at = len(t.roots)
	}
	t.roots = append(t.roots, leaf)
	t.size++
	for n := t.size; n&1 == 0; n >>= 1 {
		t.join()
	}
}

// join replaces the last two subtrees by the tree over both.
func (t *tree) join() {
	right := len(t.roots) - 1
	left := right - 1
	if a := t.audit; a != nil {
		switch a.at {
		case left:
			a.path = append(a.path, t.roots[right])
		case right:
			a.path = append(a.path, t.roots[left])
			a.at = left
		}
	}
	t.roots[left] = node(t.roots[left], t.roots[right])
	t.roots = t.roots[:right]
}

func (t *tree) root() Hash {
	if t.size == 0 {
		return Sum(nil)
	}
	h := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		h = node(t.roots[i], h)
	}
	return h
}

func node(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// A Path is an inclusion proof of RFC 6962, section 2.1.1: what leads from leaf number
// Index of a tree with Size leaves to the tree's root.
type Path struct {
	Index  uint64 `json:"index"`
	Size   uint64 `json:"size"`
	Hashes []Hash `json:"hashes"` // siblings from the leaf upwards; empty in a tree of one
}

// errProof says that a proof has not the shape its index and size ask for.
var errProof = errors.New("malformed inclusion proof")

// root returns the root that leaf has by p, after RFC 9162, section 2.1.3.2.
func (p Path) root(leaf Hash) (Hash, error) {
	if p.Index >= p.Size {
		return Hash{}, errProof
	}
	h, index, last := leaf, p.Index, p.Size-1
	for _, sibling := range p.Hashes {
		if last == 0 {
			return Hash{}, errProof
		}
		if index&1 == 1 || index == last {
			h = node(sibling, h)
			for index&1 == 0 && index != 0 {
				index, last = index>>1, last>>1
			}
		} else {
			h = node(h, sibling)
		}
		index, last = index>>1, last>>1
	}
	if last != 0 {
		return Hash{}, errProof
	}
	return h, nil
}

// path ends the tree and returns the proof of the audited leaf.
func (t *tree) path() (Path, error) {
	if t.audit.at < 0 {
		return Path{}, fmt.Errorf("there is no leaf %d among %d", t.audit.index, t.size)
	}
	p := Path{Index: t.audit.index, Size: t.size}
	for len(t.roots) > 1 {
		t.join()
	}
	p.Hashes = append([]Hash{}, t.audit.path...)
	return p, nil
}

// A Proof shows that a line is in a snapshot, to someone who knows the snapshot's root
// and nothing else. It discloses the line's own blind, and about other lines, parts and
// streams nothing but how many there are.
//
// The number of lines in the part, and the line's index there, are proven; the index
// and size of the two upper paths are only as good as other evidence of those sizes.
type Proof struct {
	Blind  Blind `json:"blind"`
	Part   Path  `json:"part"`     // from the line to the part's root
	Stream Path  `json:"stream"`   // from the part to the stream's root
	Name   Hash  `json:"nameHash"` // SHA-256 of the stream's name
	Whole  Path  `json:"snapshot"` // from the stream to the snapshot's root
}

// ErrNotProven says that a proof does not lead from its line to the root.
var ErrNotProven = errors.New("proof does not lead to the root")

// Check fails with [ErrNotProven] unless p shows that line, without its LF and
// location, is in the snapshot whose root is root.
func (p Proof) Check(line []byte, root Hash) error {
	h := sha256.New()
	h.Write([]byte{leafPrefix})
	h.Write(p.Blind[:])
	h.Write(line)
	part, err := p.Part.root(Hash(h.Sum(nil)))
	if err != nil {
		return fmt.Errorf("part: %w", err)
	}
	stream, err := p.Stream.root(partLeaf(part, p.Part.Size))
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	got, err := p.Whole.root(streamLeaf(p.Name, stream))
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if got != root {
		return ErrNotProven
	}
	return nil
}

// ProvePart reads the lines of a part and returns the blind of line number index and
// its path to the part's root. Lines come as for [PartRoot.Add].
func ProvePart(key PartKey, lines iter.Seq2[[]byte, error], index uint64) (Blind, Path, error) {
	var b Blind
	p := NewPartRoot(key)
	p.tree.audit = &audit{index: index, at: -1}
	for line, err := range lines {
		if err != nil {
			return Blind{}, Path{}, err
		}
		p.Add(line)
		if p.tree.size == index+1 {
			b = Blind(p.head[1:])
		}
	}
	path, err := p.tree.path()
	return b, path, err
}

// A PartSum is the root of a part and the number of its lines.
type PartSum struct {
	Root  Hash   `json:"root"`
	Count uint64 `json:"count"`
}

// ProveStream returns the path of part number index to the root of a stream with these
// parts.
func ProveStream(parts iter.Seq2[PartSum, error], index uint64) (Path, error) {
	s := StreamRoot{tree{audit: &audit{index: index, at: -1}}}
	for part, err := range parts {
		if err != nil {
			return Path{}, err
		}
		s.Add(part.Root, part.Count)
	}
	return s.tree.path()
}

// A StreamSum is the name of a stream and its root.
type StreamSum struct {
	Name string `json:"name"`
	Root Hash   `json:"root"`
}

// ProveSnapshot returns the path of stream number index to the root of a snapshot with
// these streams, which are sorted by name in byte order.
func ProveSnapshot(streams []StreamSum, index uint64) (Path, error) {
	s := SnapshotRoot{tree: tree{audit: &audit{index: index, at: -1}}}
	for _, x := range streams {
		if err := s.Add(x.Name, x.Root); err != nil {
			return Path{}, err
		}
	}
	return s.tree.path()
}

// MarshalText implements [encoding.TextMarshaler]: 32 lower-case hex digits.
func (b Blind) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts only what MarshalText
// writes, and leaves b alone on error.
func (b *Blind) UnmarshalText(text []byte) error { return parseHex(b[:], text, "blind") }

// MarshalText implements [encoding.TextMarshaler]: 64 lower-case hex digits.
func (k PartKey) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts only what MarshalText
// writes, and leaves k alone on error.
func (k *PartKey) UnmarshalText(text []byte) error { return parseHex(k[:], text, "part key") }
