package reconcile

import (
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// lines yields records with those data, whose keys are their numbers, or nothing where
// the stream is keyless.
func lines(s dataset.Stream, data ...string) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for i, d := range data {
			key := fmt.Sprint(i)
			if s.Keyless {
				key = dataset.KeylessKey([]byte(d))
			}
			if !yield(dataset.Record{Stream: s.Name, Key: key, Data: []byte(d)}, nil) {
				return
			}
		}
	}
}

func explainOf(t *testing.T, s dataset.Stream, a, b []string, limit int) *Comparison {
	t.Helper()
	r, err := New(s, t.TempDir(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for side, data := range map[Side][]string{Archived: a, Restored: b} {
		if err := r.Add(t.Context(), side, lines(s, data...)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Compare(t.Context())
	if err == nil {
		err = c.Explain(t.Context(), s, lines(s, a...), lines(s, b...), limit)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDifferencesNameTheirFieldsUpToALimit(t *testing.T) {
	t.Parallel()
	c := explainOf(t, dataset.Stream{Name: "rows"}, []string{`{"a":1,"b":2}`, `{"a":1}`, `{"a":1}`, `{"a":1}`}, []string{`{"a":2,"c":2}`, `{"a":2}`, `{"a":2}`, `{"a":1}`}, 2)
	if len(c.Differences) != 3 {
		t.Fatalf("differences %+v", c.Differences)
	}
	for i, want := range []string{"[{/a 1 2} {/b 2 } {/c  2}]", "[{/a 1 2}]", "[]"} {
		var got []string
		for _, f := range c.Differences[i].Fields {
			got = append(got, fmt.Sprintf("{%s %s %s}", f.Path, f.A, f.B))
		}
		if d := c.Differences[i]; fmt.Sprint(got) != want || d.Explained != (i < 2) {
			t.Errorf("difference %d has fields %v, explained %t; want %s", i, got, d.Explained, want)
		}
	}
}

func TestDifferencesOfAKeylessStreamShowTheRecord(t *testing.T) {
	t.Parallel()
	c := explainOf(t, dataset.Stream{Name: "log", Keyless: true}, []string{`{"l":"twice"}`, `{"l":"twice"}`, `{"l":"goes"}`}, []string{`{"l":"comes"}`}, 10)
	counts := map[string]int{}
	for _, d := range c.Differences {
		counts[fmt.Sprintf("%s %s", d.Status, d.Data)]++
	}
	if want := map[string]int{`missing {"l":"twice"}`: 2, `missing {"l":"goes"}`: 1, `extra {"l":"comes"}`: 1}; fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("%v; want %v", counts, want)
	}
}
