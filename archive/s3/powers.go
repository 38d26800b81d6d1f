package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/s3conn"
)

// Powers are what a credential can do in a store beyond creating and reading.
type Powers struct {
	Overwrite bool // it can store other bytes under a name that is taken
	Delete    bool // it can delete an object, or the version of one
}

// Powers finds out by trying, on the object that [Store.Probe] leaves behind: it writes
// the same bytes again without a condition, and deletes that object. What it takes away
// it puts back.
func (r Remover) Powers(ctx context.Context) (Powers, error) {
	var p Powers
	if err := r.Probe(ctx); err != nil {
		return p, err
	}
	_, _, err := r.conn.Call(ctx, &s3conn.Request{Op: "overwrite object", Method: http.MethodPut, Key: probeName, Body: []byte(probeText)}, 64<<10)
	if p.Overwrite = err == nil; err != nil && !refused(err) {
		return p, fmt.Errorf("powers: %w", err)
	}
	var version string
	for info, err := range r.List(ctx, probeName) {
		if err != nil {
			return p, fmt.Errorf("powers: %w", err)
		}
		version = info.Version // the newest: what was just written again, if anything was
	}
	err = r.Remove(ctx, probeName, version)
	var locked *archive.LockedError
	if p.Delete = err == nil; err != nil && !refused(err) && !errors.As(err, &locked) {
		return p, fmt.Errorf("powers: %w", err)
	}
	if err := r.Create(ctx, probeName, []byte(probeText)); err != nil && !errors.Is(err, fs.ErrExist) {
		return p, fmt.Errorf("powers: %w", err)
	}
	return p, nil
}

// refused reports whether the store said no, as opposed to not answering.
func refused(err error) bool {
	return errors.Is(err, s3conn.ErrDenied) || errors.Is(err, s3conn.ErrPrecondition) || errors.Is(err, s3conn.ErrLocked)
}
