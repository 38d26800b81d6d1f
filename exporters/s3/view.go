package s3

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// The names of the streams.
const (
	objectStream = "objects"
	configStream = "bucket-configuration"
)

// A View is one view of a bucket: an [exporters.Exporter], [exporters.Splitter],
// [exporters.Getter] and [exporters.Deleter]. S3 holds nothing still: each object is
// read as of the moment its listing names it, or later. It is safe for concurrent use.
type View struct {
	conn     *s3conn.Conn
	s        Settings
	hidden   string // a key that is not part of the data: a target's own marker
	held     held
	closed   atomic.Bool
	failures atomic.Int64 // temporary ones, in a row
	tagging  tagging

	mu       sync.Mutex
	state    bucketState
	from, to time.Time // first and last listing
	server   string
	vanished []dataset.Vanished
	noACL    bool // the server has no ACL for objects
	notes    map[string]bool
}

// A bucketState is what decides which requests an object needs.
type bucketState struct {
	versions bool // versions or delete markers may exist
	locks    bool // objects may have retention or holds
	acls     bool // objects may have an ACL of their own
}

func open(ctx context.Context, s Settings) (*View, error) {
	if s.Concurrency == 0 {
		s.Concurrency = 64
	}
	conn, err := s3conn.New(s.Conn)
	if err != nil {
		return nil, err
	}
	v := &View{conn: conn, s: s, notes: map[string]bool{}}
	if err := v.look(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("open bucket %s: %w", conn.Bucket, sourceError(err))
	}
	return v, nil
}

// look finds out what kind of bucket it is. What may not be asked is assumed to be so.
func (v *View) look(ctx context.Context) error {
	var versioning struct{ Status string }
	known, err := v.ask(ctx, "versioning", &versioning)
	if err != nil {
		return err
	}
	var b bucketState
	b.versions = !known || versioning.Status != ""
	var lock struct{ ObjectLockEnabled string }
	if known, err = v.ask(ctx, "object-lock", &lock); err != nil {
		return err
	}
	b.locks = !known || lock.ObjectLockEnabled == "Enabled"
	var ownership struct {
		Rule struct{ ObjectOwnership string }
	}
	if known, err = v.ask(ctx, "ownershipControls", &ownership); err != nil {
		return err
	}
	b.acls = !known || ownership.Rule.ObjectOwnership != "BucketOwnerEnforced"
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = b
	return nil
}

// bucket returns what look found out.
func (v *View) bucket() bucketState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// ask reads a part of the bucket's configuration. known is false if that is denied;
// what is not configured or not implemented leaves into as it is.
func (v *View) ask(ctx context.Context, part string, into any) (known bool, err error) {
	body, err := v.subresource(ctx, s3conn.Object{}, part)
	switch {
	case errors.Is(err, s3conn.ErrNotConfigured), errors.Is(err, s3conn.ErrUnsupported), errors.Is(err, s3conn.ErrMethod):
		return true, nil
	case errors.Is(err, s3conn.ErrDenied):
		return false, nil
	case err != nil:
		return false, err
	}
	if err := xml.Unmarshal(body, into); err != nil {
		return false, fmt.Errorf("get bucket %s: %w: %w", part, s3conn.ErrBadAnswer, err)
	}
	return true, nil
}

// subresource reads a subresource of an object, or of the bucket if o has no key.
func (v *View) subresource(ctx context.Context, o s3conn.Object, name string) ([]byte, error) {
	q := [][2]string{{name, ""}}
	op := "get bucket " + name
	if o.Key != "" {
		op = "get object " + name
		if o.Version != "" {
			q = append(q, [2]string{"versionId", o.Version})
		}
	}
	body, h, err := v.conn.Call(ctx, &s3conn.Request{Op: op, Method: http.MethodGet, Key: o.Key, Query: q}, 1<<20)
	if err == nil && o.Key == "" {
		v.mu.Lock()
		v.server = h.Get("Server")
		v.mu.Unlock()
	}
	return body, err
}

