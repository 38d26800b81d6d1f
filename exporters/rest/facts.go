package rest

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// facts are what a view learns while it reads. They are safe for concurrent use.
type facts struct {
	mu       sync.Mutex
	ignored  map[[2]string]int64
	notes    map[string]bool
	filters  map[string]bool
	raw      map[string]int64 // records extracted, by stream
	dropped  map[string]int64 // of them dropped by a filter
	repeated map[string]int64
	drift    map[string]map[string]int64 // stream to what differs from its schema
	totals   map[string][]string         // stream to the path of its own count; never changed
	summed   map[string]sums             // of streams of which the source states a count
}

// sums are what a source says it has of a stream, and what came.
type sums struct{ stated, received int64 }

func newFacts() *facts {
	return &facts{ignored: map[[2]string]int64{}, notes: map[string]bool{}, filters: map[string]bool{}, raw: map[string]int64{}, dropped: map[string]int64{},
		repeated: map[string]int64{}, drift: map[string]map[string]int64{}, totals: map[string][]string{}, summed: map[string]sums{}}
}

func (f *facts) ignore(stream, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ignored[[2]string{stream, reason}]++
}

func (f *facts) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.notes) < 10_000 {
		f.notes[s] = true
	}
}

func (f *facts) filter(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filters[s] = true
}

func (f *facts) count(stream string, kept bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raw[stream]++
	if !kept {
		f.dropped[stream]++
	}
}

func (f *facts) repeat(stream string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.repeated[stream]++
}

// evidence returns the count of a stream that an answer states, if the options say where.
func (f *facts) evidence(stream string, a *answer) (int64, bool) {
	path := f.totals[stream]
	if path == nil {
		return 0, false
	}
	if found := find(a.first(), path); len(found) == 1 {
		val, _ := jinja.LiteralEval(jinja.Str(found[0].val))
		return jinja.Int(val)
	}
	return 0, false
}

// sum takes the counts of a stream that has been read.
func (f *facts) sum(stream string, t *tally) {
	if !t.counted {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.summed[stream] = sums{t.stated, t.received}
}

// maxDrift bounds how many differences from a schema are told for one stream.
const maxDrift = 100

// differ counts what of a record is not as its schema says.
func (f *facts) differ(stream, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.drift[stream]
	if m == nil {
		m = map[string]int64{}
		f.drift[stream] = m
	}
	if _, known := m[what]; !known && len(m) >= maxDrift {
		what = "more members differ"
	}
	m[what]++
}

// compare notes members of a record that the schema lacks, and values of other types.
func (f *facts) compare(stream string, schema *jinja.Dict, rec *jinja.Dict) {
	props, _ := schema.Get("properties")
	d, ok := props.(*jinja.Dict)
	if !ok {
		return
	}
	for i := range rec.Len() {
		k, v := rec.At(i)
		sub, known := d.Get(k)
		if !known {
			f.differ(stream, fmt.Sprintf("member %s is not in the schema", jinja.Repr(k)))
			continue
		}
		s, ok := sub.(*jinja.Dict)
		if !ok || fits(s, v) {
			continue
		}
		f.differ(stream, fmt.Sprintf("member %s is not of the schema's type", jinja.Repr(k)))
	}
}

// fits reports whether a value is of one of a schema's types.
func fits(s *jinja.Dict, v jinja.Value) bool {
	var types []string
	switch t, _ := s.Get("type"); t := t.(type) {
	case string:
		types = []string{t}
	case *jinja.List:
		for _, e := range t.Items {
			types = append(types, jinja.Str(e))
		}
	default:
		return true
	}
	is := "string"
	switch v.(type) {
	case nil:
		is = "null"
	case bool:
		is = "boolean"
	case *jinja.Dict:
		is = "object"
	case *jinja.List:
		is = "array"
	case jinja.Number, int64, float64:
		is = "number"
	}
	if slices.Contains(types, is) {
		return true
	}
	return is == "number" && slices.Contains(types, "integer") && !slices.ContainsFunc([]byte(jinja.Str(v)), func(c byte) bool { return c == '.' || c == 'e' })
}

// report makes the public form, sorted.
func (f *facts) report(out *dataset.Facts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, n := range f.ignored {
		out.Ignored = append(out.Ignored, dataset.Ignored{Stream: k[0], Reason: k[1], Count: n})
	}
	sort.Slice(out.Ignored, func(i, j int) bool {
		a, b := out.Ignored[i], out.Ignored[j]
		return a.Stream < b.Stream || a.Stream == b.Stream && a.Reason < b.Reason
	})
	for s := range f.filters {
		out.Filters = append(out.Filters, s)
	}
	for s, n := range f.dropped {
		out.Filters = append(out.Filters, fmt.Sprintf("stream %s: the record filter left out %d of %d records", s, n, f.raw[s]))
	}
	sort.Strings(out.Filters)
	for s := range f.notes {
		out.Notes = append(out.Notes, s)
	}
	for s, n := range f.repeated {
		out.Notes = append(out.Notes, fmt.Sprintf("stream %s: %d records came again, equal to the first", s, n))
	}
	for s, n := range f.summed {
		out.Notes = append(out.Notes, fmt.Sprintf("stream %s: the source counts %d records, %d were received (evidence, no proof)", s, n.stated, n.received))
	}
	for s, m := range f.drift {
		for what, n := range m {
			out.Notes = append(out.Notes, fmt.Sprintf("stream %s: %s (%d records)", s, what, n))
		}
	}
	sort.Strings(out.Notes)
}
