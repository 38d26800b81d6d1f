package archive

import (
	"fmt"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

func TestLinesWithHarmfulPathsAreRefused(t *testing.T) {
	t.Parallel()
	line := func(path string) []byte {
		return fmt.Appendf(nil, `{"key":"a","ordinal":0,"data":{},"size":0,"sha256":"%s","path":"%s","location":[]}`, dataset.Sum(nil), path)
	}
	for _, path := range []string{"objects/a", "objects/a~d/b.c", "versions/a-b~v0", "objects/~2E~2E/x", "objects/~e"} {
		if _, err := ParseLine(line(path)); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{"", "a", "objects", "objects/", "/objects/a", "objects/../a", "objects/a/..", "objects//a", "objects/a/", "objects/.a", "objects/-rf", "objects/a b", "objects/a%", "objects/é", "other/a"} {
		if _, err := ParseLine(line(path)); err == nil {
			t.Errorf("%q was accepted", path)
		}
	}
}
