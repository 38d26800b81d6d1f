package dir

import (
	"bytes"
	"testing"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/fixtures/keys"
)

func TestKeymapLinesCarryEveryKey(t *testing.T) {
	t.Parallel()
	for _, key := range append(keys.Awkward(), "") {
		want := entry{path: "objects/x", key: key, ordinal: 7, size: 9, sha256: dataset.Sum([]byte(key)), data: []byte(`{"a":1.0}`)}
		line, err := want.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("key %q takes more than a line", key)
		}
		got, err := parseEntry(line[:len(line)-1])
		if err != nil || got.key != key || got.path != want.path || got.ordinal != 7 || string(got.data) != `{"a":1.0}` {
			t.Errorf("key %q came back as %+v (%v)", key, got, err)
		}
	}
}

func FuzzKeymapLine(f *testing.F) {
	f.Add([]byte(`{"path":"objects/a","key":"a","ordinal":0,"size":1,"sha256":"x","data":{}}`))
	f.Add([]byte(`{"key_b64":"/w==","ordinal":1,"absent":["x"],"schema":{"fields":[]}}`))
	f.Add([]byte(`{"path":"../x","key":"a"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEntry(line)
		if err != nil {
			return
		}
		again, err := e.append(nil)
		if err != nil {
			t.Fatalf("%q was read and cannot be written: %v", line, err)
		}
		back, err := parseEntry(again[:len(again)-1])
		if err != nil || back.key != e.key || back.path != e.path || back.ordinal != e.ordinal {
			t.Fatalf("%q became %q (%v)", line, again, err)
		}
	})
}

func FuzzFold(f *testing.F) {
	f.Add("File")
	f.Add("a/B~FF")
	f.Fuzz(func(t *testing.T, key string) {
		name := dataset.SafePath(key)
		if got := unfold(fold(name)); got != name {
			t.Fatalf("%q became %q", name, got)
		}
	})
}
