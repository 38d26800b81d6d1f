package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/bundle"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/transfer"
)

// bundleCSV writes a bag of readable files. A copy that could not be finished is
// destroyed: it is not encrypted.
func bundleCSV(ctx context.Context, s *session, ref string, o bundle.Options) (err error) {
	to := s.c.Path("to")
	if err := bundle.CheckEmpty(to); err != nil {
		return err
	}
	snap, err := s.unlock(ctx, ref)
	if err != nil {
		return err
	}
	open, err := s.opener()
	if err != nil {
		return err
	}
	withhold, err := s.withhold(ctx, snap.Service, open)
	if err != nil {
		return err
	}
	s.note("%s will hold what is in %s@%s in the clear: nothing in it is encrypted", visible(to), snap.Service, snap.Run)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	target := dir.NewTarget(filepath.Join(to, "data"), dir.Options{CSV: true})
	defer func() { err = errors.Join(err, target.Close()) }()
	p := new(transfer.Progress)
	missing, err := newMissingFile(filepath.Join(to, bundle.Missing))
	if err != nil {
		return err
	}
	var lost error // of missing.jsonl
	r := transfer.Restore{Snapshot: snap, Target: target, Test: dataset.NewID(), Progress: p, Compare: true, Withhold: withhold,
		OnGap: func(g dataset.Gap) {
			s.gap(snap.Service, &g)
			if lost == nil {
				lost = missing.add(g)
			}
		}}
	act := s.logBegin(ctx, audit.Restore, snap.Service, snap.Run)
	defer func() {
		act.end(ctx, err, snap.Run, snap.Hash, map[string]int64{"records": p.Records.Load(), "gaps": p.Gaps.Load()})
	}()
	stop := s.watch("bundle", "record", p)
	out, err := r.Run(ctx)
	stop()
	if err = errors.Join(err, lost); err == nil {
		err = missing.ofSnapshot(ctx, snap)
	}
	var report *bundle.Report
	if err == nil {
		err = missing.sync()
	}
	if err == nil {
		report, err = bundle.Readable(ctx, s.archive, snap, to, o)
	}
	if err != nil {
		return errors.Join(err, missing.f.Close(), os.Remove(missing.f.Name()), target.Destroy(context.WithoutCancel(ctx), r.Test))
	}
	if err := missing.f.Close(); err != nil {
		return err
	}
	s.printf("%s@%s: %s, %s, NOT encrypted; README.md in %s says what they are\n", snap.Service, snap.Run,
		count(int(report.Files), "file"), humanize.IBytes(uint64(report.Bytes)), visible(to))
	err = s.printRestored(out, p)
	s.result = report
	return err
}

// A missingFile is missing.jsonl: what a readable copy lacks. Its first error sticks.
type missingFile struct {
	f *os.File
	w *bufio.Writer
}

func newMissingFile(name string) (*missingFile, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return &missingFile{f, bufio.NewWriter(f)}, err
}

func (m *missingFile) add(g dataset.Gap) error {
	line, err := dataset.EncodeJSON(archive.GapLine{Stream: g.Stream, Key: archive.Key(g.Key), Ordinal: g.Ordinal, Code: g.Code, Detail: dataset.Escape(g.Detail)})
	if err != nil {
		return err
	}
	_, err = m.w.Write(append(line, '\n'))
	return err
}

// ofSnapshot adds what the snapshot itself lacks.
func (m *missingFile) ofSnapshot(ctx context.Context, snap *archive.Snapshot) error {
	for l, err := range snap.Gaps(ctx) {
		if err == nil {
			err = m.add(dataset.Gap{Stream: l.Stream, Key: string(l.Key), Ordinal: l.Ordinal, Code: l.Code, Detail: l.Detail})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *missingFile) sync() error { return errors.Join(m.w.Flush(), m.f.Sync()) }
