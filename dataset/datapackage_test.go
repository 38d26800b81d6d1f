package dataset_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/keys"
)

func profile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("testdata/datapackage-2.0.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("profile.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("profile.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var linked = dataset.Stream{
	Name: "Case Files/2024", Group: "db", Volatile: []string{"etag"},
	Schema: &dataset.Schema{
		Fields: []dataset.Field{
			{Name: "id", Type: dataset.Integer, Required: true, Identity: true, Native: "bigint"},
			{Name: "parent", Type: dataset.Integer},
			{Name: "person", Type: dataset.String, Description: "who <b>it</b> is about"},
			{Name: "amount", Type: dataset.Number, Lexical: dataset.Text},
			{Name: "photo", Type: dataset.String, Lexical: dataset.Base64},
			{Name: "at", Type: dataset.Datetime}, {Name: "took", Type: dataset.Duration}, {Name: "doc", Type: dataset.Object}, {Name: "any", Type: dataset.AnyType}, {Name: "_odd name é", Type: dataset.Boolean},
		},
		PrimaryKey: []string{"id"},
		UniqueKeys: [][]string{{"person", "at"}},
		ForeignKeys: []dataset.ForeignKey{
			{Fields: []string{"parent"}, RefStream: "Case Files/2024", RefFields: []string{"id"}},
			{Fields: []string{"person"}, RefStream: "people", RefFields: []string{"nino"}},
			{Fields: []string{"person"}, RefStream: "elsewhere", RefFields: []string{"x"}},
		},
	},
}

var people = dataset.Stream{Name: "people", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "nino", Type: dataset.String}}}}

