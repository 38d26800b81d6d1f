package rest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
	"github.com/dwp/sallyport/transfer"
)

// byTime pages by the time of the last record.
const byTime = `
streams:
  - type: DeclarativeStream
    name: s
    primary_key: id
    retriever:
      requester: {type: HttpRequester, url: "{{ config['base'] }}/by-time"}
      record_selector: {extractor: {field_path: []}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: after}
        pagination_strategy: {type: CursorPagination, cursor_value: "{{ last_record['t'] }}", page_size: 500}
`

// TestRecordsOfOneTimeAreNeverCutUnseen: a page of 500 ends among 1,500 records of one
// time. A service that goes on after that time loses the others, one that goes on with it
// never gets past them.
func TestRecordsOfOneTimeAreNeverCutUnseen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alike     int // records of one time, after ten with a time of their own
		inclusive bool
		complete  bool
	}{
		"after, many alike":     {1500, false, false},
		"from, many alike":      {1500, true, false},
		"from, some alike":      {400, true, true},
		"after, few alike":      {7, false, true}, // no page ends among them
		"after, at the end":     {490, false, false},
		"from, up to the limit": {489, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rows [][2]string // time and record
			add := func(at int) {
				rows = append(rows, [2]string{fmt.Sprintf("t%05d", at), fmt.Sprintf(`{"id":%d,"t":"t%05d"}`, len(rows), at)})
			}
			for i := range 10 {
				add(i)
			}
			for range c.alike {
				add(10)
			}
			for i := range 600 {
				add(11 + i)
			}
			desk := fixtures.NewDesk(0)
			desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
				after, out := r.URL.Query().Get("after"), []string{}
				for _, row := range rows {
					if (row[0] > after || c.inclusive && row[0] == after) && len(out) < 500 {
						out = append(out, row[1])
					}
				}
				if c.inclusive && len(out) == 1 { // only the last one again
					out = nil
				}
				fmt.Fprintf(w, "[%s]", strings.Join(out, ","))
				return true
			}
			tr := startWith(t, []byte(byTime), desk, nil, nil)
			r := tr.read(t, "s")
			if got := r.complete(tr.view); got != c.complete || got && len(r.data) != len(rows) {
				t.Errorf("%d of %d records, complete: %v; %v %v", len(r.data), len(rows), got, r.err, r.gaps)
			}
			if len(r.data) < len(rows) && r.complete(tr.view) {
				t.Error("records are missing, and nothing says so")
			}
		})
	}
}

// TestPagesAreCountedBeforeTheFilter: a page of which a filter leaves nothing is not the
// last one.
func TestPagesAreCountedBeforeTheFilter(t *testing.T) {
	t.Parallel()
	for _, pagination := range []string{"exhaustive", "short-page"} {
		for _, strategy := range []string{"{type: PageIncrement, start_from_page: 1, page_size: 10}", "{type: OffsetIncrement, page_size: 10}"} {
			name, path := "page", "tickets"
			if strings.Contains(strategy, "Offset") {
				name, path = "offset", "offset"
			}
			manifest := `
streams:
  - type: DeclarativeStream
    name: s
    primary_key: id
    retriever:
      requester: {type: HttpRequester, url: "{{ config['base'] }}/` + path + `"}
      record_selector: {extractor: {field_path: ` + map[string]string{"tickets": "[]", "offset": "[data]"}[path] + `}, record_filter: {condition: "{{ record['id'] < 6 or record['id'] > 24 }}"}}
      paginator: {type: DefaultPaginator, page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: ` + name + `}, pagination_strategy: ` + strategy + `}
`
			tr := startWith(t, []byte(manifest), fixtures.NewDesk(27), map[string]any{"pagination": pagination}, nil)
			want := slices.Concat(truth(tr.desk)[:5], truth(tr.desk)[24:])
			if r := tr.read(t, "s"); r.err != nil || !slices.Equal(r.data, want) {
				t.Errorf("%s, %s: %v, %d records; want %d", pagination, strategy, r.err, len(r.data), len(want))
			}
		}
	}
}

