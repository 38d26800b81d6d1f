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
	Limits  Limits        // beyond which a second round of approvals is needed; the zero Limits leave it to the plan
	OneHost bool          // see [Planner]

	// Source opens a view of the source. It is opened once to delete, and once more to
	// look whether what was deleted is gone.
	Source func(ctx context.Context) (exporters.Exporter, error)

	// Expect, if not zero, is the [Purged.Hash] of a rehearsal. Unless a rehearsal says
	// the same now, nothing is deleted.
	Expect dataset.Hash

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
	Altered []int     // items of whose key there is a record with other data: a new one, or the same, only marked as deleted
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
	run, err := p.begin(ctx, plan)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.book.journal.Close()) }()
	if !p.Expect.IsZero() {
		would, err := run.rehearse(ctx)
		if err != nil {
			return nil, err
		}
		if h := would.Hash(); h != p.Expect {
			return nil, refuse("stale-plan", "what would be done now (%s) is not what was shown (%s)", h, p.Expect)
		}
	}
	out = run.purged()
	err = run.settle(ctx)
	if err == nil {
		err = run.delete(ctx)
	}
	run.report(out)
	if err != nil {
		return out, err
	}
	out.Absence = run.absence(ctx)
	out.Ended = p.now()
	return out, nil
}

// Rehearse says what Apply would do now. It asks the source of every item, as Apply does,
// and deletes nothing. It fails as Apply would, and with a *[PolicyError] if this kind of
// source cannot be asked.
func (p *Purger) Rehearse(ctx context.Context, plan *SignedPlan) (out *Purged, err error) {
	run, err := p.begin(ctx, plan)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.book.journal.Close()) }()
	return run.rehearse(ctx)
}

