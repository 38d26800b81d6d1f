package exportertest_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/memory"
)

// source is what the planted faults spoil: two objects, one of them with two versions,
// and three rows.
func source() *memory.Source {
	s := new(memory.Source)
	s.Add(dataset.Stream{Name: "objects", Blobs: true},
		dataset.Record{Key: "a", Data: []byte(`{"n":1}`), Blob: memory.Bytes([]byte("first"))},
		dataset.Record{Key: "b", Ordinal: 0, Data: []byte(`{"n":2}`), Blob: memory.Bytes([]byte("old"))},
		dataset.Record{Key: "b", Ordinal: 1, Data: []byte(`{"n":3}`), Blob: memory.Bytes([]byte("new"))})
	s.Generate(memory.RowStream("rows"), 3, memory.Row(1))
	return s
}

// A fault is an exporter that breaks the law in one place.
type fault struct {
	exporters.Exporter
	streams func([]dataset.Stream) []dataset.Stream
	read    func(exporters.Query, iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error]
	facts   dataset.Facts
	closed  int
	get     func(dataset.Record) (dataset.Record, error)
	getAny  bool
}

func (f *fault) Get(ctx context.Context, s dataset.Stream, key string, ordinal int) (dataset.Record, error) {
	r, err := f.Exporter.(exporters.Getter).Get(ctx, s, key, ordinal)
	if f.getAny && err != nil {
		return dataset.Record{Stream: s.Name, Key: key, Data: []byte(`{}`)}, nil
	}
	if f.get != nil && err == nil {
		return f.get(r)
	}
	return r, err
}

func (f *fault) Streams(ctx context.Context) ([]dataset.Stream, error) {
	all, err := f.Exporter.Streams(ctx)
	if f.streams != nil {
		all = f.streams(all)
	}
	return all, err
}

func (f *fault) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	seq := f.Exporter.Read(ctx, q)
	if f.read != nil {
		return f.read(q, seq)
	}
	return seq
}

func (f *fault) Facts() dataset.Facts { return f.facts }

func (f *fault) Close() error {
	if f.closed++; f.closed > 1 && f.facts.Position == "closes once" {
		return errors.New("closed already")
	}
	return f.Exporter.Close()
}

// each passes every record through change.
func each(change func(r *dataset.Record)) func(exporters.Query, iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
	return func(_ exporters.Query, seq iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
		return func(yield func(dataset.Record, error) bool) {
			for r, err := range seq {
				if err == nil {
					change(&r)
				}
				if !yield(r, err) {
					return
				}
			}
		}
	}
}

func TestCheckExporterFindsEachBreach(t *testing.T) {
	t.Parallel()
	reads := 0
	for name, c := range map[string]struct {
		fault fault
		want  string
	}{
		"streams not sorted": {fault{streams: func(s []dataset.Stream) []dataset.Stream {
			s = slices.Clone(s)
			slices.Reverse(s)
			return s
		}}, "not sorted"},
		"record of another stream": {fault{read: each(func(r *dataset.Record) { r.Stream = "elsewhere" })}, "not asked for"},
		"data not an object":       {fault{read: each(func(r *dataset.Record) { r.Data = []byte(`[1]`) })}, "not a JSON object"},
		"data with a name twice":   {fault{read: each(func(r *dataset.Record) { r.Data = []byte(`{"a":1,"\u0061":2}`) })}, "second member"},
		"something after data":     {fault{read: each(func(r *dataset.Record) { r.Data = append(slices.Clone(r.Data), "{}"...) })}, "after"},
		"compact in name only":     {fault{read: each(func(r *dataset.Record) { r.Data, r.Compact = []byte(`{"n": 1}`), true })}, "said to be compact"},
		"keyless with a key of its own": {fault{streams: func(s []dataset.Stream) []dataset.Stream {
			s = slices.Clone(s)
			s[1].Keyless = true
			return s
		}}, "not the SHA-256"},
		"key twice":            {fault{read: each(func(r *dataset.Record) { r.Key, r.Ordinal = "k", 0 })}, "ordinals"},
		"ordinals with a hole": {fault{read: each(func(r *dataset.Record) { r.Ordinal += r.Ordinal })}, "ordinals"},
		"keys falling": {fault{read: each(func(r *dataset.Record) {
			r.Key = map[string]string{"a": "c", "b": "b"}[r.Key] + r.Key
		})}, "comes after"},
		"code outside the table": {fault{read: each(func(r *dataset.Record) {
			r.Data, r.Blob, r.Gap = nil, nil, &dataset.Gap{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal, Code: "oops"}
		})}, "closed table"},
		"gap about another": {fault{read: each(func(r *dataset.Record) {
			r.Data, r.Blob, r.Gap = nil, nil, &dataset.Gap{Stream: r.Stream, Key: "other", Code: dataset.Denied}
		})}, "its gap is about"},
		"second read differs": {fault{read: each(func(r *dataset.Record) {
			if reads++; reads > 6 {
				r.Data = []byte(`{"n":"another"}`)
			}
		})}, "differs"},
		"blob shorter than it says": {fault{read: each(func(r *dataset.Record) {
			if r.Blob != nil {
				r.Blob = &dataset.Blob{Size: r.Blob.Size + 1, Open: r.Blob.Open}
			}
		})}, "bytes, said"},
		"blob range ignored": {fault{read: each(func(r *dataset.Record) {
			if b := r.Blob; b != nil {
				r.Blob = &dataset.Blob{Size: b.Size, Open: func(ctx context.Context, _, _ int64) (io.ReadCloser, error) { return b.Open(ctx, 0, -1) }}
			}
		})}, "not those of the whole"},
		"error swallowed": {fault{read: func(_ exporters.Query, seq iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
			return func(yield func(dataset.Record, error) bool) {
				for r, err := range seq {
					if err != nil || !yield(r, nil) {
						return
					}
				}
			}
		}}, "without an error"},
		"endpoint with a password": {fault{facts: dataset.Facts{Endpoints: []dataset.Endpoint{{URL: "https://u:p@host/"}}}}, "user information"},
		"getter gives another":     {fault{get: func(r dataset.Record) (dataset.Record, error) { r.Data = []byte(`{"n":"another"}`); return r, nil }}, "Get of"},
		"getter makes things up":   {fault{get: func(r dataset.Record) (dataset.Record, error) { return r, nil }, getAny: true}, "that does not exist gave one"},
		"second Close fails":       {fault{facts: dataset.Facts{Position: "closes once"}}, "second Close"},
		"cursor ignored": {fault{read: func(q exporters.Query, seq iter.Seq2[dataset.Record, error]) iter.Seq2[dataset.Record, error] {
			if q.After == "" {
				return seq
			}
			return func(yield func(dataset.Record, error) bool) {}
		}}, "follows the cursor"},
	} {
		f := c.fault
		src := source()
		err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) {
			x, err := src.Open(t.Context())
			f.Exporter = x
			return &f, err
		}, exportertest.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want a breach that says %q", name, err, c.want)
		}
	}
}

