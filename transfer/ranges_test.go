package transfer

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/dwp/sallyport/dataset"
)

func TestAStreamIsCutAsBeforeAsLongAsThatIsOfUse(t *testing.T) {
	t.Parallel()
	keyed := func(typ dataset.Type) dataset.Stream {
		return dataset.Stream{Name: "t", Schema: &dataset.Schema{PrimaryKey: []string{"id"}, Fields: []dataset.Field{{Name: "id", Type: typ}}}}
	}
	ranges := func(border string) []dataset.Range { return []dataset.Range{{UpTo: border}, {After: border}} }
	sinks := func(counts ...int64) (all []*sink) {
		for _, n := range counts {
			all = append(all, &sink{records: n})
		}
		return all
	}
	s := keyed(dataset.Integer)
	note := cutNow(s, ranges("[5]"), sinks(60, 40))
	keyless := s
	keyless.Keyless = true
	three := []dataset.Range{{UpTo: "[1]"}, {After: "[1]", UpTo: "[2]"}, {After: "[2]"}}
	for name, c := range map[string]struct {
		note   json.RawMessage
		stream dataset.Stream
		fresh  []dataset.Range
		before bool
	}{
		"the same stream":              {note, s, ranges("[7]"), true},
		"nothing remembered":           {nil, s, ranges("[7]"), false},
		"something else remembered":    {json.RawMessage(`[]`), s, ranges("[7]"), false},
		"a key of another type":        {note, keyed(dataset.String), ranges("[7]"), false},
		"keyless now":                  {note, keyless, ranges("[7]"), false},
		"not to be cut any more":       {note, s, []dataset.Range{{}}, false},
		"more ranges":                  {note, s, three, false},
		"one range has outgrown":       {cutNow(s, three, sinks(1, 1, 10)), s, []dataset.Range{{UpTo: "[3]"}, {After: "[3]", UpTo: "[4]"}, {After: "[4]"}}, false},
		"a table that was empty":       {cutNow(s, ranges("[5]"), sinks(0, 0)), s, ranges("[7]"), true},
		"was not cut, and is cut now":  {cutNow(s, []dataset.Range{{}}, sinks(9)), s, ranges("[7]"), false},
		"was keyless, so no one knows": {cutNow(keyless, ranges("[5]"), sinks(1, 1)), s, ranges("[7]"), false},
	} {
		if got := asBefore(c.note, c.stream, c.fresh); slices.Equal(got, c.fresh) == c.before {
			t.Errorf("%s: ranges %v; want those of before: %t", name, got, c.before)
		}
	}
}
