package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

const (
	// PackSize is what a pack's ciphertext never exceeds.
	PackSize = 32 << 20

	// SegmentSize is the largest stretch of a blob that is one member.
	SegmentSize = 8 << 20

	// MaxRecord is the longest line of a record; a longer one is a gap.
	MaxRecord = 30 << 20

	// maxLine is the longest line of any part, with its line feed: a record with its
	// envelope, or a blob in some 200,000 segments (1.6 TiB).
	maxLine = MaxRecord + 1<<20

	// smallMember is below what members share frames.
	smallMember = frameSize / 2

	ageChunk = 64 << 10 // STREAM chunk of age, without its 16-byte tag
	ageTag   = 16
)

// A pack is the identity of a pack that may still be open.
type pack struct {
	done   chan struct{} // closed when hash, size and err are final
	hash   dataset.Hash
	size   int64
	key    dataset.Hash
	run    RunID
	number int // in the journal
	err    error
}

// wait returns when the pack is durable in the store, or will never be.
func (p *pack) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// durable reports whether the pack is in the store.
func (p *pack) durable() bool {
	select {
	case <-p.done:
		return p.err == nil
	default:
		return false
	}
}

// A Placement is where a member went. It is known once the frame that holds it has
// been put into a pack, which for small members is when their frame is full.
type Placement struct {
	placed chan struct{} // closed when the fields below are final
	err    error
	pack   *pack
	offset int64 // of the frames that hold the member, in the zstd stream
	length int64
	member string
	size   int64
}

