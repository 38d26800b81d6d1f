package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A schemaLoader reads a schema from the service: a DynamicSchemaLoader.
type schemaLoader struct {
	from              *stream
	pointer, key, typ []*expr
	types             []typeMap
	transforms        []transformation
	filter            *expr
}

type typeMap struct {
	from jinja.Value
	to   jinja.Value
	cond *expr
}

// schemas reads the schema loaders of a stream.
func (n node) schemas(st *stream) {
	for _, c := range n.children("schema_loader") {
		if !c.check() {
			continue
		}
		switch c.typ() {
		case "InlineSchemaLoader":
			if d, ok := c.value("schema").(*jinja.Dict); ok {
				st.schema = mergeSchemas(st.schema, d)
			}
		case "JsonFileSchemaLoader":
			st.schemaFiles = append(st.schemaFiles, c.schemaFile())
		case "DynamicSchemaLoader":
			st.dynamic = c.dynamicSchema()
		default:
			c.problem("", "is not a schema loader")
		}
	}
}

// schemaFile is the path of a JsonFileSchemaLoader. As the framework has it, a connector's
// own folder is where its schemas lie if the manifest does not say.
func (n node) schemaFile() *expr {
	if n.has("file_path") {
		return n.expr("file_path")
	}
	return n.compile("file_path", "./schemas/{{ parameters.get('name') }}.json")
}

// maxSchema bounds a schema in a file.
const maxSchema = 16 << 20

