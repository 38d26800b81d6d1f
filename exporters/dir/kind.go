package dir

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/dwp/sallyport/exporters"
)

// Kind lists directories among the kinds of sources and targets. A plain path, dir:PATH
// and file:///PATH name one.
var Kind = exporters.Kind{
	Name:    "dir",
	Summary: "A directory: of files as a source, and as a target one that holds objects, tables and their keys.",
	Schemes: []string{"dir", "file"},
	Options: []exporters.Option{
		{Name: "path", Type: exporters.TextOption, Required: true, Help: "The directory. A target is made if it does not exist, and must be empty if it does."},
		{Name: "reread", Type: exporters.BoolOption, Help: "Whether a source reads also those files whose size, mode and times are as the export before found them."},
		{Name: "format", Type: exporters.TextOption, Default: "jsonl", Enum: []string{"jsonl", "csv"},
			Help: "How a target writes tables: as JSON Lines, or as CSV where the table has a schema."},
		{Name: "sync", Type: exporters.BoolOption, Default: true, Help: "Whether a finished restore is made durable before it is reported."},
		{Name: "parallel", Type: exporters.IntOption, Default: int64(16), Help: "How many objects a target writes at a time."},
	},
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		name, err := pathOf(c)
		if err != nil {
			return nil, err
		}
		v, err := Open(ctx, name)
		if t, ok := v.(*tree); ok {
			t.reread, _ = c.Options["reread"].(bool)
		}
		return v, err
	},
	OpenTarget: func(ctx context.Context, c exporters.Config) (exporters.Target, error) {
		name, err := pathOf(c)
		if err != nil {
			return nil, err
		}
		format, _ := c.Options["format"].(string)
		sync, given := c.Options["sync"].(bool)
		parallel, _ := c.Options["parallel"].(int64)
		return NewTarget(name, Options{CSV: format == "csv", NoSync: given && !sync, Parallel: int(parallel)}), ctx.Err()
	},
	FromURL: fromURL,
}

func pathOf(c exporters.Config) (string, error) {
	name, _ := c.Options["path"].(string)
	if name == "" {
		return "", errors.New("dir: no path is given")
	}
	return name, nil
}

// fromURL accepts dir:PATH, where nothing is decoded, file: URLs (RFC 8089) of this
// host, and plain paths.
func fromURL(raw string) (map[string]any, error) {
	name := raw
	switch scheme, rest, _ := strings.Cut(raw, ":"); scheme {
	case "dir":
		name = rest
	case "file":
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("dir: %w", err)
		}
		if u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("dir: %q is no file of this host", raw)
		}
		if name = u.Path; name == "" {
			name = u.Opaque
		}
	}
	if name == "" {
		return nil, fmt.Errorf("dir: %q names no directory", raw)
	}
	return map[string]any{"path": name}, nil
}
