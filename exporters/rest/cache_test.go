package rest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// family has a parent with two children that log in anew for every request.
const family = `
definitions:
  requester:
    type: HttpRequester
    url_base: "{{ config['base'] }}"
    authenticator:
      type: SessionTokenAuthenticator
      login_requester: {type: HttpRequester, url: "{{ config['base'] }}/login", http_method: POST}
      session_token_path: [token]
      request_authentication: {type: Bearer}
  parent:
    type: DeclarativeStream
    name: parents
    primary_key: id
    retriever:
      requester: {$ref: "#/definitions/requester", path: parents}
      record_selector: {extractor: {field_path: []}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy: {type: PageIncrement}
  child:
    type: DeclarativeStream
    primary_key: id
    retriever:
      requester: {$ref: "#/definitions/requester", path: "{{ parameters['name'] }}/{{ stream_partition.parent }}"}
      record_selector: {extractor: {field_path: []}}
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs: [{stream: "#/definitions/parent", parent_key: id, partition_field: parent}]
streams:
  - "#/definitions/parent"
  - {$ref: "#/definitions/child", $parameters: {name: sons}}
  - {$ref: "#/definitions/child", $parameters: {name: daughters}}
`

// TestParentsAreAskedForOnceHoweverManyStreamsReadThem: three streams at once read a
// parent's listing of pages that are large, with credentials that differ each time.
func TestParentsAreAskedForOnceHoweverManyStreamsReadThem(t *testing.T) {
	t.Parallel()
	const pages = 3
	page := func(n int) string {
		return fmt.Sprintf(`[{"id":%d,"text":%q},{"id":%d}]`, 2*n, strings.Repeat("x", 1<<20), 2*n+1)
	}
	for _, use := range []string{"", "false"} {
		manifest := family
		if use != "" {
			manifest = strings.Replace(family, "type: HttpRequester\n", "type: HttpRequester\n    use_cache: "+use+"\n", 1)
		}
		var mu sync.Mutex
		logins, asked := 0, map[string]int{}
		desk := fixtures.NewDesk(0)
		desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			asked[r.URL.RequestURI()]++
			var p int
			switch {
			case r.URL.Path == "/login":
				logins++
				fmt.Fprintf(w, `{"token":"token-%d"}`, logins)
			case r.URL.Path != "/parents":
				fmt.Fprintf(w, `[{"id":1}]`)
			default:
				if fmt.Sscan(r.URL.Query().Get("page"), &p); p < pages {
					fmt.Fprint(w, page(p))
				} else {
					fmt.Fprint(w, "[]")
				}
			}
			return true
		}
		tr := startWith(t, []byte(manifest), desk, map[string]any{"drift_check": false}, nil)
		var g sync.WaitGroup
		for _, name := range []string{"parents", "sons", "daughters"} {
			g.Go(func() {
				n := 0
				for r, err := range tr.view.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: name}}}) {
					if err != nil || r.Gap != nil {
						t.Errorf("%s: %v %v", name, err, r.Gap)
						return
					}
					n++
				}
				if n != 2*pages {
					t.Errorf("%s: %d records; want %d", name, n, 2*pages)
				}
			})
		}
		g.Wait()
		want := 1
		if use != "" {
			want = 3
		}
		for _, uri := range []string{"/parents", "/parents?page=1", "/parents?page=2", "/parents?page=3"} {
			if asked[uri] != want {
				t.Errorf("use_cache %q: %s was asked for %d times; want %d", use, uri, asked[uri], want)
			}
		}
		if children := asked["/sons/0"] + asked["/daughters/5"]; children != 2 {
			t.Errorf("children were asked for %d times", children)
		}
	}
}

// TestAnAnswerThatFailsIsAskedForAgainByWhoeverWaited: nobody gets another's failure.
func TestAnAnswerThatFailsIsAskedForAgainByWhoeverWaited(t *testing.T) {
	t.Parallel()
	var c responseCache
	defer c.close()
	first, release := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		_, _, err := c.answer(t.Context(), "call", func() (*answer, resolution, error) {
			close(first)
			<-release
			return nil, resolution{}, errStopped
		})
		if err != errStopped {
			t.Errorf("the first got %v", err)
		}
	})
	<-first
	for range 3 {
		g.Go(func() {
			a, _, err := c.answer(t.Context(), "call", func() (*answer, resolution, error) {
				u, err := parseURL("http://localhost/x")
				return &answer{status: 200, url: u, body: []byte("\xff\x00"), header: http.Header{"X": {"\xe9"}}}, resolution{action: actSuccess}, err
			})
			if err != nil || string(a.body) != "\xff\x00" || a.header.Get("X") != "\xe9" || a.url.Path != "/x" {
				t.Errorf("%+v %v", a, err)
			}
		})
	}
	close(release)
	g.Wait()
	a, res, err := c.answer(t.Context(), "call", nil)
	if err != nil || !a.kept || res.action != actSuccess {
		t.Errorf("afterwards: %+v %v %v", a, res, err)
	}
}
