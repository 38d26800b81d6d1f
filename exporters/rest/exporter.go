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
	"github.com/dwp/sallyport/internal/spool"
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
	gate     *gate
	ahead    int // slices of a stream that are read at once
	cache    responseCache
	booking  sync.Mutex
	books    map[string]*tokenBook // of tokens that rotate, by definition; guarded by booking
	held     heldFiles
	facts    *facts
	homes    map[string]bool // origins that the configuration decides
	stateDir string
	home     string // the folder of the manifest
	started  time.Time
	memory   int64 // bytes that recognising repeated records may take, for each stream that is read

	shortPage     bool
	driftCheck    bool
	records       string // raw, transformed or both
	absentIsEmpty map[string]bool
	include       []string
	exclude       []string
	attachments   map[string]*attachment
	deletes       map[string]*deletion

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
		for _, at := range s.schemaFiles {
			schema, err := v.schemaInFile(s, at)
			if err != nil {
				return nil, fmt.Errorf("stream %s: schema: %w", s.name, err)
			}
			s.schema = mergeSchemas(s.schema, schema)
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
		return n.stated, nil
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
	v.cache.close()
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
	rd := &reader{v: v, st: all[i], records: records, files: files, seen: spool.NewRepeats("", v.memory), yield: yield}
	defer rd.seen.Close()
	if err := all[i].read(ctx, v, func(it item) error { return rd.item(ctx, it) }); err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}
