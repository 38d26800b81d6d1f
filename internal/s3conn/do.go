package s3conn

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/internal/retry"
)

// A Request is one request about the bucket (empty Key) or an object.
type Request struct {
	Op     string // for messages: "put object"
	Method string
	Key    string      // raw bytes
	Query  [][2]string // unescaped
	Header http.Header // not changed

	// Body is sent with its SHA-256 in x-amz-content-sha256, so the server refuses
	// altered bytes. SHA256, if set, is that digest in hex and saves computing it.
	Body   []byte
	SHA256 string

	// Stream, if set, is sent instead of Body: Size bytes, opened anew for each
	// attempt. Without SHA256 it goes unsigned; the caller compares the ETag.
	Stream func(ctx context.Context) (io.ReadCloser, error)
	Size   int64
}

// A Response is an answer with a status below 300, or 304.
type Response struct {
	Status int
	Header http.Header
	Length int64         // of Body, or -1 if the server did not say
	Body   io.ReadCloser // the caller closes; slow bodies end in an error
}

// Do sends r until it is answered, up to the configured number of attempts. Answers
// that are no success come as *[Error]. What was sent may have taken effect although
// Do fails; and after a lost reply a conditional write may fail because of itself.
func (c *Conn) Do(ctx context.Context, r *Request) (*Response, error) {
	var resp *Response
	err := c.attempts(ctx, func() (err error) {
		resp, err = c.once(ctx, r)
		return err
	})
	return resp, err
}

// Call is Do for small answers: it reads the whole body, at most limit bytes of it, as
// part of each attempt, and takes an error document with status 200 for what it is.
func (c *Conn) Call(ctx context.Context, r *Request, limit int64) ([]byte, http.Header, error) {
	var body []byte
	var header http.Header
	err := c.attempts(ctx, func() error {
		resp, err := c.once(ctx, r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err = readAll(resp, limit)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", r.Op, err)
		case int64(len(body)) > limit:
			return fmt.Errorf("%s: %w: more than %d bytes", r.Op, ErrBadAnswer, limit)
		case resp.Length >= 0 && int64(len(body)) != resp.Length && r.Method != http.MethodHead:
			return fmt.Errorf("%s: %w", r.Op, io.ErrUnexpectedEOF)
		case isErrorDocument(body):
			e := newError(r.Op, resp.Status, resp.Header, body[:min(len(body), 64<<10)], c.now())
			if e.Kind == nil {
				e.Kind = ErrTemporary // as Amazon documents for "200 OK" with an error in it
			}
			return e
		}
		header = resp.Header
		return nil
	})
	return body, header, err
}

// readAll reads the body of an answer, but no more than limit bytes and one.
func readAll(resp *Response, limit int64) ([]byte, error) {
	var b bytes.Buffer
	if n := resp.Length; n > 0 && n <= limit {
		b.Grow(int(n) + bytes.MinRead) // ReadFrom wants so much to see the end
	}
	_, err := b.ReadFrom(io.LimitReader(resp.Body, limit+1))
	return b.Bytes(), err
}

// isErrorDocument reports whether the root of an XML body is Error.
func isErrorDocument(body []byte) bool {
	b := bytes.TrimLeft(body, " \t\r\n\ufeff")
	if bytes.HasPrefix(b, []byte("<?xml")) {
		if i := bytes.Index(b, []byte("?>")); i >= 0 {
			b = bytes.TrimLeft(b[i+2:], " \t\r\n")
		}
	}
	return bytes.HasPrefix(b, []byte("<Error>")) || bytes.HasPrefix(b, []byte("<Error "))
}

// attempts runs f until it succeeds, fails for good, or has had its turns. When the
// server refuses the credentials they are fetched anew, once: temporary keys run out in
// the middle of long runs.
func (c *Conn) attempts(ctx context.Context, f func() error) error {
	refreshed := false
	judge := func(err error) retry.Verdict {
		e, answered := errors.AsType[*Error](err)
		if answered && errors.Is(err, ErrCredentials) && !refreshed {
			refreshed = true
			c.creds.Expire()
			return retry.Verdict{Again: true}
		}
		v := retry.Verdict{Again: retryable(err)}
		if answered {
			v.Hint = e.RetryAfter
		}
		return v
	}
	err := retry.Do(ctx, c.patience.Retry, judge, func(context.Context) error { return f() })
	if err != nil && ctx.Err() == nil && retryable(err) && !errors.Is(err, ErrTemporary) {
		return fmt.Errorf("%w: %w", ErrTemporary, err) // no answer, however often it was asked
	}
	return err
}

