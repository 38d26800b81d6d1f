package retry

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
)

var errBusy = errors.New("busy")

// clock is time that passes only while someone sleeps.
type clock struct {
	now   time.Time
	waits []time.Duration
}

func (c *clock) policy() Policy {
	return Policy{
		Now:  func() time.Time { return c.now },
		Rand: func() float64 { return 0.5 },
		Sleep: func(ctx context.Context, d time.Duration) error {
			c.waits = append(c.waits, d)
			c.now = c.now.Add(d)
			return ctx.Err()
		},
	}
}

func (c *clock) total() (sum time.Duration) {
	for _, w := range c.waits {
		sum += w
	}
	return sum
}

func always(hint time.Duration) func(error) Verdict {
	return func(error) Verdict { return Verdict{Again: true, Hint: hint} }
}

func TestSuccessAfterFailuresIsSuccess(t *testing.T) {
	t.Parallel()
	c, calls := new(clock), 0
	err := Do(t.Context(), c.policy(), always(0), func(context.Context) error {
		if calls++; calls < 4 {
			return errBusy
		}
		return nil
	})
	if err != nil || calls != 4 {
		t.Errorf("Do = %v after %d calls; want nil after 4", err, calls)
	}
	want := []time.Duration{375 * time.Millisecond, 750 * time.Millisecond, 1500 * time.Millisecond}
	for i, w := range want {
		if c.waits[i] != w {
			t.Errorf("wait %d = %s; want %s", i, c.waits[i], w)
		}
	}
}

func TestBudgetsEndIt(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Policy)
		hint   time.Duration
		tries  int
		most   time.Duration
	}{
		{"tries", func(p *Policy) { p.Tries = 3 }, 0, 3, 2 * time.Second},
		{"one try", func(p *Policy) { p.Tries = 1 }, 0, 1, 0},
		{"total", func(p *Policy) { p.Tries, p.Total = math.MaxInt, time.Minute }, 0, 8, time.Minute},
		{"many tries", func(p *Policy) { p.Tries, p.Total = 200, math.MaxInt64 }, 0, 200, 200 * 30 * time.Second},
		{"huge hint is capped", func(p *Policy) { p.Tries = 3 }, math.MaxInt64, 3, 10 * time.Minute},
		{"hints fill the total", func(p *Policy) { p.Tries = 100 }, math.MaxInt64, 4, 15 * time.Minute},
		{"hint beyond the total", func(p *Policy) { p.Total = time.Minute }, 2 * time.Minute, 1, 0},
		{"negative hint", func(p *Policy) { p.Tries = 3 }, -time.Hour, 3, 2 * time.Second},
	} {
		c, calls := new(clock), 0
		p := c.policy()
		tc.change(&p)
		err := Do(t.Context(), p, always(tc.hint), func(context.Context) error { calls++; return errBusy })
		var gave *Error
		if !errors.As(err, &gave) || !errors.Is(err, errBusy) || gave.Tries != calls {
			t.Errorf("%s: %v; want an *Error around the last one", tc.name, err)
			continue
		}
		if calls != tc.tries || c.total() > tc.most || gave.Spent != c.total() {
			t.Errorf("%s: %d tries in %s; want %d in at most %s", tc.name, calls, c.total(), tc.tries, tc.most)
		}
	}
}

func TestHintTooLongForTheBudgetIsNamed(t *testing.T) {
	t.Parallel()
	c := new(clock)
	err := Do(t.Context(), c.policy(), always(24*time.Hour), func(context.Context) error { return errBusy })
	if err == nil || !strings.Contains(err.Error(), "asked to wait another 24h0m0s") {
		t.Errorf("Do: %v; want the server's wish in it", err)
	}
}

func TestErrorThatWillNotPassIsReturnedAsItIs(t *testing.T) {
	t.Parallel()
	calls := 0
	err := Do(t.Context(), new(clock).policy(), func(error) Verdict { return Verdict{} }, func(context.Context) error { calls++; return errBusy })
	if err != errBusy || calls != 1 {
		t.Errorf("Do = %v after %d calls; want the error itself after 1", err, calls)
	}
}

func TestEndOfContextEndsItAtOnce(t *testing.T) {
	t.Parallel()
	errStop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	err := Do(ctx, Policy{Min: time.Hour, Max: time.Hour, Total: 5 * time.Hour, Note: func(error, time.Duration) { cancel(errStop) }}, always(0), func(context.Context) error { calls++; return errBusy })
	if !errors.Is(err, errStop) || !errors.Is(err, errBusy) || calls != 1 {
		t.Errorf("cancelled while waiting: %v after %d calls", err, calls)
	}
	if err := Do(ctx, Policy{}, always(0), func(context.Context) error { calls++; return nil }); !errors.Is(err, errStop) || calls != 1 {
		t.Errorf("cancelled before: %v after %d calls; want no call", err, calls)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	err = Do(ctx, Policy{}, func(error) Verdict { t.Error("judged"); return Verdict{} }, func(context.Context) error { cancel(errStop); return errBusy })
	if !errors.Is(err, errStop) {
		t.Errorf("cancelled during the call: %v", err)
	}
}

func TestWaitsStayBetweenHalfAStepAndAStep(t *testing.T) {
	t.Parallel()
	for _, r := range []float64{0, 0.25, 0.999999} {
		p := Policy{Rand: func() float64 { return r }}.withDefaults()
		for try := 1; try < 100; try++ {
			step := min(float64(p.Max), float64(p.Min)*math.Pow(2, float64(try-1)))
			if w := float64(p.wait(try, 0)); w < step/2 || w > step {
				t.Errorf("wait after try %d = %s; want about %s", try, time.Duration(w), time.Duration(step))
			}
		}
	}
}

func TestRetryAfterHeader(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"120", 2 * time.Minute, true},
		{" 7 ", 7 * time.Second, true},
		{"0", 0, true},
		{"1000000000", 1e9 * time.Second, true},
		{"99999999999", math.MaxInt64, true},
		{"99999999999999999999999999", math.MaxInt64, true},
		{now.Add(time.Hour).Format(http.TimeFormat), time.Hour, true},
		{now.Add(-time.Hour).Format(http.TimeFormat), 0, true},
		{now.Add(time.Minute).Format(time.RFC850), time.Minute, true},
		{"", 0, false},
		{"-5", 0, false},
		{"+5", 0, false},
		{"1.5", 0, false},
		{"5 s", 0, false},
		{"soon", 0, false},
		{"0x10", 0, false},
	} {
		if got, ok := After(tc.header, now); got != tc.want || ok != tc.ok {
			t.Errorf("After(%q) = %s, %t; want %s, %t", tc.header, got, ok, tc.want, tc.ok)
		}
	}
}
