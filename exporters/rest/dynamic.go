package rest

import (
	"context"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A dynamicStream makes streams of a template and of what its resolver finds: in the
// service, in the configuration, or in a list in the manifest.
type dynamicStream struct {
	name     string
	template *jinja.Dict
	mapping  []componentMap
	from     *stream        // HttpComponentsResolver
	configs  []streamConfig // ConfigComponentsResolver
	list     []jinja.Value  // ParametrizedComponentsResolver
	parents  bool
	kind     string
}

// A streamConfig is a place in the configuration that lists what streams are made of.
type streamConfig struct {
	pointer  []*expr
	defaults []jinja.Value
}

type componentMap struct {
	path   []*expr
	value  *expr
	types  jinja.Types
	create bool
	cond   *expr
}

var componentNames = []string{"components_values", "stream_template_config", "stream_slice", "stream_partition", "stream_interval", "component_values"}

func (n node) dynamicStream() *dynamicStream {
	d := &dynamicStream{name: n.d.Text("name"), parents: n.flag("use_parent_parameters", true)}
	if !n.check() {
		return d
	}
	if t, ok := n.child("stream_template"); ok {
		d.template = t.d
		quiet := *n.b // the template's own problems may go away once its fields are set
		quiet.problems = nil
		probe := t
		probe.b = &quiet
		probe.stream()
		for _, p := range quiet.problems {
			if p.Message != "is required" {
				n.b.problems = append(n.b.problems, p)
			}
		}
	}
	r, ok := n.child("components_resolver")
	if !ok {
		return d
	}
	if r.typ() == "ConfigComponentResolver" {
		r.d.Set("type", "ConfigComponentsResolver")
	}
	if !r.check() {
		return d
	}
	d.kind = r.typ()
	for _, c := range r.children("components_mapping") {
		if !c.has("type") {
			c.d.Set("type", "ComponentMappingDefinition")
		}
		if c.check() {
			d.mapping = append(d.mapping, componentMap{c.exprs("field_path", componentNames...), c.expr("value", componentNames...),
				valueTypes(c.d.Text("value_type")), c.flag("create_or_update", false), c.condition(componentNames...)})
		}
	}
	switch d.kind {
	case "HttpComponentsResolver":
		d.from = &stream{name: d.name + " (its streams)", selector: &selector{}}
		if c, ok := r.child("retriever"); ok && c.check() {
			d.from.router = c.routers("partition_router")
			if s, ok := c.child("record_selector"); ok {
				d.from.selector = s.selector()
			}
			d.from.retriever = c.simple(d.from)
		}
	case "ConfigComponentsResolver":
		for _, x := range r.children("stream_config") {
			c := streamConfig{pointer: x.exprs("configs_pointer")}
			if l, ok := x.value("default_values").(*jinja.List); ok {
				c.defaults = l.Items
			}
			d.configs = append(d.configs, c)
		}
		if d.configs == nil {
			r.problem("stream_config", "is required")
		}
	case "ParametrizedComponentsResolver":
		if c, ok := r.child("stream_parameters"); ok {
			if l, ok := c.value("list_of_parameters_for_stream").(*jinja.List); ok {
				d.list = l.Items
			}
		}
	default:
		r.problem("", "is not a resolver of components")
	}
	return d
}

// values returns what each stream is made of.
func (d *dynamicStream) values(ctx context.Context, v *view) ([]jinja.Value, error) {
	switch d.kind {
	case "HttpComponentsResolver":
		var out []jinja.Value
		err := d.from.read(ctx, v, func(it item) error {
			if it.gap != nil {
				return it.gap
			}
			out = append(out, it.out)
			return nil
		})
		return out, err
	case "ConfigComponentsResolver":
		return d.combined(v)
	}
	return d.list, nil
}

// combined makes a map of every combination of what the places of the configuration list.
// What is no map itself gets a name of its own, with its number, as in the framework.
func (d *dynamicStream) combined(v *view) ([]jinja.Value, error) {
	all := []jinja.Value{new(jinja.Dict)}
	for n, c := range d.configs {
		listed, err := c.values(v)
		if err != nil {
			return nil, err
		}
		var next []jinja.Value
		for _, before := range all {
			for i, val := range listed {
				if len(next) >= maxDynamic {
					return nil, fmt.Errorf("the configuration makes more than %d streams", maxDynamic)
				}
				one := jinja.Clone(before).(*jinja.Dict)
				if m, ok := val.(*jinja.Dict); ok {
					for j := range m.Len() {
						one.Set(m.At(j))
					}
				} else if name := fmt.Sprintf("source_config_%d", n); !one.Has(name) {
					one.Set(name, jinja.Tuple{int64(i), val})
				}
				next = append(next, one)
			}
		}
		all = next
	}
	return all, nil
}

// values returns what a place of the configuration lists, and the defaults.
func (c streamConfig) values(v *view) ([]jinja.Value, error) {
	var path []string
	for _, x := range c.pointer {
		t, err := v.scope().text(x)
		if err != nil {
			return nil, err
		}
		path = append(path, t)
	}
	found := find(v.config, path)
	if len(found) != 1 {
		return c.defaults, nil
	}
	if l, ok := found[0].val.(*jinja.List); ok {
		return append(slices.Clone(l.Items), c.defaults...), nil
	}
	return append([]jinja.Value{found[0].val}, c.defaults...), nil
}

// maxDynamic bounds how many streams a service can make us have.
const maxDynamic = 10_000

// streams makes the streams. What the service says may end up in them, so they are
// checked as any manifest is.
func (d *dynamicStream) streams(ctx context.Context, v *view, cat *catalogue) ([]*stream, error) {
	vals, err := d.values(ctx, v)
	if err != nil {
		return nil, fmt.Errorf("find the streams of %s: %w", d.name, err)
	}
	if len(vals) > maxDynamic {
		return nil, fmt.Errorf("%s makes %d streams", d.name, len(vals))
	}
	var out []*stream
	for i, val := range vals {
		t := jinja.Clone(d.template).(*jinja.Dict)
		s := v.scope().with("components_values", val, "component_values", val, "stream_template_config", d.template, "stream_slice", new(jinja.Dict),
			"stream_partition", new(jinja.Dict), "stream_interval", new(jinja.Dict))
		for _, m := range d.mapping {
			if err := m.apply(s, t); err != nil {
				return nil, fmt.Errorf("make stream %d of %s: %w", i, d.name, err)
			}
		}
		cat.propagate("DynamicDeclarativeStream.stream_template", t, new(jinja.Dict), d.parents)
		b := newBuilder(cat)
		st := b.node(t, fmt.Sprintf("%s[%d]", d.name, i)).named()
		if err := (&manifest{problems: b.problems}).refuse(); err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

func (m componentMap) apply(s scope, t *jinja.Dict) error {
	if m.cond != nil {
		if ok, err := s.truth(m.cond, true); err != nil || !ok {
			return err
		}
	}
	v, err := s.value(m.value, m.types)
	if err != nil {
		return err
	}
	var path []string
	for _, x := range m.path {
		p, err := s.text(x)
		if err != nil {
			return err
		}
		path = append(path, p)
	}
	if len(path) == 0 {
		return nil
	}
	if !m.create && len(find(t, path)) == 0 {
		return fmt.Errorf("the template has no %v", path)
	}
	for _, found := range find(t, path) {
		assign(t, found.at, v)
	}
	if m.create && len(find(t, path)) == 0 {
		assign(t, path, v)
	}
	return nil
}
