package s3

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/s3conn"
)

// A line is the Data of an object's record. Its members stand in the order of the
// fields; those without a value are absent, the first eight never are (but size and
// etag of delete markers).
//
// The identity of a state of an object comes first, because two states are compared by
// those bytes alone.
type line struct {
	VersionID    string `json:"version_id,omitempty"` // absent in buckets that never had versions
	Size         int64  `json:"size,omitempty"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified"` // RFC 3339, as precise as the listing

	IsLatest     bool   `json:"is_latest"`
	DeleteMarker bool   `json:"delete_marker"`
	StorageClass string `json:"storage_class,omitempty"` // "STANDARD" where the server says nothing
	Owner        string `json:"owner,omitempty"`

	Headers         map[string]string `json:"headers"`                // those a writer sets: content-type, cache-control, …; lower-case names
	Metadata        map[string]string `json:"metadata,omitempty"`     // x-amz-meta-*, without that prefix, as on the wire
	MetadataB64     map[string]string `json:"metadata_b64,omitempty"` // those whose value is not UTF-8, in base64
	Tags            map[string]string `json:"tags,omitempty"`
	ACL             []grant           `json:"acl,omitempty"`
	Retention       *retention        `json:"retention,omitempty"`
	LegalHold       string            `json:"legal_hold,omitempty"` // "ON" or "OFF"
	WebsiteRedirect string            `json:"website_redirect,omitempty"`
	Restore         string            `json:"restore,omitempty"`     // of an archived object that was brought back
	Replication     string            `json:"replication,omitempty"` // status
	SSE             map[string]string `json:"sse,omitempty"`         // x-amz-server-side-encryption*, without x-amz-
	Checksums       map[string]string `json:"checksums,omitempty"`   // x-amz-checksum-*, without that prefix
	Expiration      string            `json:"expiration,omitempty"`
	OtherHeaders    map[string]string `json:"other_headers,omitempty"` // what else came with the GET

	NotCaptured  []string `json:"not_captured,omitempty"`   // properties that could not be read; each is a gap too
	MetadataAsOf string   `json:"metadata_as_of,omitempty"` // metadata: with-bytes only: when all that follows storage_class was read
}

// volatile names what a faithful copy need not repeat: the copy has ids, times and
// owners of its own, its ETag tells how it was uploaded, its checksums are those its
// server likes, and the bytes themselves are compared.
var volatile = []string{"version_id", "etag", "last_modified", "owner", "restore", "replication", "checksums",
	"expiration", "other_headers", "metadata_as_of"}

// A grant is one entry of an ACL. Grantee is "owner" where it is the object's own.
type grant struct {
	Type       string `json:"type"` // CanonicalUser, Group, AmazonCustomerByEmail
	Grantee    string `json:"grantee"`
	Permission string `json:"permission"`
}

// A retention is an Object Lock retention.
type retention struct {
	Mode  string `json:"mode"`
	Until string `json:"until"` // RFC 3339
}

// identity returns the beginning of the line of an entry: equal bytes, equal state.
func identity(dst []byte, e s3conn.Entry) []byte {
	dst = append(dst, '{')
	if e.Version != "" {
		dst = append(dataset.AppendText(dst, "version_id", e.Version), ',')
	}
	if !e.Marker {
		dst = append(dst, `"size":`...)
		dst = append(strconv.AppendInt(dst, e.Size, 10), ',')
		dst = append(dataset.AppendText(dst, "etag", e.ETag), ',')
	}
	dst = append(dst, `"last_modified":"`...)
	dst = e.Modified.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, `",`...)
}

// listed appends what the listing says of an entry after its identity.
func listed(dst []byte, e s3conn.Entry) []byte {
	dst = append(dst, `"is_latest":`...)
	dst = strconv.AppendBool(dst, e.Latest)
	dst = append(dst, `,"delete_marker":`...)
	dst = strconv.AppendBool(dst, e.Marker)
	if !e.Marker {
		class := e.StorageClass
		if class == "" {
			class = "STANDARD"
		}
		dst = dataset.AppendText(append(dst, ','), "storage_class", class)
	}
	if e.Owner != "" {
		dst = dataset.AppendText(append(dst, ','), "owner", e.Owner)
	}
	return dst
}

