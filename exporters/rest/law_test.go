package rest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

func TestViewsKeepTheLawOfExporters(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]map[string]any{
		"tickets.yaml": {"attachments": map[string]any{"pages": "attachments/*/url"}},
		"slices.yaml":  nil,
		"records.yaml": {"records": "both"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := start(t, name, fixtures.NewDesk(23), options, nil)
			o := map[string]any{"manifest": filepath.Join(tr.dir, "manifest.yaml"), "config": map[string]any{"base": tr.view.config.Text("base"), "token": "x"}}
			for k, v := range options {
				o[k] = v
			}
			err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) {
				return open(t.Context(), exporters.Config{Options: o}, tr.clock.now, tr.clock.sleep)
			}, exportertest.Options{})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOnlyTrustedCertificatesAreAccepted(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(`[{"id":1}]`)) }))
	defer s.Close()
	dir := t.TempDir()
	manifest := filepath.Join(dir, "m.yaml")
	src := strings.ReplaceAll(minimal, "https://api.example.com", s.URL)
	if err := os.WriteFile(manifest, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(o map[string]any) error {
		c := &clock{t: time.Now()}
		v, err := open(t.Context(), exporters.Config{Options: o}, c.now, c.sleep)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for _, err := range v.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "s"}}}) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := read(map[string]any{"manifest": manifest}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pemOf(s.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := read(map[string]any{"manifest": manifest, "ca": ca}); err != nil {
		t.Errorf("with its authority: %v", err)
	}
}

func TestTheFirstRecordsAreShown(t *testing.T) {
	t.Parallel()
	tr := start(t, "tickets.yaml", fixtures.NewDesk(23), nil, nil)
	o := map[string]any{"manifest": filepath.Join(tr.dir, "manifest.yaml"), "config": map[string]any{"base": tr.view.config.Text("base")}}
	got, err := First(t.Context(), exporters.Config{Options: o}, 2)
	if err != nil || len(got) != 6 {
		t.Fatalf("%v %v", got, err)
	}
	for _, s := range got {
		if len(s.Records) != 2 || s.Err != "" || string(s.Records[1]) != truth(tr.desk)[1] {
			t.Errorf("%s: %s %s", s.Stream, s.Records, s.Err)
		}
	}
}

func TestTheStarterManifestRuns(t *testing.T) {
	t.Parallel()
	if r, err := Lint(fixtures.Starter); err != nil || !r.Runs || len(r.Streams) != 2 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestAnExportCanBeCancelled(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(40)
	tr := start(t, "tickets.yaml", desk, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 3 {
			cancel()
		}
		return false
	}
	if r := tr.readCtx(ctx, t, "pages"); !errors.Is(r.err, context.Canceled) {
		t.Errorf("%v", r.err)
	}
}

func TestSchemaDriftIsReported(t *testing.T) {
	t.Parallel()
	tr := start(t, "tickets.yaml", fixtures.NewDesk(5), nil, nil)
	tr.read(t, "pages")
	notes := strings.Join(tr.view.Facts().Notes, "\n")
	for _, want := range []string{"member 'deep' is not in the schema (1 records)", "member 'big' is not in the schema (1 records)"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not say %q:\n%s", want, notes)
		}
	}
}
