package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

func decodeAll(d *decoder, body string) (out []string, err error) {
	for v, err := range d.records(strings.NewReader(body), 1<<20) {
		if err != nil {
			return out, err
		}
		b, err := jinja.AppendJSON(nil, v)
		if err != nil {
			return out, err
		}
		out = append(out, string(b))
	}
	return out, nil
}

func TestDecodersReadExactlyOrFail(t *testing.T) {
	t.Parallel()
	bomb := func(n int) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(make([]byte, n))
		z.Close()
		return b.String()
	}
	lines := &decoder{kind: "JsonlDecoder"}
	csv := &decoder{kind: "CsvDecoder", delimiter: ','}
	for _, c := range []struct {
		d    *decoder
		body string
		want string // joined, or "error"
	}{
		{csv, "a,b\n1,\n", `{"a":"1","b":""}`},
		{csv, "\ufeffa\n\"\"\n", `{"a":""}`},
		{csv, "a,b\r\n\"x\r\ny\",\"q\"\"q\"\r\n", `{"a":"x\r\ny","b":"q\"q"}`},
		{csv, "a,b\n 1 ,=2\n\n3,4", `{"a":" 1 ","b":"=2"} {"a":"3","b":"4"}`},
		{csv, "a,b\n1\n", "error"},
		{csv, "a,b\n1,2,3\n", "error"},
		{csv, "a,a\n1,2\n", "error"},
		{csv, "a\n\"open", "error"},
		{csv, "a\n\"x\"y\n", "error"},
		{csv, "a\n\xff\n", "error"},
		{csv, "", ""},
		{&decoder{kind: "CsvDecoder", delimiter: ';', encoding: "latin1"}, "a;b\n\xe9;1,5\n", `{"a":"é","b":"1,5"}`},
		{lines, "{\"a\":1}\n\n{\"a\":2}", `{"a":1} {"a":2}`},
		{lines, "{\"a\":1}\n{\"a\":", "error"},
		{lines, "{\"a\":\"" + strings.Repeat("x", 2<<20) + "\"}", "error"},
		{&decoder{kind: "XmlDecoder"}, `<r><a x="1">t</a><a/><b>&lt;&#65;</b></r>`, `{"r":{"a":[{"@x":"1","#text":"t"},null],"b":"<A"}}`},
		{&decoder{kind: "XmlDecoder"}, `<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><r>&b;</r>`, "error"},
		{&decoder{kind: "XmlDecoder"}, strings.Repeat("<a>", 100_000), "error"},
		{&decoder{kind: "XmlDecoder"}, `<r><a></r>`, "error"},
		{&decoder{kind: "XmlDecoder"}, ``, "error"},
		{&decoder{kind: "GzipDecoder", inner: lines}, bomb(64 << 20), "error"},
		{&decoder{kind: "GzipDecoder", inner: lines}, bomb(10)[:15], "error"},
		{&decoder{kind: "ZipfileDecoder", inner: lines}, "PK", "error"},
		{&decoder{kind: "JsonItemsDecoder", items: []string{"a", "item"}}, `{"a":[1,2]}`, "1 2"},
		{&decoder{kind: "JsonItemsDecoder", items: []string{"b", "item"}}, `{"a":[1,2]}`, "error"},
	} {
		got, err := decodeAll(c.d, c.body)
		switch {
		case c.want == "error" && err == nil:
			t.Errorf("%s of %q: %q", c.d.kind, cut(c.body, 60), got)
		case c.want != "error" && (err != nil || strings.Join(got, " ") != c.want):
			t.Errorf("%s of %q: %q, %v; want %q", c.d.kind, cut(c.body, 60), got, err, c.want)
		}
	}
}

func TestTokensAreSignedByEveryAlgorithm(t *testing.T) {
	t.Parallel()
	encode := func(k any) string {
		b, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
	}
	rk, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, dk, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("a.b")
	sum := sha256.Sum256(text)
	for alg, check := range map[string]func(sig []byte) bool{
		"RS256": func(s []byte) bool { return rsa.VerifyPKCS1v15(&rk.PublicKey, crypto.SHA256, sum[:], s) == nil },
		"PS256": func(s []byte) bool { return rsa.VerifyPSS(&rk.PublicKey, crypto.SHA256, sum[:], s, nil) == nil },
		"ES256": func(s []byte) bool {
			return len(s) == 64 && ecdsa.Verify(&ek.PublicKey, sum[:], new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:]))
		},
		"EdDSA": func(s []byte) bool { return ed25519.Verify(pub, text, s) },
		"HS256": func(s []byte) bool {
			return base64.RawURLEncoding.EncodeToString(s) == "bAyGY2JnEVxpDrFCSFaBuSY3FWU8eIyGGpuVVKeO7gQ" || len(s) == 32
		},
	} {
		key := map[byte]string{'R': encode(rk), 'P': encode(rk), 'E': encode(ek), 'H': "secret"}[alg[0]]
		if alg == "EdDSA" {
			key = encode(dk)
		}
		sig, err := sign(alg, key, text)
		if err != nil || !check(sig) {
			t.Errorf("%s: %v", alg, err)
		}
	}
	for _, bad := range [][2]string{{"RS256", encode(ek)}, {"ES256", encode(rk)}, {"RS256", "no pem"}, {"none", ""}, {"XX256", encode(rk)}, {"HS999", "x"}} {
		if _, err := sign(bad[0], bad[1], text); err == nil {
			t.Errorf("%s was signed with a key that does not fit", bad[0])
		}
	}
}

