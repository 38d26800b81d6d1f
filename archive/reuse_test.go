package archive_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dwp/sallyport/archive/archivetest"
)

// An archive whose objects mostly went must not keep the packs of those that are left
// for ever: packs of which less than 70 % is referred to are written anew.
func TestPacksThatAreMostlyDeadAreWrittenAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		keep    int // of ten objects in each pack
		rewrote bool
	}{{"nine of ten live", 9, false}, {"half of them live", 5, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, new(archivetest.Memory))
			w.size = 8 << 20
			all, left := map[string][]byte{}, map[string][]byte{}
			for i := range 10 {
				data := make([]byte, 700<<10)
				rand.NewChaCha8([32]byte{byte(i)}).Read(data) // nothing that compresses
				key := fmt.Sprintf("object-%02d", i)
				all[key] = data
				if i < c.keep {
					left[key] = data
				}
			}
			if _, err := w.export(t.Context(), all, 10); err != nil {
				t.Fatal(err)
			}
			second, err := w.export(t.Context(), left, 10)
			if err != nil {
				t.Fatal(err)
			}
			third, err := w.export(t.Context(), left, 10)
			if err != nil {
				t.Fatal(err)
			}
			if second.Manifest.Counts.New > 64<<10 {
				t.Errorf("the second export wrote %d bytes although nothing was known to be dead", second.Manifest.Counts.New)
			}
			if got := third.Manifest.Counts.New > 1<<20; got != c.rewrote {
				t.Errorf("the third export wrote %d bytes; rewrote = %t, want %t", third.Manifest.Counts.New, got, c.rewrote)
			}
			if err := w.verify(t.Context(), third, left, 10); err != nil {
				t.Error(err)
			}
		})
	}
}
