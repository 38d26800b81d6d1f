package dataset_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
)

var typed = dataset.Stream{
	Name:     "cases",
	Volatile: []string{"etag", "owner"},
	Schema: &dataset.Schema{Fields: []dataset.Field{
		{Name: "id", Type: dataset.Integer},
		{Name: "amount", Type: dataset.Number},
		{Name: "exact", Type: dataset.Number, Lexical: dataset.Text},
		{Name: "name", Type: dataset.String},
		{Name: "blob", Type: dataset.String, Lexical: dataset.Base64},
		{Name: "when", Type: dataset.Datetime},
		{Name: "open", Type: dataset.Boolean},
		{Name: "doc", Type: dataset.Object},
		{Name: "list", Type: dataset.Array},
		{Name: "any", Type: dataset.AnyType},
	}},
}

func TestRecordsAreComparedByWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"id":1,"name":"x"}`, `{ "name":"x", "id":1 }`, true},
		{`{"id":1}`, `{"id":2}`, false},
		{`{"id":1}`, `{"id":"1"}`, false},
		{`{"amount":1.10}`, `{"amount":1.1}`, true},
		{`{"amount":1e400}`, `{"amount":10E+399}`, true},
		{`{"amount":1.1}`, `{"amount":1.2}`, false},
		{`{"exact":"1.10"}`, `{"exact":"1.1"}`, true},
		{`{"exact":"NaN"}`, `{"exact":"NaN"}`, true},
		{`{"exact":"NaN"}`, `{"exact":"Infinity"}`, false},
		{`{"exact":"1"}`, `{"exact":1}`, false},
		{`{"name":"1.10"}`, `{"name":"1.1"}`, false},
		{`{"name":"caf\u00e9\/"}`, `{"name":"café/"}`, true},
		{`{"name":"\ud800"}`, `{"name":"\ud801"}`, false},
		{`{"name":"\ud800"}`, `{"name":"\ufffd"}`, false},
		{`{"name":""}`, `{"name":null}`, false},
		{`{"name":null}`, `{}`, false},
		{`{"unknown":1.0}`, `{"unknown":1}`, false},
		{`{"doc":{"a":1,"b":2}}`, `{"doc":{"b":2,"a":1}}`, true},
		{`{"doc":{"a":1.0}}`, `{"doc":{"a":1}}`, false},
		{`{"list":[1,2]}`, `{"list":[2,1]}`, false},
		{`{"any":1.0}`, `{"any":1}`, false},
		{`{"id":1,"etag":"x"}`, `{"id":1,"etag":"y"}`, true},
		{`{"id":1,"owner":{"a":[]}}`, `{"id":1}`, true},
		{`{"doc":{"etag":1}}`, `{"doc":{"etag":2}}`, false},
	} {
		cmp := dataset.NewComparer([32]byte{1}, typed)
		a, _, err := cmp.Value([]byte(c.a), dataset.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := cmp.Value([]byte(c.b), dataset.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		if (a == b) != c.same {
			t.Errorf("%s and %s are equal: %v", c.a, c.b, a == b)
		}
		diffs, total, err := cmp.Diff([]byte(c.a), []byte(c.b), 10)
		if err != nil || (total == 0) != c.same || len(diffs) != total {
			t.Errorf("%s and %s: %d diffs %v, %v", c.a, c.b, total, diffs, err)
		}
	}
}

func TestFingerprintsDependOnEverythingThatCounts(t *testing.T) {
	seen := make(map[dataset.Hash]string)
	add := func(what string, h dataset.Hash) {
		if other, ok := seen[h]; ok {
			t.Errorf("%s and %s have one fingerprint", what, other)
		}
		seen[h] = what
	}
	for _, key := range [][32]byte{{1}, {2}} {
		for _, stream := range []string{"", "a", "ab"} {
			c := dataset.NewComparer(key, dataset.Stream{Name: stream})
			for _, k := range []string{"", "a", "b", "ab", "{}"} {
				for _, ordinal := range []int{0, 1, 256} {
					add(fmt.Sprint("id ", key[0], stream, "/", k, "/", ordinal), c.ID(k, ordinal))
				}
			}
		}
		c := dataset.NewComparer(key, dataset.Stream{Name: "a"})
		for _, data := range []string{`{}`, `{"a":1}`} {
			for _, blob := range []dataset.Hash{{}, {1}} {
				h, _, err := c.Value([]byte(data), blob)
				if err != nil {
					t.Fatal(err)
				}
				add(fmt.Sprint("value ", key[0], data, blob), h)
			}
		}
	}
}

func TestWithheldFieldsAreCounted(t *testing.T) {
	c := dataset.NewComparer([32]byte{}, typed)
	for data, want := range map[string]int{`{}`: 0, `{"id":1}`: 0, `{"etag":1}`: 1, `{"owner":2,"id":1,"etag":1,"doc":{"etag":1}}`: 2} {
		if _, n, err := c.Value([]byte(data), dataset.Hash{}); err != nil || n != want {
			t.Errorf("%s: %d withheld, %v; want %d", data, n, err, want)
		}
	}
	form, n, err := c.Form([]byte("x"), []byte(`{"owner":2,"id":1.0,"etag":1,"any":1.0}`))
	if err != nil || n != 2 || string(form) != `x{"any":1.0,"id":1e0}` {
		t.Errorf("Form = %s, %d, %v", form, n, err)
	}
}

func TestMalformedRecordsHaveNoFingerprint(t *testing.T) {
	c := dataset.NewComparer([32]byte{}, typed)
	for _, bad := range []string{``, `[]`, `1`, `{"a":1,"a":2}`, `{"a":1}{}`, "{\"a\":\"\xff\"}"} {
		var syntax *dataset.SyntaxError
		if h, _, err := c.Value([]byte(bad), dataset.Hash{}); !errors.As(err, &syntax) || h != (dataset.Hash{}) {
			t.Errorf("Value(%q) = %v, %v", bad, h, err)
		}
		if d, _, err := c.Diff([]byte(bad), []byte(`{}`), 1); !errors.As(err, &syntax) {
			t.Errorf("Diff(%q, {}) = %v, %v", bad, d, err)
		}
		if d, _, err := c.Diff([]byte(`{}`), []byte(bad), 1); !errors.As(err, &syntax) {
			t.Errorf("Diff({}, %q) = %v, %v", bad, d, err)
		}
	}
}

func TestDiffNamesEveryPlace(t *testing.T) {
	c := dataset.NewComparer([32]byte{}, typed)
	a := `{"id":1,"amount":1.10,"name":"a","etag":1,"doc":{"x":[1,{"y":2}],"same":[],"a/b~c":1},"gone":null,"list":[1,2]}`
	b := `{"list":[1,2,3],"id":1,"amount":1.20,"name":"b","etag":2,"doc":{"x":[1,{"y":3,"z":4}],"same":[],"a/b~c":{}},"new":{}}`
	diffs, total, err := c.Diff([]byte(a), []byte(b), 100)
	if err != nil || total != len(diffs) {
		t.Fatal(total, err)
	}
	var got []string
	for _, d := range diffs {
		got = append(got, fmt.Sprintf("%s %s %s", d.Path, d.A, d.B))
	}
	want := []string{"/amount 1.10 1.20", "/doc/a~1b~0c 1 {}", "/doc/x/1/y 2 3", "/doc/x/1/z  4", "/gone null ", "/list/2  3", `/name "a" "b"`, "/new  {}"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("Diff =\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	few, total, err := c.Diff([]byte(a), []byte(b), 3)
	if err != nil || total != len(want) || len(few) != 3 || few[2].Path != diffs[2].Path {
		t.Errorf("of %d diffs came %v, %v", total, few, err)
	}
}

func TestDiffOfDeepRecordsEnds(t *testing.T) {
	deep := func(leaf string) []byte {
		return []byte(strings.Repeat(`{"a":[`, 4000) + leaf + strings.Repeat(`]}`, 4000))
	}
	c := dataset.NewComparer([32]byte{}, dataset.Stream{})
	diffs, total, err := c.Diff(deep("1"), deep("2"), 5)
	if err != nil || total != 1 || !strings.HasPrefix(diffs[0].Path, "/a/0/a/0/") {
		t.Errorf("%d diffs, %v", total, err)
	}
}

// anyJSON draws a JSON value.
func anyJSON(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Just(any(nil)), rapid.Bool().AsAny(), rapid.StringN(0, 5, 20).AsAny(),
		rapid.Map(rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,2})?([eE][+-]?[0-9])?`), func(s string) any { return json.Number(s) }),
	)
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return anyJSON(depth - 1) }), 0, 3).AsAny(),
		rapid.MapOfN(rapid.SampledFrom([]string{"id", "amount", "name", "doc", "etag", "x", ""}), rapid.Deferred(func() *rapid.Generator[any] { return anyJSON(depth - 1) }), 0, 4).AsAny())
}

func drawObject(t *rapid.T, label string) []byte {
	m := rapid.MapOfN(rapid.SampledFrom([]string{"id", "amount", "exact", "name", "doc", "etag", "x"}), anyJSON(2), 0, 5).Draw(t, label)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDiffAndFingerprintAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawObject(t, "a"), drawObject(t, "b")
		c := dataset.NewComparer([32]byte{7}, typed)
		x, _, err := c.Value(a, dataset.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		y, _, err := c.Value(b, dataset.Hash{})
		if err != nil {
			t.Fatal(err)
		}
		diffs, total, err := c.Diff(a, b, 1000)
		if err != nil || (x == y) != (total == 0) {
			t.Fatalf("%s and %s: equal %v, diffs %v, %v", a, b, x == y, diffs, err)
		}
	})
}

func BenchmarkFingerprint(b *testing.B) {
	data := benchRecords()["typical"]
	c := dataset.NewComparer([32]byte{}, typed)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		c.ID("[10023]", 0)
		if _, _, err := c.Value(data, dataset.Hash{}); err != nil {
			b.Fatal(err)
		}
	}
}
