package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// filesSuffix names the companion stream of a stream with attachments.
const filesSuffix = ".files"

// An attachment says where records name their files. The paths name, size and sha256
// begin at the map that holds the URL. Links are relative to base, an expression over
// config and record, or to the stream's own base if it is nil. They are opened with the
// credentials of auth, or with the stream's own if it is nil.
type attachment struct {
	url, name, size, sha256 []string
	base                    *expr
	authAt                  string // where in the manifest auth is defined, as #/definitions/x
	auth                    authenticator
}

func parseAttachment(v any) (*attachment, error) {
	a := &attachment{}
	switch v := v.(type) {
	case string:
		a.url = splitPath(v)
	case map[string]any:
		for k, p := range v {
			s, ok := p.(string)
			if k == "auth" && ok {
				a.authAt = s
				continue
			}
			if k == "base" && ok {
				x, err := jinja.Compile(s, []string{"config", "record"})
				if err != nil {
					return nil, fmt.Errorf("base: %w", err)
				}
				a.base = &expr{x, new(jinja.Dict)}
				continue
			}
			into, known := map[string]*[]string{"url": &a.url, "name": &a.name, "size": &a.size, "sha256": &a.sha256}[k]
			if !ok || !known {
				return nil, fmt.Errorf("%q is not url, name, size or sha256 with a path, base with an expression, or auth with a place in the manifest", k)
			}
			*into = splitPath(s)
		}
	default:
		return nil, errors.New("is neither a path nor a map of paths")
	}
	if len(a.url) == 0 {
		return nil, errors.New("the path of the URL is missing")
	}
	return a, nil
}

// each yields a record of the companion stream for every URL of a record: its bytes, or
// a gap that says why there are none.
func (a *attachment) each(ctx context.Context, v *view, st *stream, it item, key string, ordinal int, yield func(dataset.Record) error) error {
	for _, m := range find(it.raw, a.url) {
		if m.val == nil || m.val == "" {
			continue // the record has no file
		}
		f := &file{v: v, st: st, it: it, from: a.base, auth: a.auth, stream: st.name + filesSuffix, at: strings.Join(m.at, "/"), parent: key}
		id := dataset.KeylessKey([]byte(key + "\x00" + strconv.Itoa(ordinal)))
		if k, err := fileKey(key, len(st.key) > 0, id, f.at); err != nil {
			return err
		} else {
			f.key = k
		}
		f.beside(a, m)
		rec, err := f.record(ctx, m.val)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			g := dataset.Gap{Stream: f.stream, Key: f.key, Code: dataset.BadAttachment, Detail: v.secrets.clean(err.Error())}
			rec = dataset.Record{Stream: f.stream, Key: f.key, Gap: &g}
		}
		v.held.add(f)
		if err := yield(rec); err != nil {
			return err
		}
	}
	return nil
}

// fileKey is the key of a file: the parent's key (a keyless parent's id) and the place
// of the URL in the record.
func fileKey(parent string, keyed bool, id, at string) (string, error) {
	b := []byte(parent[:max(0, len(parent)-1)])
	if !keyed {
		b = append([]byte{'['}, `"`+id+`"`...)
	}
	b, err := dataset.Quote(append(b, ','), at)
	return string(append(b, ']')), err
}

// A file is one attachment. Its first request is made when the record is yielded; the
// body of that is handed to the reader that begins at 0.
type file struct {
	v                       *view
	st                      *stream
	it                      item
	from                    *expr         // what the link is relative to; nil means the stream's base
	auth                    authenticator // nil means the stream's
	stream, key, at, parent string
	name, sha256            string
	size                    int64 // as the record says, -1 if it does not

	url    *url.URL
	etag   string
	length int64 // as the server says, -1 if it does not
	mu     sync.Mutex
	first  io.ReadCloser // at offset pos
	pos    int64
}

// beside reads what the record says about the file next to its URL.
func (f *file) beside(a *attachment, m match) {
	parent := f.it.raw
	for _, k := range m.at[:len(m.at)-1] {
		parent = findKey(parent, escapeGlob(k))[0].val
	}
	get := func(p []string) string {
		if p == nil {
			return ""
		}
		if found := find(parent, p); len(found) == 1 && found[0].val != nil {
			return jinja.Str(found[0].val)
		}
		return ""
	}
	f.name, f.sha256, f.size = get(a.name), strings.ToLower(get(a.sha256)), -1
	if n, err := strconv.ParseInt(get(a.size), 10, 64); err == nil {
		f.size = n
	}
}