// schemaInFile reads a schema that lies beside the manifest, or below. Where it is not, the
// schema stays unknown, which is noted: it describes records and does not bound them.
func (v *view) schemaInFile(st *stream, at *expr) (*jinja.Dict, error) {
	name, err := v.scope().text(at)
	if err != nil {
		return nil, fmt.Errorf("file_path: %w", err)
	}
	root, err := os.OpenRoot(v.home)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(filepath.Clean(filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		v.facts.note(fmt.Sprintf("stream %s: its schema is not in %q beside the manifest, so it is unknown", st.name, name))
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSchema+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSchema {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxSchema)
	}
	val, err := jinja.ParseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d, ok := val.(*jinja.Dict)
	if !ok {
		return nil, fmt.Errorf("%s is no JSON schema", name)
	}
	return d, nil
}

// mergeSchemas adds the properties of b to those of a.
func mergeSchemas(a, b *jinja.Dict) *jinja.Dict {
	if a == nil {
		return b
	} else if b == nil {
		return a
	}
	out := jinja.Clone(a).(*jinja.Dict)
	props, _ := out.Get("properties")
	into, ok := props.(*jinja.Dict)
	more, _ := b.Get("properties")
	add, ok2 := more.(*jinja.Dict)
	if !ok || !ok2 {
		return out
	}
	for i := range add.Len() {
		k, v := add.At(i)
		into.Set(k, v)
	}
	out.Set("properties", into)
	return out
}

func (n node) dynamicSchema() *schemaLoader {
	l := &schemaLoader{from: &stream{name: "schema", selector: &selector{}}, transforms: n.transformations("schema_transformations")}
	if r, ok := n.child("retriever"); ok && r.check() {
		l.from.router = r.routers("partition_router")
		if s, ok := r.child("record_selector"); ok {
			l.from.selector = s.selector()
		}
		l.from.retriever = r.simple(l.from)
	}
	if f, ok := n.child("schema_filter"); ok && f.check() {
		l.filter = f.expr("condition", recordNames...)
	}
	c, ok := n.child("schema_type_identifier")
	if !ok {
		return l
	}
	if !c.has("type") {
		c.d.Set("type", "SchemaTypeIdentifier")
	}
	if !c.check() {
		return l
	}
	l.pointer, l.key, l.typ = c.exprs("schema_pointer"), c.exprs("key_pointer"), c.exprs("type_pointer")
	for _, t := range c.children("types_mapping") {
		m := typeMap{from: t.value("current_type"), to: t.value("target_type"), cond: t.condition("raw_schema")}
		l.types = append(l.types, m)
	}
	return l
}

// load reads the schema.
func (l *schemaLoader) load(ctx context.Context, v *view) (*jinja.Dict, error) {
	s := v.scope()
	texts := func(xs []*expr) ([]string, error) {
		var out []string
		for _, x := range xs {
			t, err := s.text(x)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
		}
		return out, nil
	}
	pointer, err := texts(l.pointer)
	if err != nil {
		return nil, err
	}
	key, err := texts(l.key)
	if err != nil {
		return nil, err
	}
	typ, err := texts(l.typ)
	if err != nil {
		return nil, err
	}
	props := new(jinja.Dict)
	err = l.from.read(ctx, v, func(it item) error {
		if it.gap != nil {
			return it.gap
		}
		for _, m := range find(it.out, pointer) {
			fields := []jinja.Value{m.val}
			if list, ok := m.val.(*jinja.List); ok {
				fields = list.Items
			}
			for _, f := range fields {
				k := find(f, key)
				if len(k) != 1 {
					return fmt.Errorf("a field of the schema has no %v", key)
				}
				raw := jinja.Value("string")
				if len(typ) > 0 {
					if t := find(f, typ); len(t) == 1 {
						raw = t[0].val
					}
				}
				mapped, err := l.mapped(s, f, raw)
				if err != nil {
					return err
				}
				props.Set(jinja.Str(k[0].val), jinja.NewDict("type", jinja.NewList("null", mapped)))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	if props, err = l.filtered(s, props); err != nil {
		return nil, fmt.Errorf("schema_filter: %w", err)
	}
	for _, t := range l.transforms {
		if err := t(s, props); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
	}
	return jinja.NewDict("type", "object", "properties", props), nil
}

// filtered keeps the properties of which, each as a map of its own, the filter is true.
func (l *schemaLoader) filtered(s scope, props *jinja.Dict) (*jinja.Dict, error) {
	if l.filter == nil {
		return props, nil
	}
	out := new(jinja.Dict)
	for i := range props.Len() {
		k, p := props.At(i)
		ok, err := s.with("record", jinja.NewDict(k, p), "stream_slice", new(jinja.Dict), "stream_partition", new(jinja.Dict), "stream_interval", new(jinja.Dict)).truth(l.filter, false)
		if err != nil {
			return nil, err
		}
		if ok {
			out.Set(k, p)
		}
	}
	return out, nil
}

func (l *schemaLoader) mapped(s scope, field, raw jinja.Value) (jinja.Value, error) {
	for _, m := range l.types {
		if !jinja.Equal(m.from, raw) {
			continue
		}
		if ok, err := s.with("raw_schema", field).truth(m.cond, true); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		if d, ok := m.to.(*jinja.Dict); ok {
			return d.Text("field_type"), nil
		}
		return m.to, nil
	}
	return raw, nil
}

// partitionMember is the member that records of a partitioned stream get: which
// partition they came from. It is part of their key.
const partitionMember = "_partition"

// describe makes the schema of a stream's records as they were received. Fields of
// the manifest's own schema are theirs only if no transformation renames or adds any.
func (st *stream) describe() *dataset.Schema {
	out := &dataset.Schema{Open: true}
	plain := len(st.transforms) == 0
	if st.schema != nil {
		if b, err := jinja.AppendFreshJSON(nil, st.schema); err == nil {
			out.Native = b
		}
		props, _ := st.schema.Get("properties")
		if d, ok := props.(*jinja.Dict); ok && plain {
			for i := range d.Len() {
				k, v := d.At(i)
				f := dataset.Field{Name: jinja.Str(k), Type: dataset.AnyType}
				if sub, ok := v.(*jinja.Dict); ok {
					f.Type = fieldType(sub)
					f.Description = sub.Text("description")
				}
				out.Fields = append(out.Fields, f)
			}
		}
	}
	for _, k := range st.key {
		if len(k) != 1 {
			return out // a nested key has no name in a table
		}
		out.PrimaryKey = append(out.PrimaryKey, k[0])
	}
	if len(out.PrimaryKey) > 0 {
		if st.router != nil {
			out.PrimaryKey = append(out.PrimaryKey, partitionMember)
			out.Fields = append(out.Fields, dataset.Field{Name: partitionMember, Type: dataset.Object, Required: true})
		}
	}
	for _, k := range out.PrimaryKey {
		if !slices.ContainsFunc(out.Fields, func(f dataset.Field) bool { return f.Name == k }) {
			out.Fields = append(out.Fields, dataset.Field{Name: k, Type: dataset.AnyType})
		}
	}
	return out
}

func fieldType(s *jinja.Dict) dataset.Type {
	switch onlyType(s) {
	case "string":
		return dataset.String // what a service calls a date need not be one
	case "integer":
		return dataset.Integer
	case "number":
		return dataset.Number
	case "boolean":
		return dataset.Boolean
	case "object":
		return dataset.Object
	case "array":
		return dataset.Array
	}
	return dataset.AnyType
}
