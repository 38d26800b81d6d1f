package s3conn_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/fixtures/s3server"
	"github.com/dwp/sallyport/internal/s3conn"
)

func get(t *testing.T, c *s3conn.Conn, key string, off, n int64) (string, error) {
	t.Helper()
	r, err := c.Get(t.Context(), s3conn.Object{Key: key, Size: -1}, off, n)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestRefusalsAreClassified(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status  int
		code    string
		message string
		want    error
	}{
		{404, "NoSuchKey", "", fs.ErrNotExist},
		{404, "NoSuchBucket", "", s3conn.ErrNoSuchBucket},
		{403, "AccessDenied", "", s3conn.ErrDenied},
		{403, "AccessDenied", "not authorized to perform kms:Decrypt", s3conn.ErrKMS},
		{403, "InvalidObjectState", "", s3conn.ErrArchived},
		{403, "SignatureDoesNotMatch", "", s3conn.ErrCredentials},
		{400, "InvalidRequest", "The object was stored using a form of Server Side Encryption.", s3conn.ErrCustomerKey},
		{400, "KMS.DisabledException", "", s3conn.ErrKMS},
		{412, "PreconditionFailed", "", s3conn.ErrPrecondition},
		{501, "NotImplemented", "", s3conn.ErrUnsupported},
		{503, "SlowDown", "", s3conn.ErrTemporary},
		{409, "ConditionalRequestConflict", "", s3conn.ErrConflict},
		{416, "InvalidRange", "", s3conn.ErrRange},
	} {
		_, _, conn := serve(t, s3server.Fault{Operations: []string{"GetObject"}, Effect: s3server.Refuse(c.status, c.code, c.message)})
		_, err := get(t, conn, "key", 0, -1)
		if !errors.Is(err, c.want) {
			t.Errorf("%d %s %q: got %v; want %v", c.status, c.code, c.message, err, c.want)
		}
	}
}

func TestTemporaryFailuresAreRetriedWithinBounds(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"1", "Retry-After: 0", "-5", "1000000000", "junk", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
		srv, faulty, c := serve(t, s3server.Fault{Times: 3, Effect: s3server.Refuse(429, "TooManyRequests", "later", "Retry-After: "+after)})
		put(srv, "key", "text")
		start := time.Now()
		text, err := get(t, c, "key", 0, -1)
		if err != nil || text != "text" || faulty.Hits() != 3 || time.Since(start) > 2*time.Second {
			t.Errorf("Retry-After %q: %q, %v after %d refusals and %v", after, text, err, faulty.Hits(), time.Since(start))
		}
	}
	srv, _, c := serve(t, s3server.Fault{Effect: s3server.Refuse(500, "InternalError", "broken")})
	if _, err := get(t, c, "key", 0, -1); !errors.Is(err, s3conn.ErrTemporary) || srv.Counts()["GetObject"] != 5 {
		t.Errorf("%v after %d requests; want 5", err, srv.Counts()["GetObject"])
	}
}

