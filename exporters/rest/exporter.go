package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A view is one opened service. It implements [exporters.Exporter] and
// [exporters.Counter].
type view struct {
	manifest *manifest
	config   *jinja.Dict
	env      *jinja.Env
	client   *client
	secrets  *redactor
	budget   *apiBudget
	cache    responseCache
	held     heldFiles
	facts    *facts
	homes    map[string]bool // origins that the configuration decides
	stateDir string
	started  time.Time

	shortPage     bool
	driftCheck    bool
	records       string // raw, transformed or both
	absentIsEmpty map[string]bool
	include       []string
	exclude       []string
	attachments   map[string]*attachment

	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	once    sync.Mutex
	streams []*stream // all, once they are known
	closed  bool
}

func (v *view) scope() scope {
	return scope{v.env, jinja.Vars{"config": v.config, "next_page_token": nil}}
}

// Streams implements [exporters.Exporter].
func (v *view) Streams(ctx context.Context) ([]dataset.Stream, error) {
	all, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	var out []dataset.Stream
	for _, st := range all {
		s := dataset.Stream{Name: st.name, Keyless: len(st.key) == 0, Schema: st.describe()}
		attrs := map[string]any{"manifest": st.path}
		if st.router != nil {
			attrs["partitioned"] = true
		}
		if v.records != "raw" {
			attrs["records"] = v.records
		}
		if s.Attributes, err = json.Marshal(attrs); err != nil {
			return nil, err
		}
		if v.records != "raw" { // the schema and key are those of a member
			s.Schema = &dataset.Schema{Native: s.Schema.Native}
		}
		if a := v.attachments[st.name]; a != nil {
			s.Group = st.name
			out = append(out, dataset.Stream{Name: st.name + filesSuffix, Group: st.name, Blobs: true, Attributes: json.RawMessage(`{"attachments":true}`)})
		}
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	for i := 1; i < len(out); i++ {
		if out[i].Name == out[i-1].Name {
			return nil, fmt.Errorf("two streams are named %q", out[i].Name)
		}
	}
	return out, nil
}

// all returns the streams of the manifest that this configuration has and the options
// do not exclude.
func (v *view) all(ctx context.Context) ([]*stream, error) {
	v.once.Lock()
	defer v.once.Unlock()
	if v.closed {
		return nil, errors.New("the view is closed")
	}
	if v.streams != nil {
		return v.streams, nil
	}
	all := slices.Clone(v.manifest.streams)
	for _, g := range v.manifest.guarded {
		ok, err := v.scope().truth(g.cond, true)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, g.streams...)
		} else {
			for _, s := range g.streams {
				v.facts.filter(fmt.Sprintf("stream %s: left out by a condition of the manifest", s.name))
			}
		}
	}
	if err := v.pin(all); err != nil {
		return nil, err
	}
	for _, d := range v.manifest.dynamic {
		if d.from != nil {
			if err := v.pin([]*stream{d.from}); err != nil {
				return nil, err
			}
		}
		more, err := d.streams(ctx, v, v.manifest.cat)
		if err != nil {
			return nil, err
		}
		if err := v.pinned(more); err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	var chosen []*stream
	for _, s := range all {
		if len(v.include) > 0 && !slices.Contains(v.include, s.name) || slices.Contains(v.exclude, s.name) {
			v.facts.filter(fmt.Sprintf("stream %s: left out by the options", s.name))
			continue
		}
		if s.dynamic != nil {
			schema, err := s.dynamic.load(ctx, v)
			if err != nil {
				return nil, fmt.Errorf("stream %s: %w", s.name, err)
			}
			s.schema = mergeSchemas(s.schema, schema)
		}
		v.scopeNotes(s)
		chosen = append(chosen, s)
	}
	for _, n := range append(slices.Clone(v.include), v.exclude...) {
		if !slices.ContainsFunc(all, func(s *stream) bool { return s.name == n }) {
			return nil, fmt.Errorf("the options name stream %q, which the manifest does not have", n)
		}
	}
	if chosen == nil {
		chosen = []*stream{}
	}
	v.streams = chosen
	return chosen, nil
}

// pin learns the hosts of streams whose URLs the configuration decides.
func (v *view) pin(streams []*stream) error {
	for _, st := range streams {
		for _, r := range st.requesters() {
			if r.base == nil || !r.ofConfig() {
				continue
			}
			base, err := v.scope().text(r.base)
			if err != nil {
				return fmt.Errorf("stream %s: url: %w", st.name, err)
			}
			u, err := parseURL(base)
			if err != nil {
				return fmt.Errorf("stream %s: url: %w", st.name, err)
			}
			v.homes[origin(u)] = true
		}
	}
	return nil
}

