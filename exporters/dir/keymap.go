package dir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/dwp/sallyport/dataset"
)

// An entry is one line of a keymap.
type entry struct {
	path    string // of the bytes, relative to the keymap; empty if there are none
	key     string
	ordinal int
	size    int64 // of the bytes as they were written
	sha256  dataset.Hash
	schema  *dataset.Schema
	data    []byte   // only in the keymap of a blob stream
	absent  []string // fields that the record does not have and a row of CSV cannot leave out
}

// append adds e as a line to dst.
func (e *entry) append(dst []byte) ([]byte, error) {
	dst = append(dst, '{')
	if e.path != "" {
		dst = append(dataset.AppendText(dst, "path", e.path), ',')
	}
	dst = dataset.AppendText(dst, "key", e.key)
	dst = strconv.AppendInt(append(dst, `,"ordinal":`...), int64(e.ordinal), 10)
	if e.path != "" {
		dst = strconv.AppendInt(append(dst, `,"size":`...), e.size, 10)
		dst = append(append(append(dst, `,"sha256":"`...), e.sha256.String()...), '"')
	}
	if e.schema != nil {
		b, err := json.Marshal(e.schema)
		if err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
		dst = append(append(dst, `,"schema":`...), b...)
	}
	if e.absent != nil {
		b, err := json.Marshal(e.absent)
		if err != nil {
			return nil, fmt.Errorf("absent: %w", err)
		}
		dst = append(append(dst, `,"absent":`...), b...)
	}
	if e.data != nil {
		dst = append(append(dst, `,"data":`...), e.data...)
	}
	return append(dst, '}', '\n'), nil
}

// parseEntry is the inverse of append. The data of the entry is a part of line.
func parseEntry(line []byte) (entry, error) {
	var e entry
	if err := dataset.CheckObject(line); err != nil {
		return e, err
	}
	var err error
	var hasKey bool
	if e.key, hasKey, err = dataset.TextField(line, "key"); err != nil || !hasKey {
		return e, errors.Join(errors.New("no key"), err)
	}
	if e.path, _, err = dataset.TextField(line, "path"); err != nil {
		return e, err
	}
	if e.path != "" && !filepath.IsLocal(filepath.FromSlash(e.path)) {
		return e, fmt.Errorf("path %q is not inside", e.path)
	}
	for name, value := range dataset.Fields(line) {
		switch name {
		case "path", "path_b64", "key", "key_b64", "size", "sha256":
		case "ordinal":
			e.ordinal, err = strconv.Atoi(string(value))
		case "schema":
			err = json.Unmarshal(value, &e.schema)
		case "absent":
			err = json.Unmarshal(value, &e.absent)
		case "data":
			e.data = value
		default:
			err = errors.New("unknown field")
		}
		if err != nil {
			return e, fmt.Errorf("%s: %w", name, err)
		}
	}
	return e, nil
}

// lines yields the lines of a file in root.
func lines(root *os.Root, name string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		f, err := openRegular(root, name)
		if err != nil {
			yield(nil, err)
			return
		}
		defer f.Close()
		for line, err := range dataset.Lines(f, maxLine) {
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// entries yields the lines of p's keymap. Paths come out relative to root. An entry is
// valid until the next step.
func (p place) entries(root *os.Root) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		n := 0
		for line, err := range lines(root, p.Keymap) {
			n++
			var e entry
			if err == nil {
				if e, err = parseEntry(line); err != nil {
					err = fmt.Errorf("%s: line %d: %w", p.Keymap, n, err)
				}
			}
			if e.path != "" {
				e.path = path.Join(p.Base, e.path)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// exists reports whether anything has that name.
func exists(root *os.Root, name string) (fs.FileInfo, bool, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return info, err == nil, err
}
