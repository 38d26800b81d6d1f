package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/durable"
)

// A Purger applies an approved plan at the source.
type Purger struct {
	Office
	Log     Log
	Memory  Memory
	Proof   *Proof        // of the plan's certificate, verified by the caller
	Within  time.Duration // how old the certificate may be
	OneHost bool          // see [Planner]

	// Source opens a view of the source. It is opened once to delete, and once more to
	// look whether what was deleted is gone.
	Source func(ctx context.Context) (exporters.Exporter, error)

	State  string                       // private directory, for the book of what was tried
	Batch  int                          // items between two looks at holds and entries of the ledger; 0 means 100
	OnItem func(n int, f Fate, e error) // called as each item is done; may be nil
}

// A Purged says what came of applying a plan.
type Purged struct {
	Plan      *SignedPlan
	Approvals []Approval
	Fates     map[Fate]int64
	Kinds     map[ItemKind]int64 // of the deleted
	Lines     []LedgerLine       // of all items, with what the source said in this run
	Absence   Absence
	Started   time.Time
	Ended     time.Time
}

// An Absence is what reading the source again says.
type Absence struct {
	Checked time.Time // zero if it was not asked
	Found   []int     // items that were deleted, or said to be gone, and are there
	Unasked string    // why it was not asked; empty if it was
}

// Done reports whether every item has its final fate and nothing deleted was found.
func (p *Purged) Done() bool {
	return p.Fates[Failed] == 0 && !p.Absence.Checked.IsZero() && len(p.Absence.Found) == 0
}

