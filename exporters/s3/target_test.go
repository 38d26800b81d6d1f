package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/s3server"
)

var (
	_ exporters.Splitter = (*s3.View)(nil)
	_ exporters.Getter   = (*s3.View)(nil)
	_ exporters.Deleter  = (*s3.View)(nil)
	_ exporters.Target   = (*s3.Target)(nil)
)

// load begins a target in the bucket "copy" and loads records into it.
func load(t *testing.T, s s3.Settings, recs ...dataset.Record) (*s3.Target, []dataset.Gap) {
	t.Helper()
	s.Conn.Bucket = "copy"
	dst, err := s3.OpenTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dst.Close() })
	stream := dataset.Stream{Name: "objects", Blobs: true}
	if err := dst.Begin(t.Context(), "test", []dataset.Stream{stream}); err != nil {
		t.Fatal(err)
	}
	var gaps []dataset.Gap
	if err := dst.Load(t.Context(), stream, seq(recs), func(g dataset.Gap) { gaps = append(gaps, g) }); err != nil {
		t.Fatal(err)
	}
	if err := dst.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dst, gaps
}

func seq(recs []dataset.Record) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, r := range recs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// object is a record as an archive has it.
func object(key string, size int64, body []byte, sum dataset.Hash) dataset.Record {
	return dataset.Record{Stream: "objects", Key: key, Data: []byte(`{"last_modified":"2026-01-01T00:00:00Z","is_latest":true,"delete_marker":false,"headers":{"content-type":"a/b"}}`),
		Blob: &dataset.Blob{Size: size, SHA256: sum, Open: func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			if n < 0 {
				n = int64(len(body)) - off
			}
			return io.NopCloser(io.NewSectionReader(bytes.NewReader(body), off, n)), nil
		}}}
}

func TestTargetStoresEverySize(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	big := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB
	dst, gaps := load(t, s,
		object("a known digest", int64(len(big)), big, dataset.Sum(big)),
		object("b parts", int64(len(big)), big, dataset.Hash{}),
		object("c unknown size", -1, big, dataset.Hash{}),
		object("d unknown and empty", -1, nil, dataset.Hash{}),
		object("e empty", 0, nil, dataset.Sum(nil)))
	if len(gaps) > 0 {
		t.Fatal(gaps)
	}
	all, err := readAll(t.Context(), dst, exporters.Query{})
	if err != nil || len(all) != 5 {
		t.Fatalf("%d objects, %v", len(all), err)
	}
	for _, r := range all {
		want := string(big)
		if strings.Contains(r.Key, "empty") {
			want = ""
		}
		if r.text != want {
			t.Errorf("%s: %d bytes; want %d", r.Key, len(r.text), len(want))
		}
	}
	if n := srv.Counts()["UploadPart"]; n != 7 {
		t.Errorf("%d parts; want 3, 3 and 1", n)
	}
}

func TestDamagedBytesAreNotStored(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	_, gaps := load(t, s, object("bad", 4, []byte("gone"), dataset.Sum([]byte("good"))), object("good", 4, []byte("good"), dataset.Sum([]byte("good"))))
	if len(gaps) != 1 || gaps[0].Key != "bad" {
		t.Errorf("gaps %v", gaps)
	}
	if got := srv.Objects("copy"); len(got) != 2 || got[1].Key != "good" { // the marker comes first
		t.Errorf("%d objects", len(got))
	}
}

func TestABucketInUseIsLeftAlone(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.SetVersioning(bucket, "Enabled")
	srv.PutObject(bucket, s3server.Object{Key: "old", DeleteMarker: true})
	dst, err := s3.OpenTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := exportertest.CheckRefusal(t.Context(), dst); err != nil {
		t.Error(err)
	}
	if len(srv.Versions(bucket)) != 1 {
		t.Error("the bucket was changed")
	}
}

func TestAFolderOfABucketIsATarget(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	put(srv, "a", "to be copied")
	put(srv, "b/c", "too")
	src := openView(t, s)
	srv.AddBucket("shared")
	srv.PutObject("shared", s3server.Object{Key: "folder-not-ours", Body: s3server.Bytes([]byte("x"))})
	options, err := s3.Kind.FromURL("s3://shared/folder?endpoint=" + strings.ReplaceAll(s.Conn.Endpoint, ":", "%3A"))
	if err != nil {
		t.Fatal(err)
	}
	options["ca"], options["access_key"], options["secret_key"] = s.Conn.CA, "reader", "reader's secret"
	dst, err := s3.Kind.OpenTarget(t.Context(), exporters.Config{Options: options, Secret: func(_ context.Context, ref string) (string, error) { return ref, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := exportertest.CheckTarget(t.Context(), dst, src); err != nil {
		t.Error(err)
	}
	if left := srv.Objects("shared"); len(left) != 1 || left[0].Key != "folder-not-ours" {
		t.Errorf("%d objects are left", len(left))
	}
}

func TestPoliciesAndLocksAreAppliedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		srv, s := serve(t, s3server.Options{})
		srv.PutObject(bucket, s3server.Object{Key: "a", Body: s3server.Bytes([]byte("x")), LegalHold: true,
			ACL: []s3server.Grant{{URI: "http://acs.amazonaws.com/groups/global/AllUsers", Permission: "READ"}}})
		srv.EnableLock(bucket)
		s.WithLocks, s.WithPolicies = asked, asked
		all, _, err := export(t, s)
		if err != nil || len(all) != 1 {
			t.Fatal(summary(all), err)
		}
		v := openView(t, s)
		r, err := v.Get(t.Context(), dataset.Stream{Name: "objects"}, "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		dst, gaps := load(t, s, r)
		copied, _ := srv.Object("copy", "a", "")
		if len(gaps) > 0 || copied.LegalHold != asked || (len(copied.ACL) > 0) != asked {
			t.Errorf("asked %v: gaps %v, hold %v, ACL %v", asked, gaps, copied.LegalHold, copied.ACL)
		}
		for _, l := range dst.Fidelity(dataset.Stream{Name: "objects", Blobs: true}) {
			if asked && (l.Field == "acl" || l.Field == "legal_hold") {
				t.Errorf("asked, and still a loss: %+v", l)
			}
		}
		if err := dst.Destroy(t.Context(), "another"); !errors.Is(err, exporters.ErrNotOurs) {
			t.Errorf("destroyed by another test: %v", err)
		}
	}
}
