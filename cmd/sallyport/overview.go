package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
)

// overview reads what deletes of a service, and what forbids it.
func (s *session) overview(ctx context.Context, service string) (*retention.Overview, error) {
	k := &retention.Keeper{Office: retention.Office{Archive: s.archive}, Memory: s.holdMemory()}
	return k.Overview(ctx, service, s.keepOf(service))
}

// policy is a service's keep rules in words, "" if it has none.
func (s *session) policy(service string) string {
	if s.config == nil || s.config.Services[service] == nil || s.config.Services[service].Keep == nil {
		return ""
	}
	k := s.config.Services[service].Keep
	var words []string
	for _, r := range []struct {
		name string
		n    int
	}{{"last", k.Last}, {"hourly", k.Hourly}, {"daily", k.Daily}, {"weekly", k.Weekly}, {"monthly", k.Monthly}, {"yearly", k.Yearly}} {
		if r.n > 0 {
			words = append(words, fmt.Sprintf("%s %d", r.name, r.n))
		}
	}
	if !k.Within.IsZero() {
		words = append(words, "within "+k.Within.String())
	}
	if len(k.Tags) > 0 {
		words = append(words, "tags "+strings.Join(k.Tags, " "))
	}
	return strings.Join(words, ", ")
}

// retentionState is what a certificate says of retention. What cannot be found out is said
// and left out: it decides nothing.
func (s *session) retentionState(ctx context.Context, service string) *verify.RetentionState {
	o, err := s.overview(ctx, service)
	if err != nil {
		s.note("the certificate says nothing of retention: %s", visible(err.Error()))
		return nil
	}
	return &verify.RetentionState{Policy: s.policy(service), Snapshots: o.Snapshots, Expiring: o.Expiring, Expired: o.Expired,
		Holds: o.Holds, Purges: o.Purges, Purged: o.Purged, LastPurge: archive.At(o.LastPurge)}
}

// A retentionStatus is what --json says of what deletes of a service.
type retentionStatus struct {
	Policy    string        `json:"policy,omitempty"` // keep rules; without any nothing expires
	Expiring  int           `json:"expiring"`
	Expired   int           `json:"expired"`
	Holds     int           `json:"holds"`
	Purges    int           `json:"purges"`
	Purged    int64         `json:"purged"` // items
	LastPurge *time.Time    `json:"last_purge,omitempty"`
	Deletion  *dataset.Hash `json:"deletion,omitempty"` // certificate of the last purge
	Problem   string        `json:"problem,omitempty"`  // why the figures are not known; nothing is deleted while it lasts
}

func (s *session) retentionStatus(ctx context.Context, service string) retentionStatus {
	st := retentionStatus{Policy: s.policy(service)}
	o, err := s.overview(ctx, service)
	if err != nil {
		st.Problem = err.Error()
		return st
	}
	st.Expiring, st.Expired, st.Holds, st.Purges, st.Purged = o.Expiring, o.Expired, o.Holds, o.Purges, o.Purged
	if o.Purges > 0 {
		st.LastPurge, st.Deletion = &o.LastPurge, &o.Last
	}
	return st
}

func (st *retentionStatus) row(service string) []string {
	policy, purged := st.Policy, "nothing"
	if policy == "" {
		policy = "everything"
	}
	if st.Problem != "" {
		return []string{service, policy, "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN"}
	}
	if st.LastPurge != nil {
		purged = fmt.Sprintf("%s in %s, last %s", count(int(st.Purged), "item"), count(st.Purges, "purge"), st.LastPurge.Format(time.DateOnly))
	}
	return []string{service, policy, fmt.Sprint(st.Expiring), fmt.Sprint(st.Expired), fmt.Sprint(st.Holds), purged}
}

// A logStatus is what --json says of an audit log.
type logStatus struct {
	Log       string        `json:"log"`
	Size      int64         `json:"size"`
	Root      *dataset.Hash `json:"root,omitempty"`
	Newest    *time.Time    `json:"newest,omitempty"`
	Unmatched int           `json:"unmatched"` // intents without a result: acts that died, or go on
	Problem   string        `json:"problem,omitempty"`
}

// logStatuses reads the audit logs of the store. What is wrong with one is said of it;
// sallyport check and audit verify look closer.
func (s *session) logStatuses(ctx context.Context) ([]logStatus, error) {
	names, err := audit.Logs(ctx, s.store)
	if err != nil {
		return nil, err
	}
	list := []logStatus{}
	for _, name := range names {
		st := logStatus{Log: name}
		if err := s.logStatus(ctx, &st); err != nil {
			st.Problem = err.Error()
		}
		list = append(list, st)
	}
	return list, ctx.Err()
}

func (s *session) logStatus(ctx context.Context, st *logStatus) error {
	r, err := audit.NewReader(s.store, s.archive.ID, st.Log, s.archive.Trust)
	if err != nil {
		return err
	}
	head, err := r.Head(ctx)
	if err != nil {
		return err
	}
	st.Size, st.Root = head.Size, &head.Root
	open, newest, err := r.Unmatched(ctx, head)
	if err != nil {
		return err
	}
	st.Unmatched, st.Newest = len(open), &newest
	return nil
}

func (st *logStatus) row() []string {
	root, newest := "", ""
	if st.Root != nil {
		root = st.Root.String()
	}
	if st.Newest != nil {
		newest = st.Newest.Format("2006-01-02 15:04")
	}
	open := fmt.Sprint(st.Unmatched)
	if st.Problem != "" {
		open = "UNKNOWN"
	}
	return []string{st.Log, fmt.Sprint(st.Size), newest, open, root}
}
