package transfer

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A witness remembers why an archive could not give the bytes of a blob. A target makes
// a gap of it, in words; that the archive is damaged, or its key is another, must not be
// lost in them.
type witness struct {
	mu    sync.Mutex
	cause error // the first
}

// watch returns b with its reads watched.
func (w *witness) watch(b *dataset.Blob) *dataset.Blob {
	watched := *b
	watched.Open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		r, err := b.Open(ctx, off, n)
		if err != nil {
			return nil, w.saw(err)
		}
		if p, ok := r.(proven); ok {
			return &provenReader{watchedReader{r, w}, p}, nil
		}
		return &watchedReader{r, w}, nil
	}
	return &watched
}

// saw returns err.
func (w *witness) saw(err error) error {
	var damage *archive.DamageError
	var wrong *archive.IntegrityError
	if errors.As(err, &damage) || errors.As(err, &wrong) || errors.Is(err, crypto.ErrNoKey) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cause == nil {
			w.cause = err
		}
	}
	return err
}

func (w *witness) first() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

type watchedReader struct {
	io.ReadCloser
	w *witness
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	return n, r.w.saw(err)
}

// WriteTo implements [io.WriterTo], as readers of archives do.
func (r *watchedReader) WriteTo(to io.Writer) (int64, error) {
	n, err := io.Copy(to, r.ReadCloser)
	return n, r.w.saw(err)
}

// A proven reader holds its bytes against their digest, so that no target need hash them
// again; see exporters/dir.
type proven interface {
	Proven() (dataset.Hash, error)
}

type provenReader struct {
	watchedReader
	proven
}
