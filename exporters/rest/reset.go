package rest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A pageReset is a PaginationReset: where the pages of a slice begin anew. That happens
// when an error handler says RESET_PAGINATION, or after so many records.
type pageReset struct {
	split bool  // go on from the time of the newest record, instead of from the beginning
	limit int64 // records; 0 is no limit
}

func (n node) pageReset(st *stream) pageReset {
	var r pageReset
	c, ok := n.child("pagination_reset")
	if !ok || !c.check() {
		return r
	}
	r.split = c.d.Text("action") == "SPLIT_USING_CURSOR"
	if r.split && (st.cursor == nil || st.cursor.count) {
		c.problem("action", "SPLIT_USING_CURSOR needs an incremental_sync by date")
	}
	if l, ok := c.child("limits"); ok {
		if !l.has("type") {
			l.d.Set("type", "PaginationResetLimits")
		}
		if l.check() && l.has("number_of_records") {
			if r.limit, ok = jinja.Int(l.value("number_of_records")); !ok || r.limit < 1 {
				l.problem("number_of_records", "is not a positive integer")
			}
			if !r.split {
				c.problem("limits", "would begin with the first page for ever; the action has to be SPLIT_USING_CURSOR")
			}
		}
	}
	return r
}

// errReset says that the pages of a slice have to begin anew.
var errReset = errors.New("pagination is reset")

// anew reads a slice, and begins again where that is asked for. Records that come again
// are recognised by their keys, so a stream without keys cannot begin again. What came
// twice without getting on is an error, as in the framework.
func (r *simple) anew(ctx context.Context, v *view, st *stream, p part, emit func(item) error) error {
	for stuck := false; ; {
		var newest time.Time
		ordered := true // by time, the oldest first
		once := p
		once.tally = &tally{} // what came before a reset comes again
		err := r.readPages(ctx, v, st, once, nil, func(it item) error {
			if r.reset.split && it.gap == nil {
				t, ok := st.cursor.at(v, it.out)
				ordered = ordered && ok && !t.Before(newest)
				newest = t
			}
			return emit(it)
		})
		if err == nil {
			p.tally.join(once.tally)
			return nil
		} else if err != errReset {
			return err
		}
		if len(st.key) == 0 {
			return errors.New("the pages have to begin anew, and without a primary key nobody can tell which records came before")
		}
		if r.reset.split && !ordered {
			return errors.New("the pages have to go on from the newest record, and records do not come in the order of their times")
		}
		v.facts.note(fmt.Sprintf("stream %s: pages began anew, as the manifest says", st.name))
		if r.reset.split && p.stretch != nil && newest.After(p.stretch.a) {
			tally := p.tally
			if p, err = st.cursor.stretch(v, p.stretch.base, newest, p.stretch.b); err != nil {
				return err
			}
			p.tally, stuck = tally, false
			continue
		}
		if stuck || r.reset.split {
			return errors.New("the pages have to begin anew, and nothing is gained by it")
		}
		stuck = true
	}
}