func TestDataPackagesFollowTheStandard(t *testing.T) {
	d, err := dataset.NewDataPackage("Case Files", []dataset.StreamFiles{
		{Stream: linked, Format: dataset.CSV, Paths: []string{"data/cases.csv"}, Note: json.RawMessage(`{"records":3}`)},
		{Stream: people, Format: dataset.JSONL, Paths: []string{"data/people-1.jsonl", "data/people-2.jsonl"}},
		{Stream: dataset.Stream{Name: "objects", Blobs: true}, Format: dataset.JSONL, Paths: []string{"objects.jsonl"}},
		{Stream: dataset.Stream{Name: "nothing"}, Format: dataset.JSONL},
	}, json.RawMessage(`{"run":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := dataset.EncodeJSON(d)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	s := profile(t)
	if err := s.Validate(doc); err != nil {
		t.Errorf("%s\n%v", text, err)
	}
	doc.(map[string]any)["resources"].([]any)[0].(map[string]any)["data"] = []any{}
	if s.Validate(doc) == nil {
		t.Error("the profile of the test accepts a resource with path and data")
	}

	var back dataset.DataPackage
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Resources[0].Sallyport.Stream; !reflect.DeepEqual(got, linked) {
		t.Errorf("stream came back as %+v", got)
	}
	csv, jsonl := back.Resources[0].Schema, dataset.NewTableSchema(linked.Name, linked.Schema, dataset.JSONL, map[string]string{"people": "p"})
	for name, c := range map[string][2]any{
		"package name":     {d.Name, "case-files"},
		"resource name":    {d.Resources[0].Name, "case-files-2024"},
		"title":            {d.Resources[0].Title, "Case Files/2024"},
		"own foreign key":  {csv.ForeignKeys[0].Reference, dataset.LinkReference{Fields: []string{"id"}}},
		"foreign key":      {csv.ForeignKeys[1].Reference, dataset.LinkReference{Resource: "people", Fields: []string{"nino"}}},
		"foreign keys":     {len(csv.ForeignKeys), 2},
		"number in CSV":    {csv.Fields[3].Type, dataset.Number},
		"number in JSONL":  {jsonl.Fields[3].Type, dataset.String},
		"NULL in CSV":      {csv.MissingValues, []string{`\N`}},
		"NULL in JSONL":    {jsonl.MissingValues, []string{}},
		"schema of no one": {back.Resources[2].Schema, (*dataset.TableSchema)(nil)},
		"no files":         {bytes.Contains(text, []byte(`"title":"nothing","data":[],`)), true},
		"unescaped HTML":   {bytes.Contains(text, []byte("<b>it</b>")), true},
	} {
		if !reflect.DeepEqual(c[0], c[1]) {
			t.Errorf("%s = %v; want %v", name, c[0], c[1])
		}
	}
}

func TestDataPackagesRefuseWhatTheStandardForbids(t *testing.T) {
	for name, files := range map[string][]dataset.StreamFiles{
		"CSV without a schema": {{Stream: dataset.Stream{Name: "a"}, Format: dataset.CSV, Paths: []string{"a.csv"}}},
		"CSV without a file":   {{Stream: people, Format: dataset.CSV}},
		"an unknown format":    {{Stream: people, Format: "xls", Paths: []string{"a.xls"}}},
		"one name twice":       {{Stream: people, Format: dataset.JSONL}, {Stream: people, Format: dataset.JSONL}},
		"an absolute path":     {{Stream: people, Format: dataset.JSONL, Paths: []string{"/a"}}},
		"a hidden path":        {{Stream: people, Format: dataset.JSONL, Paths: []string{".a"}}},
		"a home path":          {{Stream: people, Format: dataset.JSONL, Paths: []string{"~e"}}},
		"a parent path":        {{Stream: people, Format: dataset.JSONL, Paths: []string{"a/../b"}}},
		"an empty path":        {{Stream: people, Format: dataset.JSONL, Paths: []string{""}}},
		"a URL":                {{Stream: people, Format: dataset.JSONL, Paths: []string{"https://example.org/a"}}},
		"a backslash":          {{Stream: people, Format: dataset.JSONL, Paths: []string{`a\b`}}},
	} {
		if d, err := dataset.NewDataPackage("x", files, nil); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestSlugsAreDifferentAndPlain(t *testing.T) {
	names := append(keys.Awkward(), "", "a", "a-2", "A", "a ", "a\x00", "people", "People", "PEOPLE-2", strings.Repeat("é", 300), strings.Repeat("x", 300), strings.Repeat("x", 301))
	slugs := dataset.Slugs(names)
	taken := make(map[string]string)
	plain := regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,79}$`)
	for _, n := range names {
		s := slugs[n]
		if other, ok := taken[s]; ok && other != n {
			t.Errorf("%q and %q have one slug %q", n, other, s)
		}
		if taken[s] = n; !plain.MatchString(s) {
			t.Errorf("slug of %q is %q", n, s)
		}
	}
	if got := fmt.Sprint(dataset.Slugs([]string{"Case Files/2024 (old)", "case files 2024 old", "日本"})); got != "map[Case Files/2024 (old):case-files-2024-old case files 2024 old:case-files-2024-old-2 日本:stream]" {
		t.Error(got)
	}
}

func TestCSVWDescribesTheColumns(t *testing.T) {
	table, err := dataset.NewCSVWTable("cases.csv", linked.Schema)
	if err != nil {
		t.Fatal(err)
	}
	text, err := dataset.EncodeJSON(table)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"@context":"http://www.w3.org/ns/csvw","url":"cases.csv","dialect":{"encoding":"utf-8","lineTerminators":["\n"],"quoteChar":"\"","doubleQuote":true,"delimiter":",","header":true,"trim":false},` +
		`"tableSchema":{"columns":[{"name":"id","titles":"id","datatype":"integer","null":"\\N","required":true},{"name":"parent","titles":"parent","datatype":"integer","null":"\\N","required":false},` +
		`{"name":"person","titles":"person","datatype":"string","null":"\\N","required":false,"dc:description":"who <b>it</b> is about"},{"name":"amount","titles":"amount","datatype":"number","null":"\\N","required":false},` +
		`{"name":"photo","titles":"photo","datatype":"base64Binary","null":"\\N","required":false},{"name":"at","titles":"at","datatype":"string","null":"\\N","required":false},{"name":"took","titles":"took","datatype":"string","null":"\\N","required":false},` +
		`{"name":"doc","titles":"doc","datatype":"json","null":"\\N","required":false},{"name":"any","titles":"any","datatype":"json","null":"\\N","required":false},{"name":"%5Fodd%20name%20%C3%A9","titles":"_odd name é","datatype":"boolean","null":"\\N","required":false}],"primaryKey":["id"]}}`
	if string(text) != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	if _, err := dataset.NewCSVWTable("x.csv", &dataset.Schema{}); err == nil {
		t.Error("a table without columns was described")
	}
}

type embedded struct{ Promoted string }

func TestEncodeJSONRefusesTextThatIsNotUTF8(t *testing.T) {
	const bad = "a\xffb"
	for name, v := range map[string]any{
		"a string": bad, "a field": dataset.Field{Name: bad}, "a slice": []string{"x", bad}, "a map": map[string]int{bad: 1}, "a value": map[string]any{"x": []any{bad}},
		"a pointer": &dataset.Stream{Schema: &dataset.Schema{PrimaryKey: []string{bad}}}, "an embedded field": struct{ embedded }{embedded{bad}}, "a raw message": dataset.Stream{Attributes: json.RawMessage("\"" + bad + "\"")},
	} {
		if b, err := dataset.EncodeJSON(v); !errors.Is(err, dataset.ErrNotUTF8) {
			t.Errorf("%s became %s, %v", name, b, err)
		}
	}
	got, err := dataset.EncodeJSON(map[string]any{"a": "<\ufffd&>", "b": json.RawMessage(`[1.10,"\u0041"]`), "c": dataset.Hash{0xff}, "d": []byte{0xff}, "e": nil})
	if want := `{"a":"<` + "\ufffd" + `&>","b":[1.10,"\u0041"],"c":"ff` + strings.Repeat("0", 62) + `","d":"/w==","e":null}`; err != nil || string(got) != want {
		t.Errorf("EncodeJSON = %s, %v", got, err)
	}
	if _, err := dataset.EncodeJSON(func() {}); err == nil {
		t.Error("a function was encoded")
	}
}
