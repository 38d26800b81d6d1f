package rest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/internal/retry"
)

// An action is what an error handler decides about an answer.
type action string

const (
	actSuccess     action = "SUCCESS"
	actFail        action = "FAIL"
	actRetry       action = "RETRY"
	actIgnore      action = "IGNORE"
	actRateLimited action = "RATE_LIMITED"
	actReset       action = "RESET_PAGINATION"
	actRefresh     action = "REFRESH_TOKEN_THEN_RETRY"
)

// A resolution is a decision with its reason.
type resolution struct {
	action  action
	message string
	// matched is set if a filter of the manifest decided, not the default table.
	matched bool
}

// An errorHandler decides about answers: one DefaultErrorHandler, or those of a
// CompositeErrorHandler in turn.
type errorHandler struct {
	parts []defaultHandler
}

type defaultHandler struct {
	filters    []responseFilter
	backoffs   []backoff
	maxRetries *expr
}

type responseFilter struct {
	action    action
	codes     []int
	contains  string
	predicate *expr
	message   *expr
}

// backoff says how long to wait; ok is false if it has no opinion.
type backoff func(s scope, r *answer, try int, now time.Time) (wait time.Duration, ok bool, err error)

func (n node) errorHandler() *errorHandler {
	h := &errorHandler{}
	if n.d == nil {
		h.parts = []defaultHandler{{}}
		return h
	}
	h.add(n)
	if len(h.parts) == 0 {
		h.parts = []defaultHandler{{}}
	}
	return h
}

func (h *errorHandler) add(n node) {
	if !n.check() {
		return
	}
	switch n.typ() {
	case "CompositeErrorHandler":
		for _, c := range n.children("error_handlers") {
			h.add(c)
		}
	case "DefaultErrorHandler":
		d := defaultHandler{maxRetries: n.expr("max_retries")}
		for _, f := range n.children("response_filters") {
			if !f.check() {
				continue
			}
			r := responseFilter{action: action(f.d.Text("action")), codes: f.integers("http_codes"), contains: f.d.Text("error_message_contains"),
				predicate: f.expr("predicate", responseNames...), message: f.expr("error_message", responseNames...)}
			d.filters = append(d.filters, r)
		}
		for _, s := range n.children("backoff_strategies") {
			if s.check() {
				d.backoffs = append(d.backoffs, s.backoff())
			}
		}
		h.parts = append(h.parts, d)
	default:
		n.problem("", "is not an error handler")
	}
}

func (n node) backoff() backoff {
	jitter, _ := jinja.Float(n.value("jitter_range_in_seconds"))
	spread := func() float64 { return jitter * (2*rand.Float64() - 1) }
	switch n.typ() {
	case "ConstantBackoffStrategy":
		x := n.expr("backoff_time_in_seconds")
		return func(s scope, r *answer, try int, now time.Time) (time.Duration, bool, error) {
			f, err := s.number(x, 0)
			return seconds(f + spread()), true, err
		}
	case "ExponentialBackoffStrategy":
		x := n.expr("factor")
		return func(s scope, r *answer, try int, now time.Time) (time.Duration, bool, error) {
			f, err := s.number(x, 5)
			return seconds(f*float64(uint64(1)<<min(try, 30)) + spread()), true, err
		}
	case "WaitTimeFromHeader", "WaitUntilTimeFromHeader":
		return n.headerBackoff()
	}
	n.problem("", "is not a back-off strategy")
	return nil
}

