package rest

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// TestNoHostileModeLooksComplete: whatever the server does, an export is either the
// truth or says that it is not.
func TestNoHostileModeLooksComplete(t *testing.T) {
	t.Parallel()
	for _, m := range fixtures.Modes {
		for _, stream := range []string{"pages", "offsets", "cursors", "links", "nexts"} {
			t.Run(m.Name+"/"+stream, func(t *testing.T) {
				t.Parallel()
				desk := fixtures.NewDesk(35)
				tr := start(t, "tickets.yaml", desk, map[string]any{"timeout": 100 * time.Millisecond, "patience": time.Minute, "max_response": int64(8 << 20)}, nil)
				before := truth(desk)
				desk.Before = m.Before
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				r := tr.readCtx(ctx, t, stream)
				if ctx.Err() != nil {
					t.Fatal("it took too long")
				}
				if n := len(desk.Requests()); n > 200 {
					t.Errorf("%d requests", n)
				}
				if r.complete(tr.view) && !sameSet(r.data, truth(desk)) && !sameSet(r.data, before) {
					t.Errorf("an export of %d records, which %s, looks complete", len(r.data), m.Breaks)
				}
				if r.err != nil && (len(r.err.Error()) > 5000 || strings.ContainsAny(r.err.Error(), "\x1b\r")) {
					t.Errorf("an error of %d bytes with escapes", len(r.err.Error()))
				}
			})
		}
	}
}

func TestHonestTroubleIsSatOut(t *testing.T) {
	t.Parallel()
	for _, m := range fixtures.Patience {
		for _, stream := range []string{"pages", "offsets", "cursors", "links", "nexts"} {
			t.Run(m.Name+"/"+stream, func(t *testing.T) {
				t.Parallel()
				desk := fixtures.NewDesk(35)
				tr := start(t, "tickets.yaml", desk, nil, nil)
				want := truth(desk)
				desk.Before = m.Before
				r := tr.read(t, stream)
				got := slices.DeleteFunc(r.data, func(s string) bool { return strings.HasPrefix(s, `{"id":1000,`) })
				if !r.complete(tr.view) || !sameSet(got, want) {
					t.Errorf("%v %v, %d of %d records", r.err, r.gaps, len(r.data), len(want))
				}
			})
		}
	}
}

// TestCapsAreNoticed: a server that gives fewer records than asked for, in silence.
func TestCapsAreNoticed(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 5, 9} {
		for _, stream := range []string{"pages", "offsets", "cursors"} {
			desk := fixtures.NewDesk(35)
			desk.PageCap = limit
			tr := start(t, "tickets.yaml", desk, nil, nil)
			if r := tr.read(t, stream); r.err != nil || !slices.Equal(r.data, truth(desk)) {
				t.Errorf("%s with pages of %d: %v, %d records", stream, limit, r.err, len(r.data))
			}
		}
	}
	// With short-page the cap cuts the export, and the source's own count says so.
	desk := fixtures.NewDesk(35)
	desk.PageCap = 5
	tr := start(t, "tickets.yaml", desk, map[string]any{"pagination": "short-page", "counts": map[string]any{"offsets": "meta/total"}}, nil)
	r := tr.read(t, "offsets")
	if r.err != nil || len(r.data) != 5 || len(r.gaps) != 1 || r.gaps[0].Code != dataset.PossiblyCut {
		t.Errorf("short-page: %v %v, %d records", r.err, r.gaps, len(r.data))
	}
	if n, err := tr.view.Count(t.Context(), dataset.Stream{Name: "offsets"}); n != 35 || err != nil {
		t.Errorf("Count = %d, %v", n, err)
	}
	// A window of 1,000 records is a round number.
	desk = fixtures.NewDesk(1200)
	tr = start(t, "tickets.yaml", desk, nil, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if n > 100 && n <= 101 {
			w.Write([]byte("[]"))
			return true
		}
		return false
	}
	if r := tr.read(t, "pages"); len(r.data) != 1000 || len(r.gaps) != 1 || r.gaps[0].Code != dataset.PossiblyCut {
		t.Errorf("window of 1,000: %v %v, %d records", r.err, r.gaps, len(r.data))
	}
}

