package config

import (
	"encoding/json"
	"reflect"
	"strconv"
	"time"

	"github.com/dwp/sallyport/exporters"
)

// SchemaID names the published JSON Schema.
const SchemaID = "https://github.com/dwp/sallyport/config/v1"

// Schema returns the JSON Schema (draft 2020-12) of sallyport.yaml for the exporters
// in kinds, as indented JSON. It accepts everything that [Parse] accepts. What it
// cannot tell is what concerns YAML itself (a key given twice), two places at once
// (residency) or the world outside (a file that is missing).
func Schema(kinds []exporters.Kind) []byte {
	s := objectSchema(reflect.TypeFor[Config](), kinds)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = SchemaID
	s["title"] = FileName
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // maps, lists, texts and numbers
	}
	return append(b, '\n')
}

type schema = map[string]any

// objectSchema describes a struct, and the `with` of a service by its kind.
func objectSchema(t reflect.Type, kinds []exporters.Kind) schema {
	props, required := schema{}, []string{}
	for _, f := range fieldsOf(t) {
		p := fieldSchema(f, kinds)
		p["description"] = f.doc
		props[f.key] = p
		if f.need {
			required = append(required, f.key)
		}
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": props}
	if len(required) > 0 {
		s["required"] = required
	}
	if t == reflect.TypeFor[Service]() {
		var names []string
		var cases []schema
		for _, k := range kinds {
			names = append(names, k.Name)
			cases = append(cases, kindSchema(k))
		}
		props["exporter"].(schema)["enum"] = names
		s["allOf"] = cases
	}
	return s
}

func fieldSchema(f field, kinds []exporters.Kind) schema {
	s := typeSchema(f.typ, f, kinds)
	if f.def != "" {
		s["default"] = f.def
		if f.typ.Kind() == reflect.Int {
			s["default"] = json.Number(f.def)
		}
	}
	return s
}

func typeSchema(t reflect.Type, f field, kinds []exporters.Kind) schema {
	if sh, ok := shapes[t]; ok {
		return shapeSchema(sh)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), f, kinds)
	case reflect.Struct:
		if t == reflect.TypeFor[With]() {
			return schema{"type": "object"}
		}
		return objectSchema(t, kinds)
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": false,
			"patternProperties": schema{f.names: typeSchema(t.Elem(), field{max: -1}, kinds)}}
	case reflect.Slice:
		s := schema{"type": "array", "items": typeSchema(t.Elem(), field{max: -1}, kinds)}
		if f.min > 0 {
			s["minItems"] = f.min
		}
		return s
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return numberSchema(f)
	}
	return textSchema(f.enum)
}

func shapeSchema(sh shape) schema {
	s := schema{"type": "string", "pattern": sh.pattern}
	if sh.not != "" {
		s["not"] = schema{"pattern": sh.not}
	}
	return s
}

func textSchema(enum []string) schema {
	if enum != nil {
		return schema{"type": "string", "enum": enum}
	}
	return schema{"type": "string", "minLength": 1, "not": schema{"pattern": passwordPattern}}
}

func numberSchema(f field) schema {
	s := schema{"type": "integer"}
	if f.enum != nil {
		var values []int
		for _, e := range f.enum {
			n, err := strconv.Atoi(e)
			if err != nil {
				panic(err) // a declaration of this package
			}
			values = append(values, n)
		}
		s["enum"] = values
		return s
	}
	s["minimum"] = f.min
	if f.max >= 0 {
		s["maximum"] = f.max
	}
	return s
}

// kindSchema says: a service of this exporter has these settings.
func kindSchema(k exporters.Kind) schema {
	props, required := schema{}, []string{}
	for _, o := range k.Options {
		p := optionSchema(o)
		p["description"] = o.Help
		switch v := o.Default.(type) {
		case nil:
		case time.Duration:
			p["default"] = Duration(v).String()
		default:
			p["default"] = v
		}
		props[o.Name] = p
		if o.Required {
			required = append(required, o.Name)
		}
	}
	own := schema{"with": schema{"additionalProperties": false, "properties": props, "required": required}}
	if !k.Snapshots {
		own["grade"] = schema{"not": schema{"const": "exact"}}
	}
	then := schema{"properties": own}
	if len(required) > 0 {
		then["required"] = []string{"with"}
	}
	return schema{
		"if":   schema{"properties": schema{"exporter": schema{"const": k.Name}}, "required": []string{"exporter"}},
		"then": then,
	}
}

func optionSchema(o exporters.Option) schema {
	switch o.Type {
	case exporters.SecretOption:
		return schema{"type": "string", "pattern": secretPattern}
	case exporters.BoolOption:
		return schema{"type": "boolean"}
	case exporters.IntOption:
		return schema{"type": "integer"}
	case exporters.DurationOption:
		return schema{"type": "string", "pattern": durationPattern}
	case exporters.ListOption:
		return schema{"type": "array", "items": textSchema(nil)}
	case exporters.MapOption:
		return schema{"type": "object"}
	}
	return textSchema(o.Enum)
}