// headerBackoff reads a number of seconds, or the epoch second to wait for. A date
// (RFC 9110) is understood too.
func (n node) headerBackoff() backoff {
	name, most, least := n.expr("header"), n.expr("max_waiting_time_in_seconds"), n.expr("min_wait")
	var re *regexp.Regexp
	if p := n.d.Text("regex"); p != "" {
		var err error
		if re, err = jinja.CompileRegex("^(?:" + p + ")"); err != nil {
			n.problem("regex", "%v", err)
		}
	}
	until := n.typ() == "WaitUntilTimeFromHeader"
	return func(s scope, r *answer, try int, now time.Time) (time.Duration, bool, error) {
		h, err := s.text(name)
		if err != nil || r == nil {
			return 0, false, err
		}
		floor, err := s.number(least, 0)
		if err != nil {
			return 0, false, err
		}
		text := r.header.Get(h)
		if re != nil {
			text = re.FindString(text)
		}
		wait, ok := retry.After(text, now)
		if f, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil && !(f < 0) {
			wait, ok = seconds(f), true
			if until {
				wait = seconds(f - float64(now.UnixMilli())/1000)
			}
		}
		if !ok {
			if least != nil {
				return seconds(floor), true, nil
			}
			return 0, false, nil
		}
		wait = max(wait, seconds(floor), 0)
		limit, err := s.number(most, 0)
		if err != nil {
			return 0, false, err
		}
		if most != nil && wait >= seconds(limit) {
			return 0, false, fmt.Errorf("the server asks to wait %s, the manifest allows %s: %w", wait, seconds(limit), exporters.ErrTemporary)
		}
		return wait, true, nil
	}
}

// seconds converts, capped at what a Duration holds.
func seconds(f float64) time.Duration {
	if f > 9e9 {
		return 1<<63 - 1
	}
	return time.Duration(max(f, 0) * float64(time.Second))
}

// decide asks the handlers about an answer, or about an error instead of one.
func (h *errorHandler) decide(s scope, r *answer, failed error) (resolution, error) {
	if r == nil {
		if errors.As(failed, new(*refusedError)) || errors.Is(failed, errTooLarge) {
			return resolution{action: actFail, message: failed.Error()}, nil
		}
		return resolution{action: actRetry, message: failed.Error()}, nil
	}
	for _, p := range h.parts {
		if len(p.filters) > 0 {
			s = s.with("response", r.first(), "headers", r.headers())
			break
		}
	}
	var last resolution
	for _, part := range h.parts {
		res, err := part.decide(s, r)
		if err != nil {
			return res, err
		}
		last = res
		if slices.Contains([]action{actSuccess, actRetry, actIgnore, actReset, actRefresh}, res.action) {
			return res, nil
		}
	}
	return last, nil
}

func (d defaultHandler) decide(s scope, r *answer) (resolution, error) {
	for _, f := range d.filters {
		hit := slices.Contains(f.codes, r.status) || f.contains != "" && strings.Contains(r.errorMessage(), f.contains)
		if !hit && f.predicate != nil {
			var err error
			if hit, err = s.truth(f.predicate, false); err != nil {
				return resolution{}, err
			}
		}
		if !hit {
			continue
		}
		res := resolution{action: f.action, matched: true}
		if res.action == "" {
			res.action = defaultAction(r.status)
			if res.action == actSuccess {
				res.action = actFail // a filter without an action finds errors
			}
		}
		if f.message != nil {
			v, err := f.message.EvalOr(s.env, s.of(f.message), jinja.OnlyText, "")
			if err != nil {
				return res, err
			}
			res.message = jinja.Str(v)
		}
		return res, nil
	}
	return resolution{action: defaultAction(r.status)}, nil
}

// defaultAction is the framework's default table.
func defaultAction(status int) action {
	switch {
	case status < 400:
		return actSuccess
	case slices.Contains([]int{400, 401, 403, 404, 405}, status):
		return actFail
	case status == 429:
		return actRateLimited
	}
	return actRetry
}

