package main

import (
	"context"
	"errors"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/urfave/cli/v2"
)

func discoverCommand() command {
	return command{
		name: "discover", summary: "list what a service offers for export",
		args: "SERVICE|URL", min: 1, max: 1,
		uses: []flagGroup{configFlags, storeFlags},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "service", Hidden: true},
			&cli.StringFlag{Name: "classification", Value: "OFFICIAL", Hidden: true},
		},
		run: func(ctx context.Context, i *invocation) (err error) {
			s := &session{invocation: i}
			if err := s.load(); err != nil {
				return err
			}
			src, err := s.source(i.arg(0))
			if err != nil {
				return err
			}
			view, err := s.open(ctx, src)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, view.Close()) }()
			streams, err := view.Streams(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, st := range streams {
				rows = append(rows, []string{st.Name, form(st), strings.Join(primaryKey(st), ", "), st.Group})
			}
			s.table([]string{"stream", "holds", "key", "read with"}, rows)
			i.result = map[string]any{"service": src.name, "streams": streams, "facts": view.Facts()}
			return nil
		},
	}
}

func form(s dataset.Stream) string {
	if s.Blobs {
		return "objects"
	}
	return "records"
}

func primaryKey(s dataset.Stream) []string {
	switch {
	case s.Keyless:
		return []string{"none"}
	case s.Schema != nil:
		return s.Schema.PrimaryKey
	}
	return nil
}
