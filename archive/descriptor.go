package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/dwp/sallyport/dataset"
)

// A Descriptor is datapackage.json: what a snapshot holds. Its standard members (Data
// Package 2.0) describe the folder that a restore with stock tools makes, so that its
// paths are true once the steps of RESTORE.md have been followed; "sallyport" is ours.
type Descriptor struct {
	Profile   string     `json:"$schema"`
	Name      string     `json:"name"`
	Title     string     `json:"title"`
	Created   Time       `json:"created"`
	Resources []Resource `json:"resources"`
	Sallyport Contents   `json:"sallyport"`
}

// Contents is what the standard has no place for.
type Contents struct {
	Store   dataset.ID    `json:"store"`
	Service string        `json:"service"`
	Run     RunID         `json:"run"`
	Facts   dataset.Facts `json:"facts"`
	Scope   []string      `json:"scope"`              // what was chosen and left out, one sentence each
	Gaps    []PartEntry   `json:"gaps"`               // the parts of the ledger of gaps
	Second  []PartEntry   `json:"second"`             // the parts of the ledger of what a second read saw differently
	LeftOut []PartEntry   `json:"left_out,omitempty"` // the parts of the ledger of records that no row of CSV holds
}

// A Resource is one stream.
type Resource struct {
	Name      string               `json:"name"`           // a slug of the stream's name: a safe file name
	Title     string               `json:"title"`          // the stream's name
	Path      []string             `json:"path"`           // the one file that holds the stream's lines
	Type      string               `json:"type,omitempty"` // "table" if there is a schema
	Format    dataset.FileFormat   `json:"format"`
	MediaType string               `json:"mediatype"`
	Encoding  string               `json:"encoding"`
	Schema    *dataset.TableSchema `json:"schema,omitempty"` // of the lines; enveloped streams have none
	Sallyport StreamEntry          `json:"sallyport"`
}

// A StreamEntry is a stream as a snapshot has it.
type StreamEntry struct {
	Stream   dataset.Stream `json:"stream"`
	Grade    Grade          `json:"grade"`
	Proof    string         `json:"proof"`
	Records  int64          `json:"records"`
	Blobs    int64          `json:"blobs"`
	Bytes    int64          `json:"blob_bytes"`
	Vanished int64          `json:"vanished"`
	Source   int64          `json:"source_count"` // -1 if the source has none
	Root     dataset.Hash   `json:"root"`
	Parts    int64          `json:"parts"`
	Table    []PartEntry    `json:"table"`            // parts whose lines are part entries, in order
	CSV      *StreamCSV     `json:"csv,omitempty"`    // the stream as CSV
	NoCSV    string         `json:"no_csv,omitempty"` // or why it has none; neither if the snapshot carries no CSV
}

// newResource describes a stream by its standard members. A Table Schema is about the
// lines of the file: where they are envelopes around the data there is none, and the
// schema of the data is in the stream itself.
func newResource(s *dataset.Stream, slugs map[string]string) Resource {
	slug := slugs[s.Name]
	r := Resource{Name: slug, Title: s.Name, Path: []string{streamPath(slug)}, Format: dataset.JSONL,
		MediaType: "application/x-ndjson", Encoding: "utf-8"}
	if !Enveloped(s) {
		r.Schema = dataset.NewTableSchema(s.Name, s.Schema, dataset.JSONL, slugs)
	}
	if r.Schema != nil {
		r.Type = "table"
	}
	return r
}

// streamPath is where RESTORE.md puts the lines of a stream. Bytes of blobs come to lie
// in files/<slug>/, under the paths of their lines.
func streamPath(slug string) string { return "streams/" + slug + ".jsonl" }

// parseDescriptor accepts only the canonical form. A descriptor is authenticated by its
// pack's hash; still nothing in it may become a file name that is not safe.
func parseDescriptor(doc []byte) (*Descriptor, error) {
	var d Descriptor
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("descriptor: %w", err)
	}
	if d.Profile != dataset.DataPackageProfile {
		return nil, errors.New("descriptor: not a data package of version 2.0")
	}
	if again, err := encode(&d); err != nil || !bytes.Equal(again, doc) {
		return nil, errors.Join(errors.New("descriptor: not in canonical form"), err)
	}
	names := map[string]bool{}
	for i, r := range d.Resources {
		switch {
		case i > 0 && d.Resources[i-1].Title >= r.Title:
			return nil, errors.New("descriptor: streams are not in order")
		case r.Title != r.Sallyport.Stream.Name:
			return nil, fmt.Errorf("descriptor: resource %q describes stream %q", r.Title, r.Sallyport.Stream.Name)
		case !slugForm.MatchString(r.Name) || names[r.Name]:
			return nil, fmt.Errorf("descriptor: %q is no resource name, or the name of two", r.Name)
		case len(r.Path) != 1 || r.Path[0] != streamPath(r.Name):
			return nil, fmt.Errorf("descriptor: resource %q has paths %q", r.Name, r.Path)
		}
		names[r.Name] = true
	}
	return &d, nil
}

// checkCSV makes sure that CSV is described for each stream, or a reason is given, in
// snapshots that carry it, and nowhere else. What becomes a file name is that of the
// resource.
func (d *Descriptor) checkCSV(carried bool) error {
	if !carried && len(d.Sallyport.LeftOut) > 0 {
		return errors.New("descriptor: a ledger of CSV in a snapshot that carries none")
	}
	for _, r := range d.Resources {
		c := r.Sallyport.CSV
		if (c != nil) != (carried && r.Sallyport.NoCSV == "") || !carried && r.Sallyport.NoCSV != "" {
			return fmt.Errorf("descriptor: resource %q and its CSV are not those of the manifest's format", r.Name)
		}
		if c == nil {
			continue
		}
		file := r.Name + ".csv"
		if c.Resource == nil || c.Metadata == nil || c.Resource.Name != r.Name || len(c.Resource.Path) != 1 || c.Resource.Path[0] != file || c.Metadata.URL != file {
			return fmt.Errorf("descriptor: resource %q has CSV under another name", r.Name)
		}
	}
	return nil
}

var slugForm = regexp.MustCompile(`^[a-z0-9_][a-z0-9._-]{0,79}$`)
