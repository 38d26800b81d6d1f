package dataset_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/keys"
)

func TestQuoteAndUnquoteAreInverses(t *testing.T) {
	for _, k := range append(keys.Awkward(), "") {
		q, err := dataset.Quote([]byte("x"), k)
		if !utf8.ValidString(k) {
			if !errors.Is(err, dataset.ErrNotUTF8) || string(q) != "x" {
				t.Errorf("Quote(%q) = %q, %v", k, q, err)
			}
			continue
		}
		var std string
		if err != nil || json.Unmarshal(q[1:], &std) != nil || std != k {
			t.Errorf("Quote(%q) = %q, %v", k, q, err)
		}
		if back, err := dataset.Unquote(q[1:]); err != nil || back != k {
			t.Errorf("Unquote(%q) = %q, %v", q[1:], back, err)
		}
	}
}

func TestUnquoteRefusesWhatHasNoText(t *testing.T) {
	for _, s := range []string{`"\ud800"`, `"\udc00\ud800"`, `"\ud800x"`, `"\ud800\n"`, `"\ud83d\u0041"`} {
		if got, err := dataset.Unquote([]byte(s)); !errors.Is(err, dataset.ErrSurrogate) {
			t.Errorf("Unquote(%s) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{``, `"`, `a`, `"a`, `"a"b`, ` "a"`, `"a" `, "\"\xff\"", "\"\n\"", `"\x"`, `1`} {
		var syntax *dataset.SyntaxError
		if got, err := dataset.Unquote([]byte(s)); !errors.As(err, &syntax) {
			t.Errorf("Unquote(%s) = %q, %v", s, got, err)
		}
	}
	if got, err := dataset.Unquote([]byte(`"\u00e9\ud83d\ude00\/\\\"\b\f\n\r\t\u0000"`)); err != nil || got != "é😀/\\\"\b\f\n\r\t\x00" {
		t.Errorf("Unquote = %q, %v", got, err)
	}
}

func TestTextThatIsNotUTF8TravelsAsBase64(t *testing.T) {
	for _, k := range append(keys.Awkward(), "") {
		obj := append(dataset.AppendText([]byte(`{"x":1,`), "key", k), '}')
		if err := dataset.CheckObject(obj); err != nil {
			t.Errorf("%q: %v", obj, err)
		}
		if coded := bytes.Contains(obj, []byte(`"key_b64"`)); coded == utf8.ValidString(k) {
			t.Errorf("%q became %s", k, obj)
		}
		got, ok, err := dataset.TextField(obj, "key")
		if !ok || err != nil || got != k {
			t.Errorf("TextField(%s) = %q, %v, %v; want %q", obj, got, ok, err, k)
		}
	}
	if got, ok, err := dataset.TextField([]byte(`{"a":1}`), "key"); ok || err != nil {
		t.Errorf("TextField of nothing = %q, %v, %v", got, ok, err)
	}
	for _, obj := range []string{`{"key":"a","key_b64":"/w=="}`, `{"key":1}`, `{"key":null}`, `{"key":"\ud800"}`, `{"key_b64":"YQ=="}`, `{"key_b64":"/w"}`, `{"key_b64":"/x=="}`, `{"key_b64":"/w==\n"}`, `{"key_b64":[]}`, `{"key_b64":""}`} {
		if got, ok, err := dataset.TextField([]byte(obj), "key"); err == nil {
			t.Errorf("TextField(%s) = %q, %v", obj, got, ok)
		}
	}
}

func raws(values ...string) []json.RawMessage {
	var raw []json.RawMessage
	for _, v := range values {
		raw = append(raw, json.RawMessage(v))
	}
	return raw
}

func TestKeyIsTheCompactArrayOfValues(t *testing.T) {
	for _, c := range []struct {
		values []json.RawMessage
		want   string
	}{
		{raws(`1`), `[1]`},
		{raws(`1.10`, ` "a" `, `null`, `true`), `[1.10,"a",null,true]`},
		{raws(`"caf\u00e9\/x"`), `["café/x"]`},
		{raws(`"\ud800\u0041"`), `["\ud800\u0041"]`},
		{raws(`{"b": "\u0041"}`), `[{"b":"A"}]`},
		{nil, `[]`},
	} {
		if got, err := dataset.Key(c.values); err != nil || got != c.want {
			t.Errorf("Key(%s) = %s, %v; want %s", c.values, got, err, c.want)
		}
	}
	for _, bad := range [][]json.RawMessage{raws(``), {nil}, raws(`1`, `x`), raws(`1,2`)} {
		if got, err := dataset.Key(bad); err == nil {
			t.Errorf("Key(%q) = %s", bad, got)
		}
	}
}

func TestNumbersAreComparedByDecimalValue(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1", "1", true}, {"1.10", "1.1", true}, {"1", "1.0000000000000000000000000000000000000001", false},
		{"1e400", "1E+400", true}, {"10e399", "1e400", true}, {"1e400", "1e401", false}, {"0.001e3", "1", true},
		{"-0", "0", true}, {"-0.0e99999999999999999999999999", "0", true}, {"-1", "1", false},
		{"9007199254740993", "9007199254740992", false}, {"12345678901234567890123456789012345678", "12345678901234567890123456789012345678.0", true},
		{"1e99999999999999999999999999999999", "10e99999999999999999999999999999998", true},
		{"1e-99999999999999999999999999999999", "1e99999999999999999999999999999999", false},
		{"1e0000000000000000000000000005", "100000", true}, {"100", "1e2", true}, {"1e999999999999999999", "10e999999999999999998", true},
		{"1", "x", false}, {"x", "x", false}, {"01", "1", false}, {"", "", false}, {" 1", "1", false}, {"NaN", "NaN", false}, {"1", "1 ", false},
	} {
		if got := dataset.EqualNumber(c.a, c.b); got != c.want {
			t.Errorf("EqualNumber(%s, %s) = %v", c.a, c.b, got)
		}
		if got := dataset.EqualNumber(c.b, c.a); got != c.want {
			t.Errorf("EqualNumber(%s, %s) = %v", c.b, c.a, got)
		}
	}
}

func TestDecimalValueAgreesWithRationals(t *testing.T) {
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		if got, want := dataset.EqualNumber(a, b), x.Cmp(y) == 0; got != want {
			t.Fatalf("EqualNumber(%s, %s) = %v", a, b, got)
		}
		v, ok := dataset.DecimalValue(a)
		if z, _ := new(big.Rat).SetString(v); !ok || z.Cmp(x) != 0 {
			t.Fatalf("DecimalValue(%s) = %s, %v", a, v, ok)
		}
		if w, ok := dataset.DecimalValue(v); !ok || w != v {
			t.Fatalf("DecimalValue(%s) = %s", v, w)
		}
	})
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"1.10", "-0e5", "1e999999999999999999999", "0.00100", "12e-3", "00", "1.", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := dataset.DecimalValue(s)
		isNumber := json.Valid([]byte(s)) && s != "" && strings.Trim(s, "-0123456789.eE+") == ""
		if ok != isNumber {
			t.Errorf("DecimalValue(%q) = %q, %v", s, v, ok)
		}
		if ok && !dataset.EqualNumber(v, s) {
			t.Errorf("%s and its value %s differ", s, v)
		}
	})
}

