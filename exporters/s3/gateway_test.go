package s3_test

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/gateway"
	"github.com/dwp/sallyport/internal/s3conn"
)

// A client of a gateway, for tests alone.
type client struct {
	t    *testing.T
	conn *s3conn.Conn
}

func (c client) do(method, key, body string, h http.Header, q ...[2]string) {
	c.t.Helper()
	if _, _, err := c.conn.Call(c.t.Context(), &s3conn.Request{Op: method + " " + key, Method: method, Key: key, Body: []byte(body), Header: h, Query: q}, 1<<20); err != nil {
		c.t.Fatal(err)
	}
}

// startGateway runs a real server with a versioned, lockable bucket.
func startGateway(t *testing.T) (client, s3.Settings) {
	t.Helper()
	if testing.Short() {
		t.Skip("the gateway is not built in short mode")
	}
	g, err := gateway.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Skipf("versitygw cannot be run here: %v", err)
	}
	t.Cleanup(func() { g.Close() })
	s := s3.Settings{Conn: s3conn.Config{Endpoint: g.Endpoint, CA: g.CA, Region: g.Region, Bucket: bucket, AccessKey: g.AccessKey, SecretKey: g.SecretKey}}
	conn, err := s3conn.New(s.Conn)
	if err != nil {
		t.Fatal(err)
	}
	c := client{t, conn}
	c.do("PUT", "", "", http.Header{"X-Amz-Bucket-Object-Lock-Enabled": {"true"}})
	return c, s
}

// TestRealServerThereAndBack exports from and restores into versitygw: versions, delete
// markers, tags, metadata, awkward names and an object in parts.
func TestRealServerThereAndBack(t *testing.T) {
	t.Parallel()
	c, s := startGateway(t)
	h := http.Header{"Content-Type": {"text/plain"}, "X-Amz-Meta-Who": {"wört"}, "X-Amz-Tagging": {"colour=dark%20blue&size=1"}}
	for i, key := range []string{"plain", "a b+c", "ä/ü", " ", "%2F", "q?a=b#c&d", "<>'\"", "deep/er/and/deeper", "😀"} {
		c.do("PUT", key, fmt.Sprintf("first %d", i), h)
		c.do("PUT", key, "second", h)
	}
	c.do("DELETE", "plain", "", nil)
	c.do("PUT", "plain", "after its deletion", h)
	c.do("PUT", "empty", "", h)
	c.do("PUT", "large", strings.Repeat("large ", 3<<20), h)
	src := openView(t, s)
	all, err := readAll(t.Context(), src, exporters.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(all[:1]); len(all) != 22 || got != " /1=second" {
		t.Errorf("%d records, the first %q", len(all), got)
	}
	s.Conn.Bucket = "copy"
	dst, err := s3.OpenTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
}

func TestRealServerKeepsTheLaw(t *testing.T) {
	t.Parallel()
	c, s := startGateway(t)
	for i := range 40 {
		c.do("PUT", fmt.Sprintf("dir %d/key", i%20), fmt.Sprint(i), nil)
	}
	c.do("DELETE", "dir 3/key", "", nil)
	err := exportertest.CheckExporter(t.Context(), func() (exporters.Exporter, error) { return s3.Open(t.Context(), s) }, exportertest.Options{})
	if err != nil {
		t.Error(err)
	}
}

// TestRealServerLocks restores retention and a hold, which Destroy then has to lift or
// report.
func TestRealServerLocks(t *testing.T) {
	t.Parallel()
	c, s := startGateway(t)
	c.do("PUT", "held", "x", nil)
	hold := []byte("<LegalHold><Status>ON</Status></LegalHold>")
	sum := md5.Sum(hold)
	c.do("PUT", "held", string(hold), http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}, [2]string{"legal-hold", ""})
	all, _, err := export(t, s)
	if err != nil || len(all) != 1 || !strings.Contains(string(all[0].Data), `"legal_hold":"ON"`) {
		t.Fatalf("%s, %v", summary(all), err)
	}
	s.Conn.Bucket, s.WithLocks = "copy", true
	dst, err := s3.OpenTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	streams := []dataset.Stream{{Name: "objects", Blobs: true}}
	if err := dst.Begin(t.Context(), "test", streams); err != nil {
		t.Fatal(err)
	}
	s.Conn.Bucket = bucket
	src := openView(t, s)
	err = dst.Load(t.Context(), streams[0], src.Read(t.Context(), exporters.Query{Streams: streams}), func(g dataset.Gap) { t.Error(&g) })
	if err != nil {
		t.Fatal(err)
	}
	back, err := readAll(t.Context(), dst, exporters.Query{})
	if err != nil || len(back) != 1 || !strings.Contains(string(back[0].Data), `"legal_hold":"ON"`) {
		t.Errorf("%s, %v", summary(back), err)
	}
	if err := dst.Destroy(t.Context(), "test"); err == nil {
		t.Error("a held object was deleted")
	}
}
