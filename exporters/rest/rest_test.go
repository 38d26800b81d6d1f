package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// clock is a time that passes only when somebody sleeps.
type clock struct {
	mu     sync.Mutex
	t      time.Time
	waited []time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	c.waited = append(c.waited, d)
	return ctx.Err()
}

// trial is one service under test.
type trial struct {
	desk  *fixtures.Desk
	clock *clock
	view  *view
	dir   string
}

// start opens a manifest of the fixtures against a desk. options may be nil.
func start(t *testing.T, name string, desk *fixtures.Desk, options, config map[string]any) *trial {
	t.Helper()
	data, err := fs.ReadFile(fixtures.Manifests, "manifests/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, data, desk, options, config)
}

func startWith(t *testing.T, manifest []byte, desk *fixtures.Desk, options, config map[string]any) *trial {
	t.Helper()
	base := desk.Start()
	t.Cleanup(desk.Close)
	tr := &trial{desk: desk, clock: &clock{t: fixtures.Epoch.AddDate(0, 1, 0)}, dir: t.TempDir()}
	path := filepath.Join(tr.dir, "manifest.yaml")
	if err := os.WriteFile(path, manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	full := map[string]any{"base": base, "token": "env:TOKEN"}
	for k, v := range config {
		full[k] = v
	}
	o := map[string]any{"manifest": path, "config": full, "timeout": 2 * time.Second}
	for k, v := range options {
		o[k] = v
	}
	v, err := open(t.Context(), exporters.Config{Service: "desk", Options: o, State: tr.dir,
		Secret: func(context.Context, string) (string, error) { return fixtures.Canary, nil }}, tr.clock.now, tr.clock.sleep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	tr.view = v
	return tr
}

// result is what reading a stream brought.
type result struct {
	keys, data []string
	gaps       []dataset.Gap
	files      map[string][]byte
	err        error
}

func (tr *trial) read(t *testing.T, name string) result {
	t.Helper()
	return tr.readCtx(t.Context(), t, name)
}

func (tr *trial) readCtx(ctx context.Context, t *testing.T, name string) result {
	t.Helper()
	all, err := tr.view.Streams(ctx)
	if err != nil {
		return result{err: err}
	}
	var q exporters.Query
	for _, s := range all {
		if s.Name == name || s.Group == name {
			q.Streams = append(q.Streams, s)
		}
	}
	if q.Streams == nil {
		t.Fatalf("there is no stream %q", name)
	}
	r := result{files: map[string][]byte{}}
	ids := map[string]bool{}
	for rec, err := range tr.view.Read(ctx, q) {
		id := fmt.Sprintf("%q %q %d", rec.Stream, rec.Key, rec.Ordinal)
		if err == nil && ids[id] {
			t.Errorf("two records are %s", id)
		}
		ids[id] = true
		switch {
		case err != nil:
			r.err = err
		case rec.Gap != nil:
			r.gaps = append(r.gaps, *rec.Gap)
		case rec.Blob != nil:
			b, err := readBlob(ctx, rec.Blob)
			if gap := (*dataset.Gap)(nil); errors.As(err, &gap) {
				r.gaps = append(r.gaps, *gap)
				continue
			} else if err != nil {
				t.Errorf("read %s: %v", rec.Key, err)
			}
			r.files[rec.Key] = b
		default:
			r.keys = append(r.keys, rec.Key)
			r.data = append(r.data, string(rec.Data))
		}
	}
	return r
}

// readBlob reads in segments, as an archive does.
func readBlob(ctx context.Context, b *dataset.Blob) ([]byte, error) {
	var out []byte
	for {
		r, err := b.Open(ctx, int64(len(out)), 64)
		if err != nil {
			return out, err
		}
		part, err := io.ReadAll(r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		out = append(out, part...)
		if err != nil || len(part) < 64 || int64(len(out)) == b.Size {
			return out, err
		}
	}
}

// complete reports whether nothing says that something is missing.
func (r result) complete(v *view) bool {
	return r.err == nil && len(r.gaps) == 0 && len(v.Facts().Ignored) == 0
}

// truth is what an export of the desk's tickets has to hold.
func truth(d *fixtures.Desk) []string {
	var out []string
	for _, t := range d.Tickets() {
		out = append(out, t.JSON)
	}
	return out
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func TestEveryWayOfPagingBringsEveryRecordAsItWasSent(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 9, 10, 11, 30, 73} {
		tr := start(t, "tickets.yaml", fixtures.NewDesk(n), map[string]any{"counts": map[string]any{"offsets": "meta/total"}}, nil)
		for _, s := range []string{"pages", "offsets", "cursors", "links", "nexts", "alls"} {
			r := tr.read(t, s)
			if r.err != nil || len(r.gaps) > 0 && !(n%10 == 0 && r.gaps[0].Code == dataset.PossiblyCut) {
				t.Fatalf("%s of %d: %v %v", s, n, r.err, r.gaps)
			}
			if !slices.Equal(r.data, truth(tr.desk)) {
				t.Errorf("%s of %d: %d records, not those that were sent", s, n, len(r.data))
			}
			if n > 0 && r.keys[0] != "[1]" {
				t.Errorf("%s: key %s", s, r.keys[0])
			}
		}
	}
}

func TestSlicesAndPartitions(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(60)
	tr := start(t, "slices.yaml", desk, nil, nil)

	r := tr.read(t, "windows")
	if r.err != nil || len(r.gaps) > 0 || !slices.Equal(r.data, truth(desk)) {
		t.Errorf("windows: %v %v, %d records", r.err, r.gaps, len(r.data))
	}
	wantQuery := "GET /updated?since=2026-01-01T00%3A00%3A00Z&until=2026-01-01T23%3A59%3A59Z"
	got := slices.Sorted(slices.Values(desk.Requests())) // two slices are read at once
	if len(got) != 4 || got[0] != wantQuery || !strings.HasSuffix(got[3], "until=2026-01-05T00%3A00%3A00Z") {
		t.Errorf("windows asked %q", got)
	}

	r = tr.read(t, "comments")
	want := 0
	for _, tk := range desk.Tickets() {
		want += len(desk.Comments(tk.ID))
	}
	if r.err != nil || len(r.gaps) > 0 || len(r.data) != want {
		t.Fatalf("comments: %v %v, %d of %d", r.err, r.gaps, len(r.data), want)
	}
	if r.keys[0] != `[10,{"ticket":1}]` || r.data[0] != `{"id":10,"body":"comment 0","_partition":{"ticket":1}}` {
		t.Errorf("comment %s %s", r.keys[0], r.data[0])
	}

	r = tr.read(t, "echoes")
	if r.err != nil || len(r.data) != 4 || !strings.Contains(strings.Join(r.data, ""), `"path":"/echo/b/2","query":"kind=b"`) {
		t.Errorf("echoes: %v %v", r.err, r.data)
	}
	r = tr.read(t, "groups")
	if r.err != nil || len(r.data) != 2 || !strings.Contains(r.data[0], "/echo/1-2") || !strings.Contains(r.data[1], "/echo/3") {
		t.Errorf("groups: %v %v", r.err, r.data)
	}
	r = tr.read(t, "counter")
	if r.err != nil || len(r.data) != 1 || !strings.Contains(r.data[0], "from=5") {
		t.Errorf("counter: %v %v", r.err, r.data)
	}
	if r = tr.read(t, "delegated"); r.err != nil || len(r.data) != 60 {
		t.Errorf("delegated: %v, %d", r.err, len(r.data))
	}
	facts := strings.Join(tr.view.Facts().Filters, "\n")
	for _, want := range []string{"stream windows: only records whose updated_at is from 2026-01-01T00:00:00Z to 2026-01-05", "stream extra: left out by a condition"} {
		if !strings.Contains(facts, want) {
			t.Errorf("the filters do not say %q:\n%s", want, facts)
		}
	}
}

func TestEveryFormatAndBody(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(7)
	tr := start(t, "formats.yaml", desk, nil, map[string]any{"lists": []any{map[string]any{"name": "x", "path": "tickets"}}})
	first := map[string]string{
		"csv":       `{"id":"1","subject":"Ticket \"1\"","note":"two\r\nlines; NA"}`,
		"gzip":      `{"id":"1","subject":"Ticket \"1\"","note":"two\r\nlines; NA"}`,
		"lines":     `{"record":"ticket 1"}`,
		"xml":       `{"@id":"1","subject":"Ticket & 1"}`,
		"jsonl":     truth(desk)[0],
		"zip":       truth(desk)[0],
		"items":     truth(desk)[0],
		"described": truth(desk)[0],
	}
	for name, want := range first {
		r := tr.read(t, name)
		if r.err != nil || len(r.gaps) > 0 || len(r.data) != 7 || r.data[0] != want {
			t.Errorf("%s: %v %v %d records, first %s", name, r.err, r.gaps, len(r.data), r.data[:min(1, len(r.data))])
		}
	}
	for name, want := range map[string]string{
		"json_body":  `"body":"{\"n\":2,\"nested\":{\"s\":\"5\"}}","id":1,"method":"POST","path":"/echo","query":"n=007\u0026list=a\u0026list=b\u0026none=None","type":"application/json","x":"2"`,
		"form_body":  `"body":"a+b=c%26d"`,
		"text_body":  `"body":"hello 1"`,
		"graph_body": `"body":"{\"query\":\"query { a }\"}"`,
		"mapped":     `{"list":[`,
		"expanded":   `{"url":"/files/1","name":"f1.bin","size":404,"original_record":{"id":1`,
	} {
		if r := tr.read(t, name); r.err != nil || len(r.data) == 0 || !strings.Contains(r.data[0], want) {
			t.Errorf("%s: %v %v %s", name, r.err, r.gaps, r.data)
		}
	}
	for _, name := range []string{"report", "found_open", "configured_x", "listed", "properties"} {
		if r := tr.read(t, name); r.err != nil || !sameSet(r.data, truth(desk)) {
			t.Errorf("%s: %v %v %d records", name, r.err, r.gaps, len(r.data))
		}
	}
	if got := strings.Join(desk.Requests(), "\n"); !strings.Contains(got, "GET /all?fields=id%2Cid%2Csubject\n") || !strings.Contains(got, "GET /all?fields=id%2Camount") {
		t.Errorf("properties were not asked for in chunks:\n%s", got)
	}
	all, _ := tr.view.Streams(t.Context())
	i := slices.IndexFunc(all, func(s dataset.Stream) bool { return s.Name == "described" })
	if f := all[i].Schema.Fields; len(f) != 3 || f[0].Type != dataset.Integer || f[2].Type != dataset.Number {
		t.Errorf("the schema found at the service: %+v", f)
	}
}

func TestEveryAuthenticator(t *testing.T) {
	t.Parallel()
	tr := start(t, "auth.yaml", fixtures.NewDesk(3), nil, map[string]any{"mode": "bearer"})
	for _, name := range []string{"bearer", "basic", "header", "query", "session", "token", "legacy", "chosen", "jwt", "oauth"} {
		if r := tr.read(t, name); r.err != nil || len(r.data) != 3 {
			t.Errorf("%s: %v %v", name, r.err, r.gaps)
		}
	}
	wrong := start(t, "auth.yaml", fixtures.NewDesk(3), nil, map[string]any{"token": "wrong-token"})
	for _, name := range []string{"bearer", "basic", "query", "session", "oauth"} {
		r := wrong.read(t, name)
		if !errors.Is(r.err, exporters.ErrCredentials) {
			t.Errorf("%s with a wrong token: %v", name, r.err)
		}
		if r.err != nil && strings.Contains(r.err.Error(), "wrong-token") {
			t.Errorf("%s: the error holds the token: %v", name, r.err)
		}
	}
}

func TestRotatedRefreshTokensAreKeptBeforeTheyAreUsed(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "auth.yaml", desk, nil, nil)
	// The run dies at the first request that uses the new access token.
	ctx, cancel := context.WithCancel(t.Context())
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/secure/oauth") {
			cancel()
		}
		return false
	}
	if r := tr.readCtx(ctx, t, "oauth"); r.err == nil {
		t.Fatal("the run did not die")
	}
	desk.Before = nil
	// A new run with the same configuration goes on with the kept token.
	o := map[string]any{"manifest": filepath.Join(tr.dir, "manifest.yaml"), "config": map[string]any{"base": tr.view.config.Text("base"), "token": "env:TOKEN"}}
	v, err := open(t.Context(), exporters.Config{Options: o, State: tr.dir, Secret: func(context.Context, string) (string, error) { return fixtures.Canary, nil }}, tr.clock.now, tr.clock.sleep)
	if err != nil {
		t.Fatal(err)
	}
	tr.view = v
	if r := tr.read(t, "oauth"); r.err != nil || len(r.data) != 3 {
		t.Errorf("the next run: %v", r.err)
	}
	files, _ := filepath.Glob(filepath.Join(tr.dir, "oauth-*.json"))
	if len(files) != 1 {
		t.Fatalf("state files %v", files)
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("the state file is readable for others: %v %v", st.Mode(), err)
	}
	_, err = open(t.Context(), exporters.Config{Options: o, Secret: func(context.Context, string) (string, error) { return "x", nil }}, time.Now, sleep)
	if err == nil {
		t.Error("rotating tokens without a state directory were accepted")
	}
}

func TestTransformationsAreMadeBesideTheRecordAsReceived(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(6)
	tr := start(t, "records.yaml", desk, map[string]any{"records": "both"}, nil)
	r := tr.read(t, "changed")
	if r.err != nil || len(r.data) != 3 {
		t.Fatalf("%v %v", r.err, r.data)
	}
	want := `{"raw":` + truth(desk)[1] + `,"transformed":{"id":"2","title":"Ticket 2","updated_at":"2026-01-01T02:00:00Z","status":"open","text":`
	if !strings.HasPrefix(r.data[0], want) || !strings.HasSuffix(r.data[0], `"label":"2-TICKET 2","meta":{"n":"2"},"typed":"2"}}`) {
		t.Errorf("got  %s\nwant %s", r.data[0], want)
	}
	raw := start(t, "records.yaml", desk, nil, nil)
	if r := raw.read(t, "changed"); r.data[0] != truth(desk)[1] {
		t.Errorf("raw: %s", r.data[0])
	}
	flat := start(t, "records.yaml", desk, map[string]any{"records": "transformed"}, nil)
	if r := flat.read(t, "flat"); r.err != nil || !strings.Contains(r.data[3], `"deep_a":[{"b":null}]`) && !strings.Contains(r.data[3], `"deep_a_0_b"`) && !strings.Contains(strings.Join(r.data, ""), `"b":null`) {
		t.Errorf("flat: %v %s", r.err, r.data)
	}
	facts := raw.view.Facts()
	if s := strings.Join(facts.Filters, "\n"); !strings.Contains(s, "the record filter left out 3 of 6 records") || !strings.Contains(s, "only records for which {{ record['status'] == 'open' }}") {
		t.Errorf("filters: %s", s)
	}
}
