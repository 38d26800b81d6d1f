package rest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// byItself and byListing are the two ways of telling whether a record is there as archived.
var (
	byItself  = map[string]any{"pages": map[string]any{"path": "tickets/{{ record.id }}", "read": "tickets/{{ record.id }}", "record": "ticket"}}
	byListing = map[string]any{"pages": map[string]any{"path": "/tickets/{{ record['id'] }}"}}
)

// desk starts a service of n tickets whose stream pages may be deleted from.
func desk(t *testing.T, n int, how map[string]any) (*trial, dataset.Stream, []dataset.Record) {
	t.Helper()
	tr := start(t, "tickets.yaml", fixtures.NewDesk(n), map[string]any{"delete": how}, nil)
	s := dataset.Stream{Name: "pages"}
	var recs []dataset.Record
	for r, err := range tr.view.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{s}}) {
		if err != nil {
			t.Fatal(err)
		}
		r.Data = slices.Clone(r.Data)
		recs = append(recs, r)
	}
	if len(recs) != n {
		t.Fatalf("read %d of %d tickets", len(recs), n)
	}
	return tr, s, recs
}

func TestDeletionsObeyTheirLaw(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]map[string]any{"by itself": byItself, "by listing": byListing} {
		tr := start(t, "tickets.yaml", fixtures.NewDesk(23), map[string]any{"delete": how}, nil)
		err := exportertest.CheckDeleter(t.Context(), exportertest.DeleterSource{
			Open: func() (exporters.Exporter, error) {
				for _, d := range tr.view.deletes { // as a view of its own has it
					d.list = nil
				}
				return unclosed{tr.view}, nil
			},
			Stream: "pages",
			Change: func(context.Context, string) error { tr.desk.Change(2); return nil },
			Other: func(r dataset.Record) dataset.Record {
				r.Key, r.Data = "[99]", []byte(strings.Replace(string(r.Data), `"id":1,`, `"id":99,`, 1))
				return r
			},
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := tr.desk.Deleted(); !slices.Equal(got, []int{1}) {
			t.Errorf("%s: tickets %v were deleted", name, got)
		}
	}
}

// unclosed is a view that goes on after Close, for views of one desk.
type unclosed struct{ *view }

func (unclosed) Close() error { return nil }

// Whatever a service answers to a deletion, only what is gone afterwards counts as deleted.
func TestOnlyWhatIsGoneCountsAsDeleted(t *testing.T) {
	t.Parallel()
	deleting := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	for _, tt := range []struct {
		name   string
		before func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool
		bin    bool
		want   error
		says   string
	}{
		{"an error page with 200, and it is still there", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if deleting(r) {
				io.WriteString(w, "<!doctype html><title>Something went wrong</title>")
			}
			return deleting(r)
		}, false, exporters.ErrRefused, "answered 200 and has the record still"},
		{"a redirect to another host", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if deleting(r) {
				http.Redirect(w, r, "http://127.0.0.2:9/tickets/1", http.StatusTemporaryRedirect)
			}
			return deleting(r)
		}, false, nil, "is not a host of the manifest"},
		{"a recycle bin", nil, true, exporters.ErrMarked, `changed since it was archived, in "deleted"`},
		{"accepted, and not done", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if deleting(r) {
				w.WriteHeader(http.StatusAccepted)
			}
			return deleting(r)
		}, false, exporters.ErrTemporary, "has not deleted the record yet"},
		{"forbidden", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if deleting(r) {
				http.Error(w, `{"message":"tickets cannot be deleted"}`, http.StatusForbidden)
			}
			return deleting(r)
		}, false, nil, "answered 403 Forbidden"},
		{"a log-in page instead of the record", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/tickets/1" {
				io.WriteString(w, "<!doctype html><title>Log in</title>")
			}
			return r.URL.Path == "/tickets/1"
		}, false, nil, "is no JSON"},
		{"another record in its place", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/tickets/1" && !deleting(r) {
				io.WriteString(w, `{"ticket":`+d.Tickets()[1].JSON+`}`)
			}
			return r.URL.Path == "/tickets/1" && !deleting(r)
		}, false, exporters.ErrChanged, `"id"`},
		{"gone in between", func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if deleting(r) {
				d.Remove(0)
			}
			return false
		}, false, exporters.ErrTemporary, "went away meanwhile"},
	} {
		tr, s, recs := desk(t, 3, byItself)
		tr.desk.Before, tr.desk.Bin = tt.before, tt.bin
		err := tr.view.Delete(t.Context(), s, recs[0])
		if err == nil || errors.Is(err, fs.ErrNotExist) || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %v that says %q", tt.name, err, tt.want, tt.says)
		}
		if errors.Is(err, exporters.ErrRefused) && tt.want != exporters.ErrRefused {
			t.Errorf("%s: %v is taken for the last word", tt.name, err)
		}
		if got := tr.desk.Deleted(); len(got) > 0 {
			t.Errorf("%s: tickets %v were deleted", tt.name, got)
		}
	}
}

// No record can lead its own deletion to another place.
func TestARecordCannotChooseWhatIsDeleted(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		`"../users/7"`: "DELETE /tickets/..%2Fusers%2F7", `"7?all=1"`: "DELETE /tickets/7%3Fall=1", `"7#x"`: "DELETE /tickets/7%23x", `"a b/c"`: "DELETE /tickets/a%20b%2Fc",
		`".."`: "", `"."`: "", `""`: "", `"é"`: "DELETE /tickets/%C3%A9",
	} {
		d := fixtures.NewDesk(1)
		listed := `{"id":` + id + `,"subject":"x"}`
		d.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusNoContent)
				return true
			}
			if page := r.URL.Query().Get("page"); page == "" || page == "1" {
				io.WriteString(w, "["+listed+"]")
			} else {
				io.WriteString(w, "[]")
			}
			return true
		}
		tr := start(t, "tickets.yaml", d, map[string]any{"delete": byListing}, nil)
		err := tr.view.Delete(t.Context(), dataset.Stream{Name: "pages"}, dataset.Record{Stream: "pages", Key: "[" + id + "]", Data: []byte(listed)})
		var asked []string
		for _, r := range d.Requests() {
			if strings.HasPrefix(r, "DELETE") {
				asked = append(asked, r)
			}
		}
		switch {
		case want == "" && (len(asked) > 0 || !errors.Is(err, exporters.ErrRefused)):
			t.Errorf("id %s: asked %q, %v; want a refusal", id, asked, err)
		case want != "" && (err != nil || !slices.Equal(asked, []string{want})):
			t.Errorf("id %s: asked %q, %v; want %q", id, asked, err, want)
		}
	}
}

func TestDeletionsThatAreNotConfiguredAreNotTried(t *testing.T) {
	t.Parallel()
	tr, _, recs := desk(t, 2, byItself)
	if err := tr.view.Delete(t.Context(), dataset.Stream{Name: "offsets"}, recs[0]); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a stream that the option does not name: %v", err)
	}
	for name, how := range map[string]any{
		"no path": map[string]any{"method": "DELETE"}, "another host": map[string]any{"path": "https://elsewhere.example/{{ record.id }}"},
		"a method that reads": map[string]any{"path": "x", "method": "GET"}, "a setting that is none": map[string]any{"path": "x", "verb": "DELETE"},
		"an expression that is none": map[string]any{"path": "{{ record.id"}, "a secret of the host": map[string]any{"path": "{{ env.HOME }}"}, "no map": "x",
	} {
		v := &view{records: "raw", deletes: map[string]*deletion{}}
		if err := v.deletions(map[string]any{"delete": map[string]any{"pages": how}}); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}
