package durable

import (
	"io"
	"io/fs"
	"os"
)

// An FS is what a [Dir] asks of a file system, so that tests can put one in its place
// that fails or forgets. Names are relative and separated by slashes; "." is the root.
// Errors match those of [io/fs], as the operating system's do.
type FS interface {
	// OpenFile opens a file as [os.OpenFile] does, or a directory to sync it.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error
	Link(oldname, newname string) error
	Rename(oldname, newname string) error
	Remove(name string) error
	ReadDir(name string) ([]fs.DirEntry, error)
}

// A File is an open file or directory of an [FS].
type File interface {
	io.Reader
	io.Writer
	Sync() error
	Truncate(size int64) error
	Close() error
}

// rootFS is the operating system's file system below a directory.
type rootFS struct{ root *os.Root }

func (r rootFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := r.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (r rootFS) Mkdir(name string, perm fs.FileMode) error  { return r.root.Mkdir(name, perm) }
func (r rootFS) Link(oldname, newname string) error         { return r.root.Link(oldname, newname) }
func (r rootFS) Rename(oldname, newname string) error       { return r.root.Rename(oldname, newname) }
func (r rootFS) Remove(name string) error                   { return r.root.Remove(name) }
func (r rootFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.root.FS(), name) }
func (r rootFS) Close() error                               { return r.root.Close() }
