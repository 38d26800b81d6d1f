package dir

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// A fileBlob is a file as it was when its record was yielded. Whoever reads it later, or
// piece by piece, must not get a mixture of two states.
type fileBlob struct {
	view    *view
	name    string // from the top
	size    int64
	changed time.Time
	gap     dataset.Gap // with the identity of the record
}

// blob returns the bytes of the file that info describes, as a blob of the record r.
func (v *view) blob(r dataset.Record, stream, name string, info fs.FileInfo) *dataset.Blob {
	f := &fileBlob{v, name, info.Size(), info.ModTime(), dataset.Gap{Stream: stream, Key: r.Key, Ordinal: r.Ordinal}}
	return &dataset.Blob{Size: f.size, Open: f.open}
}

func (b *fileBlob) open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := b.view.alive(ctx); err != nil {
		return nil, err
	}
	f, err := openRegular(b.view.root, b.name)
	if err != nil {
		return nil, b.failed(err)
	}
	if err := b.check(f); err != nil {
		f.Close()
		return nil, err
	}
	if n < 0 || n > b.size-off {
		n = max(0, b.size-off)
	}
	return &section{b, f, io.NewSectionReader(f, off, n)}, nil
}

// check fails with a gap if f is no longer what it was.
func (b *fileBlob) check(f *os.File) error {
	now, err := f.Stat()
	if err == nil && (now.Size() != b.size || !now.ModTime().Equal(b.changed)) {
		err = errChanged
	}
	if err != nil {
		return b.failed(err)
	}
	return nil
}

func (b *fileBlob) failed(err error) error {
	g := b.gap
	g.Code, g.Detail = codeOf(err), err.Error()
	return &g
}

var (
	errNotRegular = errors.New("not a regular file")
	errChanged    = errors.New("changed since it was listed")
)

// codeOf says why a file or directory could not be read.
func codeOf(err error) dataset.Code {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return dataset.Denied
	case errors.Is(err, fs.ErrNotExist):
		return dataset.DeletedMidRun
	case errors.Is(err, errNotRegular):
		return dataset.Unsupported
	case errors.Is(err, errChanged):
		return dataset.Unstable
	}
	return dataset.Unreadable
}

// A section is a stretch of a file. At its end it looks whether the file is still the
// same.
type section struct {
	b *fileBlob
	f *os.File
	r io.Reader
}

func (s *section) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		return n, s.b.failed(err)
	}
	if cerr := s.b.check(s.f); cerr != nil {
		return n, cerr
	}
	return n, io.EOF
}

func (s *section) Close() error { return s.f.Close() }
