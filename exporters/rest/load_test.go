package rest

import (
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

func loaded(t *testing.T, src string) *jinja.Dict {
	t.Helper()
	d, err := load(loadCatalogue(), []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func at(t *testing.T, d *jinja.Dict, path string) jinja.Value {
	t.Helper()
	v, ok := walk(d, splitPath(path))
	if !ok {
		t.Fatalf("no %s in %s", path, jinja.Repr(d))
	}
	return v
}

func TestReferencesAreResolvedAsTheFrameworkDoes(t *testing.T) {
	t.Parallel()
	d := loaded(t, `
definitions:
  base: {type: HttpRequester, url_base: a, http_method: GET}
  "with/slash": {v: 1}
  list: [{x: 10}, {x: 11}]
  scalar: hello
streams:
  - a: {$ref: "#/definitions/base", http_method: POST}
    b: "#/definitions/scalar"
    c: ["#/definitions/scalar", plain]
    d: "#/definitions/with/slash"
    e: "#/definitions/list/1/x"
    f: {$ref: "#/definitions/scalar", ignored: 1}
    config_overrides: "#/definitions/scalar"
`)
	for path, want := range map[string]string{
		"streams/0/a/http_method": "'POST'", "streams/0/a/url_base": "'a'", "streams/0/b": "'hello'", "streams/0/c": "['hello', 'plain']",
		"streams/0/d": "{'v': 1}", "streams/0/e": "11", "streams/0/f": "'hello'", "streams/0/config_overrides": "'#/definitions/scalar'",
	} {
		if got := jinja.Repr(at(t, d, path)); got != want {
			t.Errorf("%s = %s, want %s", path, got, want)
		}
	}
	for _, bad := range []string{
		"a: {$ref: '#/a'}", "a: '#/b'\nb: '#/a'", "a: '#/nothing'", "a: {x: 1, x: 2}", "- a", "a: 1\n---\nb: 2", "{", "a: !!binary [",
		"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]",
	} {
		if d, err := load(loadCatalogue(), []byte(bad)); err == nil {
			t.Errorf("%q loads as %s", cut(bad, 60), cut(jinja.Repr(d), 100))
		}
	}
}

func TestParametersAndTypesAreHandedDown(t *testing.T) {
	t.Parallel()
	d := loaded(t, `
streams:
  - type: DeclarativeStream
    $parameters: {name: tickets, path: /t, page_size: 5, retriever: no}
    retriever:
      requester: {path: "", url_base: b, $parameters: {path: /own}}
      record_selector: {extractor: {field_path: []}}
      paginator: {type: DefaultPaginator, pagination_strategy: {type: PageIncrement, page_size: 0}}
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {name: {type: object}}}}
    transformations: [{type: AddFields, fields: [{path: [a], value: b}]}]
`)
	for path, want := range map[string]string{
		"streams/0/name":                                              "'tickets'",
		"streams/0/retriever/type":                                    "'SimpleRetriever'",
		"streams/0/retriever/requester/type":                          "'HttpRequester'",
		"streams/0/retriever/requester/path":                          "'/own'",
		"streams/0/retriever/paginator/pagination_strategy/page_size": "5",
		"streams/0/retriever/record_selector/extractor/type":          "'DpathExtractor'",
		"streams/0/retriever/record_selector/$parameters/name":        "'tickets'",
		"streams/0/schema_loader/schema":                              "{'type': 'object', 'properties': {'name': {'type': 'object'}}}",
		"streams/0/transformations/0/fields/0/type":                   "'AddedFieldDefinition'",
	} {
		if got := jinja.Repr(at(t, d, path)); got != want {
			t.Errorf("%s = %s, want %s", path, got, want)
		}
	}
}

func TestYAMLIsReadAsPyYAMLReadsIt(t *testing.T) {
	t.Parallel()
	d, err := parseYAML([]byte("a: [yes, No, on, 'yes', 0123, 0o17, 1:30, 1_000, 0x1F, 1.5, 1e5, 1.0e+5, ~, null, 2020-01-01, 0b11, '0123', 08, .5, -1, +2]\n<<: {m: 1, a: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := d.Get("a")
	want := "[True, False, True, 'yes', 83, '0o17', 90, 1000, 31, 1.5, '1e5', 100000.0, None, None, '2020-01-01', 3, '0123', '08', 0.5, -1, 2]"
	if got := jinja.Repr(a); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if m, _ := d.Get("m"); m != int64(1) {
		t.Errorf("merge key: %v", m)
	}
}

const minimal = `
check: {stream_names: [s]}
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      requester: {type: HttpRequester, url: "https://api.example.com"}
      record_selector: {extractor: {field_path: []}}
`

func TestWhatCannotRunIsNamed(t *testing.T) {
	t.Parallel()
	if r, err := Lint([]byte(minimal)); err != nil || !r.Runs || len(r.Streams) != 1 {
		t.Fatalf("the minimal manifest: %+v, %v", r, err)
	}
	for _, c := range []struct{ change, to, component, field, message string }{
		{"HttpRequester, url", "CustomRequester, class_name: source_x.components.Y, url", "CustomRequester", "class_name", "source_x.components.Y"},
		{"type: HttpRequester", "type: NoSuchRequester", "NoSuchRequester", "", "no component"},
		{`"https://api.example.com"`, `"{{ config['x'] | nosuch }}"`, "HttpRequester", "url", `filter "nosuch" is not supported`},
		{`"https://api.example.com"`, `"{{ os.environ }}"`, "HttpRequester", "url", "'os' is not available"},
		{`"https://api.example.com"`, `"{{ stream_state['x'] }}"`, "HttpRequester", "url", "stream_state"},
		{`"https://api.example.com"`, `"{{ config["`, "HttpRequester", "url", "TemplateSyntaxError"},
		{`"https://api.example.com"}`, `"https://a.example", http_method: PUT}`, "HttpRequester", "http_method", "none of GET, POST"},
		{`url: "https://api.example.com"`, `path: x`, "HttpRequester", "url", "is required"},
		{"{extractor: {field_path: []}}", "{extractor: {}}", "DpathExtractor", "field_path", "is required"},
		{"{extractor: {field_path: []}}", "{extractor: {field_path: []}, record_filter: {condition: \"{{ record.x | regex_search('(?<=a)b') }}\"}}", "RecordFilter", "condition", "not supported"},
		{"name: s", "name: s\n    incremental_sync: {type: DatetimeBasedCursor, cursor_field: x, datetime_format: '%Y', start_datetime: '2020', step: P1D}", "DatetimeBasedCursor", "step", "cursor_granularity"},
		{"name: s", "name: ''", "DeclarativeStream", "name", "is required"},
		{`"https://api.example.com"}`, `"https://a.example", authenticator: {type: JwtAuthenticator, algorithm: ES256K, secret_key: x}}`, "JwtAuthenticator", "algorithm", "ES256K"},
	} {
		src := strings.Replace(minimal, c.change, c.to, 1)
		r, err := Lint([]byte(src))
		if err != nil || r.Runs {
			t.Errorf("%s: %+v, %v", c.to, r, err)
			continue
		}
		p := r.Problems[0]
		if p.Component != c.component || p.Field != c.field || !strings.Contains(p.Message, c.message) || !strings.HasPrefix(p.Path, "manifest.streams[0]") {
			t.Errorf("%s: %+v", c.to, p)
		}
		if err := r.Write(&strings.Builder{}); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigurationsAreCheckedAndNeverQuoted(t *testing.T) {
	t.Parallel()
	spec := loaded(t, `
type: object
required: [token, site]
properties:
  token: {type: string, airbyte_secret: true, minLength: 20}
  site: {type: string, pattern: "^[a-z]+$"}
  page: {type: integer, default: 50}
  nested: {type: object, properties: {a: {type: string, default: deep}}}
`)
	config := jinja.NewDict("token", "short-secret", "site", "desk", "nested", new(jinja.Dict))
	fillDefaults(spec, config)
	if got := jinja.Repr(config); got != "{'token': 'short-secret', 'site': 'desk', 'nested': {'a': 'deep'}, 'page': 50}" {
		t.Errorf("defaults: %s", got)
	}
	err := validate(spec, config)
	if err == nil || !strings.Contains(err.Error(), "/token (minLength)") || strings.Contains(err.Error(), "short-secret") {
		t.Errorf("validate: %v", err)
	}
	config.Set("token", "a-secret-of-good-length")
	if err := validate(spec, config); err != nil {
		t.Errorf("validate: %v", err)
	}
	config.Delete("site")
	if err := validate(spec, config); err == nil || !strings.Contains(err.Error(), "required") {
		t.Errorf("validate: %v", err)
	}
}

func TestDatesAreCutIntoSlicesByCalendarSteps(t *testing.T) {
	t.Parallel()
	b := newBuilder(loadCatalogue())
	src := loaded(t, `
type: DatetimeBasedCursor
cursor_field: x
datetime_format: "%Y-%m-%d"
start_datetime: "2026-01-31"
end_datetime: "2026-04-15"
step: P1M
cursor_granularity: P1D
`)
	c := b.node(src, "c").cursor()
	v := &view{env: &jinja.Env{Now: time.Now}, config: new(jinja.Dict)}
	var got []string
	err := c.intervals(v, part{}, func(p part) error {
		got = append(got, jinja.Str(valueOf(p.interval, "start_time"))+".."+jinja.Str(valueOf(p.interval, "end_time")))
		return nil
	})
	want := "2026-01-31..2026-02-27 2026-02-28..2026-03-27 2026-03-28..2026-04-15"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v; want %s", got, err, want)
	}
}
