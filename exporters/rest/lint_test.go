package rest

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// TestOurManifestsRunAndUseEveryComponent: what the runtime claims, a manifest shows.
func TestOurManifestsRunAndUseEveryComponent(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	files, err := fs.Glob(fixtures.Manifests, "manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	for _, name := range files {
		data, err := fs.ReadFile(fixtures.Manifests, name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Lint(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, p := range r.Problems {
			t.Errorf("%s: %v", name, p)
		}
		for c := range r.Components {
			used[c] = true
		}
		// Components that are not built of their own are found by their name.
		for c := range loadCatalogue().components {
			if strings.Contains(string(data), "type: "+c) {
				used[c] = true
			}
		}
	}
	for _, c := range slices.Sorted(maps.Keys(loadCatalogue().components)) {
		if !used[c] && !slices.Contains(unused, c) {
			t.Errorf("no manifest uses %s", c)
		}
	}
}

// unused are components that need no manifest: they are named otherwise in manifests,
// or part of what is refused, or only for the check of a connection.
var unused = []string{"Schemas", "DynamicStreamCheckConfig",
	"ConfigMigration", "SessionTokenRequestApiKeyAuthenticator", "SessionTokenRequestBearerAuthenticator", "PrimaryKey"}
