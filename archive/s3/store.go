// Package s3 keeps an archive in a bucket, under a prefix.
//
// Objects are written with one PUT each, under If-None-Match: *, with the SHA-256 of
// the bytes in x-amz-content-sha256. The store relies on conditional writes and on
// reading what was written; Probe finds out whether the bucket has both.
//
// On a versioned bucket the oldest version of a name counts. To know which it is, the
// first Open of a name asks for the list of its versions (one small request more) and
// remembers the answer, which cannot change while the version exists.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/internal/s3conn"
)

// Options tune a Store.
type Options struct {
	Lock Lock // retention that each object is written with; the zero Lock is none
}

// A Lock is an Object Lock retention.
type Lock struct {
	Mode string // "COMPLIANCE" or "GOVERNANCE"
	Days int    // from the moment of writing
}

// A Store is an [archive.Store], [archive.Clock] and [archive.Prober] on a bucket. It
// is safe for concurrent use.
type Store struct {
	conn      *s3conn.Conn
	prefix    string // that the connection puts before names; empty or ending in a slash
	lock      Lock
	versioned bool

	mu     sync.Mutex
	oldest map[string]string // name to version, of names read before
}

// Open opens the store at c.Bucket and c.Prefix and asks whether the bucket keeps
// versions. A credential that may neither ask that nor list versions sees only the
// newest of each name; [Policy] grants both.
func Open(ctx context.Context, c s3conn.Config, o Options) (*Store, error) {
	if o.Lock != (Lock{}) && (o.Lock.Mode != "COMPLIANCE" && o.Lock.Mode != "GOVERNANCE" || o.Lock.Days <= 0) {
		return nil, errors.New("s3 store: lock needs a mode, COMPLIANCE or GOVERNANCE, and a number of days")
	}
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		c.Prefix += "/"
	}
	conn, err := s3conn.New(c)
	if err != nil {
		return nil, err
	}
	s := &Store{conn: conn, prefix: c.Prefix, lock: o.Lock, oldest: map[string]string{}}
	if s.versioned, err = s.hasVersions(ctx); err != nil {
		return nil, fmt.Errorf("s3 store: %w", mapped(err))
	}
	return s, nil
}

// Close drops idle connections.
func (s *Store) Close() error {
	s.conn.Close()
	return nil
}

func (s *Store) hasVersions(ctx context.Context) (bool, error) {
	body, _, err := s.conn.Call(ctx, &s3conn.Request{Op: "get bucket versioning", Method: http.MethodGet, Query: [][2]string{{"versioning", ""}}}, 64<<10)
	switch {
	case errors.Is(err, s3conn.ErrUnsupported), errors.Is(err, s3conn.ErrNotConfigured):
		return false, nil
	case errors.Is(err, s3conn.ErrDenied):
		return s.mayListVersions(ctx)
	case err != nil:
		return false, err
	}
	var v struct{ Status string }
	if err := xml.Unmarshal(body, &v); err != nil {
		return false, fmt.Errorf("get bucket versioning: %w: %w", s3conn.ErrBadAnswer, err)
	}
	return v.Status != "", nil // suspended versioning leaves versions behind
}

// mayListVersions reports whether versions can be listed, where nobody says whether
// there are any.
func (s *Store) mayListVersions(ctx context.Context) (bool, error) {
	for _, err := range s.conn.List(ctx, s3conn.Listing{Versions: true, PageSize: 1}) {
		if errors.Is(err, s3conn.ErrDenied) || errors.Is(err, s3conn.ErrUnsupported) {
			return false, nil
		}
		return err == nil, err
	}
	return true, nil
}

// mapped turns the errors of a connection into those that archive knows.
func mapped(err error) error {
	if errors.Is(err, s3conn.ErrArchived) {
		return fmt.Errorf("%w: %w", archive.ErrNotReadable, err)
	}
	return err
}

// validName is what package archive makes names of.
var validName = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)

func checkName(name string) error {
	if !validName.MatchString(name) || slices.ContainsFunc(strings.Split(name, "/"), func(c string) bool { return c == "." || c == ".." }) {
		return fmt.Errorf("%q is no name of a stored object", name)
	}
	return nil
}

// packName holds the digest of a pack's bytes, which need not be computed again: a
// server refuses bytes that do not have it.
var packName = regexp.MustCompile(`/packs/[0-9a-f]{2}/([0-9a-f]{64})$`)

// Create implements [archive.Store]. After a lost reply the request is sent again and
// the object that the first one made answers with [fs.ErrExist]: whoever needs to know
// whether its own bytes are there reads them.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	known := ""
	if m := packName.FindStringSubmatch(name); m != nil && s.lock == (Lock{}) {
		known = m[1]
	}
	err := s.put(ctx, name, data, known)
	var e *s3conn.Error
	if known != "" && errors.As(err, &e) && e.Status == http.StatusBadRequest {
		err = s.put(ctx, name, data, "") // the name is not the digest, or the bytes were altered on their way
	}
	switch {
	case errors.Is(err, s3conn.ErrPrecondition):
		return fmt.Errorf("create %s: %w", name, fs.ErrExist)
	case errors.Is(err, s3conn.ErrUnsupported):
		return fmt.Errorf("create %s: %w: %w", name, archive.ErrNoConditionalWrites, err)
	case err != nil:
		return fmt.Errorf("create %s: %w", name, mapped(err))
	}
	return nil
}

