package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// A Report says whether a manifest runs, and what it lacks.
type Report struct {
	Runs       bool           `json:"runs"`
	Streams    []string       `json:"streams"`           // by name; those that are found at the service are not among them
	Dynamic    []string       `json:"dynamic,omitempty"` // templates of streams that are found at the service or in the configuration
	Components map[string]int `json:"components"`        // used, by type
	Problems   []Problem      `json:"problems"`          // empty if it runs
}

// Lint reads a manifest and says whether it runs here. It fails only if the document
// cannot be read at all. It makes no request.
func Lint(data []byte) (Report, error) {
	m, err := parse(data)
	if err != nil {
		return Report{}, fmt.Errorf("manifest: %w", err)
	}
	r := Report{Runs: len(m.problems) == 0, Streams: []string{}, Problems: m.problems, Components: m.used}
	if r.Problems == nil {
		r.Problems = []Problem{}
	}
	for _, s := range m.streams {
		r.Streams = append(r.Streams, s.name)
	}
	for _, g := range m.guarded {
		for _, s := range g.streams {
			r.Streams = append(r.Streams, s.name)
		}
	}
	for _, d := range m.dynamic {
		r.Dynamic = append(r.Dynamic, d.name)
	}
	slices.Sort(r.Streams)
	return r, nil
}

// Write writes the report for people: a line for each problem, or what runs. Texts of
// the manifest are quoted.
func (r Report) Write(w io.Writer) error {
	verdict := "runs"
	if !r.Runs {
		verdict = fmt.Sprintf("does not run: %d problems", len(r.Problems))
	}
	if _, err := fmt.Fprintf(w, "%s\n%d streams", verdict, len(r.Streams)); err != nil {
		return err
	}
	for _, s := range r.Streams {
		fmt.Fprintf(w, " %q", s)
	}
	fmt.Fprintln(w)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s\t%s\t%s\t%q\n", p.Path, p.Component, p.Field, p.Message)
		if p.Expression != "" {
			fmt.Fprintf(w, "\t%q\n", p.Expression)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(r.Components)) {
		if _, err := fmt.Fprintf(w, "%6d %s\n", r.Components[c], c); err != nil {
			return err
		}
	}
	return nil
}

// A Sample is what the first requests of a stream brought.
type Sample struct {
	Stream  string            `json:"stream"`
	Records []json.RawMessage `json:"records"`
	Gaps    []dataset.Gap     `json:"gaps,omitempty"`
	Failure error             `json:"-"`               // why it ended early; its text holds no secret
	Err     string            `json:"error,omitempty"` // the text of Failure
}

// First opens a connection and returns the first records of each stream, n at most,
// as they would be exported, and with them the files that they link to. A stream that
// fails has its error in its sample; First fails if the connection cannot be opened or the
// context ends. Secrets of the configuration that a service repeats in its records are
// replaced by stars.
func First(ctx context.Context, c exporters.Config, n int) ([]Sample, error) {
	x, err := Kind.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	streams, err := x.Streams(ctx)
	if err != nil {
		return nil, err
	}
	var out []Sample
	for _, s := range streams {
		if s.Blobs {
			continue // read with its records
		}
		q := exporters.Query{Streams: []dataset.Stream{s}}
		i := slices.IndexFunc(streams, func(f dataset.Stream) bool { return f.Blobs && f.Group != "" && f.Group == s.Group })
		if i >= 0 {
			q.Streams = append(q.Streams, streams[i])
		}
		records, files := first(ctx, x, q, n)
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		if out = append(out, records); i >= 0 {
			out = append(out, files)
		}
	}
	return out, nil
}

// first reads until there are n records or gaps of a stream, and what comes with them of
// its files, if the query has both.
func first(ctx context.Context, x exporters.Exporter, q exporters.Query, n int) (records, files Sample) {
	records = Sample{Stream: q.Streams[0].Name, Records: []json.RawMessage{}}
	files = Sample{Records: []json.RawMessage{}}
	if len(q.Streams) > 1 {
		files.Stream = q.Streams[1].Name
	}
	for rec, err := range x.Read(ctx, q) {
		into := &records
		if err == nil && rec.Stream != records.Stream {
			into = &files
		} else if len(records.Records)+len(records.Gaps) >= n {
			break // the next one has begun
		}
		switch {
		case err != nil:
			into.Failure, into.Err = err, err.Error()
		case rec.Gap != nil:
			into.Gaps = append(into.Gaps, *rec.Gap)
		default:
			into.Records = append(into.Records, shown(x, rec.Data))
		}
		if len(q.Streams) == 1 && len(records.Records)+len(records.Gaps) >= n {
			break
		}
	}
	return records, files
}

// shown is a record without the secrets that x knows of.
func shown(x exporters.Exporter, data []byte) json.RawMessage {
	v, ok := x.(*view)
	if !ok {
		return slices.Clone(data)
	}
	text := []byte(v.secrets.clean(string(data)))
	if json.Valid(text) {
		return text
	}
	quoted, err := dataset.Quote(nil, string(text)) // a number was a secret
	if err != nil {
		return json.RawMessage(`"***"`)
	}
	return quoted
}
