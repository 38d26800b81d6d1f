package verify_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/verify"
)

func TestPublishedSchemaIsThatOfTheTypes(t *testing.T) {
	t.Parallel()
	want, err := verify.CertificateSchema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("schema/certificate.schema.json")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("schema/certificate.schema.json is not what CertificateSchema returns (%v); sallyport certificate schema prints it", err)
	}
}

func TestCertificateKeepsItsSchema(t *testing.T) {
	t.Parallel()
	text, err := verify.CertificateSchema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	c := newCourt(t, memory.Awkward(keys.Awkward()), "")
	_, name := issue(t, c.try(t, new(memory.Target)))
	var doc any
	if err := json.Unmarshal(c.store.Bytes(name), &doc); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range against(schema, doc, "") {
		t.Error(wrong)
	}
	predicate := doc.(map[string]any)["predicate"].(map[string]any)
	predicate["verdict"], predicate["more"] = "fine", true
	if got := against(schema, doc, ""); len(got) != 2 {
		t.Errorf("a wrong verdict and an unknown member gave %q", got)
	}
}

// against holds a value against the part of JSON Schema that the schema uses.
func against(s map[string]any, v any, path string) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, path+": "+fmt.Sprintf(format, args...)) }
	if any, ok := s["anyOf"].([]any); ok {
		for _, one := range any {
			if len(against(one.(map[string]interface{}), v, path)) == 0 {
				return nil
			}
		}
		say("fits none")
		return wrong
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		say("%v is none of %v", v, enum)
	}
	if c, ok := s["const"]; ok && c != v {
		say("%v is not %v", v, c)
	}
	switch x := v.(type) {
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		for name, member := range x {
			inner, ok := properties[name].(map[string]any)
			if !ok {
				if inner, ok = s["additionalProperties"].(map[string]any); !ok {
					say("unknown member %q", name)
					continue
				}
			}
			wrong = append(wrong, against(inner, member, path+"/"+name)...)
		}
		required, _ := s["required"].([]any)
		for _, name := range required {
			if _, ok := x[name.(string)]; !ok {
				say("member %q is missing", name)
			}
		}
	case []any:
		for i, item := range x {
			wrong = append(wrong, against(s["items"].(map[string]any), item, fmt.Sprint(path, "/", i))...)
		}
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(x) {
			say("%q does not match %s", x, p)
		}
	}
	want := map[string]bool{"object": isA[map[string]any](v), "array": isA[[]any](v), "string": isA[string](v), "boolean": isA[bool](v), "integer": isA[float64](v), "null": v == nil}
	if kind, _ := s["type"].(string); !want[kind] {
		say("is no %s", kind)
	}
	return wrong
}

func isA[T any](v any) bool {
	_, ok := v.(T)
	return ok
}
