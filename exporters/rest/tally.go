package rest

import (
	"fmt"
	"slices"
	"sync"
)

// A tally counts one reading of a stream, over all its slices. It finds a limit that the
// source does not tell: no slice is larger than a usual size of a page, and it is met. It
// is safe for concurrent use.
type tally struct {
	mu                sync.Mutex
	received          int64 // records, before any filter
	stated            int64 // by the source, of slices that it counts
	counted           bool  // it stated something
	slices, most, met int64
}

// beyondAnyPage is more than any usual size of a page.
const beyondAnyPage = 1<<40 + 1

// receive counts one record.
func (t *tally) receive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received++
}

// join adds the counts of a slice that was counted by itself.
func (t *tally) join(o *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received, t.stated, t.counted = t.received+o.received, t.stated+o.stated, t.counted || o.counted
	t.slices += o.slices
	switch {
	case o.most > t.most:
		t.most, t.met = o.most, o.met
	case o.most == t.most:
		t.met += o.met
	}
}

// state takes the source's own count of a slice.
func (t *tally) state(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stated, t.counted = t.stated+n, true
}

// add takes the size of a slice that came in one answer.
func (t *tally) add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slices++
	switch {
	case n > t.most:
		t.most, t.met = n, 1
	case n == t.most:
		t.met++
	}
}

// alarms says why records may be missing, when all slices have been read. expected is set
// if the source is to count its records.
func (t *tally) alarms(expected bool) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var why []string
	switch {
	case t.counted && t.stated > t.received:
		why = append(why, fmt.Sprintf("the source counts %d records, %d were received", t.stated, t.received))
	case expected && !t.counted && t.received > 0:
		why = append(why, "no answer has a number where the option counts says that the source counts its records")
	}
	if roundPage(t.most) && (t.slices == 1 || t.met > 1) { // one slice of many that happens to have a round number is no reason
		why = append(why, fmt.Sprintf("%d of %d lists that came in one answer have exactly %d records, and none has more: the source may have a limit", t.met, t.slices, t.most))
	}
	return why
}

// roundLimit reports whether n is 1 or 5 times a power of ten, from a thousand.
func roundLimit(n int64) bool {
	for m := int64(1000); m <= n; m *= 10 {
		if n == m || n == 5*m {
			return true
		}
	}
	return false
}

// roundPage reports whether n is a usual size of a page.
func roundPage(n int64) bool {
	return slices.Contains([]int64{10, 20, 25, 30, 50, 100, 200, 250, 500, 1000}, n) || roundLimit(n)
}
