package s3

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/s3conn"
)

// onePut is the largest object whose digest is known that is sent in one PUT. Without a
// digest it is the size of a segment, which is held in memory.
const onePut = 64 << 20

// loadKey stores the versions of one key, oldest first. What the target refuses is a
// gap; what ends the load is an error.
func (t *Target) loadKey(ctx context.Context, same []dataset.Record, gap func(dataset.Gap)) error {
	refuse := func(r dataset.Record, code dataset.Code, detail string) {
		gap(dataset.Gap{Stream: objectStream, Key: r.Key, Ordinal: r.Ordinal, Code: code, Detail: detail})
	}
	lines := make([]*line, len(same))
	history := len(same) > 1
	for i, r := range same {
		l, err := parseLine(r.Data)
		if err != nil {
			return err
		}
		lines[i] = l
		history = history || l.DeleteMarker
	}
	if history && same[0].Key != markerKey {
		if err := t.enableVersions(ctx); err != nil {
			if !cannot(err) {
				return err
			}
			newest := len(same) - 1 // without versions only the newest can be kept
			for i, r := range same {
				if i < newest || lines[i].DeleteMarker {
					refuse(r, dataset.Unsupported, "the target keeps no versions: "+err.Error())
				}
			}
			if lines[newest].DeleteMarker {
				return nil
			}
			same, lines = same[newest:], lines[newest:]
		}
	}
	for i, r := range same {
		if r.Key == markerKey {
			refuse(r, dataset.ClientUnable, "the key is the one of the target's marker")
			continue
		}
		err := t.store(ctx, r, lines[i])
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var own *dataset.Gap
		var answer *s3conn.Error
		switch {
		case errors.As(err, &own):
			refuse(r, own.Code, own.Detail)
		case errors.Is(err, s3conn.ErrCredentials), errors.Is(err, s3conn.ErrTemporary), errors.Is(err, s3conn.ErrNoSuchBucket):
			return sourceError(err)
		case errors.Is(err, s3conn.ErrDenied):
			refuse(r, dataset.Denied, err.Error())
		case errors.As(err, &answer), errors.Is(err, errNoMarker):
			refuse(r, dataset.Unsupported, err.Error())
		default:
			return err
		}
	}
	return nil
}

// cannot reports whether a target does not do, or may not do, what it was asked for.
func cannot(err error) bool {
	return errors.Is(err, s3conn.ErrUnsupported) || errors.Is(err, s3conn.ErrDenied)
}

// hadVersions reports whether a stream was read from a bucket that keeps versions.
func hadVersions(s *dataset.Stream) bool {
	var a attributes
	return json.Unmarshal(s.Attributes, &a) == nil && a.Versions
}