func readLines(r io.Reader, max int) (lines []string, err error) {
	for line, err := range dataset.Lines(r, max) {
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line))
	}
	return lines, nil
}

func TestLinesYieldsWhatLFsEnd(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for _, want := range [][]string{nil, {"{}"}, {"a", "b", "c"}, {long}, {"a", long, long[1:], "b", long[:65536], long[:65535], long[:65537], "c"}} {
		file := strings.Join(append(slices.Clone(want), ""), "\n")
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(file), "halves": iotest.HalfReader(strings.NewReader(file)), "EOF with data": iotest.DataErrReader(strings.NewReader(file))} {
			if got, err := readLines(r, len(long)); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s of %.20q: %d lines, %v; want %d", name, file, len(got), err, len(want))
			}
		}
	}
}

func TestLinesRefusesWhatWeDoNotWrite(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		r    io.Reader
		line int64
		is   error
	}{
		{"no LF at the end", strings.NewReader("a\nb"), 2, nil},
		{"an empty line", strings.NewReader("a\n\nb\n"), 2, nil},
		{"only an LF", strings.NewReader("\n"), 1, nil},
		{"CRLF", strings.NewReader("a\r\n"), 1, nil},
		{"CR inside", strings.NewReader("a\nb\nc\rd\n"), 3, nil},
		{"a line too long", strings.NewReader("12345678\n123456789\n"), 2, dataset.ErrLineTooLong},
		{"a line much too long", strings.NewReader(strings.Repeat("x", 1<<20)), 1, dataset.ErrLineTooLong},
		{"a failing reader", io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), 2, broken},
	} {
		_, err := readLines(c.r, 8)
		var line *dataset.LineError
		if !errors.As(err, &line) || line.Line != c.line || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v; want an error in line %d", c.name, err, c.line)
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "a\n", "a\nb\n", "a", "\n", "a\r\n", "a\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		lines, err := readLines(bytes.NewReader(file), 100)
		if err == nil && strings.Join(append(lines, ""), "\n") != string(file) {
			t.Errorf("lines of %q are %q", file, lines)
		}
		proper := len(file) == 0 || file[len(file)-1] == '\n' && file[0] != '\n' && !bytes.Contains(file, []byte("\n\n")) && !bytes.ContainsRune(file, '\r')
		for _, l := range bytes.Split(file, []byte("\n")) {
			proper = proper && len(l) <= 100
		}
		if proper != (err == nil) {
			t.Errorf("lines of %q: %v", file, err)
		}
	})
}

