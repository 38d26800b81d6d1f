package main

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
	"github.com/urfave/cli/v2"
)

func snapshotsCommand() command {
	return command{
		name: "snapshots", summary: "list the snapshots of services",
		args: "[SERVICE...]", max: -1,
		uses:  []flagGroup{configFlags, storeFlags},
		flags: []cli.Flag{&cli.BoolFlag{Name: "expired", Usage: "list expired ones too"}},
		run: func(ctx context.Context, i *invocation) error {
			s, err := i.openSession(ctx)
			if err != nil {
				return err
			}
			defer s.close()
			services := i.args()
			if len(services) == 0 {
				if services, err = s.archive.Services(ctx); err != nil {
					return err
				}
			}
			var rows [][]string
			var list []snapshotLine
			var bad []error
			for _, name := range services {
				if err := archive.CheckService(name); err != nil {
					return usage("", "%w", err)
				}
				all, err := s.archive.Snapshots(ctx, name)
				if err != nil {
					return err
				}
				bad = append(bad, all.Bad...)
				shown := all.All
				if i.c.Bool("expired") {
					shown = slices.Concat(all.Expired, all.All)
				}
				for _, d := range shown {
					l := snapshotLine{name, d.Run, d.Hash, d.Manifest.State, d.Manifest.Sequence, d.Manifest.Ended.Time, d.Manifest.Counts, gapCount(d), d.Signer.Principal, slices.Contains(all.Expired, d)}
					list = append(list, l)
					rows = append(rows, l.row())
				}
				for _, r := range all.Open {
					s.note("%s: run %s is open", name, r)
				}
			}
			s.table([]string{"service", "snapshot", "ended", "state", "records", "objects", "size", "gaps", "signed by"}, rows)
			if len(rows) == 0 {
				s.note("there are no snapshots")
			}
			i.result = list
			return joinFindings(bad)
		},
	}
}

// A snapshotLine is one line of the list.
type snapshotLine struct {
	Service  string         `json:"service"`
	Snapshot archive.RunID  `json:"snapshot"`
	Manifest dataset.Hash   `json:"manifest"`
	State    archive.State  `json:"state"`
	Sequence int64          `json:"sequence"`
	Ended    time.Time      `json:"ended"`
	Counts   archive.Counts `json:"counts"`
	Gaps     int64          `json:"gaps"`
	Signer   string         `json:"signer"`
	Expired  bool           `json:"expired,omitempty"`
}

func (l snapshotLine) row() []string {
	state := string(l.State)
	if l.Expired {
		state = "expired"
	}
	return []string{l.Service, string(l.Snapshot), l.Ended.Format("2006-01-02 15:04"), state, strconv.FormatInt(l.Counts.Records, 10),
		strconv.FormatInt(l.Counts.Blobs, 10), humanize.IBytes(uint64(l.Counts.BlobBytes)), strconv.FormatInt(l.Gaps, 10), l.Signer}
}

func gapCount(d *archive.Decision) (n int64) {
	for _, c := range d.Manifest.Gaps {
		n += c
	}
	return n
}