// encode returns the line of an entry as JSON: what was listed comes from e.
func (l *line) encode(e s3conn.Entry) (json.RawMessage, error) {
	dst := listed(identity(make([]byte, 0, 512), e), e)
	if e.Marker {
		return append(dst, '}'), nil
	}
	if l.Headers == nil {
		l.Headers = map[string]string{}
	}
	text, err := marshal(l)
	if err != nil {
		return nil, err
	}
	// The fields above encode as a fixed beginning, which dst holds already.
	const fixed = `{"last_modified":"","is_latest":false,"delete_marker":false`
	return append(dst, text[len(fixed):]...), nil
}

// notListed begins what a line has from the object itself and not from a listing. Text
// within the line never holds these bytes: its quotes are escaped.
var notListed = []byte(`,"headers":{`)

// marshal is json.Marshal without HTML escapes.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// parseLine reads a line that encode, or a source like ours, wrote.
func parseLine(data json.RawMessage) (*line, error) {
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("object's record: %w", err)
	}
	return &l, nil
}

// settable are the headers that a PUT can set and a GET returns.
var settable = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"}

// perAnswer are headers that tell about an answer and not about an object, or that the
// line has under another name.
var perAnswer = map[string]bool{
	"Accept-Ranges": true, "Connection": true, "Content-Length": true, "Content-Range": true, "Date": true, "Etag": true,
	"Keep-Alive": true, "Last-Modified": true, "Server": true, "Transfer-Encoding": true, "Vary": true, "Via": true,
	"X-Amz-Id-2": true, "X-Amz-Request-Id": true, "X-Amz-Version-Id": true, "X-Amz-Tagging-Count": true,
	"X-Amz-Missing-Meta": true, "X-Amz-Delete-Marker": true, "X-Amz-Object-Size": true,
}

// setHeaders takes over the headers of a GET or HEAD.
func (l *line) setHeaders(h http.Header) {
	put := func(m *map[string]string, name, v string) {
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[name] = v
	}
	for _, name := range slices.Sorted(maps.Keys(h)) {
		v := strings.Join(h[name], ",")
		low := strings.ToLower(name)
		meta, isMeta := strings.CutPrefix(low, "x-amz-meta-")
		sum, isSum := strings.CutPrefix(low, "x-amz-checksum-")
		switch {
		case isMeta && !utf8.ValidString(v):
			put(&l.MetadataB64, meta, base64.StdEncoding.EncodeToString([]byte(v)))
		case isMeta:
			put(&l.Metadata, meta, v)
		case perAnswer[name]:
		case !utf8.ValidString(v):
			put(&l.OtherHeaders, low+"_b64", base64.StdEncoding.EncodeToString([]byte(v)))
		case slices.Contains(settable, name):
			put(&l.Headers, low, v)
		case isSum:
			put(&l.Checksums, sum, v)
		case strings.HasPrefix(low, "x-amz-server-side-encryption"):
			put(&l.SSE, strings.TrimPrefix(low, "x-amz-"), v)
		case name == "X-Amz-Storage-Class": // stands with what was listed
		case name == "X-Amz-Object-Lock-Mode":
			l.retention().Mode = v
		case name == "X-Amz-Object-Lock-Retain-Until-Date":
			l.retention().Until = canonicalTime(v)
		case name == "X-Amz-Object-Lock-Legal-Hold":
			l.LegalHold = v
		case name == "X-Amz-Website-Redirect-Location":
			l.WebsiteRedirect = v
		case name == "X-Amz-Restore":
			l.Restore = v
		case name == "X-Amz-Replication-Status":
			l.Replication = v
		case name == "X-Amz-Expiration":
			l.Expiration = v
		default:
			put(&l.OtherHeaders, low, v)
		}
	}
}

func (l *line) retention() *retention {
	if l.Retention == nil {
		l.Retention = &retention{}
	}
	return l.Retention
}

// canonicalTime writes a time as RFC 3339 in UTC, and leaves what is no time alone.
func canonicalTime(v string) string {
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return v
	}
	return t.UTC().Format(time.RFC3339Nano)
}
