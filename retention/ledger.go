package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/durable"
)

const ledgerFormat = "sallyport-ledger/1"

// A Fate is what became of an item.
type Fate string

// The fates.
const (
	Deleted  Fate = "deleted"  // by this purge: the source said so
	Gone     Fate = "gone"     // its deletion was asked for and not answered, and it is gone: by this purge, unless somebody else was there in between
	Absent   Fate = "absent"   // it was gone before
	Changed  Fate = "changed"  // the source has it otherwise than archived: it stays
	Retained Fate = "retained" // the source holds it under a lock or hold: it stays
	Held     Fate = "held"     // a hold of the archive, placed since the plan was made: it stays
	Stays    Fate = "stays"    // without it an older version that stays would come back
	Marked   Fate = "marked"   // the source only marked it as deleted, or keeps it in a recycle bin: it is there
	Refused  Fate = "refused"  // the source's own rules keep it: others refer to it, a trigger forbids it
	Failed   Fate = "failed"   // the source failed; it is tried again when the plan is applied again
)

// Fates lists them in the order in which people are told of them.
var Fates = []Fate{Deleted, Gone, Absent, Changed, Retained, Held, Stays, Marked, Refused, Failed}

// settled reports whether the item is not tried again when the plan is applied again.
func (f Fate) settled() bool { return f != "" && f != Refused && f != Failed }

// gone reports whether the source should not have the item any more.
func (f Fate) gone() bool { return f == Deleted || f == Gone || f == Absent }

// A Ledger is one entry about a stretch of a plan's items: an intent before, and a result
// after.
type Ledger struct {
	head
	Plan    dataset.Hash   `json:"plan"`
	Written archive.Time   `json:"written"`
	From    int            `json:"from"` // first item
	To      int            `json:"to"`   // behind the last
	Fates   map[Fate]int64 `json:"fates,omitempty"`
	Annex   dataset.Hash   `json:"annex,omitzero"` // of a result: sealed list of [LedgerLine]
}

// Intent reports whether the entry says what is about to be done.
func (l *Ledger) Intent() bool { return l.Annex.IsZero() }

// A LedgerLine says what became of one item.
type LedgerLine struct {
	Item   int    `json:"item"`
	Fate   Fate   `json:"fate"`
	Detail string `json:"detail,omitempty"` // what the source said
	Turn   int    `json:"turn,omitempty"`   // counts what is said of one item, from 1: the last counts
}

