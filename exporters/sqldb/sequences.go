package sqldb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dwp/sallyport/dataset"
)

// sequenceValueKind is the kind of definitions that say how far something counted.
const sequenceValueKind = "sequence value"

// A sequenceValue is how far a sequence, an identity or an AUTO_INCREMENT has counted:
// the definition, in JSON, of a record of the kind "sequence value". Its numbers are
// all that a target takes from it.
type sequenceValue struct {
	Last   int64    `json:"last_value,string"`   // the last number, or the next if not Called
	Called bool     `json:"is_called"`           // Last was given out
	Cycles int64    `json:"cycles,omitempty"`    // MariaDB: how often it began again
	Owner  []string `json:"owned_by,omitempty"`  // PostgreSQL: schema, table and column it numbers
	Auto   bool     `json:"automatic,omitempty"` // MySQL: the AUTO_INCREMENT of the table of that name
}

func (v sequenceValue) text() string {
	b, _ := json.Marshal(v) // numbers and strings: cannot fail
	return string(b)
}

// loadedDefinitions reads back the definitions that a target was given by a source of
// its own kind, or none.
func loadedDefinitions(ctx context.Context, kind string, l *layout, read func(context.Context, dataset.Stream, func(dataset.Record, error) bool) (bool, error)) ([]definition, error) {
	t := l.table(definitionsStream)
	if t == nil {
		return nil, nil
	}
	if a, ok := attributesOf(t.Stream); !ok || a.Kind != kind {
		return nil, nil
	}
	var all []definition
	var bad error
	_, err := read(ctx, t.Stream, func(r dataset.Record, err error) bool {
		var d struct{ Kind, Schema, Name, Definition string }
		if err == nil {
			err = json.Unmarshal(r.Data, &d)
		}
		bad = err
		all = append(all, definition{kind: d.Kind, schema: d.Schema, name: d.Name, sql: d.Definition})
		return err == nil
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("definitions: %w", err)
	}
	return all, nil
}

// sequenceValues returns the values among definitions, by schema and name.
func sequenceValues(defs []definition) (map[[2]string]sequenceValue, error) {
	all := make(map[[2]string]sequenceValue)
	for _, d := range defs {
		if d.kind != sequenceValueKind {
			continue
		}
		var v sequenceValue
		if err := json.Unmarshal([]byte(d.sql), &v); err != nil {
			return nil, fmt.Errorf("value of sequence %q: %w", d.name, err)
		}
		all[[2]string{d.schema, d.name}] = v
	}
	return all, nil
}
