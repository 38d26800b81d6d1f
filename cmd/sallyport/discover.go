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
		name: "discover", summary: "list what a service offers for export, or look at a manifest",
		args: "[SERVICE|URL]", max: 1,
		detail: "With --lint a low-code manifest is read, without a request, and what keeps it from running here is listed by\n" +
			"component, field and expression; the exit code is 0 if it runs and 4 if not. With --manifest a connection is tried: the\n" +
			"first records of each stream are shown as they would be exported. --config then names a file with the connection's own\n" +
			"configuration, in which texts that begin with env:, file: or exec: are secrets, and --with one with the exporter's other\n" +
			"options (attachments, hosts, ...), as they stand below with: in a service's configuration.",
		uses: []flagGroup{configFlags, storeFlags},
		flags: []cli.Flag{
			&cli.PathFlag{Name: "lint", TakesFile: true, Usage: "say whether the low-code manifest in `FILE` runs, and what it lacks"},
			&cli.PathFlag{Name: "manifest", TakesFile: true, Usage: "try the low-code manifest in `FILE`, with the connection's configuration in --config"},
			&cli.PathFlag{Name: "with", TakesFile: true, Usage: "with --manifest: take the exporter's other options from `FILE`"},
			&cli.IntFlag{Name: "first", Value: 3, Usage: "with --manifest: show `N` records of each stream"},
			&cli.StringFlag{Name: "service", Hidden: true},
			&cli.StringFlag{Name: "classification", Value: "OFFICIAL", Hidden: true},
		},
		run: func(ctx context.Context, i *invocation) error {
			lint, manifest := i.c.Path("lint"), i.c.Path("manifest")
			named := 0
			for _, s := range []string{lint, manifest, i.arg(0)} {
				if s != "" {
					named++
				}
			}
			switch {
			case named != 1:
				return usage("see sallyport discover --help", "discover wants a service, a URL, --lint FILE or --manifest FILE, and one of them")
			case lint != "":
				return lintManifest(i, lint)
			case manifest != "":
				return tryManifest(ctx, i, manifest)
			}
			return listStreams(ctx, i)
		},
	}
}

// listStreams lists what a service offers.
func listStreams(ctx context.Context, i *invocation) (err error) {
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