func TestIgnoredAnswersAreReportedAndAGap(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "records.yaml", desk, nil, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "nothing here", http.StatusNotFound)
		return true
	}
	r := tr.read(t, "changed")
	if r.err != nil || len(r.gaps) != 1 || r.gaps[0].Code != dataset.IgnoredResponse {
		t.Errorf("%v %v", r.err, r.gaps)
	}
	if ig := tr.view.Facts().Ignored; len(ig) != 1 || ig[0] != (dataset.Ignored{Stream: "changed", Reason: "status 404", Count: 1}) {
		t.Errorf("Ignored = %v", ig)
	}
}

func TestBackoffsWaitAsTheManifestSays(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tr := start(t, "records.yaml", desk, nil, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		switch n {
		case 1:
			w.Header().Set("X-Wait", "7 seconds")
		case 2:
			w.Header().Set("X-Until", "1769904100") // 92 s after the clock's start, 8 s of it spent
		case 3:
		default:
			return false
		}
		w.WriteHeader(418)
		return true
	}
	r := tr.read(t, "changed")
	want := []time.Duration{8 * time.Second, 93 * time.Second, 3 * time.Second}
	if r.err != nil || len(tr.clock.waited) != 3 || tr.clock.waited[0] != want[0] || tr.clock.waited[2] != want[2] {
		t.Errorf("%v; waited %v, want %v", r.err, tr.clock.waited, want)
	}
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("X-Wait", "5000")
		w.WriteHeader(418)
		return true
	}
	if r := tr.read(t, "changed"); !errors.Is(r.err, exporters.ErrTemporary) {
		t.Errorf("a wait beyond the manifest's limit: %v", r.err)
	}
}

// TestCredentialsLeaveForNoOtherHost tries every way out with a host that listens.
func TestCredentialsLeaveForNoOtherHost(t *testing.T) {
	t.Parallel()
	var stolen, visited []string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := json.Marshal(r.Header)
		visited = append(visited, r.Method+" "+r.URL.Path)
		if strings.Contains(string(b)+r.URL.String(), fixtures.Canary) || r.ContentLength > 0 || strings.Contains(string(b), "Authorization") {
			stolen = append(stolen, r.URL.String())
		}
		w.Write([]byte(`{"data":[]}`))
	}))
	defer thief.Close()
	for _, listed := range []bool{false, true} {
		for _, stream := range []string{"bearer", "basic", "header", "query", "session", "token", "jwt", "oauth"} {
			desk := fixtures.NewDesk(3)
			var options map[string]any
			if listed {
				options = map[string]any{"hosts": []string{thief.URL}}
			}
			tr := start(t, "auth.yaml", desk, options, nil)
			desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/secure/") {
					http.Redirect(w, r, thief.URL+r.URL.Path, http.StatusTemporaryRedirect)
					return true
				}
				return false
			}
			if r := tr.read(t, stream); r.err == nil && !listed {
				t.Errorf("%s: a redirect to another host was followed", stream)
			}
		}
	}
	// A link to a listed host is followed with nothing that the manifest would send.
	manifest := `
streams:
  - type: DeclarativeStream
    name: s
    retriever:
      requester:
        type: HttpRequester
        url: "{{ config['base'] }}/start"
        http_method: POST
        request_headers: {X-Own: "{{ config['token'] }}"}
        request_parameters: {own: "{{ config['token'] }}"}
        request_body_json: {own: "{{ config['token'] }}"}
        authenticator: {type: BearerAuthenticator, api_token: "{{ config['token'] }}"}
      record_selector: {extractor: {field_path: [data]}}
      paginator: {type: DefaultPaginator, page_token_option: {type: RequestPath}, pagination_strategy: {type: CursorPagination, cursor_value: "{{ response.get('next', '') }}"}}
`
	desk := fixtures.NewDesk(1)
	tr := startWith(t, []byte(manifest), desk, map[string]any{"hosts": []string{thief.URL}, "drift_check": false}, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		w.Write([]byte(`{"data":[{"id":1}],"next":"` + thief.URL + `/page2"}`))
		return true
	}
	if r := tr.read(t, "s"); r.err != nil || !slices.Contains(visited, "GET /page2") {
		t.Errorf("%v; visited %v", r.err, visited)
	}
	if len(stolen) > 0 {
		t.Errorf("credentials went to another host: %v", stolen)
	}
}

