package exporters

import "errors"

var (
	// ErrChanged says that a record at the source is not the one in the archive.
	ErrChanged = errors.New("changed since it was archived")

	// ErrNotEmpty says that a target holds something already.
	ErrNotEmpty = errors.New("target is not empty")

	// ErrNotOurs says that a target does not carry the marker of this test.
	ErrNotOurs = errors.New("target was not filled by this test")

	// ErrCredentials says that the source refused who we are (as opposed to one item).
	ErrCredentials = errors.New("the source refused the credentials")

	// ErrTemporary says that trying again later may help.
	ErrTemporary = errors.New("temporary failure")
)
