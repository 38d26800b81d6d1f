package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/dataset"
)

// A loader loads one stream.
type loader struct {
	target *Target
	root   *os.Root
	place  place
	gap    func(dataset.Gap)
	done   counts
}

// An item is a record on its way through the loader.
type item struct {
	entry entry
	blob  *dataset.Blob
	gap   *dataset.Gap // why it was not stored
	err   error        // why nothing more can be
	ready chan struct{}
}

// blobs writes the files of a blob stream, several at a time, and its keymap in the
// order of the records.
func (l *loader) blobs(ctx context.Context, recs iter.Seq2[dataset.Record, error]) error {
	if err := l.root.MkdirAll(l.place.objects(), 0o700); err != nil {
		return err
	}
	keymap, err := newFile(l.root, l.place.Keymap)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	order := make(chan *item, 4*l.target.o.Parallel)
	work := make(chan *item)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		return l.dispatch(ctx, recs, func(it *item) error {
			it.ready = make(chan struct{})
			if err := send(ctx, order, it); err != nil {
				return err
			}
			return send(ctx, work, it)
		})
	})
	for range l.target.o.Parallel {
		g.Go(func() error {
			for it := range work {
				it.err = l.write(ctx, it)
				close(it.ready)
				if it.err != nil {
					return it.err
				}
			}
			return nil
		})
	}
	g.Go(func() error { return l.record(ctx, order, keymap) })
	return errors.Join(g.Wait(), keymap.Close())
}

