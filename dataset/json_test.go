package dataset_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
)

func TestCompactKeepsEveryLexeme(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`{}`, `{}`},
		{" \t\r\n{ \"b\" : 1 ,\n\"a\" : [ 1 , 2 ] } \n", `{"b":1,"a":[1,2]}`},
		{`{"n":1.10,"m":1e400,"z":-0,"i":9007199254740993,"d":12345678901234567890123456789012345678}`, `{"n":1.10,"m":1e400,"z":-0,"i":9007199254740993,"d":12345678901234567890123456789012345678}`},
		{`{"s":"\u0061\/\ud800 \"  é\u2028 \ud83d\ude00"}`, `{"s":"\u0061\/\ud800 \"  é\u2028 \ud83d\ude00"}`},
		{"\"\u2028\ufeff\x7f<>&\"", "\"\u2028\ufeff\x7f<>&\""},
		{`[ [ ] , { } , null , true , false , "" ]`, `[[],{},null,true,false,""]`},
		{`{"\ud800":1,"\ud801":2,"\ufffd":3}`, `{"\ud800":1,"\ud801":2,"\ufffd":3}`},
	} {
		got, err := dataset.Compact([]byte("x"), []byte(c.src))
		if err != nil || string(got) != "x"+c.want {
			t.Errorf("Compact(%s) = %s, %v", c.src, got, err)
		}
	}
}

func TestCanonicalSortsMembersAtEveryLevel(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`{"b":1,"a":2}`, `{"a":2,"b":1}`},
		{`{ "b" : { "z":1.0, "y":[{"d":1,"c":2}] }, "a" : {} }`, `{"a":{},"b":{"y":[{"c":2,"d":1}],"z":1.0}}`},
		{`{"é":1,"z":2,"Z":3,"\u0061":4,"":5}`, `{"":5,"Z":3,"\u0061":4,"z":2,"é":1}`},
		{"{\"\U00010000\":1,\"\uffff\":2}", "{\"\uffff\":2,\"\U00010000\":1}"}, // bytes, not UTF-16
		{`[3,1,2]`, `[3,1,2]`},
		{` 1.0 `, `1.0`},
	} {
		got, err := dataset.Canonical([]byte("x"), []byte(c.src))
		if err != nil || string(got) != "x"+c.want {
			t.Errorf("Canonical(%s) = %s, %v", c.src, got, err)
		}
	}
}

func manyMembers(n int, names ...string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&b, "%q:%d,", fmt.Sprint("field", i), i)
	}
	for _, name := range names {
		fmt.Fprintf(&b, "%s:0,", name)
	}
	return strings.TrimSuffix(b.String(), ",") + "}"
}

