package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
)

// A LogReport is what a check says of one audit log.
type LogReport struct {
	archive.Checkpoint            // the newest; of size 0 if none is validly signed
	Last               *time.Time `json:"last,omitempty"` // of the newest entry that could be read
	Checkpoints        int        `json:"checkpoints"`
	Unmatched          int        `json:"unmatched"` // intents without a result: acts that died, or go on
}

// A checkedLog is what the rest of the archive expects of a log, and the other way round.
type checkedLog struct {
	pins map[archive.Checkpoint]string // checkpoints that a manifest or certificate names, and its name
	says []logged
}

// A logged document is one that an audit log says was written.
type logged struct {
	service  string
	name     string // in the store
	document dataset.Hash
	entry    int64
}

// pin remembers that a document of the archive names a checkpoint.
func (c *checkRun) pin(p *archive.Checkpoint, by string) {
	if p == nil {
		return
	}
	l := c.log(p.Log)
	if _, ok := l.pins[*p]; !ok {
		l.pins[*p] = by
	}
}

func (c *checkRun) log(name string) *checkedLog {
	l := c.audited[name]
	if l == nil {
		l = &checkedLog{pins: map[archive.Checkpoint]string{}}
		c.audited[name] = l
	}
	return l
}

// by returns the name of a document that names a checkpoint, always the same.
func (l *checkedLog) by() string { return slices.Min(slices.Collect(maps.Values(l.pins))) }

// logs checks the audit logs, that they continue every checkpoint that the archive names,
// and that the documents are there of which they say that they were written. A bundle
// holds checkpoints without entries, and few documents, so of one only what is there is
// checked.
func (c *checkRun) logs(ctx context.Context, inv *inventory) error {
	for _, name := range slices.Sorted(maps.Keys(inv.logs)) {
		if err := c.auditLog(ctx, name); err != nil {
			return err
		}
	}
	if c.Bundle {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.audited)) {
		l := c.audited[name]
		if inv.logs[name] == 0 && len(l.pins) > 0 {
			c.find("audit/"+name, "is gone: %s names a checkpoint of it", l.by())
		}
		for _, d := range l.says {
			if _, there := c.present[d.service][d.document]; !there && (c.Service == "" || c.Service == d.service) {
				c.find(d.name, "is not there, and entry %d of audit log %s says that it was written", d.entry, name)
			}
		}
	}
	return nil
}

// auditLog checks one log.
func (c *checkRun) auditLog(ctx context.Context, name string) error {
	r, err := audit.NewReader(c.Archive.Store, c.Archive.ID, name, c.Archive.Trust)
	if err != nil {
		c.find("audit/"+name, "is nothing that belongs into a store")
		return nil
	}
	l := c.log(name)
	if c.Bundle {
		return c.checkpoints(ctx, r, l, name)
	}
	r.Visit = func(e audit.Entry) {
		if at := documentOf(&e.Event); at != "" {
			l.says = append(l.says, logged{e.Event.Service, at, e.Event.Document, e.Index})
		}
	}
	pins := slices.Collect(maps.Keys(l.pins))
	report, err := r.Verify(ctx, pins...)
	if errors.Is(err, audit.ErrNoLog) {
		if len(pins) > 0 {
			c.find("audit/"+name, "has no checkpoint, and %s names one", l.by())
		}
		c.note("audit log %s has no checkpoint yet", name)
		return nil
	} else if err != nil {
		return err
	}
	stray := 0
	for _, f := range report.Findings {
		switch {
		case f.Stray:
			stray++
		case f.Name == name:
			c.find("audit/"+name, "%s", f.Problem)
		default:
			c.find(f.Name, "%s", f.Problem)
		}
	}
	if stray > 0 {
		c.note("audit log %s: %s that no checkpoint covers: a writer may have died, or be writing", name, plural(int64(stray), "object"))
	}
	out := LogReport{Checkpoint: report.Head, Checkpoints: report.Checkpoints, Unmatched: len(report.Intents)}
	out.Log = name
	if !report.Last.IsZero() {
		out.Last = &report.Last
	}
	c.report.Logs = append(c.report.Logs, out)
	return nil
}

// checkpoints checks those of a log that a bundle holds, against what its documents name.
func (c *checkRun) checkpoints(ctx context.Context, r *audit.Reader, l *checkedLog, name string) error {
	signed, wrong, err := r.Signed(ctx)
	if err != nil {
		return err
	}
	for _, f := range wrong {
		c.find(f.Name, "%s", f.Problem)
	}
	for _, s := range signed {
		if by, ok := l.pins[s]; ok {
			c.note("audit log %s: its entries are not in a bundle; its checkpoint of %d entries is the one that %s names", name, s.Size, by)
		} else {
			c.find("audit/"+name, "its checkpoint of %d entries is one that nothing in the bundle names", s.Size)
		}
	}
	return nil
}

// documentOf returns where the document lies that an event says was written, "" if it
// says nothing of the kind.
func documentOf(e *audit.Event) string {
	if e.Phase == audit.Intent || e.Service == "" || e.Document.IsZero() {
		return ""
	}
	in := func(folder string) string { return fmt.Sprintf("%s/%s/%s.json", e.Service, folder, e.Document) }
	switch e.Activity {
	case audit.Export:
		return archive.DecisionName(e.Service, e.Run)
	case audit.Verify:
		if e.Code == "countersigned" { // else it is about the manifest
			return in("verified/" + string(e.Run))
		}
	case audit.ExitTest:
		return in("certificates/" + string(e.Run))
	case audit.Hold, audit.Release:
		return in("holds")
	case audit.Plan:
		return in("purges")
	case audit.Purge:
		if e.Code == "certified" { // else the plan, which its own event names
			return in("purges")
		}
	case audit.Erasure:
		return in("erasures")
	}
	return ""
}
