package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoadMapReadsOneMappingStrictly(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.yaml")
	load := func(text string) (map[string]any, error) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadMap(file)
	}
	want := map[string]any{"base": "http://localhost", "since": "2026-01-01", "n": int64(3), "deep": map[string]any{"list": []any{true, nil, 1.5}}}
	for _, text := range []string{
		"base: http://localhost\nsince: 2026-01-01\nn: 3\ndeep: {list: [true, null, 1.5]}\n",
		`{"base": "http://localhost", "since": "2026-01-01", "n": 3, "deep": {"list": [true, null, 1.5]}}`,
	} {
		if got, err := load(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, %v", text, got, err)
		}
	}
	for text, complaint := range map[string]string{
		"":                             "empty",
		"- a\n":                        "mapping",
		"a: 1\na: 2\n":                 "a",
		"a: 0123\n":                    "more than one number",
		"a: 1\n---\nb: 2\n":            "second document",
		"a: \xff\n":                    "UTF-8",
		"a: http://u:hunter2@host/x\n": "password",
	} {
		_, err := load(text)
		if e := (*Error)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), complaint) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := LoadMap(file + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