// pinned checks that streams made of a service's answers go to no new host.
func (v *view) pinned(streams []*stream) error {
	known := v.homes
	v.homes = map[string]bool{}
	defer func() { v.homes = known }()
	if err := v.pin(streams); err != nil {
		return err
	}
	for o := range v.homes {
		if !known[o] && !v.client.extra[o] {
			return &refusedError{fmt.Sprintf("a stream found at the service goes to %s, which is not a host of the manifest; the option hosts can allow it", o)}
		}
	}
	return nil
}

// scopeNotes reports what a stream leaves out on purpose.
func (v *view) scopeNotes(st *stream) {
	if x := st.selector.filter; x != nil {
		v.facts.filter(fmt.Sprintf("stream %s: only records for which %s", st.name, x.Source()))
	}
	if c := st.cursor; c != nil && !c.count {
		if from, to, err := c.bounds(v); err == nil {
			field, _ := v.scope().text(c.field)
			v.facts.filter(fmt.Sprintf("stream %s: only records whose %s is from %s to %s", st.name, field, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)))
		}
		if c.clientSide || c.dataFeed {
			v.facts.note(fmt.Sprintf("stream %s: the manifest filters by date on the client; that was not done, everything received was kept", st.name))
		}
	}
}

// Count implements [exporters.Counter]: the source's own number, as far as the option
// counts says where it is and the stream has been read; else -1.
func (v *view) Count(ctx context.Context, s dataset.Stream) (int64, error) {
	v.facts.mu.Lock()
	defer v.facts.mu.Unlock()
	if n, ok := v.facts.summed[s.Name]; ok {
		return n, nil
	}
	return -1, nil
}

// Facts implements [exporters.Exporter].
func (v *view) Facts() dataset.Facts {
	f := dataset.Facts{Position: v.started.UTC().Format(time.RFC3339)}
	v.client.mu.Lock()
	for o := range v.client.touched {
		f.Endpoints = append(f.Endpoints, dataset.Endpoint{URL: o})
	}
	v.client.mu.Unlock()
	sort.Slice(f.Endpoints, func(i, j int) bool { return f.Endpoints[i].URL < f.Endpoints[j].URL })
	v.facts.report(&f)
	f.Notes = append(f.Notes, "records are those that the credentials may see through the API; what the API hides (by permission, as archived or as draft) is not among them")
	if v.shortPage {
		f.Notes = append(f.Notes, "pagination: short-page; a page with fewer records than asked for was taken for the last")
	}
	for i, s := range f.Notes {
		f.Notes[i] = v.secrets.clean(s)
	}
	for i, s := range f.Filters {
		f.Filters[i] = v.secrets.clean(s)
	}
	return f
}

// Close implements [exporters.Exporter].
func (v *view) Close() error {
	v.held.close()
	v.client.http.CloseIdleConnections()
	v.once.Lock()
	v.closed = true
	v.once.Unlock()
	return nil
}

// Read implements [exporters.Exporter]. It reads a stream, its attachments, or both.
func (v *view) Read(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		err := v.read(ctx, q, func(r dataset.Record) error {
			if !yield(r, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(dataset.Record{}, v.redacted(err))
		}
	}
}

func (v *view) isClosed() bool {
	v.once.Lock()
	defer v.once.Unlock()
	return v.closed
}

// redacted keeps secrets out of an error's text, and the error otherwise whole.
func (v *view) redacted(err error) error {
	if text := err.Error(); v.secrets.clean(text) != text {
		return &cleanError{v.secrets.clean(text), err}
	}
	return err
}

type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }

// Is and As reach what is inside; Unwrap would hand out the text with the secret.
func (e *cleanError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *cleanError) As(target any) bool {
	if _, ok := target.(**dataset.Gap); ok {
		return errors.As(e.err, target)
	}
	return false
}

