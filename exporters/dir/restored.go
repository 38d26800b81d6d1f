package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A restored is a view of a directory that a target filled.
type restored struct {
	view
	mark *marker
	done map[string]counts
}

// openRestored fails with fs.ErrNotExist and returns nil if root has no marker.
func openRestored(root *os.Root, name string) (*restored, error) {
	m, err := readMarker(root)
	if err != nil {
		return nil, err
	}
	var f finish
	err = readJSON(root, finishedName, &f)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("the restore into it was not finished")
	case err != nil:
		return nil, err
	case f.Test != m.Test:
		return nil, fmt.Errorf("%s and %s are of different tests", markerName, finishedName)
	}
	v := &restored{view: view{root: root, name: name}, mark: m, done: make(map[string]counts)}
	for _, c := range f.Streams {
		v.done[c.Stream] = c
	}
	return v, nil
}

func (v *restored) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := v.alive(ctx); err != nil {
		return nil, err
	}
	all := make([]dataset.Stream, len(v.mark.Streams))
	for i, p := range v.mark.Streams {
		all[i] = p.Stream
		all[i].Group = "" // here each is read alone
	}
	return all, nil
}

func (v *restored) Facts() dataset.Facts {
	return dataset.Facts{Notes: []string{"A directory into which a snapshot was restored."}}
}

func (v *restored) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		err := v.alive(ctx)
		if err == nil {
			err = v.read(ctx, q, yield)
		}
		if err != nil && err != errStop {
			yield(dataset.Record{}, fmt.Errorf("%s: %w", v.name, err))
		}
	}
}

func (v *restored) read(ctx context.Context, q exporters.Query, yield func(dataset.Record, error) bool) error {
	s, err := one(q)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(v.mark.Streams, func(p place) bool { return p.Stream.Name == s.Name })
	if i < 0 {
		return fmt.Errorf("no stream %q: %w", s.Name, fs.ErrNotExist)
	}
	p := v.mark.Streams[i]
	n := int64(0)
	give := func(r dataset.Record) error {
		if err := v.alive(ctx); err != nil {
			return err
		}
		r.Stream = s.Name
		if !yield(r, nil) {
			return errStop
		}
		return nil
	}
	if s := p.Stream; s.Blobs {
		n, err = v.readBlobs(ctx, p, give)
	} else {
		n, err = v.readTable(p, give)
	}
	if err == nil && n != v.done[s.Name].Records {
		err = fmt.Errorf("%s has %d lines; %d were written", p.Keymap, n, v.done[s.Name].Records)
	}
	return err
}

// readBlobs reads a blob stream: the lines of the keymap, the versions of a key newest
// first, and what lies in its directories without being named there. It returns how
// many lines the keymap has.
func (v *restored) readBlobs(ctx context.Context, p place, give func(dataset.Record) error) (n int64, err error) {
	strangers, err := v.strangers(ctx, p)
	if err != nil {
		return 0, err
	}
	var group []dataset.Record // all of one key
	flush := func(below string, all bool) error {
		for len(strangers) > 0 && (all || strangers[0].Key < below) {
			if len(group) > 0 && strangers[0].Key > group[0].Key {
				break
			}
			if len(group) > 0 && strangers[0].Key == group[0].Key {
				group = append(group, strangers[0])
			} else if err := give(strangers[0]); err != nil {
				return err
			}
			strangers = strangers[1:]
		}
		slices.SortStableFunc(group, func(a, b dataset.Record) int { return b.Ordinal - a.Ordinal })
		for _, r := range group {
			if err := give(r); err != nil {
				return err
			}
		}
		group = group[:0]
		for len(strangers) > 0 && (all || strangers[0].Key < below) {
			if err := give(strangers[0]); err != nil {
				return err
			}
			strangers = strangers[1:]
		}
		return nil
	}
	for e, err := range p.entries(v.root) {
		if err != nil {
			return n, err
		}
		n++
		if len(group) == 0 || group[0].Key != e.key {
			if len(group) > 0 && e.key < group[0].Key {
				return n, fmt.Errorf("%s: line %d: key out of order", p.Keymap, n)
			}
			if err := flush(e.key, false); err != nil {
				return n, err
			}
		}
		r, err := v.recordOf(p, e)
		if err != nil {
			return n, err
		}
		group = append(group, r)
	}
	return n, flush("", true)
}

