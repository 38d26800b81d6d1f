// Package durabletest is a file system in memory that fails when told to and, when the
// power goes, forgets what was not synced: the adversary of internal/durable and of
// what is built on it.
package durabletest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dwp/sallyport/internal/durable"
)

// An Op is one operation on a [Sim].
type Op struct {
	N    int    // from 1, in the order of the calls
	Kind string // open, mkdir, link, rename, remove, readdir, read, write, truncate, sync
	Path string
}

// A Sim is a [durable.FS] in memory. The zero Sim is empty and faultless. It is safe
// for concurrent use.
//
// It is as unkind as POSIX allows. Until a file is synced, a power cut may leave any
// of its old bytes, a part of the new ones, zeros or garbage; until a directory is
// synced, each of its names may be as before or as now, one independently of the
// other. A sync that failed once makes later ones of that file succeed and do nothing.
type Sim struct {
	// Before is asked before an operation; an error prevents it, except that a write
	// still writes half. After is asked afterwards; an error hides that it worked. Both
	// may be nil, and are set before the Sim is used.
	Before, After func(Op) error

	mu   sync.Mutex
	n    int
	root *inode
}

type inode struct {
	dir     bool
	data    []byte
	synced  []byte
	lost    bool // a sync failed: dirty pages are gone and nobody will be told again
	entries map[string]*inode
	durable map[string]*inode
}

func newDir() *inode {
	return &inode{dir: true, entries: make(map[string]*inode), durable: make(map[string]*inode)}
}

// do runs one operation between its two faults. The caller holds no lock.
func (s *Sim) do(kind, name string, op func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		s.root = newDir()
	}
	s.n++
	o := Op{s.n, kind, name}
	if s.Before != nil {
		if err := s.Before(o); err != nil {
			return &fs.PathError{Op: kind, Path: name, Err: err}
		}
	}
	if err := op(); err != nil {
		return &fs.PathError{Op: kind, Path: name, Err: err}
	}
	if s.After != nil {
		if err := s.After(o); err != nil {
			return &fs.PathError{Op: kind, Path: name, Err: err}
		}
	}
	return nil
}

// Ops returns the number of operations so far.
func (s *Sim) Ops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *Sim) find(name string) (*inode, error) {
	at := s.root
	if name == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !at.dir {
			return nil, syscall.ENOTDIR
		}
		next, ok := at.entries[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		at = next
	}
	return at, nil
}

// place returns the directory that name is in.
func (s *Sim) place(name string) (*inode, string, error) {
	dir, err := s.find(path.Dir(name))
	if err == nil && !dir.dir {
		err = syscall.ENOTDIR
	}
	return dir, path.Base(name), err
}

// OpenFile implements [durable.FS]. Flags other than O_CREATE, O_EXCL and O_APPEND
// are not looked at: every write appends.
func (s *Sim) OpenFile(name string, flag int, _ fs.FileMode) (durable.File, error) {
	var f *simFile
	err := s.do("open", name, func() error {
		node, err := s.find(name)
		switch {
		case err == nil && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
			dir, base, err := s.place(name)
			if err != nil {
				return err
			}
			node = new(inode)
			dir.entries[base] = node
		case err != nil:
			return err
		}
		f = &simFile{s: s, name: name, node: node}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Mkdir implements [durable.FS].
func (s *Sim) Mkdir(name string, _ fs.FileMode) error {
	return s.do("mkdir", name, func() error {
		dir, base, err := s.place(name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return fs.ErrExist
		}
		dir.entries[base] = newDir()
		return nil
	})
}

// Link implements [durable.FS].
func (s *Sim) Link(oldname, newname string) error {
	return s.do("link", newname, func() error {
		node, err := s.find(oldname)
		if err != nil {
			return err
		}
		dir, base, err := s.place(newname)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return fs.ErrExist
		}
		dir.entries[base] = node
		return nil
	})
}

// Rename implements [durable.FS].
func (s *Sim) Rename(oldname, newname string) error {
	return s.do("rename", newname, func() error {
		node, err := s.find(oldname)
		if err != nil {
			return err
		}
		from, oldBase, err := s.place(oldname)
		if err != nil {
			return err
		}
		to, newBase, err := s.place(newname)
		if err != nil {
			return err
		}
		delete(from.entries, oldBase)
		to.entries[newBase] = node
		return nil
	})
}

// Remove implements [durable.FS].
func (s *Sim) Remove(name string) error {
	return s.do("remove", name, func() error {
		dir, base, err := s.place(name)
		if err != nil {
			return err
		}
		node, ok := dir.entries[base]
		if !ok {
			return fs.ErrNotExist
		}
		if node.dir && len(node.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		delete(dir.entries, base)
		return nil
	})
}

// ReadDir implements [durable.FS].
func (s *Sim) ReadDir(name string) ([]fs.DirEntry, error) {
	var out []fs.DirEntry
	err := s.do("readdir", name, func() error {
		dir, err := s.find(name)
		if err != nil {
			return err
		}
		for _, base := range slices.Sorted(maps.Keys(dir.entries)) {
			out = append(out, entry{base, dir.entries[base]})
		}
		return nil
	})
	return out, err
}

// Files returns the content of every file by its name, what lies in the directory of
// temporary files included.
func (s *Sim) Files() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]byte)
	var walk func(string, *inode)
	walk = func(at string, n *inode) {
		if !n.dir {
			out[at] = bytes.Clone(n.data)
			return
		}
		for base, child := range n.entries {
			walk(path.Join(at, base), child)
		}
	}
	if s.root != nil {
		walk("", s.root)
	}
	return out
}

