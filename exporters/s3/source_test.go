package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/fixtures/s3server"
)

var reads = []string{"GetObject"}

func TestEveryUnreadableObjectIsAGapWithItsReason(t *testing.T) {
	t.Parallel()
	faulty := s3server.NewInjector(1,
		s3server.Fault{Operations: reads, Key: "denied", Effect: s3server.Refuse(403, "AccessDenied", "no")},
		s3server.Fault{Operations: reads, Key: "broken", Effect: s3server.Refuse(500, "InternalError", "broken")},
		s3server.Fault{Operations: reads, Key: "short", Effect: s3server.Truncate(2, s3server.Chunked)},
		s3server.Fault{Operations: reads, Key: "slow", Effect: s3server.SlowBody(1, 200*time.Millisecond)})
	srv, s := serve(t, s3server.Options{Faults: faulty})
	s.Conn.Patience.Idle = 300 * time.Millisecond
	for _, key := range []string{"broken", "cold", "denied", "fine", "short", "slow", "thawed"} {
		put(srv, key, "some text")
	}
	put(srv, "slow", strings.Repeat("some text ", 100)) // so long that no pause of this process makes it quick
	srv.Freeze(bucket, "cold", "GLACIER")
	srv.Freeze(bucket, "thawed", "GLACIER")
	srv.Update(bucket, "thawed", func(o *s3server.Object) {
		o.Restored = `ongoing-request="false", expiry-date="Fri, 21 Dec 2040 00:00:00 GMT"`
	})
	srv.PutObject(bucket, s3server.Object{Key: "kms", Body: s3server.Bytes([]byte("x")), Encryption: "aws:kms", KMSDenied: true})
	srv.PutObject(bucket, s3server.Object{Key: "sse-c", Body: s3server.Bytes([]byte("x")), CustomerKeyMD5: "c29tZSBrZXkncyBtZDU="})
	all, _, err := export(t, s)
	if err != nil {
		t.Fatal(err)
	}
	want := "broken/0!unreadable cold/0!archived-tier denied/0!denied fine/0=some text kms/0!denied short/0!malformed slow/0!unreadable sse-c/0!customer-key thawed/0=some text"
	if got := summary(all); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestVersionsMarkersAndNullVersionsComeNewestFirst(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	put(srv, "a", "null")
	srv.SetVersioning(bucket, "Enabled")
	put(srv, "a", "1")
	srv.PutObject(bucket, s3server.Object{Key: "a", DeleteMarker: true})
	put(srv, "dir/", "")
	srv.PutObject(bucket, s3server.Object{Key: "gone", DeleteMarker: true})
	srv.SetVersioning(bucket, "Suspended")
	put(srv, "b", "suspended")
	all, facts, err := export(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := summary(all), "a/2- a/1=1 a/0=null b/0=suspended dir//0= gone/0-"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if len(facts.Filters) != 0 {
		t.Errorf("filters %q", facts.Filters)
	}
	s.CurrentOnly = true
	all, facts, err = export(t, s)
	if got, want := summary(all), "b/0=suspended dir//0="; err != nil || got != want {
		t.Errorf("current: got %s, %v; want %s", got, err, want)
	}
	if len(facts.Filters) != 1 {
		t.Errorf("current is not stated: %q", facts.Filters)
	}
}

func TestObjectsDeletedAfterTheListingAreVanishedWithProof(t *testing.T) {
	t.Parallel()
	var srv *s3server.Server
	hook := func(r s3server.Request) {
		if r.Operation == "GetObject" && r.Key == "b" && !r.Done {
			srv.Remove(bucket, "b", "")
		}
	}
	srv, s := serve(t, s3server.Options{OnRequest: func(r s3server.Request) { hook(r) }})
	for _, k := range []string{"a", "b", "c"} {
		put(srv, k, k)
	}
	all, facts, err := export(t, s)
	if got := summary(all); err != nil || got != "a/0=a c/0=c" {
		t.Errorf("got %s, %v", got, err)
	}
	if len(facts.Vanished) != 1 || facts.Vanished[0].Key != "b" {
		t.Errorf("vanished: %+v", facts.Vanished)
	}
}

func TestAnObjectThatIsListedButAnswers404IsAGap(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{Faults: s3server.NewInjector(1,
		s3server.Fault{Operations: reads, Key: "ghost", Effect: s3server.Refuse(404, "NoSuchKey", "none")})})
	put(srv, "ghost", "x")
	all, facts, err := export(t, s)
	if got := summary(all); err != nil || got != "ghost/0!unreadable" || len(facts.Vanished) != 0 {
		t.Errorf("got %s, %v, vanished %v", got, err, facts.Vanished)
	}
}

func TestChangedObjectsAreReadAsTheyAreNowAndUnstableOnesAreGaps(t *testing.T) {
	t.Parallel()
	var srv *s3server.Server
	var n atomic.Int64
	hook := func(r s3server.Request) {
		switch {
		case r.Operation != "GetObject" || r.Done:
		case r.Key == "once" && r.N > 0 && n.Add(1) == 1:
			put(srv, "once", "the new state")
		case r.Key == "restless":
			put(srv, "restless", fmt.Sprint("state ", r.N, time.Now().UnixNano()))
		}
	}
	srv, s := serve(t, s3server.Options{OnRequest: func(r s3server.Request) { hook(r) }})
	put(srv, "once", "old")
	put(srv, "restless", "old")
	all, _, err := export(t, s)
	if got := summary(all); err != nil || got != "once/0=the new state restless/0!unstable" {
		t.Errorf("got %s, %v", got, err)
	}
	if !strings.Contains(string(all[0].Data), `"size":13,`) {
		t.Errorf("the record is of the old state: %s", all[0].Data)
	}
}

func TestABlobThatChangesBetweenSegmentsIsAGap(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.PutObject(bucket, s3server.Object{Key: "big", Body: s3server.Generated{Seed: 1, Length: 9 << 20}})
	v := openView(t, s)
	for r, err := range v.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "objects"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		srv.PutObject(bucket, s3server.Object{Key: "big", Body: s3server.Generated{Seed: 2, Length: 9 << 20}})
		_, err := r.Blob.Open(t.Context(), 8<<20, 1<<20)
		if g, ok := errors.AsType[*dataset.Gap](err); !ok || g.Code != dataset.Unstable {
			t.Errorf("got %v", err)
		}
	}
}

