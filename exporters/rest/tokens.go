package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// tokens is a RateLimitedMultipleTokenAuthenticator: interchangeable tokens, of which one
// is used until the service has no more requests for it. What is left of them is asked for
// once, counted down, and corrected by what answers say. Equal authenticators of several
// streams count together.
type tokens struct {
	fixed
	list           *template
	delimiter      string
	method, header string
	key            string // the definition
	pools          []pool

	status      *expr // URL of the quotas
	verb        string
	headers     *template
	unavailable []int // statuses that mean that there are no quotas

	patience *expr // for all tokens' quotas to be renewed
	fraction float64
	least    int64
}

// A pool is a TokenQuota: requests that a service counts by themselves.
type pool struct {
	name                                      string
	matchers                                  []matcher
	remaining, reset, limit                   []string
	remainingHeader, resetHeader, limitHeader string
	exhausted                                 []int
}

func (n node) tokens() authenticator {
	a := &tokens{list: n.template("tokens", n.value("tokens")), delimiter: ",", method: "Bearer", header: "Authorization", key: n.definition(),
		patience: n.expr("max_wait_time"), fraction: 0.1, least: 50, verb: http.MethodGet}
	for name, into := range map[string]*string{"token_delimiter": &a.delimiter, "auth_method": &a.method, "header": &a.header} {
		if n.has(name) {
			*into = jinja.Str(n.value(name))
		}
	}
	if f, ok := jinja.Float(n.value("budget_reserve_fraction")); ok {
		a.fraction = f
	}
	if i, ok := jinja.Int(n.value("budget_min_reserve")); ok {
		a.least = i
	}
	if c, ok := n.typed("quota_status_source", "QuotaStatusSource"); ok {
		a.status, a.unavailable = c.expr("url"), c.integers("unavailable_status_codes")
		if m := c.d.Text("http_method"); m != "" {
			a.verb = m
		}
		if v := c.value("request_headers"); v != nil {
			a.headers = c.template("request_headers", v)
		}
	}
	for _, c := range n.children("quotas") {
		if !c.has("type") {
			c.d.Set("type", "TokenQuota")
		}
		if !c.check() {
			continue
		}
		a.pools = append(a.pools, pool{name: c.d.Text("name"), matchers: c.matchers(), remaining: c.texts("remaining_path"), reset: c.texts("reset_path"),
			limit: c.texts("limit_path"), remainingHeader: c.d.Text("remaining_header"), resetHeader: c.d.Text("reset_header"),
			limitHeader: c.d.Text("limit_header"), exhausted: c.integers("exhaustion_status_codes")})
	}
	if len(a.pools) == 0 {
		n.problem("quotas", "there are none")
	}
	return a
}

// typed returns the component in a field whose type may be left out.
func (n node) typed(field, typ string) (node, bool) {
	c, ok := n.child(field)
	if !ok {
		return c, false
	}
	if !c.has("type") {
		c.d.Set("type", typ)
	}
	return c, c.check()
}

// A tokenBook is what is known of the quotas of tokens. It is safe for concurrent use.
type tokenBook struct {
	mu     sync.Mutex
	all    []heldToken // nil before the first request
	active int
}

type heldToken struct {
	token  string
	quotas []quota // by pool
}

// A quota is what is left of a token in a pool. One that is not tracked has no end that
// the service would tell.
type quota struct {
	tracked          bool
	remaining, limit int64
	reset            time.Time
}

// book returns the book that all authenticators of this definition write in.
func (a *tokens) book(v *view) *tokenBook {
	v.booking.Lock()
	defer v.booking.Unlock()
	if v.books == nil {
		v.books = map[string]*tokenBook{}
	}
	if v.books[a.key] == nil {
		v.books[a.key] = &tokenBook{}
	}
	return v.books[a.key]
}

// options implements [authenticator] for requests that no pool counts, such as those of
// files.
func (a *tokens) options(ctx context.Context, v *view, s scope) (options, error) {
	o := newOptions()
	b := a.book(v)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := a.open(v, b); err != nil {
		return o, err
	}
	o.headers.Set(a.header, a.value(b.all[b.active].token))
	return o, nil
}

func (a *tokens) value(token string) string { return strings.TrimSpace(a.method + " " + token) }

