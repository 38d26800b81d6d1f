package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

// An UnwrittenError says that events are durable on this host and not in the store.
// Whoever meant to delete something must not.
type UnwrittenError struct {
	Log    string
	Queued int // events that wait
	Err    error
}

func (e *UnwrittenError) Error() string {
	events := "events"
	if e.Queued == 1 {
		events = "event"
	}
	return fmt.Sprintf("audit log %s: %d %s not published: %v", e.Log, e.Queued, events, e.Err)
}

func (e *UnwrittenError) Unwrap() error { return e.Err }

// Options say where a log is and who keeps it. All but Now are required.
type Options struct {
	Store   archive.Store
	StoreID dataset.ID
	Name    string           // one for each host and role
	Signer  *crypto.Signer   // of checkpoints
	Trust   *crypto.Verifier // must trust Signer for sallyport-checkpoint
	State   string           // a private directory that outlives the process
	Now     func() time.Time // nil means time.Now
}

// A Log appends events. It is safe for concurrent use; of several processes that open
// one, only the first gets it.
type Log struct {
	o    Options
	s    store
	read *Reader
	dir  *durable.Dir
	lock *durable.Lock

	mu       sync.Mutex
	journal  *durable.Journal
	number   int       // of the journal's file
	tree     tlog.Tree // published, as far as this host knows
	pending  [][]byte  // events behind it, durable in the journal
	attached bool      // tree and pending were compared with the store
	edge     [][]byte  // entries of the last bundle, if that is partial
}

// Open opens the journal of a log, and does not touch the store. It fails with
// [durable.ErrLocked] if another process has it. The caller closes.
func Open(o Options) (*Log, error) {
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	if !o.Trust.Allows(namespace, o.Signer.PublicKey()) {
		// Its checkpoints would be taken for a stranger's, by this host too.
		return nil, fmt.Errorf("audit log %s: key %s may not sign for %s by the allowed signers", o.Name, o.Signer.Fingerprint(), namespace)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	dir, err := durable.OpenPrivate(o.State)
	if err != nil {
		return nil, fmt.Errorf("audit log %s: %w", o.Name, err)
	}
	l := &Log{o: o, s: store{o.Store, o.StoreID, o.Name}, dir: dir}
	l.read = &Reader{s: l.s, trust: o.Trust}
	l.lock, err = durable.TryLock(filepath.Join(o.State, "lock"))
	if err == nil {
		err = l.openJournals()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", o.Name, err), l.Close())
	}
	return l, nil
}

// Close closes the journal. Events that were not published wait there.
func (l *Log) Close() error {
	var err error
	if l.journal != nil {
		err = l.journal.Close()
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Unlock())
	}
	return errors.Join(err, l.dir.Close())
}

// The journal is a series of files. A record is an event behind E, or, behind P, the
// size and root of the tree that holds all events before it: this host's own memory of
// the log, against which the store is checked.
const journalPrefix = "journal-"

func journalName(n int) string { return fmt.Sprintf("%s%08d", journalPrefix, n) }