func BenchmarkLines(b *testing.B) {
	file := bytes.Repeat([]byte(strings.Repeat("x", 300)+"\n"), 10_000)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := countLines(bytes.NewReader(file)); err != nil {
			b.Fatal(err)
		}
	}
}

func countLines(r io.Reader) (n int, err error) {
	for _, err := range dataset.Lines(r, 1<<20) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestPlainTextIsWhatNeedsNoEscape(t *testing.T) {
	for n := range 20 {
		text := bytes.Repeat([]byte("a~ "), 7)[:n]
		if !dataset.IsPlain(text) {
			t.Errorf("%q is not plain", text)
		}
		for i := range text {
			for c := range 256 {
				text[i] = byte(c)
				quoted, err := dataset.Quote(nil, string(text))
				want := err == nil && len(quoted) == n+2 && c < utf8.RuneSelf
				if got := dataset.IsPlain(text); got != want {
					t.Fatalf("IsPlain(%q) = %v", text, got)
				}
			}
			text[i] = 'a'
		}
	}
}

func FuzzText(f *testing.F) {
	for _, k := range keys.Awkward() {
		f.Add([]byte(k))
		f.Add(append(dataset.AppendText([]byte{'{'}, "key", k), '}'))
	}
	f.Add([]byte(`"\ud83d\ude00\ud800"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		obj := append(dataset.AppendText([]byte{'{'}, "key", string(b)), '}')
		if back, ok, err := dataset.TextField(obj, "key"); !ok || err != nil || back != string(b) {
			t.Errorf("%q became %s and then %q, %v, %v", b, obj, back, ok, err)
		}
		if s, err := dataset.Unquote(b); err == nil {
			var std string
			if !utf8.ValidString(s) || json.Unmarshal(b, &std) != nil || std != s {
				t.Errorf("Unquote(%q) = %q; encoding/json says %q", b, s, std)
			}
		}
		if key, err := dataset.Key([]json.RawMessage{b}); err == nil {
			if again, err := dataset.Key([]json.RawMessage{json.RawMessage(key[1 : len(key)-1])}); err != nil || again != key {
				t.Errorf("Key(%q) = %q, whose key is %q, %v", b, key, again, err)
			}
		}
		if dataset.CheckObject(b) == nil {
			dataset.TextField(b, "key") // must not panic
		}
	})
}
