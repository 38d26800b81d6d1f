package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// ErrNoLog says that a store holds no signed checkpoint of a log.
var ErrNoLog = errors.New("no such audit log")

// ErrInconsistent says that a log is not the continuation of what was known of it: it
// was rolled back, rewritten or forked.
var ErrInconsistent = errors.New("the audit log does not continue the one that was known")

// A Reader reads a log and can do nothing else. It is safe for concurrent use.
type Reader struct {
	s     store
	trust *crypto.Verifier

	// Principal, if not empty, is who must have signed the checkpoints.
	Principal string

	// Visit, if not nil, is called by [Reader.Verify] with each entry that it can read,
	// in order, from the goroutine that called Verify.
	Visit func(Entry)
}

// NewReader returns a Reader of a log in the store of an id. Trust says whose
// checkpoints are believed.
func NewReader(st archive.Store, id dataset.ID, log string, trust *crypto.Verifier) (*Reader, error) {
	if err := checkName(log); err != nil {
		return nil, err
	}
	return &Reader{s: store{st, id, log}, trust: trust}, nil
}

// Logs lists the names of the logs in a store, sorted.
func Logs(ctx context.Context, st archive.Store) ([]string, error) {
	var logs []string
	for info, err := range st.List(ctx, "audit/") {
		if err != nil {
			return nil, fmt.Errorf("list audit logs: %w", err)
		}
		log, _, _ := strings.Cut(strings.TrimPrefix(info.Name, "audit/"), "/")
		if checkName(log) == nil && !slices.Contains(logs, log) {
			logs = append(logs, log)
		}
	}
	slices.Sort(logs)
	return logs, nil
}

// Head returns the newest checkpoint that is validly signed. It fails with [ErrNoLog]
// if there is none. Anything unsigned in front of it is passed over; [Reader.Verify]
// reports it.
func (r *Reader) Head(ctx context.Context) (archive.Checkpoint, error) {
	tree, err := r.head(ctx)
	if err != nil {
		return archive.Checkpoint{}, err
	}
	return r.s.checkpoint(tree), nil
}

func (r *Reader) head(ctx context.Context) (tlog.Tree, error) {
	var names []string
	for info, err := range r.s.List(ctx, r.s.folder()+"checkpoints/") {
		if err != nil {
			return tlog.Tree{}, fmt.Errorf("list checkpoints of %s: %w", r.s.log, err)
		}
		if !info.Marker && !info.Later {
			names = append(names, info.Name)
		}
	}
	var why []error
	for _, name := range slices.Backward(names) {
		tree, text, err := r.readCheckpoint(ctx, name)
		if err == nil {
			_, err = r.signer(ctx, text, time.Time{})
		}
		var bad *badError
		switch {
		case err == nil:
			return tree, nil
		case !errors.As(err, &bad):
			return tlog.Tree{}, err
		}
		why = append(why, err)
	}
	return tlog.Tree{}, errors.Join(append([]error{fmt.Errorf("%w: %s", ErrNoLog, r.s.log)}, why...)...)
}

// A badError is about an object that was read and is not what it should be, as opposed
// to one that could not be read.
type badError struct{ err error }

func (e *badError) Error() string { return e.err.Error() }
func (e *badError) Unwrap() error { return e.err }

func (r *Reader) readCheckpoint(ctx context.Context, name string) (tlog.Tree, []byte, error) {
	text, err := r.s.read(ctx, name)
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	tree, err := r.namedCheckpoint(name, text)
	if err != nil {
		return tlog.Tree{}, nil, &badError{fmt.Errorf("%s: %w", name, err)}
	}
	return tree, text, nil
}

// namedCheckpoint parses a checkpoint, which must be that of its name.
func (r *Reader) namedCheckpoint(name string, text []byte) (tlog.Tree, error) {
	tree, err := r.s.parseCheckpoint(text)
	if err == nil && r.s.checkpointName(tree.N) != name {
		err = fmt.Errorf("is a checkpoint of size %d", tree.N)
	}
	return tree, err
}

// signer returns who signed a checkpoint.
func (r *Reader) signer(ctx context.Context, text []byte, at time.Time) (crypto.Identity, error) {
	sigs := make(map[string][]byte)
	for info, err := range r.s.List(ctx, r.signatures(text)) {
		if err != nil {
			return crypto.Identity{}, fmt.Errorf("list signatures of %s: %w", r.s.log, err)
		}
		if info.Marker || info.Later {
			continue
		}
		sig, err := r.s.read(ctx, info.Name)
		if err != nil {
			return crypto.Identity{}, err
		}
		sigs[info.Name] = sig
	}
	return r.signedBy(sigs, text, at)
}

// signedBy tries signatures, which are given by name. It fails with a *badError.
func (r *Reader) signedBy(sigs map[string][]byte, text []byte, at time.Time) (crypto.Identity, error) {
	why := []error{errors.New("not signed")}
	for i, name := range slices.Sorted(maps.Keys(sigs)) {
		id, err := r.trust.Verify(namespace, text, sigs[name], at)
		if err == nil && r.Principal != "" && id.Principal != r.Principal {
			err = fmt.Errorf("signed by %s; want %s", id.Principal, r.Principal)
		}
		if err == nil {
			return id, nil
		}
		why = append(why[:i], fmt.Errorf("%s: %w", name, err))
	}
	return crypto.Identity{}, &badError{errors.Join(why...)}
}

