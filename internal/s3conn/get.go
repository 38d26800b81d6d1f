package s3conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An Object names one state of an object.
type Object struct {
	Key     string
	Version string // empty means the current one
	ETag    string // without quotes; if set, another state is refused with ErrPrecondition
	Size    int64  // as listed; -1 if unknown
}

func (o Object) query() [][2]string {
	if o.Version == "" {
		return nil
	}
	return [][2]string{{"versionId", o.Version}}
}

// Head asks for the headers of an object.
func (c *Conn) Head(ctx context.Context, o Object) (http.Header, error) {
	h := http.Header{}
	if o.ETag != "" {
		h.Set("If-Match", quote(o.ETag))
	}
	_, header, err := c.Call(ctx, &Request{Op: "head object", Method: http.MethodHead, Key: o.Key, Query: o.query(), Header: h}, 0)
	return header, err
}

// A Reader reads a range of an object. When a body breaks off it asks for the rest,
// under If-Match, so what it delivers is of one state; what it delivers ends in io.EOF
// only when every byte asked for has come. It is not safe for concurrent use.
type Reader struct {
	Header http.Header // of the first answer
	Total  int64       // size of the whole object, or -1 if the server did not say

	ctx    context.Context // of this read alone
	conn   *Conn
	object Object
	off    int64 // of the next byte
	end    int64 // of the range, or -1: the body says when it is over
	body   io.ReadCloser
	fails  int   // since the last progress worth the name
	mark   int64 // where the last failure was
}

// Get opens n bytes of o from off; n < 0 means to the end. What does not exist, is
// denied, changed and so on comes as the error of Get, not of Read. The caller closes.
func (c *Conn) Get(ctx context.Context, o Object, off, n int64) (*Reader, error) {
	r := &Reader{ctx: ctx, conn: c, object: o, off: off, end: -1, Total: o.Size}
	if n >= 0 {
		r.end = off + n
	} else if o.Size >= 0 {
		r.end = o.Size
	}
	if o.Size >= 0 && r.end > o.Size {
		r.end = o.Size
	}
	if err := r.open(off > 0 || n >= 0 && r.end != o.Size); err != nil {
		return nil, err
	}
	return r, nil
}

// open asks for what is left. Whole objects are asked for without a range, because an
// empty one has none.
func (r *Reader) open(ranged bool) error {
	h := http.Header{}
	if ranged {
		n := int64(-1)
		if r.end >= 0 {
			n = r.end - r.off
		}
		h.Set("Range", RangeHeader(r.off, n))
	}
	if r.object.ETag != "" {
		h.Set("If-Match", quote(r.object.ETag))
	}
	resp, err := r.conn.Do(r.ctx, &Request{Op: "get object", Method: http.MethodGet, Key: r.object.Key, Query: r.object.query(), Header: h})
	if err != nil {
		return err
	}
	if err := r.adopt(resp, ranged); err != nil {
		resp.Body.Close()
		return fmt.Errorf("get object: %w", err)
	}
	return nil
}

// adopt checks that an answer is the range asked for of the state asked for.
func (r *Reader) adopt(resp *Response, ranged bool) error {
	etag := strings.Trim(resp.Header.Get("ETag"), `"`)
	if r.object.ETag != "" && etag != "" && etag != r.object.ETag {
		return fmt.Errorf("%w: the server ignored If-Match", ErrPrecondition)
	}
	if v := resp.Header.Get("X-Amz-Version-Id"); r.object.Version != "" && v != "" && v != r.object.Version {
		return fmt.Errorf("%w: version %q", ErrBadAnswer, clean(v, 64))
	}
	total := resp.Length
	switch {
	case resp.Status == http.StatusPartialContent && ranged:
		from, to, size, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || from != r.off || r.end >= 0 && to+1 != min(r.end, size) || r.end < 0 && to+1 != size {
			return fmt.Errorf("%w: range %q", ErrBadAnswer, clean(resp.Header.Get("Content-Range"), 64))
		}
		total, r.end = size, to+1
	case resp.Status == http.StatusOK && r.off == 0:
		if r.end < 0 || total >= 0 && r.end > total {
			r.end = total
		}
	default:
		return fmt.Errorf("%w: status %d to a request for a range", ErrBadAnswer, resp.Status)
	}
	if r.object.Size >= 0 && total >= 0 && total != r.object.Size {
		return fmt.Errorf("%w: it has %d bytes and was listed with %d", ErrBadAnswer, total, r.object.Size)
	}
	if r.object.ETag == "" {
		r.object.ETag = etag
	}
	if r.Header == nil {
		r.Header = resp.Header
	}
	if total >= 0 {
		r.Total = total
	}
	r.body = resp.Body
	return nil
}

func (r *Reader) Read(p []byte) (int, error) {
	for {
		if r.end >= 0 && r.off >= r.end {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.open(true); err != nil {
				return 0, err
			}
		}
		if r.end >= 0 && int64(len(p)) > r.end-r.off {
			p = p[:r.end-r.off]
		}
		n, err := r.body.Read(p)
		r.off += int64(n)
		if n > 0 {
			return n, nil
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF && r.end < 0:
			r.end = r.off
			return 0, io.EOF
		case err == io.EOF:
			err = io.ErrUnexpectedEOF // a chunked body may end early without any other sign
		}
		if err := r.again(err); err != nil {
			return 0, err
		}
	}
}

// progress is how many bytes between two failures make the first one forgotten. A server
// that trickles and breaks off is given up, not asked for ever.
const progress = 1 << 20

// again prepares to ask for the rest after the body failed with err.
func (r *Reader) again(err error) error {
	r.body.Close()
	r.body = nil
	if r.off-r.mark >= progress {
		r.fails = 0
	}
	r.mark = r.off
	r.fails++
	switch {
	case r.ctx.Err() != nil:
		return context.Cause(r.ctx)
	case r.fails >= r.conn.patience.Retry.Tries, r.object.ETag == "", r.end < 0 && r.off == 0 && r.Total == 0:
		return fmt.Errorf("get object: after %d bytes: %w", r.off, err)
	}
	p := r.conn.patience.Retry
	pause := time.NewTimer(min(p.Min<<min(r.fails-1, 10), p.Max))
	defer pause.Stop()
	select {
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-pause.C:
		return nil
	}
}

// Close ends the read. It never fails.
func (r *Reader) Close() error {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
	r.end, r.off = 0, 0
	return nil
}

func parseContentRange(v string) (from, to, size int64, err error) {
	bad := errors.New("malformed")
	rest, ok := strings.CutPrefix(v, "bytes ")
	span, sizeText, ok2 := strings.Cut(rest, "/")
	a, b, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, bad
	}
	for _, f := range []struct {
		text string
		to   *int64
	}{{a, &from}, {b, &to}, {sizeText, &size}} {
		if *f.to, err = strconv.ParseInt(f.text, 10, 64); err != nil || *f.to < 0 {
			return 0, 0, 0, bad
		}
	}
	if from > to || to >= size {
		return 0, 0, 0, bad
	}
	return from, to, size, nil
}

func quote(etag string) string { return `"` + etag + `"` }
