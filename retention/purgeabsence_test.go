package retention_test

import (
	"context"
	"iter"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/retention"
)

// veiled is a source that cannot read the rows it has.
type veiled struct {
	exporters.Exporter
	rows []string // keys
}

func (v veiled) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	if q.Streams[0].Name != "rows" {
		return v.Exporter.Read(ctx, q)
	}
	return func(yield func(dataset.Record, error) bool) {
		for _, key := range v.rows {
			g := dataset.Gap{Stream: "rows", Key: key, Code: dataset.Denied}
			if !yield(dataset.Record{Stream: "rows", Gap: &g}, nil) {
				return
			}
		}
	}
}

func TestWhatIsThereUnreadableIsNotGone(t *testing.T) {
	t.Parallel()
	c, s := ready(t)
	plan := c.plan(t, s, c.planner(sevenYears))
	check(t, c.approve(t, plan, retention.First, "alex", "blair"))
	p := c.purger(t, plan)
	o := c.office("keeper")
	body, err := o.Body(t.Context(), plan)
	check(t, err)
	var rows []string
	for _, it := range body.Items {
		if it.Stream == "rows" {
			rows = append(rows, string(it.Key))
		}
	}
	opened := 0
	open := p.Source
	p.Source = func(ctx context.Context) (exporters.Exporter, error) {
		view, err := open(ctx)
		if opened++; opened == 2 { // the one that looks whether all is gone
			view = veiled{view, rows}
		}
		return view, err
	}
	out, err := p.Apply(t.Context(), plan)
	check(t, err)
	if opened != 2 || len(rows) == 0 || len(out.Absence.Found) != len(rows) || out.Done() {
		t.Errorf("%d views; of %d rows that are there %d were found, done %v", opened, len(rows), len(out.Absence.Found), out.Done())
	}
}
