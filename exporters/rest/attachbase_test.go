package rest

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// Services such as PocketBase put the name of a file into the record, and nothing else.
func TestFilesThatRecordsOnlyNameAreFetchedRelativeToTheBase(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(5)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		var id, again int
		if _, err := fmt.Sscanf(r.URL.Path, "/named/%d/f%d.bin", &id, &again); err != nil {
			return false
		}
		if id != again {
			http.NotFound(w, r)
			return true
		}
		http.ServeContent(w, r, "f.bin", fixtures.Epoch, bytes.NewReader(d.File(id)))
		return true
	}
	tr := start(t, "tickets.yaml", desk, map[string]any{"attachments": map[string]any{"pages": map[string]any{
		"url": "attachments/*/name", "base": "{{ config['base'] }}/named/{{ record['id'] }}/"}}}, nil)
	r := tr.read(t, "pages")
	if r.err != nil || len(r.gaps) > 0 || len(r.files) != 5 {
		t.Fatalf("%v, gaps %v, %d files", r.err, r.gaps, len(r.files))
	}
	for id := 1; id <= 5; id++ {
		if got := r.files[fmt.Sprintf(`[%d,"attachments/0/name"]`, id)]; !bytes.Equal(got, desk.File(id)) {
			t.Errorf("file %d: %d bytes", id, len(got))
		}
	}
}

func TestABaseOfAttachmentsLeadsToNoOtherHost(t *testing.T) {
	t.Parallel()
	tr := start(t, "tickets.yaml", fixtures.NewDesk(2), map[string]any{"attachments": map[string]any{"pages": map[string]any{
		"url": "attachments/*/name", "base": "http://127.0.0.2:9/"}}}, nil)
	r := tr.read(t, "pages")
	if r.err != nil || len(r.gaps) != 2 || !strings.Contains(r.gaps[0].Detail, "not a host of the manifest") {
		t.Errorf("%v, gaps %v", r.err, r.gaps)
	}
}

func TestABaseOfAttachmentsThatCannotRunIsRefusedBeforeAnythingIsRead(t *testing.T) {
	t.Parallel()
	for _, base := range []any{"{{ secrets.x }}", "{{ record[", 7} {
		if _, err := parseAttachment(map[string]any{"url": "u", "base": base}); err == nil {
			t.Errorf("base %v was accepted", base)
		}
	}
}

// Services such as PocketBase want another credential for files than for records. It comes
// from the manifest, goes to the service alone, and is not in what is archived.
func TestFilesAreOpenedWithTheCredentialsThatTheManifestHasForThem(t *testing.T) {
	t.Parallel()
	const manifest = `
definitions:
  token:
    type: SessionTokenAuthenticator
    login_requester: {type: HttpRequester, url: "{{ config['base'] }}/login", http_method: POST, request_body_json: {username: agent, password: "{{ config['token'] }}"}}
    session_token_path: [session, token]
    expiration_duration: PT1M
    request_authentication: {type: ApiKey, inject_into: {type: RequestOption, inject_into: request_parameter, field_name: key}}
streams:
  - type: DeclarativeStream
    name: tickets
    primary_key: id
    retriever:
      requester: {type: HttpRequester, url: "{{ config['base'] }}/tickets", authenticator: {type: BearerAuthenticator, api_token: "{{ config['token'] }}"}}
      record_selector: {extractor: {field_path: []}}
`
	desk := fixtures.NewDesk(3)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasPrefix(r.URL.Path, "/files/") && (r.URL.Query().Get("key") != "session-"+fixtures.Canary || r.Header.Get("Authorization") != ""):
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/tickets" && r.Header.Get("Authorization") != "Bearer "+fixtures.Canary:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			return false
		}
		return true
	}
	options := func(auth string) map[string]any {
		return map[string]any{"attachments": map[string]any{"tickets": map[string]any{"url": "attachments/*/url", "auth": auth}}}
	}
	tr := startWith(t, []byte(manifest), desk, options("#/definitions/token"), nil)
	r := tr.read(t, "tickets")
	if r.err != nil || len(r.gaps) > 0 || len(r.files) != 3 {
		t.Errorf("%v, gaps %v, %d files", r.err, r.gaps, len(r.files))
	}
	if got := strings.Join(r.data, " "); strings.Contains(got, fixtures.Canary) {
		t.Errorf("the token is in %s", got)
	}
	for _, bad := range []string{"#/definitions/nothing", "definitions/token", "#/streams"} {
		if _, err := open(t.Context(), exporters.Config{Options: map[string]any{"manifest": filepath.Join(tr.dir, "manifest.yaml"),
			"config": map[string]any{"base": "http://localhost"}, "attachments": options(bad)["attachments"]}}, tr.clock.now, tr.clock.sleep); err == nil {
			t.Errorf("%s was taken for an authenticator", bad)
		}
	}
}
