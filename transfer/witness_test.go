package transfer

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

// A sealedReader is a reader of an archive: it proves what it delivered.
type sealedReader struct {
	io.Reader
	sum dataset.Hash
}

func (r sealedReader) Proven() (dataset.Hash, error) { return r.sum, nil }
func (r sealedReader) Close() error                  { return nil }

func TestWatchedBlobStaysProvenSoThatItIsHashedOnce(t *testing.T) {
	t.Parallel()
	sum := dataset.Sum([]byte("bytes"))
	var w witness
	b := w.watch(&dataset.Blob{Open: func(context.Context, int64, int64) (io.ReadCloser, error) {
		return sealedReader{strings.NewReader("bytes"), sum}, nil
	}})
	r, err := b.Open(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, ok := r.(proven)
	if !ok {
		t.Fatal("a watched reader of an archive proves nothing any more")
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Proven(); got != sum || err != nil {
		t.Errorf("Proven = %s, %v; want %s", got, err, sum)
	}
	b = w.watch(&dataset.Blob{Open: func(context.Context, int64, int64) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("bytes")), nil
	}})
	r, err = b.Open(t.Context(), 0, -1)
	if _, ok := r.(proven); ok || err != nil {
		t.Errorf("a reader that proves nothing is taken for one that does (%v)", errors.Join(err))
	}
}
