package archive

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotReadable says that an object exists and cannot be read now, for example
	// because it was moved to cold storage.
	ErrNotReadable = errors.New("stored object is not readable now")

	// ErrNoConditionalWrites says that a store ignores "create only if absent".
	ErrNoConditionalWrites = errors.New("the store does not honour conditional writes")

	// ErrFenced says that another decision for this run exists: what this writer
	// wrote is not, and will not be, a snapshot.
	ErrFenced = errors.New("fenced: the run was decided by someone else")
)

// A LockedError says until when the store retains an object.
type LockedError struct {
	Name  string
	Until time.Time // zero if the store does not say
}

func (e *LockedError) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("%s is retained by the store", e.Name)
	}
	return fmt.Sprintf("%s is retained by the store until %s", e.Name, e.Until.UTC().Format(time.RFC3339))
}