// errSlow is the cause of a request given up because the server was too slow.
var errSlow = fmt.Errorf("%w: the server was too slow", ErrTemporary)

// once sends r once. The body of the answer is bounded in time.
func (c *Conn) once(ctx context.Context, r *Request) (*Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, size, err := c.build(ctx, r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	limit := c.patience.Header + time.Duration(size/c.patience.MinRate)*time.Second
	timer := time.AfterFunc(limit, func() { cancel(errSlow) })
	resp, err := c.client.Do(req)
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL, which names the object
		}
		cancel(nil)
		return nil, fmt.Errorf("%s: %w", r.Op, err)
	}
	body := &watchedBody{ctx: ctx, cancel: cancel, body: resp.Body, p: c.patience}
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified {
		text, _ := io.ReadAll(io.LimitReader(body, maxErrorText)) // whatever there is of it
		body.Close()
		return nil, newError(r.Op, resp.StatusCode, resp.Header, text, c.now())
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Length: resp.ContentLength, Body: body}, nil
}

// emptySHA256 is the digest of no bytes.
const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// build makes the signed HTTP request of r.
func (c *Conn) build(ctx context.Context, r *Request) (req *http.Request, size int64, err error) {
	u := *c.base
	raw := "/"
	if !c.virtual {
		raw += c.Bucket
	}
	if r.Key != "" {
		raw = strings.TrimSuffix(raw, "/") + "/" + escape(c.prefix+r.Key, true)
	}
	u.RawPath = raw
	if u.Path, err = url.PathUnescape(raw); err != nil {
		return nil, 0, fmt.Errorf("%s: %w: %w", r.Op, errPermanent, err)
	}
	u.RawQuery = query(r.Query).encode()
	req = &http.Request{
		Method: r.Method, URL: &u, Host: u.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(r.Header)+6),
	}
	for k, v := range r.Header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("User-Agent", "sallyport")
	req.Header.Set("Accept-Encoding", "identity")

	v, err := c.credential(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", r.Op, err)
	}

	payload := r.SHA256
	switch {
	case r.Stream != nil:
		if payload == "" {
			payload = "UNSIGNED-PAYLOAD"
		}
		body, err := r.Stream(ctx)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errPermanent, err)
		}
		req.Body, req.ContentLength, size = body, r.Size, r.Size
	case len(r.Body) > 0:
		if payload == "" {
			d := sha256.Sum256(r.Body)
			payload = hex.EncodeToString(d[:])
		}
		size = int64(len(r.Body))
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), size
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
	default:
		payload = emptySHA256
	}
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	c.signer.sign(req, v.AccessKeyID, v.SecretAccessKey, v.SessionToken, payload, c.now())
	return req.WithContext(ctx), size, nil
}

// A watchedBody gives up on a server that stalls or trickles. Only time spent waiting
// in Read counts: a reader may pause as long as it likes.
type watchedBody struct {
	ctx    context.Context // of this request alone
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	p      Patience

	waited time.Duration
	got    int64
	timer  *time.Timer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	allowance := b.p.Idle + time.Duration(b.got/b.p.MinRate)*time.Second - b.waited
	allowance = max(min(allowance, b.p.Idle), time.Millisecond)
	if b.timer == nil {
		b.timer = time.AfterFunc(allowance, func() { b.cancel(errSlow) })
	} else {
		b.timer.Reset(allowance)
	}
	start := time.Now()
	n, err := b.body.Read(p)
	b.timer.Stop()
	b.waited += time.Since(start)
	b.got += int64(n)
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.body.Close()
	b.cancel(nil)
	return err
}

// RangeHeader returns the value of a Range header for n bytes from off; n < 0 means
// to the end.
func RangeHeader(off, n int64) string {
	if n < 0 {
		return "bytes=" + strconv.FormatInt(off, 10) + "-"
	}
	return "bytes=" + strconv.FormatInt(off, 10) + "-" + strconv.FormatInt(off+n-1, 10)
}
