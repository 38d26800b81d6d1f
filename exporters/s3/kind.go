// Package s3 exports the objects of a bucket, with all their versions and everything
// S3 knows about them, and restores them into another.
//
// A source offers two streams. The records of "objects" are the versions and delete
// markers of the bucket in byte order of keys, those of one key newest first; the bytes
// are their blobs. The records of "bucket-configuration" are the parts of the bucket's
// configuration. [line] documents what an object's record holds.
//
// Nothing is left out silently: what is filtered is stated in Facts, what cannot be
// read is a gap, and a property that cannot be read (tags, an ACL) is a gap of code
// not-captured that follows its object's record and has the same identity.
package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// Kind is the s3 kind of sources and targets.
var Kind = exporters.Kind{
	Name:    "s3",
	Summary: "Objects of an S3 bucket: all versions, metadata, tags, locks and the bucket's configuration.",
	Schemes: []string{"s3"},
	Options: []exporters.Option{
		{Name: "bucket", Type: exporters.TextOption, Required: true, Help: "Name of the bucket."},
		{Name: "endpoint", Type: exporters.TextOption, Help: "https://host[:port] of the S3 server; Amazon's of the region if absent."},
		{Name: "region", Type: exporters.TextOption, Default: "us-east-1", Help: "Region that requests are signed for."},
		{Name: "ca", Type: exporters.TextOption, Help: "PEM file of a private certificate authority."},
		{Name: "path_style", Type: exporters.BoolOption, Default: true, Help: "Put the bucket into the path and not into the host name; Amazon's own endpoints ignore it."},
		{Name: "access_key", Type: exporters.SecretOption, Help: "Reference to the access key; the AWS_* environment, shared files or the machine's role if absent."},
		{Name: "secret_key", Type: exporters.SecretOption, Help: "Reference to the secret key."},
		{Name: "session_token", Type: exporters.SecretOption, Help: "Reference to the session token of temporary keys."},
		{Name: "versions", Type: exporters.TextOption, Default: "all", Enum: []string{"all", "current"}, Help: "Whether old versions and delete markers are exported."},
		{Name: "include", Type: exporters.ListOption, Help: "Prefixes of keys to export, all if absent; of a target: the one folder that keys are put into."},
		{Name: "exclude", Type: exporters.ListOption, Help: "Prefixes of keys to leave out."},
		{Name: "metadata", Type: exporters.TextOption, Default: "always", Enum: []string{"always", "with-bytes"}, Help: "Whether tags, ACL, retention and holds of unchanged objects are read again."},
		{Name: "concurrency", Type: exporters.IntOption, Default: int64(64), Help: "Objects in flight, 1 to 256."},
		{Name: "with_locks", Type: exporters.BoolOption, Default: false, Help: "As a target: apply retention and legal holds."},
		{Name: "with_policies", Type: exporters.BoolOption, Default: false, Help: "As a target: apply ACLs and the bucket's configuration."},
	},
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		s, err := parse(ctx, c)
		if err != nil {
			return nil, err
		}
		return open(ctx, s)
	},
	OpenTarget: func(ctx context.Context, c exporters.Config) (exporters.Target, error) {
		s, err := parse(ctx, c)
		if err != nil {
			return nil, err
		}
		if len(s.Include) > 1 || len(s.Exclude) > 0 {
			return nil, errors.New("s3: a target takes one prefix in include, and no exclude")
		}
		if len(s.Include) == 1 {
			s.Conn.Prefix, s.Include = strings.TrimSuffix(s.Include[0], "/")+"/", nil
		}
		return openTarget(s)
	},
	FromURL: fromURL,
}

// Settings are the options of a view or target. Use them where there is no
// configuration to parse.
type Settings struct {
	Conn         s3conn.Config
	CurrentOnly  bool     // versions: current
	Include      []string // prefixes; empty means all
	Exclude      []string // prefixes
	WithBytes    bool     // metadata: with-bytes
	Concurrency  int      // 0 means 64
	WithLocks    bool
	WithPolicies bool
}