func TestOneRequestReadsASmallObject(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	for i := range 200 {
		put(srv, fmt.Sprintf("%03d", i), strings.Repeat("x", i*7))
	}
	all, _, err := export(t, s)
	if err != nil || len(all) != 200 {
		t.Fatalf("%d objects, %v", len(all), err)
	}
	counts := srv.Counts()
	if counts["GetObject"] != 200 || counts["HeadObject"] != 0 {
		t.Errorf("requests: %v", counts)
	}
}

func TestBlobsCanBeOpenedLongAfterTheirRecord(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	for i := range 400 {
		put(srv, fmt.Sprintf("%03d", i), fmt.Sprint(i))
	}
	v := openView(t, s)
	var blobs []*dataset.Blob
	for r, err := range v.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "objects"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, r.Blob)
	}
	for i, b := range blobs {
		r, err := b.Open(t.Context(), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(text) != fmt.Sprint(i) {
			t.Fatalf("blob %d: %q, %v", i, text, err)
		}
	}
}

func TestDeniedPropertiesAreGapsBesideTheirObject(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{Faults: s3server.NewInjector(1,
		s3server.Fault{Operations: []string{"GetObjectTagging", "GetObjectAcl"}, Effect: s3server.Refuse(403, "AccessDenied", "no")},
		s3server.Fault{Operations: reads, Effect: s3server.Header("X-Amz-Tagging-Count", "")})})
	srv.PutObject(bucket, s3server.Object{Key: "a", Body: s3server.Bytes([]byte("x")), Tags: map[string]string{"k": "v"}})
	all, _, err := export(t, s)
	if got := summary(all); err != nil || got != "a/0=x a/0!not-captured a/0!not-captured" {
		t.Errorf("got %s, %v", got, err)
	}
	if !strings.Contains(string(all[0].Data), `"not_captured":["tags","acl"]`) {
		t.Errorf("data %s", all[0].Data)
	}
}