// send makes calls until the handlers are satisfied. make builds each try anew, for a
// token may have changed; refresh, if not nil, renews the token. It returns the answer
// and the decision SUCCESS, IGNORE or RESET_PAGINATION; anything else is an error.
func (v *view) send(ctx context.Context, s scope, h *errorHandler, build func(context.Context) (call, error), refresh func(context.Context) error) (*answer, resolution, error) {
	start := v.now()
	var waited time.Duration
	refreshed := false
	for try := 1; ; try++ {
		cl, err := build(ctx)
		if err != nil {
			return nil, resolution{}, err
		}
		r, failed, held, err := v.do(ctx, cl)
		if err != nil {
			return nil, resolution{}, err
		}
		waited += held
		if ctx.Err() != nil {
			return nil, resolution{}, context.Cause(ctx)
		}
		v.budget.learn(v, cl, r)
		if cl.learn != nil && r != nil {
			cl.learn(r)
		}
		res, err := h.decide(s, r, failed)
		if err != nil {
			return nil, res, err
		}
		var why error = failed
		if r != nil {
			why = &statusError{r.status, publicURL(cl.url), v.secrets.clean(cut(res.message, 1000)), v.secrets.quoted(r.body)}
		}
		switch res.action {
		case actSuccess, actIgnore, actReset:
			return r, res, nil
		case actFail:
			return r, res, why
		case actRefresh:
			if refresh == nil || refreshed {
				return r, res, fmt.Errorf("after the token was refreshed: %w", why)
			}
			if err := refresh(ctx); err != nil {
				return r, res, err
			}
			refreshed = true
			continue
		}
		wait, giveUp, err := h.wait(s, res, r, try, v.now())
		if err != nil {
			return r, res, fmt.Errorf("%w: %w", why, err)
		}
		other := cl.spare != nil && cl.spare()
		if other {
			wait = min(wait, time.Second) // the limit was that of one token of several
		}
		waited += wait
		if giveUp || waited > v.client.limits.patience || wait > v.client.limits.patience {
			return r, res, fmt.Errorf("gave up after %d tries in %s, the next after another %s: %w: %w",
				try, v.now().Sub(start).Round(time.Second), wait.Round(time.Second), exporters.ErrTemporary, why)
		}
		if res.action == actRateLimited && !other {
			v.gate.hold(origin(cl.url), v.now().Add(wait)) // the limit is that of all requests
		}
		if err := v.sleep(ctx, wait); err != nil {
			return r, res, err
		}
	}
}

// do makes one call when the service, the manifest's budget and the option concurrency let
// it. held is how long another call's answer kept it back; failed says why there is no
// answer.
func (v *view) do(ctx context.Context, cl call) (r *answer, failed error, held time.Duration, err error) {
	for {
		if err := v.gate.enter(ctx); err != nil {
			return nil, nil, held, err
		}
		wait := v.gate.held(origin(cl.url), v.now())
		if wait <= 0 || held > v.client.limits.patience {
			break
		}
		v.gate.leave() // for requests to other services
		held += wait
		if err := v.sleep(ctx, wait); err != nil {
			return nil, nil, held, err
		}
	}
	defer v.gate.leave()
	if err := v.budget.take(ctx, v, cl); err != nil {
		return nil, nil, held, err
	}
	r, failed = v.client.do(ctx, cl)
	return r, failed, held, nil
}

// wait says how long to wait before the next try, and whether none is left.
func (h *errorHandler) wait(s scope, res resolution, r *answer, try int, now time.Time) (time.Duration, bool, error) {
	tries, err := s.number(h.parts[0].maxRetries, 5)
	if err != nil {
		return 0, false, err
	}
	giveUp := float64(try) > tries && res.action != actRateLimited
	if r != nil {
		s = s.with("response", r.first(), "headers", r.headers())
	}
	for _, p := range h.parts {
		for _, b := range p.backoffs {
			if b == nil {
				continue
			}
			if wait, ok, err := b(s, r, try, now); err != nil || ok {
				if wait < 1<<62 {
					wait += time.Second
				}
				return wait, giveUp, err
			}
		}
	}
	if r != nil {
		if wait, ok := retry.After(r.header.Get("Retry-After"), now); ok {
			return wait, giveUp, nil
		}
	}
	return time.Second << min(try-1, 12), giveUp, nil
}
