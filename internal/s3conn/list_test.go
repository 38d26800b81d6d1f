package s3conn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dwp/sallyport/fixtures/keys"
	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
)

var listings = []string{"ListObjectsV2", "ListObjectVersions"}

// count lists in pages of ten.
func count(t *testing.T, c *s3conn.Conn, l s3conn.Listing) (int, error) {
	l.PageSize = 10
	n := 0
	for _, err := range c.List(t.Context(), l) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestLyingListingsAreErrorsOrComplete(t *testing.T) {
	t.Parallel()
	const objects = 45
	for name, c := range map[string]struct {
		fault    s3server.Fault
		complete bool // the truth can be had; otherwise an error must come
	}{
		"error body with status 200":           {s3server.Fault{Skip: 1, Effect: s3server.OKWithError("AccessDenied", false)}, false},
		"temporary error body with status 200": {s3server.Fault{Skip: 1, Times: 1, Effect: s3server.OKWithError("InternalError", false)}, true},
		"log-in page":                          {s3server.Fault{Skip: 1, Effect: s3server.Answer(200, "text/html", "<!DOCTYPE html><html><body>Log in</body></html>")}, false},
		"html without doctype":                 {s3server.Fault{Skip: 1, Effect: s3server.Answer(200, "text/html", "<html><body>Log in</body></html>")}, false},
		"nothing at all":                       {s3server.Fault{Skip: 1, Effect: s3server.Answer(200, "application/xml", "")}, false},
		"half a document":                      {s3server.Fault{Skip: 1, Effect: s3server.Answer(200, "application/xml", "<ListBucketResult><Name>bucket</Name>")}, false},
		"repeated token":                       {s3server.Fault{Effect: s3server.RepeatToken()}, false},
		"cyclic tokens":                        {s3server.Fault{Effect: s3server.CycleTokens()}, false},
		"missing token":                        {s3server.Fault{Effect: s3server.MissingToken()}, false},
		"the last page says more follows":      {s3server.Fault{Effect: s3server.SayTruncated(true)}, false},
		"a page says it is the last":           {s3server.Fault{Skip: 1, Times: 1, Effect: s3server.CutListing()}, true},
		"is last and names a next":             {s3server.Fault{Effect: s3server.SayTruncated(false)}, false},
		"a page without keys, for ever":        {s3server.Fault{Skip: 2, Effect: s3server.NoKeys()}, false},
		"a page without keys, once":            {s3server.Fault{Skip: 2, Times: 1, Effect: s3server.NoKeys()}, true},
		"interrupted":                          {s3server.Fault{Skip: 1, Times: 1, Effect: s3server.Interrupted()}, true},
		"disorder":                             {s3server.Fault{Skip: 1, Effect: s3server.Disorder()}, false},
		"duplicate":                            {s3server.Fault{Skip: 1, Effect: s3server.Duplicate()}, false},
		"another bucket's page":                {s3server.Fault{Skip: 1, Effect: s3server.OtherBucket("other")}, false},
		"broken connections":                   {s3server.Fault{Skip: 1, Times: 2, Effect: s3server.ResetResponse(100)}, true},
		"slow down":                            {s3server.Fault{Times: 3, Effect: s3server.Refuse(503, "SlowDown", "slow", "Retry-After: 1000000")}, true},
	} {
		for _, op := range listings {
			t.Run(name+"/"+op, func(t *testing.T) {
				t.Parallel()
				if name == "interrupted" && op == "ListObjectVersions" {
					t.Skip("the fault is one of ListObjectsV2")
				}
				fault := c.fault
				fault.Operations = []string{op}
				srv, faulty, conn := serve(t, fault)
				fill(srv, objects)
				n, err := count(t, conn, s3conn.Listing{Versions: op == "ListObjectVersions"})
				switch {
				case faulty.Hits() == 0:
					t.Fatal("the fault never struck")
				case err == nil && n != objects:
					t.Errorf("listed %d of %d objects without an error", n, objects)
				case err != nil && c.complete:
					t.Errorf("got %v; the listing can be had", err)
				case err == nil && !c.complete && !(op == "ListObjectVersions" && name == "is last and names a next"): // gateways do that
					t.Error("no error")
				}
				if asked := srv.Counts()[op]; asked > 60 {
					t.Errorf("%d requests for %d keys", asked, objects)
				}
			})
		}
	}
}

func TestListingHasEveryAwkwardKeyInByteOrder(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t)
	srv.SetVersioning(bucket, "Enabled")
	want := keys.Awkward()
	for _, k := range want {
		put(srv, k, "x")
	}
	for _, versions := range []bool{false, true} {
		i := 0
		for e, err := range c.List(t.Context(), s3conn.Listing{Versions: versions, PageSize: 7}) {
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(want) || e.Key != want[i] {
				t.Fatalf("versions %v: entry %d is %q", versions, i, e.Key)
			}
			i++
		}
		if i != len(want) {
			t.Errorf("versions %v: %d keys; want %d", versions, i, len(want))
		}
	}
}

func TestListingKeepsToPrefixAndRange(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t)
	fill(srv, 100)
	put(srv, "a", "x")
	for _, versions := range []bool{false, true} {
		n, err := count(t, c, s3conn.Listing{Prefix: "key 0", After: "key 019", UpTo: "key 055", Versions: versions})
		if err != nil || n != 36 {
			t.Errorf("versions %v: %d, %v; want 36", versions, n, err)
		}
	}
}

func TestVersionsComeNewestFirstWithMarkers(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t)
	put(srv, "a", "before versions")
	srv.SetVersioning(bucket, "Enabled")
	for i := range 25 {
		put(srv, "a", fmt.Sprint(i))
		put(srv, "b", fmt.Sprint(i))
	}
	srv.PutObject(bucket, s3server.Object{Key: "a", DeleteMarker: true})
	var got []s3conn.Entry
	for e, err := range c.List(t.Context(), s3conn.Listing{Versions: true, PageSize: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 52 || !got[0].Marker || !got[0].Latest || got[26].Version != "null" || got[27].Key != "b" {
		t.Errorf("got %d entries: %+v … %+v", len(got), got[0], got[len(got)-1])
	}
}

func TestListingOfAMissingBucketSaysSo(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t, s3server.Fault{Operations: listings, Effect: s3server.Refuse(404, "NoSuchBucket", "gone")})
	_ = srv
	_, err := count(t, c, s3conn.Listing{})
	if !errors.Is(err, s3conn.ErrNoSuchBucket) {
		t.Errorf("got %v", err)
	}
}

func TestListingCanBeBrokenOff(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t)
	fill(srv, 100)
	for range c.List(t.Context(), s3conn.Listing{PageSize: 10}) {
		break
	}
	if asked := srv.Counts()["ListObjectsV2"]; asked > 4 {
		t.Errorf("%d pages were fetched for one entry", asked)
	}
}

func TestListingErrorsDoNotCarryTerminalEscapes(t *testing.T) {
	t.Parallel()
	_, _, c := serve(t, s3server.Fault{Operations: listings, Effect: s3server.Answer(403, "text/plain", "\x1b[2J\x9b31m evil\r\nline"+strings.Repeat("x", 1<<20))})
	_, err := count(t, c, s3conn.Listing{})
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\r\n\u009b") || len(err.Error()) > 5000 {
		t.Errorf("got %d bytes: %.200q", len(err.Error()), err)
	}
}