// recordOf returns the record of a line of a keymap. Its bytes and their size are those
// of the file.
func (v *restored) recordOf(p place, e entry) (dataset.Record, error) {
	r := dataset.Record{Key: e.key, Ordinal: e.ordinal, Data: bytes.Clone(e.data), Schema: e.schema}
	if e.path == "" {
		return r, nil
	}
	info, ok, err := exists(v.root, e.path)
	if err != nil {
		return r, err
	}
	switch {
	case !ok:
		r.Gap = &dataset.Gap{Code: dataset.Absent, Detail: e.path + " is missing"}
	case !info.Mode().IsRegular():
		r.Gap = &dataset.Gap{Code: dataset.Unsupported, Detail: fmt.Sprintf("%s is not a regular file (%s)", e.path, info.Mode().Type())}
	default:
		r.Blob = v.blob(r, p.Stream.Name, e.path, info)
		return r, nil
	}
	r.Data = nil
	r.Gap.Stream, r.Gap.Key, r.Gap.Ordinal = p.Stream.Name, r.Key, r.Ordinal
	return r, nil
}

// strangers returns what lies in the directories of p and is not in its keymap, in
// order. As a rule there is nothing, which counting shows without memory.
func (v *restored) strangers(ctx context.Context, p place) ([]dataset.Record, error) {
	named := 0
	for e, err := range p.entries(v.root) {
		if err != nil {
			return nil, err
		}
		if err := v.alive(ctx); err != nil {
			return nil, err
		}
		if e.path == "" {
			continue
		}
		if _, ok, err := exists(v.root, e.path); err != nil {
			return nil, err
		} else if ok {
			named++
		}
	}
	found := 0
	if err := v.walk(ctx, p, func(string, fs.DirEntry) error { found++; return nil }); err != nil || found == named {
		return nil, err
	}
	known := make(map[[16]byte]bool, named)
	for e, err := range p.entries(v.root) {
		if err != nil {
			return nil, err
		}
		known[nameID(e.path)] = true
	}
	var all []dataset.Record
	err := v.walk(ctx, p, func(name string, e fs.DirEntry) error {
		if known[nameID(name)] {
			return nil
		}
		r, err := v.stranger(p, name, e)
		all = append(all, r)
		return err
	})
	slices.SortStableFunc(all, func(a, b dataset.Record) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return b.Ordinal - a.Ordinal
	})
	return all, err
}

func nameID(name string) [16]byte {
	sum := dataset.Sum([]byte(name))
	return [16]byte(sum[:16])
}

// walk calls do with all but directories in p's directories.
func (v *restored) walk(ctx context.Context, p place, do func(name string, e fs.DirEntry) error) error {
	for _, top := range []string{p.objects(), p.versions()} {
		info, ok, err := exists(v.root, top)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := v.walkDir(ctx, v.root, top, top, info, do); err != nil {
			return err
		}
	}
	return nil
}

// walkDir walks the directory that is called at in dir, and name from the top. It is
// opened from dir, for a path from the top costs a step for every level each time.
func (v *restored) walkDir(ctx context.Context, dir *os.Root, at, name string, info fs.FileInfo, do func(name string, e fs.DirEntry) error) error {
	if err := v.alive(ctx); err != nil {
		return err
	}
	sub, err := openDir(dir, at, info)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer sub.Close()
	entries, err := readDir(sub)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, e := range entries {
		full := name + "/" + e.Name()
		if !e.IsDir() {
			if err := do(full, e); err != nil {
				return err
			}
			continue
		}
		info, err := sub.Lstat(e.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
		if err := v.walkDir(ctx, sub, e.Name(), full, info, do); err != nil {
			return err
		}
	}
	return nil
}

// stranger returns the record of a file that the keymap does not name. Its key is what
// its path says, or the path itself if that says nothing.
func (v *restored) stranger(p place, name string, e fs.DirEntry) (dataset.Record, error) {
	r := dataset.Record{Key: name, Data: append(dataset.AppendText([]byte(`{"not in the keymap":true,`), "path", name), '}')}
	within, top := name, p.objects()+"/"
	if strings.HasPrefix(name, p.versions()+"/") {
		top = p.versions() + "/"
		within = path.Dir(name)
		if n, err := strconv.Atoi(path.Base(name)); err == nil && n >= 0 {
			r.Ordinal = n
		}
	}
	within = strings.TrimPrefix(within, top)
	if v.mark.Folds {
		within = unfold(within)
	}
	if key, err := dataset.KeyOfPath(within); err == nil {
		r.Key = key
	}
	info, err := e.Info()
	if err != nil {
		return r, err
	}
	if !info.Mode().IsRegular() {
		r.Data, r.Gap = nil, &dataset.Gap{Stream: p.Stream.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Unsupported,
			Detail: fmt.Sprintf("%s is not in the keymap and not a regular file (%s)", name, info.Mode().Type())}
		return r, nil
	}
	r.Blob = v.blob(r, p.Stream.Name, name, info)
	return r, nil
}
