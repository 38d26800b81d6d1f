package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"
)

// jsonCommand runs a command with --json, whatever it ends with, and fails unless each line
// of its output is a JSON object with a message_type, the last one the summary, and every
// field has a name in snake_case:
//
//	json sallyport status
//
// An argument @GLOB stands for the only file that matches, by its name without .json.
func jsonCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[0] != "sallyport" {
		ts.Fatalf("usage: json sallyport COMMAND ...")
	}
	n := 2
	if slices.Contains([]string{"audit", "certificate", "config", "erasure", "hold", "keys", "purge", "retention", "schedule"}, args[1]) {
		n = 3
	}
	for i, a := range args {
		pattern, is := strings.CutPrefix(a, "@")
		if !is {
			continue
		}
		files, err := filepath.Glob(ts.MkAbs(pattern))
		if err != nil || len(files) != 1 {
			ts.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		args[i] = strings.TrimSuffix(filepath.Base(files[0]), ".json")
	}
	_ = ts.Exec(args[0], slices.Concat(args[1:n], []string{"--json"}, args[n:])...)
	if text := ts.ReadFile("stderr"); text != "" {
		ts.Fatalf("standard error: %s", text)
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	for i, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			ts.Fatalf("%q: %v", line, err)
		}
		if kind, _ := m["message_type"].(string); kind == "" || (kind == "summary") != (i == len(lines)-1) {
			ts.Fatalf("line %d of %d: %s", i+1, len(lines), line)
		}
		for _, wrong := range misnamed(m, "") {
			ts.Fatalf("%s is no name for a field: %s", wrong, line)
		}
	}
}

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// keyed are the fields that hold a map from values, such as codes, and not fields; documents
// are those that hold a document of a standard, which has its own names.
var (
	keyed     = []string{"fates", "kinds", "kept", "gaps", "versions", "grades"}
	documents = []string{"certificate", "descriptor", "event"}
)

// misnamed returns the names of fields that are not in snake_case.
func misnamed(v any, path string) (wrong []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if !snakeCase.MatchString(name) {
				wrong = append(wrong, path+"."+name)
			}
			if _, isMap := value.(map[string]any); isMap && (slices.Contains(keyed, name) || slices.Contains(documents, name)) {
				continue
			}
			wrong = append(wrong, misnamed(value, path+"."+name)...)
		}
	case []any:
		for _, item := range v {
			wrong = append(wrong, misnamed(item, path)...)
		}
	}
	return wrong
}

// Each command is run with --json in testdata/json.txtar, but for those whose output is a
// document or a text of its own.
func TestEveryCommandIsRunForItsJSON(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/json.txtar")
	if err != nil {
		t.Fatal(err)
	}
	without := []string{"cat", "completion", "config schema", "certificate schema", "demo", "docs", "man", "prove", "version"} // version: TestJSONOutputEndsWithASummary
	seen := 0
	var walk func(prefix string, commands []*cli.Command)
	walk = func(prefix string, commands []*cli.Command) {
		for _, c := range commands {
			name := strings.TrimSpace(prefix + " " + c.Name)
			if len(c.Subcommands) > 0 {
				if !slices.Contains(without, name) {
					walk(name, c.Subcommands)
				}
				continue
			}
			if seen++; !slices.Contains(without, name) && !strings.Contains(string(text), "\njson sallyport "+name+" ") && !strings.Contains(string(text), "\njson sallyport "+name+"\n") {
				t.Errorf("%s is not run with --json", name)
			}
		}
	}
	walk("", newApp(newUI(os.Stdout, os.Stderr)).Commands)
	if seen < 30 {
		t.Errorf("only %d commands: the walk is broken", seen)
	}
}
