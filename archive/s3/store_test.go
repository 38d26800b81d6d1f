package s3_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/retry"
	"github.com/dwp/sallyport/internal/s3conn"
)

var (
	_ archive.Store   = (*s3.Store)(nil)
	_ archive.Clock   = (*s3.Store)(nil)
	_ archive.Prober  = (*s3.Store)(nil)
	_ archive.Remover = s3.Remover{}
)

const bucket = "archive"

// A fixture is a server with a bucket and settings that reach it.
type fixture struct {
	srv    *s3server.Server
	faulty *s3server.Injector
	conn   s3conn.Config
}

func serve(t *testing.T, faults ...s3server.Fault) fixture {
	t.Helper()
	f := fixture{faulty: s3server.NewInjector(1, faults...)}
	f.srv = s3server.New(s3server.Options{
		Credentials: []s3server.Credential{{AccessKey: "key", SecretKey: "secret"}}, Faults: f.faulty,
	})
	url, ca, stop, err := f.srv.Start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	f.srv.AddBucket(bucket)
	f.conn = s3conn.Config{
		Endpoint: url, CA: file, Bucket: bucket, Prefix: "prod/x/", AccessKey: "key", SecretKey: "secret",
		Patience: s3conn.Patience{Header: time.Second, Idle: 300 * time.Millisecond,
			Retry: retry.Policy{Tries: 4, Min: time.Millisecond, Max: 10 * time.Millisecond, MaxHint: 10 * time.Millisecond}},
	}
	return f
}