// record requests the file and makes its index line.
func (f *file) record(ctx context.Context, val jinja.Value) (dataset.Record, error) {
	text, ok := val.(string)
	if !ok {
		return dataset.Record{}, fmt.Errorf("the URL is %s", cut(jinja.Repr(val), 100))
	}
	base, _, err := f.requester(ctx)
	if err != nil {
		return dataset.Record{}, err
	}
	if f.from != nil {
		at, err := f.v.scope().with("record", f.it.raw).text(f.from)
		if err != nil {
			return dataset.Record{}, fmt.Errorf("base: %w", err)
		}
		ref, err := url.Parse(at)
		if err != nil {
			return dataset.Record{}, errors.New("the base of the link is malformed")
		}
		base = base.ResolveReference(ref)
	}
	ref, err := url.Parse(text)
	if err != nil {
		return dataset.Record{}, errors.New("the URL is malformed")
	}
	f.url = base.ResolveReference(ref)
	if f.url.Scheme != "http" && f.url.Scheme != "https" {
		return dataset.Record{}, fmt.Errorf("the URL's scheme is %q", cut(f.url.Scheme, 20))
	}
	resp, err := f.get(ctx, 0)
	if err != nil {
		return dataset.Record{}, err
	}
	if f.name == "" {
		if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil {
			f.name = params["filename"]
		}
	}
	typ := resp.Header.Get("Content-Type")
	body, err := f.judge(resp, typ)
	if err != nil {
		resp.Body.Close()
		return dataset.Record{}, err
	}
	f.first, f.etag, f.length = body, resp.Header.Get("ETag"), resp.ContentLength
	line := jinja.NewDict("parent", f.parent, "at", f.at, "url", f.url.String(), "content_type", typ)
	if f.name != "" {
		line.Set("name", f.name)
	}
	if f.sha256 != "" {
		line.Set("sha256_stated", f.sha256)
	}
	data, err := jinja.AppendJSON(nil, line)
	if err != nil {
		return dataset.Record{}, err
	}
	return dataset.Record{Stream: f.stream, Key: f.key, Data: data, Blob: &dataset.Blob{Size: f.length, Open: f.open}}, nil
}

// judge refuses what is no file: errors, log-in pages, wrong lengths. It returns the
// body, of which it may have looked at the beginning.
func (f *file) judge(resp *http.Response, typ string) (io.ReadCloser, error) {
	switch {
	case resp.StatusCode == 401 || resp.StatusCode == 403 || resp.StatusCode == 404 || resp.StatusCode == 410:
		return nil, fmt.Errorf("the link is dead: it answered %d", resp.StatusCode)
	case resp.StatusCode != 200:
		return nil, fmt.Errorf("the link answered %d", resp.StatusCode)
	case f.size >= 0 && resp.ContentLength >= 0 && f.size != resp.ContentLength:
		return nil, fmt.Errorf("the file has %d bytes, the record says %d", resp.ContentLength, f.size)
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(resp.Body, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, fmt.Errorf("read the file: %w", f.v.client.clean(err))
	}
	head = head[:n]
	body := readCloser{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body, func() {}}
	ext := strings.ToLower(path.Ext(f.name))
	if f.name == "" {
		ext = strings.ToLower(path.Ext(f.url.Path))
	}
	wantsHTML := slices.Contains([]string{".html", ".htm", ".xhtml", ".mhtml", ".eml"}, ext)
	isHTML := strings.HasPrefix(strings.ToLower(typ), "text/html") || strings.HasPrefix(http.DetectContentType(head), "text/html")
	if isHTML && !wantsHTML {
		return nil, errors.New("a web page came instead of the file (a log-in page?)")
	}
	return body, nil
}

// requester is the base that relative links refer to, and where credentials come from.
func (f *file) requester(ctx context.Context) (*url.URL, *requester, error) {
	reqs := f.st.retriever.requesters()
	if a, ok := f.st.retriever.(*async); ok {
		reqs = []*requester{a.create}
	}
	s := f.it.part.scope(f.v.scope())
	base, err := s.text(reqs[0].base)
	if err != nil {
		return nil, nil, fmt.Errorf("url: %w", err)
	}
	u, err := parseURL(base)
	return u, reqs[0], err
}

// get requests the file from off. Credentials go to the stream's own host only.
func (f *file) get(ctx context.Context, off int64) (*http.Response, error) {
	base, req, err := f.requester(ctx)
	if err != nil {
		return nil, err
	}
	home, err := req.home(f.v, base.String())
	if err != nil {
		return nil, err
	}
	s := f.it.part.scope(f.v.scope())
	for try := 0; ; try++ {
		u := *f.url
		cl := call{method: http.MethodGet, url: &u, header: http.Header{"Accept-Encoding": {"identity"}, "Accept": {"*/*"}}}
		if home != "" {
			cl.pinned = []string{home}
		}
		if home != "" && origin(&u) == home {
			auth := f.auth
			if auth == nil {
				auth = req.auth
			}
			o, err := auth.options(ctx, f.v, s)
			if err != nil {
				return nil, err
			}
			if err := addQuery(&u, pairs(o.params)); err != nil {
				return nil, err
			}
			for _, p := range pairs(o.headers) {
				cl.header.Set(p.name, p.value)
			}
		}
		if off > 0 {
			cl.header.Set("Range", fmt.Sprintf("bytes=%d-", off))
			if f.etag != "" {
				cl.header.Set("If-Match", f.etag)
			}
		}
		resp, err := f.open1(ctx, cl)
		again := err != nil && !errors.As(err, new(*refusedError)) || err == nil && (resp.StatusCode == 429 || resp.StatusCode >= 500)
		if !again || try >= 4 || ctx.Err() != nil {
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
		if err := f.v.sleep(ctx, 1<<try*1e9); err != nil {
			return nil, err
		}
	}
}

// open1 makes one request whose body stops if nothing comes for a while.
func (f *file) open1(ctx context.Context, cl call) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	resp, _, err := f.v.client.open(ctx, cl)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = readCloser{&idleReader{resp.Body, cancel, f.v.client.limits.timeout}, resp.Body, cancel}
	return resp, nil
}

// open implements [dataset.Blob]. Reading on where the last reader stopped goes on with
// the same response; any other place is asked for as a range.
func (f *file) open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	f.mu.Lock()
	body, pos := f.first, f.pos
	f.first = nil
	f.mu.Unlock()
	if body != nil && pos != off {
		body.Close()
		body = nil
	}
	if f.v.isClosed() {
		return nil, errors.New("the view is closed")
	}
	if body == nil {
		var err error
		if body, err = f.reopen(ctx, off); err != nil {
			return nil, &dataset.Gap{Stream: f.stream, Key: f.key, Code: dataset.BadAttachment, Detail: f.v.secrets.clean(err.Error())}
		}
	}
	return &fileReader{f: f, body: body, pos: off, left: n}, nil
}

