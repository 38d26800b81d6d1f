package exporters

import "errors"

var (
	// ErrChanged says that a record at the source is not the one in the archive.
	ErrChanged = errors.New("changed since it was archived")

	// ErrRetained says that a source holds a record under a lock or a legal hold of its
	// own, so that nobody can delete it now.
	ErrRetained = errors.New("retained by the source")

	// ErrRefused says that a source does not let a record go by rules of its own: others
	// refer to it, or a trigger keeps it. Another deletion may change that.
	ErrRefused = errors.New("refused by the source")

	// ErrMarked says that a source has a record still that it was asked to delete: it only
	// marks what it deletes, or keeps it in a recycle bin.
	ErrMarked = errors.New("only marked as deleted")

	// ErrNotEmpty says that a target holds something already.
	ErrNotEmpty = errors.New("target is not empty")

	// ErrNotOurs says that a target does not carry the marker of this test.
	ErrNotOurs = errors.New("target was not filled by this test")

	// ErrCredentials says that the source refused who we are (as opposed to one item).
	ErrCredentials = errors.New("the source refused the credentials")

	// ErrTemporary says that trying again later may help.
	ErrTemporary = errors.New("temporary failure")
)
