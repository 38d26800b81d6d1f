package bundle

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

// RestoreText is RESTORE.md with @STORE@, @SERVICE@ and @RUN@ for what it is about. Its
// shell blocks are also those of docs/archive-format.md.
//
//go:embed restore.md
var restoreText string

// Options say how a bag is written. The zero Options are the ones to use.
type Options struct {
	// AllowedSigners is copied into the bag as allowed_signers if it is not nil: for
	// whoever has no other copy, and as no proof of anything.
	AllowedSigners []byte

	Product  string                  // name and version of the writer, for bag-info.txt; one line
	Now      func() time.Time        // nil means time.Now
	Parallel int                     // packs copied at once; 0 means 4. Each takes up to 32 MiB of memory
	Progress func(done, total int64) // bytes of packs; may be nil; called from any goroutine
}

// A Report says what a bag holds, and what stayed behind.
type Report struct {
	Files     int64 `json:"files"` // of the payload
	Bytes     int64 `json:"bytes"` // of the payload
	Packs     int64 `json:"packs"`
	Ancestors int   `json:"ancestors"` // snapshots that s descends from, whose decisions are in the bag

	// LeftOut names objects that belong to the snapshot's documents and are damaged,
	// missing, or not validly signed: the snapshot does not depend on them.
	LeftOut []string `json:"left_out"`

	// Doubtful names what lies among the holds and is damaged or not validly signed. It is
	// in the bag as it lies, because it may be a hold: whoever deletes stops at it.
	Doubtful []string `json:"doubtful"`
}

// Write makes a bag of s in dir, which must be empty or absent. The bag is complete, or
// Write fails: bagit.txt, without which a folder is no bag, is written last, and when
// Write returns nil everything is durable. Every pack, list and sealed key is held
// against its name and every document against its signature on the way.
//
// It fails with [fs.ErrExist] if dir holds anything, and with what the archive reports
// (*[archive.DamageError], *[archive.IntegrityError], [fs.ErrNotExist]) if the snapshot
// is not whole. What an interrupted Write leaves may be deleted.
func Write(ctx context.Context, a *archive.Archive, s *archive.Snapshot, dir string, o Options) (*Report, error) {
	if strings.ContainsAny(o.Product, "\r\n") {
		return nil, fmt.Errorf("bundle: product %q is not one line", o.Product)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if err := CheckEmpty(dir); err != nil {
		return nil, err
	}
	tree, err := durable.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b := &bag{a: a, s: s, o: o, tree: tree, payload: map[string]dataset.Hash{}, tags: map[string]dataset.Hash{}}
	if err := errors.Join(b.fill(ctx), tree.Close()); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	// The folder in which files lay before they had a name is empty now.
	if err := os.Remove(filepath.Join(dir, ".tmp")); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return &b.report, nil
}

// CheckEmpty fails with [fs.ErrExist] if the folder dir holds anything. It need not exist.
func CheckEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("bundle: %s is not empty: %w", dir, fs.ErrExist)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("bundle: %w", err)
	}
	return nil
}

// A bag is a bag that is being written.
type bag struct {
	a    *archive.Archive
	s    *archive.Snapshot
	o    Options
	tree *durable.Dir

	mu      sync.Mutex // guards the rest
	payload map[string]dataset.Hash
	tags    map[string]dataset.Hash
	report  Report
	done    int64 // bytes of packs
}

func (b *bag) fill(ctx context.Context) error {
	if err := b.storeDocument(ctx); err != nil {
		return err
	}
	if err := b.chain(ctx); err != nil {
		return err
	}
	if err := b.records(ctx); err != nil {
		return err
	}
	if err := b.lists(ctx); err != nil {
		return err
	}
	if err := b.keys(ctx); err != nil {
		return err
	}
	if err := b.packs(ctx); err != nil {
		return err
	}
	return b.finish()
}

// put adds a payload file; name is its name in the store.
func (b *bag) put(name string, data []byte) error {
	b.mu.Lock()
	_, twice := b.payload[name]
	b.payload[name] = dataset.Sum(data)
	if !twice {
		b.report.Files++
		b.report.Bytes += int64(len(data))
	}
	b.mu.Unlock()
	if twice {
		return nil
	}
	return b.tree.Create("data/"+name, data)
}

func (b *bag) leaveOut(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report.LeftOut = append(b.report.LeftOut, name)
}

// finish adds the tag files.
func (b *bag) finish() error {
	text := strings.NewReplacer("@STORE@", string(b.a.ID), "@SERVICE@", b.s.Service, "@RUN@", string(b.s.Run)).Replace(restoreText)
	if err := b.tag("RESTORE.md", text); err != nil {
		return err
	}
	if b.o.AllowedSigners != nil {
		if err := b.tag("allowed_signers", string(b.o.AllowedSigners)); err != nil {
			return err
		}
	}
	return b.declare(fmt.Sprintf("Sallyport snapshot of service %s, %s; RESTORE.md says how to restore it", b.s.Service, b.s.Manifest.State))
}

// declare adds the tag files that make the folder a bag, bagit.txt last.
func (b *bag) declare(description string) error {
	if err := b.tag("bag-info.txt", b.info(description)); err != nil {
		return err
	}
	if err := b.tag("manifest-sha256.txt", checksums("data/", b.payload)); err != nil {
		return err
	}
	const declaration = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
	b.tags["bagit.txt"] = dataset.Sum([]byte(declaration))
	if err := b.tree.Create("tagmanifest-sha256.txt", []byte(checksums("", b.tags))); err != nil {
		return err
	}
	return b.tree.Create("bagit.txt", []byte(declaration))
}

func (b *bag) tag(name, text string) error {
	b.tags[name] = dataset.Sum([]byte(text))
	return b.tree.Create(name, []byte(text))
}

// info is bag-info.txt. All its values are ours or checked to be one line.
func (b *bag) info(description string) string {
	var t strings.Builder
	line := func(label, value string) { fmt.Fprintf(&t, "%s: %s\n", label, value) }
	line("Bagging-Date", b.o.Now().UTC().Format(time.DateOnly))
	if b.o.Product != "" {
		line("Bag-Software-Agent", b.o.Product)
	}
	line("External-Identifier", fmt.Sprintf("%s/%s/%s", b.a.ID, b.s.Service, b.s.Run))
	line("External-Description", description)
	line("Payload-Oxum", fmt.Sprintf("%d.%d", b.report.Bytes, b.report.Files))
	return t.String()
}

// checksums is a manifest of BagIt, which is also what sha256sum --check reads.
func checksums(folder string, sums map[string]dataset.Hash) string {
	var t strings.Builder
	for _, name := range sortedNames(sums) {
		fmt.Fprintf(&t, "%s  %s%s\n", sums[name], folder, name)
	}
	return t.String()
}
