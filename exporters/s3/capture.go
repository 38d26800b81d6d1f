package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/s3conn"
)

// A captured is what became of one listed entry.
type captured struct {
	data     json.RawMessage
	blob     *dataset.Blob
	gap      *dataset.Gap  // instead of data
	more     []dataset.Gap // properties that could not be read
	vanished bool          // proven to be gone: no record at all
	err      error         // ends the stream
}

// changes is how often an object may change under our hands before it is a gap.
const changes = 3

// maxFailures is how many objects in a row may fail for reasons that are not their own
// before the stream ends: the server is gone then, and not ten thousand objects.
const maxFailures = 20

// capture reads an entry: the first GET, and what else S3 knows.
func (v *View) capture(ctx context.Context, e s3conn.Entry, ordinal int) captured {
	gap := func(code dataset.Code, detail string) captured {
		return captured{gap: &dataset.Gap{Stream: objectStream, Key: e.Key, Ordinal: ordinal, Code: code, Detail: detail}}
	}
	if e.Marker {
		data, err := new(line).encode(e)
		return captured{data: data, err: err}
	}
	if e.Garbled {
		return gap(dataset.ClientUnable, "the server could not write the key in its listing")
	}
	var last error
	for try := range changes + 1 {
		c, err := v.get(ctx, e, ordinal)
		switch {
		case err == nil:
			v.failures.Store(0)
			return c
		case ctx.Err() != nil:
			return captured{err: context.Cause(ctx)}
		}
		last = err
		again, present, err := v.restat(ctx, e, last)
		switch {
		case err != nil:
			return captured{err: err}
		case !present:
			return v.isGone(e, ordinal)
		case again == nil && errors.Is(last, s3conn.ErrBadAnswer) && try < changes:
			continue // an answer garbled on its way looks like that too
		case again == nil:
			if g := gapOf(last, e.Key, ordinal); g != nil {
				return captured{gap: g}
			}
			if errors.Is(last, s3conn.ErrCredentials) || v.failures.Add(1) >= maxFailures {
				return captured{err: sourceError(last)}
			}
			return gap(dataset.Unreadable, last.Error())
		}
		e = *again
	}
	if errors.Is(last, fs.ErrNotExist) {
		return gap(dataset.Unreadable, "it is listed again and again, and answers that it does not exist")
	}
	return gap(dataset.Unstable, "it changed each time it was read")
}

// gapOf returns the gap that an error of one object is, or nil if it is none.
func gapOf(err error, key string, ordinal int) *dataset.Gap {
	g := &dataset.Gap{Stream: objectStream, Key: key, Ordinal: ordinal, Detail: err.Error()}
	switch {
	case errors.Is(err, s3conn.ErrArchived):
		g.Code = dataset.ArchivedTier
	case errors.Is(err, s3conn.ErrCustomerKey):
		g.Code = dataset.CustomerKey
	case errors.Is(err, s3conn.ErrKMS), errors.Is(err, s3conn.ErrDenied):
		g.Code = dataset.Denied
	case errors.Is(err, s3conn.ErrBadAnswer):
		g.Code = dataset.Malformed
	case errors.Is(err, s3conn.ErrTemporary), errors.Is(err, s3conn.ErrCredentials):
		return nil // of the server and not of the object
	default:
		var e *s3conn.Error
		if !errors.As(err, &e) {
			return nil // no answer at all
		}
		g.Code = dataset.Unreadable
	}
	return g
}

// restat finds out what an entry is now, after reading it failed. It returns nil if
// nothing about it changed, so that the failure stands.
func (v *View) restat(ctx context.Context, e s3conn.Entry, failure error) (again *s3conn.Entry, present bool, err error) {
	missing, changed := errors.Is(failure, fs.ErrNotExist), errors.Is(failure, s3conn.ErrPrecondition)
	if !missing && !changed && !errors.Is(failure, s3conn.ErrBadAnswer) {
		return nil, true, nil
	}
	for now, err := range v.conn.List(ctx, s3conn.Listing{Prefix: e.Key, UpTo: e.Key, Versions: e.Version != ""}) {
		if err != nil {
			return nil, false, sourceError(err)
		}
		if now.Key != e.Key || now.Version != e.Version {
			continue
		}
		now.Latest = e.Latest
		if missing || now.ETag != e.ETag || now.Size != e.Size {
			return &now, true, nil
		}
		if changed { // the listing and the object disagree: the object is right
			h, err := v.conn.Head(ctx, s3conn.Object{Key: e.Key, Version: e.Version})
			if errors.Is(err, fs.ErrNotExist) {
				return &now, true, nil
			}
			if err != nil {
				return nil, true, nil
			}
			return fromHead(now, h), true, nil
		}
		return nil, true, nil
	}
	return nil, !missing && !changed, nil
}

