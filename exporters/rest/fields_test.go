package rest

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// refusedFields cannot run, whatever they say. Lint names them.
var refusedFields = []string{"DatetimeBasedCursor.clamping", "DeclarativeStream.file_uploader"}

// TestEveryFieldIsInAManifestOfTheFixtures: what the runtime claims, a manifest shows, and
// what it refuses is refused.
func TestEveryFieldIsInAManifestOfTheFixtures(t *testing.T) {
	t.Parallel()
	cat := loadCatalogue()
	used := map[string]bool{}
	var note func(v jinja.Value)
	note = func(v jinja.Value) {
		switch v := v.(type) {
		case *jinja.Dict:
			typ := v.Text("type")
			if typ == "ApiKey" {
				typ = "SessionTokenRequestApiKeyAuthenticator"
			}
			for i := range v.Len() {
				k, x := v.At(i)
				used[typ+"."+jinja.Str(k)] = true
				note(x)
			}
		case *jinja.List:
			for _, e := range v.Items {
				note(e)
			}
		}
	}
	files, err := fs.Glob(fixtures.Manifests, "manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	for _, f := range files {
		b, err := fs.ReadFile(fixtures.Manifests, f)
		if err != nil {
			t.Fatal(err)
		}
		d, err := load(cat, b)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		note(d)
	}
	for _, typ := range slices.Sorted(maps.Keys(cat.components)) {
		for _, field := range slices.Sorted(maps.Keys(cat.components[typ])) {
			name := typ + "." + field
			if used[name] == slices.Contains(refusedFields, name) {
				t.Errorf("%s: in a manifest: %v", name, used[name])
			}
		}
	}
	for field, src := range map[string]string{
		"clamping":      strings.Replace(minimal, "name: s", "name: s\n    incremental_sync: {type: DatetimeBasedCursor, cursor_field: x, datetime_format: '%Y', start_datetime: '2020', clamping: {target: DAY}}", 1),
		"file_uploader": strings.Replace(minimal, "name: s", "name: s\n    file_uploader: {type: FileUploader}", 1),
	} {
		if r, err := Lint([]byte(src)); err != nil || r.Runs || r.Problems[0].Field != field {
			t.Errorf("%s: %+v, %v", field, r.Problems, err)
		}
	}
}

func TestFieldsDoWhatTheySay(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(23)
	var issued string
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/issue":
			issued = r.URL.RawQuery + " " + r.Header.Get("X-Test")
			fmt.Fprintf(w, `{"at":%q,"until":"2027-01-01"}`, fixtures.Canary)
		default:
			return false
		}
		return true
	}
	tr := start(t, "fields.yaml", desk, nil, map[string]any{"old": "gone", "key": encryptedKeys["AES-256, SHA-256"], "passphrase": keyPassphrase})
	all := truth(desk)
	for name, want := range map[string]string{ // what the first record has
		"dated":          `"query":"between=1767225600-1767484800"`,
		"counted":        `"path":"/echo"`,
		"nested_option":  `"body":"{\"page\":{\"size\":5,\"kind\":\"open\"}}"`,
		"form":           `"body":"a=1\u0026b=x+y"`,
		"ungrouped":      `"path":"/echo/a-a-b"`,
		"csv":            `{"id":"1"`,
		"signed":         `"query":"jwt=eyJ`,
		"sealed":         `"query":"jwt=eyJ`,
		"delegated":      `"method":"GET"`,
		"made_special":   `"path":"/echo/special"`,
		"made_standard":  `"path":"/echo"`,
		"north_special":  `"path":"/echo/0/special"`,
		"south_special":  `"path":"/echo/1/special"`,
		"south_standard": `"path":"/echo/1/standard"`,
	} {
		if r := tr.read(t, name); r.err != nil || len(r.data) == 0 || !strings.Contains(r.data[0], want) {
			t.Errorf("%s: %v %v %s; want %s", name, r.err, r.gaps, r.data[:min(1, len(r.data))], want)
		}
	}
	for name, want := range map[string]int{"items": 23, "described": 23, "changed": 23, "tokens": 10, "given": 10, "sessions": 10, "report_in_pages": 23, "report_by_part": 46} {
		if r := tr.read(t, name); r.err != nil || len(r.data) != want {
			t.Errorf("%s: %v %v, %d records; want %d", name, r.err, r.gaps, len(r.data), want)
		}
	}
	if r := tr.read(t, "items"); !slices.Equal(r.data, all) {
		t.Errorf("items: %d records, not those that were sent", len(r.data))
	}
	for _, want := range []string{"how=urn%3Ajwt", "again=r", "extra=x", "assertion=", " y"} {
		if !strings.Contains(issued, want) {
			t.Errorf("the token was asked for with %q; want %q in it", issued, want)
		}
	}
	if tr.view.config.Has("old") {
		t.Error("the configuration has what its rules remove")
	}
	streams, err := tr.view.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		if s.Name != "described" {
			continue
		}
		var fields []string
		for _, f := range s.Schema.Fields {
			fields = append(fields, fmt.Sprintf("%s %s", f.Name, f.Type))
		}
		if want := []string{"id array", "subject string", "extra boolean"}; !slices.Equal(fields, want) {
			t.Errorf("described has %q; want %q", fields, want)
		}
	}
}

// TestReportsAreAbortedOrSkippedAsTheManifestSays: one is never done, one the service does
// not make.
func TestReportsAreAbortedOrSkippedAsTheManifestSays(t *testing.T) {
	t.Parallel()
	for state, wanted := range map[string]string{"queued": "was not ready", "skipped": ""} {
		desk := fixtures.NewDesk(3)
		desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet {
				return false
			}
			fmt.Fprintf(w, `{"state":%q}`, state)
			return true
		}
		tr := start(t, "fields.yaml", desk, map[string]any{"concurrency": int64(1)}, nil)
		r := tr.read(t, "report_in_pages")
		if wanted == "" && (r.err != nil || len(r.gaps) != 1) || wanted != "" && (r.err == nil || !strings.Contains(r.err.Error(), wanted)) {
			t.Errorf("%s: %v %v", state, r.err, r.gaps)
		}
		if aborted := slices.Contains(desk.Requests(), "POST /exports/1/abort"); aborted != (state == "queued") {
			t.Errorf("%s: aborted is %v", state, aborted)
		}
	}
}

func TestAManifestWaitsUntilTheTimeInAHeader(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "fields.yaml", desk, nil, nil)
	var refused atomic.Bool
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/all" || refused.Swap(true) {
			return false
		}
		w.Header().Set("X-Until", fmt.Sprintf("%d", tr.clock.now().Add(time.Minute).Unix()))
		w.WriteHeader(http.StatusBadRequest)
		return true
	}
	if r := tr.read(t, "patient"); r.err != nil || len(r.data) != 3 || len(tr.clock.waited) != 1 {
		t.Errorf("patient: %v, %d records after waits of %v", r.err, len(r.data), tr.clock.waited)
	}
}
