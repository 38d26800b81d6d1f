package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// Options say how a run writes.
type Options struct {
	Service        string
	Exporter       string // kind, for the manifest
	Classification string
	Product        string // name and version of the writer, for the manifest

	Signer          *crypto.Signer
	Recipients      *crypto.Sealer // the managed recipients: they open data and index
	IndexRecipients *crypto.Sealer // more recipients that open the index only; may be nil
	PostQuantum     bool           // run keys are hybrid ML-KEM-768 X25519 ones
	MonthKeys       bool           // runs that begin in one calendar month (UTC) share their run keys

	// CSV makes the snapshot carry records as CSV too, beside JSON Lines.
	CSV       bool
	OnLeftOut func(LeftOutLine) // called for each record that no row of CSV can hold, from one goroutine at a time; may be nil

	// State is the service's private directory on this host, where the journal lies.
	// Empty means that there is nothing to resume or to reuse.
	State string

	Now      func() time.Time      // nil means time.Now
	PackSize int64                 // bytes of ciphertext in a pack; 0 means [PackSize], which is the most
	Reuse    time.Duration         // packs older than this are written anew; 0 means 90 days
	Avoid    map[dataset.Hash]bool // packs not to be reused: named damaged, or touched by an erasure
}

// A Writer writes one run, from [Begin] to Commit. Its methods are safe for concurrent
// use; each [Section] belongs to one goroutine.
type Writer struct {
	a       *Archive
	o       Options
	run     RunID
	intent  dataset.Hash
	started time.Time

	keys    map[Role]keyHalf
	data    *packer
	index   *packer
	uploads *errgroup.Group
	work    *errgroup.Group // parts being finished

	partRooms chan []byte // of parts that are done

	background func(func(context.Context) error) // starts work that outlives its caller, in the run's context

	journal *journal
	base    *base // what may be reused

	members atomic.Int64
	mu      sync.Mutex // guards the rest
	own     []*pack
	streams map[string]*StreamWriter

	csv *csvWriting // nil if the snapshot carries no CSV

	gapping   sync.Mutex // guards the ledger
	gaps      map[dataset.Code]int64
	ledger    *Section
	second    *Section // of what a second reading saw otherwise
	ledgerErr error
}

// slabCount is how many packs may be filling or on their way to the store at once.
const slabCount = 4

// Begin announces a run, or goes on with an interrupted one that the journal in
// o.State knows and nobody has decided, and reads what may be reused. What the writer
// does in the background ends with ctx, so ctx must last until Commit has returned.
func Begin(ctx context.Context, a *Archive, o Options) (*Writer, error) {
	if err := CheckService(o.Service); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.PackSize == 0 {
		o.PackSize = PackSize
	}
	if o.Reuse == 0 {
		o.Reuse = 90 * 24 * time.Hour
	}
	w := &Writer{a: a, o: o, started: o.Now(), streams: map[string]*StreamWriter{}, gaps: map[dataset.Code]int64{},
		partRooms: make(chan []byte, 4)}
	for _, ns := range []string{nsIntent, nsKeys, nsManifest} {
		if err := a.Trust.MaySign(ns, o.Signer.PublicKey(), w.started); err != nil {
			return nil, fmt.Errorf("nobody would believe this export: %w", err)
		}
	}
	w.ledger, w.second = newLedger(w, "gaps"), newLedger(w, "second")
	if o.CSV {
		w.csv = newCSVWriting(w)
	}
	j, err := openJournal(o.State, a.ID, o.Service)
	if err != nil {
		return nil, err
	}
	w.journal = j
	if err := w.resume(ctx); err != nil {
		return nil, err
	}
	if w.run == "" {
		if err := w.announce(ctx); err != nil { // W1
			return nil, err
		}
	}
	if w.base, err = w.readBase(ctx); err != nil { // W2, always after the intent
		return nil, err
	}
	if w.keys == nil {
		if err := w.makeKeys(ctx); err != nil {
			return nil, err
		}
	}
	return w, w.openPackers(ctx)
}

// announce creates the intent.
func (w *Writer) announce(ctx context.Context) error {
	w.run = NewRunID(w.started)
	doc, err := encode(Intent{intentFormat, w.a.ID, w.o.Service, w.run, At(w.started)})
	if err != nil {
		return err
	}
	w.intent = dataset.Sum(doc)
	return PutSigned(ctx, w.a.Store, w.o.Signer, w.o.Service, IntentName(w.o.Service, w.run), nsIntent, doc)
}

// resume takes up the journal's interrupted run if its intent stands undecided.
func (w *Writer) resume(ctx context.Context) error {
	head, ok, err := w.journal.interrupted()
	if err != nil || !ok {
		return err
	}
	d, err := w.a.Decision(ctx, w.o.Service, head.Run)
	var distrusted *IntegrityError
	switch {
	case err == nil && w.journal.prepared(head.Run, d.Hash):
		return w.journal.adopt(head.Run) // it is a snapshot: only the reply was lost
	case err == nil, errors.As(err, &distrusted):
		return w.journal.drop(head.Run) // decided without us: nothing of it may be reused as our own
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	in, hash, err := w.a.Intent(ctx, w.o.Service, head.Run)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &distrusted):
		return w.journal.drop(head.Run) // another store at the same place
	case err != nil:
		return err
	case !w.fit(head.Keys):
		return w.journal.drop(head.Run) // its keys are sealed to others than today's recipients
	}
	w.run, w.intent, w.started, w.keys = head.Run, hash, in.Started.Time, head.Keys
	return w.journal.resume(head.Run)
}