func TestEverythingAboutAnObjectIsCaptured(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.EnableLock(bucket)
	until := time.Now().Add(240 * time.Hour).UTC().Truncate(time.Second)
	srv.PutObject(bucket, s3server.Object{
		Key: "a", Body: s3server.Bytes([]byte("x")), StorageClass: "STANDARD_IA",
		Header: map[string]string{"Content-Type": "text/html", "Content-Encoding": "gzip", "Cache-Control": "no-store",
			"X-Amz-Website-Redirect-Location": "/b"},
		Metadata: map[string]string{"who": "me"}, Tags: map[string]string{"k": "v"},
		ACL:       []s3server.Grant{{URI: "http://acs.amazonaws.com/groups/global/AllUsers", Permission: "READ"}},
		Retention: s3server.Retention{Mode: "GOVERNANCE", Until: until}, LegalHold: true,
		Checksums: map[string]string{"SHA256": "x"}, ChecksumType: "FULL_OBJECT", Encryption: "AES256",
	})
	all, _, err := export(t, s)
	if err != nil || len(all) != 1 {
		t.Fatalf("%s, %v", summary(all), err)
	}
	for _, want := range []string{
		`"storage_class":"STANDARD_IA"`, `"content-encoding":"gzip"`, `"cache-control":"no-store"`, `"website_redirect":"/b"`,
		`"metadata":{"who":"me"}`, `"tags":{"k":"v"}`, `AllUsers","permission":"READ"}`,
		`"retention":{"mode":"GOVERNANCE","until":"` + until.Format(time.RFC3339) + `"}`, `"legal_hold":"ON"`,
		`"sse":{"server-side-encryption":"AES256"}`,
	} {
		if !strings.Contains(string(all[0].Data), want) {
			t.Errorf("%s is not in %s", want, all[0].Data)
		}
	}
}

func TestFiltersAreAppliedAndStated(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	for _, k := range []string{"a/1", "a/tmp/2", "b/3", "c/4"} {
		put(srv, k, "x")
	}
	s.Include, s.Exclude = []string{"c/", "a/", "a/t"}, []string{"a/tmp/"}
	all, facts, err := export(t, s)
	if got := summary(all); err != nil || got != "a/1/0=x c/4/0=x" || len(facts.Filters) != 2 {
		t.Errorf("got %s, %v, filters %q", got, err, facts.Filters)
	}
}

// priorOf is an earlier snapshot of what was read, as an archive has it.
func priorOf(all []read) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, r := range all {
			r.Cursor = ""
			if r.Blob != nil {
				r.Blob = &dataset.Blob{Size: r.Blob.Size, Archived: "in the archive"}
			}
			if !yield(r.Record, nil) {
				return
			}
		}
	}
}

