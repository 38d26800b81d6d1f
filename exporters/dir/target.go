package dir

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// Options tune a [Target]. The zero Options are the ones to use.
type Options struct {
	CSV      bool // streams that have a schema are written as CSV, not as JSON Lines
	NoSync   bool // Finish leaves durability to the system: for what is destroyed soon
	Parallel int  // blobs written at a time; 0 means 16
}

// A Target is a directory that one can fill. It need not exist. Different streams may be
// loaded at once; the records of a blob stream must come in key order, the versions of a
// key in rising or falling order of their ordinals.
//
// What is read back is there after Finish, for this Target as for any other on the same
// directory.
type Target struct {
	o    Options
	name string

	mu     sync.Mutex
	root   *os.Root // nil until Begin
	mark   *marker
	loaded map[string]counts
	back   *restored
	closed bool

	// ignoresCase finds out whether the file system does. Tests replace it.
	ignoresCase func(root *os.Root) (bool, error)
}

var _ exporters.Target = (*Target)(nil)

// NewTarget returns the target at the path name. Nothing is touched until Begin.
func NewTarget(name string, o Options) *Target {
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	return &Target{o: o, name: name, ignoresCase: probeCase}
}

// Fidelity implements [exporters.Target]. A directory carries everything, but a row of
// CSV only what its schema knows, unless that is open.
func (t *Target) Fidelity(s dataset.Stream) []dataset.Loss {
	if s.Blobs || !t.o.CSV || !hasColumns(s.Schema) || s.Schema.Open {
		return nil
	}
	return []dataset.Loss{{Stream: s.Name, Reason: "A record with a field or a value that its schema does not allow cannot be a row of CSV."}}
}

// Begin implements [exporters.Target].
func (t *Target) Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	switch {
	case t.closed:
		return errClosed
	case test == "":
		return errors.New("a test has an id")
	case t.root != nil:
		return fmt.Errorf("%s: %w", t.name, exporters.ErrNotEmpty)
	}
	root, created, err := openEmpty(t.name)
	if err != nil {
		return err
	}
	m := &marker{Format: format, Test: test, Created: created, Streams: places(all, t.o.CSV)}
	if m.Folds, err = t.ignoresCase(root); err == nil {
		err = writeJSON(root, markerName, m)
	}
	if err != nil {
		root.Close()
		return fmt.Errorf("%s: %w", t.name, err)
	}
	t.root, t.mark, t.loaded = root, m, make(map[string]counts)
	return nil
}

// openEmpty opens a directory that has nothing in it, and makes it if need be.
func openEmpty(name string) (root *os.Root, created bool, err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, false, err
	}
	err = os.Mkdir(name, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, err
	}
	created = err == nil
	if root, err = os.OpenRoot(name); err != nil {
		return nil, false, err
	}
	entries, err := readDir(root)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s holds %q: %w", name, entries[0].Name(), exporters.ErrNotEmpty)
	}
	if err != nil {
		root.Close()
		return nil, false, err
	}
	return root, created, nil
}

