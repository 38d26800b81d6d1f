package s3_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/exportertest"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/s3server"
)

var objectStream = dataset.Stream{Name: "objects", Blobs: true}

// desks returns what deletes and what rehearses, in the order in which to ask them.
func desks(t *testing.T, v *s3.View) []exporters.Deleter {
	t.Helper()
	h, err := v.Rehearse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return []exporters.Deleter{h, v}
}

func TestDeleterObeysItsLaw(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	for _, key := range []string{"a", "b", "c"} {
		put(srv, key, "bytes of "+key)
	}
	err := exportertest.CheckDeleter(t.Context(), exportertest.DeleterSource{
		Open:   func() (exporters.Exporter, error) { return s3.Open(t.Context(), s) },
		Stream: "objects",
		Change: func(_ context.Context, key string) error { put(srv, key, "other bytes"); return nil },
		Other:  func(r dataset.Record) dataset.Record { r.Key = "never"; return r },
		Same: func(a, b dataset.Record) bool { // each is read at a time of its own
			x, _ := dataset.Lookup(a.Data, "etag")
			y, _ := dataset.Lookup(b.Data, "etag")
			return a.Key == b.Key && string(x) == string(y)
		},
	})
	if err != nil {
		t.Error(err)
	}
}

// D03: somebody writes between our look and our deletion.
func TestAWriteThatRacesTheDeletionIsKept(t *testing.T) {
	t.Parallel()
	var srv *s3server.Server
	race := s3server.Fault{Operations: []string{"DeleteObject"}, Effect: s3server.Call(func(s3server.Request) { put(srv, "k", "written meanwhile") })}
	srv, s := serve(t, s3server.Options{Faults: s3server.NewInjector(1, race)})
	put(srv, "k", "archived")
	v := openView(t, s)
	all, err := readAll(t.Context(), v, exporters.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Delete(t.Context(), objectStream, all[0].Record); !errors.Is(err, exporters.ErrChanged) {
		t.Errorf("delete beside a write: %v; want ErrChanged", err)
	}
	if left := srv.Versions(bucket); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}

// D08: an error in an answer with status 200 is no deletion.
func TestAnErrorWithStatus200IsNoDeletion(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{Faults: s3server.NewInjector(1, s3server.Fault{Operations: []string{"DeleteObject"}, Effect: s3server.OKWithError("InternalError", false)})})
	put(srv, "k", "archived")
	v := openView(t, s)
	all, err := readAll(t.Context(), v, exporters.Query{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Delete(t.Context(), objectStream, all[0].Record); err == nil {
		t.Error("was taken for a deletion")
	}
}

// What the server locks is retained, and until when is said, before and after.
func TestWhatTheServerLocksIsRetainedWithItsDate(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.SetVersioning(bucket, "Enabled")
	srv.EnableLock(bucket)
	until := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Second)
	srv.PutObject(bucket, s3server.Object{Key: "compliance", Body: s3server.Bytes("x"), Retention: s3server.Retention{Mode: "COMPLIANCE", Until: until}})
	srv.PutObject(bucket, s3server.Object{Key: "hold", Body: s3server.Bytes("x"), LegalHold: true})
	v := openView(t, s)
	all, err := readAll(t.Context(), v, exporters.Query{})
	if err != nil || len(all) != 2 {
		t.Fatalf("%d objectStream, %v", len(all), err)
	}
	for _, d := range desks(t, v) {
		for i, want := range []string{"COMPLIANCE until " + until.Format(time.RFC3339), "a legal hold"} {
			if err := d.Delete(t.Context(), objectStream, all[i].Record); !errors.Is(err, exporters.ErrRetained) || !strings.Contains(err.Error(), want) {
				t.Errorf("%T: delete %s: %v; want ErrRetained that says %q", d, all[i].Key, err, want)
			}
		}
	}
}

// Of a bucket with versions, what was archived without them is not hidden under a marker.
func TestAnObjectArchivedWithoutItsVersionsIsNotDeleted(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.SetVersioning(bucket, "Enabled")
	put(srv, "k", "old")
	put(srv, "k", "new")
	s.CurrentOnly = true
	v := openView(t, s)
	all, err := readAll(t.Context(), v, exporters.Query{})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d objectStream, %v", len(all), err)
	}
	for _, d := range desks(t, v) {
		if err := d.Delete(t.Context(), objectStream, all[0].Record); !errors.Is(err, exporters.ErrRefused) {
			t.Errorf("%T: %v; want ErrRefused", d, err)
		}
	}
	if left := srv.Versions(bucket); len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}
