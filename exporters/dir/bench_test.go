package dir

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
)

// BenchmarkRestore writes 25,000 objects of 1 to 16 KiB, and lets tar unpack the same
// files beside it.
func BenchmarkRestore(b *testing.B) {
	src := new(memory.Source)
	src.Generate(objects, 25_000, memory.Object(1, 1<<10, 16<<10))
	x, err := src.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer x.Close()
	restore := func(b *testing.B) string {
		dir := filepath.Join(b.TempDir(), "d")
		dst := NewTarget(dir, Options{})
		defer dst.Close()
		if err := dst.Begin(b.Context(), "t", []dataset.Stream{objects}); err != nil {
			b.Fatal(err)
		}
		err := dst.Load(b.Context(), objects, x.Read(b.Context(), exporters.Query{Streams: []dataset.Stream{objects}}), func(g dataset.Gap) { b.Error(&g) })
		if err != nil {
			b.Fatal(err)
		}
		if err := dst.Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
		return dir
	}
	b.Run("sallyport", func(b *testing.B) {
		for b.Loop() {
			restore(b)
		}
	})
	b.Run("tar", func(b *testing.B) {
		tar := filepath.Join(b.TempDir(), "all.tar")
		if err := exec.Command("tar", "-cf", tar, "-C", restore(b), ".").Run(); err != nil {
			b.Skip("no tar: ", err)
		}
		for b.Loop() {
			if err := exec.Command("tar", "-xf", tar, "-C", b.TempDir()).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