func send(ctx context.Context, to chan<- *item, it *item) error {
	select {
	case to <- it:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dispatch gives each record its path and hands it on. Of the versions of a key the
// newest goes to objects: the first if they come newest first; if they come oldest
// first, the one after which another key comes, so one record is held back.
func (l *loader) dispatch(ctx context.Context, recs iter.Seq2[dataset.Record, error], next func(*item) error) error {
	var paths dataset.Paths
	var held *item
	var last dataset.Record // with key and ordinal only
	var current string      // path of last's key
	falling := false        // this key's versions come newest first
	flush := func() error {
		if held == nil {
			return nil
		}
		it := held
		held = nil
		return next(it)
	}
	for r, err := range recs {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.Gap != nil {
			l.gap(*r.Gap)
			continue
		}
		again := current != "" && r.Key == last.Key
		if again && r.Ordinal == last.Ordinal {
			l.gap(dataset.Gap{Stream: l.place.Stream.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.DuplicateKey})
			continue
		}
		if !again {
			falling = false
			if current, err = l.path(&paths, r.Key); err != nil {
				return err
			}
		}
		it, err := newItem(r)
		if err != nil {
			l.gap(dataset.Gap{Stream: l.place.Stream.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Malformed, Detail: err.Error()})
			continue
		}
		switch {
		case !again:
		case r.Ordinal < last.Ordinal:
			falling = true
		case falling:
			return fmt.Errorf("versions of key %q neither rise nor fall", dataset.Escape(r.Key))
		case held != nil && held.blob != nil:
			held.entry.path = path.Join("versions", current, strconv.Itoa(held.entry.ordinal))
		}
		if err := flush(); err != nil {
			return err
		}
		last = dataset.Record{Key: r.Key, Ordinal: r.Ordinal}
		if it.blob != nil {
			it.entry.path = path.Join("objects", current)
			if falling {
				it.entry.path = path.Join("versions", current, strconv.Itoa(r.Ordinal))
			}
		}
		held = it
	}
	return flush()
}

// path returns the path of key below objects and versions.
func (l *loader) path(paths *dataset.Paths, key string) (string, error) {
	name, err := paths.Next(key)
	if err == nil && l.target.mark.Folds {
		name = fold(name)
	}
	return name, err
}

// newItem copies what of r does not outlive the step.
func newItem(r dataset.Record) (*item, error) {
	if err := dataset.CheckObject(r.Data); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	data, err := dataset.Compact(nil, r.Data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return &item{entry: entry{key: r.Key, ordinal: r.Ordinal, schema: r.Schema, data: data}, blob: r.Blob}, nil
}

// write writes the bytes of it, if it has any. An error means that nothing more can be
// written; what concerns this item alone is its gap.
func (l *loader) write(ctx context.Context, it *item) error {
	if it.blob == nil {
		return nil
	}
	r, err := it.blob.Open(ctx, 0, -1)
	if err != nil {
		return it.unreadable(ctx, err)
	}
	defer r.Close()
	name := path.Join(l.place.Base, it.entry.path)
	f, err := l.create(name)
	if err != nil {
		return it.refused(err)
	}
	w := &tee{f: f, h: sha256.New()}
	known, proven := r.(proven)
	if proven {
		w.h = nil
	}
	n, err := io.Copy(w, r)
	if cerr := f.Close(); w.err == nil {
		w.err = cerr
	}
	if w.err != nil {
		return errors.Join(w.err, l.root.Remove(name))
	}
	if err == nil && it.blob.Size >= 0 && n != it.blob.Size {
		err = fmt.Errorf("%d bytes came of %d", n, it.blob.Size)
	}
	it.entry.size = n
	if proven && err == nil {
		it.entry.sha256, err = known.Proven()
	} else if !proven {
		w.h.Sum(it.entry.sha256[:0])
	}
	if want := it.blob.SHA256; err == nil && !want.IsZero() && want != it.entry.sha256 {
		err = fmt.Errorf("sha256 is %s, not %s", it.entry.sha256, want)
	}
	if err != nil {
		if rerr := l.root.Remove(name); rerr != nil {
			return rerr
		}
		return it.unreadable(ctx, err)
	}
	return nil
}

// A proven reader holds its bytes against their digest itself, as those of an archive do,
// and tells it once they have come to their end. They are not hashed a second time.
type proven interface {
	Proven() (dataset.Hash, error)
}

// A tee writes to a file and a hash, and tells errors of the file from those of whoever
// is read.
type tee struct {
	f   *os.File
	h   hash.Hash // nil if somebody else hashes
	err error
}

func (t *tee) Write(p []byte) (int, error) {
	if t.h != nil {
		t.h.Write(p) // a hash never fails
	}
	n, err := t.f.Write(p)
	t.err = err
	return n, err
}

// create makes a new file, and the directories above it.
func (l *loader) create(name string) (*os.File, error) {
	const flags = os.O_CREATE | os.O_EXCL | os.O_WRONLY
	f, err := l.root.OpenFile(name, flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := l.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return l.root.OpenFile(name, flags, 0o600)
}

// unreadable notes that the bytes did not come.
func (it *item) unreadable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	it.gap = &dataset.Gap{Code: dataset.Unreadable, Detail: err.Error()}
	if g := (*dataset.Gap)(nil); errors.As(err, &g) {
		it.gap.Code, it.gap.Detail = g.Code, g.Detail
	}
	return nil
}

// refused notes that the file system does not take this name; any other error, a full
// disk for one, ends the load.
func (it *item) refused(err error) error {
	for _, ours := range []error{fs.ErrExist, syscall.ENAMETOOLONG, syscall.EILSEQ, syscall.EINVAL, syscall.EISDIR, syscall.ENOTDIR} {
		if errors.Is(err, ours) {
			it.gap = &dataset.Gap{Code: dataset.Unsupported, Detail: err.Error()}
			return nil
		}
	}
	return err
}

// record writes the keymap in the order of the records.
func (l *loader) record(ctx context.Context, order <-chan *item, keymap *file) error {
	var line []byte
	for it := range order {
		select {
		case <-it.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		if it.err != nil {
			return it.err
		}
		if it.gap != nil {
			it.gap.Stream, it.gap.Key, it.gap.Ordinal = l.place.Stream.Name, it.entry.key, it.entry.ordinal
			l.gap(*it.gap)
			continue
		}
		var err error
		if line, err = it.entry.append(line[:0]); err != nil {
			return err
		}
		if _, err := keymap.Write(line); err != nil {
			return err
		}
		l.done.Records++
		l.done.Bytes += it.entry.size
	}
	return nil
}

// fold writes capitals, which the file system cannot tell from small letters, as ^ and
// the small letter. No safe path has a ^ of its own.
func fold(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if 'A' <= c && c <= 'Z' {
			b.WriteByte('^')
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// unfold is the inverse of fold.
func unfold(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '^' && i+1 < len(name) && 'a' <= name[i+1] && name[i+1] <= 'z' {
			i++
			c = name[i] - ('a' - 'A')
		}
		b.WriteByte(c)
	}
	return b.String()
}
