// Package dir exports directories and restores snapshots into them.
//
// # Restored directories
//
// A [Target] fills an empty directory:
//
//	sallyport.json              the marker: whose test this is, and its streams
//	sallyport-finished.json     written last: how many records each stream has
//	datapackage.json            Data Package v2 descriptor of all files but objects
//	objects/...                 the bytes of the newest version of each object
//	versions/<path>/<ordinal>   the bytes of the older ones
//	keymap.jsonl                one line a record of the blob stream, in key order:
//	                            {"path","key","ordinal","size","sha256","data"}
//	<stream>.jsonl              one line a record of any other stream: its data
//	<stream>.keymap.jsonl       {"key","ordinal"} of the record on the same line
//	<stream>.csv                instead of JSON Lines, if asked for and the stream has a
//	                            schema; with a CSVW file <stream>.csv-metadata.json, and
//	                            in the keymap, as absent, the fields a record lacks
//
// objects, versions and keymap.jsonl are at the top if the snapshot has one blob stream,
// else below a directory named after each. Paths follow the rule of [dataset.Paths]:
// ordinary keys stay readable, every key has a path of its own that is harmless on any
// system. A path in a keymap is relative to that file. A key that is not UTF-8 is written
// as key_b64. A delete marker, or whatever else has no bytes, is a line without path.
// All metadata is in the lines, none in the file system; nothing but regular files and
// directories is ever made, readable to their owner only, and through [os.Root] nothing
// outside the directory.
//
// A file system that ignores case is noticed; capitals are then written as ^ and the
// small letter.
//
// Read back, records and their data come from the keymaps and all bytes from the files. A
// missing file is a gap, a file that no keymap names is a record of its own.
//
// # Other directories
//
// A directory without marker is a source of one blob stream, "files": see [Open].
package dir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

const (
	format       = "sallyport-directory/1"
	markerName   = "sallyport.json"
	finishedName = "sallyport-finished.json"
	packageName  = "datapackage.json"
	probeName    = "~probe-A"
	maxLine      = 64 << 20 // bytes of a line; records end at 30 MiB
	maxControl   = 64 << 20 // bytes of a marker
)

// A marker says whose a restored directory is and where its streams lie.
type marker struct {
	Format  string     `json:"format"`
	Test    dataset.ID `json:"test"`
	Created bool       `json:"created"` // the directory itself was made by Begin
	Folds   bool       `json:"folds"`   // the file system ignores case, so capitals are encoded
	Streams []place    `json:"streams"` // sorted by name
}

// A place is where a stream lies. Paths are relative to the directory.
type place struct {
	Stream dataset.Stream `json:"stream"`
	Base   string         `json:"base,omitempty"`  // of a blob stream: holds objects, versions, keymap.jsonl; empty is the top
	Table  string         `json:"table,omitempty"` // of another stream: the file of its data
	Keymap string         `json:"keymap"`
}

// counts is what a finished stream has.
type counts struct {
	Stream  string `json:"stream"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"` // of blobs
}

// finish is the content of the file that is written last.
type finish struct {
	Test    dataset.ID `json:"test"`
	Streams []counts   `json:"streams"`
}

// objects and versions return the directories of a blob stream.
func (p place) objects() string  { return path.Join(p.Base, "objects") }
func (p place) versions() string { return path.Join(p.Base, "versions") }

