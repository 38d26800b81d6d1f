package audit

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// openIntents are the intents without a result, of the entries seen so far.
type openIntents map[dataset.ID]Entry

func (o openIntents) see(e Entry) {
	switch e.Event.Phase {
	case Intent:
		o[e.Event.ID] = e
	case Result:
		delete(o, e.Event.Of)
	}
}

// list returns them in the order of the log.
func (o openIntents) list() []Entry {
	var list []Entry
	for _, e := range o {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// Unmatched reads the log under a trusted checkpoint and returns the intents without a
// result, acts that died or go on, and the time of the newest entry. It reads less than
// [Reader.Verify], and finds nothing but what it needs to be in the log.
func (r *Reader) Unmatched(ctx context.Context, head archive.Checkpoint) (intents []Entry, newest time.Time, err error) {
	open := make(openIntents)
	for e, err := range r.Entries(ctx, head, 0) {
		if err != nil {
			return nil, time.Time{}, err
		}
		open.see(e)
		newest = e.Event.Time
	}
	return open.list(), newest, nil
}