// Open opens a view of the bucket that s names.
func Open(ctx context.Context, s Settings) (*View, error) { return open(ctx, s) }

// OpenTarget returns a target that fills the bucket that s names.
func OpenTarget(s Settings) (*Target, error) { return openTarget(s) }

func parse(ctx context.Context, c exporters.Config) (Settings, error) {
	text := func(name string) string { v, _ := c.Options[name].(string); return v }
	flag := func(name string) bool { v, _ := c.Options[name].(bool); return v }
	list := func(name string) []string { v, _ := c.Options[name].([]string); return v }
	s := Settings{
		Conn:        s3conn.Config{Bucket: text("bucket"), Endpoint: text("endpoint"), Region: text("region"), CA: text("ca")},
		CurrentOnly: text("versions") == "current", WithBytes: text("metadata") == "with-bytes",
		Include: list("include"), Exclude: list("exclude"),
		WithLocks: flag("with_locks"), WithPolicies: flag("with_policies"),
	}
	if style, ok := c.Options["path_style"].(bool); ok {
		s.Conn.Virtual = !style
	}
	if n, ok := c.Options["concurrency"].(int64); ok {
		if n < 1 || n > 256 {
			return s, errors.New("s3: concurrency must be 1 to 256")
		}
		s.Concurrency = int(n)
	}
	for name, to := range map[string]*string{"access_key": &s.Conn.AccessKey, "secret_key": &s.Conn.SecretKey, "session_token": &s.Conn.SessionToken} {
		ref := text(name)
		if ref == "" {
			continue
		}
		if c.Secret == nil {
			return s, fmt.Errorf("s3: %s is a reference and nothing resolves it", name)
		}
		v, err := c.Secret(ctx, ref)
		if err != nil {
			return s, fmt.Errorf("s3: %s: %w", name, err)
		}
		*to = v
	}
	if (s.Conn.AccessKey == "") != (s.Conn.SecretKey == "") {
		return s, errors.New("s3: access_key and secret_key belong together")
	}
	return s, nil
}

// fromURL reads s3://bucket/prefix?endpoint=…: the prefix becomes include.
func fromURL(raw string) (map[string]any, error) {
	c, err := s3conn.ParseURL(raw)
	if err != nil {
		return nil, err
	}
	o := map[string]any{"bucket": c.Bucket}
	for name, v := range map[string]string{"endpoint": c.Endpoint, "region": c.Region, "ca": c.CA} {
		if v != "" {
			o[name] = v
		}
	}
	if c.Prefix != "" {
		o["include"] = []string{c.Prefix}
	}
	return o, nil
}

// prefixes returns what to list: the included prefixes in order, without those that
// lie within another.
func (s Settings) prefixes() []string {
	if len(s.Include) == 0 {
		return []string{""}
	}
	all := slices.Sorted(slices.Values(s.Include))
	var out []string
	for _, p := range all {
		if len(out) == 0 || !strings.HasPrefix(p, out[len(out)-1]) {
			out = append(out, p)
		}
	}
	return out
}

func (s Settings) excluded(key string) bool {
	return slices.ContainsFunc(s.Exclude, func(p string) bool { return strings.HasPrefix(key, p) })
}

// filters states what the settings leave out, one sentence each.
func (s Settings) filters() []string {
	var out []string
	if len(s.Include) > 0 {
		out = append(out, "Only keys beginning with "+quoted(s.prefixes())+" are exported.")
	}
	if len(s.Exclude) > 0 {
		out = append(out, "Keys beginning with "+quoted(s.Exclude)+" are left out.")
	}
	if s.CurrentOnly {
		out = append(out, "Only current objects are exported: no older versions and no delete markers.")
	}
	return out
}

func quoted(list []string) string {
	var q []string
	for _, s := range list {
		q = append(q, `"`+dataset.Escape(s)+`"`)
	}
	return strings.Join(q, " or ")
}
