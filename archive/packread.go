package archive

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"filippo.io/age"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// What a reader keeps in memory: whole packs, and frames of small members.
const (
	cachedPacks  = 3
	cachedFrames = 24
	readBudget   = 48 << 20 // bytes of segments that are being read
)

// A packReader reads members of a snapshot's packs. Packs of index and parts, and
// those of which much is wanted, are read whole and held against their hash before
// anything of them is believed; single segments come by ranged reads and are held
// against the hash of their blob by whoever reads it.
type packReader struct {
	s      *Snapshot
	flight singleflight.Group
	budget *semaphore.Weighted

	mu     sync.Mutex
	packs  lru[dataset.Hash]
	frames lru[frameKey]
}

type frameKey struct {
	pack   dataset.Hash
	offset int64
}

func newPackReader(s *Snapshot) *packReader {
	return &packReader{s: s, budget: semaphore.NewWeighted(readBudget), packs: newLRU[dataset.Hash](cachedPacks), frames: newLRU[frameKey](cachedFrames)}
}

// member returns a member from a pack that is verified whole. size is the member's
// length if known, else -1.
func (r *packReader) member(ctx context.Context, m MemberRef, size int64) ([]byte, error) {
	z, err := r.whole(ctx, m.Pack)
	if err != nil {
		return nil, err
	}
	if !within(m.Offset, m.Length, int64(len(z))) {
		return nil, fmt.Errorf("member %s lies outside its pack", m.Member)
	}
	z = z[m.Offset : m.Offset+m.Length]
	if size >= 0 {
		return extract(z, m.Member, size)
	}
	if b, err := extract(z, m.Member, 0); err == nil {
		return b, nil // most are small: no room for the largest is made at first
	}
	return extract(z, m.Member, MaxRecord)
}

// within reports whether n bytes at off, at least one, lie within size bytes.
func within(off, n, size int64) bool { return off >= 0 && n >= 1 && off <= size && n <= size-off }

// extract decodes frames and returns a member of at most size bytes.
func extract(frames []byte, member string, size int64) ([]byte, error) {
	room := int64(maxFrame)
	if size >= smallMember {
		room = paddedSize(size)
	}
	tar, err := decompress(make([]byte, 0, room), frames)
	if err != nil {
		return nil, err
	}
	return findMember(tar, member)
}

// segment returns one segment of a blob. The bytes are shared: callers only read them.
func (r *packReader) segment(ctx context.Context, pack dataset.Hash, loc Location, whole bool) ([]byte, error) {
	if loc.Size >= smallMember {
		z, err := r.stretch(ctx, pack, loc, whole)
		if err != nil {
			return nil, err
		}
		return extract(z, loc.Member, loc.Size)
	}
	key := frameKey{pack, loc.Offset}
	r.mu.Lock()
	tar, ok := r.frames.get(key)
	r.mu.Unlock()
	if !ok {
		v, err, _ := r.flight.Do(fmt.Sprint("frame ", pack, loc.Offset), func() (any, error) {
			z, err := r.stretch(ctx, pack, loc, whole)
			if err != nil {
				return nil, err
			}
			tar, err := decompress(make([]byte, 0, maxFrame), z)
			if err != nil {
				return nil, err
			}
			r.mu.Lock()
			r.frames.put(key, tar)
			r.mu.Unlock()
			return tar, nil
		})
		if err != nil {
			return nil, err
		}
		tar = v.([]byte)
	}
	return findMember(tar, loc.Member)
}

// stretch returns the frames that hold a segment.
func (r *packReader) stretch(ctx context.Context, pack dataset.Hash, loc Location, whole bool) ([]byte, error) {
	r.mu.Lock()
	z, ok := r.packs.get(pack)
	r.mu.Unlock()
	if !ok && !whole {
		return r.ranged(ctx, pack, loc)
	}
	if !ok {
		var err error
		if z, err = r.whole(ctx, pack); err != nil {
			return nil, err
		}
	}
	if !within(loc.Offset, loc.Length, int64(len(z))) {
		return nil, fmt.Errorf("member %s lies outside its pack", loc.Member)
	}
	return z[loc.Offset : loc.Offset+loc.Length], nil
}

// whole returns the zstd stream of a pack, read and verified once for all who want it.
func (r *packReader) whole(ctx context.Context, pack dataset.Hash) ([]byte, error) {
	r.mu.Lock()
	z, ok := r.packs.get(pack)
	r.mu.Unlock()
	if ok {
		return z, nil
	}
	v, err, _ := r.flight.Do(pack.String(), func() (any, error) {
		z, err := r.load(ctx, pack)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.packs.put(pack, z)
		return z, nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]byte), nil
}

// load reads a pack, once more if it did not arrive as it should.
func (r *packReader) load(ctx context.Context, pack dataset.Hash) ([]byte, error) {
	ref, opener, err := r.find(pack)
	if err != nil {
		return nil, err
	}
	z, err := r.loadOnce(ctx, ref, opener)
	var damage *DamageError
	if errors.As(err, &damage) {
		z, err = r.loadOnce(ctx, ref, opener)
	}
	return z, err
}

func (r *packReader) find(pack dataset.Hash) (PackRef, *crypto.Opener, error) {
	ref, ok := r.s.Packs[pack]
	if !ok {
		return ref, nil, fmt.Errorf("pack %s is in no list of the snapshot", pack)
	}
	opener := r.s.openers[ref.Key]
	if opener == nil {
		return ref, nil, fmt.Errorf("pack %s: %w", pack, crypto.ErrNoKey)
	}
	if ref.Size > PackSize {
		return ref, nil, fmt.Errorf("pack %s claims %d bytes", pack, ref.Size)
	}
	return ref, opener, nil
}

