package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// A store retries what it knows to be worth it. What it cannot know is whether a
// request that was not answered took effect: that is settled here, by looking, and by
// asking again if nothing is there.
const (
	settleTries = 5
	settlePause = 50 * time.Millisecond // once, twice, ... as long between tries
)

// settle creates an object. After any answer but success it looks: there returns nil
// if the object is in the store as it should be, an error that is [fs.ErrNotExist] if
// it is not, and one that is [fs.ErrExist] if the name is taken by something else.
func settle(ctx context.Context, st Store, name string, data []byte, there func(context.Context) error) error {
	var last error
	for try := range settleTries {
		if err := sleep(ctx, time.Duration(try)*settlePause); err != nil {
			return errors.Join(last, err)
		}
		if last = st.Create(ctx, name, data); last == nil || ctx.Err() != nil {
			return last
		}
		switch err := there(ctx); {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrExist):
			return err
		case !errors.Is(err, fs.ErrNotExist):
			last = errors.Join(last, err)
		}
		if errors.Is(last, ErrNoConditionalWrites) {
			return last
		}
	}
	return last
}

// createSame creates an object, and returns nil exactly if the store now holds data
// under name. It fails with [fs.ErrExist] if it holds other bytes.
func createSame(ctx context.Context, st Store, name string, data []byte) error {
	return settle(ctx, st, name, data, func(ctx context.Context) error {
		got, err := readAll(ctx, st, name, int64(len(data)))
		var longer *IntegrityError
		if err == nil && !bytes.Equal(got, data) || errors.As(err, &longer) {
			return fmt.Errorf("%s: %w with other bytes", name, fs.ErrExist)
		}
		return err
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
