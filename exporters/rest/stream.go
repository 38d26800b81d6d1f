package rest

import (
	"context"
	"errors"
	"fmt"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A stream is a DeclarativeStream that is ready to run.
type stream struct {
	name        string
	key         [][]string
	retriever   retriever
	router      router
	cursor      *cursor
	selector    *selector
	transforms  []transformation
	schema      *jinja.Dict // JSON schema, or nil
	dynamic     *schemaLoader
	schemaFiles []*expr // of schemas beside the manifest
	params      *jinja.Dict
	path        string // in the manifest
}

// A retriever reads one slice of a stream. Its selector extracts, filters and
// transforms.
type retriever interface {
	slice(ctx context.Context, v *view, st *stream, p part, emit func(item) error) error
	requesters() []*requester
}

// An item is a record of a stream, or a gap.
type item struct {
	raw  jinja.Value // as received
	out  *jinja.Dict // transformed; raw itself if there are no transformations
	part part
	gap  *dataset.Gap
}

// label names a record in a gap of something that depends on it.
func (it item) label() string {
	if it.out != nil {
		if id, ok := it.out.Get("id"); ok {
			return jinja.Str(id)
		}
	}
	return it.part.label()
}

// stream builds a DeclarativeStream, or the full-refresh one of a StateDelegatingStream:
// an export keeps no state.
func (n node) stream() *stream {
	st := &stream{name: n.d.Text("name"), path: n.path, selector: &selector{}, retriever: &simple{req: &requester{}, pages: &paginator{}}}
	if !n.check() {
		return st
	}
	switch n.typ() {
	case "StateDelegatingStream":
		if c, ok := n.child("full_refresh_stream"); ok {
			st = c.stream()
		}
		if c, ok := n.child("incremental_stream"); ok {
			c.stream() // for its problems
		}
		if name := n.d.Text("name"); name != "" {
			st.name = name
		}
		return st
	case "DeclarativeStream":
	default:
		n.problem("", "is not a stream")
		return st
	}
	st.params = n.params
	st.key = n.primaryKey()
	st.transforms = n.transformations("transformations")
	if n.has("file_uploader") {
		n.problem("file_uploader", "is not supported; use the option attachments")
	}
	if c, ok := n.child("incremental_sync"); ok {
		st.cursor = c.cursor()
	}
	for _, c := range n.children("state_migrations") {
		n.b.used[c.typ()]++ // there is no state, so there is nothing to migrate
	}
	r, ok := n.child("retriever")
	if !ok || !r.check() {
		return st
	}
	st.router = r.routers("partition_router")
	if s, ok := r.child("record_selector"); ok {
		st.selector = s.selector()
	}
	switch r.typ() {
	case "SimpleRetriever":
		st.retriever = r.simple(st)
	case "AsyncRetriever":
		st.retriever = r.async(st)
	default:
		r.problem("", "is not a retriever")
	}
	n.schemas(st)
	return st
}

// primaryKey reads text, a list of texts, or a list of paths.
func (n node) primaryKey() [][]string {
	switch v := n.value("primary_key").(type) {
	case string:
		if v != "" {
			return [][]string{{v}}
		}
	case *jinja.List:
		var out [][]string
		for _, e := range v.Items {
			if l, ok := e.(*jinja.List); ok {
				var p []string
				for _, k := range l.Items {
					p = append(p, jinja.Str(k))
				}
				out = append(out, p)
			} else {
				out = append(out, []string{jinja.Str(e)})
			}
		}
		return out
	case nil:
	default:
		n.problem("primary_key", "is neither a text nor a list")
	}
	return nil
}

// cache lets the answers to a parent stream be kept, for its children read it again,
// unless the manifest sets use_cache to false.
func (st *stream) cache() {
	for _, r := range st.retriever.requesters() {
		r.cached = !r.uncached
	}
}

// read reads all slices of a stream, several at once, and emits in the order of slices.
func (st *stream) read(ctx context.Context, v *view, emit func(item) error) error {
	t := &tally{}
	slices := func(ctx context.Context, run func(task) error) error {
		perSlice := func(p part) error {
			p.tally = t
			return run(func(emit func(item) error) error { return st.retriever.slice(ctx, v, st, p, emit) })
		}
		perPart := perSlice
		if st.cursor != nil {
			perPart = func(p part) error { return st.cursor.intervals(v, p, perSlice) }
		}
		if st.router == nil {
			return perPart(part{})
		}
		gap := func(g dataset.Gap) error {
			return run(func(emit func(item) error) error { return emit(item{gap: &g}) })
		}
		return st.router.parts(ctx, v, gap, perPart)
	}
	ahead := v.ahead
	if st.router == nil && st.cursor == nil {
		ahead = 1 // there is one slice
	}
	err := inOrder(ctx, ahead, slices, emit)
	if errors.Is(err, errStopped) {
		return nil
	} else if err != nil {
		return err
	}
	for _, why := range t.alarms(v.facts.totals[st.name] != nil) {
		if err := emit(item{gap: &dataset.Gap{Code: dataset.PossiblyCut, Detail: why}}); err != nil {
			return err
		}
	}
	v.facts.sum(st.name, t)
	return nil
}

// process filters and transforms one extracted record, and emits it. It reports
// whether the record was kept.
func (st *stream) process(v *view, s scope, p part, raw jinja.Value, emit func(item) error) (*jinja.Dict, bool, error) {
	rec, ok := raw.(*jinja.Dict)
	if !ok {
		return nil, false, emit(item{part: p, gap: &dataset.Gap{Key: p.label(), Code: dataset.Malformed, Detail: "a record is " + cut(jinja.Repr(raw), 200) + ", not an object"}})
	}
	x := st.selector
	keep := func(d *jinja.Dict) (bool, error) {
		if x.filter == nil {
			return true, nil
		}
		ok, err := s.with("record", d).truth(x.filter, false)
		if err != nil {
			err = fmt.Errorf("record_filter: %w", err)
		}
		return ok, err
	}
	out := rec
	transform := func() error {
		if len(st.transforms) == 0 && !x.normalise {
			return nil
		}
		out = jinja.Clone(rec).(*jinja.Dict)
		for _, t := range st.transforms {
			if err := t(s, out); err != nil {
				return err
			}
		}
		if x.normalise && st.schema != nil {
			normalise(st.schema, out)
		}
		return nil
	}
	before := x.before || st.cursor != nil && st.cursor.clientSide
	if before {
		if err := transform(); err != nil {
			return nil, false, err
		}
	}
	kept, err := keep(out)
	if err != nil {
		return nil, false, err
	}
	v.facts.count(st.name, kept)
	p.tally.receive()
	if !kept {
		return nil, false, nil
	}
	if !before {
		if err := transform(); err != nil {
			return nil, false, err
		}
	}
	return out, true, emit(item{raw: rec, out: out, part: p})
}
