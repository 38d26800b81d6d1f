package retention_test

import (
	"context"
	"encoding/xml"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	archives3 "github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/gateway"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
	"github.com/dwp/sallyport/verify"
)

// The fake keeps the time, so that locks lapse when the test wants them to.
func TestLocksOfWhatIsStillNeededAreExtendedAndTheRestIsReported(t *testing.T) {
	t.Parallel()
	c := &court{clock: time.Now().UTC().Truncate(time.Second)}
	srv := s3server.New(s3server.Options{Credentials: []s3server.Credential{{AccessKey: "k", SecretKey: "s"}}, Now: c.now})
	srv.AddBucket("archive")
	srv.EnableLock("archive")
	url, ca, stop, err := srv.Start(true)
	check(t, err)
	t.Cleanup(stop)
	file := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(file, ca, 0o600))
	st, err := archives3.Open(t.Context(), s3conn.Config{Endpoint: url, CA: file, Bucket: "archive", AccessKey: "k", SecretKey: "s"},
		archives3.Options{Lock: archives3.Lock{Mode: "COMPLIANCE", Days: 30}})
	check(t, err)
	t.Cleanup(func() { st.Close() })
	c.convene(t, archives3.Remover{Store: st})
	c.fill(2)
	first := c.export(t)
	c.countersign(t, first)
	check(t, c.src.Put(dataset.Record{Stream: "rows", Key: "[0]", Data: []byte(`{"id":0,"n":1}`)}))
	second := c.export(t)
	c.countersign(t, second)
	k := c.keeperDesk()
	k.LockFor = 30 * 24 * time.Hour
	k.Remover = archives3.Remover{Store: st}
	c.a.Store = clocked{st, c}
	out, err := apply(t, k, keepLast(1))
	check(t, err)
	if len(out.Expired) != 1 || len(out.Retained) == 0 || out.Retained[0].Until.IsZero() || len(out.Collection.Removed) > 0 {
		t.Fatalf("expired %v, retained %d, removed %d", out.Expired, len(out.Retained), len(out.Collection.Removed))
	}
	if out.Extended != 0 {
		t.Errorf("%d locks were extended on the first day", out.Extended)
	}
	c.pass(20 * 24 * time.Hour)
	if out, err = apply(t, k, keepLast(1)); err != nil || out.Extended == 0 {
		t.Fatalf("after 20 days: %+v, %v", out, err)
	}
	c.pass(11 * 24 * time.Hour) // the first locks have lapsed
	if out, err = apply(t, k, keepLast(1)); err != nil || len(out.Collection.Removed) == 0 || len(out.Retained) > 0 {
		t.Fatalf("after 31 days: %d removed, retained %v, %v", len(out.Collection.Removed), out.Retained, err)
	}
	r, err := verify.Verification{Snapshot: c.open(t, second.Decision)}.Run(t.Context())
	if err != nil || r.Content != verify.Pass {
		t.Errorf("what is needed: %v, %v", r, err)
	}
	for _, o := range srv.Objects("archive") {
		if archive.ParseName(o.Key).Class == archive.PackObject && !o.Retention.Until.After(c.now()) {
			t.Errorf("the lock of %s has lapsed", o.Key)
		}
	}
}

// clocked is a store whose clock is the court's.
type clocked struct {
	*archives3.Store
	c *court
}

func (s clocked) Now(context.Context) (time.Time, error) { return s.c.now(), nil }

// The same against a server that others wrote. Its clock is its own, so what lapses there
// is not seen; what is extended, and until when, is.
func TestRealServerExtendsTheLocksOfWhatIsStillNeeded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the gateway is not built in short mode")
	}
	g, err := gateway.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Skipf("versitygw cannot be run here: %v", err)
	}
	t.Cleanup(func() { g.Close() })
	conf := s3conn.Config{Endpoint: g.Endpoint, CA: g.CA, Region: g.Region, Bucket: "archive", AccessKey: g.AccessKey, SecretKey: g.SecretKey}
	conn, err := s3conn.New(conf)
	check(t, err)
	_, _, err = conn.Call(t.Context(), &s3conn.Request{Op: "create bucket", Method: http.MethodPut, Header: http.Header{"X-Amz-Bucket-Object-Lock-Enabled": {"true"}}}, 1<<10)
	check(t, err)
	st, err := archives3.Open(t.Context(), conf, archives3.Options{Lock: archives3.Lock{Mode: "GOVERNANCE", Days: 30}})
	check(t, err)
	t.Cleanup(func() { st.Close() })
	c := &court{clock: time.Now().UTC().Truncate(time.Second)}
	c.convene(t, archives3.Remover{Store: st})
	c.fill(2)
	first := c.export(t)
	c.countersign(t, first)
	c.alter(t, 1)
	c.src.Add(dataset.Stream{Name: "objects", Blobs: true}, lasting("file-100"))
	second := c.export(t)
	c.countersign(t, second)
	k := c.keeperDesk()
	k.LockFor = 30 * 24 * time.Hour
	k.Remover = archives3.Remover{Store: st}
	c.a.Store = clocked{st, c}
	out, err := apply(t, k, keepLast(1))
	check(t, err)
	if len(out.Expired) != 1 || len(out.Retained) == 0 || len(out.Collection.Removed) > 0 || out.Extended != 0 {
		t.Fatalf("expired %v, retained %d, removed %d, extended %d", out.Expired, len(out.Retained), len(out.Collection.Removed), out.Extended)
	}
	for range 2 { // twice, each time before the locks of the time before lapse
		c.pass(20 * 24 * time.Hour)
		out, err = apply(t, k, keepLast(1))
		if err != nil || out.Extended == 0 {
			t.Fatalf("after 20 days more: %+v, %v", out, err)
		}
		if again, err := apply(t, k, keepLast(1)); err != nil || again.Extended != 0 {
			t.Errorf("and again at once: %+v, %v", again, err)
		}
	}
	want := c.now().Add(k.LockFor)
	for h := range first.Packs {
		_, shared := second.Packs[h]
		if until := lockedUntil(t, conn, archive.PackName(service, h)); !shared && !until.Before(c.now()) {
			t.Errorf("the lock of pack %s, which nothing needs, was extended until %s", h, until)
		}
	}
	for h := range second.Packs {
		if until := lockedUntil(t, conn, archive.PackName(service, h)); until.Before(want) {
			t.Errorf("pack %s is needed and locked until %s; want %s", h, until, want)
		}
	}
}

// lockedUntil asks a server until when it retains an object.
func lockedUntil(t testing.TB, conn *s3conn.Conn, name string) time.Time {
	t.Helper()
	body, _, err := conn.Call(t.Context(), &s3conn.Request{Op: "get object retention", Method: http.MethodGet, Key: name, Query: [][2]string{{"retention", ""}}}, 64<<10)
	check(t, err)
	var lock struct {
		Until time.Time `xml:"RetainUntilDate"`
	}
	check(t, xml.Unmarshal(body, &lock))
	return lock.Until
}