// TestDriftInMidStreamIsReportedAndRecordsStayAsTheyCame: the second page has fields that
// are new, of another type, missing, null, deeper and written otherwise.
func TestDriftInMidStreamIsReportedAndRecordsStayAsTheyCame(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(10)
	tr := start(t, "tickets.yaml", desk, nil, nil)
	odd := []string{`{"id":11,"subject":7}`, `{"id":12,"Subject":"x","subject":{"text":"deeper"}}`, `{"id":13}`, `{"id":14,"subject":null,"new":[]}`, `{"id":15,"subject":["a"]}`}
	want := append(truth(desk), odd...)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if n != 2 {
			return false
		}
		fmt.Fprintf(w, "[%s]", strings.Join(odd, ","))
		return true
	}
	r := tr.read(t, "pages")
	if r.err != nil || len(r.gaps) > 0 || !slices.Equal(r.data, want) {
		t.Fatalf("%v %v, %d records", r.err, r.gaps, len(r.data))
	}
	notes := strings.Join(tr.view.Facts().Notes, "\n")
	for _, say := range []string{"member 'subject' is not of the schema's type (3 records)", "member 'Subject' is not in the schema", "member 'new' is not in the schema"} {
		if !strings.Contains(notes, say) {
			t.Errorf("the notes do not say %q:\n%s", say, notes)
		}
	}
}

// TestReportsThatAreNotWholeAreErrors: a job says that it is done, and is not.
func TestReportsThatAreNotWholeAreErrors(t *testing.T) {
	t.Parallel()
	job := func(format string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/exports/1" || r.Method != http.MethodGet {
				return false
			}
			fmt.Fprintf(w, format, r.Host, r.Host)
			return true
		}
	}
	for name, before := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"a part is gone": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/part/1") {
				w.WriteHeader(http.StatusNotFound)
			}
			return strings.HasSuffix(r.URL.Path, "/part/1")
		},
		"a part is cut": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/part/1") {
				w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff})
			}
			return strings.HasSuffix(r.URL.Path, "/part/1")
		},
		"a part is named twice":  job(`{"state":"done","files":["http://%s/exports/1/part/0","http://%s/exports/1/part/0"]}`),
		"it failed":              job(`{"state":"failed"}%.0s%.0s`),
		"it expired":             job(`{"state":"expired"}%.0s%.0s`),
		"a state nobody knows":   job(`{"state":"perhaps"}%.0s%.0s`),
		"no state":               job(`{}%.0s%.0s`),
		"no parts where they go": job(`{"state":"done"}%.0s%.0s`),
		"it is never done":       job(`{"state":"queued"}%.0s%.0s`),
	} {
		desk := fixtures.NewDesk(7)
		tr := start(t, "formats.yaml", desk, nil, nil)
		desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool { return before(w, r) }
		if r := tr.read(t, "report"); r.err == nil {
			t.Errorf("%s: %d records, and no error", name, len(r.data))
		}
	}
}

// TestCertificatesThatAreExpiredOrOfAnotherHostAndOldTLSAreRefused, though their authority
// is trusted.
func TestCertificatesThatAreExpiredOrOfAnotherHostAndOldTLSAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		until   time.Duration
		host    net.IP
		version uint16
		want    string // of the error; "" if it is accepted
	}{
		"good":         {time.Hour, net.IPv4(127, 0, 0, 1), tls.VersionTLS13, ""},
		"expired":      {-time.Minute, net.IPv4(127, 0, 0, 1), tls.VersionTLS13, "expired"},
		"another host": {time.Hour, net.IPv4(127, 0, 0, 2), tls.VersionTLS13, "127.0.0.1"},
		"old TLS":      {time.Hour, net.IPv4(127, 0, 0, 1), tls.VersionTLS11, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "desk"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(c.until),
				IPAddresses: []net.IP{c.host}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
			der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			var asked atomic.Bool
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Store(true)
				w.Write([]byte(`[{"id":1}]`))
			}))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS10, MaxVersion: c.version}
			s.StartTLS()
			defer s.Close()
			dir := t.TempDir()
			for file, text := range map[string][]byte{"m.yaml": []byte(strings.ReplaceAll(minimal, "https://api.example.com", s.URL)), "ca.pem": pemOf(der)} {
				if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			clk := &clock{t: time.Now()}
			v, err := open(t.Context(), exporters.Config{Options: map[string]any{"manifest": filepath.Join(dir, "m.yaml"), "ca": filepath.Join(dir, "ca.pem"), "patience": time.Second}}, clk.now, clk.sleep)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			var last error
			for _, err := range v.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "s"}}}) {
				last = err
			}
			if c.want == "" && last != nil || c.want != "" && (last == nil || !strings.Contains(last.Error(), c.want) || asked.Load()) {
				t.Errorf("%v, asked: %v; want an error with %q", last, asked.Load(), c.want)
			}
		})
	}
}