func (v *view) read(ctx context.Context, q exporters.Query, yield func(dataset.Record) error) error {
	if q.After != "" || q.Range != (dataset.Range{}) {
		return errors.New("a stream of this kind is read whole: it has no ranges and no cursors")
	}
	name, records, files := "", false, false
	for _, s := range q.Streams {
		n := strings.TrimSuffix(s.Name, filesSuffix)
		isFiles := n != s.Name && v.attachments[n] != nil
		if !isFiles {
			n = s.Name
		}
		if name != "" && n != name {
			return fmt.Errorf("streams %q and %q are not of one group", name, n)
		}
		name, files, records = n, files || isFiles, records || !isFiles
	}
	if files && !records {
		return fmt.Errorf("%s is read together with its records: its files come in their order", name+filesSuffix)
	}
	all, err := v.all(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(s *stream) bool { return s.name == name })
	if i < 0 {
		return fmt.Errorf("there is no stream %q", name)
	}
	rd := &reader{v: v, st: all[i], records: records, files: files, seen: newTracker(), yield: yield}
	if err := all[i].read(ctx, v, func(it item) error { return rd.item(ctx, it) }); err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return rd.end()
}

// A reader turns the items of one Read into records.
type reader struct {
	v              *view
	st             *stream
	records, files bool
	seen           *tracker
	yield          func(dataset.Record) error
	buf, canon     []byte
	received       int64
}

func (r *reader) gap(g dataset.Gap) error {
	g.Stream = r.st.name
	g.Detail = r.v.secrets.clean(g.Detail)
	return r.yield(dataset.Record{Stream: r.st.name, Key: g.Key, Ordinal: g.Ordinal, Gap: &g})
}

// maxRecord is the largest record that an archive takes.
const maxRecord = 30 << 20

func (r *reader) item(ctx context.Context, it item) error {
	if it.gap != nil {
		return r.gap(*it.gap)
	}
	r.received++
	raw := it.raw.(*jinja.Dict)
	if raw.Duplicate != "" {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: fmt.Sprintf("the record has the member %q twice", raw.Duplicate)})
	}
	data, err := r.data(it)
	if err != nil {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: err.Error()})
	}
	if len(data) > maxRecord {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.TooLarge, Detail: fmt.Sprintf("the record has %d bytes", len(data))})
	}
	if r.canon, err = dataset.Canonical(r.canon[:0], data); err != nil {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: err.Error()})
	}
	if r.st.schema != nil {
		r.v.facts.compare(r.st.name, r.st.schema, it.out)
	}
	rec := dataset.Record{Stream: r.st.name, Data: data}
	if len(r.st.key) == 0 {
		rec.Key = dataset.KeylessKey(r.canon)
		rec.Ordinal = r.seen.ordinal(rec.Key)
	} else {
		if rec.Key, err = r.st.keyOf(it); err != nil {
			return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: err.Error()})
		}
		before, same := r.seen.seen(rec.Key, r.canon)
		switch {
		case same:
			r.v.facts.repeat(r.st.name)
			return nil
		case before:
			return r.gap(dataset.Gap{Key: rec.Key, Code: dataset.DuplicateKey, Detail: "two records of this key differ"})
		}
	}
	if r.records {
		if err := r.yield(rec); err != nil {
			return err
		}
	}
	if r.files {
		return r.v.attachments[r.st.name].each(ctx, r.v, r.st, it, rec.Key, rec.Ordinal, r.yield)
	}
	return nil
}

