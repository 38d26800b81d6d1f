package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// resolveSecrets replaces texts that are references (env:, file:, exec:) by what they
// stand for, at any depth, and registers them as secrets.
func resolveSecrets(ctx context.Context, v jinja.Value, secret func(context.Context, string) (string, error), r *redactor) (jinja.Value, error) {
	switch v := v.(type) {
	case *jinja.Dict:
		out := new(jinja.Dict)
		for i := range v.Len() {
			k, x := v.At(i)
			x, err := resolveSecrets(ctx, x, secret, r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", jinja.Str(k), err)
			}
			out.Set(k, x)
		}
		return out, nil
	case *jinja.List:
		out := jinja.NewList()
		for _, e := range v.Items {
			x, err := resolveSecrets(ctx, e, secret, r)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, x)
		}
		return out, nil
	case string:
		for _, p := range []string{"env:", "file:", "exec:"} {
			if !strings.HasPrefix(v, p) {
				continue
			}
			if secret == nil {
				return nil, fmt.Errorf("the reference %s cannot be resolved here", p)
			}
			s, err := secret(ctx, v)
			if err != nil {
				return nil, err
			}
			r.add(s)
			return s, nil
		}
	}
	return v, nil
}

// fillDefaults adds the defaults of a JSON schema's properties, at any depth, for the
// platform does that before a connector sees its configuration.
func fillDefaults(schema, config *jinja.Dict) {
	props, _ := schema.Get("properties")
	d, ok := props.(*jinja.Dict)
	if !ok {
		return
	}
	for i := range d.Len() {
		k, sub := d.At(i)
		s, ok := sub.(*jinja.Dict)
		if !ok {
			continue
		}
		if v, has := s.Get("default"); has && !config.Has(k) {
			config.Set(k, jinja.Clone(v))
		}
		if inner, ok := valueOf(config, k).(*jinja.Dict); ok {
			fillDefaults(s, inner)
		}
	}
}

func valueOf(d *jinja.Dict, k jinja.Value) jinja.Value {
	v, _ := d.Get(k)
	return v
}

// secretFields registers values that the schema marks as secret.
func secretFields(schema, config *jinja.Dict, r *redactor) {
	props, _ := schema.Get("properties")
	d, ok := props.(*jinja.Dict)
	if !ok {
		return
	}
	for i := range d.Len() {
		k, sub := d.At(i)
		s, ok := sub.(*jinja.Dict)
		if !ok {
			continue
		}
		switch v := valueOf(config, k).(type) {
		case *jinja.Dict:
			secretFields(s, v, r)
			if l, ok := valueOf(s, "oneOf").(*jinja.List); ok {
				for _, e := range l.Items {
					if option, ok := e.(*jinja.Dict); ok {
						secretFields(option, v, r)
					}
				}
			}
		case string:
			if valueOf(s, "airbyte_secret") == true {
				r.add(v)
			}
		}
	}
}

