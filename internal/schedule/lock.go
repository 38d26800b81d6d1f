package schedule

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// ErrBusy says that another run of the same service goes on on this host.
var ErrBusy = errors.New("another run of this service is going on")

// Lock takes the lock called name in the directory dir, which it makes (mode 0700) if
// it is missing. It fails with [ErrBusy] at once if another process, or this one, has
// it. The lock ends with unlock or with the process, however that ends; the file stays.
//
// The lock saves double work. Safety does not rest on it: the archive's commit
// protocol stands two writers.
func Lock(dir, name string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f.Close, nil
}