func TestBudgetsHoldRequestsBack(t *testing.T) {
	t.Parallel()
	b := newBuilder(loadCatalogue())
	budget := b.node(loaded(t, `
type: HTTPAPIBudget
policies:
  - {type: MovingWindowCallRatePolicy, rates: [{limit: 2, interval: PT1S}, {limit: 3, interval: PT1M}], matchers: [{url_path_pattern: ^/slow}]}
  - {type: FixedWindowCallRatePolicy, period: PT10S, call_limit: 2, matchers: [{method: GET, params: {k: v}}]}
  - {type: FixedWindowCallRatePolicy, period: PT10S, call_limit: 5, matchers: [{url_path_pattern: ^/heavy, weight: 2}]}
  - {type: MovingWindowCallRatePolicy, rates: [{limit: 3, interval: PT1M}], matchers: [{url_path_pattern: ^/large, weight: "{{ 1 + 1 }}"}]}
  - {type: FixedWindowCallRatePolicy, period: PT10S, call_limit: 2, matchers: [{url_path_pattern: ^/huge, weight: 9}]}
`), "budget").budget()
	c := &clock{t: time.Unix(1000, 0)}
	v := &view{env: &jinja.Env{Now: c.now}, config: new(jinja.Dict), now: c.now, sleep: c.sleep}
	times := func(rawURL string, n int) string {
		u, _ := url.Parse(rawURL)
		var out []string
		start := c.now()
		for range n {
			if err := budget.take(t.Context(), v, call{method: "GET", url: u, header: http.Header{}}); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(c.now().Sub(start).Round(time.Second/10)))
		}
		return strings.Join(out, " ")
	}
	if got, want := times("https://a/slow", 4), "0s 0s 1s 1m0s"; got != want {
		t.Errorf("moving window: %s, want %s", got, want)
	}
	if got, want := times("https://a/x?k=v", 5), "0s 0s 10s 10s 20s"; got != want {
		t.Errorf("fixed window: %s, want %s", got, want)
	}
	for path, want := range map[string]string{"heavy": "0s 0s 10s", "large": "0s 1m0s 2m0s", "huge": "0s 10s 20s"} {
		if got := times("https://a/"+path, 3); got != want {
			t.Errorf("weight, %s: %s, want %s", path, got, want)
		}
	}
	if got, want := times("https://a/other", 3), "0s 0s 0s"; got != want {
		t.Errorf("no policy: %s, want %s", got, want)
	}
}

func TestParentsWithoutKeyAreGapsOfTheirChildren(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "slices.yaml", desk, nil, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/tickets" && r.URL.Query().Get("page") == "" {
			w.Write([]byte(`[{"id":1,"subject":"s"},{"subject":"no id"}]`))
			return true
		}
		if r.URL.Path == "/tickets" {
			w.Write([]byte(`[]`))
			return true
		}
		return false
	}
	r := tr.read(t, "comments")
	if r.err != nil || len(r.data) != 1 || len(r.gaps) != 1 || r.gaps[0].Code != dataset.Malformed || r.gaps[0].Stream != "comments" {
		t.Errorf("%v %v %v", r.err, r.gaps, r.data)
	}
}

func TestStreamsFoundAtTheServiceGoToNoOtherHost(t *testing.T) {
	t.Parallel()
	manifest := `
dynamic_streams:
  - type: DynamicDeclarativeStream
    name: found
    stream_template: {type: DeclarativeStream, name: x, primary_key: id, retriever: {requester: {type: HttpRequester, url_base: "https://x"}, record_selector: {extractor: {field_path: []}}}}
    components_resolver:
      type: HttpComponentsResolver
      retriever: {requester: {type: HttpRequester, url: "{{ config['base'] }}/lists"}, record_selector: {extractor: {field_path: [lists]}}}
      components_mapping:
        - {field_path: [retriever, requester, url_base], value: "http://127.0.0.2:9/{{ components_values['name'] }}"}
        - {field_path: [name], value: "{{ components_values['name'] }}"}
`
	tr := startWith(t, []byte(manifest), fixtures.NewDesk(3), nil, nil)
	if _, err := tr.view.Streams(t.Context()); err == nil || !strings.Contains(err.Error(), "not a host of the manifest") {
		t.Errorf("%v", err)
	}
}