// fromHead returns the entry with the state that a HEAD tells.
func fromHead(e s3conn.Entry, h http.Header) *s3conn.Entry {
	e.ETag = strings.Trim(h.Get("ETag"), `"`)
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
		e.Size = n
	}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		e.Modified = t
	}
	return &e
}

// isGone records an entry that answered 404 and is absent from a second listing.
func (v *View) isGone(e s3conn.Entry, ordinal int) captured {
	gone := dataset.Vanished{Stream: objectStream, Key: strings.Clone(e.Key), Ordinal: ordinal, Seen: time.Now().UTC()}
	if !utf8.ValidString(e.Key) {
		gone.Key, gone.KeyB64 = "", []byte(e.Key)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.vanished = append(v.vanished, gone)
	return captured{vanished: true}
}

// get sends the first GET of an entry and keeps its answer for whoever opens the blob.
func (v *View) get(ctx context.Context, e s3conn.Entry, ordinal int) (captured, error) {
	o := s3conn.Object{Key: e.Key, Version: e.Version, ETag: e.ETag, Size: e.Size}
	n := int64(-1)
	if e.Size > segment {
		n = segment
	}
	// The answer outlives this call and the Read it belongs to; until it is kept it
	// ends with them.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(ctx, stop)
	defer unlink()
	body, err := v.conn.Get(own, o, 0, n)
	if err != nil {
		stop()
		return captured{}, err
	}
	first := &answer{body: body, n: min(e.Size, segment), stop: stop}
	if e.Size <= small && v.held.room(e.Size) {
		data := make([]byte, e.Size)
		_, err := io.ReadFull(body, data)
		first.drop()
		if err != nil {
			return captured{}, err
		}
		first = &answer{body: io.NopCloser(bytes.NewReader(data)), n: e.Size, cost: e.Size, stop: func() {}}
	}
	c, err := v.describe(ctx, e, ordinal, body.Header, http.MethodGet)
	if err != nil {
		first.drop()
		return captured{}, err
	}
	if o.ETag == "" {
		o.ETag = strings.Trim(body.Header.Get("ETag"), `"`)
	}
	v.held.put(first)
	c.blob = v.blob(o, ordinal, first)
	return c, nil
}

// describe makes the line of an entry from the headers of a GET or HEAD, asking for
// what they do not hold.
func (v *View) describe(ctx context.Context, e s3conn.Entry, ordinal int, h http.Header, method string) (captured, error) {
	var c captured
	var l line
	l.setHeaders(h)
	if class := h.Get("X-Amz-Storage-Class"); class != "" {
		e.StorageClass = class
	}
	o := s3conn.Object{Key: e.Key, Version: e.Version}
	failed := func(what string, err error) error {
		if !errors.Is(err, s3conn.ErrDenied) && !errors.Is(err, s3conn.ErrKMS) {
			return err
		}
		l.NotCaptured = append(l.NotCaptured, what)
		c.more = append(c.more, dataset.Gap{Stream: objectStream, Key: e.Key, Ordinal: ordinal, Code: dataset.NotCaptured, Detail: what + ": " + err.Error()})
		return nil
	}
	if n := h.Get("X-Amz-Missing-Meta"); n != "" && n != "0" {
		if err := failed("metadata", fmt.Errorf("%w: the server keeps %s entries back that no header can hold", s3conn.ErrDenied, dataset.Escape(n))); err != nil {
			return c, err
		}
	}
	var err error
	if v.tagging.ask(h.Get("X-Amz-Tagging-Count"), method) {
		if l.Tags, err = v.tags(ctx, o); err != nil {
			v.tagging.denied()
			err = failed("tags", err)
		} else {
			v.tagging.told(h.Get("X-Amz-Tagging-Count"), method, len(l.Tags))
		}
		if err != nil {
			return c, err
		}
	}
	if v.bucket().acls && !v.lacksACL() {
		if l.ACL, err = v.acl(ctx, o); err != nil {
			if err = failed("acl", err); err != nil {
				return c, err
			}
		}
	}
	if v.bucket().locks {
		if err := v.locks(ctx, o, &l, failed); err != nil {
			return c, err
		}
	}
	if v.s.WithBytes {
		l.MetadataAsOf = time.Now().UTC().Format(time.RFC3339)
	}
	c.data, err = l.encode(e)
	return c, err
}

// locks asks for retention and hold where the headers have none: S3 leaves them out for
// whoever may not see them.
func (v *View) locks(ctx context.Context, o s3conn.Object, l *line, failed func(string, error) error) error {
	if l.Retention == nil {
		var r struct{ Mode, RetainUntilDate string }
		if err := v.property(ctx, o, "retention", &r); err != nil {
			if err := failed("retention", err); err != nil {
				return err
			}
		} else if r.Mode != "" {
			l.Retention = &retention{Mode: r.Mode, Until: canonicalTime(r.RetainUntilDate)}
		}
	}
	if l.LegalHold == "" {
		var h struct{ Status string }
		if err := v.property(ctx, o, "legal-hold", &h); err != nil {
			return failed("legal_hold", err)
		}
		l.LegalHold = h.Status
	}
	if l.LegalHold == "OFF" { // as if none had ever been
		l.LegalHold = ""
	}
	return nil
}

// property reads a subresource of an object into a struct, which it leaves as it is if
// there is none.
func (v *View) property(ctx context.Context, o s3conn.Object, name string, into any) error {
	body, err := v.subresource(ctx, o, name)
	switch {
	case errors.Is(err, s3conn.ErrNotConfigured), errors.Is(err, s3conn.ErrUnsupported):
		return nil
	case err != nil:
		return err
	}
	if err := xml.Unmarshal(body, into); err != nil {
		return fmt.Errorf("get object %s: %w: %w", name, s3conn.ErrBadAnswer, err)
	}
	return nil
}

func (v *View) tags(ctx context.Context, o s3conn.Object) (map[string]string, error) {
	var t struct {
		TagSet struct {
			Tag []struct{ Key, Value string }
		}
	}
	if err := v.property(ctx, o, "tagging", &t); err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, tag := range t.TagSet.Tag {
		tags[tag.Key] = tag.Value
	}
	return tags, nil
}

// acl reads the ACL of an object. The grant that every owner has is part of it.
func (v *View) acl(ctx context.Context, o s3conn.Object) ([]grant, error) {
	body, err := v.subresource(ctx, o, "acl")
	if errors.Is(err, s3conn.ErrUnsupported) || errors.Is(err, s3conn.ErrNotConfigured) {
		v.mu.Lock()
		v.noACL = true
		v.mu.Unlock()
		v.note("The server has no ACLs for objects.")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p struct {
		Owner             struct{ ID string }
		AccessControlList struct {
			Grant []struct {
				Grantee struct {
					Type         string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
					ID           string
					URI          string
					EmailAddress string
				}
				Permission string
			}
		}
	}
	if err := xml.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("get object acl: %w: %w", s3conn.ErrBadAnswer, err)
	}
	var out []grant
	for _, g := range p.AccessControlList.Grant {
		who := g.Grantee.ID + g.Grantee.URI + g.Grantee.EmailAddress // one of them is given
		if g.Grantee.ID != "" && g.Grantee.ID == p.Owner.ID {
			who = "owner"
		}
		out = append(out, grant{Type: g.Grantee.Type, Grantee: who, Permission: g.Permission})
	}
	return out, nil
}

func (v *View) lacksACL() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.noACL
}