func (p *Placement) wait(ctx context.Context) error {
	select {
	case <-p.placed:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A packer fills packs of one run key. Members come from any goroutine; frames are
// compressed by the goroutine that brings or completes them; a pack that is full is
// hashed and stored in the background while the next one fills. Slabs bound the
// memory: when none is free, bringing a member waits.
type packer struct {
	sealer  *crypto.Sealer
	slabs   *slabs
	benches chan *workbench
	create  func(p *pack, data []byte) error
	newPack func() *pack
	uploads *errgroup.Group
	limit   int64 // bytes of ciphertext in a pack

	mu    sync.Mutex // guards the batch
	batch batch
	spare [][]byte // rooms of batches that are done

	appending sync.Mutex // guards the pack that fills; held while waiting for a slab
	open      *openPack
}

// A batch is a frame of small members that is not full yet.
type batch struct {
	tar     []byte
	members []*Placement
}

// An openPack is a pack that fills.
type openPack struct {
	*pack
	out    slabWriter // ciphertext so far
	header int        // bytes of out that the age header and nonce take
	age    io.WriteCloser
	zstd   int64 // bytes of the zstd stream so far
	frames []frameInfo
}

// A slabWriter appends to a slab, which has room for a pack of the usual size; a
// single member may need more of it, up to [PackSize].
type slabWriter struct{ b []byte }

func (w *slabWriter) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > PackSize {
		return 0, errors.New("pack exceeds its slab")
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// put brings a member. data is not used after put returns.
func (k *packer) put(ctx context.Context, name string, data []byte) (*Placement, error) {
	p := &Placement{placed: make(chan struct{}), member: name, size: int64(len(data))}
	if len(data) >= smallMember {
		return p, k.putLarge(ctx, p, data)
	}
	k.mu.Lock()
	if k.batch.tar == nil {
		k.batch.tar = k.room()
	}
	k.batch.tar = appendMember(k.batch.tar, name, data)
	k.batch.members = append(k.batch.members, p)
	var full batch
	if len(k.batch.tar) >= k.frame() {
		full, k.batch = k.batch, batch{}
	}
	k.mu.Unlock()
	return p, k.putBatch(ctx, full)
}

// frame is how many bytes of small members make a frame: fewer in small packs.
func (k *packer) frame() int { return int(min(frameSize, k.limit)) }

func appendMember(tar []byte, name string, data []byte) []byte {
	tar = appendTarHeader(tar, name, int64(len(data)))
	tar = append(tar, data...)
	return append(tar, tarTrailer[:paddedSize(int64(len(data)))-tarBlock-int64(len(data))]...)
}

// room returns an empty buffer for a batch. k.mu is held.
func (k *packer) room() []byte {
	if n := len(k.spare); n > 0 {
		b := k.spare[n-1]
		k.spare = k.spare[:n-1]
		return b
	}
	return make([]byte, 0, k.frame()+smallMember+tarBlock)
}

// putBatch turns a batch into a frame.
func (k *packer) putBatch(ctx context.Context, b batch) error {
	if len(b.members) == 0 {
		return nil
	}
	w, err := k.bench(ctx)
	if err == nil {
		if w.z, err = compress(w.z[:0], b.tar); err == nil {
			err = k.append(ctx, b.members, w.z, []frameInfo{{uint32(len(w.z)), uint32(len(b.tar))}})
		}
		k.benches <- w
	}
	for _, p := range b.members {
		if err != nil {
			p.err = err
		}
		close(p.placed)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.spare) < cap(k.benches) {
		k.spare = append(k.spare, b.tar[:0])
	}
	return err
}

func (k *packer) bench(ctx context.Context) (*workbench, error) {
	select {
	case w := <-k.benches:
		return w, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// putLarge compresses a member into frames of its own.
func (k *packer) putLarge(ctx context.Context, p *Placement, data []byte) error {
	w, err := k.bench(ctx)
	if err == nil {
		var frames []frameInfo
		if frames, err = w.frames(p.member, data); err == nil {
			err = k.append(ctx, []*Placement{p}, w.z, frames)
		}
		if cap(w.z) > 2*SegmentSize {
			w.z = nil // of a long line, of which there are few
		}
		k.benches <- w
	}
	p.err = err
	close(p.placed)
	return err
}

// append puts frames into the pack that fills, or into the next one if they would
// take it above PackSize.
func (k *packer) append(ctx context.Context, members []*Placement, z []byte, frames []frameInfo) error {
	k.appending.Lock()
	defer k.appending.Unlock()
	if k.open != nil && !k.open.hasRoom(k.limit, len(z), len(frames)) {
		if err := k.closePack(ctx); err != nil {
			return err
		}
	}
	if k.open == nil {
		if err := k.openPack(ctx); err != nil {
			return err
		}
		if !k.open.hasRoom(PackSize, len(z), len(frames)) {
			return fmt.Errorf("member %s does not fit into a pack", members[0].member)
		}
	}
	for _, p := range members {
		p.pack, p.offset, p.length = k.open.pack, k.open.zstd, int64(len(z))
	}
	return k.open.write(z, frames)
}

func (o *openPack) write(z []byte, frames []frameInfo) error {
	if _, err := o.age.Write(z); err != nil {
		return err
	}
	o.zstd += int64(len(z))
	o.frames = append(o.frames, frames...)
	return nil
}

// hasRoom reports whether the pack, closed after n more bytes in so many frames, would
// still be within PackSize.
func (o *openPack) hasRoom(limit int64, n, frames int) bool {
	const trailer = 64 // more than 1,024 zero bytes take as a frame
	plain := o.zstd + int64(n) + trailer + seekTableSize(len(o.frames)+frames+1)
	return int64(o.header)+plain+ageTag*(plain/ageChunk+1) <= limit
}

func (k *packer) openPack(ctx context.Context) error {
	slab, err := k.slabs.get(ctx)
	if err != nil {
		return err
	}
	o := &openPack{pack: k.newPack(), out: slabWriter{slab[:0]}}
	w, err := k.sealer.Encrypt(&o.out)
	if err != nil {
		k.slabs.put(slab)
		return fmt.Errorf("seal pack: %w", err)
	}
	o.age, o.header = w, len(o.out.b)
	k.open = o
	return nil
}

// closePack ends the pack that fills and stores it in the background.
func (k *packer) closePack(ctx context.Context) error {
	o := k.open
	k.open = nil
	end, err := compress(nil, tarTrailer)
	if err == nil {
		err = o.write(end, []frameInfo{{uint32(len(end)), uint32(len(tarTrailer))}})
	}
	if err == nil {
		_, err = o.age.Write(seekTable(o.frames))
	}
	if err == nil {
		err = o.age.Close()
	}
	if err != nil {
		err = fmt.Errorf("close pack: %w", err)
		k.settle(o, err)
		return err
	}
	k.uploads.Go(func() error {
		o.hash, o.size = dataset.Sum(o.out.b), int64(len(o.out.b))
		err := k.create(o.pack, o.out.b)
		k.settle(o, err)
		return err
	})
	return nil
}

// settle makes the pack's fate known and frees its slab.
func (k *packer) settle(o *openPack, err error) {
	o.pack.err = err
	close(o.pack.done)
	k.slabs.put(o.out.b)
}

// flushBatch places the small members that wait for their frame to fill.
func (k *packer) flushBatch(ctx context.Context) error {
	k.mu.Lock()
	b := k.batch
	k.batch = batch{}
	k.mu.Unlock()
	return k.putBatch(ctx, b)
}

// flush places everything and closes the pack that fills.
func (k *packer) flush(ctx context.Context) error {
	if err := k.flushBatch(ctx); err != nil {
		return err
	}
	k.appending.Lock()
	defer k.appending.Unlock()
	if k.open == nil {
		return nil
	}
	return k.closePack(ctx)
}
