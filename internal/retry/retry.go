// Package retry tries again, within a budget. Every wait is bounded and so is their
// sum: a server can slow Sallyport down and cannot hold it for ever.
package retry

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Policy says how often and how long to try. The zero Policy is a good one. It is
// safe for concurrent use if its functions are.
type Policy struct {
	Tries   int           // calls at most; 0 means 8
	Total   time.Duration // no call starts later than this after the first; 0 means 15 minutes
	Min     time.Duration // the first wait, before jitter, doubled each time; 0 means 500 ms
	Max     time.Duration // the longest wait of our own choice; 0 means 30 s
	MaxHint time.Duration // the longest wait that a server may ask for; 0 means 5 minutes

	Now   func() time.Time                                 // nil means time.Now
	Sleep func(ctx context.Context, d time.Duration) error // nil means a timer; ends early only with an error
	Rand  func() float64                                   // in [0, 1); nil means math/rand
	Note  func(err error, wait time.Duration)              // told before each wait; may be nil
}

// A Verdict says what to do about an error. The zero Verdict is to give up.
type Verdict struct {
	Again bool          // trying again may help
	Hint  time.Duration // the server asks to wait at least this long; 0 if it does not
}

// An Error says that the budget was spent. It unwraps to the last error.
type Error struct {
	Tries int           // calls made
	Spent time.Duration // since the first
	Hint  time.Duration // how long the server asked to wait, if that is what did not fit; else 0
	Err   error
}

func (e *Error) Error() string {
	if e.Hint > 0 {
		return fmt.Sprintf("gave up after %d tries in %s, asked to wait another %s: %v", e.Tries, round(e.Spent), round(e.Hint), e.Err)
	}
	return fmt.Sprintf("gave up after %d tries in %s: %v", e.Tries, round(e.Spent), e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// Do calls f until it returns nil, judge says that trying again does not help, or the
// budget is spent. An error that judge gives up on is returned as it is; a spent budget
// is an *[Error]. When ctx ends, Do returns at once with its cause and, if there is
// one, the last error of f. judge is not asked about a nil error.
func Do(ctx context.Context, p Policy, judge func(error) Verdict, f func(context.Context) error) error {
	p = p.withDefaults()
	start := p.Now()
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := f(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return interrupted(ctx, err)
		}
		v := judge(err)
		if !v.Again {
			return err
		}
		spent := p.Now().Sub(start)
		wait := p.wait(try, v.Hint)
		if try >= p.Tries || spent+wait > p.Total {
			gave := &Error{Tries: try, Spent: spent, Err: err}
			if try < p.Tries && v.Hint > 0 {
				gave.Hint = v.Hint
			}
			return gave
		}
		if p.Note != nil {
			p.Note(err, wait)
		}
		if p.Sleep(ctx, wait) != nil {
			return interrupted(ctx, err)
		}
	}
}

func interrupted(ctx context.Context, last error) error {
	return fmt.Errorf("%w; before that: %w", context.Cause(ctx), last)
}

func (p Policy) withDefaults() Policy {
	if p.Tries == 0 {
		p.Tries = 8
	}
	if p.Total == 0 {
		p.Total = 15 * time.Minute
	}
	if p.Min == 0 {
		p.Min = 500 * time.Millisecond
	}
	if p.Max == 0 {
		p.Max = 30 * time.Second
	}
	if p.MaxHint == 0 {
		p.MaxHint = 5 * time.Minute
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Sleep == nil {
		p.Sleep = sleep
	}
	if p.Rand == nil {
		p.Rand = rand.Float64
	}
	return p
}

// wait is how long to wait after the try-th call: between half of the exponential step
// and all of it, so that many clients do not come back at once, and never less than
// the server asks for, up to MaxHint.
func (p Policy) wait(try int, hint time.Duration) time.Duration {
	step := p.Max
	if try < 32 && p.Min < p.Max>>(try-1) {
		step = p.Min << (try - 1)
	}
	own := step/2 + time.Duration(p.Rand()*float64(step/2))
	return max(own, min(hint, p.MaxHint))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// After reads a Retry-After header (RFC 9110, section 10.2.3): a number of seconds, or
// a date, compared with now. Dates in the past are no wait, numbers beyond what a
// Duration holds are the longest one. Anything else, a negative number too, is not a
// hint: ok is false.
func After(header string, now time.Time) (wait time.Duration, ok bool) {
	header = strings.TrimSpace(header)
	if digits(header) {
		// Too many digits are a long wait, not a malformed one.
		n, err := strconv.ParseInt(header, 10, 64)
		if err != nil || n > int64(math.MaxInt64/time.Second) {
			return math.MaxInt64, true
		}
		return time.Duration(n) * time.Second, true
	}
	t, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return max(0, t.Sub(now)), true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