// places gives each stream its place. Names that a file system may take for one another
// are told apart by a number.
func places(all []dataset.Stream, csv bool) []place {
	blobs := 0
	for _, s := range all {
		if s.Blobs {
			blobs++
		}
	}
	taken := map[string]bool{"objects": true, "versions": true, "keymap.jsonl": true, packageName: true, markerName: true, finishedName: true}
	var ps []place
	for _, s := range all {
		switch {
		case s.Blobs && blobs == 1:
			ps = append(ps, place{Stream: s, Keymap: "keymap.jsonl"})
		case s.Blobs:
			base := claim(taken, s.Name, "")
			ps = append(ps, place{Stream: s, Base: base, Keymap: base + "/keymap.jsonl"})
		case csv && hasColumns(s.Schema):
			base := claim(taken, s.Name, ".csv", ".csv-metadata.json", ".keymap.jsonl")
			ps = append(ps, place{Stream: s, Table: base + ".csv", Keymap: base + ".keymap.jsonl"})
		default:
			base := claim(taken, s.Name, ".jsonl", ".keymap.jsonl")
			ps = append(ps, place{Stream: s, Table: base + ".jsonl", Keymap: base + ".keymap.jsonl"})
		}
	}
	slices.SortFunc(ps, func(a, b place) int { return strings.Compare(a.Stream.Name, b.Stream.Name) })
	return ps
}

// hasColumns reports whether records of s can be rows.
func hasColumns(s *dataset.Schema) bool {
	if s == nil || len(s.Fields) == 0 {
		return false
	}
	_, err := dataset.NewTable(s)
	return err == nil
}

// claim returns a file name for a stream that is free with all suffixes, and takes it.
func claim(taken map[string]bool, name string, suffixes ...string) string {
	slug := strings.ReplaceAll(dataset.SafePath(name), "/", "~2F")
	if len(slug) > 200 {
		slug = "~h" + dataset.Sum([]byte(name)).String()
	}
	if slug[0] == '~' {
		slug = "_" + slug // no path in a Data Package begins with ~
	}
	free := func(base string) bool {
		return !slices.ContainsFunc(suffixes, func(s string) bool { return taken[strings.ToLower(base+s)] })
	}
	base := slug
	for n := 2; !free(base); n++ {
		base = fmt.Sprintf("%s~%d", slug, n)
	}
	for _, s := range suffixes {
		taken[strings.ToLower(base+s)] = true
	}
	return base
}

// readMarker returns the marker in root: fs.ErrNotExist if there is none of ours.
func readMarker(root *os.Root) (*marker, error) {
	var m marker
	if err := readJSON(root, markerName, &m); err != nil {
		return nil, err
	}
	if m.Format != format {
		return nil, fmt.Errorf("%s is of format %q: %w", markerName, m.Format, fs.ErrNotExist)
	}
	for _, p := range m.Streams {
		for _, name := range []string{p.Base, p.Table, p.Keymap} {
			if name != "" && !filepath.IsLocal(filepath.FromSlash(name)) {
				return nil, fmt.Errorf("%s names %q, which is not inside", markerName, name)
			}
		}
	}
	return &m, nil
}

func readJSON(root *os.Root, name string, v any) error {
	f, err := openRegular(root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxControl))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openRegular opens a regular file and nothing else: no symbolic link as its last
// component, no pipe that would block.
func openRegular(root *os.Root, name string) (*os.File, error) {
	before, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", name, errNotRegular)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	if now, err := f.Stat(); err != nil || !os.SameFile(before, now) {
		f.Close()
		return nil, fmt.Errorf("%s: %w", name, errors.Join(errChanged, err))
	}
	return f, nil
}

// Open opens a view of the directory at path.
//
// A directory that a [Target] filled is read as what it was filled with; it fails if the
// restore was not finished. Any other is a tree of files: the stream "files" has each
// regular file as a blob under its relative path, with mode and time in Data; symbolic
// links are not followed and come as records without bytes and their target in Data, and
// so do empty directories, under a key that ends in a slash. Devices, pipes and sockets,
// and what cannot be read, are gaps. Nothing outside the directory is read. Memory is
// bounded by the largest single directory.
//
// A file system offers no view that holds still. A file that changes between being listed
// and being read to its end is a gap, as far as its size and time tell.
func Open(ctx context.Context, name string) (exporters.Exporter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	v, err := openRestored(root, name)
	if errors.Is(err, fs.ErrNotExist) && v == nil {
		return &tree{view: view{root: root, name: name}, now: time.Now}, nil
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}
