package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// Bounds of what is read of an object that is no pack.
const (
	maxControl   = 16 << 20
	maxList      = 256 << 20
	maxAnnex     = 256 << 20
	maxSignature = 16 << 10
)

// storeDocument adds store.json with its signatures.
func (b *bag) storeDocument(ctx context.Context) error {
	doc, err := b.read(ctx, archive.StoreName, maxControl)
	if err != nil {
		return err
	}
	var d archive.StoreDocument
	if err := json.Unmarshal(doc, &d); err != nil || d.ID != b.a.ID {
		return &archive.IntegrityError{Name: archive.StoreName, Err: errors.New("is not the document that was opened")}
	}
	return b.signed(ctx, "", archive.StoreName, "sallyport-store", doc, d.Created.Time)
}

// chain adds the decisions and intents of the snapshot and all its ancestors, with the
// records that end them.
func (b *bag) chain(ctx context.Context) error {
	all, err := b.a.Snapshots(ctx, b.s.Service)
	if err != nil {
		return err
	}
	survey, err := b.a.Survey(ctx, b.s.Service)
	if err != nil {
		return err
	}
	byHash := map[dataset.Hash]*archive.Decision{}
	for _, d := range slices.Concat(all.All, all.Expired) {
		byHash[d.Hash] = d
	}
	if byHash[b.s.Hash] == nil {
		return fmt.Errorf("%s: %w", b.s.Run, errors.Join(append([]error{archive.ErrNoSnapshot}, all.Bad...)...))
	}
	seen := map[dataset.Hash]bool{b.s.Hash: true}
	for queue := []*archive.Decision{byHash[b.s.Hash]}; len(queue) > 0; queue = queue[1:] {
		d := queue[0]
		if err := b.run(ctx, d.Run, survey.Expired[d.Run]); err != nil {
			return err
		}
		for _, p := range d.Manifest.Parents {
			if byHash[p] == nil {
				err := fmt.Errorf("its parent %s is missing or cannot be trusted", p)
				return &archive.IntegrityError{Name: archive.DecisionName(b.s.Service, d.Run), Err: errors.Join(append([]error{err}, all.Bad...)...)}
			}
			if !seen[p] {
				seen[p], queue = true, append(queue, byHash[p])
			}
		}
	}
	b.report.Ancestors = len(seen) - 1
	return nil
}

// run adds the decision and the intent of a run, and what ends it if something does.
func (b *bag) run(ctx context.Context, r archive.RunID, expired []archive.Info) error {
	for _, name := range []string{archive.DecisionName(b.s.Service, r), archive.IntentName(b.s.Service, r)} {
		if err := b.document(ctx, name); err != nil {
			return err
		}
	}
	for _, info := range expired {
		if err := b.optional(info.Name, b.document(ctx, info.Name)); err != nil {
			return err
		}
	}
	return nil
}

// optional notes what the snapshot does not depend on as left out if it is missing or
// cannot be trusted.
func (b *bag) optional(name string, err error) error {
	if isUntrusted(err) || errors.Is(err, fs.ErrNotExist) {
		b.leaveOut(name)
		return nil
	}
	return err
}

// document adds a control document with its signatures.
func (b *bag) document(ctx context.Context, name string) error {
	doc, err := b.read(ctx, name, maxControl)
	if err != nil {
		return err
	}
	d, err := b.a.Parse(name, doc)
	if err != nil {
		return &archive.IntegrityError{Name: name, Err: err}
	}
	return b.signed(ctx, b.s.Service, name, d.Namespace, doc, d.At)
}

// signed adds a document of which at least one signature must be good.
func (b *bag) signed(ctx context.Context, service, name, namespace string, doc []byte, at time.Time) error {
	if _, err := b.a.Verify(ctx, service, namespace, doc, at); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return b.withSignatures(ctx, service, name, doc)
}

// withSignatures adds a document and all of its signatures that are not damaged: whom to
// trust is for the reader to say.
func (b *bag) withSignatures(ctx context.Context, service, name string, doc []byte) error {
	folder := "signatures/" + dataset.Sum(doc).String() + "/"
	if service != "" {
		folder = service + "/" + folder
	}
	for info, err := range b.listAll(ctx, folder) {
		if err != nil {
			return err
		}
		sig, err := b.named(ctx, info.Name, maxSignature)
		if err == nil {
			err = b.put(info.Name, sig)
		}
		if err := b.optional(info.Name, err); err != nil {
			return err
		}
	}
	return b.put(name, doc)
}

// lists adds the lists that the manifest names.
func (b *bag) lists(ctx context.Context) error {
	for _, ref := range b.s.Manifest.Lists {
		name := archive.ListName(b.s.Service, ref.SHA256)
		doc, err := b.named(ctx, name, maxList)
		if err != nil {
			return err
		}
		if err := b.put(name, doc); err != nil {
			return err
		}
	}
	return nil
}

// keys adds every sealed file of every run key that the manifest names, with the
// statements about them.
func (b *bag) keys(ctx context.Context) error {
	for _, k := range b.s.Manifest.Keys {
		sealed := map[dataset.Hash]bool{}
		var statements []string
		for info, err := range b.list(ctx, "keys/"+k.ID.String()+"/") {
			if err != nil {
				return err
			}
			switch n := archive.ParseName(info.Name); n.Class {
			case archive.StatementObject:
				statements = append(statements, info.Name)
			case archive.KeyObject:
				data, err := b.named(ctx, info.Name, maxControl)
				if err == nil {
					sealed[n.Hash] = true
					err = b.put(info.Name, data)
				}
				if err := b.optional(info.Name, err); err != nil { // a statement that names it will fail
					return err
				}
			}
		}
		if err := b.statements(ctx, k, statements, sealed); err != nil {
			return err
		}
	}
	return nil
}

