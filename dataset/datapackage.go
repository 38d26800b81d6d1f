package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// DataPackageProfile names version 2.0 of the Data Package standard
// (https://datapackage.org).
const DataPackageProfile = "https://datapackage.org/profiles/2.0/datapackage.json"

// A DataPackage is datapackage.json: what a folder of data files holds. The member
// sallyport is ours; a reader of the standard ignores it.
type DataPackage struct {
	Profile   string          `json:"$schema"`
	Name      string          `json:"name"`
	Title     string          `json:"title,omitempty"`
	Resources []DataResource  `json:"resources"`
	Sallyport json.RawMessage `json:"sallyport,omitempty"`
}

// A DataResource is one stream of a [DataPackage].
type DataResource struct {
	Name      string            `json:"name"`
	Title     string            `json:"title"`          // the stream's name
	Path      []string          `json:"path,omitempty"` // of its files, in order
	Data      []json.RawMessage `json:"data,omitzero"`  // instead of Path: [] if there is no file
	Type      string            `json:"type,omitempty"`
	Format    FileFormat        `json:"format"`
	MediaType string            `json:"mediatype"`
	Encoding  string            `json:"encoding"`
	Dialect   *TableDialect     `json:"dialect,omitempty"`
	Schema    *TableSchema      `json:"schema,omitempty"`
	Sallyport *StreamNote       `json:"sallyport,omitempty"`
}

// A StreamNote is what the standard has no place for.
type StreamNote struct {
	Stream Stream          `json:"stream"`
	Note   json.RawMessage `json:"note,omitempty"` // whatever the writer of the package adds
}

// A FileFormat is how a file holds records.
type FileFormat string

// The file formats.
const (
	CSV   FileFormat = "csv"   // as CSVWriter writes it
	JSONL FileFormat = "jsonl" // JSON Lines, as Lines reads them
)

// A TableDialect says how CSV is written (Table Dialect of Data Package v2).
type TableDialect struct {
	Header           bool   `json:"header"`
	Delimiter        string `json:"delimiter"`
	LineTerminator   string `json:"lineTerminator"`
	QuoteChar        string `json:"quoteChar"`
	DoubleQuote      bool   `json:"doubleQuote"`
	NullSequence     string `json:"nullSequence"`
	SkipInitialSpace bool   `json:"skipInitialSpace"`
}

// A TableSchema is the Table Schema of Data Package v2.
type TableSchema struct {
	Fields        []TableField `json:"fields"`
	FieldsMatch   string       `json:"fieldsMatch"`
	MissingValues []string     `json:"missingValues"`
	PrimaryKey    []string     `json:"primaryKey,omitempty"`
	UniqueKeys    [][]string   `json:"uniqueKeys,omitempty"`
	ForeignKeys   []TableLink  `json:"foreignKeys,omitempty"`
}

// A TableField is a field of a [TableSchema].
type TableField struct {
	Name        string            `json:"name"`
	Type        Type              `json:"type"`
	Format      string            `json:"format,omitempty"`
	Description string            `json:"description,omitempty"`
	Constraints *FieldConstraints `json:"constraints,omitempty"`
}

// FieldConstraints are what every value of a field obeys.
type FieldConstraints struct {
	Required bool `json:"required"`
}

// A TableLink is a foreign key of a [TableSchema].
type TableLink struct {
	Fields    []string      `json:"fields"`
	Reference LinkReference `json:"reference"`
}

// A LinkReference is what a [TableLink] refers to.
type LinkReference struct {
	Resource string   `json:"resource,omitempty"` // absent if it is the table itself
	Fields   []string `json:"fields"`
}

// NewTableSchema says of the schema of the stream called name what the standard can say,
// for files of one format. slugs are those of all streams; a foreign key to a stream
// without one is left out, for a reader could not follow it. It returns nil if there is
// no schema or it has no fields.
//
// In JSON Lines a value that is written as text is a string. In CSV every value is text
// anyway, so numbers stay numbers. Missing values are those our codecs write: \N in CSV
// (a reader that does not know quoted from bare takes the text "\N" for one), none in
// JSON Lines.
func NewTableSchema(name string, s *Schema, format FileFormat, slugs map[string]string) *TableSchema {
	if s == nil || len(s.Fields) == 0 {
		return nil
	}
	t := &TableSchema{FieldsMatch: "superset", MissingValues: []string{}, PrimaryKey: s.PrimaryKey, UniqueKeys: s.UniqueKeys}
	fields := s.Fields
	switch {
	case format == CSV:
		t.FieldsMatch, t.MissingValues = "exact", []string{`\N`}
		fields = s.columns()
	case s.Open:
		t.FieldsMatch = "partial"
	}
	for _, f := range fields {
		t.Fields = append(t.Fields, newTableField(f, format))
	}
	for _, k := range s.ForeignKeys {
		link := TableLink{Fields: k.Fields, Reference: LinkReference{Fields: k.RefFields}}
		if k.RefStream != name {
			slug, ok := slugs[k.RefStream]
			if !ok {
				continue
			}
			link.Reference.Resource = slug
		}
		t.ForeignKeys = append(t.ForeignKeys, link)
	}
	return t
}

