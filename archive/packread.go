package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"filippo.io/age"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/buffers"
)

// What a reader keeps in memory: whole packs, frames of small members, and segments
// that are being read, each for a moment also as it is stored.
const (
	heldPacks    = 3
	cachedFrames = 16
	readBudget   = 32 << 20 // bytes of segments
)

// A packReader reads members of a snapshot's packs. Packs of index and parts, and
// those of which many small members are wanted, are read whole and held against their
// hash before anything of them is believed; single segments come by ranged reads and
// are held against the hash of their blob by whoever reads it.
type packReader struct {
	s       *Snapshot
	flight  singleflight.Group
	budget  *semaphore.Weighted
	buffers *buffers.Pool

	mu     sync.Mutex
	packs  heldSet
	frames lru[frameKey, map[string][]byte] // the members of a frame, by name
}

type frameKey struct {
	pack   dataset.Hash
	offset int64
}

func newPackReader(s *Snapshot) *packReader {
	r := &packReader{s: s, budget: semaphore.NewWeighted(readBudget), buffers: buffers.New(SegmentSize/8, 3*readBudget), frames: newLRU[frameKey, map[string][]byte](cachedFrames)}
	r.packs = newHeldSet(&r.mu)
	return r
}

// member returns a member from a pack that is verified whole. size is the member's
// length if known, else -1.
func (r *packReader) member(ctx context.Context, m MemberRef, size int64) ([]byte, error) {
	p, err := r.hold(ctx, m.Pack)
	if err != nil {
		return nil, err
	}
	defer r.packs.drop(p)
	z, err := p.frames(m.Offset, m.Length, m.Member)
	if err != nil {
		return nil, err
	}
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

// roomFor is what the frames of a member of that size decode to, at most.
func roomFor(size int64) int64 {
	if size < smallMember {
		return maxFrame
	}
	return paddedSize(size)
}

// extract decodes frames and returns a member of at most size bytes.
func extract(frames []byte, member string, size int64) ([]byte, error) {
	return extractInto(make([]byte, 0, roomFor(size)), frames, member)
}

// extractInto decodes frames into dst, whose capacity bounds them, and returns a member.
func extractInto(dst, frames []byte, member string) ([]byte, error) {
	tar, err := decompress(dst, frames)
	if err != nil {
		return nil, err
	}
	return findMember(tar, member)
}

// A segment is a segment of a blob in memory. Those of small members are shared:
// callers only read them.
type segment struct {
	data []byte
	own  []byte // buffer to give back, or nil
}

// segment returns one segment of a blob. The caller calls done with it.
func (r *packReader) segment(ctx context.Context, pack dataset.Hash, loc Location, whole bool) (segment, error) {
	if loc.Size >= smallMember {
		return r.large(ctx, pack, loc, whole)
	}
	key := frameKey{pack, loc.Offset}
	r.mu.Lock()
	members, ok := r.frames.get(key)
	r.mu.Unlock()
	if !ok {
		v, err, _ := r.flight.Do(fmt.Sprint(pack, loc.Offset), func() (any, error) { return r.frame(ctx, key, loc, whole) })
		if err != nil {
			return segment{}, err
		}
		members = v.(map[string][]byte)
	}
	data, ok := members[loc.Member]
	if !ok {
		return segment{}, fmt.Errorf("member %s is not where the index says", loc.Member)
	}
	return segment{data: data}, nil
}

// frame decodes a frame of small members.
func (r *packReader) frame(ctx context.Context, key frameKey, loc Location, whole bool) (members map[string][]byte, err error) {
	err = r.stretch(ctx, key.pack, loc, whole, func(z []byte) error {
		tar, err := decompressOne(z)
		if err == nil {
			members, err = allMembers(tar)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames.put(key, members)
	return members, nil
}

// done gives back what a segment holds.
func (r *packReader) done(s segment) {
	if s.own != nil {
		r.buffers.Put(s.own)
	}
}

// large reads a segment that has frames of its own.
func (r *packReader) large(ctx context.Context, pack dataset.Hash, loc Location, whole bool) (s segment, err error) {
	s.own = r.buffers.Get(int(roomFor(loc.Size)))
	err = r.stretch(ctx, pack, loc, whole, func(z []byte) error {
		s.data, err = extractInto(s.own[:0:len(s.own)], z, loc.Member)
		return err
	})
	if err != nil {
		r.buffers.Put(s.own)
		return segment{}, err
	}
	return s, nil
}

// stretch hands the frames that hold a segment to f, which does not keep them. What
// cannot be decrypted is read again with its whole pack: then either it was a flip on
// the way, or the pack is shown to be damaged.
func (r *packReader) stretch(ctx context.Context, pack dataset.Hash, loc Location, whole bool, f func(z []byte) error) error {
	if !whole && !r.packs.has(pack) {
		z, err := r.ranged(ctx, pack, loc)
		if err == nil {
			err = f(z)
		}
		if z != nil {
			r.buffers.Put(z)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	p, err := r.hold(ctx, pack)
	if err != nil {
		return err
	}
	defer r.packs.drop(p)
	z, err := p.frames(loc.Offset, loc.Length, loc.Member)
	if err != nil {
		return err
	}
	return f(z)
}

// hold returns a pack, read and verified once for all who want it. The caller drops it.
func (r *packReader) hold(ctx context.Context, pack dataset.Hash) (*heldPack, error) {
	p, mine := r.packs.take(pack)
	if mine {
		p.z, p.err = r.load(ctx, pack, p.z)
		close(p.ready)
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		r.packs.drop(p)
		return nil, context.Cause(ctx)
	}
	if p.err != nil {
		r.packs.drop(p)
		return nil, p.err
	}
	return p, nil
}

// load reads a pack into room, if that is large enough, and once more if it did not
// arrive as it should.
func (r *packReader) load(ctx context.Context, pack dataset.Hash, room []byte) ([]byte, error) {
	ref, opener, err := r.find(pack)
	if err != nil {
		return nil, err
	}
	if int64(cap(room)) < ref.Size {
		room = make([]byte, 0, ref.Size)
	}
	z, err := r.loadOnce(ctx, ref, opener, room)
	var damage *DamageError
	if errors.As(err, &damage) {
		z, err = r.loadOnce(ctx, ref, opener, room)
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

func (r *packReader) loadOnce(ctx context.Context, ref PackRef, opener *crypto.Opener, room []byte) ([]byte, error) {
	name := PackName(r.s.Service, ref.SHA256)
	body, err := r.s.a.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", ref.SHA256, missing(name, err))
	}
	defer body.Close()
	h := sha256.New()
	left := &io.LimitedReader{R: body, N: ref.Size + 1}
	in := io.TeeReader(left, h)
	z, derr := decryptAll(opener, in, room[:0])
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

// decryptAll appends the plaintext of in to z.
func decryptAll(opener *crypto.Opener, in io.Reader, z []byte) ([]byte, error) {
	plain, err := opener.Decrypt(in)
	if err != nil {
		return nil, err
	}
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
	at := &extents{ctx: ctx, st: r.s.a.Store, name: PackName(r.s.Service, pack), size: ref.Size, buffers: r.buffers}
	defer at.free()
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
	z := r.buffers.Get(int(loc.Length))
	if _, err := plain.ReadAt(z, loc.Offset); err != nil && err != io.EOF {
		r.buffers.Put(z)
		return nil, fmt.Errorf("pack %s: %w", pack, err)
	}
	return z, nil
}

// missing says of a named object that is not there what that means: the archive is not
// whole.
func missing(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &IntegrityError{name, errors.New("is missing")}
	}
	return err
}

// extents is an object of which a few stretches have been read.
type extents struct {
	ctx  context.Context // of one ranged read
	st   Store
	name string
	size int64
	have []extent

	buffers *buffers.Pool
}

// free gives back the buffers of what has been read.
func (x *extents) free() {
	for _, e := range x.have {
		x.buffers.Put(e.data)
	}
	x.have = nil
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
		return missing(x.name, err)
	}
	data := x.buffers.Get(int(to - from))
	n, err := io.ReadFull(body, data)
	if err == nil {
		var more int
		if more, err = body.Read(make([]byte, 1)); more == 0 && err == io.EOF {
			err = nil
		}
		n += more
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	if err = errors.Join(err, body.Close()); err == nil && int64(n) != to-from {
		err = fmt.Errorf("%s: %d bytes at %d instead of %d", x.name, n, from, to-from)
	}
	if err != nil {
		x.buffers.Put(data)
		return err
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
