package config

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/dwp/sallyport/exporters"
)

// maxFile bounds a configuration, in bytes.
const maxFile = 4 << 20

// Options say how to load.
type Options struct {
	Kinds []exporters.Kind // that services may use

	// References asks for a look at whatever the file refers to: key files are parsed,
	// and secrets must be there. Commands of secrets are looked for, not run.
	References bool
}

// Load reads the configuration at path. It fails with an *[Error] or a *[PolicyError]
// that lists everything that is wrong, or with the error of opening the file.
func Load(path string, o Options) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, text, o)
}

// Parse is [Load] of a file's text; path is absolute and need not exist.
func Parse(path string, text []byte, o Options) (*Config, error) {
	c := &Config{file: path, pos: map[string]int{}}
	d := &decoder{file: path, dir: filepath.Dir(path), pos: c.pos}
	switch {
	case len(text) > maxFile:
		d.fail(1, "", "longer than %d bytes", maxFile)
		return nil, d.found.asError()
	case !utf8.Valid(text):
		d.fail(1+bytes.Count(text[:invalidAt(text)], []byte("\n")), "", "not UTF-8")
		return nil, d.found.asError()
	}
	root := d.document(text)
	if root == nil {
		return nil, d.found.asError()
	}
	d.value(root, reflect.ValueOf(c).Elem(), "", field{max: -1})
	d.check(c, o.Kinds)
	if o.References {
		d.references(c)
	}
	if err := d.found.asError(); err != nil {
		return nil, err
	}
	return c, nil
}

// invalidAt returns where text stops being UTF-8.
func invalidAt(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(text)
}

// Names returns the names of the services, sorted.
func (c *Config) Names() []string { return slices.Sorted(maps.Keys(c.Services)) }

// Where returns file and line of a key ("services.case-files.waive[0]"), for messages.
func (c *Config) Where(path string) string { return fmt.Sprintf("%s:%d", c.file, c.pos[path]) }
