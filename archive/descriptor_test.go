package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
)

// described exports one record into each stream and returns the unlocked snapshot.
func (w *world) described(t *testing.T, streams ...dataset.Stream) *archive.Snapshot {
	t.Helper()
	run, err := archive.Begin(t.Context(), w.a, w.options())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range streams {
		if err := writeOne(t.Context(), run, s); err != nil {
			t.Fatal(err)
		}
	}
	d, err := run.Commit(t.Context(), archive.Summary{Scope: []string{"everything"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.a.Snapshot(t.Context(), "case-files", d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), w.open); err != nil {
		t.Fatal(err)
	}
	return s
}

func writeOne(ctx context.Context, run *archive.Writer, s dataset.Stream) error {
	sw, err := run.Stream(s, 1)
	if err != nil {
		return err
	}
	data := []byte(`{"id":1,"parent":null,"amount":"12345678901234567890.10"}`)
	if archive.Enveloped(&s) {
		return sw.Section(0).Entry(ctx, archive.Entry{Key: "a", Data: data})
	}
	return sw.Section(0).Record(ctx, "[1]", data)
}

func TestDescriptorIsADataPackage(t *testing.T) {
	t.Parallel()
	schema := &dataset.Schema{
		Fields:     []dataset.Field{{Name: "id", Type: dataset.Integer}, {Name: "parent", Type: dataset.Integer}, {Name: "amount", Type: dataset.Number, Lexical: dataset.Text}},
		PrimaryKey: []string{"id"},
		ForeignKeys: []dataset.ForeignKey{
			{Fields: []string{"parent"}, RefStream: "Cases/2024", RefFields: []string{"id"}},
			{Fields: []string{"id"}, RefStream: "cases 2024", RefFields: []string{"id"}},
		},
	}
	noKey := &dataset.Schema{Fields: schema.Fields}
	w := newWorld(t, new(archivetest.Memory))
	s := w.described(t, dataset.Stream{Name: "Cases/2024", Schema: schema, Attributes: json.RawMessage(`{"view":"a < b"}`)},
		dataset.Stream{Name: "cases 2024", Schema: schema}, dataset.Stream{Name: "endpoint", Schema: noKey}, dataset.Stream{Name: "objects", Blobs: true})

	text, err := json.Marshal(s.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(t, text); err != nil {
		t.Errorf("%s\n%v", text, err)
	}
	r := s.Descriptor.Resources
	if links := r[0].Schema.ForeignKeys; links[0].Reference.Resource != "" || links[1].Reference.Resource != "cases-2024-2" {
		t.Errorf("foreign keys refer to %+v", links)
	}
	if mv := r[0].Schema.MissingValues; mv == nil || len(mv) != 0 {
		t.Errorf("missing values are %q; want none, for an empty text is not null", mv)
	}
	if got := r[0].Schema.Fields[2].Type; got != dataset.String {
		t.Errorf("a number that is written as text has type %s", got)
	}
	for i, path := range []string{"streams/cases-2024.jsonl", "streams/cases-2024-2.jsonl", "streams/endpoint.jsonl", "streams/objects.jsonl"} {
		if r[i].Path[0] != path {
			t.Errorf("path of %q is %q; want %q", r[i].Title, r[i].Path, path)
		}
	}
	if r[2].Schema != nil || r[3].Schema != nil {
		t.Error("a table schema stands for lines that are envelopes")
	}
}

func validate(t *testing.T, text []byte) error {
	t.Helper()
	profile, err := os.ReadFile("../dataset/testdata/datapackage-2.0.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(profile))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("profile.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("profile.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}