// open evaluates the tokens.
func (a *tokens) open(v *view, b *tokenBook) error {
	if b.all != nil {
		return nil
	}
	val, err := v.scope().tree(a.list, nil, false)
	if err != nil {
		return fmt.Errorf("tokens: %w", err)
	}
	var list []string
	if l, ok := val.(*jinja.List); ok {
		for _, e := range l.Items {
			list = append(list, jinja.Str(e))
		}
	} else if val != nil {
		list = strings.Split(jinja.Str(val), a.delimiter)
	}
	for _, t := range list {
		if t = strings.TrimSpace(t); t != "" {
			v.secrets.add(t)
			b.all = append(b.all, heldToken{token: t})
		}
	}
	if b.all == nil {
		return fmt.Errorf("there are no tokens: %w", exporters.ErrCredentials)
	}
	return nil
}

// sign puts the credential for one request onto it, and lets its answer be learnt from.
// While no token has requests left, it waits.
func (a *tokens) sign(ctx context.Context, v *view, cl *call) error {
	b := a.book(v)
	n := a.pool(cl)
	most := 2 * time.Hour
	if a.patience != nil {
		text, err := v.scope().text(a.patience)
		if err != nil {
			return fmt.Errorf("max_wait_time: %w", err)
		}
		d, err := jinja.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("max_wait_time: %w", err)
		}
		most = d.Add(v.now()).Sub(v.now())
	}
	for waited := time.Duration(0); ; {
		token, wait, err := a.take(ctx, v, b, n)
		if err != nil {
			return err
		}
		if waited += wait; waited > most {
			return fmt.Errorf("no token has requests left before another %s: %w", wait.Round(time.Second), exporters.ErrTemporary)
		}
		if wait > 0 {
			if err := v.sleep(ctx, wait); err != nil {
				return err
			}
		}
		if token >= 0 {
			cl.header.Set(a.header, a.value(b.all[token].token))
			cl.learn = func(r *answer) { a.learn(v, b, token, n, r) }
			cl.spare = func() bool { return b.spare(token, n) }
			return nil
		}
	}
}

// pool is the number of the pool that counts a request: the first that matches, or that
// matches everything.
func (a *tokens) pool(cl *call) int {
	rest := 0
	for i := len(a.pools) - 1; i >= 0; i-- {
		if len(a.pools[i].matchers) == 0 {
			rest = i
		}
	}
	for i, p := range a.pools {
		for _, m := range p.matchers {
			if m.fits(*cl) {
				return i
			}
		}
	}
	return rest
}

// leastWait keeps a service that tells stale times of renewal from being asked for ever.
const leastWait = 5 * time.Second

// take reserves a request of a pool, and returns the number of the token; -1 if none has
// any left. wait is how long to wait before the request, or before taking again.
func (a *tokens) take(ctx context.Context, v *view, b *tokenBook, n int) (token int, wait time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := a.open(v, b); err != nil {
		return -1, 0, err
	}
	for i := range b.all {
		if b.all[i].quotas == nil {
			if b.all[i].quotas, err = a.ask(ctx, v, b.all[i].token); err != nil {
				return -1, 0, fmt.Errorf("ask for the quotas of a token: %w", err)
			}
		}
	}
	for i := range b.all {
		k := (b.active + i) % len(b.all)
		q := &b.all[k].quotas[n]
		if q.tracked && q.remaining <= 0 {
			continue
		}
		if b.active = k; q.tracked {
			q.remaining--
			wait = a.throttle(v, b, n)
		}
		return k, wait, nil
	}
	earliest := b.all[0].quotas[n].reset
	for _, t := range b.all {
		if t.quotas[n].reset.Before(earliest) {
			earliest = t.quotas[n].reset
		}
	}
	for i := range b.all {
		b.all[i].quotas = nil // to be asked for after the wait
	}
	return -1, max(leastWait, earliest.Sub(v.now())), nil
}

// throttle spreads the last requests of all tokens over the time until they are renewed.
func (a *tokens) throttle(v *view, b *tokenBook, n int) time.Duration {
	var left int64
	var soonest time.Time
	for _, t := range b.all {
		q := t.quotas[n]
		if !q.tracked || q.remaining >= max(a.least, int64(a.fraction*float64(q.limit))) {
			return 0
		}
		if left += q.remaining; soonest.IsZero() || q.reset.Before(soonest) {
			soonest = q.reset
		}
	}
	wait := min(soonest.Sub(v.now())/time.Duration(max(left, 1)), 10*time.Second)
	if wait < time.Second/10 {
		return 0
	}
	return wait
}

