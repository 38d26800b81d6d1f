package dir

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A view is what reading any directory needs.
type view struct {
	root *os.Root
	name string

	mu     sync.Mutex
	closed bool
}

var errClosed = errors.New("directory was closed")

func (v *view) alive(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return errClosed
	}
	return ctx.Err()
}

// Close ends the view. It may be called more than once.
func (v *view) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.closed = true
	return v.root.Close()
}

// one returns the single stream of q, for all streams of directories are alone.
func one(q exporters.Query) (dataset.Stream, error) {
	if len(q.Streams) != 1 {
		return dataset.Stream{}, errors.New("directories are read stream by stream")
	}
	if q.Range != (dataset.Range{}) || q.After != "" {
		return dataset.Stream{}, errors.New("directories have neither ranges nor cursors")
	}
	return q.Streams[0], nil
}
