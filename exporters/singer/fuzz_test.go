package singer

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	taps "github.com/dwp/sallyport/fixtures/singer"
)

// FuzzMessages feeds lines to a reader: whatever a tap prints, what comes out is well
// formed, or an error.
func FuzzMessages(f *testing.F) {
	files, err := fs.Glob(taps.Streams, "streams/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("found %d streams: %v", len(files), err)
	}
	for _, name := range files {
		b, err := fs.ReadFile(taps.Streams, name)
		if err != nil {
			f.Fatal(err)
		}
		_, messages, _ := strings.Cut(string(b), "\n\n")
		f.Add(messages)
	}
	f.Fuzz(func(t *testing.T, messages string) {
		c, err := parseCatalog([]byte(taps.StreamsCatalog))
		if err != nil {
			t.Fatal(err)
		}
		v := &view{o: Options{BatchDir: t.TempDir(), MaxLine: 1 << 20}, catalog: c,
			unknown: make(map[string]int), unasked: make(map[ignored]int), repeated: make(map[string]int64)}
		r := newReader(t.Context(), v, nil)
		defer r.seen.Close()
		for _, s := range c.streams {
			r.streams[s.Name] = &stream{def: s}
		}
		r.yield = func(rec dataset.Record, err error) bool {
			switch {
			case err != nil:
				t.Errorf("an error was yielded on the way: %v", err)
			case rec.Gap != nil && (rec.Gap.Stream != rec.Stream || rec.Gap.Key != rec.Key || rec.Gap.Code == ""):
				t.Errorf("gap %+v of record %q", rec.Gap, rec.Key)
			case rec.Gap == nil && dataset.CheckObject(rec.Data) != nil:
				t.Errorf("data %q", rec.Data)
			}
			return true
		}
		for line := range strings.Lines(messages) {
			if r.message([]byte(strings.TrimSuffix(line, "\n"))) != nil {
				return
			}
		}
	})
}
