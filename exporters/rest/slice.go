package rest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A part is one slice of a stream: a partition, a stretch of time, or both.
type part struct {
	partition *jinja.Dict // keys of routers; nil if there are none
	interval  *jinja.Dict // keys of a cursor; nil if there is none
	extra     *jinja.Dict // extra_fields of parents
	inject    []injection
	stretch   *stretch // of time, of a date cursor
	tally     *tally   // of the read that the slice is part of
}

// A stretch is the time from a to b, of the slice base.
type stretch struct {
	base part
	a, b time.Time
}

// An injection is a value that a slice puts into its requests.
type injection struct {
	option *requestOption
	value  jinja.Value
}

// mapping is the stream_slice of templates.
func (p part) mapping() *jinja.Dict {
	d := &jinja.Dict{Attrs: new(jinja.Dict)}
	for _, m := range []struct {
		name string
		d    *jinja.Dict
	}{{"partition", p.partition}, {"cursor_slice", p.interval}, {"extra_fields", p.extra}} {
		if m.d == nil {
			m.d = new(jinja.Dict)
		}
		d.Attrs.Set(m.name, m.d)
		if m.name == "extra_fields" {
			continue
		}
		for i := range m.d.Len() {
			k, v := m.d.At(i)
			d.Set(k, v)
		}
	}
	return d
}

// label names the slice in gaps and messages.
func (p part) label() string {
	m := p.mapping()
	if m.Len() == 0 {
		return ""
	}
	b, err := jinja.AppendFreshJSON(nil, m)
	if err != nil {
		return jinja.Str(m)
	}
	return string(b)
}

// scope adds the slice to the variables.
func (p part) scope(s scope) scope {
	m := p.mapping()
	s = s.with("stream_slice", m, "stream_partition", m, "stream_interval", m)
	if p.extra != nil {
		for i := range p.extra.Len() {
			k, v := p.extra.At(i)
			if name := jinja.Str(k); s.vars[name] == nil {
				s.vars[name] = v
			}
		}
	}
	return s
}

// A router yields the partitions of a stream. emit gets gaps for what cannot become
// a partition.
type router interface {
	parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error
}

// routers builds the router of a field; several are their product.
func (n node) routers(field string) router {
	switch rs := n.each(field); len(rs) {
	case 0:
		return nil
	case 1:
		return rs[0]
	default:
		return productRouter(rs)
	}
}

// each builds the routers of a field.
func (n node) each(field string) []router {
	var rs []router
	for _, c := range n.children(field) {
		if !c.check() {
			continue
		}
		switch c.typ() {
		case "ListPartitionRouter":
			rs = append(rs, c.listRouter())
		case "SubstreamPartitionRouter":
			rs = append(rs, c.substreams())
		case "GroupingPartitionRouter":
			size, _ := jinja.Int(c.value("group_size"))
			if size < 1 {
				c.problem("group_size", "is not a positive integer")
			}
			inner := c.routers("underlying_partition_router")
			rs = append(rs, &groupRouter{inner, int(size), c.flag("deduplicate", true)})
		case "UnionPartitionRouter":
			rs = append(rs, &unionRouter{c.expr("partition_field"), c.each("partition_routers")})
		default:
			c.problem("", "is not a partition router")
		}
	}
	return rs
}

type listRouter struct {
	field  *expr
	values *template
	option *requestOption
}

func (n node) listRouter() router {
	r := &listRouter{field: n.expr("cursor_field")}
	if v := n.value("values"); v != nil {
		r.values = n.template("values", v)
	}
	if o, ok := n.child("request_option"); ok {
		r.option = o.requestOption()
	}
	return r
}

func (r *listRouter) parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error {
	s := v.scope()
	field, err := s.text(r.field)
	if err != nil {
		return err
	}
	vals, err := s.tree(r.values, nil, false)
	if err != nil {
		return fmt.Errorf("values: %w", err)
	}
	l, ok := vals.(*jinja.List)
	if !ok {
		return fmt.Errorf("values: %s is not a list", jinja.Repr(vals))
	}
	for _, e := range l.Items {
		p := part{partition: jinja.NewDict(field, e)}
		if jinja.Truth(e) && r.option != nil {
			p.inject = []injection{{r.option, e}}
		}
		if err := yield(p); err != nil {
			return err
		}
	}
	return nil
}

// substreamRouter yields a partition for each record of its parents, in turn.
type substreamRouter struct{ parents []parent }

type parent struct {
	stream *stream
	key    []string
	field  *expr
	option *requestOption
	extra  [][]*expr
}

