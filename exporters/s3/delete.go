package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// Delete implements [exporters.Deleter]. A version is deleted by its id; where there
// are none the DELETE carries If-Match, which Amazon honours and some servers do not. An
// object of a bucket with versions of which only the newest were archived is refused:
// deleting it would hide it.
func (v *View) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	e, err := v.entry(ctx, s, r)
	if err != nil {
		return err
	}
	req := &s3conn.Request{Op: "delete object", Method: http.MethodDelete, Key: r.Key, Header: http.Header{}}
	if e.Version != "" {
		req.Query = [][2]string{{"versionId", e.Version}}
	}
	if (e.Version == "" || e.Version == "null") && !e.Marker {
		req.Header.Set("If-Match", `"`+e.ETag+`"`)
	}
	_, _, err = v.conn.Call(ctx, req, 64<<10)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, s3conn.ErrPrecondition):
		return fmt.Errorf("object %q: %w", r.Key, exporters.ErrChanged)
	case errors.Is(err, s3conn.ErrLocked):
		if lock := v.locked(ctx, e); lock != nil { // which knows until when
			return lock
		}
		return fmt.Errorf("object %q: %w: %w", r.Key, exporters.ErrRetained, err)
	}
	return sourceError(err)
}

// entry lists the version that a record is of. It fails as Delete does if the source does
// not have it as archived.
func (v *View) entry(ctx context.Context, s dataset.Stream, r dataset.Record) (s3conn.Entry, error) {
	if s.Name != objectStream {
		return s3conn.Entry{}, fmt.Errorf("delete from %q: %w", s.Name, exporters.ErrRefused)
	}
	was, err := parseLine(r.Data)
	if err != nil {
		return s3conn.Entry{}, err
	}
	for e, err := range v.conn.List(ctx, s3conn.Listing{Prefix: r.Key, UpTo: r.Key, Versions: v.bucket().versions}) {
		switch {
		case err != nil:
			return e, sourceError(err)
		case e.Key != r.Key:
			continue
		case was.VersionID == "" && e.Version != "":
			return e, fmt.Errorf("object %q has versions, and the archive does not say which it has: %w", r.Key, exporters.ErrRefused)
		case e.Version != was.VersionID:
			continue
		case !bytes.HasPrefix(r.Data, identity(nil, e)):
			return e, fmt.Errorf("object %q: %w", r.Key, exporters.ErrChanged)
		}
		return e, nil
	}
	return s3conn.Entry{}, fmt.Errorf("object %q: %w", r.Key, fs.ErrNotExist)
}

// locked says under which lock or hold the source keeps a version; nil if it says none.
func (v *View) locked(ctx context.Context, e s3conn.Entry) error {
	if e.Marker {
		return nil // markers are never locked
	}
	h, err := v.conn.Head(ctx, s3conn.Object{Key: e.Key, Version: e.Version})
	if err != nil {
		return nil // then nobody knows more than the refusal said
	}
	if h.Get("X-Amz-Object-Lock-Legal-Hold") == "ON" {
		return fmt.Errorf("object %q: %w: a legal hold", e.Key, exporters.ErrRetained)
	}
	if until := canonicalTime(h.Get("X-Amz-Object-Lock-Retain-Until-Date")); until != "" {
		if t, err := time.Parse(time.RFC3339Nano, until); err != nil || t.After(time.Now()) {
			return fmt.Errorf("object %q: %w: %s until %s", e.Key, exporters.ErrRetained, h.Get("X-Amz-Object-Lock-Mode"), until)
		}
	}
	return nil
}

// Rehearse implements [exporters.Rehearser]: each version is listed, and asked for its
// locks. Whether the credential may delete cannot be asked.
func (v *View) Rehearse(context.Context) (exporters.Rehearsal, error) {
	return &rehearsal{v: v, gone: map[string]bool{}}, nil
}

// A rehearsal remembers what it answered for.
type rehearsal struct {
	v    *View
	mu   sync.Mutex
	gone map[string]bool
}

// Delete implements [exporters.Deleter].
func (h *rehearsal) Delete(ctx context.Context, s dataset.Stream, r dataset.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := r.Key + "\x00" + string(r.Data)
	if h.gone[id] {
		return fmt.Errorf("object %q: %w", r.Key, fs.ErrNotExist)
	}
	e, err := h.v.entry(ctx, s, r)
	if err == nil {
		err = h.v.locked(ctx, e)
	}
	h.gone[id] = err == nil
	return err
}

// Close implements [exporters.Rehearsal].
func (h *rehearsal) Close() error { return nil }
