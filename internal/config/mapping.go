package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// LoadMap reads a file that holds one mapping, in YAML or JSON, by the rules of a setting
// that is a mapping: its values are text, bool, int64, float64, nil, []any and
// map[string]any. It fails with an *[Error], which repeats no value that may be a
// secret, or with the error of opening the file. References to secrets are returned as
// they stand; relative paths in them start from the file's directory.
func LoadMap(path string) (map[string]any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	d := &decoder{file: path, pos: map[string]int{}}
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
	if root.Kind != yaml.MappingNode {
		d.fail(root.Line, "", "must be a mapping of keys to values, not %s", kindOf(root))
		return nil, d.found.asError()
	}
	m, _ := d.free(root, "").(map[string]any)
	if err := d.found.asError(); err != nil {
		return nil, err
	}
	return m, nil
}
