package main

import (
	"context"
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
		s.printf("+ stream %s: %s\n", dataset.Escape(name), count(int(b.Records), "record"))
		return nil
	case errB != nil:
		s.printf("- stream %s: %s\n", dataset.Escape(name), count(int(a.Records), "record"))
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
	slices.SortFunc(c.Differences, func(x, y reconcile.Difference) int {
		if n := strings.Compare(x.Key, y.Key); n != 0 {
			return n
		}
		return x.Ordinal - y.Ordinal
	})
	marks := map[reconcile.Status]string{reconcile.Missing: "-", reconcile.Extra: "+", reconcile.Repeated: "+", reconcile.Mismatch: "~"}
	for _, d := range c.Differences {
		s.emit(struct {
			Type string `json:"message_type"`
			Mark string `json:"mark"`
			reconcile.Difference
		}{"difference", marks[d.Status], d})
		version := ""
		if d.Ordinal > 0 {
			version = fmt.Sprintf(" (version %d)", d.Ordinal)
		}
		s.printf("%s %s: %s%s\n", marks[d.Status], dataset.Escape(name), dataset.Escape(d.Key), version)
	}
	return nil
}
