package rest

import (
	"net/http"
	"strings"
	"testing"

	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// oauthManifest has the fields of an OAuthAuthenticator filled in.
func oauthManifest(fields string) []byte {
	return []byte(`
check: {stream_names: [s]}
streams:
  - type: DeclarativeStream
    name: s
    primary_key: id
    retriever:
      record_selector: {extractor: {field_path: [data]}}
      requester:
        type: HttpRequester
        url: "{{ config['base'] }}/offset"
        error_handler: {type: DefaultErrorHandler, response_filters: [{http_codes: [401], action: REFRESH_TOKEN_THEN_RETRY}]}
        authenticator: {type: OAuthAuthenticator, token_refresh_endpoint: "{{ config['base'] }}/token", ` + fields + `}
`)
}

func TestTokensAreAskedForInEveryFormThatManifestsKnow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fields, query, form, header string }{
		{`client_id: me, client_secret: "{{ config['token'] }}", grant_type: client_credentials`,
			"", "grant_type=client_credentials&client_id=me&client_secret=" + fixtures.Canary, ""},
		{`client_id: me, client_secret: x, refresh_token: r, scopes: [a, b]`,
			"", "grant_type=refresh_token&client_id=me&client_secret=x&refresh_token=r&scopes=a&scopes=b", ""},
		{`client_id: me, client_secret: x, grant_type: password, refresh_request_body: {username: u, client_id: kept, password: "{{ config['token'] }}"}`,
			"", "grant_type=password&client_id=me&client_secret=x&username=u&password=" + fixtures.Canary, ""},
		{`client_id: me, client_secret: x, grant_type: client_credentials, refresh_request_headers: {Authorization: "Basic {{ ('me:' ~ config['token']) | base64encode }}"}`,
			"", "grant_type=client_credentials", "Basic "},
		{`client_id: me, client_secret: x, refresh_token: r, send_refresh_request_as_query_params: true, client_id_name: key`,
			"grant_type=refresh_token&key=me&client_secret=x&refresh_token=r", "", ""},
		{`use_profile_assertion: true, profile_assertion: {type: JwtAuthenticator, algorithm: HS256, secret_key: k1234}, grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer"`,
			"", "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=", ""},
	} {
		desk := fixtures.NewDesk(3)
		var query, form, header string
		desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				return false
			}
			b := make([]byte, r.ContentLength)
			r.Body.Read(b)
			query, form, header = r.URL.RawQuery, string(b), r.Header.Get("Authorization")
			w.Write([]byte(`{"deep":{"access_token":"at","expires_in":"60"}}`))
			return true
		}
		tr := startWith(t, oauthManifest(c.fields), desk, nil, nil)
		if r := tr.read(t, "s"); r.err != nil || len(r.data) != 3 {
			t.Errorf("%s: %v", c.fields, r.err)
		}
		if query != c.query || !strings.HasPrefix(form, c.form) || c.form == "" && form != "" || !strings.HasPrefix(header, c.header) {
			t.Errorf("%s:\n got %q %q %q", c.fields, query, form, header)
		}
	}
}

func TestATokenThatIsRefusedIsRefreshedOnce(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(3)
	tokens := 0
	good := "at-2"
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			tokens++
			w.Write([]byte(`{"access_token":"at-` + itoa(tokens) + `","expires_in":3600}`))
		case r.Header.Get("Authorization") != "Bearer "+good:
			w.WriteHeader(401)
		default:
			return false
		}
		return true
	}
	tr := startWith(t, oauthManifest("client_id: me, client_secret: x, refresh_token: r"), desk, nil, nil)
	if r := tr.read(t, "s"); r.err != nil || len(r.data) != 3 || tokens != 2 {
		t.Errorf("%v, %d tokens", r.err, tokens)
	}
	good = "none"
	if r := tr.read(t, "s"); r.err == nil || tokens != 3 {
		t.Errorf("%v, %d tokens", r.err, tokens)
	}
}