func open(t *testing.T, f fixture, o s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), f.conn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func read(t *testing.T, s archive.Store, name string, off, n int64) (string, error) {
	t.Helper()
	r, err := s.Open(t.Context(), name, off, n)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func list(t *testing.T, s archive.Store, prefix string) (string, error) {
	t.Helper()
	var b strings.Builder
	for i, err := range s.List(t.Context(), prefix) {
		if err != nil {
			return b.String(), err
		}
		fmt.Fprintf(&b, "%s:%d", i.Name, i.Size)
		if i.Later {
			b.WriteString(" later")
		}
		if i.Marker {
			b.WriteString(" marker")
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

func TestStoreCreatesOnceAndReadsRanges(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f, s3.Options{})
	if err := s.Create(t.Context(), "svc/a.json", []byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(t.Context(), "svc/a.json", []byte("other")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v", err)
	}
	for _, c := range []struct {
		off, n int64
		want   string
	}{{0, -1, "0123456789"}, {0, 3, "012"}, {3, 4, "3456"}, {8, 100, "89"}, {9, -1, "9"}, {10, -1, ""}, {20, 5, ""}, {2, 0, ""}} {
		if got, err := read(t, s, "svc/a.json", c.off, c.n); err != nil || got != c.want {
			t.Errorf("%d bytes at %d: %q, %v; want %q", c.n, c.off, got, err, c.want)
		}
	}
	for _, n := range []int64{-1, 0, 5} {
		if _, err := read(t, s, "svc/none", 0, n); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d bytes of nothing: %v", n, err)
		}
	}
	for _, name := range []string{"", "/a", "a//b", "a/../b", "a/", "ä", "a b", "."} {
		if err := s.Create(t.Context(), name, nil); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	if objects := f.srv.Objects(bucket); len(objects) != 1 || objects[0].Key != "prod/x/svc/a.json" {
		t.Errorf("the bucket holds %d objects", len(objects))
	}
}

func TestStoreListsInByteOrderUnderItsPrefix(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f, s3.Options{})
	for _, name := range []string{"b", "a/1", "a.x", "a/0", "c"} {
		if err := s.Create(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	f.srv.PutObject(bucket, s3server.Object{Key: "elsewhere"})
	if got, err := list(t, s, ""); err != nil || got != "a.x:1\na/0:1\na/1:1\nb:1\nc:1\n" {
		t.Errorf("all: %q, %v", got, err)
	}
	if got, err := list(t, s, "a/"); err != nil || got != "a/0:1\na/1:1\n" {
		t.Errorf("a/: %q, %v", got, err)
	}
}

func TestOnAVersionedBucketTheOldestCounts(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.srv.SetVersioning(bucket, "Enabled")
	s := open(t, f, s3.Options{})
	if err := s.Create(t.Context(), "d", []byte("first")); err != nil {
		t.Fatal(err)
	}
	f.srv.PutObject(bucket, s3server.Object{Key: "prod/x/d", Body: s3server.Bytes([]byte("second!"))})
	f.srv.PutObject(bucket, s3server.Object{Key: "prod/x/d", DeleteMarker: true})
	for _, view := range []*s3.Store{s, open(t, f, s3.Options{})} {
		if got, err := read(t, view, "d", 0, -1); err != nil || got != "first" {
			t.Errorf("read %q, %v", got, err)
		}
	}
	if got, err := list(t, s, ""); err != nil || got != "d:5\nd:7 later\nd:0 later marker\n" {
		t.Errorf("listed %q, %v", got, err)
	}
	if _, err := read(t, s, "e", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	r := s3.Remover{Store: s}
	if err := r.Remove(t.Context(), "d", ""); err == nil {
		t.Error("Remove without a version left a delete marker")
	}
	for i, err := range s.List(t.Context(), "d") {
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(t.Context(), i.Name, i.Version); err != nil {
			t.Error(err)
		}
		if err := r.Remove(t.Context(), i.Name, i.Version); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removed twice: %v", err)
		}
	}
	if n := len(f.srv.Versions(bucket)); n != 0 {
		t.Errorf("%d versions are left", n)
	}
}

func TestConcurrentCreatesHaveOneWinner(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f, s3.Options{})
	var wg sync.WaitGroup
	wins := make([]bool, 16)
	for i := range wins {
		wg.Go(func() { wins[i] = s.Create(t.Context(), "decision", fmt.Appendf(nil, "%d", i)) == nil })
	}
	wg.Wait()
	won := 0
	for _, w := range wins {
		if w {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d winners", won)
	}
}

func TestALostReplyLeavesTheObjectAndSaysExist(t *testing.T) {
	t.Parallel()
	f := serve(t, s3server.Fault{Operations: []string{"PutObject"}, Times: 1, Effect: s3server.LostReply()})
	s := open(t, f, s3.Options{})
	if err := s.Create(t.Context(), "a", []byte("mine")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if got, err := read(t, s, "a", 0, -1); err != nil || got != "mine" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestAnErrorDocumentIsNoSuccess(t *testing.T) {
	t.Parallel()
	f := serve(t, s3server.Fault{Operations: []string{"PutObject"}, Effect: s3server.OKWithError("InternalError", false)})
	s := open(t, f, s3.Options{})
	if err := s.Create(t.Context(), "a", []byte("x")); err == nil {
		t.Error("no error")
	}
}

func TestPacksAreSentWithTheDigestInTheirName(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f, s3.Options{})
	data := []byte("a pack")
	sum := dataset.Sum(data).String()
	if err := s.Create(t.Context(), "svc/packs/"+sum[:2]+"/"+sum, data); err != nil {
		t.Error(err)
	}
	other := strings.Repeat("0", 64)
	if err := s.Create(t.Context(), "svc/packs/00/"+other, data); err != nil {
		t.Errorf("under a name that is not its digest: %v", err)
	}
	if n := f.srv.Counts()["PutObject"]; n != 3 {
		t.Errorf("%d PUTs; want one, then two", n)
	}
}

func TestProbeTellsStoresThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	writes := []string{"PutObject"}
	for name, c := range map[string]struct {
		fault s3server.Fault
		want  error
	}{
		"honest":                {},
		"ignores conditions":    {s3server.Fault{Operations: writes, Effect: s3server.IgnoreConditions()}, archive.ErrNoConditionalWrites},
		"refuses conditions":    {s3server.Fault{Operations: writes, Effect: s3server.RefuseConditions()}, archive.ErrNoConditionalWrites},
		"shows writes later":    {s3server.Fault{Effect: s3server.Stale(time.Hour)}, fs.ErrNotExist},
		"denies":                {s3server.Fault{Operations: writes, Effect: s3server.Refuse(403, "AccessDenied", "no")}, s3conn.ErrDenied},
		"loses the first reply": {s3server.Fault{Operations: writes, Times: 1, Effect: s3server.LostReply()}, nil},
	} {
		f := serve(t, c.fault)
		s := open(t, f, s3.Options{})
		for range 2 {
			if err := s.Probe(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("%s: %v; want %v", name, err, c.want)
			}
		}
		if n := len(f.srv.Objects(bucket)); n > 1 {
			t.Errorf("%s: the probe left %d objects", name, n)
		}
	}
}

func TestObjectsInColdStorageAreNotReadable(t *testing.T) {
	t.Parallel()
	f := serve(t)
	s := open(t, f, s3.Options{})
	if err := s.Create(t.Context(), "a", []byte("cold")); err != nil {
		t.Fatal(err)
	}
	f.srv.Freeze(bucket, "", "DEEP_ARCHIVE")
	if _, err := read(t, s, "a", 0, -1); !errors.Is(err, archive.ErrNotReadable) {
		t.Errorf("got %v", err)
	}
}

func TestLockedObjectsSayUntilWhen(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.srv.EnableLock(bucket)
	s := open(t, f, s3.Options{Lock: s3.Lock{Mode: "COMPLIANCE", Days: 30}})
	if err := s.Create(t.Context(), "a", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	for i, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		err := s3.Remover{Store: s}.Remove(t.Context(), i.Name, i.Version)
		locked, ok := errors.AsType[*archive.LockedError](err)
		if !ok || time.Until(locked.Until) < 29*24*time.Hour {
			t.Errorf("got %v", err)
		}
	}
	if _, err := s3.Open(t.Context(), f.conn, s3.Options{Lock: s3.Lock{Mode: "FOREVER", Days: 1}}); err == nil {
		t.Error("an unknown mode was accepted")
	}
}

func TestStoreTellsItsOwnTime(t *testing.T) {
	t.Parallel()
	s := open(t, serve(t), s3.Options{})
	now, err := s.Now(t.Context())
	if err != nil || time.Since(now).Abs() > 5*time.Second {
		t.Errorf("%v, %v", now, err)
	}
}

func TestTheCreateOnlyCredentialSufficesAndCannotMore(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.srv.SetCredential(s3server.Credential{AccessKey: "exporter", SecretKey: "e", Policy: s3server.CreateOnly(bucket, "prod/x/")})
	f.conn.AccessKey, f.conn.SecretKey = "exporter", "e"
	s := open(t, f, s3.Options{})
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Create(t.Context(), "a", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := (s3.Remover{Store: s}).Remove(t.Context(), "a", "null"); err == nil {
		t.Error("it could delete")
	}
	if len(f.srv.Objects(bucket)) == 0 {
		t.Error("the object is gone")
	}
}

func TestPoliciesAllowDeletionToTheKeeperAlone(t *testing.T) {
	t.Parallel()
	for _, role := range []s3.Role{s3.ExporterRole, s3.VerifierRole, s3.KeeperRole} {
		text, err := s3.Policy(role, bucket, "/prod/x/")
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			Version   string
			Statement []struct {
				Effect   string
				Action   []string
				Resource []string
			}
		}
		if err := json.Unmarshal(text, &p); err != nil || p.Version != "2012-10-17" {
			t.Fatalf("%s: %v", role, err)
		}
		deletes := false
		for _, st := range p.Statement {
			for _, a := range st.Action {
				deletes = deletes || st.Effect == "Allow" && strings.HasPrefix(a, "s3:Delete")
			}
			for _, r := range st.Resource {
				if !strings.HasPrefix(r, "arn:aws:s3:::archive") {
					t.Errorf("%s: resource %s", role, r)
				}
			}
		}
		if deletes != (role == s3.KeeperRole) {
			t.Errorf("%s: may delete: %v", role, deletes)
		}
	}
	if _, err := s3.Policy("root", bucket, ""); err == nil {
		t.Error("an unknown role has a policy")
	}
}