func TestCheckExporterAcceptsGaps(t *testing.T) {
	t.Parallel()
	src := source()
	src.Mutate = func(r dataset.Record) []dataset.Record {
		r.Data, r.Blob, r.Gap = nil, nil, &dataset.Gap{Stream: r.Stream, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Denied}
		return []dataset.Record{r}
	}
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return src.Open(t.Context()) }, exportertest.Options{})
	if err != nil {
		t.Error(err)
	}
}

func TestCheckTargetFindsEachDifference(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		back func(r dataset.Record) []dataset.Record
		want string
	}{
		"a record dropped": {func(r dataset.Record) []dataset.Record {
			if r.Key == "a" {
				return nil
			}
			return []dataset.Record{r}
		}, `"a"/0 of stream "objects" is missing`},
		"a field altered": {func(r dataset.Record) []dataset.Record {
			if r.Key == "[1]" {
				r.Data = []byte(`{"id":1}`)
			}
			return []dataset.Record{r}
		}, `"[1]"/0 of stream "rows" is another`},
		"bytes altered": {func(r dataset.Record) []dataset.Record {
			if r.Key == "b" && r.Ordinal == 0 {
				r.Blob = memory.Bytes([]byte("odd"))
			}
			return []dataset.Record{r}
		}, `"b"/0 of stream "objects" is another`},
		"a record added": {func(r dataset.Record) []dataset.Record {
			more := r
			more.Key += "+"
			return []dataset.Record{r, more}
		}, `is extra`},
		"a record doubled": {func(r dataset.Record) []dataset.Record { return []dataset.Record{r, r} }, `comes twice`},
	} {
		x, err := source().Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = exportertest.CheckTarget(t.Context(), &memory.Target{ReadBack: c.back}, x)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want %q", name, err, c.want)
		}
	}
}

func TestCheckTargetLeavesOutWhatIsDeclared(t *testing.T) {
	t.Parallel()
	x, err := source().Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dst := &memory.Target{
		Losses: func(s dataset.Stream) []dataset.Loss {
			return []dataset.Loss{{Stream: s.Name, Field: "amount", Reason: "no room for money"}, {Stream: s.Name, Reason: "no first letters"}}
		},
		Refuse: func(r dataset.Record) *dataset.Gap {
			if r.Key == "a" {
				return &dataset.Gap{Code: dataset.Unsupported}
			}
			return nil
		},
		ReadBack: func(r dataset.Record) []dataset.Record {
			r.Data = []byte(strings.Replace(string(r.Data), `"amount":"`, `"amount":"9`, 1))
			return []dataset.Record{r}
		},
	}
	if err := exportertest.CheckTarget(t.Context(), dst, x); err != nil {
		t.Error(err)
	}
}

func TestCheckTargetFindsUndeclaredRefusals(t *testing.T) {
	t.Parallel()
	x, err := source().Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dst := &memory.Target{Refuse: func(r dataset.Record) *dataset.Gap { return &dataset.Gap{Code: dataset.Unsupported} }}
	if err := exportertest.CheckTarget(t.Context(), dst, x); err == nil || !strings.Contains(err.Error(), "no loss of whole records was declared") {
		t.Errorf("a target that refuses everything passed: %v", err)
	}
}

func TestCheckRefusalFindsATargetThatGivesWay(t *testing.T) {
	t.Parallel()
	if err := exportertest.CheckRefusal(t.Context(), new(memory.Target)); err == nil {
		t.Error("a target that could be filled passed")
	}
}
