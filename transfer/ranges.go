package transfer

import (
	"encoding/json"
	"slices"

	"github.com/dwp/sallyport/dataset"
)

// A cut is how a stream was cut into ranges that were read in parallel. Each range has
// parts of its own, so if a growing table were cut elsewhere each time, parts around
// every border would be new although nothing in them changed.
type cut struct {
	Key     []string        `json:"key"` // names and types of the key's fields, which the borders are values of
	Ranges  []dataset.Range `json:"ranges"`
	Records []int64         `json:"records"` // in each
}

// asBefore returns the ranges of the last export, if they are still of use: as many as
// fresh, of the same key, and none with more than twice its share of the records.
func asBefore(note json.RawMessage, s dataset.Stream, fresh []dataset.Range) []dataset.Range {
	var c cut
	if len(fresh) < 2 || s.Keyless || json.Unmarshal(note, &c) != nil {
		return fresh
	}
	var all int64
	for _, n := range c.Records {
		all += n
	}
	n := len(fresh)
	if len(c.Ranges) != n || len(c.Records) != n || !slices.Equal(c.Key, keyTypes(s)) || slices.Max(c.Records) > 2*all/int64(n) {
		return fresh
	}
	return c.Ranges
}

// cutNow says how a stream was cut, for the next export. It is nil if it was not.
func cutNow(s dataset.Stream, rs []dataset.Range, sinks []*sink) json.RawMessage {
	if len(rs) < 2 || s.Keyless {
		return nil
	}
	c := cut{Key: keyTypes(s), Ranges: rs}
	for _, k := range sinks {
		c.Records = append(c.Records, k.records)
	}
	note, err := dataset.EncodeJSON(c)
	if err != nil {
		return nil // a border that is no text: the next export is cut anew
	}
	return note
}

func keyTypes(s dataset.Stream) []string {
	var types []string
	if s.Schema == nil {
		return types
	}
	for _, name := range s.Schema.PrimaryKey {
		for _, f := range s.Schema.Fields {
			if f.Name == name {
				types = append(types, f.Name, string(f.Type), f.Native)
			}
		}
	}
	return types
}