// ask asks the service for the quotas of a token.
func (a *tokens) ask(ctx context.Context, v *view, token string) ([]quota, error) {
	s := v.scope()
	at, err := s.text(a.status)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	u, err := parseURL(at)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	o := newOptions()
	if a.headers != nil {
		val, err := s.tree(a.headers, nil, true)
		if err != nil {
			return nil, fmt.Errorf("request_headers: %w", err)
		}
		if d, ok := val.(*jinja.Dict); ok {
			o.headers = d
		}
	}
	o.headers.Set(a.header, a.value(token))
	cl := call{method: a.verb, url: u, header: http.Header{}, pinned: []string{origin(u)}}
	if err := cl.fill(o, ""); err != nil {
		return nil, err
	}
	h := &errorHandler{parts: []defaultHandler{{filters: []responseFilter{{action: actIgnore, codes: a.unavailable}}}}}
	r, res, err := v.send(ctx, s, h, func(context.Context) (call, error) { return cl, nil }, nil)
	if err != nil {
		return nil, err
	}
	out := make([]quota, len(a.pools))
	if res.action == actIgnore {
		return out, nil
	}
	body, err := r.document()
	if err != nil {
		return nil, fmt.Errorf("the answer is not JSON: %w", err)
	}
	for i, p := range a.pools {
		left, has := wholeAt(body, p.remaining)
		if !has {
			continue // the service does not count these
		}
		q := quota{tracked: true, remaining: left, limit: left, reset: v.now()}
		if val, ok := walk(body, p.reset); ok {
			if t, ok := timeIn(jinja.Str(val)); ok {
				q.reset = t
			}
		}
		if n, ok := wholeAt(body, p.limit); ok && p.limit != nil {
			q.limit = n
		}
		out[i] = q
	}
	return out, nil
}

// wholeAt returns the integer at a path.
func wholeAt(body jinja.Value, path []string) (int64, bool) {
	val, ok := walk(body, path)
	if !ok {
		return 0, false
	}
	lit, _ := jinja.LiteralEval(jinja.Str(val))
	return jinja.Int(lit)
}

// timeIn reads seconds since the epoch, or a date by ISO 8601.
func timeIn(text string) (time.Time, bool) {
	text = strings.TrimSpace(text)
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		return time.UnixMilli(int64(f * 1000)), f > 0 && f < 1e11
	}
	t, err := jinja.ParseISO(text)
	if err != nil {
		return time.Time{}, false
	}
	return t.Time(), true
}

// sameWindow is how far two tellings of one time of renewal may be apart.
const sameWindow = time.Minute

// learn takes what an answer says about the quota of the token that asked.
func (a *tokens) learn(v *view, b *tokenBook, token, n int, r *answer) {
	p := a.pools[n]
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[token].quotas == nil {
		return // they are being asked for anew
	}
	q := &b.all[token].quotas[n]
	left, err := strconv.ParseInt(strings.TrimSpace(r.header.Get(p.remainingHeader)), 10, 64)
	told := p.remainingHeader != "" && err == nil
	reset, dated := time.Time{}, false
	if p.resetHeader != "" {
		reset, dated = timeIn(r.header.Get(p.resetHeader))
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(r.header.Get(p.limitHeader)), 10, 64); err == nil && p.limitHeader != "" {
		q.limit = n
	}
	switch refused := slices.Contains(p.exhausted, r.status); {
	case refused && (!told || left == 0):
		q.tracked, q.remaining = true, 0
	case told && dated && reset.After(q.reset.Add(sameWindow)):
		q.tracked, q.remaining = true, left // a new window
	case told:
		q.tracked, q.remaining = true, min(q.remaining, left)
	}
	if dated && reset.After(q.reset) {
		q.reset = reset
	}
}

// spare reports whether another token has requests left.
func (b *tokenBook) spare(token, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, t := range b.all {
		if i != token && t.quotas != nil && (!t.quotas[n].tracked || t.quotas[n].remaining > 0) {
			return b.all[token].quotas != nil && b.all[token].quotas[n].tracked && b.all[token].quotas[n].remaining <= 0
		}
	}
	return false
}
