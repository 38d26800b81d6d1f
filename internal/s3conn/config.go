// Package s3conn speaks S3 to one bucket. It is the only code of ours that does:
// the archive's store, the exporter and the target are written on it.
//
// It takes credentials from minio-go and sends its requests itself, because what
// minio-go does between its API and the wire is what an archive cannot accept: a
// listing that ends without an error when a page is an error body with status 200,
// Retry-After ignored, whitespace-only and non-UTF-8 keys refused or altered,
// redirects and region look-ups of its own, replies it cannot parse. What is left of
// S3 without those is small: a signed request, a bounded answer, a strict listing.
//
// Guarantees: TLS 1.2 or newer, verified, always (plain HTTP only to a loopback
// address); no redirect is followed, so credentials never leave the configured host;
// every wait is bounded; nothing a server says reaches an error message unescaped or
// longer than 4 KiB; an answer that the protocol does not allow is an error.
package s3conn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/internal/retry"
)

// A Config says where a bucket is and how to talk to it.
type Config struct {
	Endpoint string // https://host[:port]; empty means Amazon S3 in Region
	Region   string // empty means us-east-1
	Bucket   string
	Prefix   string // put before every key and taken off what is listed: a bucket within the bucket
	CA       string // path of a PEM file of additional roots, or empty
	Virtual  bool   // bucket in the host name, as Amazon wants it; set by default there

	// AccessKey, SecretKey and SessionToken are used if AccessKey is set; otherwise
	// the AWS_* environment, the shared AWS files and the instance's or container's
	// role are asked, in that order.
	AccessKey, SecretKey, SessionToken string

	Patience Patience
}

// Patience bounds every wait. Zero fields mean the defaults.
type Patience struct {
	Header  time.Duration // from the end of a request to the end of the answer's headers; 60 s
	Idle    time.Duration // between two reads of a body; 30 s
	MinRate int64         // bytes a second below which a body is given up after Idle; 4 KiB
	Retry   retry.Policy  // of one request
}

func (p Patience) withDefaults() Patience {
	if p.Header <= 0 {
		p.Header = time.Minute
	}
	if p.Idle <= 0 {
		p.Idle = 30 * time.Second
	}
	if p.MinRate <= 0 {
		p.MinRate = 4 << 10
	}
	if p.Retry.Tries <= 0 {
		p.Retry.Tries = 8
	}
	if p.Retry.Min <= 0 {
		p.Retry.Min = 200 * time.Millisecond
	}
	if p.Retry.Max <= 0 {
		p.Retry.Max = 30 * time.Second
	}
	return p
}

// ParseURL reads s3://bucket/prefix?endpoint=https://host:port&region=NAME&ca=FILE.
// Credentials never stand in a URL: they are refused there.
func ParseURL(raw string) (Config, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Config{}, errors.New("s3 url: malformed") // err quotes the text, which may hold a secret
	}
	if u.Scheme != "s3" {
		return Config{}, errors.New("s3 url: must begin with s3://")
	}
	if u.User != nil {
		return Config{}, errors.New("s3 url: credentials do not belong there; use the AWS_* environment")
	}
	if u.Fragment != "" {
		return Config{}, errors.New("s3 url: has a fragment; write # as %23")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, errors.New("s3 url: malformed query")
	}
	known := []string{"endpoint", "region", "ca"}
	for name, v := range q {
		if !slices.Contains(known, name) {
			return Config{}, fmt.Errorf("s3 url: unknown parameter %q; known are %s", name, strings.Join(known, ", "))
		}
		if len(v) != 1 {
			return Config{}, fmt.Errorf("s3 url: parameter %q given twice", name)
		}
	}
	c := Config{
		Endpoint: q.Get("endpoint"), Region: q.Get("region"), CA: q.Get("ca"),
		Bucket: u.Host, Prefix: strings.TrimPrefix(u.Path, "/"),
	}
	_, _, err = c.base()
	return c, err
}

// URL is the inverse of [ParseURL].
func (c Config) URL() string {
	u := url.URL{Scheme: "s3", Host: c.Bucket}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	q := url.Values{}
	for name, v := range map[string]string{"endpoint": c.Endpoint, "region": c.Region, "ca": c.CA} {
		if v != "" {
			q.Set(name, v)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// bucketName is what S3 and its imitations accept; dots and capitals are old habits.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

// base returns the scheme and host to talk to, and whether the host holds the bucket.
func (c Config) base() (u *url.URL, virtual bool, err error) {
	if !bucketName.MatchString(c.Bucket) {
		return nil, false, fmt.Errorf("s3: %q is not a bucket name", c.Bucket)
	}
	endpoint, virtual := c.Endpoint, c.Virtual
	if endpoint == "" {
		endpoint = "https://s3." + c.region() + ".amazonaws.com"
		virtual = true
	}
	u, err = url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, false, errors.New("s3: the endpoint must be https://host or https://host:port and nothing else")
	}
	u.Path = ""
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && loopback(u.Hostname()):
	case u.Scheme == "http":
		return nil, false, errors.New("s3: plain http is accepted only for loopback addresses")
	default:
		return nil, false, fmt.Errorf("s3: endpoint scheme %q is neither https nor http", u.Scheme)
	}
	if virtual && strings.Contains(c.Bucket, ".") {
		virtual = false // a wildcard certificate covers one label
	}
	if virtual {
		u.Host = c.Bucket + "." + u.Host
	}
	return u, virtual, nil
}

func (c Config) region() string {
	if c.Region == "" {
		return "us-east-1"
	}
	return c.Region
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