// ledgers returns the entries about plans of a service.
func (o *Office) ledgers(ctx context.Context, service string) ([]Ledger, error) {
	docs, err := folder(ctx, o.Archive, service, "purges")
	if err != nil {
		return nil, err
	}
	var list []Ledger
	for _, d := range docs {
		if d.format != ledgerFormat {
			continue
		}
		var l Ledger
		if _, err := o.verified(ctx, service, nsLedger, d, &l, &l.head, ledgerFormat, func() archive.Time { return l.Written }); err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

// A book is a host's own record of what became of the items of one plan. Each line is
// durable before the next act: an item is written down as tried before its deletion, and
// with its fate after. It names items by number, so it holds nothing of the source.
type book struct {
	journal *durable.Journal // nil in a rehearsal, of which nothing is written down
	tried   map[int]bool
	fates   map[int]Fate
}

// openBook reads the book of a plan, or begins it.
func openBook(d *durable.Dir, plan dataset.Hash, items int) (*book, error) {
	b := &book{tried: map[int]bool{}, fates: map[int]Fate{}}
	var err error
	b.journal, err = d.OpenJournal("purge-"+plan.String(), func(line []byte) error {
		kind, rest, _ := strings.Cut(string(line), " ")
		number, fate, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		switch {
		case err != nil || n < 0 || n >= items:
			return fmt.Errorf("%w: item %q", durable.ErrDamaged, number)
		case kind == "try" && fate == "":
			b.tried[n] = true
		case kind == "end" && slices.Contains(Fates, Fate(fate)):
			b.fates[n] = Fate(fate)
		default:
			return fmt.Errorf("%w: %q", durable.ErrDamaged, line)
		}
		return nil
	})
	return b, err
}

func (b *book) try(n int) error {
	if b.tried[n] {
		return nil
	}
	if b.journal != nil {
		if err := b.journal.Append(fmt.Appendf(nil, "try %d", n)); err != nil {
			return fmt.Errorf("nothing was deleted: %w", err)
		}
	}
	b.tried[n] = true
	return nil
}

func (b *book) end(n int, f Fate) error {
	if b.fates[n] == f {
		return nil
	}
	b.fates[n] = f
	if b.journal == nil {
		return nil
	}
	return b.journal.Append(fmt.Appendf(nil, "end %d %s", n, f))
}

// copied returns a book for a rehearsal.
func (b *book) copied() *book { return &book{nil, maps.Clone(b.tried), maps.Clone(b.fates)} }

// Ledger returns what became of each item of a plan, by the results that were published:
// what was said last. Items that are not in it were not reached.
func (o *Office) Ledger(ctx context.Context, p *SignedPlan) (map[int]LedgerLine, error) {
	entries, err := o.ledgers(ctx, p.Service)
	if err != nil {
		return nil, err
	}
	published := map[int]LedgerLine{}
	for _, l := range entries {
		if l.Plan != p.Hash || l.Intent() {
			continue
		}
		var lines []LedgerLine
		if err := o.annex(ctx, p.Service, l.Annex, &lines); err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		for _, line := range lines {
			if line.Item < 0 || line.Item >= int(p.Counts.Items) {
				return nil, &archive.IntegrityError{Name: "ledger of plan " + p.Hash.String(), Err: errors.New("is about items that the plan does not have")}
			}
			if last, ok := published[line.Item]; !ok || line.Turn > last.Turn || line.Turn == last.Turn && line.Fate.settled() {
				published[line.Item] = line
			}
		}
	}
	return published, nil
}

// adopt takes over from the store what another host wrote down about the plan.
func (r *purgeRun) adopt(ctx context.Context) (err error) {
	if r.published, err = r.Ledger(ctx, r.plan); err != nil {
		return err
	}
	for n, line := range r.published {
		if !r.book.fates[n].settled() {
			r.book.fates[n] = line.Fate
		}
	}
	return nil
}

// line says what became of an item now.
func (r *purgeRun) line(n int, f Fate, detail string) LedgerLine {
	l := LedgerLine{n, f, detail, r.published[n].Turn + 1}
	r.published[n] = l
	return l
}

// unpublished returns what this host knows and the store does not, because a run was cut
// short in between.
func (r *purgeRun) unpublished() (lines []LedgerLine) {
	for n := range r.body.Items {
		if f := r.book.fates[n]; f.settled() && r.published[n].Fate != f {
			lines = append(lines, r.line(n, f, "by a run that was cut short"))
		}
	}
	return lines
}

// Recent sums up what was deleted at the source of a service since a moment, by the
// ledgers: how many items, and which share of their streams, as the sum of the shares of
// the plans that deleted anything. The plan of a hash is left out.
func (o *Office) Recent(ctx context.Context, service string, since time.Time, but dataset.Hash) (items int64, share int, err error) {
	entries, err := o.ledgers(ctx, service)
	if err != nil {
		return 0, 0, err
	}
	per := map[dataset.Hash]int64{}
	for _, l := range entries {
		if l.Plan != but && !l.Written.Before(since) {
			per[l.Plan] += l.Fates[Deleted] + l.Fates[Gone]
		}
	}
	plans, err := o.Plans(ctx, service)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range plans {
		if n := per[p.Hash]; n > 0 {
			items += n
			share += p.Counts.Share
		}
	}
	return items, share, nil
}
