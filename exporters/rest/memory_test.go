package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// endless serves so many records, a thousand a page, and makes them as it is asked. Every
// record of a page's end comes again at the beginning of the next, as where the bounds of
// slices are inclusive.
func endless(t testing.TB, records int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, err := strconv.Atoi(r.URL.Query().Get("page"))
		if err != nil {
			page = 1
		}
		var b []byte
		b = append(b, '[')
		for n := (page - 1) * 1000; n < min(page*1000, records); n++ {
			if len(b) == 1 && n > 0 {
				b = append(appendTicket(b, n-1), ',')
			} else if len(b) > 1 {
				b = append(b, ',')
			}
			b = appendTicket(b, n)
		}
		w.Write(append(b, ']'))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func appendTicket(b []byte, n int) []byte {
	return fmt.Appendf(b, `{"id":%d,"subject":"A ticket of the usual length, with some text","updated_at":"2026-01-01T00:00:00Z","amount":1.10,"tags":["a","b"],"nested":{"x":1,"y":null}}`, n)
}

// viewOf opens the manifest tickets.yaml against a server.
func viewOf(t testing.TB, base string) *view {
	t.Helper()
	data, err := fixtures.Manifests.ReadFile("manifests/tickets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(manifest, data, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := open(t.Context(), exporters.Config{Options: map[string]any{"manifest": manifest, "config": map[string]any{"base": base}}}, time.Now, sleep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// TestMemoryDoesNotGrowWithTheRecords is not parallel: it measures the heap of the whole
// process. It looks at the same place of a page each time, for a page is in memory.
func TestMemoryDoesNotGrowWithTheRecords(t *testing.T) {
	early, late, memory := 20_000, 200_000, int64(512<<10)
	if os.Getenv("SALLYPORT_EXHAUSTIVE") != "" {
		early, late, memory = 250_000, 1_000_000, repeatsMemory
	}
	v := viewOf(t, endless(t, late))
	v.memory = memory
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools held
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var n int
	var before, after uint64
	began := time.Now()
	for rec, err := range v.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "pages"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Gap != nil {
			if rec.Gap.Code != dataset.PossiblyCut { // so round a number is an alarm
				t.Fatalf("gap %v", rec.Gap)
			}
			continue
		}
		switch n++; n {
		case early - 500:
			before = live()
		case late - 500:
			after = live()
		}
	}
	if n != late {
		t.Errorf("%d records; want %d, and none twice", n, late)
	}
	if got := v.facts.repeated["pages"]; got != int64(late/1000-1) {
		t.Errorf("%d records came again; want %d", got, late/1000-1)
	}
	const slack = 1 << 20
	if after > before+slack {
		t.Errorf("%d bytes were in use at record %d, and %d at record %d", before, early, after, late)
	}
	t.Logf("%d bytes at record %d, %d at record %d; %.0f records/s", before, early, after, late, float64(n)/time.Since(began).Seconds())
}