// PowerCut returns what may be on the disk when the power comes back: one of the
// possibilities, chosen by rng. It has no faults and nothing in it is unsynced.
func (s *Sim) PowerCut(rng *rand.Rand) *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return new(Sim)
	}
	return &Sim{root: survive(s.root, rng, make(map[*inode]*inode))}
}

func survive(n *inode, rng *rand.Rand, done map[*inode]*inode) *inode {
	if c := done[n]; c != nil {
		return c
	}
	if !n.dir {
		data := surviveBytes(n, rng)
		done[n] = &inode{data: data, synced: bytes.Clone(data)}
		return done[n]
	}
	c := newDir()
	done[n] = c
	names := slices.Concat(slices.Collect(maps.Keys(n.entries)), slices.Collect(maps.Keys(n.durable)))
	slices.Sort(names)
	for _, base := range slices.Compact(names) {
		child := n.durable[base]
		if rng.IntN(2) == 0 {
			child = n.entries[base]
		}
		if child != nil {
			c.entries[base] = survive(child, rng, done)
			c.durable[base] = c.entries[base]
		}
	}
	return c
}

func surviveBytes(n *inode, rng *rand.Rand) []byte {
	if bytes.Equal(n.data, n.synced) {
		return bytes.Clone(n.data)
	}
	out := bytes.Clone(n.data)
	from := 0 // bytes in front of it were synced and are the same
	for from < len(out) && from < len(n.synced) && out[from] == n.synced[from] {
		from++
	}
	switch rng.IntN(5) {
	case 0:
		return bytes.Clone(n.synced)
	case 1:
		clear(out[from:])
	case 2:
		return out[:from+rng.IntN(len(out)-from+1)]
	case 3:
		for i := from; i < len(out); i++ {
			out[i] = byte(rng.Uint32())
		}
	}
	return out
}

type simFile struct {
	s    *Sim
	name string
	node *inode
	off  int
}

func (f *simFile) Read(p []byte) (int, error) {
	n := 0
	err := f.s.do("read", f.name, func() error {
		n = copy(p, f.node.data[min(f.off, len(f.node.data)):])
		return nil
	})
	f.off += n
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

func (f *simFile) Write(p []byte) (int, error) {
	n := 0
	err := f.s.do("write", f.name, func() error {
		f.node.data = append(f.node.data, p...)
		n = len(p)
		return nil
	})
	if err != nil && n == 0 {
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		n = len(p) / 2
		f.node.data = append(f.node.data, p[:n]...)
	}
	return n, err
}

func (f *simFile) Truncate(size int64) error {
	return f.s.do("truncate", f.name, func() error {
		f.node.data = f.node.data[:min(size, int64(len(f.node.data)))]
		return nil
	})
}

func (f *simFile) Sync() error {
	err := f.s.do("sync", f.name, func() error {
		if f.node.lost {
			return nil
		}
		f.node.synced = bytes.Clone(f.node.data)
		f.node.durable = maps.Clone(f.node.entries)
		return nil
	})
	if err != nil && !f.node.dir {
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		f.node.lost = true
	}
	return err
}

func (f *simFile) Close() error { return nil }

type entry struct {
	name string
	node *inode
}

func (e entry) Name() string               { return e.name }
func (e entry) IsDir() bool                { return e.node.dir }
func (e entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                { return int64(len(e.node.data)) }
func (e entry) ModTime() time.Time         { return time.Time{} }
func (e entry) Sys() any                   { return nil }

func (e entry) Mode() fs.FileMode {
	if e.node.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
