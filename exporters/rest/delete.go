package rest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A deletion says how records of one stream are deleted: the option delete. The request is
// made with the requester, authenticator and host that the manifest reads the stream with.
type deletion struct {
	method string
	path   *expr    // of a record, below the requester's URL
	read   *expr    // where the record is read by itself; nil: the stream is listed instead
	record []string // where the record is in that answer

	mu   sync.Mutex
	list map[string]dataset.Hash // of a stream that is listed: the canonical record by key; nil until it was
}

// deletions reads the option delete:
//
//	delete:
//	  tickets: {path: "tickets/{{ record.id }}", read: "tickets/{{ record.id }}", record: ticket}
func (v *view) deletions(o map[string]any) error {
	all, _ := o["delete"].(map[string]any)
	for name, given := range all {
		m, ok := given.(map[string]any)
		if !ok {
			return fmt.Errorf("delete: stream %q: want a map of path, method, read and record", name)
		}
		d := &deletion{method: http.MethodDelete}
		for k, val := range m {
			text, ok := val.(string)
			if !ok || text == "" {
				return fmt.Errorf("delete: stream %q: %s is not a text", name, k)
			}
			var err error
			switch k {
			case "path":
				d.path, err = pathOf(text)
			case "read":
				d.read, err = pathOf(text)
			case "record":
				d.record = splitPath(text)
			case "method":
				if d.method = strings.ToUpper(text); !slices.Contains([]string{"DELETE", "POST", "PUT", "PATCH"}, d.method) {
					err = errors.New("method is DELETE, POST, PUT or PATCH")
				}
			default:
				err = fmt.Errorf("there is no setting %q", k)
			}
			if err != nil {
				return fmt.Errorf("delete: stream %q: %w", name, err)
			}
		}
		switch {
		case d.path == nil:
			return fmt.Errorf("delete: stream %q: path is required", name)
		case d.read != nil && v.records == "transformed":
			return fmt.Errorf("delete: stream %q: a record that is archived only as transformed cannot be held against one that is read by itself; leave read out", name)
		}
		v.deletes[name] = d
	}
	return nil
}

// pathOf compiles a path below the requester's URL.
func pathOf(text string) (*expr, error) {
	if strings.Contains(text, "://") || strings.HasPrefix(text, "//") {
		return nil, errors.New("a path leads to no other host")
	}
	x, err := jinja.Compile(text, append([]string{"config", "parameters"}, recordNames...))
	if err != nil {
		return nil, err
	}
	return &expr{x, new(jinja.Dict)}, nil
}

// A subject is a record that is to be deleted.
type subject struct {
	st     *stream
	d      *deletion
	record dataset.Record
	was    *jinja.Dict // the record as the source gave it
	scope  scope       // for paths: texts are escaped, so that no record leads out of its place
}

// subject finds how a record is deleted. It fails with [errors.ErrUnsupported] if the
// option delete does not name the stream.
func (v *view) subject(ctx context.Context, s dataset.Stream, r dataset.Record) (*subject, error) {
	all, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(st *stream) bool { return st.name == s.Name })
	switch {
	case i < 0 && strings.HasSuffix(s.Name, filesSuffix):
		return nil, fmt.Errorf("%w: attachments go with their records", exporters.ErrRefused)
	case i < 0:
		return nil, fmt.Errorf("there is no stream %q", s.Name)
	case v.deletes[s.Name] == nil:
		return nil, fmt.Errorf("the option delete does not say how: %w", errors.ErrUnsupported)
	case len(all[i].key) == 0:
		return nil, fmt.Errorf("%w: the stream has no key", exporters.ErrRefused)
	}
	x := &subject{st: all[i], d: v.deletes[s.Name], record: r}
	doc, err := jinja.ParseJSON(r.Data)
	if err != nil {
		return nil, fmt.Errorf("archived record: %w", err)
	}
	whole, ok := doc.(*jinja.Dict)
	if !ok {
		return nil, errors.New("the archived record is no object")
	}
	partition := new(jinja.Dict)
	if p, ok := valueOf(whole, partitionMember).(*jinja.Dict); ok && x.st.router != nil {
		partition = p
		whole.Delete(partitionMember)
	}
	x.was = whole
	if v.records == "both" {
		x.was, _ = valueOf(whole, "raw").(*jinja.Dict)
	}
	if x.was == nil {
		return nil, errors.New("the archived record does not hold what the source gave")
	}
	slice := escaped(partition)
	x.scope = v.scope().with("record", escaped(x.was), "stream_partition", slice, "stream_slice", slice, "stream_interval", slice)
	return x, nil
}

