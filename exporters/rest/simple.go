package rest

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/internal/spool"
)

// simple is a SimpleRetriever: requests, pages, records.
type simple struct {
	req       *requester
	pages     *paginator
	dec       *decoder
	onlyFirst bool // slice options go on the first page only
	reset     pageReset
}

func (n node) simple(st *stream) retriever {
	r := &simple{req: &requester{auth: noAuth{}}, pages: &paginator{}, onlyFirst: n.flag("ignore_stream_slicer_parameters_on_paginated_requests", false)}
	if c, ok := n.child("requester"); ok {
		r.req = c.requester()
	}
	c, _ := n.child("paginator")
	r.pages = c.paginator()
	c, _ = n.child("decoder")
	r.dec = c.decoder()
	r.reset = n.pageReset(st)
	return r
}

func (r *simple) requesters() []*requester { return []*requester{r.req} }

// A pageGuard notices pages and tokens that come twice.
type pageGuard struct {
	seed maphash.Seed // secret, so that a server cannot aim at a collision
	seen *spool.Repeats
}

func newPageGuard() pageGuard {
	return pageGuard{maphash.MakeSeed(), spool.NewRepeats("", 1<<20)}
}

// slice reads the pages of one slice.
func (r *simple) slice(ctx context.Context, v *view, st *stream, p part, emit func(item) error) error {
	if r.req.props != nil {
		return r.chunked(ctx, v, st, p, emit)
	}
	return r.anew(ctx, v, st, p, emit)
}

// readPages reads all pages; more are parameters beside the manifest's own.
func (r *simple) readPages(ctx context.Context, v *view, st *stream, p part, more []pair, emit func(item) error) error {
	base := p.scope(v.scope())
	guard := newPageGuard()
	defer guard.seen.Close()
	size, err := r.pages.pageSize(base)
	if err != nil {
		return err
	}
	pg := page{token: r.pages.first(), size: size}
	var head []jinja.Value
	var total, pageCount, lastRaw int64
	stated := int64(-1) // by the source, of the slice
	fresh := false      // a page was asked for, and not kept of an earlier reading
	var edge []string   // the record among others like it at which a page ended
	for {
		a, raws, err := r.page(ctx, v, st, p, base, &pg, more, emit)
		if edge != nil && (err == nil || err == errNoMore) && !slices.Contains(st.identities(raws), edge[0]) {
			if err := cutAmong(p, pg.number, emit); err != nil {
				return err
			}
		}
		edge = nil
		if err == errIgnored {
			return nil
		} else if err == errNoMore {
			break
		} else if err != nil {
			return err
		}
		pg.answer, pg.raw, fresh = a, int64(len(raws)), fresh || !a.kept
		pg.short = size > 0 && pg.raw < size
		if pg.number == 0 {
			head = raws
		}
		if pg.raw > 0 {
			pageCount, lastRaw = pageCount+1, pg.raw
			if err := guard.page(raws, pageCount); err != nil {
				return err
			}
		}
		s := base.with("next_page_token", tokenMap(pg.token))
		pg.kept, pg.last, pg.prev = 0, nil, nil
		var end []jinja.Value // the last kept one
		for i, raw := range raws {
			out, kept, err := st.process(v, s, p, raw, emit)
			if err != nil {
				return err
			}
			if kept {
				pg.kept, pg.last, pg.prev = pg.kept+1, out, pg.last
				end = raws[i : i+1]
			}
		}
		total += pg.raw
		if n, ok := v.facts.evidence(st.name, a); ok {
			stated = n
		}
		token, goesOn, err := r.pages.next(s, pg, !v.shortPage)
		if err != nil {
			return err
		}
		if !goesOn {
			break
		}
		if r.reset.limit > 0 && total >= r.reset.limit {
			return errReset
		}
		if err := guard.token(token); err != nil {
			return err
		}
		if r.pages.ambiguous(s, pg, token) {
			edge = st.identities(end)
		}
		pg.offset += pg.raw
		pg.number++
		pg.token = token
	}
	if stated >= 0 {
		p.tally.state(stated)
	} else if err := r.alarm(v, p, size, total, pageCount, lastRaw, emit); err != nil {
		return err
	}
	if pageCount > 1 && v.driftCheck && fresh {
		return r.drifted(ctx, v, st, p, base, head, size, more, emit)
	}
	return nil
}