// reopen requests the file again from off, and makes sure that it is the same file.
func (f *file) reopen(ctx context.Context, off int64) (io.ReadCloser, error) {
	resp, err := f.get(ctx, off)
	if err != nil {
		return nil, err
	}
	if f.etag != "" && resp.Header.Get("ETag") != f.etag {
		resp.Body.Close()
		return nil, errors.New("the file changed while it was read")
	}
	switch {
	case off > 0 && resp.StatusCode == 206:
		if r := resp.Header.Get("Content-Range"); !strings.HasPrefix(r, fmt.Sprintf("bytes %d-", off)) {
			resp.Body.Close()
			return nil, fmt.Errorf("a range from %d was asked for and %q came", off, cut(r, 60))
		}
		return resp.Body, nil
	case resp.StatusCode == 200: // no ranges here: skip what was read
		body, err := f.judge(resp, resp.Header.Get("Content-Type"))
		if err == nil {
			_, err = io.CopyN(io.Discard, body, off)
		}
		if err != nil {
			resp.Body.Close()
			return nil, fmt.Errorf("read the file again: %w", err)
		}
		return body, nil
	}
	resp.Body.Close()
	return nil, fmt.Errorf("the link answered %d to a range", resp.StatusCode)
}

// maxHeld is how many first responses wait for whoever reads the file. One that had to
// give way is requested again.
const maxHeld = 8

// heldFiles are files whose first response waits to be read.
type heldFiles struct {
	mu    sync.Mutex
	files []*file
}

func (h *heldFiles) add(f *file) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files = append(h.files, f)
	if len(h.files) > maxHeld {
		h.files[0].close()
		h.files = h.files[1:]
	}
}

func (h *heldFiles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.files {
		f.close()
	}
	h.files = nil
}

// close ends a body that nobody took over.
func (f *file) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first != nil {
		f.first.Close()
		f.first = nil
	}
}

// A fileReader reads up to left bytes (all if negative) and checks the file's length
// at its end.
type fileReader struct {
	f         *file
	body      io.ReadCloser
	pos, left int64
}

func (r *fileReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.left > 0 && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.body.Read(p)
	r.pos += int64(n)
	if r.left > 0 {
		r.left -= int64(n)
	}
	want := r.f.length
	if want < 0 {
		want = r.f.size
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && (want < 0 || r.pos == want):
		return n, io.EOF
	case err == io.EOF:
		err = fmt.Errorf("the file ended after %d of %d bytes", r.pos, want)
	}
	return n, &dataset.Gap{Stream: r.f.stream, Key: r.f.key, Code: dataset.BadAttachment, Detail: r.f.v.secrets.clean(r.f.v.client.clean(err).Error())}
}

// Close hands the rest of the body back, for the reader of the next segment.
func (r *fileReader) Close() error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.left == 0 && r.f.first == nil {
		r.f.first, r.f.pos = r.body, r.pos
		return nil
	}
	return r.body.Close()
}