// data makes the JSON of a record: as received, with the partition it is of as its
// last member; or as transformed; or both.
func (r *reader) data(it item) (json.RawMessage, error) {
	var partition []byte
	var err error
	if r.st.router != nil {
		if partition, err = it.part.json(); err != nil {
			return nil, err
		}
	}
	raw := it.raw.(*jinja.Dict).Raw
	if raw == nil { // not from JSON
		if raw, err = jinja.AppendJSON(nil, it.raw); err != nil {
			return nil, err
		}
	}
	if raw, err = dataset.Compact(r.buf[:0], raw); err != nil {
		return nil, err
	}
	r.buf = raw
	with := func(b []byte) ([]byte, error) {
		if partition == nil {
			return b, nil
		}
		if it.raw.(*jinja.Dict).Has(partitionMember) {
			return nil, fmt.Errorf("the record has a member %s of its own", partitionMember)
		}
		b = b[:len(b)-1]
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"`+partitionMember+`":`...)
		return append(append(b, partition...), '}'), nil
	}
	if r.v.records == "raw" {
		return with(raw)
	}
	out, err := jinja.AppendJSON(nil, it.out)
	if err != nil {
		return nil, err
	}
	if out, err = dataset.Compact(nil, out); err != nil {
		return nil, err
	}
	if r.v.records == "transformed" {
		return with(out)
	}
	b := append(append(append([]byte(`{"raw":`), raw...), `,"transformed":`...), out...)
	return with(append(b, '}'))
}

// json is the partition as compact JSON with the lexemes of the parent's record.
func (p part) json() ([]byte, error) {
	d := p.partition
	if d == nil {
		d = new(jinja.Dict)
	}
	return jinja.AppendJSON(nil, trimmed(d))
}

// trimmed leaves out empty parent slices.
func trimmed(d *jinja.Dict) *jinja.Dict {
	out := new(jinja.Dict)
	for i := range d.Len() {
		k, v := d.At(i)
		if up, ok := v.(*jinja.Dict); ok && k == "parent_slice" {
			if up.Len() == 0 {
				continue
			}
			v = trimmed(up)
		}
		out.Set(k, v)
	}
	return out
}

// keyOf makes the key of a record from the transformed record, for the manifest's
// primary key is of that.
func (st *stream) keyOf(it item) (string, error) {
	var vals []json.RawMessage
	for _, path := range st.key {
		found := find(it.out, path)
		if len(found) != 1 || found[0].val == nil {
			return "", fmt.Errorf("the record has no %s, which is of its primary key", strings.Join(path, "."))
		}
		b, err := jinja.AppendJSON(nil, found[0].val)
		if err != nil {
			return "", err
		}
		vals = append(vals, b)
	}
	if st.router != nil {
		b, err := it.part.json()
		if err != nil {
			return "", err
		}
		vals = append(vals, b)
	}
	return dataset.Key(vals)
}

// end compares what was received with what the source says it has.
func (r *reader) end() error {
	f := r.v.facts
	f.endSlice(r.st.name)
	f.mu.Lock()
	stated, ok := f.summed[r.st.name]
	got := f.raw[r.st.name]
	f.mu.Unlock()
	if ok && stated > got {
		return r.gap(dataset.Gap{Code: dataset.PossiblyCut, Detail: fmt.Sprintf("the source counts %d records, %d were received", stated, got)})
	}
	return nil
}

// Kind is the exporter of SaaS products by low-code manifests.
var Kind = exporters.Kind{
	Name:    "rest",
	Summary: "SaaS products, by an Airbyte low-code manifest run natively",
	Options: []exporters.Option{
		{Name: "manifest", Type: exporters.PathOption, Required: true, Help: "The low-code manifest (YAML)."},
		{Name: "config", Type: exporters.MapOption, Help: "The connection's configuration; texts that begin with env:, file: or exec: are secrets."},
		{Name: "streams", Type: exporters.ListOption, Help: "Streams to read; all if empty."},
		{Name: "exclude", Type: exporters.ListOption, Help: "Streams to leave out."},
		{Name: "records", Type: exporters.TextOption, Default: "raw", Enum: []string{"raw", "transformed", "both"}, Help: "Records as received, as the manifest transforms them, or both side by side."},
		{Name: "pagination", Type: exporters.TextOption, Default: "exhaustive", Enum: []string{"exhaustive", "short-page"}, Help: "Whether pages are read until an empty one, or a short page is the last."},
		{Name: "drift_check", Type: exporters.BoolOption, Default: true, Help: "Ask for the first page of a paged list again at its end, to notice records that moved."},
		{Name: "absent_is_empty", Type: exporters.ListOption, Help: "Streams whose answers leave the list of records out when there are none."},
		{Name: "counts", Type: exporters.MapOption, Help: "Stream to the path in its answers (a/b/c) of the source's own count: evidence, no proof."},
		{Name: "attachments", Type: exporters.MapOption, Help: "Stream to the path of URLs in its records, or a map of url, name, size and sha256 paths."},
		{Name: "hosts", Type: exporters.ListOption, Help: "Further hosts that links may lead to; credentials are never sent there."},
		{Name: "private_network", Type: exporters.BoolOption, Default: false, Help: "Host names may resolve to private addresses (10.0.0.0/8 and the like)."},
		{Name: "proxy", Type: exporters.TextOption, Help: "URL of an HTTP proxy."},
		{Name: "ca", Type: exporters.PathOption, Help: "PEM file of further certificate authorities."},
		{Name: "max_response", Type: exporters.IntOption, Default: int64(64 << 20), Help: "Bytes of one answer at most, after decompression."},
		{Name: "max_download", Type: exporters.IntOption, Default: int64(64 << 30), Help: "Bytes of one streamed report at most, after decompression."},
		{Name: "timeout", Type: exporters.DurationOption, Default: 2 * time.Minute, Help: "Time for one answer at most."},
		{Name: "patience", Type: exporters.DurationOption, Default: time.Hour, Help: "Waiting for one request at most, all its retries together."},
	},
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		return open(ctx, c, time.Now, sleep)
	},
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