// openJournals replays the files in order, keeps the last open and drops those whose
// events are all published.
func (l *Log) openJournals() error {
	var numbers []int
	entries, err := os.ReadDir(l.o.State)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(strings.TrimPrefix(e.Name(), journalPrefix)); err == nil && e.Name() == journalName(n) {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		numbers = []int{1}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if l.journal != nil {
			if err := l.journal.Close(); err != nil {
				return err
			}
		}
		if l.journal, err = l.dir.OpenJournal(journalName(n), l.replay); err != nil {
			return err
		}
		l.number = n
	}
	if len(l.pending) > 0 {
		return nil
	}
	for _, n := range numbers[:len(numbers)-1] {
		if err := l.dir.Remove(journalName(n)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) replay(record []byte) error {
	if len(record) > 0 && record[0] == 'E' {
		l.pending = append(l.pending, record[1:])
		return nil
	}
	size, root, _ := strings.Cut(strings.TrimPrefix(string(record), "P"), " ")
	n, nerr := strconv.ParseInt(size, 10, 64)
	h, herr := dataset.ParseHash(root)
	if nerr != nil || herr != nil || string(published(tlog.Tree{N: n, Hash: tlog.Hash(h)})) != string(record) {
		return fmt.Errorf("%w: unknown record", durable.ErrDamaged)
	}
	l.tree, l.pending = tlog.Tree{N: n, Hash: tlog.Hash(h)}, nil
	return nil
}

func published(t tlog.Tree) []byte {
	return fmt.Appendf(nil, "P%d %s", t.N, dataset.Hash(t.Hash))
}

// Append writes an event to the journal, and returns when it is durable there. It does
// not touch the store, but waits while another goroutine is in Publish.
func (l *Log) Append(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(e)
}

func (l *Log) append(e Event) error {
	entry, err := e.encode(l.o.Name)
	if err == nil {
		err = l.journal.Append(append([]byte{'E'}, entry...))
	}
	if err != nil {
		return fmt.Errorf("audit log %s: %w", l.o.Name, err)
	}
	l.pending = append(l.pending, entry)
	return nil
}

// Queued returns the number of events that are not in the store yet.
func (l *Log) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

// Publish moves all events of the journal to the store and returns the checkpoint that
// covers them; without any, the newest one. Every failure is an *[UnwrittenError], after
// which events go on to queue and Publish may be tried again; it wraps
// [ErrInconsistent] if the store does not hold the log that this host remembers. The
// zero checkpoint with a nil error means that the log is empty.
func (l *Log) Publish(ctx context.Context) (archive.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.attach(ctx)
	for try := 0; err == nil && len(l.pending) > 0; try++ {
		var taken *takenError
		if err = l.publish(ctx); errors.As(err, &taken) && l.avoidable(taken.name) && try < 3 {
			e := NewEvent(LogKeep, Fact, l.o.Now())
			e.Status, e.Code = Failure, "name-taken"
			err = l.append(e)
		}
	}
	if err != nil {
		return archive.Checkpoint{}, &UnwrittenError{l.o.Name, len(l.pending), err}
	}
	if l.tree.N == 0 {
		return archive.Checkpoint{}, nil
	}
	return l.s.checkpoint(l.tree), nil
}

// publish writes the tiles that the pending events fill, then their checkpoint.
func (l *Log) publish(ctx context.Context) error {
	grown := overlay{old: l.s.hashes(ctx, l.tree), new: make(map[int64]tlog.Hash)}
	size := l.tree.N
	for _, entry := range l.pending {
		hashes, err := tlog.StoredHashes(size, entry, grown)
		if err != nil {
			return err
		}
		for i, h := range hashes {
			grown.new[tlog.StoredHashIndex(0, size)+int64(i)] = h
		}
		size++
	}
	root, err := tlog.TreeHash(size, grown)
	if err != nil {
		return err
	}
	all := slices.Concat(l.edge, l.pending) // from the start of the last bundle on
	start := l.tree.N - int64(len(l.edge))
	for _, t := range tlog.NewTiles(tileHeight, l.tree.N, size) {
		data, err := tlog.ReadTileData(t, grown)
		if err == nil {
			err = l.create(ctx, l.s.tileName(t), data)
		}
		if err == nil && t.L == 0 {
			var bundle []byte
			for _, entry := range all[t.N*tileWidth-start:][:t.W] {
				bundle = appendEntry(bundle, entry)
			}
			t.L = entryLevel
			err = l.create(ctx, l.s.tileName(t), bundle)
		}
		if err != nil {
			return err
		}
	}
	tree := tlog.Tree{N: size, Hash: root}
	name := l.s.checkpointName(size)
	err = archive.PutSigned(ctx, l.o.Store, l.o.Signer, strings.TrimSuffix(l.s.folder(), "/"), name, namespace, l.s.formatCheckpoint(tree))
	if errors.Is(err, fs.ErrExist) {
		return &takenError{name}
	} else if err != nil {
		return err
	}
	l.tree, l.pending = tree, nil
	l.edge = slices.Clone(all[size/tileWidth*tileWidth-start:])
	return l.rotate()
}

// create stores an object; that it is there already, as after a crash, is as good.
func (l *Log) create(ctx context.Context, name string, data []byte) error {
	err := l.o.Store.Create(ctx, name, data)
	if err == nil || ctx.Err() != nil {
		return err
	}
	got, rerr := l.s.read(ctx, name)
	switch {
	case errors.Is(rerr, fs.ErrNotExist):
		return err
	case rerr != nil:
		return errors.Join(err, rerr)
	case string(got) != string(data):
		return &takenError{name}
	}
	return nil
}

// A takenError says that a name holds bytes that are not this log's.
type takenError struct{ name string }

func (e *takenError) Error() string {
	return fmt.Sprintf("%s holds other bytes; if it is never to be removed, begin a log of another name", e.name)
}

// avoidable reports whether one more event leads around a taken name: then the bundle
// and the tile at the edge and the checkpoint have other names.
func (l *Log) avoidable(name string) bool {
	t, tile := l.s.parseTile(name)
	return !tile || t.L <= 0 && t.W < tileWidth
}

// rotate begins a new journal file that remembers the tree, and drops the old one.
func (l *Log) rotate() error {
	next, err := l.dir.OpenJournal(journalName(l.number+1), func([]byte) error { return nil })
	if err != nil {
		return err
	}
	if err := next.Append(published(l.tree)); err != nil {
		return errors.Join(err, next.Close())
	}
	old, number := l.journal, l.number
	l.journal, l.number = next, number+1
	return errors.Join(old.Close(), l.dir.Remove(journalName(number)))
}

// overlay is a [tlog.HashReader] of a tree that grows.
type overlay struct {
	old tlog.HashReader
	new map[int64]tlog.Hash
}

func (o overlay) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	var missing, places []int64
	for i, x := range indexes {
		h, ok := o.new[x]
		if !ok {
			missing, places = append(missing, x), append(places, int64(i))
		}
		out[i] = h
	}
	if len(missing) == 0 {
		return out, nil
	}
	got, err := o.old.ReadHashes(missing)
	if err != nil {
		return nil, err
	}
	for i, h := range got {
		out[places[i]] = h
	}
	return out, nil
}
