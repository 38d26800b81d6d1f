package archive

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// Parse and print are inverses: what is accepted is exactly what would be written, so
// two readers cannot understand one document in two ways.

var (
	fuzzRun  = RunID("20260301T020000Z-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	fuzzHash = dataset.Sum([]byte("x"))
)

func fuzzManifest() *Manifest {
	return &Manifest{Format: manifestFormat, Store: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Service: "s", Run: fuzzRun, Parents: []dataset.Hash{fuzzHash}, Sequence: 2,
		Started: At(time.Unix(1e9, 0)), Ended: At(time.Unix(1e9, 0)), State: Incomplete, Gaps: map[dataset.Code]int64{dataset.Denied: 1},
		Grades: map[Grade]int64{Exact: 1}, Descriptor: MemberRef{fuzzHash, 0, 10, "p/x.json"}, Lists: []ListRef{{fuzzRun, fuzzHash, 1, 10}},
		Keys: []KeyRef{{fuzzHash, fuzzRun, DataRole, fuzzHash}}, Endpoints: []dataset.Endpoint{}}
}

// mustEncode prints a document of ours.
func mustEncode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzManifest(f *testing.F) {
	doc := mustEncode(f, fuzzManifest())
	f.Add(doc)
	f.Add(bytes.Replace(doc, []byte(`"sequence": 2`), []byte(`"sequence": 2.0`), 1))
	f.Add(bytes.Replace(doc, []byte(`"service": "s"`), []byte(`"Service": "s"`), 1))
	f.Add(bytes.Replace(doc, []byte(`"service": "s"`), []byte(`"service": "\u0073"`), 1))
	f.Add(append(doc, '\n'))
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, err := ParseManifest(doc)
		if err == nil && !bytes.Equal(mustEncode(t, m), doc) {
			t.Errorf("accepted %q, which is not what it would write", doc)
		}
	})
}

func FuzzDocuments(f *testing.F) {
	a := &Archive{ID: "aaaaaaaaaaaaaaaaaaaaaaaaaa"}
	names := []string{IntentName("s", fuzzRun), DecisionName("s", fuzzRun), "s/keys/" + fuzzHash.String() + "/" + fuzzHash.String() + ".json",
		expiryName("s", fuzzRun, fuzzHash), StoreName, "x"}
	at := At(time.Unix(1e9, 0))
	for i, v := range []any{
		Intent{intentFormat, a.ID, "s", fuzzRun, at}, Abort{abortFormat, a.ID, "s", fuzzRun, fuzzHash, AbortStale, at},
		Statement{statementFormat, a.ID, "s", fuzzRun, DataRole, "age1x", []string{}, fuzzHash, dataset.Hash{}},
		Expiry{expiryFormat, a.ID, "s", fuzzRun, fuzzHash, "rule", at}, fuzzManifest(),
	} {
		f.Add(i, mustEncode(f, v))
		f.Add(1, mustEncode(f, v))
	}
	f.Fuzz(func(t *testing.T, i int, doc []byte) {
		name := names[max(i, 0)%len(names)]
		d, err := a.Parse(name, doc)
		if err != nil {
			return
		}
		var again []byte
		switch {
		case d.Intent != nil:
			again = mustEncode(t, d.Intent)
		case d.Manifest != nil:
			again = mustEncode(t, d.Manifest)
		case d.Abort != nil:
			again = mustEncode(t, d.Abort)
		case d.Statement != nil:
			again = mustEncode(t, d.Statement)
		case d.Expiry != nil:
			again = mustEncode(t, d.Expiry)
		}
		if !bytes.Equal(again, doc) || d.Namespace == "" {
			t.Errorf("%s: accepted %q", name, doc)
		}
	})
}

func FuzzLine(f *testing.F) {
	for _, l := range []Line{
		{Key: "a", Data: []byte(`{}`)},
		{Key: "\xff", Ordinal: 3, Data: []byte(`{"location":[1]}`), HasBlob: true, Path: "objects/a"},
		{Key: "é\"\n", Data: []byte(`{"n":1e400}`), HasBlob: true, Size: 5, SHA256: fuzzHash, Path: "objects/~e", Location: []Location{{0, 1, 2, "b/x/00000000", 5}}},
	} {
		b, err := l.appendLine(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"key":"a","ordinal":0,"data":{},"size":9223372036854775807,"path":"","location":[{"pack":0,"offset":9223372036854775807,"length":9223372036854775807,"member":"b/x/0","size":1}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		l, err := ParseLine(line)
		if err != nil {
			return
		}
		again, err := l.appendLine(nil)
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("accepted %q, would write %q", line, again)
		}
		bare := *l
		bare.Location = nil
		want, err := bare.appendLine(nil)
		if err != nil {
			t.Fatal(err)
		}
		if l.HasBlob {
			want = append(bytes.TrimSuffix(want, []byte(`,"location":[]}`)), '}')
		}
		if proven := provenLine(nil, line); !bytes.Equal(proven, want) {
			t.Errorf("the proven part of %q is %q; want %q", line, proven, want)
		}
	})
}

func FuzzPartEntry(f *testing.F) {
	for _, e := range []PartEntry{{Part: "x-1", First: "a", Last: "\xff"}, {Part: "x-2", Count: 1, Packs: []dataset.Hash{fuzzHash}, Blobs: 1, Content: 2}} {
		line, err := encodeLine(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var e PartEntry
		if decodeLine(line, &e) != nil {
			return
		}
		again, err := encodeLine(e)
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("accepted %q, would write %q", line, again)
		}
	})
}