func (r *packReader) loadOnce(ctx context.Context, ref PackRef, opener *crypto.Opener) ([]byte, error) {
	name := PackName(r.s.Service, ref.SHA256)
	body, err := r.s.a.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", ref.SHA256, err)
	}
	defer body.Close()
	h := sha256.New()
	left := &io.LimitedReader{R: body, N: ref.Size + 1}
	in := io.TeeReader(left, h)
	z, derr := decryptAll(opener, in, ref.Size)
	_, rerr := io.Copy(io.Discard, in)
	var got dataset.Hash
	h.Sum(got[:0])
	switch {
	case got != ref.SHA256 && rerr != nil:
		return nil, fmt.Errorf("pack %s: %w", ref.SHA256, rerr)
	case got != ref.SHA256:
		return nil, &DamageError{name, ref.SHA256, got, ref.Size + 1 - left.N}
	case derr != nil:
		return nil, fmt.Errorf("pack %s: %w", ref.SHA256, derr)
	}
	return z, nil
}

func decryptAll(opener *crypto.Opener, in io.Reader, size int64) ([]byte, error) {
	plain, err := opener.Decrypt(in)
	if err != nil {
		return nil, err
	}
	z := make([]byte, 0, size)
	for {
		if len(z) == cap(z) {
			z = append(z, 0)[:len(z)]
		}
		n, err := plain.Read(z[len(z):cap(z)])
		z = z[:len(z)+n]
		if err == io.EOF {
			return z, nil
		}
		if err != nil {
			return z, err
		}
	}
}

// ranged reads the frames of one segment: the age header, the last chunk (with which
// age proves the length) and the chunks that hold the frames.
func (r *packReader) ranged(ctx context.Context, pack dataset.Hash, loc Location) ([]byte, error) {
	ref, opener, err := r.find(pack)
	if err != nil {
		return nil, err
	}
	if !within(loc.Offset, loc.Length, ref.Size) {
		return nil, fmt.Errorf("member %s lies outside its pack", loc.Member)
	}
	at := &extents{ctx: ctx, st: r.s.a.Store, name: PackName(r.s.Service, pack), size: ref.Size}
	header, err := at.header()
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", pack, err)
	}
	const chunk = ageChunk + ageTag
	first, last := loc.Offset/ageChunk, (loc.Offset+loc.Length-1)/ageChunk
	if err := at.fetch(header+first*chunk, min(header+(last+1)*chunk, ref.Size)); err != nil {
		return nil, fmt.Errorf("pack %s: %w", pack, err)
	}
	plain, size, err := opener.DecryptAt(at, ref.Size)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", pack, err)
	}
	if !within(loc.Offset, loc.Length, size) {
		return nil, fmt.Errorf("member %s lies outside its pack", loc.Member)
	}
	z := make([]byte, loc.Length)
	if _, err := plain.ReadAt(z, loc.Offset); err != nil && err != io.EOF {
		return nil, fmt.Errorf("pack %s: %w", pack, err)
	}
	return z, nil
}

// extents is an object of which a few stretches have been read.
type extents struct {
	ctx  context.Context // of one ranged read
	st   Store
	name string
	size int64
	have []extent
}

type extent struct {
	off  int64
	data []byte
}

// header reads the beginning of a pack and returns where its STREAM chunks begin.
func (x *extents) header() (int64, error) {
	for n := int64(4 << 10); ; n *= 4 {
		if err := x.fetch(0, min(n, x.size)); err != nil {
			return 0, err
		}
		head, err := age.ExtractHeader(io.NewSectionReader(x, 0, x.size))
		if err == nil {
			return int64(len(head)) + ageTag, nil // the payload begins with a 16-byte nonce
		}
		if n >= 64<<10 || n >= x.size {
			return 0, err
		}
	}
}

func (x *extents) fetch(from, to int64) error {
	body, err := x.st.Open(x.ctx, x.name, from, to-from)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(body, to-from+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	if int64(len(data)) != to-from {
		return fmt.Errorf("%s: %d bytes at %d instead of %d", x.name, len(data), from, to-from)
	}
	x.have = append(x.have, extent{from, data})
	return nil
}

// ReadAt implements [io.ReaderAt], reading what is not there yet.
func (x *extents) ReadAt(p []byte, off int64) (int, error) {
	if off >= x.size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), x.size-off)
	for _, e := range x.have {
		if off >= e.off && off+want <= e.off+int64(len(e.data)) {
			n := copy(p, e.data[off-e.off:][:want])
			if n < len(p) {
				return n, io.EOF
			}
			return n, nil
		}
	}
	from, to := off, min(off+max(want, 4<<10), x.size)
	if err := x.fetch(from, to); err != nil {
		return 0, err
	}
	return x.ReadAt(p, off)
}

// An lru keeps the values that were used last. It is not safe for concurrent use.
type lru[K comparable] struct {
	max   int
	order *list.List
	at    map[K]*list.Element
}

type lruItem[K comparable] struct {
	key K
	val []byte
}

func newLRU[K comparable](max int) lru[K] {
	return lru[K]{max, list.New(), map[K]*list.Element{}}
}

func (l *lru[K]) get(k K) ([]byte, bool) {
	e, ok := l.at[k]
	if !ok {
		return nil, false
	}
	l.order.MoveToFront(e)
	return e.Value.(lruItem[K]).val, true
}

func (l *lru[K]) put(k K, v []byte) {
	l.at[k] = l.order.PushFront(lruItem[K]{k, v})
	if l.order.Len() > l.max {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.at, last.Value.(lruItem[K]).key)
	}
}