func (n node) substreams() router {
	r := &substreamRouter{}
	for _, c := range n.children("parent_stream_configs") {
		if !c.check() {
			continue
		}
		p := parent{field: c.expr("partition_field")}
		if s, ok := c.child("stream"); ok {
			p.stream = s.stream()
			p.stream.cache()
			n.b.parents[p.stream.name] = true
		}
		key := c.expr("parent_key")
		if key != nil {
			p.key = splitPath(key.Source())
		}
		if o, ok := c.child("request_option"); ok {
			p.option = o.requestOption()
		}
		if l, ok := c.value("extra_fields").(*jinja.List); ok {
			for i, e := range l.Items {
				var path []*expr
				if keys, ok := e.(*jinja.List); ok {
					for _, k := range keys.Items {
						path = append(path, c.compile("extra_fields", jinja.Str(k)))
					}
				} else {
					c.problem("extra_fields", "item %d is not a path", i)
				}
				p.extra = append(p.extra, path)
			}
		}
		if p.stream != nil {
			r.parents = append(r.parents, p)
		}
	}
	return r
}

// splitPath splits a path as dpath does: empty segments do not count.
func splitPath(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
}

func (r *substreamRouter) parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error {
	for _, p := range r.parents {
		if err := p.parts(ctx, v, emit, yield); err != nil {
			return err
		}
	}
	return nil
}

func (p parent) parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error {
	s := v.scope()
	field, err := s.text(p.field)
	if err != nil {
		return err
	}
	var failed error // of yield, which is not the parent's
	err = p.stream.read(ctx, v, func(it item) error {
		if it.gap != nil {
			g := *it.gap
			g.Detail = fmt.Sprintf("in parent stream %s: %s", p.stream.name, g.Detail)
			return emit(g)
		}
		found := find(it.out, p.key)
		if len(found) != 1 {
			return emit(dataset.Gap{Key: it.label(), Code: dataset.Malformed,
				Detail: fmt.Sprintf("a record of parent stream %s has no %s, so its part of this stream cannot be read", p.stream.name, strings.Join(p.key, "/"))})
		}
		c := part{partition: jinja.NewDict(field, found[0].val)}
		up := it.part.partition
		if up == nil {
			up = new(jinja.Dict)
		}
		c.partition.Set("parent_slice", up)
		if p.option != nil && jinja.Truth(found[0].val) {
			c.inject = []injection{{p.option, found[0].val}}
		}
		if p.extra != nil {
			c.extra = new(jinja.Dict)
			for _, path := range p.extra {
				var keys []string
				for _, x := range path {
					t, err := s.text(x)
					if err != nil {
						return err
					}
					keys = append(keys, t)
				}
				var val jinja.Value
				if m := find(it.out, keys); len(m) == 1 {
					val = m[0].val
				}
				c.extra.Set(strings.Join(keys, "."), val)
			}
		}
		if failed = yield(c); failed != nil {
			return errStopped
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("parent stream %s: %w", p.stream.name, err)
	}
	return nil
}

// productRouter yields every combination; the first router wins on equal keys.
type productRouter []router

func (r productRouter) parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error {
	if len(r) == 1 {
		return r[0].parts(ctx, v, emit, yield)
	}
	var rest []part // of the later routers: read once, in memory
	if err := r[1:].parts(ctx, v, emit, func(p part) error {
		if len(rest) >= 1_000_000 {
			return errors.New("more than a million partitions in a product of routers")
		}
		rest = append(rest, p)
		return nil
	}); err != nil {
		return err
	}
	return r[0].parts(ctx, v, emit, func(p part) error {
		for _, q := range rest {
			if err := yield(p.and(q)); err != nil {
				return err
			}
		}
		return nil
	})
}

// and combines two slices; p wins.
func (p part) and(q part) part {
	c := part{partition: new(jinja.Dict), interval: p.interval, extra: p.extra, inject: slices.Concat(p.inject, q.inject)}
	for _, d := range []*jinja.Dict{p.partition, q.partition} {
		if d == nil {
			continue
		}
		for i := range d.Len() {
			if k, v := d.At(i); !c.partition.Has(k) {
				c.partition.Set(k, v)
			}
		}
	}
	if q.extra != nil {
		if c.extra == nil {
			c.extra = new(jinja.Dict)
		}
		for i := range q.extra.Len() {
			k, v := q.extra.At(i)
			c.extra.Set(k, v)
		}
	}
	return c
}