// Apply deletes what the plan names. Every reason not to is looked for first, and a
// *[PolicyError] says that nothing was deleted. Cut short at any moment, it goes on when
// it is called again: no item is deleted twice, and the book says what became of each.
func (p *Purger) Apply(ctx context.Context, plan *SignedPlan) (out *Purged, err error) {
	out = &Purged{Plan: plan, Fates: map[Fate]int64{}, Kinds: map[ItemKind]int64{}, Started: p.now()}
	manifest, err := p.mayApply(ctx, plan)
	if err != nil {
		return nil, err
	}
	if out.Approvals, err = p.approved(ctx, plan); err != nil {
		return nil, err
	}
	body, err := p.Body(ctx, plan)
	if err != nil {
		return nil, err
	}
	dir, err := durable.OpenPrivate(p.State)
	if err != nil {
		return nil, fmt.Errorf("book of the purge: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	b, err := openBook(dir, plan.Hash, len(body.Items))
	if err != nil {
		return nil, fmt.Errorf("book of the purge: %w", err)
	}
	defer func() { err = errors.Join(err, b.journal.Close()) }()
	if err := p.adopt(ctx, plan, b); err != nil {
		return nil, err
	}
	run := &purgeRun{Purger: p, plan: plan, endpoints: manifest.Endpoints, body: body, book: b, details: map[int]string{}}
	if err := run.delete(ctx); err != nil {
		run.report(out)
		return out, err
	}
	run.report(out)
	out.Absence = run.absence(ctx)
	out.Ended = p.now()
	return out, nil
}

// mayApply looks for every reason not to delete, but for missing approvals. It returns the
// manifest of the snapshot that holds what is deleted.
func (p *Purger) mayApply(ctx context.Context, plan *SignedPlan) (*archive.Manifest, error) {
	now, err := storeTime(ctx, p.Archive.Store)
	if err != nil {
		return nil, err
	}
	if !now.Before(plan.Expires.Time) {
		return nil, refuse("plan-expired", "the plan expired on %s", stamp(plan.Expires.Time))
	}
	deletions, err := p.Deletions(ctx, plan.Service)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(deletions, func(d SignedDeletion) bool { return d.Plan == plan.Hash }) {
		return nil, refuse("replay", "the plan was carried out before")
	}
	all, err := p.Archive.Snapshots(ctx, plan.Service)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all.All, func(d *archive.Decision) bool { return d.Hash == plan.Manifest && d.Run == plan.Run })
	if i < 0 {
		return nil, refuse("no-proof", "the snapshot %s that proves the plan is not there any more", plan.Run)
	}
	if p.Proof == nil || p.Proof.Certificate != plan.Certificate {
		return nil, refuse("no-proof", "the certificate %s that the plan rests on is not there", plan.Certificate)
	}
	if err := p.Proof.check(now, p.Within, p.Archive.ID, plan.Service, all.All[i], p.OneHost); err != nil {
		return nil, err
	}
	if err := p.Memory.Check(ctx, p.Archive, plan.Service); err != nil {
		return nil, err
	}
	return all.All[i].Manifest, nil
}

// A purgeRun is a purge that is going on.
type purgeRun struct {
	*Purger
	plan      *SignedPlan
	endpoints []dataset.Endpoint // where the snapshot was read from
	body      *Selection
	book      *book
	details   map[int]string
}

// delete goes through the items, batch by batch.
func (r *purgeRun) delete(ctx context.Context) error {
	var todo []int
	for n := range r.body.Items {
		if f, done := r.book.fates[n]; !done || f == Failed {
			todo = append(todo, n)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	view, err := r.Source(ctx)
	if err != nil {
		return fmt.Errorf("open source: %w", err)
	}
	err = r.batches(ctx, view, todo)
	return errors.Join(err, view.Close())
}

func (r *purgeRun) batches(ctx context.Context, view exporters.Exporter, todo []int) error {
	streams, err := r.sameSource(ctx, view)
	if err != nil {
		return err
	}
	deleter, ok := view.(exporters.Deleter)
	if !ok {
		return refuse("unsupported", "this kind of source deletes nothing")
	}
	size := r.Batch
	if size == 0 {
		size = 100
	}
	for batch := range slices.Chunk(todo, size) {
		if err := r.batch(ctx, deleter, streams, batch); err != nil {
			return err
		}
	}
	return nil
}

// sameSource makes sure that the source is the one that the snapshot was made of: an
// account, a bucket or an environment of the same name elsewhere is another source.
func (r *purgeRun) sameSource(ctx context.Context, view exporters.Exporter) (map[string]dataset.Stream, error) {
	offered, err := view.Streams(ctx)
	if err != nil {
		return nil, fmt.Errorf("streams of the source: %w", err)
	}
	streams := map[string]dataset.Stream{}
	for _, was := range r.body.Streams {
		i := slices.IndexFunc(offered, func(s dataset.Stream) bool { return s.Name == was.Name })
		if i < 0 || !bytes.Equal(offered[i].Attributes, was.Attributes) {
			return nil, refuse("other-source", "the source does not offer stream %q as it was archived: it is another source, or was rebuilt", was.Name)
		}
		streams[was.Name] = offered[i]
	}
	for _, it := range r.body.Items {
		if _, ok := streams[it.Stream]; !ok {
			return nil, refuse("other-source", "the plan names stream %q, which the snapshot does not have", it.Stream)
		}
	}
	same := func(a, b dataset.Endpoint) bool { return a == b }
	if now := view.Facts().Endpoints; !slices.EqualFunc(now, r.endpoints, same) {
		return nil, refuse("other-source", "the source is at %v, the snapshot was made of %v", now, r.endpoints)
	}
	return streams, nil
}

// batch deletes some items, between an intent and a result in the store and in the audit
// log.
func (r *purgeRun) batch(ctx context.Context, d exporters.Deleter, streams map[string]dataset.Stream, items []int) error {
	holds, err := r.Holds(ctx, r.plan.Service)
	if err != nil {
		return fmt.Errorf("nothing more was deleted: %w", err)
	}
	from, to := items[0], items[len(items)-1]+1
	e := audit.NewEvent(audit.Purge, audit.Intent, r.now())
	e.Service, e.Run, e.Document = r.plan.Service, r.plan.Run, r.plan.Hash
	e.Counts = map[string]int64{"from": int64(from), "to": int64(to), "items": int64(len(items))}
	return act(ctx, r.Log, e, r.now, func() (map[string]int64, error) {
		entry := Ledger{head: head{ledgerFormat, r.Archive.ID, r.plan.Service}, Plan: r.plan.Hash, Written: archive.At(r.now()), From: from, To: to}
		if _, err := r.put(ctx, r.plan.Service, "purges", nsLedger, entry); err != nil {
			return nil, fmt.Errorf("nothing was deleted: ledger: %w", err)
		}
		var stop error
		var lines []LedgerLine
		for _, n := range items {
			if stop = ctx.Err(); stop != nil {
				break
			}
			f, err := r.item(ctx, d, streams, n, holds)
			if err != nil {
				stop = err
				break
			}
			lines = append(lines, LedgerLine{n, f, r.details[n]})
		}
		if len(lines) > 0 { // what was done is written down, whatever stopped the rest
			stop = errors.Join(stop, r.result(context.WithoutCancel(ctx), entry, lines))
		}
		counts := map[string]int64{}
		for _, l := range lines {
			counts[string(l.Fate)]++
		}
		return counts, stop
	})
}

// result publishes what became of a batch.
func (r *purgeRun) result(ctx context.Context, entry Ledger, lines []LedgerLine) error {
	entry.Written, entry.Fates = archive.At(r.now()), map[Fate]int64{}
	for _, l := range lines {
		entry.Fates[l.Fate]++
	}
	var err error
	if entry.Annex, err = r.putAnnex(ctx, r.plan.Service, lines); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if _, err := r.put(ctx, r.plan.Service, "purges", nsLedger, entry); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// item deletes one item and writes down its fate. The error stops the purge.
func (r *purgeRun) item(ctx context.Context, d exporters.Deleter, streams map[string]dataset.Stream, n int, holds []ActiveHold) (Fate, error) {
	it := &r.body.Items[n]
	rec := it.Record()
	fate, detail := Fate(""), error(nil)
	_, held := Covers(holds, &rec)
	switch {
	case held:
		fate = Held
	case it.Last && !r.olderGone(n):
		fate = Stays
	default:
		again := r.book.tried[n] // by a run that may have died after the deletion
		if err := r.book.try(n); err != nil {
			return "", err
		}
		fate, detail = r.try(ctx, d, streams[it.Stream], rec, again)
		if ctx.Err() != nil && fate == Failed {
			return "", context.Cause(ctx) // tried, without a fate: the next run settles it
		}
	}
	delete(r.details, n)
	if detail != nil {
		r.details[n] = detail.Error()
	}
	if r.OnItem != nil {
		r.OnItem(n, fate, detail)
	}
	return fate, r.book.end(n, fate)
}

// tries is how often a deletion is asked for that was not answered.
const tries = 3

// try asks the source to delete a record; asked says that it was asked before, without
// an answer.
func (r *purgeRun) try(ctx context.Context, d exporters.Deleter, s dataset.Stream, rec dataset.Record, asked bool) (Fate, error) {
	var err error
	changed := false
	for range tries {
		err = d.Delete(ctx, s, rec)
		switch {
		case errors.Is(err, fs.ErrNotExist) && changed:
			return Absent, errors.New("it was changed, and then gone; by whom is not known")
		case errors.Is(err, exporters.ErrChanged) && !changed:
			changed = true // a conditional request whose reply was lost looks like that too: ask again
			continue
		case err == nil:
			return Deleted, nil
		case errors.Is(err, fs.ErrNotExist) && asked:
			return Gone, nil
		case errors.Is(err, fs.ErrNotExist):
			return Absent, nil
		case errors.Is(err, exporters.ErrChanged):
			return Changed, err
		case errors.Is(err, exporters.ErrRetained):
			return Retained, err
		case ctx.Err() != nil, errors.Is(err, errors.ErrUnsupported), errors.Is(err, exporters.ErrCredentials):
			return Failed, err
		}
		asked = true
	}
	return Failed, err
}

// olderGone reports whether every older version of an item's key is gone.
func (r *purgeRun) olderGone(n int) bool {
	it := &r.body.Items[n]
	for i := n - 1; i >= 0 && r.body.Items[i].Stream == it.Stream && r.body.Items[i].Key == it.Key; i-- {
		if !r.book.fates[i].gone() {
			return false
		}
	}
	return true
}

// report sums up what became of the items.
func (r *purgeRun) report(out *Purged) {
	for n := range r.body.Items {
		f, ok := r.book.fates[n]
		if !ok {
			continue
		}
		out.Fates[f]++
		if f == Deleted || f == Gone {
			out.Kinds[r.body.Items[n].Kind]++
		}
		out.Lines = append(out.Lines, LedgerLine{n, f, r.details[n]})
	}
	out.Ended = r.now()
}

// absence reads the source again, in a view of its own, and looks for what should be
// gone.
func (r *purgeRun) absence(ctx context.Context) Absence {
	gone := map[string]int{}
	streams := map[string][]dataset.Record{}
	for n := range r.body.Items {
		it := &r.body.Items[n]
		if r.book.fates[n].gone() {
			gone[identity(it.Stream, string(it.Key), it.Ordinal, it.Version)] = n
			streams[it.Stream] = nil
		}
	}
	view, err := r.Source(ctx)
	if err != nil {
		return Absence{Unasked: fmt.Sprintf("open source: %v", err)}
	}
	a := Absence{Found: []int{}}
	for _, s := range r.body.Streams {
		if _, ok := streams[s.Name]; !ok {
			continue
		}
		if err := r.relist(ctx, view, s, gone, &a); err != nil {
			a.Unasked = fmt.Sprintf("read stream %q again: %v", s.Name, err)
			break
		}
	}
	if err := view.Close(); err != nil && a.Unasked == "" {
		a.Unasked = err.Error()
	}
	if a.Unasked == "" {
		a.Checked = r.now()
	}
	slices.Sort(a.Found)
	return a
}

// relist reads one stream. A record that is there as archived was not deleted; one whose
// identity came back with other data is a new record.
func (r *purgeRun) relist(ctx context.Context, view exporters.Exporter, s dataset.Stream, gone map[string]int, a *Absence) error {
	for rec, err := range view.Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}) {
		if err != nil {
			return err
		}
		if rec.Gap != nil {
			if rec.Gap.Key == "" {
				return rec.Gap
			}
			continue // there, unreadable: its data decides nothing
		}
		n, ok := gone[identity(s.Name, rec.Key, rec.Ordinal, versionOf(rec.Data))]
		if ok && bytes.Equal(rec.Data, r.body.Items[n].Data) || ok && versionOf(rec.Data) != "" {
			a.Found = append(a.Found, n)
		}
	}
	return nil
}