// openPackers makes ready to write packs.
func (w *Writer) openPackers(ctx context.Context) error {
	pool, benches := newSlabs(slabCount, w.o.PackSize), newBenches(benchesOf(runtime.GOMAXPROCS(0)))
	w.uploads = new(errgroup.Group)
	w.work = new(errgroup.Group)
	w.work.SetLimit(3)
	// Packs are stored, and parts finished, after the call that brought them has returned
	// and its context may have ended: they live as long as the run's.
	store := func(p *pack, data []byte) error { return w.createPack(ctx, p, data) }
	w.background = func(f func(context.Context) error) { w.work.Go(func() error { return f(ctx) }) }
	for role, dst := range map[Role]**packer{DataRole: &w.data, IndexRole: &w.index} {
		k := w.keys[role]
		sealer, err := crypto.NewSealer(k.Recipient)
		if err != nil {
			return err
		}
		*dst = &packer{sealer: sealer, slabs: pool, benches: benches, limit: w.o.PackSize, create: store, uploads: w.uploads,
			newPack: func() *pack { return w.newPack(k.id()) }}
	}
	return nil
}

func (w *Writer) newPack(key dataset.Hash) *pack {
	p := &pack{done: make(chan struct{}), key: key, run: w.run}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.number = w.journal.nextPack
	w.journal.nextPack++
	w.own = append(w.own, p)
	return p
}

// createPack stores a pack. Its name is its hash, so where the name is taken it is
// enough that the size agrees.
func (w *Writer) createPack(ctx context.Context, p *pack, data []byte) error {
	name := PackName(w.o.Service, p.hash)
	err := settle(ctx, w.a.Store, name, data, func(ctx context.Context) error {
		for info, err := range w.a.Store.List(ctx, name) {
			if err != nil {
				return err
			}
			if info.Name != name || info.Marker || info.Later {
				continue
			}
			if info.Size != int64(len(data)) {
				return fmt.Errorf("%w with %d bytes instead of %d", fs.ErrExist, info.Size, len(data))
			}
			return nil
		}
		return fs.ErrNotExist
	})
	if err != nil {
		return fmt.Errorf("store pack %s: %w", p.hash, err)
	}
	return w.journal.packDone(p)
}

// Run returns the id of the run.
func (w *Writer) Run() RunID { return w.run }

// Distrusted returns the decisions and expiry records of the service that the writer
// found and does not trust, each an [IntegrityError]. They were ignored.
func (w *Writer) Distrusted() []error { return w.base.bad }

// Resumed reports whether the run goes on from an interrupted one.
func (w *Writer) Resumed() bool { return w.journal.attempt > 0 }

// Started returns when the run began, which for a resumed one was earlier.
func (w *Writer) Started() time.Time { return w.started }

// nextID returns an id that no other part or blob of any run has.
func (w *Writer) nextID() string {
	return string(w.run) + "-" + strconv.FormatInt(int64(w.journal.attempt)<<40|w.members.Add(1), 10)
}

// A BlobID names a blob inside packs.
type BlobID string

// NewBlob returns a fresh blob id.
func (w *Writer) NewBlob() BlobID { return BlobID(w.nextID()) }

// Segment stores the n-th stretch of a blob, at most [SegmentSize] bytes. It may be
// called from many goroutines; data is not used after it returns.
func (w *Writer) Segment(ctx context.Context, id BlobID, n int, data []byte) (*Placement, error) {
	if len(data) > SegmentSize || len(data) == 0 {
		return nil, fmt.Errorf("segment of %d bytes", len(data))
	}
	return w.data.put(ctx, fmt.Sprintf("b/%s/%08d", id, n), data)
}

// Gap records that something is missing. It is safe for concurrent use; a failure to
// write the ledger fails the commit.
func (w *Writer) Gap(ctx context.Context, g dataset.Gap) {
	w.gapping.Lock()
	defer w.gapping.Unlock()
	w.gaps[g.Code]++
	line, err := encodeLine(GapLine{g.Stream, Key(g.Key), g.Ordinal, g.Code, readable(g.Detail)})
	if err == nil {
		err = w.ledger.Record(ctx, g.Key, line)
	}
	w.ledgerErr = errors.Join(w.ledgerErr, err)
}

// Second records what a second reading of the source saw otherwise. It is safe for
// concurrent use; a failure to write the ledger fails the commit.
func (w *Writer) Second(ctx context.Context, l SecondLine) {
	w.gapping.Lock()
	defer w.gapping.Unlock()
	l.Detail = readable(l.Detail)
	line, err := encodeLine(l)
	if err == nil {
		err = w.second.Record(ctx, string(l.Key), line)
	}
	w.ledgerErr = errors.Join(w.ledgerErr, err)
}

// readable is text that JSON can carry: as it is, or escaped if it is not UTF-8.
func readable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return dataset.Escape(s)
}

// Gaps returns how many gaps were recorded.
func (w *Writer) Gaps() (n int64) {
	w.gapping.Lock()
	defer w.gapping.Unlock()
	for _, c := range w.gaps {
		n += c
	}
	return n
}

// Abandon ends the writer without a decision: the run stays interrupted and a later
// [Begin] with the same state goes on with it. Call it after an error; it waits for
// what is on its way to the store.
func (w *Writer) Abandon() {
	w.work.Wait()
	w.uploads.Wait()
	w.journal.close()
}