// validate checks a configuration with the connection specification's JSON schema.
// Its errors name fields and never quote values, which may be secrets.
func validate(schema *jinja.Dict, config jinja.Value) error {
	b, err := jinja.AppendFreshJSON(nil, schema)
	if err != nil {
		return fmt.Errorf("connection specification: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("connection specification: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(lenientRegexp)
	const name = "manifest:///specification"
	if m, ok := doc.(map[string]any); ok {
		m["$schema"] = "http://json-schema.org/draft-07/schema#"
		delete(m, "$id")
	}
	if err := c.AddResource(name, doc); err != nil {
		return fmt.Errorf("connection specification: %w", err)
	}
	sch, err := c.Compile(name)
	if err != nil {
		return fmt.Errorf("connection specification: %w", err)
	}
	if b, err = jinja.AppendFreshJSON(nil, config); err != nil {
		return err
	}
	val, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	var ve *jsonschema.ValidationError
	if err := sch.Validate(val); errors.As(err, &ve) {
		var where []string
		leaves(ve, &where)
		return fmt.Errorf("config does not fit the connection specification: %s", strings.Join(where, "; "))
	} else if err != nil {
		return err
	}
	return nil
}

// leaves lists the places and keywords of a validation error.
func leaves(e *jsonschema.ValidationError, out *[]string) {
	if len(e.Causes) == 0 {
		at := "/" + strings.Join(e.InstanceLocation, "/")
		what := strings.Join(e.ErrorKind.KeywordPath(), "/")
		if b, err := json.Marshal(e.ErrorKind); err == nil && what == "required" {
			what += " " + string(b)
		}
		*out = append(*out, at+" ("+what+")")
		return
	}
	for _, c := range e.Causes {
		leaves(c, out)
	}
}

// noLoader keeps a schema from reading files or the network.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("the schema refers to %q, outside of itself", url)
}

// A configChange migrates or normalises the configuration.
type configChange func(s scope, config *jinja.Dict) error

// configChanges reads config_normalization_rules of a specification.
func (n node) configChanges() []configChange {
	d, ok := n.value("config_normalization_rules").(*jinja.Dict)
	if !ok {
		return nil
	}
	rules := n.b.node(d, n.path+".config_normalization_rules")
	var out []configChange
	for _, m := range rules.children("config_migrations") {
		out = append(out, m.configTransforms()...)
	}
	out = append(out, rules.configTransforms()...)
	for _, v := range rules.children("validations") {
		if !v.check() {
			continue
		}
		if change := v.validation(); change != nil {
			out = append(out, change)
		}
	}
	return out
}

// validation reads a DpathValidator or PredicateValidator: it changes nothing, and fails
// if what it looks at is not as its schema says. It is nil if it cannot run.
func (n node) validation() configChange {
	c, ok := n.child("validation_strategy")
	if !ok || !c.check() {
		return nil
	}
	schema := func(scope) (*jinja.Dict, error) { return nil, errors.New("base_schema: is not an object") }
	switch base := c.value("base_schema").(type) {
	case *jinja.Dict:
		schema = func(scope) (*jinja.Dict, error) { return base, nil }
	case string:
		x := c.expr("base_schema")
		schema = func(s scope) (*jinja.Dict, error) {
			v, err := s.value(x, nil)
			if text, isText := v.(string); isText && err == nil { // JSON that is no Python
				v, err = jinja.ParseJSON([]byte(text))
			}
			d, ok := v.(*jinja.Dict)
			if err == nil && !ok {
				err = errors.New("is not an object")
			}
			if err != nil {
				return nil, fmt.Errorf("base_schema: %w", err)
			}
			return d, nil
		}
	}
	values := n.validated()
	return func(s scope, config *jinja.Dict) error {
		d, err := schema(s)
		if err != nil {
			return err
		}
		vals, err := values(s, config)
		if err != nil {
			return err
		}
		for _, v := range vals {
			if err := validate(d, v); err != nil {
				return fmt.Errorf("%s: %w", n.path, err)
			}
		}
		return nil
	}
}

// validated returns what finds the values that a validator looks at.
func (n node) validated() func(s scope, config *jinja.Dict) ([]jinja.Value, error) {
	if n.typ() == "PredicateValidator" {
		t := n.template("value", n.value("value"))
		return func(s scope, config *jinja.Dict) ([]jinja.Value, error) {
			v, err := s.tree(t, nil, false)
			return []jinja.Value{v}, err
		}
	}
	path := n.exprs("field_path")
	return func(s scope, config *jinja.Dict) ([]jinja.Value, error) {
		var p []string
		for _, x := range path {
			t, err := s.text(x)
			if err != nil {
				return nil, err
			}
			p = append(p, t)
		}
		var out []jinja.Value
		for _, m := range find(config, p) {
			out = append(out, m.val)
		}
		if out == nil && !slices.Contains(p, "*") {
			return nil, fmt.Errorf("%s: the configuration has no %s", n.path, strings.Join(p, "."))
		}
		return out, nil
	}
}

func (n node) configTransforms() []configChange {
	var out []configChange
	for _, c := range n.children("transformations") {
		if !c.check() {
			continue
		}
		switch c.typ() {
		case "ConfigAddFields":
			fields, cond := c.addedFields(), c.condition("property", "value", "path")
			out = append(out, func(s scope, config *jinja.Dict) error {
				for _, f := range fields {
					if err := f.apply(s, config, cond); err != nil {
						return err
					}
				}
				return nil
			})
		case "ConfigRemoveFields":
			ps, cond := c.pointers("field_pointers"), c.condition("property")
			out = append(out, func(s scope, config *jinja.Dict) error {
				for _, p := range ps {
					err := remove(config, p, func(v jinja.Value) (bool, error) {
						ok, err := s.with("property", v).truth(cond, true)
						return !ok, err
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		case "ConfigRemapField":
			mapping, path := c.template("map", c.value("map")), c.exprs("field_path")
			out = append(out, func(s scope, config *jinja.Dict) error {
				m, err := s.tree(mapping, nil, false)
				if err != nil {
					return err
				}
				table, ok := m.(*jinja.Dict)
				if !ok {
					return errors.New("ConfigRemapField: map is not a map")
				}
				var p []string
				for _, x := range path {
					t, err := s.text(x)
					if err != nil {
						return err
					}
					p = append(p, t)
				}
				if found := find(config, p); len(found) == 1 {
					if to, ok := table.Get(found[0].val); ok {
						assign(config, p, to)
					}
				}
				return nil
			})
		default:
			c.problem("", "is not a transformation of the configuration")
		}
	}
	return out
}

// lenientRegexp compiles the patterns of a schema. One that Go cannot run (with
// look-around) matches everything: it can only refuse configurations, never data.
func lenientRegexp(s string) (jsonschema.Regexp, error) {
	re, err := regexp.Compile(s)
	if err != nil {
		return anything(s), nil
	}
	return re, nil
}

type anything string

func (anything) MatchString(string) bool { return true }
func (a anything) String() string        { return string(a) }