// A tagging decides whether an object's tags must be asked for. A count in the headers
// settles it, but S3 leaves the count out for whoever may not see tags, and some servers
// never count. So the first objects without a count are asked for theirs; as soon as
// that is refused, or shows tags, all are.
type tagging struct {
	mu     sync.Mutex
	asked  int
	always bool
}

const taggingProbes = 16

func (t *tagging) ask(count, method string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case count != "":
		return count != "0"
	case t.always, method != http.MethodGet: // a HEAD need not count
		return true
	}
	t.asked++
	return t.asked <= taggingProbes
}

func (t *tagging) denied() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.always = true
}

// told learns from tags that a GET did not count.
func (t *tagging) told(count, method string, tags int) {
	if count == "" && method == http.MethodGet && tags > 0 {
		t.denied()
	}
}

// refresh makes the line of an object whose bytes did not change.
func (v *View) refresh(ctx context.Context, e s3conn.Entry, ordinal int) (captured, error) {
	h, err := v.conn.Head(ctx, s3conn.Object{Key: e.Key, Version: e.Version, ETag: e.ETag})
	if err != nil {
		return captured{}, err
	}
	return v.describe(ctx, e, ordinal, h, http.MethodHead)
}

// Get implements [exporters.Getter].
func (v *View) Get(ctx context.Context, s dataset.Stream, key string, ordinal int) (dataset.Record, error) {
	if s.Name == configStream {
		return v.configurationRecord(ctx, key)
	}
	var found []s3conn.Entry // newest first
	for e, err := range v.conn.List(ctx, s3conn.Listing{Prefix: key, UpTo: key, Versions: v.withVersions()}) {
		if err != nil {
			return dataset.Record{}, sourceError(err)
		}
		if e.Key == key {
			found = append(found, e)
		}
	}
	i := len(found) - 1 - ordinal
	if i < 0 || ordinal < 0 || key == v.hidden && v.hidden != "" || v.s.excluded(key) {
		return dataset.Record{}, fmt.Errorf("object %q: %w", key, fs.ErrNotExist)
	}
	c := v.capture(ctx, found[i], ordinal)
	switch {
	case c.err != nil:
		return dataset.Record{}, c.err
	case c.vanished:
		return dataset.Record{}, fmt.Errorf("object %q: %w", key, fs.ErrNotExist)
	}
	return dataset.Record{Stream: s.Name, Key: key, Ordinal: ordinal, Data: c.data, Blob: c.blob, Gap: c.gap}, nil
}