// begin looks for every reason not to delete, and opens the book of the plan. Its journal
// is to be closed.
func (p *Purger) begin(ctx context.Context, plan *SignedPlan) (run *purgeRun, err error) {
	run = &purgeRun{Purger: p, plan: plan, started: p.now(), details: map[int]string{}}
	now, err := storeTime(ctx, p.Archive.Store)
	if err != nil {
		return nil, err
	}
	manifest, err := p.mayApply(ctx, plan, now)
	if err != nil {
		return nil, err
	}
	run.endpoints = manifest.Endpoints
	if run.approvals, err = p.enough(ctx, plan, now); err != nil {
		return nil, err
	}
	if run.body, err = p.Body(ctx, plan); err != nil {
		return nil, err
	}
	dir, err := durable.OpenPrivate(p.State)
	if err != nil {
		return nil, fmt.Errorf("book of the purge: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if run.book, err = openBook(dir, plan.Hash, len(run.body.Items)); err != nil {
		return nil, fmt.Errorf("book of the purge: %w", err)
	}
	if err := run.adopt(ctx); err != nil {
		return nil, errors.Join(err, run.book.journal.Close())
	}
	return run, nil
}

// Approved fails with a *[PolicyError] that says what is missing unless enough people
// approved a plan, and confirmed it where the limits ask for that.
func (p *Purger) Approved(ctx context.Context, plan *SignedPlan) error {
	now, err := storeTime(ctx, p.Archive.Store)
	if err == nil {
		_, err = p.enough(ctx, plan, now)
	}
	return err
}

func (p *Purger) enough(ctx context.Context, plan *SignedPlan, now time.Time) ([]Approval, error) {
	beyond := ""
	if p.Limits != (Limits{}) {
		var err error
		if beyond, err = p.beyond(ctx, plan.Service, p.Limits, plan.Counts, now, plan.Hash); err != nil {
			return nil, err
		}
	}
	if beyond == "" && plan.Confirm {
		beyond = "it was when it was made"
	}
	return p.approved(ctx, plan, beyond)
}

// mayApply looks for every reason not to delete, but for missing approvals. It returns the
// manifest of the snapshot that holds what is deleted.
func (p *Purger) mayApply(ctx context.Context, plan *SignedPlan, now time.Time) (*archive.Manifest, error) {
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
	started   time.Time
	approvals []Approval
	endpoints []dataset.Endpoint // where the snapshot was read from
	body      *Selection
	book      *book
	published map[int]LedgerLine // what the store says of items, by number
	details   map[int]string
	rehearsed bool // nothing is deleted or written down
}

func (r *purgeRun) purged() *Purged {
	return &Purged{Plan: r.plan, Approvals: r.approvals, Fates: map[Fate]int64{}, Kinds: map[ItemKind]int64{}, Started: r.started}
}

// settle publishes what runs that were cut short did.
func (r *purgeRun) settle(ctx context.Context) error {
	lines := r.unpublished()
	if len(lines) == 0 {
		return nil
	}
	return r.result(ctx, r.entry(lines[0].Item, lines[len(lines)-1].Item+1), lines)
}

func (r *purgeRun) entry(from, to int) Ledger {
	return Ledger{head: head{ledgerFormat, r.Archive.ID, r.plan.Service}, Plan: r.plan.Hash, Written: archive.At(r.now()), From: from, To: to}
}

// delete goes through the items that have no final fate.
func (r *purgeRun) delete(ctx context.Context) error {
	var todo []int
	for n := range r.body.Items {
		if !r.book.fates[n].settled() {
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
	err = r.at(ctx, view, todo)
	return errors.Join(err, view.Close())
}

// at deletes at the source that a view is of, or rehearses it.
func (r *purgeRun) at(ctx context.Context, view exporters.Exporter, todo []int) (err error) {
	streams, err := r.sameSource(ctx, view)
	if err != nil {
		return err
	}
	deleter, ok := view.(exporters.Deleter)
	if !ok {
		return refuse("unsupported", "this kind of source deletes nothing")
	}
	if r.rehearsed {
		x, ok := view.(exporters.Rehearser)
		if !ok {
			return refuse("unsupported", "this kind of source cannot say beforehand what it would delete")
		}
		h, err := x.Rehearse(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		deleter = h
	}
	return r.passes(ctx, deleter, streams, todo)
}

// passes goes through items batch by batch. What is refused may be so only because others
// refer to it that are to go too: it is tried again, backwards, as long as anything goes.
func (r *purgeRun) passes(ctx context.Context, d exporters.Deleter, streams map[string]dataset.Stream, todo []int) error {
	size := r.Batch
	if size == 0 {
		size = 100
	}
	for {
		for batch := range slices.Chunk(todo, size) {
			if err := r.batch(ctx, d, streams, batch); err != nil {
				return err
			}
		}
		refused := slices.DeleteFunc(slices.Clone(todo), func(n int) bool { return r.book.fates[n] != Refused })
		gone := slices.ContainsFunc(todo, func(n int) bool { return r.book.fates[n] == Deleted || r.book.fates[n] == Gone })
		if len(refused) == 0 || !gone {
			return nil
		}
		slices.Reverse(refused)
		todo = refused
	}
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
	return streams, r.sameEndpoints(ctx, view, streams)
}

// sameEndpoints makes sure that the source is reached where it was archived from. A view
// that has not talked to anybody yet is made to, by asking for a record.
func (r *purgeRun) sameEndpoints(ctx context.Context, view exporters.Exporter, streams map[string]dataset.Stream) error {
	for _, s := range streams {
		if len(view.Facts().Endpoints) > 0 {
			break
		}
		for _, err := range view.Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}) {
			if err != nil {
				return fmt.Errorf("read stream %q: %w", s.Name, err)
			}
			break
		}
	}
	now := view.Facts().Endpoints
	strange := slices.ContainsFunc(now, func(e dataset.Endpoint) bool { return !slices.Contains(r.endpoints, e) })
	if strange || len(now) == 0 && len(r.endpoints) > 0 {
		return refuse("other-source", "the source is at %v, the snapshot was made of %v", now, r.endpoints)
	}
	return nil
}

// batch deletes some items, between an intent and a result in the store and in the audit
// log.
func (r *purgeRun) batch(ctx context.Context, d exporters.Deleter, streams map[string]dataset.Stream, items []int) error {
	holds, err := r.Holds(ctx, r.plan.Service)
	if err != nil {
		return fmt.Errorf("nothing more was deleted: %w", err)
	}
	if r.rehearsed {
		_, err := r.items(ctx, d, streams, items, holds)
		return err
	}
	entry := r.entry(slices.Min(items), slices.Max(items)+1)
	e := audit.NewEvent(audit.Purge, audit.Intent, r.now())
	e.Service, e.Run, e.Document = r.plan.Service, r.plan.Run, r.plan.Hash
	e.Counts = map[string]int64{"from": int64(entry.From), "to": int64(entry.To), "items": int64(len(items))}
	return act(ctx, r.Log, e, r.now, func() (map[string]int64, error) {
		if _, err := r.put(ctx, r.plan.Service, "purges", nsLedger, entry); err != nil {
			return nil, fmt.Errorf("nothing was deleted: ledger: %w", err)
		}
		lines, stop := r.items(ctx, d, streams, items, holds)
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

// items deletes items, and returns what became of those before the error that stopped it.
func (r *purgeRun) items(ctx context.Context, d exporters.Deleter, streams map[string]dataset.Stream, items []int, holds []ActiveHold) (lines []LedgerLine, stop error) {
	for _, n := range items {
		if err := ctx.Err(); err != nil {
			return lines, err
		}
		f, err := r.item(ctx, d, streams, n, holds)
		if err != nil {
			return lines, err
		}
		lines = append(lines, r.line(n, f, r.details[n]))
	}
	return lines, nil
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
	if r.OnItem != nil && !r.rehearsed {
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
		case errors.Is(err, exporters.ErrRefused):
			return Refused, err
		case errors.Is(err, exporters.ErrMarked):
			return Marked, err
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
		out.Lines = append(out.Lines, LedgerLine{Item: n, Fate: f, Detail: r.details[n]})
	}
	out.Ended = r.now()
}
