package dir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes durable all that was written to root's file system: one call for any
// number of files.
func syncAll(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
