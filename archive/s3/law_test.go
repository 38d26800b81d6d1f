package s3_test

import (
	"net/http"
	"testing"

	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/fixtures/gateway"
	"github.com/dwp/sallyport/internal/s3conn"
)

func TestStoreKeepsTheLaw(t *testing.T) {
	t.Parallel()
	for _, versioning := range []string{"", "Enabled"} {
		f := serve(t)
		f.srv.SetVersioning(bucket, versioning)
		if err := archivetest.CheckStore(t.Context(), open(t, f, s3.Options{})); err != nil {
			t.Errorf("versioning %q: %v", versioning, err)
		}
	}
}

func TestRealServerKeepsTheLawOfStores(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the gateway is not built in short mode")
	}
	g, err := gateway.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Skipf("versitygw cannot be run here: %v", err)
	}
	t.Cleanup(func() { g.Close() })
	for _, lock := range []string{"false", "true"} {
		c := s3conn.Config{Endpoint: g.Endpoint, CA: g.CA, Region: g.Region, Bucket: "archive-" + lock, AccessKey: g.AccessKey, SecretKey: g.SecretKey}
		conn, err := s3conn.New(c)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{"X-Amz-Bucket-Object-Lock-Enabled": {lock}}
		if _, _, err := conn.Call(t.Context(), &s3conn.Request{Op: "create bucket", Method: http.MethodPut, Header: h}, 1<<10); err != nil {
			t.Fatal(err)
		}
		c.Prefix = "prod"
		var o s3.Options
		if lock == "true" {
			o.Lock = s3.Lock{Mode: "GOVERNANCE", Days: 1}
		}
		st, err := s3.Open(t.Context(), c, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Probe(t.Context()); err != nil {
			t.Errorf("lock %s: %v", lock, err)
		}
		if err := archivetest.CheckStore(t.Context(), st); err != nil {
			t.Errorf("lock %s: %v", lock, err)
		}
	}
}
