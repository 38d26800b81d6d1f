package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// descriptorMember is the name of the descriptor in its pack. It is a part like any
// other to the tar reader: p/<id>.json would be one more form to parse.
const descriptorProfile = "https://datapackage.org/profiles/2.0/datapackage.json"

// A Descriptor is datapackage.json: what a snapshot holds. Its standard members
// describe the folder that a restore with stock tools makes; "sallyport" is ours.
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
	Scope   []string      `json:"scope"`  // what was chosen and left out, one sentence each
	Gaps    []PartEntry   `json:"gaps"`   // the parts of the ledger of gaps
	Second  []PartEntry   `json:"second"` // the parts of the ledger of what a second read saw differently
}

// A Resource is one stream.
type Resource struct {
	Name      string       `json:"name"` // a slug of the stream's name
	Title     string       `json:"title"`
	Path      string       `json:"path"` // where restore instructions put the stream's lines
	Format    string       `json:"format"`
	MediaType string       `json:"mediatype"`
	Encoding  string       `json:"encoding"`
	Schema    *tableSchema `json:"schema,omitempty"`
	Sallyport StreamEntry  `json:"sallyport"`
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
	Table    []PartEntry    `json:"table"` // parts whose lines are part entries, in order
}

// tableSchema is the Table Schema of Data Package v2.
type tableSchema struct {
	Fields      []tableField `json:"fields"`
	PrimaryKey  []string     `json:"primaryKey,omitempty"`
	ForeignKeys []tableRef   `json:"foreignKeys,omitempty"`
}

type tableField struct {
	Name        string            `json:"name"`
	Type        dataset.Type      `json:"type"`
	Description string            `json:"description,omitempty"`
	Constraints *tableConstraints `json:"constraints,omitempty"`
}

type tableConstraints struct {
	Required bool `json:"required"`
}

type tableRef struct {
	Fields    []string `json:"fields"`
	Reference struct {
		Resource string   `json:"resource"`
		Fields   []string `json:"fields"`
	} `json:"reference"`
}

// newTableSchema says of s what the standard can. Values written as text are strings
// there: that is how they stand in the lines.
func newTableSchema(s *dataset.Schema, slugs map[string]string) *tableSchema {
	if s == nil || len(s.Fields) == 0 {
		return nil
	}
	t := &tableSchema{PrimaryKey: s.PrimaryKey}
	for _, f := range s.Fields {
		tf := tableField{Name: f.Name, Type: f.Type, Description: f.Description}
		if f.Lexical != dataset.Plain {
			tf.Type = dataset.String
		}
		if f.Required {
			tf.Constraints = &tableConstraints{true}
		}
		t.Fields = append(t.Fields, tf)
	}
	for _, k := range s.ForeignKeys {
		if slug, ok := slugs[k.RefStream]; ok {
			r := tableRef{Fields: k.Fields}
			r.Reference.Resource, r.Reference.Fields = slug, k.RefFields
			t.ForeignKeys = append(t.ForeignKeys, r)
		}
	}
	return t
}

// slugs gives each stream a name of a-z, 0-9, dash, dot and underscore, in order of
// names.
func slugs(names []string) map[string]string {
	taken, out := map[string]bool{}, map[string]string{}
	for _, name := range names {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
				return r
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return '-'
		}, name)
		if slug = strings.Trim(slug[:min(len(slug), 80)], ".-"); slug == "" {
			slug = "stream"
		}
		for n := 2; taken[slug]; n++ {
			slug = strings.TrimRight(slug, "0123456789") + strconv.Itoa(n)
		}
		taken[slug], out[name] = true, slug
	}
	return out
}

// parseDescriptor reads a descriptor. It is authenticated by its pack's hash.
func parseDescriptor(doc []byte) (*Descriptor, error) {
	var d Descriptor
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("descriptor: %w", err)
	}
	if d.Profile != descriptorProfile {
		return nil, errors.New("descriptor: not a data package of version 2.0")
	}
	for i, r := range d.Resources {
		if i > 0 && d.Resources[i-1].Title >= r.Title {
			return nil, errors.New("descriptor: streams are not in order")
		}
	}
	return &d, nil
}
