package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	fixtures "github.com/dwp/sallyport/fixtures/rest"
)

// A ticket system that ended is purged through its API. What others changed stays; a system
// that only marks what it deletes is not said to have deleted it.
func TestPurgeOfATicketSystem(t *testing.T) {
	t.Parallel()
	manifest, err := fixtures.Manifests.ReadFile("manifests/tickets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, how string
		bin       bool
		exit      int
		says      []string
		left      int
	}{
		{"read by itself", `{path: "tickets/{{ record.id }}", read: "tickets/{{ record.id }}", record: ticket}`, false, 0,
			[]string{"deleted: 10 items", "absent: 1 item", `changed +pages +\[3\].*subject`, "deletion certificate"}, 1},
		{"listed", `{path: "tickets/{{ record.id }}"}`, false, 0, []string{"deleted: 10 items", "absent: 1 item", "changed: 1 item", "deletion certificate"}, 1},
		{"a recycle bin, read by itself", `{path: "tickets/{{ record.id }}", read: "tickets/{{ record.id }}", record: ticket}`, true, 0,
			[]string{"marked: 10 items", "only marked as deleted: the source answered 204", "deletion certificate"}, 11},
		{"a recycle bin, listed", `{path: "tickets/{{ record.id }}"}`, true, 3, []string{`deleted, and there again with other data: pages \[1\]`,
			"of 10 deleted items there are records with other data"}, 11},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			d := fixtures.NewDesk(12)
			d.Bin = tt.bin
			base := d.Start()
			t.Cleanup(d.Close)
			h.write("tickets.yaml", string(manifest))
			h.configuration("archive", fmt.Sprintf(`    exporter: rest
    with: {manifest: tickets.yaml, config: {base: %q}, streams: [pages], delete: {pages: %s}}
    purge:
      rules: [{name: the end, stream: pages, because: decommissioned, since: 2020-01-01, authority: decision 9}]
      max_percent: 100
      approvals: 1
`, base, tt.how))
			h.approver("alex")
			h.must(0, "exit-test", "files")
			plan := planHash.FindStringSubmatch(h.must(0, "purge", "plan", "files"))[1]
			h.must(0, "purge", "approve", "--approval-key", "alex", "files", plan)
			d.Change(3)
			d.Remove(3) // ticket 4
			would := outcome(t, h.must(0, "purge", "apply", "--dry-run", "--json", "files", plan))
			if len(d.Deleted()) > 0 || would.Fates["deleted"] != 10 {
				t.Fatalf("a dry run deleted %v: %v", d.Deleted(), would.Fates)
			}
			out := h.must(tt.exit, "purge", "apply", "--report", "deletion.txt", "files", plan)
			for _, want := range tt.says {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("the purge does not say %q:\n%s", want, out)
				}
			}
			if n := len(d.Tickets()); n != tt.left {
				t.Errorf("%d tickets are left; want %d", n, tt.left)
			}
			if !tt.bin && slices.Contains(d.Deleted(), 3) {
				t.Errorf("tickets %v were deleted, of which 3 had changed", d.Deleted())
			}
			report, err := os.ReadFile(h.path("deletion.txt"))
			if unsure := strings.Contains(string(report), "whether all is gone cannot be said"); err != nil || unsure != (tt.exit == 3) {
				t.Errorf("report: %v\n%s", err, report)
			}
			h.must(0, "purge", "rebuild", "files", plan)
		})
	}
}