// enableVersions turns versioning on, once.
func (t *Target) enableVersions(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.versions {
		return nil
	}
	body := []byte(`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
	if err := t.putConfiguration(ctx, "versioning", body); err != nil {
		return err
	}
	t.versions = true
	return nil
}

func (t *Target) putConfiguration(ctx context.Context, part string, document []byte) error {
	_, _, err := t.conn.Call(ctx, &s3conn.Request{Op: "put bucket " + part, Method: http.MethodPut, Query: [][2]string{{part, ""}},
		Body: document, Header: contentMD5(document)}, 64<<10)
	return err
}

var errNoMarker = errors.New("the target made no delete marker")

// store writes one version, or a delete marker.
func (t *Target) store(ctx context.Context, r dataset.Record, l *line) error {
	if l.DeleteMarker {
		_, h, err := t.conn.Call(ctx, &s3conn.Request{Op: "delete object", Method: http.MethodDelete, Key: r.Key}, 64<<10)
		if err == nil && h.Get("X-Amz-Delete-Marker") != "true" {
			err = errNoMarker
		}
		return err
	}
	if r.Blob == nil {
		return fmt.Errorf("object %q has no bytes", r.Key)
	}
	h, err := t.headers(l)
	if err != nil {
		return err
	}
	var version string
	switch size := r.Blob.Size; {
	case size >= 0 && size <= segment || size >= 0 && size <= onePut && !r.Blob.SHA256.IsZero():
		version, err = t.putOne(ctx, r, h)
	default:
		version, err = t.putParts(ctx, r, h)
	}
	if err != nil {
		return err
	}
	if t.s.WithPolicies && len(l.ACL) > 0 {
		return t.putACL(ctx, s3conn.Object{Key: r.Key, Version: version}, l.ACL)
	}
	return nil
}

// headers returns the headers that give an object what its line says.
func (t *Target) headers(l *line) (http.Header, error) {
	h := http.Header{}
	for name, v := range l.Headers {
		h.Set(name, v)
	}
	for name, v := range l.Metadata {
		h.Set("X-Amz-Meta-"+name, v)
	}
	for name, v := range l.MetadataB64 {
		b, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return nil, fmt.Errorf("metadata %q: %w", name, err)
		}
		h.Set("X-Amz-Meta-"+name, string(b))
	}
	if l.WebsiteRedirect != "" {
		h.Set("X-Amz-Website-Redirect-Location", l.WebsiteRedirect)
	}
	if len(l.Tags) > 0 {
		tags := url.Values{}
		for k, v := range l.Tags {
			tags.Set(k, v)
		}
		h.Set("X-Amz-Tagging", strings.ReplaceAll(tags.Encode(), "+", "%20"))
	}
	if t.s.WithLocks {
		if l.Retention != nil {
			h.Set("X-Amz-Object-Lock-Mode", l.Retention.Mode)
			h.Set("X-Amz-Object-Lock-Retain-Until-Date", l.Retention.Until)
		}
		if l.LegalHold != "" {
			h.Set("X-Amz-Object-Lock-Legal-Hold", l.LegalHold)
		}
	}
	return h, nil
}

// putOne sends an object in one PUT and returns its version. The server compares the
// bytes with their SHA-256: the archive's own where it is known.
func (t *Target) putOne(ctx context.Context, r dataset.Record, h http.Header) (string, error) {
	req := &s3conn.Request{Op: "put object", Method: http.MethodPut, Key: r.Key, Header: h, Size: r.Blob.Size}
	var source error // of the bytes, which the HTTP client does not pass on
	if sum := r.Blob.SHA256; !sum.IsZero() && r.Blob.Size > 0 {
		req.SHA256 = hex.EncodeToString(sum[:])
		req.Stream = func(ctx context.Context) (io.ReadCloser, error) {
			body, err := r.Blob.Open(ctx, 0, -1)
			if err != nil {
				source = err
				return nil, err
			}
			return &noting{ReadCloser: body, err: &source}, nil
		}
		if t.s.WithLocks {
			h.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
		}
	} else {
		if err := t.memory.Acquire(ctx, max(r.Blob.Size, 1)); err != nil {
			return "", err
		}
		defer t.memory.Release(max(r.Blob.Size, 1))
		data, err := readAll(ctx, r.Blob, 0, r.Blob.Size)
		if err != nil {
			return "", err
		}
		req.Body = data
		if t.s.WithLocks {
			sum := dataset.Sum(data)
			h.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
		}
	}
	_, answer, err := t.conn.Call(ctx, req, 64<<10)
	if err != nil {
		if source != nil {
			return "", source
		}
		return "", err
	}
	return answer.Get("X-Amz-Version-Id"), nil
}

// A noting reader keeps the error that ended it.
type noting struct {
	io.ReadCloser
	err *error
}

func (n *noting) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		*n.err = err
	}
	return k, err
}

// readAll reads exactly n bytes of a blob.
func readAll(ctx context.Context, b *dataset.Blob, off, n int64) ([]byte, error) {
	r, err := b.Open(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
	}
	return data, nil
}

// putACL gives an object its grants beside the one its owner has anyway.
func (t *Target) putACL(ctx context.Context, o s3conn.Object, grants []grant) error {
	if len(grants) == 1 && grants[0].Grantee == "owner" && grants[0].Permission == "FULL_CONTROL" {
		return nil
	}
	body, err := t.subresource(ctx, o, "acl")
	if err != nil {
		return err
	}
	var now struct{ Owner struct{ ID string } }
	if err := xml.Unmarshal(body, &now); err != nil {
		return fmt.Errorf("get object acl: %w: %w", s3conn.ErrBadAnswer, err)
	}
	var b strings.Builder
	b.WriteString(`<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>` + xmlText(now.Owner.ID) + `</ID></Owner><AccessControlList>`)
	for _, g := range grants {
		element, who := "ID", g.Grantee
		switch {
		case who == "owner":
			who = now.Owner.ID
		case g.Type == "Group":
			element = "URI"
		case g.Type == "AmazonCustomerByEmail":
			element = "EmailAddress"
		}
		fmt.Fprintf(&b, `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="%s"><%s>%s</%s></Grantee><Permission>%s</Permission></Grant>`,
			xmlText(g.Type), element, xmlText(who), element, xmlText(g.Permission))
	}
	b.WriteString(`</AccessControlList></AccessControlPolicy>`)
	document := []byte(b.String())
	q := [][2]string{{"acl", ""}}
	if o.Version != "" {
		q = append(q, [2]string{"versionId", o.Version})
	}
	_, _, err = t.conn.Call(ctx, &s3conn.Request{Op: "put object acl", Method: http.MethodPut, Key: o.Key, Query: q,
		Body: document, Header: contentMD5(document)}, 64<<10)
	return err
}

// withheldParts are never written: they are made with the bucket, belong to the place
// it is in, or (versioning) follow from the objects.
var withheldParts = map[string]bool{"object-lock": true, "versioning": true, "replication": true, "logging": true, "notification": true}

// loadConfiguration stores a part of the bucket's configuration, with policies only.
func (t *Target) loadConfiguration(ctx context.Context, same []dataset.Record, gap func(dataset.Gap)) error {
	for _, r := range same {
		c, err := parseConfigured(r.Data)
		if err != nil {
			return err
		}
		if !t.s.WithPolicies || c.State != "set" || withheldParts[c.Part] {
			continue // stated by Fidelity
		}
		err = t.putConfiguration(ctx, c.Part, []byte(c.Document))
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, s3conn.ErrCredentials), errors.Is(err, s3conn.ErrTemporary):
			return sourceError(err)
		default:
			gap(dataset.Gap{Stream: configStream, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Unsupported, Detail: err.Error()})
		}
	}
	return nil
}