func TestMalformedJSONIsRefusedWhereItIsWrong(t *testing.T) {
	for _, c := range []struct {
		src    string
		offset int
	}{
		{``, 0}, {` `, 1}, {`{`, 1}, {`{"a"`, 4}, {`{"a":`, 5}, {`{"a":1`, 6}, {`{"a":1,}`, 7}, {`{a:1}`, 1}, {`{"a":1 "b":2}`, 7}, {`{,}`, 1},
		{`[1,]`, 3}, {`[1 2]`, 3}, {`[`, 1}, {`1 2`, 2}, {`{}{}`, 2}, {`nul`, 0}, {`nulll`, 4}, {`True`, 0}, {`NaN`, 0}, {`Infinity`, 0},
		{`01`, 0}, {`-`, 0}, {`+1`, 0}, {`1.`, 2}, {`.5`, 0}, {`1e`, 2}, {`1e+`, 3}, {`1E5.`, 3}, {`0x1`, 1}, {`-01`, 0},
		{`"`, 1}, {`"abc`, 4}, {`"\x41"`, 1}, {`"\u12g4"`, 1}, {`"\u12"`, 1}, {`"\`, 1}, {`'a'`, 0},
		{"\"tab\there and more text\"", 4}, {"\"\x00\"", 1}, {"\"0123456\n\"", 8},
		{"\"\xff\"", 1}, {"\"0123456789\xc3\"", 11}, {"\"\xed\xa0\x80\"", 1}, {"\"\xc0\x80\"", 1},
		{"\ufeff{}", 0}, {"{}\x00", 2}, {"\v1", 0}, {"/**/1", 0}, {"[1,//\n2]", 3},
		{`{"a":1,"a":2}`, 7}, {`{"a":1,"b":2,"\u0061":3}`, 13}, {`[{"x":{"a":1,"a":1}}]`, 13},
		{manyMembers(20, `"dup"`, `"x"`, `"d\u0075p"`), len(manyMembers(20, `"dup"`, `"x"`))},
		{strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), 10_000},
		{strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001), 50_000},
	} {
		for name, f := range map[string]func(dst, src []byte) ([]byte, error){"Compact": dataset.Compact, "Canonical": dataset.Canonical} {
			got, err := f([]byte("before"), []byte(c.src))
			var syntax *dataset.SyntaxError
			if !errors.As(err, &syntax) {
				t.Errorf("%s(%.40q) = %q, %v; want a SyntaxError", name, c.src, got, err)
				continue
			}
			if syntax.Offset != c.offset {
				t.Errorf("%s(%.40q): %v; want byte %d", name, c.src, err, c.offset)
			}
			if string(got) != "before" {
				t.Errorf("%s(%.40q) left %q", name, c.src, got)
			}
		}
	}
}

func TestNestingUpToTheLimitIsTaken(t *testing.T) {
	deep := []byte(strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000))
	if _, err := dataset.Compact(nil, deep); err != nil {
		t.Error(err)
	}
}

func TestWideObjectsAreTaken(t *testing.T) {
	wide := []byte(manyMembers(5000, `"a"`, `"\ud800"`, `"\ud801"`))
	got, err := dataset.Compact(nil, wide)
	if err != nil || !bytes.Equal(got, wide) {
		t.Errorf("Compact: %v", err)
	}
}

// acceptable is what Compact has to accept, said with encoding/json.
func acceptable(src []byte) bool {
	return json.Valid(src) && utf8.Valid(src) && !repeats(src)
}

// repeats reports whether an object of the valid src has two members of one name.
// Names are compared without surrogates, of which encoding/json knows nothing.
func repeats(src []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	var open []map[string]bool // nil for arrays
	name := false
	for {
		tok, err := dec.Token()
		if err != nil {
			return err != io.EOF
		}
		top := func() map[string]bool {
			if len(open) == 0 {
				return nil
			}
			return open[len(open)-1]
		}
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '{':
				open, name = append(open, map[string]bool{}), true
				continue
			case '[':
				open, name = append(open, nil), false
				continue
			}
			open = open[:len(open)-1]
		case string:
			if name {
				if top()[tok] {
					return true
				}
				top()[tok], name = true, false
				continue
			}
		}
		name = top() != nil
	}
}

func FuzzCompact(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e-3,{"b":null}],"c":"\u00e9\n"}`, ` [ true , false ] `, `{"a":1,"\u0061":2}`, "\"\xff\"", `1e400`, `-0`, `{"x":{"y":{"z":[]}}}`, manyMembers(12), manyMembers(12, `"field3"`), `"0123456789é日本😀"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got, err := dataset.Compact(nil, src)
		if err == nil != acceptable(src) && !bytes.Contains(bytes.ToLower(src), []byte(`\ud`)) {
			t.Fatalf("Compact: %v; encoding/json says %v", err, acceptable(src))
		}
		canonical, cerr := dataset.Canonical(nil, src)
		if (err == nil) != (cerr == nil) {
			t.Fatalf("Compact: %v, Canonical: %v", err, cerr)
		}
		if err != nil {
			return
		}
		var want bytes.Buffer
		if err := json.Compact(&want, src); err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("Compact(%q) = %q; encoding/json makes it %q", src, got, want.Bytes())
		}
		again, err := dataset.Canonical(nil, canonical)
		if err != nil || !bytes.Equal(again, canonical) {
			t.Fatalf("canonical form of %q is not stable: %q, %v", canonical, again, err)
		}
		if len(canonical) != len(got) {
			t.Fatalf("canonical form %q of %q lost something", canonical, got)
		}
		checkFields(t, got)
	})
}

// checkFields fails unless Fields, Lookup and Omit agree about the valid value v.
func checkFields(t rapid.TB, v []byte) {
	isObject := dataset.CheckObject(v) == nil
	if isObject != (v[0] == '{') {
		t.Fatalf("CheckObject(%q) = %v", v, dataset.CheckObject(v))
	}
	if !isObject {
		return
	}
	rebuilt := []byte{'{'}
	for name, value := range dataset.Fields(v) {
		found, ok := dataset.Lookup(v, name)
		if !ok || !bytes.Equal(found, value) {
			t.Fatalf("Lookup(%q, %q) = %q, %v; want %q", v, name, found, ok, value)
		}
		without, n, err := dataset.Omit(nil, v, name)
		if err != nil || n != 1 {
			t.Fatalf("Omit(%q, %q) = %q, %d, %v", v, name, without, n, err)
		}
		if _, ok := dataset.Lookup(without, name); ok || dataset.CheckObject(without) != nil {
			t.Fatalf("Omit(%q, %q) = %q", v, name, without)
		}
		rebuilt = append(rebuilt, value...)
	}
	all, n, err := dataset.Omit(nil, v)
	if err != nil || n != 0 || !bytes.Equal(all, v) {
		t.Fatalf("Omit nothing of %q = %q, %d, %v", v, all, n, err)
	}
}

func TestFieldsYieldsRawValuesInOrder(t *testing.T) {
	obj := []byte(` { "b" : 1.10 , "a\u0020b" : [ 1, {"b":2} ] , "c" : null , "\ud800" : "x" } `)
	var got []string
	for name, value := range dataset.Fields(obj) {
		got = append(got, name+"="+string(value))
	}
	want := []string{"b=1.10", `a b=[ 1, {"b":2} ]`, "c=null", "\xed\xa0\x80=\"x\""}
	if !slices.Equal(got, want) {
		t.Errorf("Fields = %q; want %q", got, want)
	}
	if v, ok := dataset.Lookup(obj, "c"); !ok || string(v) != "null" {
		t.Errorf("Lookup of null = %q, %v", v, ok)
	}
	if v, ok := dataset.Lookup(obj, "d"); ok {
		t.Errorf("Lookup of nothing = %q", v)
	}
	for range dataset.Fields(obj) {
		break // a consumer may stop
	}
}

func TestOmitLeavesOutNamedMembers(t *testing.T) {
	obj := []byte(`{"a":1,"location":[{"pack":"x"}],"b":2,"c":{"location":3}}`)
	got, n, err := dataset.Omit(nil, obj, "location", "b", "nothing")
	if err != nil || n != 2 || string(got) != `{"a":1,"c":{"location":3}}` {
		t.Errorf("Omit = %s, %d, %v", got, n, err)
	}
	for _, bad := range []string{``, `[]`, `{"a":1`, `{"a":1}x`, `{"a"}`, `{"a":1,}`} {
		if got, _, err := dataset.Omit(nil, []byte(bad), "a"); err == nil {
			t.Errorf("Omit(%s) = %s", bad, got)
		}
		if dataset.CheckObject([]byte(bad)) == nil {
			t.Errorf("CheckObject(%s) is content", bad)
		}
	}
}

func benchRecords() map[string][]byte {
	wide := map[string]any{}
	for i := range 50 {
		wide[fmt.Sprintf("column_%02d", i)] = fmt.Sprintf("value number %d", i*i)
	}
	w, _ := json.Marshal(wide)
	text, _ := json.Marshal(map[string]any{"id": 1, "body": strings.Repeat("The quick brown fox jumps over the lazy dog. ", 100)})
	return map[string][]byte{
		"typical": []byte(`{"id": 10023, "case": "AB123456C", "opened": "2024-03-01T10:00:00Z", "amount": 1234.50, "closed": null, "notes": "Called back, no answer; will try again.", "tags": ["urgent", "review"], "address": {"line1": "1 High Street", "town": "Leeds", "postcode": "LS1 1AA"}}`),
		"wide":    w, "text": text,
	}
}

func BenchmarkCompact(b *testing.B)   { benchRewrite(b, dataset.Compact) }
func BenchmarkCanonical(b *testing.B) { benchRewrite(b, dataset.Canonical) }

func benchRewrite(b *testing.B, f func(dst, src []byte) ([]byte, error)) {
	records := benchRecords()
	for _, name := range slices.Sorted(maps.Keys(records)) {
		src := records[name]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				var err error
				if dst, err = f(dst[:0], src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
