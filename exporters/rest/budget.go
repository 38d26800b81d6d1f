package rest

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// An apiBudget keeps requests under the rates that a manifest states. The zero budget
// has none.
type apiBudget struct {
	policies         []*ratePolicy
	remaining, reset string
	hit              []int
}

// A ratePolicy limits the requests that match it. It is safe for concurrent use.
type ratePolicy struct {
	matchers []matcher
	rates    []rate
	fixed    bool // one window after the other, instead of a moving one

	mu    sync.Mutex
	calls []time.Time // of the longest window, oldest first
	until time.Time   // of a fixed window, or of a limit that the server has named
	used  int64
}

type rate struct {
	limit *expr
	n     int64
	per   jinja.Duration
}

type matcher struct {
	method, base string
	path         *regexp.Regexp
	params       *jinja.Dict
	headers      *jinja.Dict
	weight       *expr // how many calls one counts for; nil is 1
}

func (n node) budget() *apiBudget {
	b := &apiBudget{remaining: "ratelimit-remaining", reset: "ratelimit-reset", hit: []int{429}}
	if n.d == nil || !n.check() {
		return b
	}
	if h := n.d.Text("ratelimit_remaining_header"); h != "" {
		b.remaining = h
	}
	if h := n.d.Text("ratelimit_reset_header"); h != "" {
		b.reset = h
	}
	if n.has("status_codes_for_ratelimit_hit") {
		b.hit = n.integers("status_codes_for_ratelimit_hit")
	}
	for _, c := range n.children("policies") {
		if !c.check() {
			continue
		}
		p := &ratePolicy{}
		switch c.typ() {
		case "FixedWindowCallRatePolicy":
			d, ok := c.duration("period")
			limit, isInt := jinja.Int(c.value("call_limit"))
			if !ok || !isInt || limit < 1 {
				c.problem("call_limit", "and period are required")
			}
			p.fixed, p.rates = true, []rate{{n: limit, per: d}}
		case "MovingWindowCallRatePolicy":
			for _, r := range c.children("rates") {
				d, ok := r.duration("interval")
				if !ok {
					r.problem("interval", "is required")
				}
				p.rates = append(p.rates, rate{limit: r.expr("limit"), per: d})
			}
		}
		p.matchers = c.matchers()
		b.policies = append(b.policies, p)
	}
	return b
}

// matchers reads the HttpRequestRegexMatchers of a component.
func (n node) matchers() []matcher {
	var out []matcher
	for _, m := range n.children("matchers") {
		x := matcher{method: m.d.Text("method"), base: m.d.Text("url_base"), weight: m.expr("weight")}
		if pat := m.d.Text("url_path_pattern"); pat != "" {
			re, err := jinja.CompileRegex(pat)
			if err != nil {
				m.problem("url_path_pattern", "%v", err)
			}
			x.path = re
		}
		x.params, _ = m.value("params").(*jinja.Dict)
		x.headers, _ = m.value("headers").(*jinja.Dict)
		out = append(out, x)
	}
	return out
}

func (m matcher) fits(cl call) bool {
	if m.method != "" && !strings.EqualFold(m.method, cl.method) || m.base != "" && !strings.HasPrefix(cl.url.String(), m.base) ||
		m.path != nil && !m.path.MatchString(cl.url.Path) {
		return false
	}
	q := cl.url.Query()
	return all(m.params, func(k, v string) bool { return q.Get(k) == v }) && all(m.headers, func(k, v string) bool { return cl.header.Get(k) == v })
}

func all(d *jinja.Dict, ok func(k, v string) bool) bool {
	if d == nil {
		return true
	}
	for i := range d.Len() {
		if k, v := d.At(i); !ok(jinja.Str(k), jinja.Str(v)) {
			return false
		}
	}
	return true
}

// policy returns the first policy that a call is subject to, and what says how many calls
// it counts for.
func (b *apiBudget) policy(cl call) (*ratePolicy, *expr) {
	if b == nil {
		return nil, nil
	}
	for _, p := range b.policies {
		if len(p.matchers) == 0 {
			return p, nil
		}
		if i := slices.IndexFunc(p.matchers, func(m matcher) bool { return m.fits(cl) }); i >= 0 {
			return p, p.matchers[i].weight
		}
	}
	return nil, nil
}

// take waits until a call may be made.
func (b *apiBudget) take(ctx context.Context, v *view, cl call) error {
	p, weight := b.policy(cl)
	if p == nil || len(p.rates) == 0 {
		return nil
	}
	n, err := v.scope().number(weight, 1)
	if err != nil {
		return fmt.Errorf("api_budget: weight: %w", err)
	}
	for {
		wait, err := p.reserve(v, int64(max(n, 1)))
		if err != nil || wait <= 0 {
			return err
		}
		if err := v.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// reserve counts a call of some weight, or says how long there is no room for one. One that
// weighs more than a limit takes all of it.
func (p *ratePolicy) reserve(v *view, weight int64) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := v.now()
	if p.fixed {
		if !now.Before(p.until) {
			p.until, p.used = p.rates[0].per.Add(now), 0
		}
		if p.used+min(weight, p.rates[0].n) > p.rates[0].n {
			return p.until.Sub(now), nil
		}
		p.used += weight
		return 0, nil
	}
	if now.Before(p.until) {
		return p.until.Sub(now), nil
	}
	oldest, most := now, int64(1)
	for _, r := range p.rates {
		limit := r.n
		if r.limit != nil {
			f, err := v.scope().number(r.limit, 0)
			if err != nil {
				return 0, err
			}
			limit = int64(f)
		}
		most = max(most, limit)
		from := r.per.Neg().Add(now)
		if from.Before(oldest) {
			oldest = from
		}
		first, _ := slices.BinarySearchFunc(p.calls, from, func(t, x time.Time) int {
			if t.After(x) {
				return 1
			}
			return -1
		})
		if recent := p.calls[first:]; limit > 0 && int64(len(recent))+min(weight, limit) > limit {
			over := int64(len(recent)) + min(weight, limit) - limit // calls that have to leave the window
			return max(r.per.Add(recent[over-1]).Sub(now), time.Millisecond), nil
		}
	}
	cut := 0
	for cut < len(p.calls) && !p.calls[cut].After(oldest) {
		cut++
	}
	p.calls = p.calls[cut:]
	for range min(weight, most) {
		p.calls = append(p.calls, now)
	}
	return 0, nil
}

// learn takes what an answer says about a fixed window into account.
func (b *apiBudget) learn(v *view, cl call, a *answer) {
	p, _ := b.policy(cl)
	if p == nil || a == nil || !p.fixed {
		return
	}
	left, err := strconv.ParseInt(strings.TrimSpace(a.header.Get(b.remaining)), 10, 64)
	if slices.Contains(b.hit, a.status) {
		left, err = 0, nil
	}
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = max(p.used, p.rates[0].n-left)
	if reset, err := strconv.ParseInt(strings.TrimSpace(a.header.Get(b.reset)), 10, 64); err == nil && reset < 1<<40 {
		if t := time.Unix(reset, 0); t.After(v.now()) && t.Before(v.now().Add(24*time.Hour)) {
			p.until = t
		}
	}
}
