package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/config"
)

// insideBag reports whether a store is the payload of a BagIt bag: the folder data beside
// a file bagit.txt.
func insideBag(at config.Location) bool {
	if at.Scheme() != "" {
		return false
	}
	path, err := filepath.Abs(string(at))
	if err != nil || filepath.Base(path) != "data" {
		return false
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(path), "bagit.txt"))
	return err == nil
}

// errBag says that a bundle is not altered: its checksums would not hold any more.
func errBag() error {
	return &exitError{code: exitPolicy, err: errors.New("the store is a bundle, which is not written to"),
		hint: "copy its folder data to another place: the copy is a store"}
}

// A bagStore is the payload of a bundle. It can be read.
type bagStore struct{ archive.Store }

// Create implements [archive.Store], and refuses.
func (bagStore) Create(context.Context, string, []byte) error { return errBag() }