// statements adds the statements about the sealed files of a key. Those files must be
// there, but for what a rotation replaced.
func (b *bag) statements(ctx context.Context, k archive.KeyRef, names []string, sealed map[dataset.Hash]bool) error {
	if name := archive.StatementName(b.s.Service, k.ID, k.Statement); !slices.Contains(names, name) {
		return fmt.Errorf("statement of run key %s: %w", k.ID, fs.ErrNotExist)
	}
	replaced := map[dataset.Hash]bool{}
	var files []dataset.Hash // by their statements
	var by []dataset.Hash    // the statements
	for _, name := range names {
		st, err := b.statement(ctx, name)
		h := archive.ParseName(name).Hash
		if err != nil && h != k.Statement { // the manifest does not name it
			if err := b.optional(name, err); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		replaced[st.Replaces] = true
		files, by = append(files, st.SHA256), append(by, h)
	}
	for i, file := range files {
		if !sealed[file] && !replaced[by[i]] {
			return fmt.Errorf("run key %s sealed as %s: %w", k.ID, file, fs.ErrNotExist)
		}
	}
	return nil
}

// statement adds one statement.
func (b *bag) statement(ctx context.Context, name string) (*archive.Statement, error) {
	doc, err := b.read(ctx, name, maxControl)
	if err != nil {
		return nil, err
	}
	d, err := b.a.Parse(name, doc)
	if err != nil {
		return nil, &archive.IntegrityError{Name: name, Err: err}
	}
	return d.Statement, b.signed(ctx, b.s.Service, name, d.Namespace, doc, d.At)
}

// packs copies the packs, each held against its name.
func (b *bag) packs(ctx context.Context) error {
	var total int64
	for _, p := range b.s.Packs {
		total += p.Size
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.o.Parallel)
	for _, h := range slices.SortedFunc(maps.Keys(b.s.Packs), func(x, y dataset.Hash) int { return bytes.Compare(x[:], y[:]) }) {
		g.Go(func() error { return b.pack(ctx, b.s.Packs[h], total) })
	}
	b.report.Packs = int64(len(b.s.Packs))
	return g.Wait()
}

func (b *bag) pack(ctx context.Context, p archive.PackRef, total int64) error {
	name := archive.PackName(b.s.Service, p.SHA256)
	data, err := b.readPack(ctx, name, p)
	var damage *archive.DamageError
	if errors.As(err, &damage) { // a flip on the way is no damage: read once more
		data, err = b.readPack(ctx, name, p)
	}
	if err != nil {
		return err
	}
	if err := b.put(name, data); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done += p.Size; b.o.Progress != nil {
		b.o.Progress(b.done, total)
	}
	return nil
}

// readPack reads a pack into exactly the room that its list says it takes.
func (b *bag) readPack(ctx context.Context, name string, p archive.PackRef) ([]byte, error) {
	if p.Size > archive.PackSize {
		return nil, &archive.IntegrityError{Name: name, Err: fmt.Errorf("claims %d bytes", p.Size)}
	}
	r, err := b.a.Store.Open(ctx, name, 0, p.Size+1)
	if errors.Is(err, fs.ErrNotExist) { // a list names it, so the archive is not whole
		return nil, &archive.IntegrityError{Name: name, Err: errors.New("is missing")}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	data := make([]byte, p.Size+1)
	n, err := io.ReadFull(r, data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	data = data[:n]
	if got := dataset.Sum(data); got != p.SHA256 || int64(n) != p.Size {
		return nil, &archive.DamageError{Name: name, Want: p.SHA256, Got: got, Size: int64(n)}
	}
	return data, nil
}

// named reads an object whose name holds its hash.
func (b *bag) named(ctx context.Context, name string, limit int64) ([]byte, error) {
	data, err := b.read(ctx, name, limit)
	if err != nil {
		return nil, err
	}
	if want, got := archive.ParseName(name).Hash, dataset.Sum(data); got != want {
		return nil, &archive.DamageError{Name: name, Want: want, Got: got, Size: int64(len(data))}
	}
	return data, nil
}

func (b *bag) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, err := b.a.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, &archive.IntegrityError{Name: name, Err: fmt.Errorf("is longer than %d bytes", limit)}
	}
	return data, nil
}

// list yields the objects of the service whose names go on with prefix and are names of
// the format, each in its first version.
func (b *bag) list(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return b.listAll(ctx, b.s.Service+"/"+prefix)
}

func (b *bag) listAll(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return func(yield func(archive.Info, error) bool) {
		for info, err := range b.a.Store.List(ctx, prefix) {
			if err != nil {
				yield(info, fmt.Errorf("list %s: %w", prefix, err))
				return
			}
			if info.Later || info.Marker || archive.ParseName(info.Name).Class == archive.Junk {
				continue // findings of a check, and no part of any snapshot
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func sortedNames(m map[string]dataset.Hash) []string { return slices.Sorted(maps.Keys(m)) }
