package singer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	taps "github.com/dwp/sallyport/fixtures/singer"
)

// TestMain makes a tap of the test binary when it is called as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "tap" {
		os.Exit(taps.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // or each tap sleeps a second under the race detector
	os.Exit(m.Run())
}

// tap returns options that run one of the fixtures' taps.
func tap(name string, config map[string]any) Options {
	return Options{Command: []string{os.Args[0], "tap", name}, Config: config, Env: []string{"GORACE"}, DiscoverTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second}
}

func open(t *testing.T, o Options) exporters.Exporter {
	t.Helper()
	x, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// read returns what a tap gives as text, one line a record, gap or error.
func read(t *testing.T, x exporters.Exporter, names ...string) []string {
	t.Helper()
	streams, err := x.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(names) > 0 {
		streams = slices.DeleteFunc(streams, func(s dataset.Stream) bool { return !slices.Contains(names, s.Name) })
	}
	var all []string
	for r, err := range x.Read(t.Context(), exporters.Query{Streams: streams}) {
		if err != nil {
			return append(all, "error "+err.Error())
		}
		line := r.Stream
		if r.Key != "" {
			line += " " + r.Key
		}
		if r.Ordinal > 0 {
			line += "/" + strconv.Itoa(r.Ordinal)
		}
		if r.Gap != nil {
			line += " gap " + string(r.Gap.Code) + " " + r.Gap.Detail
		} else {
			line += " " + string(r.Data)
		}
		if r.Schema != nil {
			var fields []string
			for _, f := range r.Schema.Fields {
				fields = append(fields, f.Name)
			}
			line += " schema " + strings.Join(fields, ",")
		}
		all = append(all, line)
	}
	return all
}

func TestBehavedTapKeepsTheLaw(t *testing.T) {
	t.Parallel()
	o := tap("behaved", map[string]any{"rows": 50})
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return Open(t.Context(), o) }, exportertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCatalogueBecomesStreams(t *testing.T) {
	t.Parallel()
	streams, err := open(t, tap("behaved", nil)).Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range streams {
		line := fmt.Sprintf("%s %s %v %v:", s.Name, s.Group, s.Keyless, s.Schema.PrimaryKey)
		for _, f := range s.Schema.Fields {
			line += fmt.Sprintf(" %s=%s%s", f.Name, f.Type, f.Lexical)
		}
		got = append(got, line)
	}
	want := []string{
		"main-log tap true []: line=string",
		"users tap false [id]: id=integer name=string balance=numbertext since=datetime",
		"wide tap false [id]: id=integer shape=any",
	}
	if !slices.Equal(got, want) {
		t.Errorf("streams are\n%s", strings.Join(got, "\n"))
	}
}

func TestOnlySelectedStreamsAreRead(t *testing.T) {
	t.Parallel()
	x := open(t, tap("behaved", map[string]any{"rows": 2}))
	want := []string{
		`users [0] {"id":0,"name":"user 0","balance":"0.10","since":"2024-01-01T00:00:00Z"}`,
		`users [1] {"id":1,"name":"user 1","balance":"1.10","since":"2024-01-01T00:00:00Z"}`,
	}
	if got := read(t, x, "users"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	got := read(t, x, "wide")
	if want := []string{`wide [1] {"id":1} schema id`, "wide gap not-captured the tap cannot read properties.shape"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want the unsupported column named", got)
	}
}

func TestLegacyTapNeedsProperties(t *testing.T) {
	t.Parallel()
	o := tap("behaved", map[string]any{"rows": 2, "legacy": true})
	if got := read(t, open(t, o), "users"); len(got) != 1 || !strings.Contains(got[0], "wants --properties") {
		t.Errorf("with --catalog it gives %q; want an error with a hint", got)
	}
	o.Properties = true
	if got := read(t, open(t, o), "users"); len(got) != 2 {
		t.Errorf("with --properties it gives %q", got)
	}
}

func TestMetricsThatCountMoreAreAGap(t *testing.T) {
	t.Parallel()
	got := read(t, open(t, tap("behaved", map[string]any{"rows": 1, "lose": 2})), "users")
	if len(got) != 2 || !strings.Contains(got[1], "gap possibly-truncated the tap's own metrics count 3 records, and 1 came") {
		t.Errorf("got %q", got)
	}
}

func TestBatchesAreRead(t *testing.T) {
	t.Parallel()
	x := open(t, tap("behaved", map[string]any{"rows": 3, "batch": true}))
	for range 2 {
		if got := read(t, x, "users"); len(got) != 3 || !strings.HasPrefix(got[2], `users [2] {"id":2,`) {
			t.Errorf("got %q", got)
		}
	}
	left, err := filepath.Glob(filepath.Join(x.(*view).dir, "*.gz"))
	if err != nil || len(left) > 0 {
		t.Errorf("files of batches are left: %q %v", left, err)
	}
}

// TestMessageStreams reads what the fixtures have for every pitfall.
func TestMessageStreams(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(taps.Streams, "streams/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d streams: %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			b, err := fs.ReadFile(taps.Streams, name)
			if err != nil {
				t.Fatal(err)
			}
			header, messages, _ := strings.Cut(string(b), "\n\n")
			var want []string
			exit := 0
			for line := range strings.Lines(header) {
				k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
				switch k {
				case "expect":
					want = append(want, v)
				case "exit":
					if exit, err = strconv.Atoi(v); err != nil {
						t.Fatal(err)
					}
				case "why":
				default:
					t.Fatalf("unknown header line %q", line)
				}
			}
			x := open(t, tap("replay", map[string]any{"messages": messages, "exit": exit}))
			got := read(t, x)
			if !slices.EqualFunc(got, want, func(g, w string) bool {
				if e, isError := strings.CutPrefix(w, "error "); isError {
					return strings.HasPrefix(g, "error ") && strings.Contains(g, e)
				}
				return g == w || strings.Contains(w, " gap ") && strings.HasPrefix(g, w)
			}) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestALongLineIsReadWhole: a record is much longer than what line readers like to hold.
func TestALongLineIsReadWhole(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("ü", 2<<20)
	x := open(t, tap("replay", map[string]any{"messages": `{"type":"SCHEMA","stream":"users","schema":{"properties":{"id":{"type":"integer"},"name":{"type":["null","string"]}}},"key_properties":["id"]}
{"type":"RECORD","stream":"users","record":{"id":1,"name":"` + text + `"}}
`}))
	if got := read(t, x, "users"); len(got) != 1 || got[0] != `users [1] {"id":1,"name":"`+text+`"}` {
		t.Errorf("%d records, the first of %d bytes", len(got), len(got[0]))
	}
}

func TestFactsNameWhatWasPassedOver(t *testing.T) {
	t.Parallel()
	x := open(t, tap("replay", map[string]any{"start_date": "2020-01-01", "messages": `{"type":"SCHEMA","stream":"users","schema":{},"key_properties":["id"]}
{"type":"SCHEMA","stream":"events","schema":{}}
{"type":"LOG"}
{"type":"RECORD","stream":"users","record":{"id":1}}
{"type":"RECORD","stream":"users","record":{"id":1}}
{"type":"STATE","value":{}}
`}))
	read(t, x)
	f := x.Facts()
	all := strings.Join(append(f.Notes, f.Filters...), "\n")
	for _, want := range []string{"1 STATE", "users repeated 1 records", "start_date"} {
		if !strings.Contains(all, want) {
			t.Errorf("facts do not say %q:\n%s", want, all)
		}
	}
	if len(f.Ignored) != 1 || f.Ignored[0].Count != 1 || !strings.Contains(f.Ignored[0].Reason, "LOG") {
		t.Errorf("ignored: %+v", f.Ignored)
	}
}

func TestStreamsThatNobodyAskedForAreCounted(t *testing.T) {
	t.Parallel()
	x := open(t, tap("replay", map[string]any{"messages": `{"type":"SCHEMA","stream":"events","schema":{}}
{"type":"RECORD","stream":"events","record":{"at":"x"}}
{"type":"SCHEMA","stream":"users","schema":{"properties":{"id":{"type":"integer"},"name":{"type":["null","string"]}}}}
{"type":"RECORD","stream":"users","record":{"id":1}}
{"type":"RECORD","stream":"events","record":{"at":"y"}}
`}))
	if got := read(t, x, "users"); !slices.Equal(got, []string{`users [1] {"id":1}`}) {
		t.Errorf("got %q", got)
	}
	want := []dataset.Ignored{{Stream: "public-events", Reason: "RECORD message of a stream that was not selected", Count: 2}}
	if got := x.Facts().Ignored; !slices.Equal(got, want) {
		t.Errorf("ignored %+v; want %+v", got, want)
	}
}

func TestHostileTapNeverPassesForComplete(t *testing.T) {
	t.Parallel()
	for mischief, want := range map[string]string{
		"exit":                   "exit status 1: CRITICAL refused password=[redacted]",
		"hang":                   errIdle.Error(),
		"hang with a child":      errIdle.Error(),
		"close and stay":         errIdle.Error(),
		"endless line":           "too long",
		"ruin the configuration": "",
	} {
		t.Run(mischief, func(t *testing.T) {
			t.Parallel()
			o := tap("hostile", map[string]any{"mischief": mischief, "password": "hunter22"})
			o.IdleTimeout, o.MaxLine = 2*time.Second, 4<<20
			x := open(t, o)
			got := read(t, x)
			if want == "" {
				if err := x.Close(); err == nil || !strings.Contains(err.Error(), "no JSON object") {
					t.Errorf("Close = %v", err)
				}
				return
			}
			last := got[len(got)-1]
			if !strings.HasPrefix(last, "error ") || !strings.Contains(last, want) || strings.Contains(last, "hunter22") {
				t.Errorf("got %q; want an error with %q", got, want)
			}
		})
	}
}

func TestDiscoveryThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	for mischief, want := range map[string]string{
		"hang in discovery": errTimeout.Error(),
		"no catalogue":      "catalogue",
		"nothing":           "",
	} {
		o := tap("hostile", map[string]any{"mischief": mischief})
		if want == errTimeout.Error() {
			o.DiscoverTimeout = 300 * time.Millisecond
		}
		x, err := Open(t.Context(), o)
		if want == "" {
			if err != nil {
				t.Fatal(err)
			}
			x.Close()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: Open = %v; want %q", mischief, err, want)
		}
	}
	if _, err := Open(t.Context(), Options{Command: []string{"no-such-tap-anywhere"}}); err == nil {
		t.Error("a tap that does not exist was opened")
	}
}

func TestTimeoutEndsATapThatKeepsTalking(t *testing.T) {
	t.Parallel()
	o := tap("hostile", map[string]any{"mischief": "hang"})
	o.Timeout = 2 * time.Second
	if got := read(t, open(t, o)); !strings.Contains(got[len(got)-1], errTimeout.Error()) {
		t.Errorf("got %q", got)
	}
}

func TestFloodOfLogsIsBoundedAndEscaped(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := tap("hostile", map[string]any{"mischief": "flood the log"})
	o.Log = &log
	x := open(t, o)
	if got := read(t, x); len(got) != 1 {
		t.Errorf("got %q", got)
	}
	x.Close()
	if log.Len() == 0 || log.Len() > 2*maxLogged {
		t.Errorf("%d bytes of log were passed on", log.Len())
	}
	if bytes.ContainsRune(log.Bytes(), 0x1b) {
		t.Error("an escape sequence came through")
	}
	if !strings.Contains(log.String(), "left out") {
		t.Error("the log does not say that it was cut")
	}
}

func TestEnvironmentIsCleaned(t *testing.T) {
	t.Setenv("SALLYPORT_CANARY", "canary-value")
	t.Setenv("SALLYPORT_WANTED", "wanted-value")
	var log bytes.Buffer
	o := tap("hostile", map[string]any{"mischief": "show the environment", "password": "hunter22"})
	o.Log, o.Env = &log, []string{"SALLYPORT_WANTED"}
	x := open(t, o)
	read(t, x)
	x.Close()
	s := log.String()
	if strings.Contains(s, "canary-value") || !strings.Contains(s, "wanted-value") || !strings.Contains(s, "--config") {
		t.Errorf("the tap saw %s", s)
	}
	if strings.Contains(s, "hunter22") || strings.Contains(s, "[redacted]") {
		t.Errorf("a secret was among the arguments or in the environment: %s", s)
	}
}

// TestNothingATapStartedOutlivesIt looks for the child that the tap leaves behind.
func TestNothingATapStartedOutlivesIt(t *testing.T) {
	t.Parallel()
	for _, mischief := range []string{"hang with a child", "leave a child"} {
		var log bytes.Buffer
		o := tap("hostile", map[string]any{"mischief": mischief})
		o.Log, o.IdleTimeout = &log, 2*time.Second
		x := open(t, o)
		read(t, x)
		x.Close()
		m := regexp.MustCompile(`child (\d+)`).FindStringSubmatch(log.String())
		if m == nil {
			t.Fatalf("%s: no child in %q", mischief, log.String())
		}
		pid, _ := strconv.Atoi(m[1])
		gone := false
		for range 100 {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if gone = errors.Is(err, fs.ErrNotExist) || strings.Contains(string(stat), ") Z ") || syscall.Kill(pid, 0) != nil; gone {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if !gone {
			t.Errorf("%s: process %d is still there", mischief, pid)
		}
	}
}

func TestBrokenOffReadEndsTheTap(t *testing.T) {
	t.Parallel()
	x := open(t, tap("hostile", map[string]any{"mischief": "hang"}))
	streams, err := x.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, err := range x.Read(t.Context(), exporters.Query{Streams: streams}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("breaking off took %v", d)
	}
}

func TestCancelledContextEndsTheTap(t *testing.T) {
	t.Parallel()
	x := open(t, tap("hostile", map[string]any{"mischief": "hang"}))
	streams, err := x.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range x.Read(ctx, exporters.Query{Streams: streams}) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the sequence ended with %v", last)
	}
}

func TestRotatedTokensAreKept(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	o := tap("behaved", map[string]any{"rows": 1, "rotate": true, "refresh_token": "first"})
	o.State = state
	x := open(t, o) // discovery rotates once
	read(t, x, "users")
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(state, rotationName)
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("kept: %v %v", info, err)
	}
	y := open(t, o)
	if got := y.(*view).config.current["refresh_token"]; got != "first+++" {
		t.Errorf("after two runs and a third discovery the token is %v", got)
	}
	y.Close()
	b, err := os.ReadFile(kept)
	if err != nil || strings.Contains(string(b), "rotate") {
		t.Errorf("more than what changed is kept: %s %v", b, err)
	}

	o.Config = map[string]any{"rows": 1, "refresh_token": "edited by the operator"}
	z := open(t, o)
	if got := z.(*view).config.current["refresh_token"]; got != "edited by the operator" {
		t.Errorf("the operator's edit lost against %v", got)
	}
}

func TestRotatedTokensThatCannotBeKeptAreAnError(t *testing.T) {
	t.Parallel()
	x := open(t, tap("behaved", map[string]any{"rotate": true, "refresh_token": "first"}))
	if err := x.Close(); err == nil || !strings.Contains(err.Error(), "no state directory") {
		t.Errorf("Close = %v", err)
	}
}

func TestPrivateDirectoryIsRemoved(t *testing.T) {
	t.Parallel()
	x := open(t, tap("behaved", map[string]any{"rows": 1}))
	dir := x.(*view).dir
	for _, name := range []string{dir, filepath.Join(dir, "config.json")} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	x.Close()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestSecretsComeByReference(t *testing.T) {
	t.Parallel()
	c := exporters.Config{
		Options: map[string]any{
			"command": []string{os.Args[0], "tap", "hostile"},
			"env":     []string{"GORACE"},
			"config":  map[string]any{"mischief": "exit"},
			"secrets": map[string]any{"password": "env:P"},
		},
		Secret: func(_ context.Context, ref string) (string, error) { return "resolved " + ref, nil },
	}
	x, err := Kind.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	got := read(t, x)
	if last := got[len(got)-1]; !strings.Contains(last, "password=[redacted]") {
		t.Errorf("got %q", last)
	}
	c.Options["config"] = map[string]any{"password": "twice"}
	if _, err := Kind.Open(t.Context(), c); err == nil {
		t.Error("a setting given twice was accepted")
	}
}

func TestTypesOfColumns(t *testing.T) {
	t.Parallel()
	for schema, want := range map[string]string{
		`{"type":["null","string"]}`:                                         "string",
		`{"type":"string","format":"date-time"}`:                             "datetime",
		`{"type":"string","format":"x-singer.decimal"}`:                      "number text",
		`{"type":["null","number"],"multipleOf":1e-38}`:                      "number",
		`{"type":["null","string","integer"]}`:                               "any",
		`{"anyOf":[{"type":"null"},{"type":"integer"}]}`:                     "integer",
		`{"anyOf":[{"type":"string","format":"date-time"},{"type":"null"}]}`: "any",
		`{"anyOf":[{"type":"string"},{"type":"integer"}]}`:                   "any",
		`{"$ref":"#/definitions/x"}`:                                         "any",
		`{}`:                                                                 "any",
		`{"type":7}`:                                                         "any",
		`{"type":"array","items":{"type":"string"}}`:                         "array",
		`{"type":["object","null"]}`:                                         "object",
		`{"type":"boolean"}`:                                                 "boolean",
	} {
		s, err := convertSchema([]byte(`{"properties":{"f":`+schema+`}}`), nil)
		if err != nil {
			t.Errorf("%s: %v", schema, err)
			continue
		}
		if f := s.Fields[0]; strings.TrimSpace(string(f.Type)+" "+string(f.Lexical)) != want {
			t.Errorf("%s is %s %s; want %s", schema, f.Type, f.Lexical, want)
		}
	}
}

func TestCatalogueMustNameStreamsOnce(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`{}`, `[]`, `{"streams":{}}`, `{"streams":[{}]}`, `{"streams":[1]}`,
		`{"streams":[{"tap_stream_id":"a"},{"tap_stream_id":"a"}]}`, `{"streams":[{"tap_stream_id":"a","schema":{"properties":[]}}]}`,
	} {
		if _, err := parseCatalog([]byte(raw)); err == nil {
			t.Errorf("catalogue %s was accepted", raw)
		}
	}
}
