// Package durable writes files that are whole or absent, and that stay after a power
// cut once the call that wrote them has returned nil.
//
// A file is written under a temporary name, synced, and only then given its name; the
// directory is synced after that, and so is every directory on the way to it that
// this process has not seen durable before. The name is given by a hard link, because
// a link, unlike a rename, fails when the name is taken. A file whose fsync failed is
// thrown away and never synced again: the kernel may have dropped its pages and would
// report success (LWN 752063).
//
// It relies on POSIX semantics of link, rename, flock and of fsync on directories.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"
)

// tempDir holds files that have no name yet. It lies in the tree, so that it is on
// the same file system.
const tempDir = ".tmp"

// A Dir is a directory tree in which files are written durably. Names in it are
// relative, separated by slashes and cannot lead out of it. A Dir is safe for
// concurrent use, also by several processes.
type Dir struct {
	path     string // for messages
	fs       FS
	dirPerm  fs.FileMode
	filePerm fs.FileMode // of files that Create makes

	mu    sync.Mutex
	known map[string]bool // directories that are durable, with the way to them
}

// Open opens the tree at path for files that others may read, and makes the directory
// if it is missing. The caller closes.
func Open(path string) (*Dir, error) { return open(path, 0o755, 0o444) }

// OpenPrivate is Open for state that only this user may read.
func OpenPrivate(path string) (*Dir, error) { return open(path, 0o700, 0o400) }

func open(path string, dirPerm, filePerm fs.FileMode) (*Dir, error) {
	if err := mkdirAll(path, dirPerm); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path: path, fs: rootFS{root}, dirPerm: dirPerm, filePerm: filePerm}, nil
}

// New returns a Dir over any file system, for tests. Path stands in messages.
func New(fsys FS, path string) *Dir {
	return &Dir{path: path, fs: fsys, dirPerm: 0o755, filePerm: 0o444}
}

// Close releases the tree. Nothing is waiting to be written.
func (d *Dir) Close() error {
	if c, ok := d.fs.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Create stores data under a new name, with the directories on the way. It fails with
// [fs.ErrExist] if the name is taken; the file of that name is then durable too, so
// that a caller who finds its own bytes there may rely on them. After any other error
// the name may or may not exist; if it does, it holds all of data.
func (d *Dir) Create(name string, data []byte) error {
	if err := d.create(name, data); err != nil {
		return fmt.Errorf("create %s: %w", d.at(name), err)
	}
	return nil
}

func (d *Dir) create(name string, data []byte) error {
	if err := d.mkdir(path.Dir(name)); err != nil {
		return err
	}
	temp, err := d.writeTemp(data, d.filePerm)
	if err != nil {
		return err
	}
	linkErr := d.fs.Link(temp, name)
	// What stays behind if this fails is nameless and is swept later.
	_ = d.fs.Remove(temp)
	if linkErr != nil && !errors.Is(linkErr, fs.ErrExist) {
		return linkErr
	}
	// Also if the name was taken: whoever made it may have died before this line.
	if err := d.syncDir(path.Dir(name)); err != nil {
		return err
	}
	return linkErr
}

// Replace stores data under a name that may be taken. A reader, also one after a power
// cut, finds the old bytes or the new ones. The file is readable by this user alone.
func (d *Dir) Replace(name string, data []byte) error {
	if err := d.replace(name, data); err != nil {
		return fmt.Errorf("write %s: %w", d.at(name), err)
	}
	return nil
}

func (d *Dir) replace(name string, data []byte) error {
	if err := d.mkdir(path.Dir(name)); err != nil {
		return err
	}
	temp, err := d.writeTemp(data, 0o600)
	if err != nil {
		return err
	}
	if err := d.fs.Rename(temp, name); err != nil {
		_ = d.fs.Remove(temp)
		return err
	}
	return d.syncDir(path.Dir(name))
}

// Remove deletes a file, durably. It fails with [fs.ErrNotExist] if there is none.
func (d *Dir) Remove(name string) error {
	err := d.fs.Remove(name)
	if err == nil {
		err = d.syncDir(path.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", d.at(name), err)
	}
	return nil
}

// MkdirAll makes a directory with those on the way to it, durably.
func (d *Dir) MkdirAll(name string) error {
	if err := d.mkdir(path.Clean(name)); err != nil {
		return fmt.Errorf("make %s: %w", d.at(name), err)
	}
	return nil
}

// Sweep deletes the temporary files that crashed processes left behind: those last
// written before the time given, which should be long enough ago that no living
// process is writing one.
func (d *Dir) Sweep(before time.Time) error {
	entries, err := d.fs.ReadDir(tempDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("sweep %s: %w", d.at(tempDir), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(before) {
			err = d.fs.Remove(path.Join(tempDir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep %s: %w", d.at(tempDir), err)
		}
	}
	return nil
}

// writeTemp returns the name of a new synced file that holds data. When fsync fails
// once, the data is written again, to another file.
func (d *Dir) writeTemp(data []byte, perm fs.FileMode) (string, error) {
	if err := d.mkdir(tempDir); err != nil {
		return "", err
	}
	name, err := d.tryTemp(data, perm)
	if errors.Is(err, errSync) {
		name, err = d.tryTemp(data, perm)
	}
	return name, err
}

// errSync marks a failed fsync.
var errSync = errors.New("fsync")

func (d *Dir) tryTemp(data []byte, perm fs.FileMode) (_ string, err error) {
	name := path.Join(tempDir, rand.Text())
	f, err := d.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = d.fs.Remove(name)
		}
	}()
	if _, err = f.Write(data); err != nil {
		_ = f.Close()
		return "", err
	}
	if err = f.Sync(); err != nil {
		_ = f.Close()
		return "", fmt.Errorf("%w: %w", errSync, err)
	}
	return name, f.Close()
}

// mkdir makes the directory name durable, with the way to it. That a directory exists
// does not mean that it will after a power cut: another process may just have made it.
func (d *Dir) mkdir(name string) error {
	if !fs.ValidPath(name) {
		return fs.ErrInvalid
	}
	if name == "." || d.isKnown(name) {
		return nil
	}
	parent := path.Dir(name)
	if err := d.mkdir(parent); err != nil {
		return err
	}
	if err := d.fs.Mkdir(name, d.dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.syncDir(parent); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[string]bool)
	}
	d.known[name] = true
	return nil
}

func (d *Dir) isKnown(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[name]
}

func (d *Dir) syncDir(name string) error {
	f, err := d.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return fmt.Errorf("%w of directory %s: %w", errSync, d.at(name), err)
	}
	return f.Close()
}

func (d *Dir) at(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// mkdirAll makes the root of a tree, and makes durable what it makes.
func mkdirAll(dir string, perm fs.FileMode) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if parent != dir {
		if err := mkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return fmt.Errorf("%w of directory %s: %w", errSync, parent, err)
	}
	return f.Close()
}
