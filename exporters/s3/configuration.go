package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// parts are the parts of a bucket's configuration, by the names of their subresources.
var parts = []string{"acl", "cors", "encryption", "lifecycle", "logging", "notification", "object-lock", "ownershipControls",
	"policy", "publicAccessBlock", "replication", "tagging", "versioning", "website"}

// configurationStream describes the stream of a bucket's configuration. A record's
// document is the server's own text, XML or (policy) JSON.
func configurationStream() dataset.Stream {
	return dataset.Stream{
		Name: configStream,
		Schema: &dataset.Schema{
			Fields: []dataset.Field{
				{Name: "part", Type: dataset.String, Required: true, Description: "subresource of the bucket"},
				{Name: "state", Type: dataset.String, Required: true, Description: "set, not set, or not implemented by the server"},
				{Name: "document", Type: dataset.String, Description: "as the server gave it"},
			},
			PrimaryKey: []string{"part"},
		},
	}
}

func configurationKey(part string) string { return `["` + part + `"]` }

// readConfiguration yields one record for each part, whether or not it is set.
func (v *View) readConfiguration(ctx context.Context, q exporters.Query) iter.Seq2[dataset.Record, error] {
	return func(yield func(dataset.Record, error) bool) {
		for _, part := range parts {
			key := configurationKey(part)
			if key <= max(q.Range.After, string(q.After)) || q.Range.UpTo != "" && key > q.Range.UpTo {
				continue
			}
			r, err := v.configurationRecord(ctx, key)
			if err == nil {
				err = ctx.Err()
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (v *View) configurationRecord(ctx context.Context, key string) (dataset.Record, error) {
	part := strings.TrimSuffix(strings.TrimPrefix(key, `["`), `"]`)
	if !slices.Contains(parts, part) || key != configurationKey(part) {
		return dataset.Record{}, fmt.Errorf("configuration %q: %w", key, fs.ErrNotExist)
	}
	r := dataset.Record{Stream: configStream, Key: key, Cursor: dataset.Cursor(key)}
	gap := func(code dataset.Code, detail string) dataset.Record {
		r.Gap = &dataset.Gap{Stream: configStream, Key: key, Code: code, Detail: detail}
		return r
	}
	data := configured{Part: part, State: "set"}
	body, err := v.subresource(ctx, s3conn.Object{}, part)
	switch {
	case err == nil && !utf8.Valid(body):
		return gap(dataset.Malformed, part+" is not UTF-8"), nil
	case err == nil:
		data.Document = string(body)
	case errors.Is(err, s3conn.ErrNotConfigured):
		data.State = "not set"
	case errors.Is(err, s3conn.ErrUnsupported), errors.Is(err, s3conn.ErrMethod):
		data.State = "not implemented"
	case errors.Is(err, s3conn.ErrDenied):
		return gap(dataset.Denied, err.Error()), nil
	case ctx.Err() != nil, errors.Is(err, s3conn.ErrCredentials), errors.Is(err, s3conn.ErrTemporary), errors.Is(err, s3conn.ErrNoSuchBucket):
		return dataset.Record{}, fmt.Errorf("bucket configuration: %w", sourceError(err))
	default:
		return gap(dataset.Unreadable, err.Error()), nil
	}
	r.Data, err = marshal(data)
	return r, err
}

// A configured is the Data of a part of the configuration.
type configured struct {
	Part     string `json:"part"`
	State    string `json:"state"`
	Document string `json:"document,omitempty"`
}

// parseConfigured is the inverse of what configurationRecord writes.
func parseConfigured(data json.RawMessage) (configured, error) {
	var c configured
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("configuration's record: %w", err)
	}
	if !slices.Contains(parts, c.Part) {
		return c, fmt.Errorf("no part of a bucket's configuration is called %q", c.Part)
	}
	return c, nil
}