func TestUnchangedObjectsAreNotReadAgain(t *testing.T) {
	t.Parallel()
	for _, withBytes := range []bool{false, true} {
		srv, s := serve(t, s3server.Options{})
		srv.SetVersioning(bucket, "Enabled")
		s.WithBytes = withBytes
		for _, k := range []string{"a", "b", "c", "d"} {
			srv.PutObject(bucket, s3server.Object{Key: k, Body: s3server.Bytes([]byte("old " + k)), Tags: map[string]string{"tag": "old"}})
		}
		before, _, err := export(t, s)
		if err != nil {
			t.Fatal(err)
		}
		gets := srv.Counts()["GetObject"]
		put(srv, "b", "new b")
		put(srv, "aa", "added")
		srv.Remove(bucket, "c", "")
		srv.Update(bucket, "d", func(o *s3server.Object) { o.Tags = map[string]string{"tag": "new"} })
		all, err := readAll(t.Context(), openView(t, s), exporters.Query{Prior: priorOf(before)})
		if err != nil {
			t.Fatal(err)
		}
		var reused []string
		for _, r := range all {
			if r.Blob != nil && r.Blob.Archived != nil {
				reused = append(reused, fmt.Sprintf("%s/%d", r.Key, r.Ordinal))
			}
			if marked := strings.Contains(string(r.Data), `"metadata_as_of":"2`); marked != withBytes {
				t.Errorf("with-bytes %v: %s/%d marked: %v", withBytes, r.Key, r.Ordinal, marked)
			}
			if r.Key == "a" && !bytes.Equal(r.Data, before[0].Data) {
				t.Errorf("with-bytes %v: nothing of a changed, and its line did: %s", withBytes, r.Data)
			}
			if err := dataset.CheckObject(r.Data); err != nil {
				t.Errorf("%s: %v", r.Data, err)
			}
			if r.Key == "d" && strings.Contains(string(r.Data), `"tag":"new"`) == withBytes {
				t.Errorf("with-bytes %v: d has %s", withBytes, r.Data)
			}
			if r.Key == "b" && r.Ordinal == 0 && !strings.Contains(string(r.Data), `"is_latest":false`) {
				t.Errorf("the older version is still the latest: %s", r.Data)
			}
		}
		if got := strings.Join(reused, " "); got != "a/0 b/0 d/0" {
			t.Errorf("with-bytes %v: reused %s", withBytes, got)
		}
		if n := srv.Counts()["GetObject"] - gets; n != 2 {
			t.Errorf("with-bytes %v: %d GETs for two new states", withBytes, n)
		}
	}
}

func TestAServerThatIsGoneEndsTheStream(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{Faults: s3server.NewInjector(1, s3server.Fault{Operations: reads, Skip: 10, Effect: s3server.LostRequest()})})
	for i := range 300 {
		put(srv, fmt.Sprintf("%03d", i), "x")
	}
	all, _, err := export(t, s)
	if err == nil || len(all) > 100 {
		t.Errorf("%d records, %v", len(all), err)
	}
}

func TestFlakyServersAreReadClean(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{Faults: s3server.NewInjector(7,
		s3server.Fault{Probability: 0.1, Effect: s3server.Refuse(503, "SlowDown", "slow")},
		s3server.Fault{Probability: 0.05, Effect: s3server.ResetResponse(20)},
		s3server.Fault{Operations: reads, Probability: 0.05, Effect: s3server.Truncate(3, s3server.Chunked)})})
	s.Conn.Patience.Retry.Tries = 12
	for i := range 300 {
		put(srv, fmt.Sprintf("%03d", i), fmt.Sprint("text ", i))
	}
	all, _, err := export(t, s)
	if err != nil || len(all) != 300 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	for i, r := range all {
		if r.text != fmt.Sprint("text ", i) {
			t.Errorf("record %d is %q, gap %v", i, r.text, r.Gap)
		}
	}
}