func FuzzList(f *testing.F) {
	head := listHead{Format: listFormat, Store: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Service: "s", Run: fuzzRun, By: fuzzRun}
	doc, err := encodeList(head, []PackRef{{fuzzHash, 10, fuzzHash}, {dataset.Sum(nil), 20, fuzzHash}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add(doc[:len(doc)-1])
	f.Add(append(doc, doc...))
	f.Fuzz(func(t *testing.T, doc []byte) {
		packs, head, err := decodeList(doc)
		if err != nil {
			return
		}
		again, err := encodeList(head, packs)
		if err != nil || !bytes.Equal(again, doc) {
			t.Errorf("accepted %q, would write %q", doc, again)
		}
	})
}

func FuzzSeekTable(f *testing.F) {
	f.Add(seekTable(nil))
	f.Add(append(bytes.Repeat([]byte{'z'}, 30), seekTable([]frameInfo{{10, 100}, {20, 200}})...))
	f.Fuzz(func(t *testing.T, z []byte) {
		frames, err := parseSeekTable(z)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(z, seekTable(frames)) {
			t.Errorf("accepted %q", z)
		}
	})
}

func FuzzTarHeader(f *testing.F) {
	f.Add(appendTarHeader(nil, "p/x-1.jsonl", 12345))
	f.Add(appendTarHeader(nil, "b/x-1/00000000", 0))
	f.Add(appendTarHeader(nil, "../../etc/passwd", 3))
	f.Add(make([]byte, tarBlock))
	f.Fuzz(func(t *testing.T, h []byte) {
		name, size, err := parseTarHeader(h)
		if err != nil {
			return
		}
		if !bytes.Equal(appendTarHeader(nil, name, size), h[:tarBlock]) || size < 0 {
			t.Errorf("accepted %q as %q of %d bytes", h, name, size)
		}
		if strings.Contains(name, "..") || strings.HasPrefix(name, "/") {
			t.Errorf("accepted the name %q", name)
		}
	})
}

// nameOf prints a name again; empty where a class leaves some of it open.
func nameOf(n Name, name string) string {
	switch n.Class {
	case StoreObject:
		return StoreName
	case ProbeObject:
		return ProbeName
	case PackObject:
		return PackName(n.Service, n.Hash)
	case ListObject:
		return ListName(n.Service, n.Hash)
	case KeyObject:
		return keyName(n.Service, n.Key, n.Hash)
	case StatementObject:
		return StatementName(n.Service, n.Key, n.Hash)
	case IntentObject:
		return IntentName(n.Service, n.Run)
	case DecisionObject:
		return DecisionName(n.Service, n.Run)
	case ExpiryObject:
		return expiryName(n.Service, n.Run, n.Hash)
	case VerifiedObject:
		return n.Service + "/verified/" + string(n.Run) + "/" + n.Hash.String() + ".json"
	case CertificateObject:
		return n.Service + "/certificates/" + string(n.Run) + "/" + n.Hash.String() + ".json"
	case AnnexObject:
		return n.Service + "/annexes/" + n.Hash.String() + ".age"
	case SignatureObject:
		return signatureFolder(n.Service, n.Document, n.Namespace) + n.Hash.String() + ".sig"
	}
	return name
}

func FuzzName(f *testing.F) {
	for class := range RecordsObject {
		n := Name{Class: class, Service: "case-files", Run: fuzzRun, Hash: fuzzHash, Key: fuzzHash, Document: fuzzHash, Namespace: nsAbort}
		f.Add(nameOf(n, "x"))
	}
	f.Add("audit/x")
	f.Add("s/holds/" + fuzzHash.String() + ".json")
	f.Add("S/packs/")
	f.Add("s/packs/a")
	f.Fuzz(func(t *testing.T, name string) {
		n := ParseName(name)
		if n.Class != Junk && nameOf(n, name) != name {
			t.Errorf("%q is taken for %q", name, nameOf(n, name))
		}
	})
}

func FuzzDescriptor(f *testing.F) {
	f.Add(mustEncode(f, Descriptor{Profile: dataset.DataPackageProfile, Resources: []Resource{{Title: "a"}, {Title: "b"}}}))
	f.Fuzz(func(t *testing.T, doc []byte) {
		d, err := parseDescriptor(doc)
		if err != nil {
			return
		}
		again, err := encode(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseDescriptor(again); err != nil {
			t.Errorf("accepted %q, and not what it writes of it: %v", doc, err)
		}
	})
}

func FuzzPackReader(f *testing.F) {
	tar := appendMember(nil, "b/x-1/00000000", []byte("hello"))
	z, err := compress(nil, tar)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(z, "b/x-1/00000000", int64(5))
	f.Add(append(z, z...), "b/x-1/00000000", int64(5))
	f.Add(append(seekTable(nil), z...), "b/x-1/00000000", int64(5))
	f.Add(bomb(64<<20), "b/x-1/00000000", int64(5))
	f.Fuzz(func(t *testing.T, z []byte, member string, size int64) {
		size = min(max(size, 0), SegmentSize)
		data, err := extract(z, member, size)
		if err == nil && int64(len(data)) > max(paddedSize(size), maxFrame) {
			t.Errorf("%d bytes for a member of %d", len(data), size)
		}
		findMember(z, member) // must not panic: it is what decoded frames are given to
	})
}
