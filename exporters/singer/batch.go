package singer

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/dwp/sallyport/dataset"
)

// batchMessage reads the files that a BATCH message of the Meltano SDK lists: JSON Lines
// of bare records, as they are or through gzip. Other formats and places are a gap.
func (r *reader) batchMessage(line []byte) error {
	s, err := r.streamOf(line, "BATCH")
	if s == nil || err != nil {
		return err
	}
	var m struct {
		Encoding struct{ Format, Compression string }
		Manifest []string
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return fmt.Errorf("BATCH of stream %q: %w", dataset.Escape(s.def.Name), err)
	}
	if f, c := m.Encoding.Format, m.Encoding.Compression; f != "jsonl" || c != "" && c != "none" && c != "gzip" {
		return r.streamGap(s, dataset.Unsupported, fmt.Sprintf("%d files of a batch in format %q, compression %q", len(m.Manifest), f, c))
	}
	for _, file := range m.Manifest {
		if err := r.batchFile(s, file, m.Encoding.Compression == "gzip"); err != nil {
			return err
		}
	}
	return nil
}

// errElsewhere says that a file is not where files of batches may lie.
var errElsewhere = errors.New("not a file in the directory for batches")

// batchFile yields the records of one file and removes it.
func (r *reader) batchFile(s *stream, file string, zipped bool) error {
	root, err := os.OpenRoot(r.batchDir())
	if err != nil {
		return err
	}
	defer root.Close()
	name, err := batchName(r.batchDir(), file)
	if err == nil {
		err = r.batchLines(s, root, name, zipped)
	}
	switch {
	case err == nil:
		return root.Remove(name)
	case errors.Is(err, errElsewhere):
		return r.streamGap(s, dataset.Unsupported, fmt.Sprintf("file %q of a batch: %v", file, err))
	case err == errStop:
		return err
	}
	return fmt.Errorf("batch %q: %w", file, err)
}

// batchName returns the name within dir of the file that a manifest names.
func batchName(dir, file string) (string, error) {
	u, err := url.Parse(file)
	if err != nil || u.Scheme != "file" && u.Scheme != "" || u.Host != "" && u.Host != "localhost" {
		return "", errElsewhere
	}
	// The directory itself may be reached through a link, which the tap resolves.
	for _, base := range []string{dir, resolve(dir)} {
		name := u.Path
		if name == "" {
			name = u.Opaque
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(base, name)
		}
		if rel, err := filepath.Rel(base, name); err == nil && filepath.IsLocal(rel) {
			return rel, nil
		}
	}
	return "", errElsewhere
}

func resolve(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

func (r *reader) batchLines(s *stream, root *os.Root, name string, zipped bool) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errElsewhere
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var in io.Reader = f
	if zipped {
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			return err
		}
		defer z.Close()
		in = z
	}
	for line, err := range dataset.Lines(in, r.o.MaxLine) {
		if err != nil {
			return err
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := r.record(s, line); err != nil {
			return err
		}
	}
	return nil
}
