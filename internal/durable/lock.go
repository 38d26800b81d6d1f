package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that another process, or another part of this one, holds a lock.
var ErrLocked = errors.New("locked by another process")

// A Lock is an advisory lock of one host (flock). The kernel releases it when its
// process ends, however it ends, so a lock is never stale. Its file stays: removing it
// would let two processes lock two files of one name.
type Lock struct{ f *os.File }

// TryLock takes the lock of the file at path, which it makes if it is missing, and
// fails with [ErrLocked] at once if it is held. The caller releases it with Unlock.
func TryLock(path string) (*Lock, error) { return lock(path, syscall.LOCK_EX|syscall.LOCK_NB) }

// WaitLock is TryLock for what is held for moments only: it waits.
func WaitLock(path string) (*Lock, error) { return lock(path, syscall.LOCK_EX) }

func lock(path string, how int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// Unlock releases the lock. Closing the file is not enough: a child that is being started
// has it too, until its own program begins.
func (l *Lock) Unlock() error {
	return errors.Join(syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN), l.f.Close())
}
