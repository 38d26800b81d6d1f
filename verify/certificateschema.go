package verify

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

// CertificateSchema returns the JSON Schema (draft 2020-12) of certificates. It is made
// from the types that read and write them; schema/certificate.schema.json is a copy.
func CertificateSchema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[Certificate]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = PredicateType + "/schema.json"
	s["title"] = "Sallyport exit certificate"
	s["description"] = "An in-toto Statement v1 about one snapshot, signed with SSH under the namespace " + CertificateNamespace + "."
	properties := s["properties"].(schema)
	properties["_type"].(schema)["const"] = StatementType
	properties["predicateType"].(schema)["const"] = PredicateType
	properties["subject"].(schema)["minItems"], properties["subject"].(schema)["maxItems"] = 1, 1
	doc, err := archive.Encode(s)
	if err != nil {
		return nil, fmt.Errorf("schema of certificates: %w", err)
	}
	return doc, nil
}

type schema map[string]any

// texts that have a form of their own.
var schemaTexts = map[reflect.Type]schema{
	reflect.TypeFor[dataset.Hash]():     {"type": "string", "pattern": "^[0-9a-f]{64}$"},
	reflect.TypeFor[dataset.ID]():       {"type": "string", "pattern": "^[a-z2-7]{26}$"},
	reflect.TypeFor[archive.RunID]():    {"type": "string", "pattern": "^[0-9]{8}T[0-9]{6}Z-[a-z2-7]{26}$"},
	reflect.TypeFor[archive.Time]():     {"type": "string", "format": "date-time", "pattern": "^[0-9-]{10}T[0-9:]{8}Z$"},
	reflect.TypeFor[Outcome]():          {"type": "string", "enum": outcomeNames},
	reflect.TypeFor[Verdict]():          {"type": "string", "enum": []Verdict{Proven, NotProven, Undecided}},
	reflect.TypeFor[ControlStatus]():    {"type": "string", "enum": []ControlStatus{Met, NotMet, NotAssessed}},
	reflect.TypeFor[archive.State]():    {"type": "string", "enum": []archive.State{archive.Complete, archive.Incomplete}},
	reflect.TypeFor[archive.Role]():     {"type": "string", "enum": []archive.Role{archive.DataRole, archive.IndexRole}},
	reflect.TypeFor[dataset.Code]():     {"type": "string", "enum": dataset.Codes},
	reflect.TypeFor[archive.Grade]():    {"type": "string", "enum": []archive.Grade{archive.Exact, archive.DoubleRead, archive.CountChecked, archive.BestEffort}},
	reflect.TypeFor[reconcile.Status](): {"type": "string"},
}

func schemaOf(t reflect.Type) schema {
	if s, ok := schemaTexts[t]; ok {
		c := schema{}
		for k, v := range s {
			c[k] = v
		}
		return c
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema{"anyOf": []any{schemaOf(t.Elem()), schema{"type": "null"}}}
	case reflect.Slice:
		return schema{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return schema{"type": "integer"}
	case reflect.Struct:
		return structSchema(t)
	}
	return schema{"type": "string"}
}

func structSchema(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		p := schemaOf(f.Type)
		if doc := f.Tag.Get("doc"); doc != "" {
			p["description"] = doc
		}
		properties[name] = p
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	return schema{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}
