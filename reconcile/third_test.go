package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/reconcile"
)

// An asked source answers when it is asked for one record.
type asked struct {
	exporters.Exporter
	n      int
	answer func() (dataset.Record, error)
}

func (a *asked) Get(context.Context, dataset.Stream, string, int) (dataset.Record, error) {
	a.n++
	return a.answer()
}

// version is a row that was changed so often, at a time.
func version(n int, at string) dataset.Record {
	return dataset.Record{Stream: "rows", Key: "[1]", Data: fmt.Appendf(nil, `{"id":1,"v":%d,"updated_at":%q}`, n, at)}
}

const before, after = "2026-02-01T00:00:00Z", "2026-03-02T00:00:00Z"

func TestThirdReadingIsHeldAgainstTheTwoThatDiffer(t *testing.T) {
	t.Parallel()
	rows := dataset.Stream{Name: "rows"}
	r, err := reconcile.New(rows, t.TempDir(), exported)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for side, rec := range map[reconcile.Side]dataset.Record{reconcile.Archived: version(1, before), reconcile.SourceNow: version(2, before)} {
		if err := r.Add(t.Context(), side, sequence([]dataset.Record{rec}, nil)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Compare(t.Context())
	if err != nil || len(c.Differences) != 1 {
		t.Fatalf("differences %v, %v", c, err)
	}
	d := &c.Differences[0]
	fails := errors.New("no route")
	for _, test := range []struct {
		name string
		rec  dataset.Record
		err  error
		want reconcile.Third
		fail bool
	}{
		{"gone", dataset.Record{}, fmt.Errorf("row: %w", fs.ErrNotExist), reconcile.Gone, false},
		{"as at first", version(1, before), nil, reconcile.AsFirst, false},
		{"as at second", version(2, before), nil, reconcile.AsSecond, false},
		{"otherwise", version(3, before), nil, reconcile.AsNeither, false},
		{"otherwise and newer", version(3, after), nil, reconcile.Newer, false},
		{"otherwise, at the end of time", version(3, "9999-12-31T23:59:59Z"), nil, reconcile.AsNeither, false},
		{"cannot be asked for", dataset.Record{}, errors.ErrUnsupported, reconcile.NotRead, false},
		{"fails", dataset.Record{}, fails, reconcile.NotRead, true},
		{"a gap", dataset.Record{Key: "[1]", Gap: &dataset.Gap{Code: dataset.Denied}}, nil, reconcile.NotRead, true},
		{"no object", dataset.Record{Key: "[1]", Data: []byte("[")}, nil, reconcile.NotRead, true},
	} {
		source := &asked{answer: func() (dataset.Record, error) { return test.rec, test.err }}
		got, err := r.Thirds(source, rows).Read(t.Context(), d)
		if got != test.want || (err != nil) != test.fail {
			t.Errorf("%s: %d, %v; want %d", test.name, got, err, test.want)
		}
	}
	if got, err := r.Thirds(struct{ exporters.Exporter }{}, rows).Read(t.Context(), d); got != reconcile.NotRead || err != nil {
		t.Errorf("a source that cannot be asked: %d, %v", got, err)
	}
}

func TestThirdReadingsAreBoundedInNumber(t *testing.T) {
	t.Parallel()
	r, err := reconcile.New(dataset.Stream{Name: "rows"}, t.TempDir(), exported)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	source := &asked{answer: func() (dataset.Record, error) { return dataset.Record{}, fs.ErrNotExist }}
	thirds := r.Thirds(source, dataset.Stream{Name: "rows"})
	const most = 10_000
	for i := range most + 5 {
		got, err := thirds.Read(t.Context(), &reconcile.Difference{Key: fmt.Sprint(i)})
		if enough := i >= most; enough != errors.Is(err, reconcile.ErrThirds) || !enough && got != reconcile.Gone {
			t.Fatalf("reading %d: %d, %v", i, got, err)
		}
	}
	if source.n != most {
		t.Errorf("the source was asked %d times", source.n)
	}
}
