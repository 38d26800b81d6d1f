package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/fixtures/gateway"
	"github.com/minio/minio-go/v7"
)

// A service that ended is purged at a server that others wrote: versions and delete
// markers go, what the server locks stays and is reported with its date.
func TestPurgeAtVersityGateway(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a server is built and started")
	}
	h := newHost(t)
	dir := filepath.Join(t.TempDir(), "gateway")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := gateway.Start(t.Context(), dir)
	if err != nil {
		t.Skipf("versitygw: %v", err)
	}
	t.Cleanup(func() { g.Close() })
	c := cloud{g.Endpoint, g.Region, g.CA, []string{"AWS_ACCESS_KEY_ID=" + g.AccessKey, "AWS_SECRET_ACCESS_KEY=" + g.SecretKey}}
	h.env = append(h.env, c.env...)
	admin := c.client(t, g.AccessKey, g.SecretKey)
	if err := admin.MakeBucket(t.Context(), "source", minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	if err := admin.EnableVersioning(t.Context(), "source"); err != nil {
		t.Fatal(err)
	}
	put := func(key string, o minio.PutObjectOptions) {
		t.Helper()
		text := "the bytes of " + key
		if _, err := admin.PutObject(t.Context(), "source", key, strings.NewReader(text), int64(len(text)), o); err != nil {
			t.Fatal(err)
		}
	}
	until := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	for i := range 6 {
		put(fmt.Sprintf("cases/%d", i), minio.PutObjectOptions{})
	}
	for range 2 { // a delete marker over two versions
		put("gone", minio.PutObjectOptions{})
	}
	if err := admin.RemoveObject(t.Context(), "source", "gone", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	put("late", minio.PutObjectOptions{})
	put("locked", minio.PutObjectOptions{Mode: minio.Governance, RetainUntilDate: until})
	put("held", minio.PutObjectOptions{LegalHold: minio.LegalHoldEnabled})
	versions := func() (list []string) {
		t.Helper()
		for o := range admin.ListObjects(t.Context(), "source", minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			list = append(list, o.Key)
		}
		slices.Sort(list)
		return list
	}
	h.configuration("archive", s3Service(c, "source")+`    purge:
      rules: [{name: the end, stream: objects, because: decommissioned, since: 2020-01-01, authority: decision 9}]
      max_percent: 100
`)
	h.approver("alex")
	h.approver("blair")
	h.must(0, "exit-test", "files")
	out := h.must(0, "purge", "plan", "files")
	for _, want := range []string{"keep .*locked .*source-lock", "keep .*held .*source-hold", "delete .*gone .*delete-marker", "delete .*gone .*version"} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	plan := planHash.FindStringSubmatch(out)[1]
	h.must(0, "purge", "approve", "--approval-key", "alex", "files", plan)
	h.must(0, "purge", "approve", "--approval-key", "blair", "files", plan)
	// Since the plan somebody locked a version, and put an object.
	mode := minio.Governance
	if err := admin.PutObjectRetention(t.Context(), "source", "late", minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until}); err != nil {
		t.Fatal(err)
	}
	put("cases/6", minio.PutObjectOptions{})
	retained := regexp.MustCompile(`retained +objects +late .*GOVERNANCE until ` + until.Format(time.DateOnly))
	would := h.must(0, "purge", "apply", "--dry-run", "files", plan)
	if !retained.MatchString(would) || !strings.Contains(would, "deleted: 9 items") {
		t.Errorf("the dry run does not say that one is locked, and until when:\n%s", would)
	}
	if n := len(versions()); n != 6+3+3+1 {
		t.Fatalf("a dry run left %d versions", n)
	}
	out = h.must(0, "purge", "apply", "--report", "deletion.txt", "files", plan)
	if !retained.MatchString(out) || !strings.Contains(out, "deleted: 9 items") || !strings.Contains(out, "retained: 1 item") {
		t.Errorf("apply:\n%s", out)
	}
	if left := versions(); !slices.Equal(left, []string{"cases/6", "held", "late", "locked"}) {
		t.Errorf("left are %q", left)
	}
	report, err := os.ReadFile(h.path("deletion.txt"))
	if err != nil || !strings.Contains(string(report), "8 of kind version") || !strings.Contains(string(report), "1 of kind delete-marker") || !strings.Contains(string(report), "1 under a lock") {
		t.Errorf("report: %v\n%s", err, report)
	}
	h.must(0, "purge", "rebuild", "files", plan)
}
