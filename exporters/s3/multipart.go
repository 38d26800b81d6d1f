package s3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/s3conn"
)

// maxParts is S3's limit of the parts of one upload.
const maxParts = 10_000

// A part is one part that was stored.
type part struct {
	number int
	etag   string
}

// putParts sends a large object, or one of unknown size, in parts and returns its
// version. A failed upload is aborted.
func (t *Target) putParts(ctx context.Context, r dataset.Record, h http.Header) (version string, err error) {
	body, _, err := t.conn.Call(ctx, &s3conn.Request{Op: "create upload", Method: http.MethodPost, Key: r.Key, Query: [][2]string{{"uploads", ""}}, Header: h}, 64<<10)
	if err != nil {
		return "", err
	}
	var upload struct{ UploadId string }
	if err := xml.Unmarshal(body, &upload); err != nil || upload.UploadId == "" {
		return "", fmt.Errorf("create upload: %w", s3conn.ErrBadAnswer)
	}
	q := [2]string{"uploadId", upload.UploadId}
	defer func() {
		if err != nil {
			_, _, abort := t.conn.Call(context.WithoutCancel(ctx), &s3conn.Request{Op: "abort upload", Method: http.MethodDelete, Key: r.Key, Query: [][2]string{q}}, 64<<10)
			if abort != nil {
				err = errors.Join(err, fmt.Errorf("and its parts stay behind: %w", abort))
			}
		}
	}()
	send := t.sendKnown
	if r.Blob.Size < 0 {
		send = t.sendUnknown
	}
	sent, err := send(ctx, r, q)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	for _, p := range sent {
		fmt.Fprintf(&b, `<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>`, p.number, xmlText(p.etag))
	}
	b.WriteString(`</CompleteMultipartUpload>`)
	_, header, err := t.conn.Call(ctx, &s3conn.Request{Op: "complete upload", Method: http.MethodPost, Key: r.Key, Query: [][2]string{q}, Body: []byte(b.String())}, 64<<10)
	if err != nil {
		return "", err
	}
	return header.Get("X-Amz-Version-Id"), nil
}

// sendKnown sends the parts of a blob of known size, several at a time. Parts are
// segments held in memory until the object has more than 10,000 of them: then they are
// streamed.
func (t *Target) sendKnown(ctx context.Context, r dataset.Record, upload [2]string) ([]part, error) {
	size := int64(segment)
	if least := (r.Blob.Size + maxParts - 1) / maxParts; least > size {
		size = (least + segment - 1) / segment * segment
	}
	count := int(max((r.Blob.Size+size-1)/size, 1))
	sent := make([]part, count)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range count {
		off := int64(i) * size
		n := min(size, r.Blob.Size-off)
		g.Go(func() (err error) {
			if size > segment {
				sent[i], err = t.streamPart(ctx, r, upload, i+1, off, n)
				return err
			}
			if err := t.memory.Acquire(ctx, segment); err != nil {
				return err
			}
			defer t.memory.Release(segment)
			data, err := readAll(ctx, r.Blob, off, n)
			if err != nil {
				return err
			}
			sent[i], err = t.sendPart(ctx, r.Key, upload, i+1, data)
			return err
		})
	}
	return sent, g.Wait()
}

// sendUnknown sends a blob whose end is known only when it comes.
func (t *Target) sendUnknown(ctx context.Context, r dataset.Record, upload [2]string) ([]part, error) {
	if err := t.memory.Acquire(ctx, segment); err != nil {
		return nil, err
	}
	defer t.memory.Release(segment)
	body, err := r.Blob.Open(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data := make([]byte, segment)
	var sent []part
	for {
		n, err := io.ReadFull(body, data)
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return nil, err
		}
		if n > 0 || len(sent) == 0 {
			if len(sent) == maxParts {
				return nil, &dataset.Gap{Code: dataset.TooLarge, Detail: "it has more than 10,000 parts of 8 MiB and did not say so"}
			}
			p, err := t.sendPart(ctx, r.Key, upload, len(sent)+1, data[:n])
			if err != nil {
				return nil, err
			}
			sent = append(sent, p)
		}
		if end {
			return sent, nil
		}
	}
}

func (t *Target) sendPart(ctx context.Context, key string, upload [2]string, number int, data []byte) (part, error) {
	return t.part(ctx, number, &s3conn.Request{Key: key, Query: [][2]string{{"partNumber", strconv.Itoa(number)}, upload}, Body: data})
}

// streamPart sends a part too large for memory. Its signature does not cover the bytes,
// so the server's MD5 of them is compared with ours.
func (t *Target) streamPart(ctx context.Context, r dataset.Record, upload [2]string, number int, off, n int64) (part, error) {
	var sum hash.Hash
	var source error
	p, err := t.part(ctx, number, &s3conn.Request{
		Key: r.Key, Query: [][2]string{{"partNumber", strconv.Itoa(number)}, upload}, Size: n,
		Stream: func(ctx context.Context) (io.ReadCloser, error) {
			body, err := r.Blob.Open(ctx, off, n)
			if err != nil {
				source = err
				return nil, err
			}
			sum = md5.New()
			return &noting{ReadCloser: struct {
				io.Reader
				io.Closer
			}{io.TeeReader(body, sum), body}, err: &source}, nil
		},
	})
	switch {
	case err != nil && source != nil:
		return part{}, source
	case err != nil:
		return part{}, err
	}
	if got := strings.Trim(p.etag, `"`); len(got) == 2*md5.Size && got != hex.EncodeToString(sum.Sum(nil)) {
		return part{}, fmt.Errorf("upload part %d: %w: the server stored other bytes", number, s3conn.ErrBadAnswer)
	}
	return p, nil
}

func (t *Target) part(ctx context.Context, number int, req *s3conn.Request) (part, error) {
	req.Op, req.Method = "upload part", http.MethodPut
	_, h, err := t.conn.Call(ctx, req, 64<<10)
	if err != nil {
		return part{}, err
	}
	etag := h.Get("ETag")
	if etag == "" {
		return part{}, fmt.Errorf("upload part %d: %w: no ETag", number, s3conn.ErrBadAnswer)
	}
	return part{number, etag}, nil
}

// contentMD5 returns the header that S3 demands with configuration documents.
func contentMD5(document []byte) http.Header {
	sum := md5.Sum(document)
	return http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}
}

// xmlText escapes text for an XML element or attribute.
func xmlText(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a strings.Builder never fails
	return b.String()
}
