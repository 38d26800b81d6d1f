package dir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
)

func TestFullDiskEndsTheLoadAndNamesThePath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "d")
	if os.Mkdir(dir, 0o700) != nil || syscall.Mount("none", dir, "tmpfs", 0, "size=64k") != nil {
		t.Skip("this machine lets us mount no small file system")
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	s := new(memory.Source)
	s.Generate(objects, 100, memory.Object(1, 4000, 5000))
	dst := NewTarget(dir, Options{NoSync: true})
	defer dst.Close()
	ctx := t.Context()
	if err := dst.Begin(ctx, "t", []dataset.Stream{objects}); err != nil {
		t.Fatal(err)
	}
	err := dst.Load(ctx, objects, view1(t, s).Read(ctx, exporters.Query{Streams: []dataset.Stream{objects}}), func(dataset.Gap) {})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Load = %v; want ENOSPC and the path", err)
	}
	if err := dst.Finish(ctx); err == nil {
		t.Error("Finish after a failed Load succeeded")
	}
	if err := dst.Destroy(ctx, "t"); err != nil {
		t.Errorf("Destroy: %v", err)
	}
}