func newTableField(f Field, format FileFormat) TableField {
	t := TableField{Name: f.Name, Type: f.Type, Description: f.Description}
	switch {
	case f.Lexical == Base64:
		t.Type, t.Format = String, "binary"
	case f.Lexical == Text && format == JSONL:
		t.Type = String
	case f.Type == Date || f.Type == Time || f.Type == Datetime:
		t.Format = "any" // the source's own way of writing it
	}
	if f.Required {
		t.Constraints = &FieldConstraints{true}
	}
	return t
}

// StreamFiles are the files that hold the records of one stream.
type StreamFiles struct {
	Stream Stream
	Format FileFormat
	Paths  []string        // in the order of the records, relative to datapackage.json
	Note   json.RawMessage // kept in the resource's sallyport member, or nil
}

// NewDataPackage describes files. The package's name is a slug of title; note is kept
// in its sallyport member, or nil. CSV needs a schema with fields and a file; JSON Lines
// need neither.
func NewDataPackage(title string, files []StreamFiles, note json.RawMessage) (*DataPackage, error) {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Stream.Name
	}
	slugs := Slugs(names)
	if len(slugs) != len(files) {
		return nil, errors.New("data package: two streams have one name")
	}
	d := &DataPackage{DataPackageProfile, Slugs([]string{title})[title], title, []DataResource{}, note}
	for _, f := range files {
		r, err := newDataResource(f, slugs)
		if err != nil {
			return nil, fmt.Errorf("data package: stream %q: %w", f.Stream.Name, err)
		}
		d.Resources = append(d.Resources, r)
	}
	return d, nil
}

func newDataResource(f StreamFiles, slugs map[string]string) (DataResource, error) {
	r := DataResource{
		Name: slugs[f.Stream.Name], Title: f.Stream.Name, Path: f.Paths, Format: f.Format, Encoding: "utf-8",
		Schema:    NewTableSchema(f.Stream.Name, f.Stream.Schema, f.Format, slugs),
		Sallyport: &StreamNote{f.Stream, f.Note},
	}
	for _, path := range f.Paths {
		if err := checkResourcePath(path); err != nil {
			return r, err
		}
	}
	if r.Schema != nil {
		r.Type = "table"
	}
	switch f.Format {
	case CSV:
		if r.Schema == nil || len(f.Paths) == 0 {
			return r, errors.New("CSV needs a schema with fields, and a file")
		}
		r.MediaType = "text/csv"
		r.Dialect = &TableDialect{Header: true, Delimiter: ",", LineTerminator: "\n", QuoteChar: `"`, DoubleQuote: true, NullSequence: `\N`}
	case JSONL:
		r.MediaType = "application/x-ndjson"
		if len(f.Paths) == 0 {
			r.Data = []json.RawMessage{}
		}
	default:
		return r, fmt.Errorf("no such file format: %q", f.Format)
	}
	return r, nil
}

// NewCSVResource describes the one CSV file that holds the records of s, without a note.
// slugs are those of all streams that have CSV; path is relative to datapackage.json.
func NewCSVResource(s Stream, path string, slugs map[string]string) (*DataResource, error) {
	r, err := newDataResource(StreamFiles{Stream: s, Format: CSV, Paths: []string{path}}, slugs)
	r.Sallyport = nil
	return &r, err
}

// checkResourcePath fails unless the standard allows path as a relative path.
func checkResourcePath(path string) error {
	if path == "" || strings.ContainsAny(path[:1], "./~") || strings.HasPrefix(path, "file:") || strings.Contains(path, `\`) ||
		strings.Contains(path, "://") || slices.Contains(strings.Split(path, "/"), "..") {
		return fmt.Errorf("path %q is not a relative path of a data package", path)
	}
	return nil
}

// Slugs gives each name a different one of a-z, 0-9, dot, dash and underscore, at most
// 80 bytes long and made from it, in order of the list. A name that is listed twice has
// one slug.
func Slugs(names []string) map[string]string {
	slugs, taken := make(map[string]string, len(names)), make(map[string]bool, len(names))
	for _, name := range names {
		if _, ok := slugs[name]; ok {
			continue
		}
		base := slugify(name)
		slug := base
		for n := 2; taken[slug]; n++ {
			slug = base + "-" + strconv.Itoa(n)
		}
		slugs[name], taken[slug] = slug, true
	}
	return slugs
}

func slugify(name string) string {
	var b []byte
	for _, r := range strings.ToLower(name) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '.', r == '_':
			b = append(b, byte(r))
		case len(b) > 0 && b[len(b)-1] != '-':
			b = append(b, '-')
		}
	}
	slug := strings.Trim(string(b[:min(len(b), 72)]), ".-")
	if slug == "" {
		return "stream"
	}
	return slug
}