// cutAmong emits a gap where a page ended among records that look the same to the service.
func cutAmong(p part, number int64, emit func(item) error) error {
	return emit(item{part: p, gap: &dataset.Gap{Key: p.label(), Code: dataset.PossiblyCut, Detail: fmt.Sprintf("page %d ends among records that are alike "+
		"in what the next page begins after, and that does not hold them again: others like them may be left out", number)}})
}

// What ends a slice without a page.
var (
	errIgnored = errors.New("the answer is ignored")
	errNoMore  = errors.New("there are no more pages")
)

// page gets one page and extracts its records.
func (r *simple) page(ctx context.Context, v *view, st *stream, p part, base scope, pg *page, more []pair, emit func(item) error) (*answer, []jinja.Value, error) {
	t, s, err := r.target(base, p, pg.token, more)
	if err != nil {
		return nil, nil, err
	}
	a, res, err := r.req.send(ctx, v, s, t)
	var status *statusError
	switch {
	case err != nil && pg.short && pg.number > 0 && errors.As(err, &status) && slices.Contains([]int{400, 404, 416, 422}, status.status):
		// The page after a short one is asked for only to be sure that it is empty.
		v.facts.note(fmt.Sprintf("stream %s: the page after the last short one answered %d, which was taken for the end", st.name, status.status))
		return nil, nil, errNoMore
	case err != nil:
		return nil, nil, err
	case res.action == actReset:
		return nil, nil, errReset
	case res.action == actIgnore || a.status >= 400: // SUCCESS of an error yields nothing either
		if err := r.ignored(v, st, p, a, emit); err != nil {
			return nil, nil, err
		}
		return nil, nil, errIgnored
	case !res.matched && (a.status == 204 || a.status == 205 || a.status == 206 || a.status >= 300):
		return nil, nil, fmt.Errorf("the source answered %d, which holds no complete page", a.status)
	}
	raws, err := r.extract(v, st, s, a)
	if absent := (*absentError)(nil); errors.As(err, &absent) && v.absentIsEmpty[st.name] {
		v.facts.note(fmt.Sprintf("stream %s: answers without %s were taken for empty ones", st.name, absent.path))
		return a, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w (content type %q, body begins %s)", err, cut(a.header.Get("Content-Type"), 100), v.secrets.quoted(a.body))
	}
	return a, raws, nil
}

// target is what the paginator and the slice add to the request of a page.
func (r *simple) target(base scope, p part, token jinja.Value, more []pair) (target, scope, error) {
	s := base.with("next_page_token", tokenMap(token))
	t := target{options: newOptions()}
	if err := r.pages.inject(s, &t, token); err != nil {
		return t, s, err
	}
	for _, m := range more {
		t.options.params.Set(m.name, m.value)
	}
	if token != nil && r.onlyFirst {
		return t, s, nil
	}
	o := newOptions()
	for _, i := range p.inject {
		if err := i.option.inject(s, o, i.value); err != nil {
			return t, s, err
		}
	}
	return t, s, t.options.merge(o)
}

// tokenMap is next_page_token as templates see it.
func tokenMap(token jinja.Value) jinja.Value {
	if token == nil {
		return nil
	}
	return jinja.NewDict("next_page_token", token)
}

// ignored reports an answer that the manifest says to ignore.
func (r *simple) ignored(v *view, st *stream, p part, a *answer, emit func(item) error) error {
	v.facts.ignore(st.name, fmt.Sprintf("status %d", a.status))
	return emit(item{part: p, gap: &dataset.Gap{Key: p.label(), Code: dataset.IgnoredResponse,
		Detail: fmt.Sprintf("the manifest says to ignore answer %d: %s", a.status, v.secrets.quoted(a.body))}})
}

// extract decodes an answer and takes the records out.
func (r *simple) extract(v *view, st *stream, s scope, a *answer) ([]jinja.Value, error) {
	var raws []jinja.Value
	n := 0
	for body, err := range r.dec.elements(a, v.client.limits.response) {
		if err != nil {
			return nil, fmt.Errorf("the answer is not what its decoder reads: %w", err)
		}
		n++
		if err := st.errorBody(body); err != nil {
			return nil, err
		}
		recs, err := st.selector.extract(s, body)
		if err != nil {
			return nil, err
		}
		raws = append(raws, recs...)
	}
	return raws, nil
}