func TestOptionsChooseStreams(t *testing.T) {
	t.Parallel()
	tr := start(t, "tickets.yaml", fixtures.NewDesk(3), map[string]any{"streams": []string{"pages", "links"}, "exclude": []string{"links"}}, nil)
	all, err := tr.view.Streams(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "pages" {
		t.Errorf("%v %v", all, err)
	}
	if f := strings.Join(tr.view.Facts().Filters, "\n"); !strings.Contains(f, "stream offsets: left out by the options") {
		t.Errorf("filters: %s", f)
	}
	tr = start(t, "tickets.yaml", fixtures.NewDesk(3), map[string]any{"streams": []string{"nosuch"}}, nil)
	if _, err := tr.view.Streams(t.Context()); err == nil {
		t.Error("a stream that is not there was accepted")
	}
}

func TestURLsAreJoinedAndEncodedAsPythonDoes(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"https://a/v1", "x", "https://a/v1/x"}, {"https://a/v1/", "/x", "https://a/v1/x"}, {"https://a/v1?k=1", "", "https://a/v1?k=1"},
		{"https://a/v1", "https://b/y", "https://b/y"}, {"https://a/v1", "x?q=1", "https://a/v1/x?q=1"}, {"https://a/v1", "../x", "https://a/x"},
		{"https://a", "crm/v3/objects:search", "https://a/crm/v3/objects:search"},
	} {
		u, err := joinURL(c[0], c[1])
		if err != nil || u.String() != c[2] {
			t.Errorf("%s + %s = %v, %v; want %s", c[0], c[1], u, err, c[2])
		}
	}
	for _, bad := range []string{"v1:run", "file:///etc/passwd", "javascript:x"} {
		if u, err := joinURL("https://a", bad); err == nil {
			t.Errorf("%s became %s", bad, u)
		}
	}
	u, _ := url.Parse("https://a/?b=2&x=1")
	if err := addQuery(u, []pair{{"z", "a b&é"}, {"x", "1"}, {"b", "3"}, {"a[]", "1"}}); err != nil || u.RawQuery != "b=2&x=1&z=a+b%26%C3%A9&b=3&a%5B%5D=1" {
		t.Errorf("%s %v", u.RawQuery, err)
	}
	for _, bad := range []string{"ftp://a", "file:///etc/passwd", "//a", "a", "http://", "http://[::1"} {
		if _, err := parseURL(bad); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// FuzzLint: no document may panic the loader or the builder, and one that is said to
// run can be opened.
func FuzzLint(f *testing.F) {
	files, _ := fixtures.Manifests.ReadDir("manifests")
	for _, e := range files {
		b, _ := fixtures.Manifests.ReadFile("manifests/" + e.Name())
		f.Add(b)
	}
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Lint(data)
		if err != nil || !r.Runs {
			return
		}
		m, err := parse(data)
		if err != nil {
			t.Fatal(err)
		}
		v := &view{manifest: m, gate: newGate(1), config: new(jinja.Dict), env: &jinja.Env{Now: time.Now}, facts: newFacts(), homes: map[string]bool{}, secrets: &redactor{}, now: time.Now,
			sleep: func(context.Context, time.Duration) error { return context.Canceled }}
		if v.client, err = newClient(clientOptions{secrets: v.secrets}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		streams, err := v.Streams(ctx)
		if err != nil {
			return
		}
		for _, s := range streams {
			for range v.Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}) {
			}
		}
	})
}

func TestATallyFindsLimitsThatNobodyTells(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slices []int64
		alarm  bool
	}{{[]int64{50}, true}, {[]int64{51}, false}, {[]int64{0}, false}, {[]int64{3, 50, 50, 7}, true}, {[]int64{3, 50, 7}, false},
		{[]int64{50, 50, 51}, false}, {[]int64{50, 50, beyondAnyPage}, false}, {nil, false}, {[]int64{10_000, 10_000}, true}} {
		var ta tally
		for _, n := range c.slices {
			ta.add(n)
		}
		if got := len(ta.alarms(false)) > 0; got != c.alarm {
			t.Errorf("%v: an alarm is %v, want %v", c.slices, got, c.alarm)
		}
	}
}

func TestSecretsAreForgottenOldestFirstAndNeverThoseOfTheConfiguration(t *testing.T) {
	t.Parallel()
	var r redactor
	r.add("the-configured-one")
	for i := range 3 * maxSecrets {
		r.add(fmt.Sprintf("token-%d", i))
	}
	if len(r.secrets) > maxSecrets {
		t.Errorf("%d secrets", len(r.secrets))
	}
	got := r.clean(fmt.Sprintf("the-configured-one token-%d", 3*maxSecrets-1))
	if got != "*** ***" {
		t.Errorf("clean = %q", got)
	}
}