// probeCase finds out whether the file system takes two names that differ by case for
// one.
func probeCase(root *os.Root) (bool, error) {
	f, err := root.OpenFile(probeName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	_, folds, err := exists(root, strings.ToLower(probeName))
	return folds, errors.Join(err, f.Close(), root.Remove(probeName))
}

// writeJSON writes a new file.
func writeJSON(root *os.Root, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	f, err := newFile(root, name)
	if err != nil {
		return err
	}
	f.Write(append(b, '\n'))
	return f.Close()
}

// A file is a buffered new file whose first error sticks.
type file struct {
	*bufio.Writer
	f *os.File
}

func newFile(root *os.Root, name string) (*file, error) {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{bufio.NewWriterSize(f, 64<<10), f}, nil
}

// Close writes out what is buffered. It fails if any write did.
func (f *file) Close() error { return errors.Join(f.Flush(), f.f.Close()) }

// Load implements [exporters.Target].
func (t *Target) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	p, root, err := t.loading(s)
	if err != nil {
		return err
	}
	l := &loader{target: t, root: root, place: p, gap: gap}
	l.done.Stream = s.Name
	if s.Blobs {
		err = l.blobs(ctx, recs)
	} else {
		err = l.table(ctx, recs)
	}
	if err != nil {
		return fmt.Errorf("load %q into %s: %w", dataset.Escape(s.Name), t.name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loaded[s.Name] = l.done
	return nil
}

// loading returns where s goes.
func (t *Target) loading(s dataset.Stream) (place, *os.Root, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root == nil || t.closed {
		return place{}, nil, fmt.Errorf("%s: Load outside of Begin and Finish", t.name)
	}
	i := slices.IndexFunc(t.mark.Streams, func(p place) bool { return p.Stream.Name == s.Name })
	if i < 0 {
		return place{}, nil, fmt.Errorf("%s: stream %q was not announced", t.name, dataset.Escape(s.Name))
	}
	if _, twice := t.loaded[s.Name]; twice {
		return place{}, nil, fmt.Errorf("%s: stream %q is loaded twice", t.name, dataset.Escape(s.Name))
	}
	t.loaded[s.Name] = counts{Stream: s.Name, Records: -1}
	return t.mark.Streams[i], t.root, nil
}

// Finish implements [exporters.Target]. All streams must have been loaded. When it
// returns nil the bytes are durable, unless Options say otherwise.
func (t *Target) Finish(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.root == nil || t.back != nil || t.closed {
		return fmt.Errorf("%s: Finish without Begin, or twice", t.name)
	}
	done := finish{Test: t.mark.Test}
	for _, p := range t.mark.Streams {
		c, ok := t.loaded[p.Stream.Name]
		if !ok || c.Records < 0 {
			return fmt.Errorf("%s: stream %q was not loaded", t.name, dataset.Escape(p.Stream.Name))
		}
		done.Streams = append(done.Streams, c)
	}
	if err := t.finish(done); err != nil {
		return fmt.Errorf("finish %s: %w", t.name, err)
	}
	return nil
}

// finish makes all files durable before the one that says they are.
func (t *Target) finish(done finish) error {
	sync := syncAll
	if t.o.NoSync {
		sync = func(*os.Root) error { return nil }
	}
	if err := t.mark.describe(t.root); err != nil {
		return err
	}
	if err := sync(t.root); err != nil {
		return err
	}
	if err := writeJSON(t.root, finishedName, done); err != nil {
		return err
	}
	return sync(t.root)
}

// Destroy implements [exporters.Target]. It removes the files and directories that the
// marker names, with all they hold, and the directory itself if Begin made it. Anything
// else in the directory stays, and is an error that names it.
func (t *Target) Destroy(ctx context.Context, test dataset.ID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := os.OpenRoot(t.name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", t.name, exporters.ErrNotOurs)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	m, err := readMarker(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s has no marker: %w", t.name, exporters.ErrNotOurs)
	case err != nil:
		return fmt.Errorf("%s: %w", t.name, err)
	case test == "" || m.Test != test:
		return fmt.Errorf("%s has the marker of test %s: %w", t.name, m.Test, exporters.ErrNotOurs)
	}
	t.forget()
	if err := m.destroy(root); err != nil {
		return fmt.Errorf("destroy %s: %w", t.name, err)
	}
	if m.Created {
		return os.Remove(t.name)
	}
	return nil
}

// destroy removes what m names, the marker last, so that it can be tried again.
func (m *marker) destroy(root *os.Root) error {
	names := []string{finishedName, packageName, probeName}
	for _, p := range m.Streams {
		if p.Stream.Blobs {
			names = append(names, p.objects(), p.versions(), p.Keymap)
			if p.Base != "" {
				names = append(names, p.Base)
			}
		} else {
			names = append(names, p.Table, p.Keymap)
			if p.isCSV() {
				names = append(names, p.metadata())
			}
		}
	}
	for _, name := range names {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	left, err := readDir(root)
	if err != nil {
		return err
	}
	for _, e := range left {
		if e.Name() != markerName {
			return fmt.Errorf("%q is not ours and was left", e.Name())
		}
	}
	return root.Remove(markerName)
}

// forget makes t a target that was not begun. t.mu is held.
func (t *Target) forget() {
	if t.back != nil {
		t.back.Close()
	}
	if t.root != nil {
		t.root.Close()
	}
	t.root, t.mark, t.loaded, t.back = nil, nil, nil, nil
}

// reading returns the view of what was loaded.
func (t *Target) reading() (*restored, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	if t.back == nil {
		root, err := os.OpenRoot(t.name)
		if err != nil {
			return nil, err
		}
		if t.back, err = openRestored(root, t.name); err != nil {
			root.Close()
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return t.back, nil
}

// Streams implements [exporters.Exporter]: what Begin announced.
func (t *Target) Streams(ctx context.Context) ([]dataset.Stream, error) {
	v, err := t.reading()
	if err != nil {
		return nil, err
	}
	return v.Streams(ctx)
}

// Read implements [exporters.Exporter].
func (t *Target) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		v, err := t.reading()
		if err != nil {
			yield(dataset.Record{}, err)
			return
		}
		v.Read(ctx, q)(yield)
	}
}

// Facts implements [exporters.Exporter].
func (t *Target) Facts() dataset.Facts { return dataset.Facts{} }

// Close implements [exporters.Exporter]. The directory stays as it is.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.forget()
	return nil
}
