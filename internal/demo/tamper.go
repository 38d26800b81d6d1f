package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/dwp/sallyport/archive"
	archivedir "github.com/dwp/sallyport/archive/dir"
	"github.com/dwp/sallyport/verify"
)

// tampering flips one bit in a copy of the archive.
func (d *demo) tampering(ctx context.Context) error {
	d.say("\nTampering with a copy of the archive:")
	return d.step("one bit of a pack flipped", func() (string, error) { return d.tamper(ctx) })
}

// tamper wants the check to name the pack.
func (d *demo) tamper(ctx context.Context) (string, error) {
	defer os.RemoveAll(d.path("tampered"))
	if err := os.CopyFS(d.path("tampered"), os.DirFS(d.path("archive"))); err != nil {
		return "", err
	}
	copied, err := archivedir.Open(d.path("tampered"))
	if err != nil {
		return "", err
	}
	defer copied.Close()
	name, err := flip(ctx, copied, d.path("tampered"))
	if err != nil {
		return "", err
	}
	r, err := verify.Check{Archive: &archive.Archive{Store: copied, ID: d.archive.ID, Trust: d.archive.Trust}}.Run(ctx)
	if err != nil {
		return "", err
	}
	d.expect(len(r.Findings) == 1 && r.Findings[0].Object == name, "the check of the tampered copy found %v; want %s", r.Findings, name)
	if len(r.Findings) == 0 {
		return "not found", nil
	}
	return "found: " + r.Findings[0].Detail, nil
}

// flip flips a bit in the middle of the largest pack and returns its name.
func flip(ctx context.Context, st archive.Store, root string) (string, error) {
	var largest archive.Info
	for info, err := range st.List(ctx, bucketName+"/packs/") {
		if err != nil {
			return "", err
		}
		if info.Size > largest.Size {
			largest = info
		}
	}
	path := filepath.Join(root, filepath.FromSlash(largest.Name))
	if err := os.Chmod(path, 0o600); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, largest.Size/2)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, largest.Size/2)
	}
	return largest.Name, errors.Join(err, f.Close())
}
