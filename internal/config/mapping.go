package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/dwp/sallyport/exporters"
	"go.yaml.in/yaml/v3"
)

// LoadMap reads a file that holds one mapping, in YAML or JSON, by the rules of a setting
// that is a mapping: its values are text, bool, int64, float64, nil, []any and
// map[string]any. It fails with an *[Error], which repeats no value that may be a
// secret, or with the error of opening the file. References to secrets are returned as
// they stand; relative paths in them start from the file's directory.
func LoadMap(path string) (map[string]any, error) {
	d, root, err := mapping(path)
	if err != nil {
		return nil, err
	}
	m, _ := d.free(root, "").(map[string]any)
	if err := d.found.asError(); err != nil {
		return nil, err
	}
	return m, nil
}

// LoadOptions reads a file that holds what stands below with in the configuration of a
// service, for an exporter of kind k: each setting is checked against its declaration, and
// defaults are filled in. Settings in given may be missing from the file. It fails as
// [LoadMap] does; relative paths start from the file's directory.
func LoadOptions(path string, k exporters.Kind, given map[string]any) (map[string]any, error) {
	d, root, err := mapping(path)
	if err != nil {
		return nil, err
	}
	w := With{node: root}
	d.options(&w, k, "", root.Line, given)
	return w.Options, d.found.asError()
}

// mapping reads a file that holds one mapping.
func mapping(path string) (*decoder, *yaml.Node, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	d := &decoder{file: path, dir: filepath.Dir(path), pos: map[string]int{}}
	switch {
	case len(text) > maxFile:
		d.fail(1, "", "longer than %d bytes", maxFile)
		return nil, nil, d.found.asError()
	case !utf8.Valid(text):
		d.fail(1+bytes.Count(text[:invalidAt(text)], []byte("\n")), "", "not UTF-8")
		return nil, nil, d.found.asError()
	}
	root := d.document(text)
	if root == nil {
		return nil, nil, d.found.asError()
	}
	if root.Kind != yaml.MappingNode {
		d.fail(root.Line, "", "must be a mapping of keys to values, not %s", kindOf(root))
		return nil, nil, d.found.asError()
	}
	return d, root, nil
}