func (s *Store) put(ctx context.Context, name string, data []byte, digest string) error {
	h := http.Header{"If-None-Match": {"*"}, "Content-Type": {"application/octet-stream"}}
	if s.lock != (Lock{}) { // a locked write must carry a checksum
		sum := sha256.Sum256(data)
		digest = hex.EncodeToString(sum[:])
		h.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
		h.Set("X-Amz-Object-Lock-Mode", s.lock.Mode)
		h.Set("X-Amz-Object-Lock-Retain-Until-Date", time.Now().UTC().AddDate(0, 0, s.lock.Days).Format(time.RFC3339))
	}
	_, _, err := s.conn.Call(ctx, &s3conn.Request{Op: "put object", Method: http.MethodPut, Key: name, Header: h, Body: data, SHA256: digest}, 64<<10)
	return err
}

// Open implements [archive.Store].
func (s *Store) Open(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	version, err := s.oldestVersion(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	o := s3conn.Object{Key: name, Version: version, Size: -1}
	if n == 0 { // there is no empty range
		if _, err := s.conn.Head(ctx, o); err != nil {
			return nil, fmt.Errorf("open %s: %w", name, mapped(err))
		}
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r, err := s.conn.Get(ctx, o, off, n)
	if errors.Is(err, s3conn.ErrRange) { // at or beyond the end
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, mapped(err))
	}
	return r, nil
}

// oldestVersion returns the version to read: "" where there are none.
func (s *Store) oldestVersion(ctx context.Context, name string) (string, error) {
	if !s.versioned {
		return "", nil
	}
	s.mu.Lock()
	v, ok := s.oldest[name]
	s.mu.Unlock()
	if ok {
		return v, nil
	}
	for e, err := range s.conn.List(ctx, s3conn.Listing{Prefix: name, UpTo: name, Versions: true}) {
		if err != nil {
			return "", mapped(err)
		}
		if !e.Marker {
			v = e.Version // the last one is the oldest
		}
	}
	if v == "" {
		return "", fs.ErrNotExist
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.oldest) >= 10_000 {
		clear(s.oldest)
	}
	s.oldest[name] = v
	return v, nil
}

// List implements [archive.Store].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[archive.Info, error] {
	return func(yield func(archive.Info, error) bool) {
		var same []archive.Info // versions of one name, newest first
		flush := func() bool {
			for i, v := range slices.Backward(same) {
				v.Later = i != len(same)-1
				if !yield(v, nil) {
					return false
				}
			}
			same = same[:0]
			return true
		}
		for e, err := range s.conn.List(ctx, s3conn.Listing{Prefix: prefix, Versions: s.versioned}) {
			if err != nil {
				yield(archive.Info{}, fmt.Errorf("list %s: %w", prefix, mapped(err)))
				return
			}
			name := e.Key
			if len(same) > 0 && same[0].Name != name && !flush() {
				return
			}
			same = append(same, archive.Info{Name: name, Size: e.Size, Time: e.Modified, Version: e.Version, Marker: e.Marker})
		}
		flush()
	}
}

// Now implements [archive.Clock]: the Date of an answer, to the second.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	// A listing needs no permission that the store has not got already.
	q := [][2]string{{"list-type", "2"}, {"max-keys", "1"}, {"prefix", s.prefix}}
	_, h, err := s.conn.Call(ctx, &s3conn.Request{Op: "list objects", Method: http.MethodGet, Query: q}, 64<<10)
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the store: %w", mapped(err))
	}
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("time of the store: %w: no Date", s3conn.ErrBadAnswer)
	}
	return t, nil
}

// The probe's object is the same for ever, so probing again adds nothing.
const (
	probeName = archive.ProbeName
	probeText = archive.ProbeText
)

// Probe implements [archive.Prober]: it creates one object twice at once, which must
// succeed once (never, if an earlier probe made it), and reads and lists it back.
func (s *Store) Probe(ctx context.Context) error {
	existed, err := s.probed(ctx)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	var created [2]bool
	var g errgroup.Group
	for i := range created {
		g.Go(func() error {
			err := s.Create(ctx, probeName, []byte(probeText))
			created[i] = err == nil
			if errors.Is(err, fs.ErrExist) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if created[0] && created[1] || existed && (created[0] || created[1]) {
		return fmt.Errorf("probe: %w", archive.ErrNoConditionalWrites)
	}
	if ok, err := s.probed(ctx); err != nil || !ok {
		return fmt.Errorf("probe: what was written cannot be read at once: %w", errors.Join(err, fs.ErrNotExist))
	}
	for i, err := range s.List(ctx, probeName) {
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		if i.Name == probeName {
			return nil
		}
	}
	return errors.New("probe: what was written is not listed at once")
}

// probed reports whether the probe's object is there.
func (s *Store) probed(ctx context.Context) (bool, error) {
	r, err := s.Open(ctx, probeName, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 1<<10))
	if err != nil {
		return false, err
	}
	if string(b) != probeText {
		return false, fmt.Errorf("%s is not what was written", probeName)
	}
	return true, nil
}
