package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dwp/sallyport/archive"
)

// Signed returns the checkpoints of the log that are there and validly signed, smallest
// first, and findings about those that are not. It reads no entries, so it says of a
// bundle, which has none, all that can be said.
func (r *Reader) Signed(ctx context.Context) (signed []archive.Checkpoint, wrong []Finding, err error) {
	for info, err := range r.s.List(ctx, r.s.folder()+"checkpoints/") {
		if err != nil {
			return nil, nil, fmt.Errorf("list checkpoints of %s: %w", r.s.log, err)
		}
		tree, text, err := r.readCheckpoint(ctx, info.Name)
		if err == nil {
			_, err = r.signer(ctx, text, time.Time{})
		}
		var bad *badError
		switch {
		case errors.As(err, &bad):
			wrong = append(wrong, Finding{Name: info.Name, Problem: bad.Error()})
		case err != nil:
			return nil, nil, err
		default:
			signed = append(signed, r.s.checkpoint(tree))
		}
	}
	return signed, wrong, nil
}
