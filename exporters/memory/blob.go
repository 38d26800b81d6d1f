package memory

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/dwp/sallyport/dataset"
)

// Bytes returns a blob that holds b.
func Bytes(b []byte) *dataset.Blob {
	return fromReaderAt(int64(len(b)), func() io.ReaderAt { return bytes.NewReader(b) })
}

// Random returns a blob of size pseudo-random bytes that depend on seed alone. It
// takes no memory, whatever its size.
func Random(seed uint64, size int64) *dataset.Blob {
	return fromReaderAt(size, func() io.ReaderAt { return noise(seed) })
}

// Unsized returns b as a blob that does not tell its size.
func Unsized(b *dataset.Blob) *dataset.Blob {
	return &dataset.Blob{Size: -1, Open: b.Open}
}

// Broken returns b as a blob whose reads end in err (nil: a clean end that comes too
// early) at byte off.
func Broken(b *dataset.Blob, off int64, err error) *dataset.Blob {
	if err == nil {
		err = io.EOF
	}
	return &dataset.Blob{Size: b.Size, Open: func(ctx context.Context, from, n int64) (io.ReadCloser, error) {
		r, e := b.Open(ctx, from, n)
		if e != nil {
			return nil, e
		}
		return &broken{ReadCloser: r, left: max(0, off-from), err: err}, nil
	}}
}

type broken struct {
	io.ReadCloser
	left int64
	err  error
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func fromReaderAt(size int64, open func() io.ReaderAt) *dataset.Blob {
	return &dataset.Blob{Size: size, Open: func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if off < 0 || off > size {
			return nil, fmt.Errorf("memory: offset %d of a blob of %d bytes", off, size)
		}
		if n < 0 || n > size-off {
			n = size - off
		}
		return io.NopCloser(io.NewSectionReader(open(), off, n)), nil
	}}
}

// noise is endless pseudo-random text: word i is a hash of the seed and i.
type noise uint64

func (s noise) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		word, skip := uint64(off+int64(n))/8, int(off+int64(n))%8
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], mix(uint64(s), word))
		n += copy(p[n:], b[skip:])
	}
	return len(p), nil
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood 2014).
func mix(seed, i uint64) uint64 {
	z := seed + (i+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Row returns the records of a made-up table, for [Source.Generate]: the same for the
// same seed.
func Row(seed uint64) func(i int) dataset.Record {
	return func(i int) dataset.Record {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		return dataset.Record{
			Key: fmt.Sprintf("[%d]", i),
			Data: fmt.Appendf(nil, `{"id":%d,"name":"person %x","amount":"%d.%02d","open":%t}`,
				i, r.Uint32(), r.IntN(1_000_000), r.IntN(100), r.IntN(2) == 0),
		}
	}
}

// RowStream describes what [Row] makes.
func RowStream(name string) dataset.Stream {
	return dataset.Stream{Name: name, Schema: &dataset.Schema{
		PrimaryKey: []string{"id"},
		Fields: []dataset.Field{
			{Name: "id", Type: dataset.Integer, Required: true},
			{Name: "name", Type: dataset.String},
			{Name: "amount", Type: dataset.Number, Lexical: dataset.Text},
			{Name: "open", Type: dataset.Boolean},
		},
	}}
}

// Object returns the records of a made-up bucket, for [Source.Generate], in key order
// and a thousand to a prefix: blobs of smallest to largest bytes, the same for the
// same seed.
func Object(seed uint64, smallest, largest int64) func(i int) dataset.Record {
	return func(i int) dataset.Record {
		size := smallest + int64(mix(seed, uint64(i))%uint64(max(0, largest-smallest)+1))
		return dataset.Record{
			Key:  fmt.Sprintf("%06d/object-%09d", i/1000, i),
			Data: fmt.Appendf(nil, `{"size":%d,"etag":"%016x"}`, size, mix(^seed, uint64(i))),
			Blob: Random(mix(seed, uint64(i)), size),
		}
	}
}