// escaped returns a copy of a value whose texts can stand in a path as one segment.
func escaped(v jinja.Value) jinja.Value {
	switch v := v.(type) {
	case string:
		return url.PathEscape(v)
	case *jinja.Dict:
		out := new(jinja.Dict)
		for i := range v.Len() {
			k, x := v.At(i)
			out.Set(k, escaped(x))
		}
		return out
	case *jinja.List:
		out := jinja.NewList()
		for _, x := range v.Items {
			out.Items = append(out.Items, escaped(x))
		}
		return out
	}
	return v
}

// ask makes one request about the record.
func (x *subject) ask(ctx context.Context, v *view, method string, path *expr) (*answer, error) {
	at, err := x.scope.text(path)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	place, _, _ := strings.Cut(at, "?")
	for i, segment := range strings.Split(strings.Trim(place, "/"), "/") {
		if segment == "." || segment == ".." || segment == "" {
			return nil, fmt.Errorf("%w: segment %d of the path that the record makes is %q, which leads elsewhere", exporters.ErrRefused, i+1, segment)
		}
	}
	if strings.HasSuffix(place, "/") && !strings.HasSuffix(path.Source(), "/") {
		return nil, fmt.Errorf("%w: the path that the record makes ends in nothing", exporters.ErrRefused)
	}
	r := *x.st.retriever.requesters()[0]
	r.method, r.params, r.data, r.json, r.plain, r.props, r.cached = method, nil, nil, nil, nil, nil, false
	r.handler = node{}.errorHandler()
	a, _, err := r.send(ctx, v, x.scope, target{path: at, options: newOptions()})
	var status *statusError
	if errors.As(err, &status) && (status.status == http.StatusNotFound || status.status == http.StatusGone) {
		return nil, fs.ErrNotExist
	}
	return a, err
}

// present fails unless the source has the record as archived.
func (x *subject) present(ctx context.Context, v *view) error {
	archived, err := dataset.Canonical(nil, x.record.Data)
	if err != nil {
		return fmt.Errorf("archived record: %w", err)
	}
	if x.d.read == nil {
		list, err := x.listed(ctx, v)
		if err != nil {
			return fmt.Errorf("list what there is: %w", err)
		}
		switch now, ok := list[x.record.Key]; {
		case !ok:
			return fs.ErrNotExist
		case now != dataset.Sum(archived):
			return exporters.ErrChanged
		}
		return nil
	}
	now, err := x.current(ctx, v)
	if err != nil {
		return err
	}
	if names := differing(x.was, now); len(names) > 0 {
		return fmt.Errorf("%w, in %s", exporters.ErrChanged, strings.Join(names, ", "))
	}
	return nil
}

// current reads the record by itself.
func (x *subject) current(ctx context.Context, v *view) (*jinja.Dict, error) {
	a, err := x.ask(ctx, v, http.MethodGet, x.d.read)
	if err != nil {
		return nil, err
	}
	doc, err := a.document()
	if err != nil {
		return nil, fmt.Errorf("the answer is no JSON (content type %q): %w", cut(a.header.Get("Content-Type"), 100), err)
	}
	found := find(doc, x.d.record)
	if len(found) == 1 {
		if now, ok := found[0].val.(*jinja.Dict); ok {
			return now, nil
		}
	}
	return nil, fmt.Errorf("the answer has no record at %q: %s", strings.Join(x.d.record, "/"), v.secrets.quoted(a.body))
}

// differing names the members in which two records differ, by canonical form.
func differing(was, now *jinja.Dict) (names []string) {
	for i := range was.Len() {
		k, a := was.At(i)
		if b, ok := now.Get(k); !ok || !sameValue(a, b) {
			names = append(names, fmt.Sprintf("%q", jinja.Str(k)))
		}
	}
	for i := range now.Len() {
		if k, _ := now.At(i); !was.Has(k) {
			names = append(names, fmt.Sprintf("%q", jinja.Str(k)))
		}
	}
	if now.Duplicate != "" {
		names = append(names, fmt.Sprintf("%q, which is there twice", now.Duplicate))
	}
	return names
}

