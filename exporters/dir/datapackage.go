package dir

import "github.com/dwp/sallyport/dataset"

// A descriptor is a Data Package (datapackage.org, version 2.0) as far as it is written.
type descriptor struct {
	Schema    string     `json:"$schema"`
	Resources []resource `json:"resources"`
}

type resource struct {
	Schema    string       `json:"$schema"`
	Name      string       `json:"name"`
	Title     string       `json:"title,omitempty"`
	Path      string       `json:"path"`
	Format    string       `json:"format"`
	MediaType string       `json:"mediatype"`
	Encoding  string       `json:"encoding"`
	Table     *tableSchema `json:"schema,omitempty"`
}

type tableSchema struct {
	Fields      []dataset.Field `json:"fields"`
	PrimaryKey  []string        `json:"primaryKey,omitempty"`
	ForeignKeys []foreignKey    `json:"foreignKeys,omitempty"`
}

type foreignKey struct {
	Fields    []string  `json:"fields"`
	Reference reference `json:"reference"`
}

type reference struct {
	Resource string   `json:"resource"`
	Fields   []string `json:"fields"`
}

// describePackage describes every file but the objects.
func describePackage(m *marker) descriptor {
	tables := make(map[string]string)
	for _, p := range m.Streams {
		tables[p.Stream.Name] = p.Table
	}
	d := descriptor{Schema: "https://datapackage.org/profiles/2.0/datapackage.json", Resources: []resource{}}
	add := func(name, title string, s *tableSchema) {
		d.Resources = append(d.Resources, resource{
			Schema: "https://datapackage.org/profiles/2.0/dataresource.json",
			Name:   name, Title: title, Path: name, Format: "jsonl", MediaType: "application/jsonl", Encoding: "utf-8", Table: s,
		})
	}
	for _, p := range m.Streams {
		title := dataset.Escape(p.Stream.Name)
		if p.Table != "" {
			add(p.Table, title, describeTable(p.Stream.Schema, tables))
		}
		add(p.Keymap, "keys of "+title, nil)
	}
	return d
}

// describeTable turns a schema into a Table Schema. Keys that refer to streams without a
// table are left out, for such a descriptor would not be valid; the marker has them all.
func describeTable(s *dataset.Schema, tables map[string]string) *tableSchema {
	if s == nil || len(s.Fields) == 0 {
		return nil
	}
	t := &tableSchema{Fields: s.Fields, PrimaryKey: s.PrimaryKey}
	for _, k := range s.ForeignKeys {
		if tables[k.RefStream] != "" {
			t.ForeignKeys = append(t.ForeignKeys, foreignKey{k.Fields, reference{tables[k.RefStream], k.RefFields}})
		}
	}
	return t
}