func TestBodiesThatBreakOffAreResumedAndWhole(t *testing.T) {
	t.Parallel()
	want := strings.Repeat("0123456789", 10_000)
	for name, effect := range map[string]s3server.Effect{
		"reset": s3server.ResetResponse(30_000), "cut": s3server.Truncate(30_000, s3server.WithLength),
		"clean end of chunks": s3server.Truncate(30_000, s3server.Chunked), "closed": s3server.Truncate(30_000, s3server.Closed),
	} {
		srv, faulty, c := serve(t, s3server.Fault{Operations: []string{"GetObject"}, Times: 2, Effect: effect})
		put(srv, "key", want)
		r, err := c.Get(t.Context(), s3conn.Object{Key: "key", Size: int64(len(want))}, 0, -1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(got) != want || faulty.Hits() != 2 {
			t.Errorf("%s: %d of %d bytes, %v, after %d faults", name, len(got), len(want), err, faulty.Hits())
		}
	}
}

func TestShortBodiesNeverEndCleanly(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]s3server.Ending{"cut": s3server.WithLength, "clean end of chunks": s3server.Chunked, "closed": s3server.Closed} {
		srv, _, c := serve(t, s3server.Fault{Operations: []string{"GetObject"}, Effect: s3server.Truncate(0, how)})
		put(srv, "key", "some text")
		r, err := c.Get(t.Context(), s3conn.Object{Key: "key", Size: 9}, 0, -1)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAChangedObjectIsNotMixedWithItself(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t, s3server.Fault{Operations: []string{"GetObject"}, Times: 1, Effect: s3server.ResetResponse(5)})
	put(srv, "key", "the first state")
	r, err := c.Get(t.Context(), s3conn.Object{Key: "key", Size: -1}, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(srv, "key", "another state!!")
	if got, err := io.ReadAll(r); !errors.Is(err, s3conn.ErrPrecondition) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestSlowServersAreGivenUp(t *testing.T) {
	t.Parallel()
	for name, effect := range map[string]s3server.Effect{
		"headers":   s3server.SlowHeaders(time.Minute),
		"trickle":   s3server.SlowBody(1, 50*time.Millisecond),
		"stall":     s3server.SlowBody(10, time.Minute),
		"interim":   s3server.Interim(100_000),
		"endlessly": s3server.Endless("x", 50*time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, _, c := serve(t, s3server.Fault{Operations: []string{"GetObject"}, Effect: effect})
			put(srv, "key", strings.Repeat("slow ", 1000))
			start := time.Now()
			_, err := get(t, c, "key", 0, -1)
			if err == nil || time.Since(start) > 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		other, _, _ := serve(t)
		url, _, stop, err := other.Start(false)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		_, _, c := serve(t, s3server.Fault{Effect: s3server.Redirect(status, url+"/bucket/key", "eu-west-2")})
		if _, err := get(t, c, "key", 0, -1); !errors.Is(err, s3conn.ErrRedirect) {
			t.Errorf("%d: got %v", status, err)
		}
		if n := other.Counts()["GetObject"]; n != 0 {
			t.Errorf("%d: %d requests followed it", status, n)
		}
	}
}

func TestAlteredBytesAreRefusedByTheServer(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t, s3server.Fault{Operations: []string{"PutObject"}, Effect: s3server.FlipRequest(3)})
	_, _, err := c.Call(t.Context(), &s3conn.Request{Op: "put object", Method: http.MethodPut, Key: "key", Body: []byte("precious")}, 1<<10)
	if err == nil || len(srv.Objects(bucket)) != 0 {
		t.Errorf("got %v and %d objects", err, len(srv.Objects(bucket)))
	}
}

func TestErrorDocumentsWithStatus200AreErrors(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"PutObject", "DeleteObject"} {
		_, _, c := serve(t, s3server.Fault{Operations: []string{op}, Effect: s3server.OKWithError("InternalError", false)})
		method := map[string]string{"PutObject": http.MethodPut, "DeleteObject": http.MethodDelete}[op]
		if _, _, err := c.Call(t.Context(), &s3conn.Request{Op: op, Method: method, Key: "key"}, 1<<10); err == nil {
			t.Errorf("%s: no error", op)
		}
	}
}

func TestExpiredTokensAreRefreshedOnce(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t, s3server.Fault{Times: 1, Effect: s3server.Refuse(400, "ExpiredToken", "expired")})
	put(srv, "key", "text")
	if text, err := get(t, c, "key", 0, -1); err != nil || text != "text" {
		t.Errorf("%q, %v", text, err)
	}
	srv, _, c = serve(t, s3server.Fault{Effect: s3server.Refuse(400, "ExpiredToken", "expired")})
	if _, err := get(t, c, "key", 0, -1); !errors.Is(err, s3conn.ErrCredentials) || srv.Counts()["GetObject"] != 2 {
		t.Errorf("%v after %d requests", err, srv.Counts()["GetObject"])
	}
}

func TestUnverifiedServersAreRefused(t *testing.T) {
	t.Parallel()
	srv, _, _ := serve(t)
	url, _, stop, err := srv.Start(true)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := s3conn.New(s3conn.Config{Endpoint: url, Bucket: bucket, AccessKey: "key", SecretKey: "secret", Patience: quick})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	start := time.Now()
	if _, err := get(t, c, "key", 0, -1); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
	if time.Since(start) > time.Second {
		t.Error("it was tried again and again")
	}
	for _, endpoint := range []string{"http://s3.example.org", "ftp://x", "https://user:pass@host", "https://host/path", "https://host?x=1"} {
		if _, err := s3conn.New(s3conn.Config{Endpoint: endpoint, Bucket: bucket}); err == nil {
			t.Errorf("endpoint %s was accepted", endpoint)
		} else if strings.Contains(err.Error(), "pass") {
			t.Errorf("the message tells a password: %v", err)
		}
	}
}

func TestURLsSurviveAndRefuseSecrets(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"s3://bucket", "s3://bucket/a/b?endpoint=https%3A%2F%2Fhost%3A9000&region=eu-west-2", "s3://bucket/x%20y?ca=%2Fetc%2Fca.pem",
	} {
		c, err := s3conn.ParseURL(text)
		if err != nil || c.URL() != text {
			t.Errorf("%s became %s, %v", text, c.URL(), err)
		}
	}
	for _, text := range []string{
		"s3://key:hunter2@bucket", "s3://", "s3://b", "https://bucket", "s3://bucket?secret=hunter2", "s3://bucket#hunter2",
		"s3://bucket?region=a&region=b", "s3://bucket?endpoint=http%3A%2F%2Fexample.org", "s3://bucket/%zz?hunter2",
	} {
		if _, err := s3conn.ParseURL(text); err == nil {
			t.Errorf("%s was accepted", text)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the message tells a secret: %v", text, err)
		}
	}
}

func TestNoCredentialsAreAnErrorAndNoAnonymousRequest(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	srv := s3server.New(s3server.Options{Anonymous: true})
	url, _, stop, err := srv.Start(false)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := s3conn.New(s3conn.Config{Endpoint: url, Bucket: bucket})
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(t, c, "key", 0, -1)
	if !errors.Is(err, s3conn.ErrCredentials) || srv.Counts()["GetObject"] != 0 {
		t.Errorf("%v and %d requests", err, srv.Counts()["GetObject"])
	}
}

func TestStreamsAreSentWithTheirKnownDigest(t *testing.T) {
	t.Parallel()
	srv, _, c := serve(t, s3server.Fault{Times: 1, Effect: s3server.LostReply()})
	text := strings.Repeat("stream ", 10_000)
	sum := sha256.Sum256([]byte(text))
	opened := 0
	_, _, err := c.Call(t.Context(), &s3conn.Request{Op: "put object", Method: http.MethodPut, Key: "key", Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:]),
		Stream: func(context.Context) (io.ReadCloser, error) {
			opened++
			return io.NopCloser(bytes.NewReader([]byte(text))), nil
		}}, 1<<10)
	if err != nil || opened != 2 || len(srv.Objects(bucket)) != 1 {
		t.Errorf("%v, opened %d times, %d objects", err, opened, len(srv.Objects(bucket)))
	}
}
