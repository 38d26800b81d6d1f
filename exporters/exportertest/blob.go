package exportertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/dataset"
)

// maxWhole is the size up to which a blob is held in memory to be compared with its
// ranges.
const maxWhole = 16 << 20

// checkBlob reads b whole and in ranges, at once.
func (c *checker) checkBlob(ctx context.Context, id identity, b *dataset.Blob) {
	if b.Size > maxWhole {
		if _, n, err := sumBlob(ctx, b); err != nil {
			c.breach("blob of %v: %w", id, err)
		} else if n != b.Size {
			c.breach("blob of %v has %d bytes, said %d", id, n, b.Size)
		}
		return
	}
	whole, err := readBlob(ctx, b, 0, -1)
	if gap := (*dataset.Gap)(nil); errors.As(err, &gap) {
		return // a blob may turn out to be a gap when it is opened
	}
	size := int64(len(whole))
	switch {
	case err != nil:
		c.breach("blob of %v: %w", id, err)
		return
	case b.Size >= 0 && size != b.Size:
		c.breach("blob of %v has %d bytes, said %d", id, size, b.Size)
		return
	case size == 0:
		return
	}
	var g errgroup.Group
	for _, r := range [][2]int64{{0, 1}, {0, size}, {size - 1, 1}, {size / 2, -1}, {size / 3, (size + 2) / 3}} {
		g.Go(func() error {
			off, n := r[0], r[1]
			part, err := readBlob(ctx, b, off, n)
			if err != nil {
				return fmt.Errorf("%d bytes at %d: %w", n, off, err)
			}
			if n < 0 {
				n = size - off
			}
			if !bytes.Equal(part, whole[off:off+n]) {
				return fmt.Errorf("%d bytes at %d are not those of the whole", n, off)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		c.breach("blob of %v: %w", id, err)
	}
}

func readBlob(ctx context.Context, b *dataset.Blob, off, n int64) ([]byte, error) {
	r, err := b.Open(ctx, off, n)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// sumBlob returns the SHA-256 and the length of all of b.
func sumBlob(ctx context.Context, b *dataset.Blob) (dataset.Hash, int64, error) {
	r, err := b.Open(ctx, 0, -1)
	if err != nil {
		return dataset.Hash{}, 0, err
	}
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return dataset.Hash{}, 0, err
	}
	return dataset.Hash(h.Sum(nil)), n, nil
}
