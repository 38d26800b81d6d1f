// Package layers holds the table of layers as a test: a package imports only
// packages that stand above it in the table. Tests are exempt.
package layers

import (
	"encoding/json"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/dwp/sallyport"

// layers lists the packages from the ground up. A line ending in /... stands for a
// family; members of one line do not import each other.
var layers = [][]string{
	{"internal/retry"},
	{"internal/buffers", "internal/durable", "internal/progress", "internal/s3conn", "internal/layers"},
	{"internal/spool", "internal/durable/durabletest"},
	{"dataset"},
	{"crypto"},
	{"archive"},
	{"archive/dir", "archive/s3", "archive/bundle", "archive/archivetest", "archive/model"},
	{"exporters"},
	{"exporters/exportertest"},
	{"exporters/..."},
	{"reconcile"},
	{"transfer"},
	{"audit"},
	{"verify"},
	{"retention"},
	{"fixtures"},
	{"fixtures/..."},
	{"internal/schedule"},
	{"internal/config"},
	{"internal/demo"},
	{"cmd/...", "bench"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestPackagesImportOnlyTheLayersAboveThem(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		check(t, p)
	}
	if seen < 5 {
		t.Fatalf("go list found %d packages; the walk is broken", seen)
	}
}

func check(t *testing.T, p pkg) {
	name := strings.TrimPrefix(p.ImportPath, module+"/")
	mine := layerOf(name)
	if mine < 0 {
		t.Errorf("%s is not in the table of layers", name)
		return
	}
	for _, imp := range p.Imports {
		dep, ours := strings.CutPrefix(imp, module+"/")
		if !ours || within(name, dep) {
			continue
		}
		if l := layerOf(dep); l >= mine {
			t.Errorf("%s imports %s, which does not stand above it", name, dep)
		}
	}
}

// within reports whether a is an inner part of b's own family: exporters/rest/jinja
// belongs to exporters/rest, and may be imported by it.
func within(a, b string) bool {
	return strings.HasPrefix(b, a+"/") && strings.Count(a, "/") >= 1
}

// layerOf returns the index of the first layer that names pkg exactly, else of the
// first family it is in, else -1.
func layerOf(pkg string) int {
	for i, l := range layers {
		for _, name := range l {
			if name == pkg {
				return i
			}
		}
	}
	for i, l := range layers {
		for _, name := range l {
			if family, ok := strings.CutSuffix(name, "/..."); ok && (strings.HasPrefix(pkg, family+"/") || path.Base(pkg) == family) {
				return i
			}
		}
	}
	return -1
}
