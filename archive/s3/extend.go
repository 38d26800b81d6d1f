package s3

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/dwp/sallyport/internal/s3conn"
)

// lockDocument is the body of GetObjectRetention and PutObjectRetention (Amazon S3 API
// Reference).
type lockDocument struct {
	XMLName xml.Name  `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Retention"`
	Mode    string    `xml:"Mode"`
	Until   time.Time `xml:"RetainUntilDate"`
}

// Extend makes the bucket retain a version of an object at least until a time, in the
// mode that the store writes with, and reports whether it was retained for less before.
// It never shortens a retention.
func (r Remover) Extend(ctx context.Context, name, version string, until time.Time) (bool, error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	if r.lock == (Lock{}) {
		return false, errors.New("extend lock: the store was opened without Object Lock")
	}
	q := [][2]string{{"retention", ""}}
	if version != "" {
		q = append(q, [2]string{"versionId", version})
	}
	body, _, err := r.conn.Call(ctx, &s3conn.Request{Op: "get object retention", Method: http.MethodGet, Key: name, Query: q}, 64<<10)
	var now struct {
		Mode  string
		Until time.Time `xml:"RetainUntilDate"`
	}
	switch {
	case errors.Is(err, s3conn.ErrNotConfigured): // written without a lock
	case err != nil:
		return false, fmt.Errorf("extend lock of %s: %w", name, mapped(err))
	default:
		if err := xml.Unmarshal(body, &now); err != nil {
			return false, fmt.Errorf("extend lock of %s: %w: %w", name, s3conn.ErrBadAnswer, err)
		}
	}
	until = until.UTC().Truncate(time.Second)
	if !now.Until.Before(until) {
		return false, nil
	}
	mode := r.lock.Mode
	if now.Mode == "COMPLIANCE" {
		mode = now.Mode // it cannot be weakened
	}
	doc, err := xml.Marshal(lockDocument{Mode: mode, Until: until})
	if err != nil {
		return false, fmt.Errorf("extend lock of %s: %w", name, err)
	}
	sum := md5.Sum(doc) // required by the API; the signature covers the bytes
	h := http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}
	_, _, err = r.conn.Call(ctx, &s3conn.Request{Op: "put object retention", Method: http.MethodPut, Key: name, Query: q, Header: h, Body: doc}, 64<<10)
	if err != nil {
		return false, fmt.Errorf("extend lock of %s: %w", name, mapped(err))
	}
	return true, nil
}
