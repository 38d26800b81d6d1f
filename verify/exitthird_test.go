package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// An asked source shows one row in its sequence, and another when it is asked for it.
type asked struct {
	exporters.Exporter
	row string // empty if it is gone
	err error
}

func (a asked) Get(context.Context, dataset.Stream, string, int) (dataset.Record, error) {
	switch {
	case a.err != nil:
		return dataset.Record{}, a.err
	case a.row == "":
		return dataset.Record{}, fs.ErrNotExist
	}
	return dataset.Record{Stream: "rows", Key: "[7]", Data: json.RawMessage(a.row)}, nil
}

func TestThirdReadingSettlesWhatTheSourceShowsOtherwise(t *testing.T) {
	t.Parallel()
	const one, two, three = `{"id":7,"v":1}`, `{"id":7,"v":2}`, `{"id":7,"v":3}`
	const newer, unread = `{"id":7,"v":4,"updated_at":"2199-01-01T00:00:00Z"}`, "gap"
	rows := dataset.Stream{Name: "rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}}
	record := func(key, data string) dataset.Record {
		return dataset.Record{Stream: "rows", Key: key, Data: json.RawMessage(data)}
	}
	archived, empty := new(memory.Source), new(memory.Source)
	archived.Add(rows, record("[1]", `{"id":1}`), record("[7]", one))
	empty.Add(rows, record("[1]", `{"id":1}`))
	with, without := newCourt(t, archived, ""), newCourt(t, empty, "")
	for _, test := range []struct {
		name    string
		court   *court
		now     string // in the sequence; empty if it is not there
		asked   asked
		want    reconcile.Status
		verdict verify.Verdict
	}{
		{"differs twice in the same way", with, two, asked{row: two}, reconcile.Undecided, verify.Undecided},
		{"differs each time", with, two, asked{row: three}, reconcile.Unstable, verify.Undecided},
		{"differs and does not", with, two, asked{row: one}, reconcile.Unstable, verify.Undecided},
		{"differs and then says that it is newer", with, two, asked{row: newer}, reconcile.ChangedSince, verify.Proven},
		{"differs and is gone", with, two, asked{}, reconcile.Vanished, verify.Proven},
		{"differs and cannot be asked for", with, two, asked{err: errors.ErrUnsupported}, reconcile.Undecided, verify.Undecided},
		{"is gone", with, "", asked{}, reconcile.Vanished, verify.Proven},
		{"is gone and cannot be asked for", with, "", asked{err: errors.ErrUnsupported}, reconcile.Vanished, verify.Proven},
		{"is gone and does not answer", with, "", asked{err: errors.New("no route")}, reconcile.Undecided, verify.Undecided},
		{"is gone and is there", with, "", asked{row: one}, reconcile.Unstable, verify.Undecided},
		{"is gone and is there otherwise", with, "", asked{row: two}, reconcile.Undecided, verify.Undecided},
		{"could not be read, and can", with, unread, asked{row: one}, reconcile.OK, verify.Proven},
		{"could not be read, and cannot", with, unread, asked{err: errors.New("no route")}, reconcile.Undecided, verify.Undecided},
		{"came without saying when", without, two, asked{row: two}, reconcile.Undecided, verify.Undecided},
		{"came and went", without, two, asked{}, reconcile.Vanished, verify.Proven},
		{"came and then says that it is newer", without, two, asked{row: newer}, reconcile.Added, verify.Proven},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			now := new(memory.Source)
			now.Add(rows, record("[1]", `{"id":1}`))
			switch test.now {
			case "":
			case unread:
				now.Add(rows, dataset.Record{Key: "[7]", Gap: &dataset.Gap{Code: dataset.Unreadable}})
			default:
				now.Add(rows, record("[7]", test.now))
			}
			i := test.court.try(t, new(memory.Target))
			r, err := verify.ExitTest{Snapshot: test.court.s, Target: new(memory.Target), Kind: "memory",
				Source: func(ctx context.Context) (exporters.Exporter, error) {
					view, err := now.Open(ctx)
					test.asked.Exporter = view
					return test.asked, err
				}}.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			i.Report = r
			cert, _ := issue(t, i)
			want := map[reconcile.Status]int64{reconcile.OK: 1}
			want[test.want]++
			if got := cert.Predicate.Streams[0].AgainstSource; !maps.Equal(got, want) || cert.Predicate.Verdict != test.verdict {
				t.Errorf("%s with %v; want %s with %v", cert.Predicate.Verdict, got, test.verdict, want)
			}
		})
	}
}

func TestRecordThatCameBetweenTwoReadingsIsPartOfTheProof(t *testing.T) {
	t.Parallel()
	src := new(memory.Source)
	rows := memory.RowStream("rows")
	row := func(i int) dataset.Record { r := memory.Row(1)(i); r.Stream = rows.Name; return r }
	for i := range 100 {
		src.Add(rows, row(i))
	}
	src.Opened = func(n int) {
		if n == 2 {
			src.Add(rows, row(1000))
		}
	}
	c := newCourt(t, src, transfer.DoubleRead)
	i := c.try(t, new(memory.Target))
	i.Grade = archive.DoubleRead
	cert, _ := issue(t, i)
	p := &cert.Predicate
	if s := p.Streams[0]; p.Verdict != verify.Proven || s.Records != 101 || s.AtExport[reconcile.Added] != 1 || s.AgainstSource[reconcile.OK] != 101 {
		t.Errorf("%s because of %q with %+v", p.Verdict, p.Reasons, s)
	}
}