// signatures is the folder of the signatures over a checkpoint.
func (r *Reader) signatures(text []byte) string {
	name := archive.SignatureName(strings.TrimSuffix(r.s.folder(), "/"), dataset.Sum(text), namespace, nil)
	return name[:strings.LastIndexByte(name, '/')+1]
}

// Continues checks, without reading the whole log, that the newer of two checkpoints
// continues the older, and fails with [ErrInconsistent] if not. The newer must be
// trusted.
func (r *Reader) Continues(ctx context.Context, older, newer archive.Checkpoint) error {
	old, tree := treeOf(older), treeOf(newer)
	switch {
	case older.Log != r.s.log || newer.Log != r.s.log:
		return fmt.Errorf("checkpoints of %q and %q are not of log %q", older.Log, newer.Log, r.s.log)
	case old.N > tree.N:
		return fmt.Errorf("%w: it had %d entries and has %d", ErrInconsistent, old.N, tree.N)
	case old.N == tree.N && old.Hash != tree.Hash:
		return fmt.Errorf("%w: two histories of %d entries", ErrInconsistent, tree.N)
	case old.N == tree.N || old.N == 0:
		return nil
	}
	proof, err := tlog.ProveTree(tree.N, old.N, r.s.hashes(ctx, tree))
	if err != nil {
		return fmt.Errorf("prove log %s from %d to %d entries: %w", r.s.log, old.N, tree.N, err)
	}
	if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("%w: its first %d entries are others", ErrInconsistent, old.N)
	}
	return nil
}

func treeOf(c archive.Checkpoint) tlog.Tree { return tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)} }

// Entries yields the entries under a trusted checkpoint from an index on, each bundle
// proven to be in the tree before anything of it is yielded. An error ends the
// sequence.
func (r *Reader) Entries(ctx context.Context, head archive.Checkpoint, from int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		hashes := r.s.hashes(ctx, treeOf(head))
		for at := from; at < head.Size; {
			to := min((at/tileWidth+1)*tileWidth, head.Size)
			raw, err := r.s.entries(ctx, at, to, head.Size)
			if err == nil {
				err = proveEntries(hashes, at, raw)
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("log %s: %w", r.s.log, err))
				return
			}
			for i, entry := range raw {
				e, err := decodeEvent(r.s.log, entry)
				if err != nil {
					yield(Entry{}, fmt.Errorf("log %s: entry %d: %w", r.s.log, at+int64(i), err))
					return
				}
				if !yield(Entry{at + int64(i), e, entry}, nil) {
					return
				}
			}
			at = to
		}
	}
}

// proveEntries compares entries with the hashes of a tree.
func proveEntries(hashes tlog.HashReader, from int64, entries [][]byte) error {
	indexes := make([]int64, len(entries))
	for i := range entries {
		indexes[i] = tlog.StoredHashIndex(0, from+int64(i))
	}
	want, err := hashes.ReadHashes(indexes)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if tlog.RecordHash(entry) != want[i] {
			return fmt.Errorf("entry %d is not the one in the tree", from+int64(i))
		}
	}
	return nil
}

// A Proof shows that an entry is in a log to someone who trusts a checkpoint.
type Proof struct {
	Checkpoint archive.Checkpoint `json:"checkpoint"`
	Index      int64              `json:"index"`
	Entry      string             `json:"entry"` // as stored
	Hashes     []dataset.Hash     `json:"hashes"`
}

// Prove returns the proof that the entry of an index is under a trusted checkpoint.
func (r *Reader) Prove(ctx context.Context, head archive.Checkpoint, index int64) (Proof, error) {
	if index < 0 || index >= head.Size {
		return Proof{}, fmt.Errorf("log %s: entry %d: %w", r.s.log, index, fs.ErrNotExist)
	}
	raw, err := r.s.entries(ctx, index, index+1, head.Size)
	if err != nil {
		return Proof{}, fmt.Errorf("log %s: %w", r.s.log, err)
	}
	path, err := tlog.ProveRecord(head.Size, index, r.s.hashes(ctx, treeOf(head)))
	if err != nil {
		return Proof{}, fmt.Errorf("log %s: entry %d: %w", r.s.log, index, err)
	}
	p := Proof{Checkpoint: head, Index: index, Entry: string(raw[0])}
	for _, h := range path {
		p.Hashes = append(p.Hashes, dataset.Hash(h))
	}
	return p, p.Check()
}

// Check verifies the proof against its own checkpoint, which must be trusted.
func (p Proof) Check() error {
	path := make(tlog.RecordProof, len(p.Hashes))
	for i, h := range p.Hashes {
		path[i] = tlog.Hash(h)
	}
	if p.Index < 0 || p.Index >= p.Checkpoint.Size {
		return fmt.Errorf("entry %d is not in a log of %d", p.Index, p.Checkpoint.Size)
	}
	tree := treeOf(p.Checkpoint)
	if err := tlog.CheckRecord(path, tree.N, tree.Hash, p.Index, tlog.RecordHash([]byte(p.Entry))); err != nil {
		return fmt.Errorf("entry %d is not proven to be in log %s: %w", p.Index, p.Checkpoint.Log, err)
	}
	return nil
}
