package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// markerKey is the object by which a test knows the bucket that it filled. It is no
// part of what is read back.
const markerKey = ".sallyport/exit-test.json"

// A Target is a bucket to be filled: an [exporters.Target]. The bucket is made if it is
// not there and must hold nothing, old versions included. Reading back is what any view
// of the bucket reads.
//
// Retention and holds are applied only with WithLocks, ACLs and the bucket's
// configuration only with WithPolicies: a restore must not make a copy that cannot be
// deleted, or open it to somebody. Both are then compared as withheld.
type Target struct {
	*View

	memory *semaphore.Weighted // bytes of objects being sent

	mu       sync.Mutex
	created  bool // the bucket is ours
	versions bool // versioning has been enabled
}

func openTarget(s Settings) (*Target, error) {
	if s.Concurrency == 0 {
		s.Concurrency = 64
	}
	conn, err := s3conn.New(s.Conn)
	if err != nil {
		return nil, err
	}
	// Until Begin nothing is known of the bucket; it may not even be there.
	return &Target{
		View:   &View{conn: conn, s: s, hidden: markerKey, notes: map[string]bool{}, state: bucketState{true, true, true}},
		memory: semaphore.NewWeighted(48 << 20),
	}, nil
}

// Streams implements [exporters.Exporter].
func (t *Target) Streams(ctx context.Context) ([]dataset.Stream, error) {
	if err := t.look(ctx); err != nil {
		return nil, sourceError(err)
	}
	return t.View.Streams(ctx)
}

// Fidelity implements [exporters.Target].
func (t *Target) Fidelity(s dataset.Stream) []dataset.Loss {
	loss := func(field, reason string) dataset.Loss {
		return dataset.Loss{Stream: s.Name, Field: field, Reason: reason}
	}
	switch {
	case s.Name == configStream:
		if t.s.WithPolicies {
			return []dataset.Loss{
				loss("state", "Servers differ in the parts of a configuration that they have."),
				loss("document", "A server writes its configuration down in its own words."),
			}
		}
		return []dataset.Loss{
			loss("state", "Withheld: the configuration of a bucket is applied only with policies."),
			loss("document", "Withheld: the configuration of a bucket is applied only with policies."),
		}
	case !s.Blobs || s.Name != objectStream:
		return []dataset.Loss{loss("", "A bucket holds objects only.")}
	}
	out := []dataset.Loss{
		loss("storage_class", "Copies are stored in the bucket's default class."),
		loss("sse", "The copy is encrypted as its own bucket says."),
		loss("not_captured", "What could not be read cannot be written."),
	}
	if !t.s.WithLocks {
		out = append(out, loss("retention", "Withheld: retention is applied only with locks."),
			loss("legal_hold", "Withheld: legal holds are applied only with locks."))
	}
	if !t.s.WithPolicies {
		out = append(out, loss("acl", "Withheld: ACLs are applied only with policies."))
	}
	return out
}

// A marker is the object that says whose test filled the bucket.
type marker struct {
	Test    dataset.ID `json:"test"`
	Created bool       `json:"created"` // the bucket too
	Time    time.Time  `json:"time"`
}

