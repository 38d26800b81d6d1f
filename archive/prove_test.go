package archive_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
)

func TestProofOfARecordConvincesOfflineAndForgedOnesDoNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, new(archivetest.Memory))
	d, err := w.export(t.Context(), testObjects(3, 20), 3000)
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
	for _, c := range []struct{ stream, key string }{{"rows", "[1234]"}, {"objects", "a/b"}, {"objects", "empty"}} {
		e, err := s.Stream(c.stream)
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prove(t.Context(), e, c.key, -1)
		if err != nil {
			t.Fatalf("prove %s: %v", c.key, err)
		}
		doc, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, m, _, err := archive.CheckProof(doc, w.a.Trust); err != nil || m.Root != d.Manifest.Root {
			t.Fatalf("check of %s: %v", c.key, err)
		}
		for i := range doc {
			forged := bytes.Clone(doc)
			forged[i] ^= 1
			// The place of the part among the stream's parts is no part of what is proven.
			if q, _, _, err := archive.CheckProof(forged, w.a.Trust); err == nil && (q.Line != p.Line || q.Stream != p.Stream || q.Manifest != p.Manifest) {
				t.Fatalf("%s: byte %d (%q) can be altered", c.key, i, doc[max(0, i-20):min(len(doc), i+20)])
			}
		}
		if strings.Contains(string(doc), "dir1/object-00001") {
			t.Errorf("the proof of %s discloses a neighbour", c.key)
		}
	}
	e, err := s.Stream("rows")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prove(t.Context(), e, "[99999]", -1); err == nil {
		t.Error("a record that is not there was proven")
	}
}