// sourceError gives errors the meaning that callers of exporters know.
func sourceError(err error) error {
	switch {
	case errors.Is(err, s3conn.ErrCredentials), errors.Is(err, s3conn.ErrDenied):
		return fmt.Errorf("%w: %w", exporters.ErrCredentials, err)
	case errors.Is(err, s3conn.ErrTemporary):
		return temporary{err}
	case errors.Is(err, s3conn.ErrNoSuchBucket):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// A temporary error is an [exporters.ErrTemporary] that says so in its own words.
type temporary struct{ error }

func (t temporary) Is(target error) bool { return target == exporters.ErrTemporary }
func (t temporary) Unwrap() error        { return t.error }

// attributes are what a stream says of its bucket.
type attributes struct {
	Bucket   string `json:"bucket"`
	Region   string `json:"region"`
	Versions bool   `json:"versions"`
}

// Streams implements [exporters.Exporter].
func (v *View) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if v.closed.Load() {
		return nil, errClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	about, err := json.Marshal(attributes{v.conn.Bucket, v.conn.Region, v.withVersions()})
	if err != nil {
		return nil, err
	}
	return []dataset.Stream{
		configurationStream(),
		{Name: objectStream, Blobs: true, Volatile: slices.Clone(volatile), Attributes: about},
	}, nil
}

// withVersions reports whether old versions and delete markers are read.
func (v *View) withVersions() bool { return v.bucket().versions && !v.s.CurrentOnly }

var errClosed = errors.New("s3: the view is closed")

// Facts implements [exporters.Exporter].
func (v *View) Facts() dataset.Facts {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := dataset.Facts{
		Endpoints: []dataset.Endpoint{{URL: v.conn.Endpoint, Region: v.conn.Region}},
		Filters:   v.s.filters(),
		Vanished:  slices.Clone(v.vanished),
		Resumable: true,
		Notes:     []string{"S3 has no snapshots: each object is as it was when it was listed or read; what was added behind the listing's place is not in it."},
	}
	if v.server != "" {
		f.Versions = map[string]string{"server": dataset.Escape(v.server)}
	}
	if !v.from.IsZero() {
		f.Position = "listed from " + v.from.UTC().Format(time.RFC3339) + " to " + v.to.UTC().Format(time.RFC3339)
	}
	if v.s.WithBytes {
		f.Notes = append(f.Notes, "Tags, ACL, retention and holds of objects whose bytes did not change were not read again.")
	}
	if !v.state.versions {
		f.Notes = append(f.Notes, "The bucket never kept versions.")
	}
	for note := range v.notes {
		f.Notes = append(f.Notes, note)
	}
	slices.Sort(f.Notes)
	return f
}

// note keeps a fact about the source, once.
func (v *View) note(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notes[text] = true
}

// Close implements [exporters.Exporter].
func (v *View) Close() error {
	if v.closed.Swap(true) {
		return nil
	}
	v.held.close()
	v.conn.Close()
	return nil
}

// Split implements [exporters.Splitter]. S3 does not tell how keys are spread, so the
// cuts are taken from the first thousand top-level names: a rough cut costs time, not
// truth.
func (v *View) Split(ctx context.Context, s dataset.Stream, n int) ([]dataset.Range, error) {
	whole := []dataset.Range{{}}
	if s.Name != objectStream || n < 2 || len(v.s.prefixes()) > 1 {
		return whole, nil
	}
	names, err := v.conn.TopLevel(ctx, v.s.prefixes()[0])
	if err != nil {
		return nil, fmt.Errorf("split: %w", sourceError(err))
	}
	if len(names) < n {
		return whole, nil
	}
	var out []dataset.Range
	after := ""
	for i := 1; i < n; i++ {
		cut := names[i*len(names)/n]
		out = append(out, dataset.Range{After: after, UpTo: cut})
		after = cut
	}
	return append(out, dataset.Range{After: after}), nil
}