// TestAQuotaUntilTomorrowIsTemporary: the run ends so that it can be run again.
func TestAQuotaUntilTomorrowIsTemporary(t *testing.T) {
	t.Parallel()
	desk := fixtures.NewDesk(35)
	tr := start(t, "tickets.yaml", desk, nil, nil)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if n < 2 {
			return false
		}
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	if r := tr.read(t, "pages"); !errors.Is(r.err, exporters.ErrTemporary) || len(tr.clock.waited) > 0 {
		t.Errorf("%v after waits of %v", r.err, tr.clock.waited)
	}
}

// TestNamesOfASourceStayNames: records and attachments whose names are paths, escapes and
// formulas are archived and restored into a directory, where they make no file elsewhere.
func TestNamesOfASourceStayNames(t *testing.T) {
	t.Parallel()
	names := []string{"../../escaped", "/etc/cron.d/x", "a/../../b", "\x1b[2J", "<script>alert(1)</script>", `=HYPERLINK("http://x")`, "nul", "C:\\x", strings.Repeat("ü", 300), "\x00", "."}
	var rows []string
	for i, name := range names {
		q, err := dataset.Quote(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, fmt.Sprintf(`{"id":%s,"attachments":[{"url":"/files/%d","name":%s}]}`, q, i+1, q))
	}
	desk := fixtures.NewDesk(0)
	desk.Before = func(d *fixtures.Desk, n int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/tickets" {
			return false
		}
		if r.URL.Query().Get("page") != "" && r.URL.Query().Get("page") != "1" {
			rows = nil
		}
		fmt.Fprintf(w, "[%s]", strings.Join(rows, ","))
		return true
	}
	tr := start(t, "tickets.yaml", desk, map[string]any{"streams": []string{"pages"}, "attachments": map[string]any{"pages": map[string]any{"url": "attachments/*/url", "name": "name"}}}, nil)
	k := newKeys(t)
	a := k.archive(t)
	d, err := transfer.Export(t.Context(), transfer.Job{Archive: a, Open: func(context.Context) (exporters.Exporter, error) { return tr.view, nil }, Options: k.options(t),
		OnGap: func(g dataset.Gap) { t.Errorf("gap %v", &g) }})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := a.Snapshot(t.Context(), "desk", d)
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Unlock(t.Context(), k.identity); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	inside := filepath.Join(outside, "deep", "deeper", "restored")
	if err := os.MkdirAll(filepath.Dir(inside), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := transfer.Restore{Snapshot: snap, Target: dir.NewTarget(inside, dir.Options{NoSync: true}), Test: dataset.NewID()}.Run(t.Context())
	if err != nil || len(out.Gaps) > 0 {
		t.Fatal(out, err)
	}
	files := 0
	err = filepath.WalkDir(outside, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(inside, path)
		if err != nil || strings.HasPrefix(rel, "..") || !e.Type().IsRegular() || strings.ContainsAny(rel, "\x1b<>\\\x00") {
			t.Errorf("a restore made %q, %v", rel, e.Type())
		}
		if strings.HasPrefix(rel, "objects") || strings.Contains(rel, "files") && !strings.HasSuffix(rel, ".jsonl") {
			files++
		}
		return err
	})
	if err != nil || files < len(names) {
		t.Errorf("%d files, %v; want %d attachments", files, err, len(names))
	}
}