func sameValue(a, b jinja.Value) bool {
	form := func(v jinja.Value) string {
		text, err := jinja.AppendJSON(nil, jinja.NewDict("v", v))
		if err == nil {
			text, err = dataset.Canonical(nil, text)
		}
		if err != nil {
			return "" // equal to nothing
		}
		return string(text)
	}
	x := form(a)
	return x != "" && x == form(b)
}

// listed reads the stream, once in a view. What could not be read is there, otherwise than
// archived.
func (x *subject) listed(ctx context.Context, v *view) (map[string]dataset.Hash, error) {
	x.d.mu.Lock()
	defer x.d.mu.Unlock()
	if x.d.list != nil {
		return x.d.list, nil
	}
	list := map[string]dataset.Hash{}
	for r, err := range v.Read(ctx, exporters.Query{Streams: []dataset.Stream{{Name: x.st.name}}}) {
		switch {
		case err != nil:
			return nil, err
		case r.Gap != nil && r.Gap.Key == "":
			return nil, r.Gap
		case r.Gap != nil:
			list[r.Key] = dataset.Hash{}
			continue
		}
		canon, err := dataset.Canonical(nil, r.Data)
		if err != nil {
			return nil, err
		}
		list[r.Key] = dataset.Sum(canon)
	}
	x.d.list = list
	return list, nil
}

// Delete implements [exporters.Deleter] for the streams that the option delete names. A
// record is deleted if the source has it as archived: read by itself just before, or else as
// the stream was listed when the first of its records was to go. Read by itself, it must be
// gone afterwards, whatever the source answered. It is safe for concurrent use.
func (v *view) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	x, err := v.subject(ctx, s, r)
	if err == nil {
		err = x.present(ctx, v)
	}
	if err == nil {
		err = x.delete(ctx, v)
	}
	if err != nil {
		return v.redacted(fmt.Errorf("delete from %q: %w", s.Name, err))
	}
	return nil
}

func (x *subject) delete(ctx context.Context, v *view) error {
	a, err := x.ask(ctx, v, x.d.method, x.d.path)
	if errors.Is(err, fs.ErrNotExist) {
		// It was there a moment ago: by a request of ours whose answer was lost, or by
		// somebody else. Whoever asks again learns that it is gone.
		err = fmt.Errorf("%w: it went away meanwhile", exporters.ErrTemporary)
	}
	if x.d.read == nil {
		x.d.mu.Lock()
		if err == nil || errors.Is(err, exporters.ErrTemporary) {
			delete(x.d.list, x.record.Key)
		}
		x.d.mu.Unlock()
	}
	if err != nil || x.d.read == nil {
		return err
	}
	err = x.present(ctx, v)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, exporters.ErrChanged):
		return fmt.Errorf("%w: the source answered %d and has the record still, %v", exporters.ErrMarked, a.status, err)
	case err != nil:
		return fmt.Errorf("%w: the source answered %d; whether the record is gone could not be read: %w", exporters.ErrTemporary, a.status, err)
	case a.status == http.StatusAccepted:
		return fmt.Errorf("%w: the source answered %d and has not deleted the record yet", exporters.ErrTemporary, a.status)
	}
	return fmt.Errorf("%w: the source answered %d and has the record still", exporters.ErrRefused, a.status)
}

// Rehearse implements [exporters.Rehearser]: each record is looked for as Delete does.
// Whether the credential may delete cannot be asked.
func (v *view) Rehearse(context.Context) (exporters.Rehearsal, error) {
	return &rehearsal{v: v, gone: map[string]bool{}}, nil
}

// A rehearsal remembers what it answered for.
type rehearsal struct {
	v    *view
	mu   sync.Mutex
	gone map[string]bool
}

// Delete implements [exporters.Deleter].
func (h *rehearsal) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := s.Name + "\x00" + r.Key
	x, err := h.v.subject(ctx, s, r)
	switch {
	case err != nil:
	case h.gone[id]:
		err = fs.ErrNotExist
	default:
		err = x.present(ctx, h.v)
		h.gone[id] = err == nil
	}
	if err != nil {
		return h.v.redacted(fmt.Errorf("delete from %q: %w", s.Name, err))
	}
	return nil
}

// Close implements [exporters.Rehearsal].
func (h *rehearsal) Close() error { return nil }
