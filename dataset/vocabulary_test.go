package dataset_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

func TestErrorsSayWhere(t *testing.T) {
	table := newTable(t, typed.Schema)
	_, _, column := table.Row(nil, []byte(`{"na\u001bme":1}`))
	_, lone := dataset.Compact(nil, []byte("{\"\x1b\":1}"))
	_, twice := dataset.Compact(nil, []byte(`{"\u202e":1,"\u202e":2}`))
	_, line := readLines(strings.NewReader("a\n\n"), 10)
	_, _, row := readCSV(strings.NewReader("\"a\"\n\"1\"\n2\n"), 10)
	_, _, cells := readCSV(strings.NewReader("\"a\",\"b\"\n\"1\"\n"), 10)
	for _, c := range []struct {
		err  error
		want string
	}{
		{column, `column "na\x1bme": is not in the schema`},
		{lone, "byte 2: control character inside a string"},
		{twice, `byte 12: second member called "\u202e"`},
		{line, "line 2: line is empty"},
		{row, "csv row 2, column 1: a value without quotes"},
		{cells, "csv row 1: has 1 cells, not 2"},
		{&dataset.Gap{Stream: "s", Code: dataset.Denied}, `stream "s": denied`},
		{&dataset.Gap{Stream: "s", Code: dataset.Denied, Detail: "why"}, `stream "s": denied: why`},
		{&dataset.Gap{Stream: "s", Key: "k\n", Code: dataset.Denied}, `"k\n" in stream "s": denied`},
		{&dataset.Gap{Stream: "s", Key: "k", Code: dataset.Denied, Detail: "why"}, `"k" in stream "s": denied: why`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("error %v; want %s", c.err, c.want)
		}
	}
	_, _, surrogate := table.Row(nil, []byte(`{"name":"\ud800"}`))
	if !errors.Is(surrogate, dataset.ErrSurrogate) {
		t.Errorf("%v does not tell its cause", surrogate)
	}
}

func TestTextFormsAreExact(t *testing.T) {
	hash, key, blind := dataset.Sum([]byte("x")), dataset.PartKey{0xab}, dataset.Blind{0xcd}
	doc := fmt.Appendf(nil, `["%s","ab%s","cd%s"]`, hash, strings.Repeat("0", 62), strings.Repeat("0", 30))
	if got, err := json.Marshal([]any{hash, key, blind}); err != nil || string(got) != string(doc) {
		t.Errorf("text forms are %s, %v", got, err)
	}
	var h dataset.Hash
	var k dataset.PartKey
	var b dataset.Blind
	if err := json.Unmarshal(doc, &[]any{&h, &k, &b}); err != nil || h != hash || k != key || b != blind {
		t.Errorf("came back as %v %v %v, %v", h, k, b, err)
	}
	for _, bad := range []string{"", "0", "00", "AB", "zz", strings.Repeat("0", 31), strings.Repeat("A", 32), strings.Repeat("A", 64), strings.Repeat("0", 66), strings.Repeat("0", 63) + "g"} {
		if h.UnmarshalText([]byte(bad)) == nil || k.UnmarshalText([]byte(bad)) == nil || b.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if h != hash || k != key || b != blind {
		t.Error("a refused text changed its target")
	}
	if !(dataset.Hash{}).IsZero() || h.IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestKeylessKeysAreHashesOfTheCanonicalForm(t *testing.T) {
	a, err := dataset.Canonical(nil, []byte(`{"b":1,"a":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := dataset.KeylessKey(a); got != dataset.Sum([]byte(`{"a":2,"b":1}`)).String() {
		t.Errorf("KeylessKey = %s", got)
	}
}

func TestIDsAreDifferentAndWellFormed(t *testing.T) {
	form := regexp.MustCompile(`^[a-z2-7]{26}$`)
	a, b := dataset.NewID(), dataset.NewID()
	if a == b || !form.MatchString(string(a)) || !form.MatchString(string(b)) {
		t.Errorf("IDs %s and %s", a, b)
	}
}

func TestCodesAreClosedAndDifferent(t *testing.T) {
	sorted := slices.Sorted(slices.Values(dataset.Codes))
	if len(slices.Compact(sorted)) != len(dataset.Codes) {
		t.Error("a code is listed twice")
	}
	form := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, c := range dataset.Codes {
		if !form.MatchString(string(c)) {
			t.Errorf("code %q is not in the form of codes", c)
		}
	}
}
