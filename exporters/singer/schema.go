package singer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// convertSchema makes a schema of a tap's JSON Schema. It is lenient: taps write what no
// validator accepts (draft-4 exclusiveMaximum, references against the specification), and
// nothing rests on it but the types of columns; a field of several types, or of none that
// is known, is of any type. The tap's own text is kept as Native.
func convertSchema(raw json.RawMessage, key []string) (*dataset.Schema, error) {
	s := &dataset.Schema{Fields: []dataset.Field{}, PrimaryKey: key, Open: true}
	if len(raw) == 0 || string(raw) == "null" {
		return s, nil
	}
	if err := dataset.CheckObject(raw); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	native, err := dataset.Compact(nil, raw)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	s.Native = native
	properties, ok := dataset.Lookup(native, "properties")
	if !ok {
		return s, nil
	}
	if dataset.CheckObject(properties) != nil {
		return nil, errors.New("schema: properties are no object")
	}
	for name, p := range dataset.Fields(properties) {
		f := dataset.Field{Name: name, Type: dataset.AnyType}
		if dataset.CheckObject(p) == nil {
			f = fieldOf(name, p)
		}
		s.Fields = append(s.Fields, f)
	}
	return s, nil
}

// fieldOf describes one property.
func fieldOf(name string, p json.RawMessage) dataset.Field {
	f := dataset.Field{Name: name, Type: dataset.AnyType}
	if d, ok := text(p, "description"); ok {
		f.Description = d
	}
	types := typesOf(p)
	if len(types) != 1 {
		return f
	}
	format, _ := text(p, "format")
	switch types[0] {
	case "string":
		f.Type = dataset.String
		switch format {
		case "date-time":
			f.Type = dataset.Datetime
		case "date":
			f.Type = dataset.Date
		case "time":
			f.Type = dataset.Time
		case "singer.decimal", "x-singer.decimal":
			f.Type, f.Lexical = dataset.Number, dataset.Text
		}
		f.Native = format
	case "integer":
		f.Type = dataset.Integer
	case "number":
		f.Type = dataset.Number
	case "boolean":
		f.Type = dataset.Boolean
	case "object":
		f.Type = dataset.Object
	case "array":
		f.Type = dataset.Array
	}
	return f
}

// typesOf returns the types that a property may have, null excepted. Alternatives of
// anyOf and oneOf count; a reference is a type that is not known.
func typesOf(p json.RawMessage) []string {
	var types []string
	add := func(t string) {
		if t != "null" && !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if one, ok := text(p, "type"); ok {
		add(one)
	} else if raw, ok := dataset.Lookup(p, "type"); ok {
		var list []string
		if json.Unmarshal(raw, &list) != nil {
			return nil
		}
		for _, t := range list {
			add(t)
		}
	}
	for _, of := range []string{"anyOf", "oneOf"} {
		raw, ok := dataset.Lookup(p, of)
		var list []json.RawMessage
		if ok && json.Unmarshal(raw, &list) != nil {
			return nil
		}
		for _, alternative := range list {
			if dataset.CheckObject(alternative) != nil {
				return nil
			}
			if format, _ := text(alternative, "format"); format != "" {
				return nil // which of them it is, only the value says
			}
			for _, t := range typesOf(alternative) {
				add(t)
			}
		}
	}
	if _, ok := dataset.Lookup(p, "$ref"); ok {
		add("$ref")
	}
	return types
}

// text returns the value of a member that is a string.
func text(obj json.RawMessage, name string) (string, bool) {
	raw, ok := dataset.Lookup(obj, name)
	if !ok || raw[0] != '"' {
		return "", false
	}
	s, err := dataset.Unquote(raw)
	return s, err == nil
}
