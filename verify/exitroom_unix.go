//go:build linux || darwin

package verify

import (
	"context"
	"fmt"
	"syscall"
)

// RoomIn returns an [ExitTest.Room] for a target in the file system of a directory.
func RoomIn(dir string) func(ctx context.Context, bytes int64) error {
	return func(_ context.Context, bytes int64) error {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(dir, &fs); err != nil {
			return fmt.Errorf("free space in %s: %w", dir, err)
		}
		if free := fs.Bavail * uint64(fs.Bsize); uint64(max(bytes, 0)) > free {
			return fmt.Errorf("%s has %d bytes free: %w", dir, free, syscall.ENOSPC)
		}
		return nil
	}
}