// errorBody finds an error that came with a good status: a member error or errors
// that says something, unless that is where the records are or the answer is a record
// with its key.
func (st *stream) errorBody(body jinja.Value) error {
	d, ok := body.(*jinja.Dict)
	if !ok {
		return nil
	}
	for _, k := range []string{"error", "errors"} {
		val, has := d.Get(k)
		if !has || !jinja.Truth(val) {
			continue
		}
		if len(st.selector.path) > 0 && st.selector.path[0].Source() == k {
			continue
		}
		if len(st.selector.path) == 0 && len(st.key) > 0 && len(find(d, st.key[0])) == 1 {
			continue
		}
		return fmt.Errorf("the answer reports an error: %s", cut(jinja.Repr(val), 300))
	}
	return nil
}

// page fails if the same records came before.
func (g *pageGuard) page(raws []jinja.Value, number int64) error {
	var h maphash.Hash
	h.SetSeed(g.seed)
	for _, r := range raws {
		b, err := jinja.AppendJSON(nil, r)
		if err != nil {
			return err
		}
		h.Write(b)
		h.WriteByte(0)
	}
	before, err := g.seen.Count(fmt.Sprintf("page %x", h.Sum64()))
	if err == nil && before > 0 {
		err = fmt.Errorf("page %d holds the same records as an earlier one: the source repeats itself (if it repeats its last page, set pagination: short-page)", number)
	}
	return err
}

// token fails if the same token came before.
func (g *pageGuard) token(t jinja.Value) error {
	k := jinja.Repr(t)
	before, err := g.seen.Count("token " + k)
	if err == nil && before > 0 {
		err = fmt.Errorf("the source repeats the page token %s", cut(k, 100))
	}
	return err
}

// alarm emits a gap where the number of records of a slice suggests that the source cut
// them, and counts what only all slices together can tell.
func (r *simple) alarm(v *view, p part, size, total, pages, lastRaw int64, emit func(item) error) error {
	if r.pages.kind != "" && pages > 0 && roundLimit(total) && lastRaw*pages == total {
		return emit(item{part: p, gap: &dataset.Gap{Key: p.label(), Code: dataset.PossiblyCut,
			Detail: fmt.Sprintf("exactly %d records in full pages: services stop at such numbers", total)}})
	}
	onePage := (r.pages.kind == "CursorPagination" || v.shortPage && r.pages.counts()) && pages <= 1 && size > 0 && total < size
	switch {
	case r.pages.kind == "" || onePage:
		p.tally.add(total)
	case pages > 1:
		p.tally.add(beyondAnyPage) // it went on, so there is no such limit
	}
	return nil
}

// drifted asks for the first page again. Records that were inserted before it are
// harmless; if some are gone, the pages behind have moved and records may have slipped
// through. A token that the server gives may be a position too, so it is no exception.
func (r *simple) drifted(ctx context.Context, v *view, st *stream, p part, base scope, head []jinja.Value, size int64, more []pair, emit func(item) error) error {
	pg := page{token: r.pages.first(), size: size}
	t, s, err := r.target(base, p, pg.token, more)
	if err != nil {
		return err
	}
	fresh := *r.req
	fresh.cached = false
	a, res, err := fresh.send(ctx, v, s, t)
	if err == nil && res.action != actSuccess {
		err = fmt.Errorf("the source answered %d", a.status)
	}
	if err != nil {
		return fmt.Errorf("ask for the first page again: %w", err)
	}
	again, err := r.extract(v, st, s, a)
	if err != nil {
		return fmt.Errorf("ask for the first page again: %w", err)
	}
	before, after := st.identities(head), st.identities(again)
	for shift := 0; shift < len(after); shift++ {
		n := min(len(before), len(after)-shift)
		if slices.Equal(before[:n], after[shift:shift+n]) {
			if shift > 0 {
				v.facts.note(fmt.Sprintf("stream %s: %d records were added at its head while it was read", st.name, shift))
			}
			return nil
		}
	}
	return emit(item{part: p, gap: &dataset.Gap{Key: p.label(), Code: dataset.PossiblyCut,
		Detail: "the first page has changed while the pages were read, so records may have moved between pages unseen"}})
}

// identities returns what identifies records: their keys, else all of them.
func (st *stream) identities(raws []jinja.Value) []string {
	out := make([]string, len(raws))
	for i, raw := range raws {
		var id []byte
		for _, path := range st.key {
			for _, m := range find(raw, path) {
				id, _ = jinja.AppendJSON(id, m.val)
				id = append(id, 0)
			}
		}
		if id == nil {
			id, _ = jinja.AppendJSON(nil, raw)
		}
		out[i] = string(id)
	}
	return out
}
