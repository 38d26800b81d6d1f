package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// files is the one stream of a tree.
const files = "files"

// A tree is a view of a directory that no target filled.
type tree struct {
	view
	reread bool             // read also files that have not changed
	now    func() time.Time // time.Now, but in tests
}

func (t *tree) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := t.alive(ctx); err != nil {
		return nil, err
	}
	return []dataset.Stream{{Name: files, Blobs: true, Volatile: []string{"changed"}}}, nil
}

func (t *tree) Facts() dataset.Facts {
	notes := []string{"Owners, access control lists, extended attributes, hard links and the times of directories are not captured."}
	if !t.reread {
		notes = append(notes, "A file whose size, mode and times, that of its last change among them, are as the export before found them was not read again.")
	}
	return dataset.Facts{Notes: notes}
}

func (t *tree) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		s, err := one(q)
		if err == nil && s.Name != files {
			err = fmt.Errorf("%s: no stream %q: %w", t.name, s.Name, fs.ErrNotExist)
		}
		if err != nil {
			yield(dataset.Record{}, err)
			return
		}
		if t.reread {
			q.Prior = nil
		}
		w := walker{tree: t, yield: yield, prior: exporters.NewPrior(q.Prior)}
		defer w.prior.Stop()
		if err := w.walk(ctx, "", t.root); err != nil && err != errStop {
			yield(dataset.Record{}, fmt.Errorf("%s: %w", t.name, err))
		}
	}
}

// errStop says that whoever ranges over a sequence broke off.
var errStop = errors.New("stop")

type walker struct {
	*tree
	yield func(dataset.Record, error) bool
	prior *exporters.Prior
}

// walk yields what lies in the directory dir, whose keys begin with prefix. Entries come
// as their keys do: a directory sorts by its name and a slash.
func (w *walker) walk(ctx context.Context, prefix string, dir *os.Root) error {
	entries, err := readDir(dir)
	if err != nil {
		if prefix == "" {
			return err
		}
		return w.gap(prefix, err)
	}
	if len(entries) == 0 && prefix != "" {
		return w.record(dataset.Record{Key: prefix, Data: []byte(`{"type":"directory"}`)})
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	for _, e := range entries {
		if err := w.alive(ctx); err != nil {
			return err
		}
		if err := w.entry(ctx, prefix, dir, e); err != nil {
			return err
		}
	}
	return nil
}

func readDir(dir *os.Root) ([]fs.DirEntry, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

func sortName(e fs.DirEntry) string {
	if e.IsDir() {
		return e.Name() + "/"
	}
	return e.Name()
}

func (w *walker) entry(ctx context.Context, prefix string, dir *os.Root, e fs.DirEntry) error {
	key := prefix + e.Name()
	info, err := dir.Lstat(e.Name())
	if err != nil {
		return w.gap(key, err)
	}
	switch mode := info.Mode(); {
	case info.IsDir() != e.IsDir():
		return w.gap(key, errChanged)
	case mode.IsRegular():
		return w.file(key, info)
	case info.IsDir():
		sub, err := openDir(dir, e.Name(), info)
		if err != nil {
			return w.gap(key+"/", err)
		}
		defer sub.Close()
		return w.walk(ctx, key+"/", sub)
	case mode&fs.ModeSymlink != 0:
		to, err := dir.Readlink(e.Name())
		if err != nil {
			return w.gap(key, err)
		}
		data := dataset.AppendText([]byte(`{"type":"symlink",`), "target", to)
		return w.record(dataset.Record{Key: key, Data: append(data, '}')})
	default:
		return w.gap(key, fmt.Errorf("%w (%s)", errNotRegular, mode.Type()))
	}
}

// file yields a regular file. An earlier export's bytes stand for it if nothing that the
// system says of it has changed since.
func (w *walker) file(key string, info fs.FileInfo) error {
	r := dataset.Record{Key: key, Data: describe(info, w.now())}
	known, err := w.prior.Of(key)
	if err != nil {
		return fmt.Errorf("prior records: %w", err)
	}
	for _, was := range known {
		if was.Blob != nil && bytes.Equal(was.Data, r.Data) && bytes.Contains(was.Data, changedMember) {
			r.Blob = was.Blob
			return w.record(r)
		}
	}
	// Blobs outlive this directory's handle, so they are opened from the top.
	r.Blob = w.blob(r, files, key, info)
	return w.record(r)
}

// openDir opens the directory that info describes, and no link put in its place.
func openDir(dir *os.Root, name string, info fs.FileInfo) (*os.Root, error) {
	sub, err := dir.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if now, err := sub.Stat("."); err != nil || !os.SameFile(info, now) {
		sub.Close()
		return nil, errChanged
	}
	return sub, nil
}

// settled is for how long a file must have been left alone before the time of its last
// change tells one state of it from another: that time moves in steps, of the clock's
// ticks here, of up to two seconds elsewhere, and a later change may fall into one.
const settled = 3 * time.Second

var changedMember = []byte(`,"changed":"`)

// describe returns the data of a regular file. It says when the file last changed if that
// was a while before now.
func describe(info fs.FileInfo, now time.Time) []byte {
	data := fmt.Appendf(nil, `{"type":"file","size":%d,"mode":"%04o","mtime":"%s"`,
		info.Size(), info.Mode().Perm(), info.ModTime().UTC().Format(time.RFC3339Nano))
	if at, ok := changed(info); ok && now.Sub(at) > settled {
		data = append(append(data, changedMember...), at.UTC().Format(time.RFC3339Nano)...)
		data = append(data, '"')
	}
	return append(data, '}')
}

func (w *walker) record(r dataset.Record) error {
	r.Stream = files
	if !w.yield(r, nil) {
		return errStop
	}
	return nil
}

func (w *walker) gap(key string, err error) error {
	return w.record(dataset.Record{Key: key, Gap: &dataset.Gap{Stream: files, Key: key, Code: codeOf(err), Detail: err.Error()}})
}
