package rest

import (
	"context"
	"time"

	"github.com/dwp/sallyport/exporters"
)

// Kind is the exporter of SaaS products by low-code manifests.
var Kind = exporters.Kind{
	Name:    "rest",
	Summary: "SaaS products, by an Airbyte low-code manifest run natively",
	Options: []exporters.Option{
		{Name: "manifest", Type: exporters.PathOption, Required: true, Help: "The low-code manifest (YAML)."},
		{Name: "config", Type: exporters.MapOption, Help: "The connection's configuration; texts that begin with env:, file: or exec: are secrets."},
		{Name: "streams", Type: exporters.ListOption, Help: "Streams to read; all if empty."},
		{Name: "exclude", Type: exporters.ListOption, Help: "Streams to leave out."},
		{Name: "records", Type: exporters.TextOption, Default: "raw", Enum: []string{"raw", "transformed", "both"}, Help: "Records as received, as the manifest transforms them, or both side by side."},
		{Name: "pagination", Type: exporters.TextOption, Default: "exhaustive", Enum: []string{"exhaustive", "short-page"}, Help: "Whether pages are read until an empty one, or a short page is the last."},
		{Name: "drift_check", Type: exporters.BoolOption, Default: true, Help: "Ask for the first page of a paged list again at its end, to notice records that moved."},
		{Name: "absent_is_empty", Type: exporters.ListOption, Help: "Streams whose answers leave the list of records out when there are none."},
		{Name: "counts", Type: exporters.MapOption, Help: "Stream to the path in its answers (a/b/c) of the source's own count: evidence, no proof."},
		{Name: "attachments", Type: exporters.MapOption, Help: "Stream to the path of URLs in its records, or a map of url, name, size and sha256 paths, base and auth."},
		{Name: "delete", Type: exporters.MapOption, Help: "How purge deletes: stream to a map of path (with {{ record.id }} and the like), method (DELETE), read (the path of the record by itself; else the stream is listed) and record (where it is in that answer, a/b/c)."},
		{Name: "hosts", Type: exporters.ListOption, Help: "Further hosts that links may lead to; credentials are never sent there."},
		{Name: "api_hosts", Type: exporters.ListOption, Help: "Further hosts of the service itself, for manifests whose address depends on what the service says; they get its credentials."},
		{Name: "private_network", Type: exporters.BoolOption, Default: false, Help: "Host names may resolve to private addresses (10.0.0.0/8 and the like)."},
		{Name: "proxy", Type: exporters.TextOption, Help: "URL of an HTTP proxy."},
		{Name: "ca", Type: exporters.PathOption, Help: "PEM file of further certificate authorities."},
		{Name: "max_response", Type: exporters.IntOption, Default: int64(64 << 20), Help: "Bytes of one answer at most, after decompression."},
		{Name: "max_download", Type: exporters.IntOption, Default: int64(64 << 30), Help: "Bytes of one streamed report at most, after decompression."},
		{Name: "concurrency", Type: exporters.IntOption, Default: int64(usualConcurrency), Help: "Requests at once at most, over all streams; the manifest's concurrency_level may lower it."},
		{Name: "timeout", Type: exporters.DurationOption, Default: 2 * time.Minute, Help: "Time for one answer at most."},
		{Name: "patience", Type: exporters.DurationOption, Default: time.Hour, Help: "Waiting for one request at most, all its retries together."},
	},
	Open: func(ctx context.Context, c exporters.Config) (exporters.Exporter, error) {
		return open(ctx, c, time.Now, sleep)
	},
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
