package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/urfave/cli/v2"
)

func lsCommand() command {
	return command{
		name: "ls", summary: "list the streams of a snapshot, the records of a stream, or its gaps",
		args: "SNAPSHOT [STREAM [PREFIX]]", min: 1, max: 3,
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "gaps", Usage: "list what is missing, and why"},
			&cli.BoolFlag{Name: "left-out", Usage: "list the records that no row of CSV holds, and why"},
		},
		run: func(ctx context.Context, i *invocation) error {
			s, err := i.openSession(ctx)
			if err != nil {
				return err
			}
			defer s.close()
			snap, err := s.unlock(ctx, i.arg(0))
			switch {
			case err != nil:
				return err
			case i.c.Bool("gaps"):
				return s.listGaps(ctx, snap)
			case i.c.Bool("left-out"):
				return s.listLeftOut(ctx, snap)
			case i.arg(1) == "":
				s.listStreams(snap)
				return nil
			}
			return s.listRecords(ctx, snap, i.arg(1), i.arg(2))
		},
	}
}

func (s *session) listStreams(snap *archive.Snapshot) {
	var rows [][]string
	for _, r := range snap.Descriptor.Resources {
		e := r.Sallyport
		rows = append(rows, []string{e.Stream.Name, form(e.Stream), fmt.Sprint(e.Records), fmt.Sprint(e.Blobs), string(e.Grade), e.Proof})
	}
	s.table([]string{"stream", "holds", "records", "objects", "grade", "proof"}, rows)
	s.result = map[string]any{"descriptor": snap.Descriptor} // a Data Package, in the words of its standard
}

func (s *session) listGaps(ctx context.Context, snap *archive.Snapshot) error {
	for g, err := range snap.Gaps(ctx) {
		if err != nil {
			return err
		}
		gap := dataset.Gap{Stream: g.Stream, Key: string(g.Key), Ordinal: g.Ordinal, Code: g.Code, Detail: g.Detail}
		s.printf("%s\n", visible(gap.Error()))
		if s.json {
			s.gap(snap.Service, &gap)
		}
	}
	return nil
}

// listLeftOut lists what the CSV of a snapshot lacks: whole streams, and single records
// of the others. All of it is in the snapshot as JSON Lines.
func (s *session) listLeftOut(ctx context.Context, snap *archive.Snapshot) error {
	if !snap.Manifest.HasCSV() {
		s.note("the snapshot carries no CSV")
		return nil
	}
	line := func(l archive.LeftOutLine) {
		s.emit(struct {
			Type string `json:"message_type"`
			archive.LeftOutLine
		}{"left_out", l})
		key := ""
		if l.Key != "" {
			key = " " + dataset.Escape(string(l.Key))
		}
		s.printf("%s%s: %s\n", dataset.Escape(l.Stream), key, visible(l.Reason))
	}
	for _, r := range snap.Descriptor.Resources {
		if why := r.Sallyport.NoCSV; why != "" {
			line(archive.LeftOutLine{Stream: r.Title, Reason: why})
		}
	}
	for l, err := range snap.LeftOut(ctx) {
		if err != nil {
			return err
		}
		line(l)
	}
	return nil
}

// listRecords prints one line a record: key, version, size and hash for objects, the
// data for records.
func (s *session) listRecords(ctx context.Context, snap *archive.Snapshot, stream, prefix string) error {
	e, err := snap.Stream(stream)
	if err != nil {
		return notFound(err)
	}
	for r, err := range snap.Records(ctx, e) {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(r.Key, prefix) {
			continue
		}
		s.emitRecord(&r)
		switch {
		case r.Blob != nil:
			s.printf("%s  %12d  %3d  %s\n", r.Blob.SHA256.String()[:12], r.Blob.Size, r.Ordinal, dataset.Escape(r.Key))
		case e.Stream.Blobs:
			s.printf("%-12s  %12s  %3d  %s\n", "deleted", "-", r.Ordinal, dataset.Escape(r.Key))
		default:
			s.printf("%s  %s\n", dataset.Escape(r.Key), visible(string(r.Data)))
		}
	}
	return nil
}

func (s *session) emitRecord(r *dataset.Record) {
	if !s.json {
		return
	}
	line := struct {
		Type    string       `json:"message_type"`
		Key     archive.Key  `json:"key"`
		Ordinal int          `json:"ordinal"`
		Size    *int64       `json:"size,omitempty"`
		SHA256  dataset.Hash `json:"sha256,omitzero"`
		Data    any          `json:"data"`
	}{Type: "record", Key: archive.Key(r.Key), Ordinal: r.Ordinal, Data: r.Data}
	if r.Blob != nil {
		line.Size, line.SHA256 = &r.Blob.Size, r.Blob.SHA256
	}
	s.emit(line)
}

// notFound gives what a snapshot does not have the exit code of a missing thing.
func notFound(err error) error { return &exitError{code: exitNotFound, err: err} }
