package transfer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/transfer"
)

func TestRestoreThatReadsBackOtherwiseFails(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	src := new(memory.Source)
	for i := range 20 {
		src.Add(dataset.Stream{Name: "rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}},
			dataset.Record{Key: fmt.Sprintf("[%d]", i), Data: fmt.Appendf(nil, `{"id":%d,"n":1}`, i)})
	}
	d, err := transfer.Export(t.Context(), b.job(src))
	if err != nil {
		t.Fatal(err)
	}
	is := func(r dataset.Record) bool { return r.Key == "[7]" }
	for name, c := range map[string]struct {
		target *memory.Target
		filter transfer.Filter
		erased bool
		want   string // in the error; empty if there is none
	}{
		"as it was": {},
		"a record that the target refuses and names": {target: &memory.Target{Refuse: func(r dataset.Record) *dataset.Gap {
			if is(r) {
				return &dataset.Gap{Code: dataset.TooLarge}
			}
			return nil
		}}},
		"a record altered": {target: &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
			if is(r) {
				r.Data = []byte(`{"id":7,"n":2}`)
			}
			return []dataset.Record{r}
		}}, want: "mismatch"},
		"a record lost": {target: &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
			if is(r) {
				return nil
			}
			return []dataset.Record{r}
		}}, want: "missing"},
		"a record twice": {target: &memory.Target{ReadBack: func(r dataset.Record) []dataset.Record {
			if is(r) {
				return []dataset.Record{r, r}
			}
			return []dataset.Record{r}
		}}, want: "repeated"},
		"only some records": {filter: transfer.Filter{Prefix: "[1"}},
		"records erased":    {erased: true},
	} {
		target := c.target
		if target == nil {
			target = new(memory.Target)
		}
		r := transfer.Restore{Snapshot: b.snapshot(t, d), Target: target, Test: dataset.NewID(), Filter: c.filter, Compare: true, TempDir: t.TempDir()}
		if c.erased {
			r.Withhold = func(_, key string) bool { return key == "[7]" }
		}
		_, err := r.Run(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
