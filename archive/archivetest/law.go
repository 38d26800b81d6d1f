package archivetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// CheckStore says how st, which must be empty, breaks the law of stores.
func CheckStore(ctx context.Context, st archive.Store) error {
	return errors.Join(
		checkMissing(ctx, st),
		checkCreateOnce(ctx, st),
		checkRanges(ctx, st),
		checkListing(ctx, st),
		checkRace(ctx, st),
	)
}

// name makes a legal name of a pack.
func name(seed string) string {
	h := dataset.Sum([]byte(seed)).String()
	return "law/packs/" + h[:2] + "/" + h
}

func read(ctx context.Context, st archive.Store, name string, off, n int64) ([]byte, error) {
	r, err := st.Open(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func checkMissing(ctx context.Context, st archive.Store) error {
	if _, err := read(ctx, st, name("missing"), 0, -1); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening a missing object: %v; want fs.ErrNotExist", err)
	}
	if _, err := read(ctx, st, name("missing"), 5, 10); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening a range of a missing object: %v; want fs.ErrNotExist", err)
	}
	if rm, ok := st.(archive.Remover); ok {
		if err := rm.Remove(ctx, name("missing"), ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a missing object: %v; want fs.ErrNotExist", err)
		}
	}
	return nil
}

func checkCreateOnce(ctx context.Context, st archive.Store) error {
	if err := st.Create(ctx, name("once"), []byte("first")); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := st.Create(ctx, name("once"), []byte("second")); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating a taken name: %v; want fs.ErrExist", err)
	}
	got, err := read(ctx, st, name("once"), 0, -1)
	if err != nil || string(got) != "first" {
		return fmt.Errorf("after a refused create the object holds %q, %v", got, err)
	}
	return nil
}

func checkRanges(ctx context.Context, st archive.Store) error {
	data := bytes.Repeat([]byte("0123456789"), 10000)
	if err := st.Create(ctx, name("ranges"), data); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for _, r := range []struct{ off, n int64 }{{0, -1}, {0, 1}, {99999, 1}, {12345, 54321}, {50000, -1}, {99990, 10}} {
		want := data[r.off:]
		if r.n >= 0 {
			want = want[:r.n]
		}
		got, err := read(ctx, st, name("ranges"), r.off, r.n)
		if err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("range %d+%d: %d bytes, %v", r.off, r.n, len(got), err)
		}
	}
	return nil
}

func checkListing(ctx context.Context, st archive.Store) error {
	want := map[string]int64{}
	for i := range 40 {
		n := name(fmt.Sprint("list", i))
		if err := st.Create(ctx, n, bytes.Repeat([]byte{'x'}, i+1)); err != nil {
			return fmt.Errorf("create: %w", err)
		}
		want[n] = int64(i + 1)
	}
	last := ""
	for info, err := range st.List(ctx, "law/packs/") {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if info.Name <= last {
			return fmt.Errorf("list: %q after %q", info.Name, last)
		}
		last = info.Name
		if size, ok := want[info.Name]; ok && size != info.Size {
			return fmt.Errorf("list: %s has %d bytes; want %d", info.Name, info.Size, size)
		}
		if info.Time.IsZero() {
			return fmt.Errorf("list: %s has no time", info.Name)
		}
		delete(want, info.Name)
	}
	if len(want) > 0 {
		return fmt.Errorf("list: %d objects are missing", len(want))
	}
	one := name("list7")
	for _, prefix := range []string{one, one[:len(one)-3]} {
		n := 0
		for info, err := range st.List(ctx, prefix) {
			if err != nil || !strings.HasPrefix(info.Name, prefix) {
				return fmt.Errorf("list %q: %q, %v", prefix, info.Name, err)
			}
			n++
		}
		if n != 1 {
			return fmt.Errorf("list %q: %d objects; want 1", prefix, n)
		}
	}
	for range st.List(ctx, "law/") { // stopping early is allowed
		break
	}
	return nil
}

// checkRace lets many writers create one name: exactly one may win.
func checkRace(ctx context.Context, st archive.Store) error {
	const writers = 16
	var wg sync.WaitGroup
	won := make([]bool, writers)
	errs := make([]error, writers)
	for i := range writers {
		wg.Go(func() {
			err := st.Create(ctx, name("race"), fmt.Appendf(nil, "writer %02d", i))
			won[i] = err == nil
			if err != nil && !errors.Is(err, fs.ErrExist) {
				errs[i] = fmt.Errorf("racing create: %w", err)
			}
		})
	}
	wg.Wait()
	winner := -1
	for i, w := range won {
		if w && winner >= 0 {
			return fmt.Errorf("writers %d and %d both created one name", winner, i)
		}
		if w {
			winner = i
		}
	}
	got, err := read(ctx, st, name("race"), 0, -1)
	if err == nil && winner >= 0 && string(got) != fmt.Sprintf("writer %02d", winner) {
		err = fmt.Errorf("writer %d won, but the object holds %q", winner, got)
	}
	return errors.Join(append(errs, err)...)
}