func TestDeniedConfigurationIsAGapAndMissingIsStated(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.SetCredential(s3server.Credential{AccessKey: "reader", SecretKey: "reader's secret", Policy: s3server.Policy{
		{Actions: []string{"s3:List*", "s3:GetObject*", "s3:GetBucketVersioning", "s3:GetBucketCORS", "s3:GetLifecycleConfiguration"}}}})
	srv.SetConfig(bucket, "lifecycle", []byte("<LifecycleConfiguration/>"))
	v := openView(t, s)
	all, err := readAll(t.Context(), v, exporters.Query{Streams: []dataset.Stream{{Name: "bucket-configuration"}}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, r := range all {
		seen[r.Key] = string(r.Data)
		if r.Gap != nil {
			seen[r.Key] = string(r.Gap.Code)
		}
	}
	for key, want := range map[string]string{
		`["policy"]`: "denied", `["website"]`: "denied", `["cors"]`: `{"part":"cors","state":"not set"}`,
		`["lifecycle"]`: `{"part":"lifecycle","state":"set","document":"<LifecycleConfiguration/>"}`,
	} {
		if seen[key] != want {
			t.Errorf("%s: %s; want %s", key, seen[key], want)
		}
	}
}

func TestDeleteTakesOnlyWhatIsAsArchived(t *testing.T) {
	t.Parallel()
	for _, versioned := range []bool{false, true} {
		srv, s := serve(t, s3server.Options{})
		if versioned {
			srv.SetVersioning(bucket, "Enabled")
		}
		put(srv, "keep", "old")
		put(srv, "gone", "x")
		put(srv, "take", "x")
		v := openView(t, s)
		all, err := readAll(t.Context(), v, exporters.Query{})
		if err != nil {
			t.Fatal(err)
		}
		put(srv, "keep", "changed")
		srv.Remove(bucket, "gone", "")
		want := map[string]error{"gone": fsNotExist, "keep": exporters.ErrChanged, "take": nil}
		if versioned {
			want["keep"] = nil // the archived version is another than the new one
		}
		for _, r := range all {
			if err := v.Delete(t.Context(), dataset.Stream{Name: "objects"}, r.Record); !errors.Is(err, want[r.Key]) {
				t.Errorf("versioned %v: delete %s: %v; want %v", versioned, r.Key, err, want[r.Key])
			}
		}
		if left := srv.Versions(bucket); len(left) != 1 || left[0].Key != "keep" {
			t.Errorf("versioned %v: left %v", versioned, left)
		}
	}
}

func TestGetReadsOneVersion(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	srv.SetVersioning(bucket, "Enabled")
	put(srv, "a", "first")
	put(srv, "a", "second")
	put(srv, "ab", "other")
	v := openView(t, s)
	r, err := v.Get(t.Context(), dataset.Stream{Name: "objects"}, "a", 0)
	if err != nil || r.Blob.Size != 5 || r.Ordinal != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, n := range []int{2, -1} {
		if _, err := v.Get(t.Context(), dataset.Stream{Name: "objects"}, "a", n); !errors.Is(err, fsNotExist) {
			t.Errorf("ordinal %d: %v", n, err)
		}
	}
}

func TestCancelledReadsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	srv, s := serve(t, s3server.Options{})
	for i := range 500 {
		srv.PutObject(bucket, s3server.Object{Key: fmt.Sprintf("%03d", i), Body: s3server.Generated{Seed: 1, Length: 1 << 20}})
	}
	v := openView(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	for _, err := range v.Read(ctx, exporters.Query{Streams: []dataset.Stream{{Name: "objects"}}}) {
		if n++; n == 50 {
			cancel()
		}
		if err != nil {
			break
		}
	}
	cancel()
	if n >= 500 {
		t.Errorf("%d records after the end", n)
	}
}

func TestWrongBucketsAndCredentialsAreToldApart(t *testing.T) {
	t.Parallel()
	_, s := serve(t, s3server.Options{})
	none := s
	none.Conn.Bucket = "nobody"
	if _, err := s3.Open(t.Context(), none); !errors.Is(err, fsNotExist) {
		t.Errorf("no bucket: %v", err)
	}
	s.Conn.SecretKey = "wrong"
	if _, err := s3.Open(t.Context(), s); !errors.Is(err, exporters.ErrCredentials) {
		t.Errorf("wrong secret: %v", err)
	}
}

func TestHugeObjectsAreReadInRanges(t *testing.T) {
	t.Parallel()
	const size = 5 << 40
	srv, s := serve(t, s3server.Options{})
	srv.PutGenerated(bucket, "huge", size, 1)
	v := openView(t, s)
	for r, err := range v.Read(t.Context(), exporters.Query{Streams: []dataset.Stream{{Name: "objects"}}}) {
		if err != nil || r.Gap != nil || r.Blob.Size != size {
			t.Fatalf("%+v, %v", r, err)
		}
		for _, off := range []int64{0, 8 << 20, size - 1<<20} {
			body, err := r.Blob.Open(t.Context(), off, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, body)
			body.Close()
			if n != 1<<20 || err != nil {
				t.Errorf("at %d: %d bytes, %v", off, n, err)
			}
		}
	}
}
