// Package schedule decides what is due and writes the timers that start Sallyport.
//
// Timers only wake Sallyport up ("export --due"); what is due follows from the
// configuration and the archive alone. So a timer that fires too often does no harm,
// one that was missed is made good by the next, and a failed run is tried again.
// All times are UTC.
package schedule

import (
	"fmt"
	"time"
)

// A Job is something that has to happen again and again: the exports or the exit tests
// of one service. The zero Job is never due.
type Job struct {
	Cron  Cron          // fixed times; zero if there are none
	Every time.Duration // the objective: at most this long between successes; 0 if there is none
}

// A Verdict says whether a [Job] is due and whether its objective is missed.
type Verdict struct {
	Due     bool      `json:"due"`
	Overdue bool      `json:"overdue"`       // the objective is missed: too long without a success, or none ever
	Reason  string    `json:"reason"`        // one clause for people; never empty
	Next    time.Time `json:"next,omitzero"` // when it will be due; zero if Due or never
}

// lead is how long before its objective a job without fixed times becomes due: a
// tenth of the objective, at most a week, so that it can be met.
func (j Job) lead() time.Duration { return min(j.Every/10, 7*24*time.Hour) }

// At decides at now about a job whose last success began at last (zero if it never
// succeeded). It is a pure function. Missed times are made good by one run.
func (j Job) At(now, last time.Time) Verdict {
	now, last = now.UTC(), last.UTC()
	if j.Cron.IsZero() && j.Every <= 0 {
		return Verdict{Reason: "not scheduled"}
	}
	v := Verdict{Overdue: j.Every > 0 && (last.IsZero() || now.Sub(last) > j.Every)}
	tick := j.Cron.Prev(now)
	switch {
	case last.IsZero():
		v.Due, v.Reason = true, "never done"
	case last.After(now):
		// A clock was wrong, here or there. Doing it once too often is the safe side.
		v.Due, v.Reason = true, fmt.Sprintf("the last success lies in the future (%s)", stamp(last))
	case tick.After(last):
		v.Due, v.Reason = true, "scheduled for "+stamp(tick)
	case j.Every > 0 && !now.Before(last.Add(j.Every-j.lead())):
		v.Due, v.Reason = true, "the objective ends at "+stamp(last.Add(j.Every))
	default:
		v.Next = j.next(now, last)
		v.Reason = "due at " + stamp(v.Next)
	}
	if v.Overdue && !last.IsZero() {
		v.Reason = "overdue since " + stamp(last.Add(j.Every))
	}
	return v
}

// next returns when a job that is not due at now will be.
func (j Job) next(now, last time.Time) time.Time {
	tick := j.Cron.Next(now)
	if j.Every <= 0 {
		return tick
	}
	end := last.Add(j.Every - j.lead())
	if tick.IsZero() || end.Before(tick) {
		return end
	}
	return tick
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04 UTC") }