func TestNamesThatResolveToPrivateAddressesAreRefused(t *testing.T) {
	t.Parallel()
	dial := dialer(false, nil)
	for _, host := range []string{"localhost.localdomain:80", "ip6-localhost:80"} {
		if c, err := dial(t.Context(), "tcp", host); err == nil {
			c.Close()
			t.Errorf("%s was dialled", host)
		}
	}
	for addr, want := range map[string][2]bool{
		"127.0.0.1": {false, false}, "169.254.169.254": {false, false}, "fe80::1": {false, false}, "::1": {false, false}, "0.0.0.0": {false, false},
		"10.1.2.3": {false, true}, "192.168.0.1": {false, true}, "172.16.0.1": {false, true}, "100.64.1.1": {false, true}, "fd00::1": {false, true},
		"8.8.8.8": {true, true}, "2001:4860:4860::8888": {true, true}, "::ffff:127.0.0.1": {false, false}, "::ffff:10.0.0.1": {false, true},
	} {
		ip := mustIP(t, addr)
		if got := [2]bool{allowed(ip, false), allowed(ip, true)}; got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

func TestAttachmentsComeExactlyOrAreGaps(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(12)
	tr := start(t, "tickets.yaml", desk, map[string]any{"attachments": map[string]any{"pages": map[string]any{"url": "attachments/*/url", "name": "name", "size": "size"}}}, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/files/1":
			http.NotFound(w, r)
		case "/files/2":
			w.Header().Set("Content-Type", "text/html")
			w.Write([]byte("<html>Log in</html>"))
		case "/files/3":
			w.Write(d.File(3)[:50])
		case "/files/4": // expired
			w.WriteHeader(403)
		case "/files/5": // of unknown length, no ranges
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(d.File(5)[:100])
			w.(http.Flusher).Flush()
			w.Write(d.File(5)[100:])
		case "/files/6": // cut
			w.Header().Set("Content-Type", "application/octet-stream")
			w.(http.Flusher).Flush()
			w.Write(d.File(6)[:100])
		case "/files/7":
			http.Redirect(w, r, "http://127.0.0.2:9/f", http.StatusFound)
		case "/files/8": // a log-in page that says it is a file
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(append([]byte("<!DOCTYPE html><html>"), make([]byte, len(d.File(8))-21)...))
		default:
			return false
		}
		return true
	}
	r := tr.read(t, "pages")
	if r.err != nil || len(r.data) != 12 {
		t.Fatalf("%v, %d records", r.err, len(r.data))
	}
	bad := map[string]bool{}
	for _, g := range r.gaps {
		if g.Code != dataset.BadAttachment || g.Stream != "pages.files" {
			t.Errorf("gap %v", g)
		}
		bad[g.Key] = true
	}
	for id := 1; id <= 12; id++ {
		key := `[` + itoa(id) + `,"attachments/0/url"]`
		wantBad := slices.Contains([]int{1, 2, 3, 4, 6, 7, 8}, id)
		if bad[key] != wantBad {
			t.Errorf("file %d: a gap is %v, want %v", id, bad[key], wantBad)
		}
		if !wantBad && string(r.files[key]) != string(desk.File(id)) {
			t.Errorf("file %d: %d bytes, want %d", id, len(r.files[key]), len(desk.File(id)))
		}
	}
}

func TestTheCanaryAppearsInNoOutput(t *testing.T) {
	t.Parallel()
	for _, m := range append(slices.Clone(fixtures.Modes), fixtures.Patience...) {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			desk := fixtures.NewDesk(3)
			tr := start(t, "auth.yaml", desk, map[string]any{"timeout": 100 * time.Millisecond, "patience": time.Second}, nil)
			desk.Before = m.Before
			for _, stream := range []string{"query", "session", "oauth"} {
				r := tr.read(t, stream)
				out, _ := json.Marshal(map[string]any{"err": errText(r.err), "gaps": r.gaps, "facts": tr.view.Facts()})
				for _, secret := range []string{fixtures.Canary, "access-1", "refresh-1"} {
					if strings.Contains(string(out), secret) {
						t.Errorf("the output of %s holds %s: %s", stream, secret, out)
					}
				}
			}
		})
	}
	desk := fixtures.NewDesk(3)
	tr := start(t, "auth.yaml", desk, nil, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(400)
		w.Write([]byte("you sent " + r.URL.String() + " " + r.Header.Get("Authorization")))
		return true
	}
	for _, stream := range []string{"query", "bearer", "basic", "jwt"} {
		if r := tr.read(t, stream); r.err == nil || strings.Contains(r.err.Error(), fixtures.Canary) {
			t.Errorf("%s: %v", stream, r.err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func itoa(n int) string { return strconv.Itoa(n) }

func mustIP(t *testing.T, s string) netip.Addr {
	t.Helper()
	ip, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return ip.Unmap()
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
