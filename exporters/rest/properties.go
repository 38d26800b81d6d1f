package rest

import (
	"context"
	"fmt"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// properties are QueryProperties: the names of fields that a request asks for, cut
// into chunks whose records are merged by a key.
type properties struct {
	param    string // the request parameter that holds them; "" if expressions of the requester take them
	fixed    []string
	always   []string
	retr     *stream // reads them, for PropertiesFromEndpoint
	path     []*expr
	limit    int64
	byLength bool
	key      []string
}

func (n node) properties(param string) *properties {
	p := &properties{param: param, always: n.texts("always_include_properties")}
	if !n.check() {
		return p
	}
	switch v := n.value("property_list").(type) {
	case *jinja.List:
		p.fixed = n.texts("property_list")
	case *jinja.Dict:
		n.b.node(v, n.path+".property_list").endpoint(p)
	}
	if c, ok := n.child("property_selector"); ok {
		c.check() // it leaves out what nobody chose, and an export chooses everything
	}
	if c, ok := n.child("property_chunking"); ok && c.check() {
		p.limit, _ = jinja.Int(c.value("property_limit"))
		p.byLength = c.d.Text("property_limit_type") == "characters"
		if m, ok := c.child("record_merge_strategy"); ok && m.check() {
			p.key = m.texts("key")
		}
		if p.limit > 0 && p.key == nil {
			c.problem("record_merge_strategy", "is required: chunks cannot be put together without a key")
		}
	}
	return p
}

// endpoint lets the names be read from the service.
func (n node) endpoint(p *properties) {
	if !n.check() {
		return
	}
	p.path = n.exprs("property_field_path")
	if r, ok := n.child("retriever"); ok && r.check() {
		p.retr = &stream{name: "properties", selector: &selector{}}
		if s, ok := r.child("record_selector"); ok {
			p.retr.selector = s.selector()
		}
		p.retr.retriever = r.simple(p.retr)
	}
}

// chunks returns the lists of names, one a request.
func (p *properties) chunks(ctx context.Context, v *view) ([][]string, error) {
	names := p.fixed
	if p.retr != nil {
		err := p.retr.read(ctx, v, func(it item) error {
			if it.gap != nil {
				return it.gap
			}
			var path []string
			for _, x := range p.path {
				t, err := v.scope().text(x)
				if err != nil {
					return err
				}
				path = append(path, t)
			}
			for _, m := range find(it.out, path) {
				names = append(names, jinja.Str(m.val))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the names of properties: %w", err)
		}
	}
	if p.limit <= 0 {
		return [][]string{append(append([]string(nil), p.always...), names...)}, nil
	}
	var out [][]string
	chunk, used := append([]string(nil), p.always...), int64(0)
	for _, n := range names {
		cost := int64(1)
		if p.byLength {
			cost = int64(len(n)) + 1
		}
		if used > 0 && used+cost > p.limit {
			out = append(out, chunk)
			chunk, used = append([]string(nil), p.always...), 0
		}
		chunk, used = append(chunk, n), used+cost
	}
	return append(out, chunk), nil
}

// maxMerged bounds the records of one slice that are kept to be merged.
const maxMerged = 200_000

// chunked reads a slice once for each chunk and merges the records by their key.
func (r *simple) chunked(ctx context.Context, v *view, st *stream, p part, emit func(item) error) error {
	chunks, err := r.req.props.chunks(ctx, v)
	if err != nil {
		return err
	}
	with := func(p part, chunk []string) (part, []pair) {
		if r.req.props.param != "" {
			return p, []pair{{r.req.props.param, strings.Join(chunk, ",")}}
		}
		names := jinja.NewList()
		for _, n := range chunk {
			names.Items = append(names.Items, n)
		}
		extra := new(jinja.Dict)
		if p.extra != nil {
			extra = jinja.Clone(p.extra).(*jinja.Dict)
		}
		extra.Set("query_properties", names)
		p.extra = extra
		return p, nil
	}
	if len(chunks) == 1 {
		p, more := with(p, chunks[0])
		return r.readPages(ctx, v, st, p, more, emit)
	}
	merged := new(jinja.Dict)
	plain := *st
	plain.transforms = nil
	selector := *st.selector
	selector.filter, selector.normalise = nil, false
	plain.selector = &selector
	for i, c := range chunks {
		once, more := with(p, c)
		once.tally = &tally{} // each chunk has all records
		err := r.readPages(ctx, v, &plain, once, more, func(it item) error {
			if it.gap != nil {
				return emit(it)
			}
			var key jinja.Tuple
			for _, k := range r.req.props.key {
				x, ok := it.out.Get(k)
				if !ok {
					return fmt.Errorf("a record has no %q, by which its chunks are merged", k)
				}
				key = append(key, x)
			}
			old, ok := merged.Get(key)
			if !ok {
				if merged.Len() >= maxMerged {
					return fmt.Errorf("more than %d records of one slice have to be merged", maxMerged)
				}
				merged.Set(key, jinja.Clone(it.out))
				return nil
			}
			for i := range it.out.Len() {
				k, x := it.out.At(i)
				if have, ok := old.(*jinja.Dict).Get(k); !ok || !jinja.Equal(have, x) {
					old.(*jinja.Dict).Set(k, x)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if i == 0 && once.tally.counted {
			p.tally.state(once.tally.stated)
		}
	}
	s := p.scope(v.scope())
	for i := range merged.Len() {
		_, rec := merged.At(i)
		if _, _, err := st.process(v, s, p, rec, emit); err != nil {
			return err
		}
	}
	return nil
}
