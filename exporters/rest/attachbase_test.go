package rest

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

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
