package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// frameSize is how much of the tar stream goes into one zstd frame, and the window
// of every frame. A frame holds whole members or a run of one member.
const frameSize = 1 << 20

// maxFrame bounds what one frame may decode to: a batch of small members may exceed
// frameSize by its last one.
const maxFrame = 2 * frameSize

// A codec holds one encoder and one decoder; both work on whole frames and keep no
// state between them.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	tmp []byte
}

// codecs keeps codecs for their next use. A sync.Pool would lose them at each garbage
// collection, of which a memory limit makes many; one takes some 4 MiB.
var codecs = make(chan *codec, 8)

func getCodec() *codec {
	select {
	case c := <-codecs:
		return c
	default:
		return newCodec()
	}
}

func (c *codec) free() {
	select {
	case codecs <- c:
	default:
	}
}

func newCodec() *codec {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(frameSize),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err) // constant options
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*PackSize),
		zstd.WithDecoderMaxWindow(maxFrame), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return &codec{enc: enc, dec: dec}
}

// compress appends one frame that holds raw to dst, and makes sure that it decodes to
// raw again before anyone relies on it.
func compress(dst, raw []byte) ([]byte, error) {
	c := getCodec()
	defer c.free()
	start := len(dst)
	dst = c.enc.EncodeAll(raw, dst)
	if cap(c.tmp) < maxFrame {
		c.tmp = make([]byte, 0, maxFrame)
	}
	back, err := c.dec.DecodeAll(dst[start:], c.tmp[:0])
	if err != nil || !bytes.Equal(back, raw) {
		return nil, fmt.Errorf("zstd frame does not decode to what was encoded (faulty memory or processor?): %v", err)
	}
	return dst, nil
}

// decompress decodes consecutive frames and appends what they hold to dst, which must
// have room for all of it: more than that is refused, whatever the frames claim.
func decompress(dst, frames []byte) ([]byte, error) {
	c := getCodec()
	defer c.free()
	out, err := c.dec.DecodeAll(frames, dst)
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return out, nil
}

// decompressOne decodes the frame of small members, in no more room than it claims to
// need, which may not be more than such a frame has.
func decompressOne(frame []byte) ([]byte, error) {
	room := maxFrame
	var h zstd.Header
	if err := h.Decode(frame); err == nil && h.HasFCS && h.FrameContentSize < maxFrame {
		room = int(h.FrameContentSize)
	}
	return decompress(make([]byte, 0, room), frame)
}

// A frameInfo is an entry of the seek table.
type frameInfo struct{ compressed, raw uint32 }

const (
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	seekFooter     = 9
)

// seekTableSize is the size of the skippable frame that ends a pack of n frames.
func seekTableSize(n int) int64 { return 8 + 8*int64(n) + seekFooter }

// seekTable makes the skippable frame of the seekable format (zstd,
// contrib/seekable_format/zstd_seekable_compression_format.md, without checksums: the
// frames have their own).
func seekTable(frames []frameInfo) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, seekTableSize(len(frames)))
	b = le.AppendUint32(b, skippableMagic)
	b = le.AppendUint32(b, uint32(8*len(frames)+seekFooter))
	for _, f := range frames {
		b = le.AppendUint32(b, f.compressed)
		b = le.AppendUint32(b, f.raw)
	}
	b = le.AppendUint32(b, uint32(len(frames)))
	b = append(b, 0)
	return le.AppendUint32(b, seekableMagic)
}

// parseSeekTable reads the seek table at the end of a zstd stream. The frames it
// names are exactly the rest of the stream.
func parseSeekTable(z []byte) ([]frameInfo, error) {
	bad := errors.New("malformed seek table")
	le := binary.LittleEndian
	if len(z) < 8+seekFooter || le.Uint32(z[len(z)-4:]) != seekableMagic || z[len(z)-5] != 0 {
		return nil, bad
	}
	n := int64(le.Uint32(z[len(z)-9:]))
	size := seekTableSize(int(n))
	if n > 1<<20 || size > int64(len(z)) {
		return nil, bad
	}
	table := z[int64(len(z))-size:]
	if le.Uint32(table) != skippableMagic || int64(le.Uint32(table[4:])) != size-8 {
		return nil, bad
	}
	frames, total := make([]frameInfo, n), int64(0)
	for i := range frames {
		frames[i] = frameInfo{le.Uint32(table[8+8*i:]), le.Uint32(table[12+8*i:])}
		if frames[i].raw > maxFrame {
			return nil, fmt.Errorf("frame %d claims %d bytes", i, frames[i].raw)
		}
		total += int64(frames[i].compressed)
	}
	if total != int64(len(z))-size {
		return nil, bad
	}
	return frames, nil
}
