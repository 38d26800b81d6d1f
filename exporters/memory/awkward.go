package memory

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// Awkward returns a source that has what breaks exporters, archives and targets: a
// bucket "objects" with the given keys (versions, delete markers, objects that are
// deleted, blobs of no bytes and of many, metadata that no header could carry), a
// table "rows" whose values no double and few databases can hold, a stream "settings"
// of single documents, keyless "events" of which some are equal, an empty stream
// "empty/nothing here", and a group of tickets with
// their files.
func Awkward(keys []string) *Source {
	s := &Source{Facts: dataset.Facts{Position: "as put together", Filters: []string{"nothing was left out"}}}
	s.Add(dataset.Stream{Name: "objects", Blobs: true, Volatile: []string{"version_id"}}, awkwardObjects(keys)...)
	s.Add(awkwardTable(), awkwardRows()...)
	s.Add(dataset.Stream{Name: "settings"},
		dataset.Record{Key: "policy", Data: json.RawMessage(`{"Statement":[{"Effect":"Deny","Sid":"\u0000\u2028"}]}`)},
		dataset.Record{Key: "Policy", Data: json.RawMessage(`{}`)},
		dataset.Record{Key: "naïve \xff", Data: json.RawMessage(`{"key is":"not UTF-8"}`)},
		dataset.Record{Key: "", Data: json.RawMessage(`{"key is":"empty"}`)})
	s.Add(dataset.Stream{Name: "empty/nothing here"})
	s.Add(dataset.Stream{Name: "events", Keyless: true}, keyless(
		`{"event":"log-in","at":1}`, `{"at":1,"event":"log-in"}`, `{"event":"log-in","at":1.0}`, `{}`, `{}`, `{}`)...)
	s.Add(dataset.Stream{Name: "tickets", Group: "tickets", Schema: &dataset.Schema{
		Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}, {Name: "subject", Type: dataset.String}}, PrimaryKey: []string{"id"},
	}},
		dataset.Record{Key: "[2]", Data: json.RawMessage(`{"id":2,"subject":"second, and read first"}`)},
		dataset.Record{Key: "[1]", Data: json.RawMessage(`{"id":1,"subject":null}`)})
	s.Add(dataset.Stream{Name: "tickets.files", Group: "tickets", Blobs: true},
		dataset.Record{Key: "1/letter.pdf", Data: json.RawMessage(`{"type":"application/pdf"}`), Blob: Bytes([]byte("%PDF"))},
		dataset.Record{Key: "1/letter.pdf/page 1", Data: json.RawMessage(`{}`), Blob: Unsized(Random(7, 300))})
	return s
}

// awkwardObjects gives each key a small object; every fifth has three versions, of
// which the middle one is a delete marker, every eleventh is deleted.
func awkwardObjects(keys []string) []dataset.Record {
	var recs []dataset.Record
	for i, key := range keys {
		n := 1
		if i%5 == 0 {
			n = 3
		}
		if i%11 == 0 {
			n++
		}
		for v := range n {
			r := dataset.Record{Key: key, Ordinal: v}
			if n >= 3 && v == 1 || i%11 == 0 && v == n-1 {
				r.Data = fmt.Appendf(nil, `{"delete_marker":true,"version_id":"%08x"}`, i*10+v)
			} else {
				size := int64(mix(3, uint64(i))%200) * int64(i%4) // every fourth is empty
				if i == 17 {
					size = 1<<20 + 1
				}
				r.Data = fmt.Appendf(nil, `{"size":%d,"version_id":"%08x","etag":"\"%x\"","metadata":{"name":%s,"X":"\u007f\ud83d\ude00 \\"}}`,
					size, i*10+v, mix(5, uint64(i)), quote(key))
				r.Blob = Random(uint64(i*10+v), size)
			}
			recs = append(recs, r)
		}
	}
	return recs
}

// keyless makes records of a stream whose rows have no identity; some are equal.
func keyless(rows ...string) []dataset.Record {
	var recs []dataset.Record
	count := make(map[string]int)
	for _, row := range rows {
		canonical, err := dataset.Canonical(nil, []byte(row))
		if err != nil {
			continue // rows are written above, and the law's tests would miss one
		}
		key := dataset.KeylessKey(canonical)
		recs = append(recs, dataset.Record{Key: key, Ordinal: count[key], Data: json.RawMessage(row)})
		count[key]++
	}
	return recs
}

// quote writes any bytes as a JSON string. What is not UTF-8 becomes U+FFFD: it is
// metadata here, not identity.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`) // a string can always be marshalled
	}
	return b
}

func awkwardTable() dataset.Stream {
	return dataset.Stream{Name: "rows", Schema: &dataset.Schema{
		PrimaryKey: []string{"id", "part"},
		Fields: []dataset.Field{
			{Name: "id", Type: dataset.Integer, Native: "bigint", Required: true},
			{Name: "part", Type: dataset.String, Required: true},
			{Name: "value", Type: dataset.AnyType},
			{Name: "", Type: dataset.String},
			{Name: "a \"quoted\"; DROP TABLE", Type: dataset.String},
		},
	}}
}

// awkwardRows holds values at and beyond the edges of JSON readers.
func awkwardRows() []dataset.Record {
	values := []string{
		`9007199254740993`, `-0`, `-0.0`, `1.10`, `1e400`, `1E-400`, `12345678901234567890.123456789012345678`, `0.1`, `1e2`,
		`null`, `true`, `""`, `"\u0000"`, `"\ud800"`, `"\ud83d\ude00"`, "\"\U0001F600\"", `"\/"`, `"/"`, "\"\u2028\u2029\ufeff\u202e\"",
		`"e\u0301"`, `"é"`, `"\\N"`, `"=1+1"`, `" lead and trail "`, `"a\r\nb"`, `"\""`, `{}`, `[]`, `{"b":1,"a":{"":[null]}}`,
		strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200), `"` + strings.Repeat("long ", 20_000) + `"`,
	}
	var recs []dataset.Record
	for i, v := range values {
		recs = append(recs, dataset.Record{
			Key:  fmt.Sprintf(`[%d,"p/%d"]`, i, i%3),
			Data: fmt.Appendf(nil, `{"id":%d,"part":"p/%d","value":%s,"":"no name","a \"quoted\"; DROP TABLE":"';--"}`, i, i%3, v),
		})
	}
	return append(recs, dataset.Record{Key: `[-1,""]`, Data: json.RawMessage(`{"part":"","id":-1}`)}) // other order, fields missing
}
