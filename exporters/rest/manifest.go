package rest

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A manifest is a parsed, resolved and built manifest. It holds no configuration.
type manifest struct {
	cat      *catalogue
	doc      *jinja.Dict // resolved
	spec     *jinja.Dict // connection_specification
	changes  []configChange
	streams  []*stream
	guarded  []guarded // ConditionalStreams
	dynamic  []*dynamicStream
	budget   *apiBudget
	workers  *expr // of a ConcurrencyLevel
	most     int64 // likewise
	used     map[string]int
	parents  map[string]bool // names of streams that others are partitioned by
	problems []Problem
}

// guarded are streams that exist if a condition on the configuration holds.
type guarded struct {
	cond    *expr
	streams []*stream
}

// parse builds a manifest. It fails only if the document cannot be read at all; what
// cannot run is in problems.
func parse(data []byte) (*manifest, error) {
	cat := loadCatalogue()
	doc, err := load(cat, data)
	if err != nil {
		return nil, err
	}
	m := &manifest{cat: cat, doc: doc}
	b := newBuilder(cat)
	root := b.node(doc, "manifest")
	if doc.Text("type") != "DeclarativeSource" {
		root.problem("type", "is %q, not DeclarativeSource", doc.Text("type"))
	}
	if s, ok := root.child("spec"); ok {
		m.spec, _ = s.value("connection_specification").(*jinja.Dict)
		m.changes = s.configChanges()
	}
	for _, c := range root.children("streams") {
		switch c.typ() {
		case "ConditionalStreams":
			if c.check() {
				g := guarded{cond: c.expr("condition")}
				for _, s := range c.children("streams") {
					g.streams = append(g.streams, s.named())
				}
				m.guarded = append(m.guarded, g)
			}
		case "DynamicDeclarativeStream":
			m.dynamic = append(m.dynamic, c.dynamicStream())
		default:
			m.streams = append(m.streams, c.named())
		}
	}
	for _, c := range root.children("dynamic_streams") {
		m.dynamic = append(m.dynamic, c.dynamicStream())
	}
	if len(m.streams)+len(m.guarded)+len(m.dynamic) == 0 {
		root.problem("streams", "there are none")
	}
	c, _ := root.child("api_budget")
	m.budget = c.budget()
	if c, ok := root.child("check"); ok {
		c.check()
	}
	if c, ok := root.child("concurrency_level"); ok && c.check() {
		m.workers = c.expr("default_concurrency")
		m.most, _ = jinja.Int(c.value("max_concurrency"))
	}
	for i, s := range m.streams {
		if slices.ContainsFunc(m.streams[:i], func(o *stream) bool { return o.name == s.name }) {
			root.problem("streams", "two streams are named %q", s.name)
		}
	}
	sort.SliceStable(b.problems, func(i, j int) bool { return b.problems[i].Path < b.problems[j].Path })
	m.used, m.parents, m.problems = b.used, b.parents, b.problems
	return m, nil
}

// named builds a stream that has to have a name.
func (n node) named() *stream {
	s := n.stream()
	if s.name == "" {
		n.problem("name", "is required")
	}
	return s
}

// authenticator builds the authenticator that a reference (#/definitions/x) leads to.
func (m *manifest) authenticator(ref string) (authenticator, error) {
	path, ok := strings.CutPrefix(ref, "#/")
	at, found := walk(m.doc, strings.Split(path, "/"))
	d, isDict := at.(*jinja.Dict)
	if !ok || !found || !isDict {
		return nil, fmt.Errorf("%q leads to no component of the manifest; it has the form #/definitions/name", ref)
	}
	b := newBuilder(m.cat)
	a := b.node(d, ref).authenticator()
	return a, (&manifest{problems: b.problems}).refuse()
}

// refuse returns the problems as one error.
func (m *manifest) refuse() error {
	if len(m.problems) == 0 {
		return nil
	}
	errs := []error{fmt.Errorf("the manifest cannot run: %d problems", len(m.problems))}
	for _, p := range m.problems {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// requesters returns those of a stream and of its parents.
func (st *stream) requesters() []*requester {
	out := st.retriever.requesters()
	if a, ok := st.retriever.(*async); ok {
		for _, r := range []*requester{a.create, a.poll, a.target, a.download, a.abort, a.delete} {
			if r != nil {
				out = append(out, r)
			}
		}
	}
	return append(out, routerRequesters(st.router)...)
}

func routerRequesters(r router) []*requester {
	var out []*requester
	switch r := r.(type) {
	case *substreamRouter:
		for _, p := range r.parents {
			out = append(out, p.stream.requesters()...)
		}
	case productRouter:
		for _, x := range r {
			out = append(out, routerRequesters(x)...)
		}
	case *groupRouter:
		out = routerRequesters(r.inner)
	case *unionRouter:
		out = routerRequesters(productRouter(r.routers))
	}
	return out
}