// Begin implements [exporters.Target].
func (t *Target) Begin(ctx context.Context, test dataset.ID, all []dataset.Stream) error {
	if t.closed.Load() {
		return errClosed
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.empty(ctx); err != nil {
		return fmt.Errorf("target bucket %s: %w", t.conn.Bucket, err)
	}
	body, err := json.Marshal(marker{Test: test, Created: t.created, Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	_, _, err = t.conn.Call(ctx, &s3conn.Request{Op: "put marker", Method: http.MethodPut, Key: markerKey, Body: body,
		Header: http.Header{"If-None-Match": {"*"}, "Content-Type": {"application/json"}}}, 64<<10)
	switch {
	case errors.Is(err, s3conn.ErrPrecondition):
		if m, err2 := t.marker(ctx); err2 == nil && m.Test == test { // our own, its reply lost
			err = nil
		} else {
			err = exporters.ErrNotEmpty
		}
	case err != nil:
		err = sourceError(err)
	}
	if err != nil {
		return fmt.Errorf("target bucket %s: %w", t.conn.Bucket, err)
	}
	return nil
}

// empty makes sure that the bucket exists and holds nothing.
func (t *Target) empty(ctx context.Context) error {
	listing := s3conn.Listing{Versions: true, PageSize: 10}
	for _, err := range t.conn.List(ctx, listing) {
		if errors.Is(err, s3conn.ErrNoSuchBucket) || errors.Is(err, fs.ErrNotExist) {
			t.created = true
			return t.create(ctx)
		}
		if errors.Is(err, s3conn.ErrUnsupported) {
			break
		}
		if err != nil {
			return sourceError(err)
		}
		return exporters.ErrNotEmpty
	}
	for _, err := range t.conn.List(ctx, s3conn.Listing{PageSize: 10}) {
		if err != nil {
			return sourceError(err)
		}
		return exporters.ErrNotEmpty
	}
	return nil
}

// create makes the bucket, with object lock if locks are to be applied, which can be
// had only at that moment on some servers.
func (t *Target) create(ctx context.Context) error {
	h := http.Header{}
	if t.s.WithLocks {
		h.Set("X-Amz-Bucket-Object-Lock-Enabled", "true")
	}
	var body []byte
	if r := t.conn.Region; r != "us-east-1" {
		body = []byte("<CreateBucketConfiguration><LocationConstraint>" + xmlText(r) + "</LocationConstraint></CreateBucketConfiguration>")
	}
	_, _, err := t.conn.Call(ctx, &s3conn.Request{Op: "create bucket", Method: http.MethodPut, Header: h, Body: body}, 64<<10)
	return err
}

// marker reads whose test filled the bucket. It fails with [exporters.ErrNotOurs] if
// nobody's did.
func (t *Target) marker(ctx context.Context) (marker, error) {
	var m marker
	body, _, err := t.conn.Call(ctx, &s3conn.Request{Op: "get marker", Method: http.MethodGet, Key: markerKey}, 64<<10)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, s3conn.ErrNoSuchBucket):
		return m, exporters.ErrNotOurs
	case err != nil:
		return m, sourceError(err)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("%w: its marker is malformed", exporters.ErrNotOurs)
	}
	return m, nil
}

// Load implements [exporters.Target]. Keys are loaded in parallel, the versions of one
// key in their order, oldest first, whichever way they come.
func (t *Target) Load(ctx context.Context, s dataset.Stream, recs iter.Seq2[dataset.Record, error], gap func(dataset.Gap)) error {
	load := t.loadKey
	switch {
	case s.Name == configStream:
		load = t.loadConfiguration
	case s.Name != objectStream:
		load = func(_ context.Context, same []dataset.Record, gap func(dataset.Gap)) error {
			for _, r := range same {
				gap(dataset.Gap{Stream: s.Name, Key: r.Key, Ordinal: r.Ordinal, Code: dataset.Unsupported, Detail: "a bucket holds objects only"})
			}
			return nil
		}
	}
	if s.Name == objectStream && hadVersions(&s) {
		// Before anything is stored: what comes earlier would have no version id of its own.
		// A target that cannot do it is told of for each key that needs it.
		if err := t.enableVersions(ctx); err != nil && !cannot(err) {
			return sourceError(err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.s.Concurrency)
	var same []dataset.Record
	flush := func() {
		if len(same) == 0 {
			return
		}
		group := same
		same = nil
		slices.SortStableFunc(group, func(a, b dataset.Record) int { return a.Ordinal - b.Ordinal })
		g.Go(func() error { return load(ctx, group, gap) })
	}
	var failure error
	for r, err := range recs {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			failure = err
			break
		}
		if len(same) > 0 && same[0].Key != r.Key {
			flush()
		}
		if r.Gap != nil { // it was not read, so it cannot be written
			if len(r.Data) == 0 && r.Gap.Code != dataset.NotCaptured {
				gap(*r.Gap)
			}
			continue
		}
		r.Data = slices.Clone(r.Data) // valid only until the next step
		same = append(same, r)
	}
	if failure == nil {
		flush()
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("load %q: %w", s.Name, err)
	}
	if failure != nil {
		return fmt.Errorf("load %q: %w", s.Name, failure)
	}
	return nil
}

// Finish implements [exporters.Target].
func (t *Target) Finish(ctx context.Context) error {
	if err := t.look(ctx); err != nil {
		return fmt.Errorf("finish: %w", sourceError(err))
	}
	return nil
}

// Destroy implements [exporters.Target]: every version of every object, the marker
// last, and the bucket if it was made by this test.
func (t *Target) Destroy(ctx context.Context, test dataset.ID) error {
	m, err := t.marker(ctx)
	if err != nil {
		return err
	}
	if m.Test != test {
		return exporters.ErrNotOurs
	}
	if err := t.clear(ctx); err != nil {
		return fmt.Errorf("destroy: %w", err)
	}
	if m.Created {
		return t.deleteBucket(ctx)
	}
	return nil
}

// deleteBucket deletes the bucket. Some gateways refuse that for directories of their
// own that a listing does not show: then an empty bucket stays, which is noted.
func (t *Target) deleteBucket(ctx context.Context) error {
	_, _, err := t.conn.Call(ctx, &s3conn.Request{Op: "delete bucket", Method: http.MethodDelete}, 64<<10)
	if err == nil || errors.Is(err, s3conn.ErrNoSuchBucket) {
		return nil
	}
	e, answered := errors.AsType[*s3conn.Error](err)
	if answered && e.Code == "BucketNotEmpty" && t.empty(ctx) == nil {
		t.note("The emptied bucket was left behind, because its server calls it not empty.")
		return nil
	}
	return fmt.Errorf("destroy: %w", sourceError(err))
}

// clear deletes everything, the marker at the very end: an interrupted Destroy can be
// repeated. The versions of one key go one after the other, newest first, because some
// gateways lose count when they go at once.
func (t *Target) clear(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(t.s.Concurrency, 16))
	removeAll := func(same []s3conn.Entry) func() error {
		return func() error {
			for _, e := range same {
				if err := t.remove(gctx, e); err != nil {
					return err
				}
			}
			return nil
		}
	}
	var same, marks []s3conn.Entry // versions of one key, and of the marker
	var failure error
	for e, err := range t.conn.List(gctx, s3conn.Listing{Versions: true}) {
		if err != nil {
			failure = err
			break
		}
		if e.Key == markerKey {
			marks = append(marks, e)
			continue
		}
		if len(same) > 0 && same[0].Key != e.Key {
			g.Go(removeAll(same))
			same = nil
		}
		same = append(same, e)
	}
	g.Go(removeAll(same))
	if err := errors.Join(g.Wait(), failure); err != nil {
		return sourceError(err)
	}
	for _, e := range marks {
		if err := t.remove(ctx, e); err != nil {
			return sourceError(err)
		}
	}
	return nil
}

func (t *Target) remove(ctx context.Context, e s3conn.Entry) error {
	h := http.Header{}
	if t.s.WithLocks {
		h.Set("X-Amz-Bypass-Governance-Retention", "true")
	}
	q := [][2]string{{"versionId", e.Version}}
	_, _, err := t.conn.Call(ctx, &s3conn.Request{Op: "delete object", Method: http.MethodDelete, Key: e.Key, Query: q, Header: h}, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
