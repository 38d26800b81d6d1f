package sqldb

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// Names of the kinds, as they stand in attributes too.
const (
	kindPostgres = "postgres"
	kindMySQL    = "mysql"
	kindSQLite   = "sqlite"
)

// attributes are the [dataset.Stream.Attributes] of this package's streams.
type attributes struct {
	Kind   string `json:"kind"`
	Schema string `json:"schema,omitempty"`
	Table  string `json:"table"`

	// Engine is MySQL's storage engine. BestEffort is set where it has no
	// transactions, so that the table is not part of the snapshot.
	Engine     string `json:"engine,omitempty"`
	BestEffort bool   `json:"best_effort,omitempty"`
}

func (a attributes) raw() json.RawMessage {
	b, _ := json.Marshal(a) // strings and a bool: cannot fail
	return b
}

// attributesOf returns the attributes of a stream that this package made; ok is false
// for other streams.
func attributesOf(s dataset.Stream) (a attributes, ok bool) {
	if s.Schema == nil || json.Unmarshal(s.Attributes, &a) != nil {
		return attributes{}, false
	}
	switch a.Kind {
	case kindPostgres, kindMySQL, kindSQLite:
		return a, true
	}
	return attributes{}, false
}

// A definition is one record of the stream of definitions.
type definition struct {
	kind, schema, name string
	sql                string // the statement that makes it, if one does, else what the database says
	gap                *dataset.Gap
}

// definitionsOf returns the stream of definitions of a kind.
func definitionsOf(kind string) dataset.Stream {
	text := func(name, help string) dataset.Field {
		return dataset.Field{Name: name, Type: dataset.String, Native: "text", Required: true, Description: help}
	}
	return dataset.Stream{
		Name:       definitionsStream,
		Attributes: attributes{Kind: kind, Table: "definitions"}.raw(),
		Schema: &dataset.Schema{
			Fields: []dataset.Field{
				text("kind", "view, routine, trigger, type, sequence, sequence value, ..."),
				text("schema", "empty where the database has none"),
				text("name", "with the arguments of a routine, the table of a trigger or constraint"),
				text("definition", "the statement that makes it, if one does, else what the database says of it"),
			},
			PrimaryKey: []string{"kind", "schema", "name"},
		},
	}
}

// yieldDefinitions yields definitions as records. more is false if the caller wants no
// more.
func yieldDefinitions(ctx context.Context, kind string, defs []definition, yield func(dataset.Record, error) bool) (more bool, err error) {
	more = true
	definitionRecords(kind, defs, func(r dataset.Record, e error) bool {
		if err = e; err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return false
		}
		more = yield(r, nil)
		return more
	})
	return more && err == nil, err
}

// definitionRecords turns definitions into records, sorted by the caller.
func definitionRecords(kind string, defs []definition, yield func(dataset.Record, error) bool) {
	s := definitionsOf(kind)
	var columns []column
	for _, f := range s.Schema.Fields {
		c, err := newColumn(f.Name, "", formText)
		if err != nil {
			yield(dataset.Record{}, err)
			return
		}
		columns = append(columns, c)
	}
	t, err := newTable(s, "", columns)
	if err != nil {
		yield(dataset.Record{}, err)
		return
	}
	b := newBuilder(t, nil)
	for _, d := range defs {
		b.begin()
		for _, text := range []string{d.kind, d.schema, d.name, d.sql} {
			b.text([]byte(text))
		}
		r, err := b.finish("")
		if err != nil {
			yield(r, fmt.Errorf("definition of %s %q: %w", d.kind, d.name, err))
			return
		}
		if d.gap != nil {
			g := *d.gap
			g.Stream, g.Key = r.Stream, r.Key
			r.Data, r.Gap = nil, &g
		}
		if !yield(r, nil) {
			return
		}
	}
}

// getDefinition returns one definition as a record.
func getDefinition(kind string, defs []definition, key string) (dataset.Record, error) {
	found, err := dataset.Record{}, fmt.Errorf("definition: %w", fs.ErrNotExist)
	definitionRecords(kind, defs, func(r dataset.Record, e error) bool {
		if e != nil {
			err = e
			return false
		}
		if r.Key == key {
			r.Data = slices.Clone(r.Data)
			found, err = r, nil
		}
		return r.Key != key
	})
	return found, err
}
