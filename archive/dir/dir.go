// Package dir keeps an archive in a directory: an object is a file of the same name.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/durable"
)

// A Store is an [archive.Remover] in a directory. Files appear whole and durable under
// their names or not at all (see [durable.Dir]), and never change. It follows no
// symbolic link out of the directory.
type Store struct {
	root *os.Root
	tree *durable.Dir
}

// staging is where files lie that have no name yet; it is no part of the archive.
const staging = ".tmp"

// Open opens the store at path, making the directory if it is missing. The caller
// closes.
func Open(path string) (*Store, error) {
	tree, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, errors.Join(err, tree.Close())
	}
	return &Store{root, tree}, nil
}

// Close closes the directory.
func (s *Store) Close() error { return errors.Join(s.root.Close(), s.tree.Close()) }

// Create implements [archive.Store].
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.tree.Create(name, data)
}

// Open implements [archive.Store].
func (s *Store) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, f.Close(), &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")})
	}
	if off == 0 && n < 0 {
		return f, nil
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if n < 0 {
		return f, nil
	}
	return &ranged{io.LimitReader(f, n), f}, nil
}

type ranged struct {
	io.Reader
	io.Closer
}

// List implements [archive.Store].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return func(yield func(archive.Info, error) bool) {
		start, _ := path.Split(prefix)
		s.walk(ctx, strings.TrimSuffix(start, "/"), prefix, yield)
	}
}

// walk yields the files below dir whose names begin with prefix, in byte order: a
// directory sorts as if its name ended in a slash, because its files' names do go on
// so.
func (s *Store) walk(ctx context.Context, dir, prefix string, yield func(archive.Info, error) bool) bool {
	if err := ctx.Err(); err != nil {
		return yield(archive.Info{}, err)
	}
	entries, err := readDir(s.root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	} else if err != nil {
		return yield(archive.Info{}, err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if name == staging {
			continue
		}
		if e.IsDir() {
			below := name + "/"
			if (strings.HasPrefix(below, prefix) || strings.HasPrefix(prefix, below)) && !s.walk(ctx, name, prefix, yield) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a collector was here
		} else if err != nil {
			return yield(archive.Info{}, fmt.Errorf("list %s: %w", name, err))
		}
		if !yield(archive.Info{Name: name, Size: info.Size(), Time: info.ModTime()}, nil) {
			return false
		}
	}
	return true
}

func readDir(root *os.Root, dir string) ([]fs.DirEntry, error) {
	if dir == "" {
		dir = "."
	}
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	err = errors.Join(err, f.Close())
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	return entries, err
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

// Remove implements [archive.Remover]. Directories have no versions.
func (s *Store) Remove(ctx context.Context, name, version string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if version != "" {
		return fmt.Errorf("remove %s: a directory has no versions", name)
	}
	return s.tree.Remove(name)
}

// Now implements [archive.Clock]: a directory's files carry this host's time.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return time.Now(), ctx.Err() }
