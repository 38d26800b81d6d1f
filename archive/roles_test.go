package archive_test

import (
	"errors"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

func TestIndexIdentitySeesNamesAndNoContents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	file, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	clerk, err := crypto.ParseIdentities(file, "clerk")
	if err != nil {
		t.Fatal(err)
	}
	o := w.options()
	if o.IndexRecipients, err = crypto.NewSealer(recipient); err != nil {
		t.Fatal(err)
	}
	run, err := archive.Begin(t.Context(), w.a, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.fill(t.Context(), run, map[string][]byte{"letter": []byte("contents")}, 10); err != nil {
		t.Fatal(err)
	}
	d, err := run.Commit(t.Context(), archive.Summary{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.a.Snapshot(t.Context(), "case-files", d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), clerk); err != nil {
		t.Fatal(err)
	}
	read := func(stream string) (recs []dataset.Record, err error) {
		e, err := s.Stream(stream)
		if err != nil {
			return nil, err
		}
		for r, err := range s.Records(t.Context(), e) {
			if err != nil {
				return recs, err
			}
			recs = append(recs, r)
		}
		return recs, nil
	}
	recs, err := read("objects")
	if err != nil || len(recs) != 1 || recs[0].Key != "letter" {
		t.Fatalf("the index says %v, %v; want the name of the object", recs, err)
	}
	body, err := recs[0].Blob.Open(t.Context(), 0, -1)
	if err == nil {
		_, err = body.Read(make([]byte, 1))
	}
	if !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("an object's bytes: %v; want %v", err, crypto.ErrNoKey)
	}
	if _, err := read("rows"); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("rows of a table: %v; want %v", err, crypto.ErrNoKey)
	}
}
