package bundle

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

// readableText is README.md of a readable bag.
//
//go:embed readable.md
var readableText string

// Missing is the file of a readable bag that names what the copy lacks, as JSON Lines.
const Missing = "missing.jsonl"

// Readable makes a bag of the folder dir, whose payload dir/data was restored from s and
// is NOT encrypted: a copy for people, which no check or restore accepts as an archive.
// The manifest of s goes along with its signatures, so that the copy says which snapshot
// it is of.
//
// It fails unless dir holds data and the file [Missing], and nothing else. bagit.txt,
// without which a folder is no bag, is written last, and when Readable returns nil
// everything is durable that it wrote itself; of the rest its writers have to see to that.
func Readable(ctx context.Context, a *archive.Archive, s *archive.Snapshot, dir string, o Options) (*Report, error) {
	if strings.ContainsAny(o.Product, "\r\n") {
		return nil, fmt.Errorf("bundle: product %q is not one line", o.Product)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	entries, err := os.ReadDir(dir)
	if err == nil && (len(entries) != 2 || entries[0].Name() != "data" || entries[1].Name() != Missing) {
		err = fmt.Errorf("%s holds more than data and %s, or less: %w", dir, Missing, fs.ErrExist)
	}
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	tree, err := durable.OpenPrivate(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b := &bag{a: a, s: s, o: o, tree: tree, payload: map[string]dataset.Hash{}, tags: map[string]dataset.Hash{}}
	if err := errors.Join(b.readable(ctx, dir), tree.Close()); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, ".tmp")); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return &b.report, nil
}

func (b *bag) readable(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), "data", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return err
		}
		sum, n, err := hashFile(root, name)
		b.payload[strings.TrimPrefix(name, "data/")] = sum
		b.report.Files++
		b.report.Bytes += n
		return err
	})
	if err == nil {
		b.tags[Missing], _, err = hashFile(root, Missing)
	}
	if err != nil {
		return err
	}
	text := strings.NewReplacer("@STORE@", string(b.a.ID), "@SERVICE@", b.s.Service, "@RUN@", string(b.s.Run)).Replace(readableText)
	if err := b.tag("README.md", text); err != nil {
		return err
	}
	if err := b.tag("snapshot/manifest.json", string(b.s.Doc)); err != nil {
		return err
	}
	sigs, err := b.a.Signatures(ctx, b.s.Service, b.s.Hash, "sallyport-manifest")
	if err != nil {
		return err
	}
	for _, sig := range sigs {
		if err := b.tag(fmt.Sprintf("snapshot/%s.sig", dataset.Sum(sig.Text)), string(sig.Text)); err != nil {
			return err
		}
	}
	return b.declare(fmt.Sprintf("Readable copy, NOT encrypted, of a Sallyport snapshot of service %s, %s", b.s.Service, b.s.Manifest.State))
}

// hashFile returns the hash and length of a regular file. BagIt writes a percent sign and
// line ends in names encoded, and sha256sum a backslash; a name with one is refused.
func hashFile(root *os.Root, name string) (sum dataset.Hash, n int64, err error) {
	if strings.ContainsAny(name, "%\r\n\\") {
		return sum, 0, fmt.Errorf("name %q is not one of a bag", name)
	}
	info, err := root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return sum, 0, err
	}
	f, err := root.Open(name)
	if err != nil {
		return sum, 0, err
	}
	h := sha256.New()
	n, err = io.Copy(h, f)
	return dataset.Hash(h.Sum(nil)), n, errors.Join(err, f.Close())
}
