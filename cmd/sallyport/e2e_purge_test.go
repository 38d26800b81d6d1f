package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/fixtures/s3server"
)

// approver makes a person with a key of their own, whom the allowed signers name.
func (h *host) approver(name string) {
	h.t.Helper()
	public := strings.TrimSpace(h.must(0, "keys", "generate", "signer", name))
	f, err := os.OpenFile(h.path("keys/allowed_signers"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s namespaces=\"sallyport-approval\" %s\n", name, public); err != nil {
		h.t.Fatal(err)
	}
}

var planHash = regexp.MustCompile(`(?m)^plan ([0-9a-f]{64})$`)

// The records of a bucket with versions, delete markers, locks and holds are purged by
// rule, with a certificate and two people, one of whom has nothing but OpenSSH.
func TestPurgeOfABucketWithVersionsAndLocks(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s, c := fake(t, h)
	h.env = append(h.env, c.env...)
	s.AddBucket("source")
	s.EnableLock("source")
	old, young := time.Now().AddDate(-9, 0, 0), time.Now().AddDate(-1, 0, 0)
	put := func(key string, at time.Time, more func(*s3server.Object)) {
		o := s3server.Object{Key: key, Body: s3server.Bytes("the bytes of " + key + at.String()), Modified: at.UTC().Truncate(time.Second)}
		if more != nil {
			more(&o)
		}
		s.PutObject("source", o)
	}
	for i := range 20 {
		put(fmt.Sprintf("closed/%02d", i), old, nil)
		put(fmt.Sprintf("open/%02d", i), young, nil)
	}
	put("versions", old, nil)
	put("versions", old.Add(time.Hour), nil)
	put("versions", old.Add(2*time.Hour), func(o *s3server.Object) { o.DeleteMarker, o.Body = true, nil })
	put("reopened", old, nil)
	put("reopened", young, nil)
	put("locked", old, func(o *s3server.Object) {
		o.Retention = s3server.Retention{Mode: "COMPLIANCE", Until: time.Now().AddDate(1, 0, 0)}
	})
	put("held", old, func(o *s3server.Object) { o.LegalHold = true })
	before := len(s.Versions("source"))

	h.configuration("archive", s3Service(c, "source")+
		"    grade: double-read\n    keep: {last: 1}\n    purge:\n      rules:\n"+
		"        - {name: closed files, stream: objects, because: age, field: last_modified, older_than: 7y, authority: schedule 12}\n"+
		"      max_percent: 100\n")
	h.approver("alex")
	h.approver("blair")
	h.must(6, "purge", "plan", "files") // nothing is proven yet
	h.must(0, "exit-test", "files")
	out := h.must(0, "purge", "plan", "files")
	for _, want := range []string{"keep .*locked .*source-lock", "keep .*held .*source-hold", "delete .*closed/07 ", "delete-marker"} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the plan does not say %q:\n%s", want, out)
		}
	}
	plan := planHash.FindStringSubmatch(out)[1]
	if out := h.must(6, "purge", "apply", "files", plan[:12]); !strings.Contains(out, "needs 2 approvals and has 0") {
		t.Errorf("without approvals: %s", out)
	}
	h.must(0, "purge", "approve", "--approval-key", "alex", "files", plan)
	h.must(6, "purge", "apply", "files", plan)
	h.must(6, "purge", "approve", "--approval-key", "keys/signer", "files", plan) // the host is no person
	h.must(0, "purge", "show", "--out", "to-sign", "files", plan)
	if text, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "sallyport-approval", "-f", h.path("blair"), h.path("to-sign")).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, text)
	}
	h.must(0, "purge", "approve", "--signature", "to-sign.sig", "files", plan)
	put("reopened", time.Now(), nil) // a user comes back meanwhile
	out = h.must(0, "purge", "apply", "--report", "deletion.txt", "files", plan)
	if !strings.Contains(out, "deleted: 24 items") || !strings.Contains(out, "deletion certificate ") {
		t.Errorf("apply: %s", out)
	}
	left := s.Versions("source")
	for _, o := range left {
		if strings.HasPrefix(o.Key, "closed/") || o.Key == "versions" {
			t.Errorf("%s %s is still there", o.Key, o.VersionID)
		}
	}
	if len(left) != before+1-24 {
		t.Errorf("%d versions are left of %d and one more", len(left), before)
	}
	if len(slices.DeleteFunc(slices.Clone(left), func(o s3server.Object) bool { return o.Key != "reopened" })) != 2 {
		t.Errorf("reopened: %v", left)
	}
	report, err := os.ReadFile(h.path("deletion.txt"))
	if err != nil || !strings.Contains(string(report), "24 deleted") || strings.Contains(string(report), "closed/") || !strings.Contains(string(report), "last-proof") {
		t.Errorf("report: %v\n%s", err, report)
	}
	// Once only, and the archive alone has it all.
	h.must(6, "purge", "apply", "files", plan)
	if out := h.must(0, "purge", "rebuild", "files", plan); !strings.Contains(out, "24 items of the plan can be rebuilt") {
		t.Errorf("rebuild: %s", out)
	}
	// What proves the purged does not expire, and nothing of what was purged is in a
	// pack that a later export uses.
	h.must(0, "export")
	h.must(0, "verify")
	if out := h.must(0, "retention", "plan"); !strings.Contains(out, "last-proof") {
		t.Errorf("retention plan: %s", out)
	}
	h.must(0, "check")
	out = h.must(0, "audit", "show", "--activity", "purge", "--activity", "approval", "--activity", "refusal")
	for _, want := range []string{"purge .*intent", "purge .*result .*success", "approval .*fact", "refusal .*not-approved", "refusal .*replay", "certified"} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the audit log does not say %q:\n%s", want, out)
		}
	}
	h.must(0, "audit", "verify")
}
