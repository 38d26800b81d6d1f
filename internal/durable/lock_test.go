package durable

import (
	"path/filepath"
	"syscall"
	"testing"
)

func TestUnlockReleasesALockWhoseFileAChildHasToo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(l.f.Fd())) // as fork does
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := TryLock(path)
	if err != nil {
		t.Fatalf("after Unlock: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Error(err)
	}
}
