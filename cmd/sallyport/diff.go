package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/reconcile"
)

func diffCommand() command {
	return command{
		name: "diff", summary: "say what came, went and changed from one snapshot to another",
		args: "SNAPSHOT SNAPSHOT", min: 2, max: 2,
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		run: func(ctx context.Context, i *invocation) error {
			s, err := i.openSession(ctx)
			if err != nil {
				return err
			}
			defer s.close()
			old, err := s.unlock(ctx, i.arg(0))
			if err != nil {
				return err
			}
			newer, err := s.unlock(ctx, i.arg(1))
			if err != nil {
				return err
			}
			if old.Manifest.Root == newer.Manifest.Root {
				s.printf("no difference: both have the root %s\n", old.Manifest.Root)
				return nil
			}
			for _, name := range streamNames(old, newer) {
				if err := s.diff(ctx, old, newer, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func streamNames(snaps ...*archive.Snapshot) []string {
	var names []string
	for _, s := range snaps {
		for _, r := range s.Descriptor.Resources {
			names = append(names, r.Title)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// diff compares one stream. Equal roots are equal streams.
func (s *session) diff(ctx context.Context, old, newer *archive.Snapshot, name string) error {
	a, errA := old.Stream(name)
	b, errB := newer.Stream(name)
	switch {
	case errA != nil:
		s.printWholeStream("+", name, b.Records)
		return nil
	case errB != nil:
		s.printWholeStream("-", name, a.Records)
		return nil
	case a.Root == b.Root:
		return nil
	}
	r, err := reconcile.New(b.Stream, "", time.Time{})
	if err != nil {
		return err
	}
	defer r.Close()
	r.MaxDifferences = 1 << 20
	if err := r.Add(ctx, reconcile.Archived, old.Records(ctx, a)); err != nil {
		return err
	}
	if err := r.Add(ctx, reconcile.Restored, newer.Records(ctx, b)); err != nil {
		return err
	}
	c, err := r.Compare(ctx)
	if err != nil {
		return err
	}
	if err := c.Explain(ctx, b.Stream, old.Records(ctx, a), newer.Records(ctx, b), explainedRecords); err != nil {
		return err
	}
	slices.SortFunc(c.Differences, func(x, y reconcile.Difference) int {
		return cmp.Or(strings.Compare(x.Key, y.Key), x.Ordinal-y.Ordinal)
	})
	for _, d := range c.Differences {
		s.printDifference(name, &d, b.Stream.Keyless)
	}
	if n := differing(c) - len(c.Differences); n > 0 {
		s.printf("... %s: %s more differ\n", dataset.Escape(name), count(n, "record"))
	}
	return nil
}

// explainedRecords is of how many changed records of a stream the columns are named.
const explainedRecords = 10_000

// differing is how many records differ, also those that are not named.
func differing(c *reconcile.Comparison) (n int) {
	for status, count := range c.Restored {
		if status.Bad() {
			n += int(count)
		}
	}
	return n
}

// printWholeStream prints a stream that only one snapshot has.
func (s *session) printWholeStream(mark, name string, records int64) {
	s.emit(struct {
		Type    string `json:"message_type"`
		Mark    string `json:"mark"`
		Stream  string `json:"stream"`
		Records int64  `json:"records"`
	}{"stream", mark, name, records})
	s.printf("%s stream %s: %s\n", mark, dataset.Escape(name), count(int(records), "record"))
}

// A changedField is one place in which two versions of a record differ; null is also
// what is not there.
type changedField struct {
	Path string          `json:"path"` // a JSON Pointer (RFC 6901)
	Old  json.RawMessage `json:"old"`
	New  json.RawMessage `json:"new"`
}

// printDifference prints one record: what it is called, or of a keyless stream what it
// says, and which of its fields changed.
func (s *session) printDifference(stream string, d *reconcile.Difference, keyless bool) {
	mark := map[reconcile.Status]string{reconcile.Missing: "-", reconcile.Extra: "+", reconcile.Repeated: "+", reconcile.Mismatch: "~"}[d.Status]
	fields := make([]changedField, len(d.Fields))
	paths := make([]string, len(d.Fields))
	for i, f := range d.Fields {
		fields[i], paths[i] = changedField{f.Path, f.A, f.B}, f.Path
	}
	s.emit(struct {
		Type    string           `json:"message_type"`
		Mark    string           `json:"mark"`
		Stream  string           `json:"stream"`
		Key     archive.Key      `json:"key"`
		Ordinal int              `json:"ordinal"`
		Status  reconcile.Status `json:"status"`
		Fields  []changedField   `json:"fields,omitempty"`
		Blob    bool             `json:"blob,omitempty"` // the bytes differ
		Data    json.RawMessage  `json:"data,omitempty"`
	}{"difference", mark, stream, archive.Key(d.Key), d.Ordinal, d.Status, fields, d.Blob, d.Data})
	what := dataset.Escape(d.Key)
	if keyless && d.Data != nil {
		what = visible(string(d.Data))
	}
	if d.Ordinal > 0 {
		what += fmt.Sprintf(" (version %d)", d.Ordinal)
	}
	if d.Blob {
		paths = append(paths, "the bytes")
	}
	switch {
	case d.Status != reconcile.Mismatch:
	case d.Explained:
		what += ": " + visible(strings.Join(paths, ", "))
	default:
		what += ": too many changes to say where"
	}
	s.printf("%s %s: %s\n", mark, dataset.Escape(stream), what)
}
