package rest

import (
	"fmt"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A paginator says which page comes next.
type paginator struct {
	kind       string // PageIncrement, OffsetIncrement, CursorPagination, or "" for none
	size       *expr
	start      int64
	injectPage bool // on the first request
	value      *expr
	stop       *expr

	sizeOption  *requestOption
	tokenOption *requestOption
	tokenIsPath bool
}

func (n node) paginator() *paginator {
	p := &paginator{}
	if n.d == nil || n.typ() == "NoPagination" {
		return p
	}
	if !n.check() {
		return p
	}
	if n.typ() != "DefaultPaginator" {
		n.problem("", "is not a paginator")
		return p
	}
	s, ok := n.child("pagination_strategy")
	if !ok || !s.check() {
		return p
	}
	p.kind = s.typ()
	switch p.kind {
	case "PageIncrement", "OffsetIncrement":
		p.size, p.injectPage = s.expr("page_size", responseNames...), s.flag("inject_on_first_request", false)
		if start, ok := jinja.Int(s.value("start_from_page")); ok {
			p.start = start
		}
	case "CursorPagination":
		p.size = s.expr("page_size")
		p.value, p.stop = s.expr("cursor_value", responseNames...), s.expr("stop_condition", responseNames...)
	default:
		s.problem("", "is not a pagination strategy")
	}
	if o, ok := n.child("page_size_option"); ok {
		p.sizeOption = o.requestOption()
		if p.size == nil {
			n.problem("page_size_option", "needs a page_size in the strategy")
		}
	}
	if o, ok := n.child("page_token_option"); ok {
		if o.typ() == "RequestPath" {
			p.tokenIsPath = true
		} else {
			p.tokenOption = o.requestOption()
		}
	}
	return p
}

// counts reports whether the strategy counts pages or records, so that reading can go
// on until an empty page.
func (p *paginator) counts() bool { return p.kind == "PageIncrement" || p.kind == "OffsetIncrement" }

// first is the token of the first request, nil for none.
func (p *paginator) first() jinja.Value {
	switch {
	case !p.injectPage:
		return nil
	case p.kind == "PageIncrement":
		return p.start
	case p.kind == "OffsetIncrement":
		return int64(0)
	}
	return nil
}

// pageSize evaluates the page size, 0 if there is none.
func (p *paginator) pageSize(s scope) (int64, error) {
	if p.size == nil {
		return 0, nil
	}
	v, err := s.with("response", new(jinja.Dict), "headers", new(jinja.Dict), "last_record", nil, "last_page_size", int64(0), "last_page_token_value", nil).value(p.size, nil)
	if err != nil {
		return 0, fmt.Errorf("page_size: %w", err)
	}
	n, ok := jinja.Int(v)
	if !ok || n < 1 {
		return 0, fmt.Errorf("page_size: %s is not a positive integer", jinja.Repr(v))
	}
	return n, nil
}

// inject puts page size and token into a request.
func (p *paginator) inject(s scope, t *target, token jinja.Value) error {
	if p.sizeOption != nil {
		n, err := p.pageSize(s)
		if err != nil {
			return err
		}
		if err := p.sizeOption.inject(s, t.options, n); err != nil {
			return err
		}
	}
	if token == nil {
		return nil
	}
	if p.tokenIsPath {
		t.path = jinja.Str(token)
		return nil
	}
	return p.tokenOption.inject(s, t.options, token)
}

// A page is what a paginator decides by.
type page struct {
	answer *answer
	raw    int64       // records in the answer, before any filter
	kept   int64       // after the filter
	last   *jinja.Dict // the last kept record
	prev   *jinja.Dict // the one before it
	token  jinja.Value // that got this page
	offset int64       // records before this page
	number int64       // of this page, from 0
	size   int64       // page size asked for, 0 if none
	short  bool        // fewer records than asked for
}

// next returns the token of the page after pg, and whether there is one. With
// exhaustive set, counting strategies end at an empty page only.
func (p *paginator) next(s scope, pg page, exhaustive bool) (jinja.Value, bool, error) {
	switch p.kind {
	case "PageIncrement", "OffsetIncrement":
		if pg.raw == 0 || pg.short && !exhaustive {
			return nil, false, nil
		}
		if p.kind == "PageIncrement" {
			return p.start + pg.number + 1, true, nil
		}
		return pg.offset + pg.raw, true, nil
	case "CursorPagination":
		s = pg.scope(s, pg.last)
		if p.stop != nil {
			stop, err := s.truth(p.stop, false)
			if err != nil || stop {
				return nil, false, err
			}
		}
		v, err := p.value.EvalOr(s.env, s.of(p.value), nil, nil)
		if err != nil {
			return nil, false, fmt.Errorf("cursor_value: %w", err)
		}
		return v, jinja.Truth(v), nil
	}
	return nil, false, nil
}

// scope is what expressions about the next page see, if last is the last record of this.
func (pg *page) scope(s scope, last *jinja.Dict) scope {
	if last == nil {
		last = new(jinja.Dict)
	}
	return s.with("response", pg.answer.first(), "headers", pg.answer.headers(), "last_page_size", pg.kept, "last_record", last, "last_page_token_value", pg.token)
}

// ambiguous reports whether the token of the next page is made of the last record, and
// would be the same for the record before it: then a service that goes on after that value
// leaves out the other records that have it.
func (p *paginator) ambiguous(s scope, pg page, token jinja.Value) bool {
	if p.kind != "CursorPagination" || pg.prev == nil || !p.value.Uses("last_record") {
		return false
	}
	s = pg.scope(s, pg.prev)
	before, err := p.value.EvalOr(s.env, s.of(p.value), nil, nil)
	return err == nil && jinja.Equal(before, token)
}
