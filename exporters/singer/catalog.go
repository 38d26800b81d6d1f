package singer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// A catalog is what a tap offers.
type catalog struct {
	raw     map[string]any // as the tap gave it, with numbers as they were written
	entries []catalogEntry
	streams []dataset.Stream // of the same places as entries, sorted by name
}

// A catalogEntry is one stream of a catalogue.
type catalogEntry struct {
	id          string         // tap_stream_id: unique
	name        string         // stream: what messages call it
	unsupported []string       // fields that the tap says it cannot read
	raw         map[string]any // its part of catalog.raw
}

// parseCatalog reads the answer to --discover.
func parseCatalog(raw []byte) (*catalog, error) {
	if err := dataset.CheckObject(raw); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	c := &catalog{}
	var err error
	if c.raw, err = decode(raw); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	list, ok := c.raw["streams"].([]any)
	if !ok {
		return nil, errors.New("catalogue: no list of streams")
	}
	var typed struct {
		Streams []struct {
			ID            string          `json:"tap_stream_id"`
			Name          string          `json:"stream"`
			Schema        json.RawMessage `json:"schema"`
			KeyProperties []string        `json:"key_properties"`
			Metadata      []struct {
				Breadcrumb []string
				Metadata   map[string]json.RawMessage
			} `json:"metadata"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(raw, &typed); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	for i, s := range typed.Streams {
		e := catalogEntry{id: s.ID, name: s.Name}
		if e.id == "" {
			e.id = e.name
		}
		if e.name == "" {
			e.name = e.id
		}
		if e.id == "" {
			return nil, fmt.Errorf("catalogue: stream %d has no name", i+1)
		}
		if e.raw, ok = list[i].(map[string]any); !ok {
			return nil, fmt.Errorf("catalogue: stream %q is no object", e.id)
		}
		key := s.KeyProperties
		for _, m := range s.Metadata {
			switch inclusion := string(m.Metadata["inclusion"]); {
			case len(m.Breadcrumb) == 0 && len(key) == 0:
				for _, name := range []string{"table-key-properties", "view-key-properties"} {
					if b := m.Metadata[name]; b != nil && len(key) == 0 {
						if err := json.Unmarshal(b, &key); err != nil {
							return nil, fmt.Errorf("catalogue: stream %q: %s: %w", e.id, name, err)
						}
					}
				}
			case inclusion == `"unsupported"`:
				e.unsupported = append(e.unsupported, strings.Join(m.Breadcrumb, "."))
			}
		}
		schema, err := convertSchema(s.Schema, key)
		if err != nil {
			return nil, fmt.Errorf("catalogue: stream %q: %w", e.id, err)
		}
		c.entries = append(c.entries, e)
		c.streams = append(c.streams, dataset.Stream{Name: e.id, Group: Group, Schema: schema, Keyless: len(key) == 0})
	}
	return c, c.sort()
}

// sort puts entries and streams in order of their names, which must be unique.
func (c *catalog) sort() error {
	slices.SortFunc(c.entries, func(a, b catalogEntry) int { return strings.Compare(a.id, b.id) })
	slices.SortFunc(c.streams, func(a, b dataset.Stream) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(c.entries); i++ {
		if c.entries[i].id == c.entries[i-1].id {
			return fmt.Errorf("catalogue: stream %q comes twice", c.entries[i].id)
		}
	}
	return nil
}

// selection returns the catalogue as the tap gave it, with the chosen streams selected in
// all the ways that taps look at: metadata, and for old ones the schema and the stream.
// Every field that the tap can read is selected.
func (c *catalog) selection(chosen map[string]bool) ([]byte, error) {
	for _, e := range c.entries {
		selectStream(e.raw, chosen[e.id])
	}
	b, err := encode(c.raw)
	if err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	return b, nil
}

func selectStream(s map[string]any, selected bool) {
	s["selected"] = selected
	schema, _ := s["schema"].(map[string]any)
	if schema != nil {
		schema["selected"] = selected
	}
	list, _ := s["metadata"].([]any)
	mentioned := make(map[string]bool)
	top := false
	for _, x := range list {
		m, _ := x.(map[string]any)
		crumb, _ := m["breadcrumb"].([]any)
		md, _ := m["metadata"].(map[string]any)
		if m == nil || md == nil {
			continue
		}
		if len(crumb) == 0 {
			top = true
			selectTop(md, selected)
			continue
		}
		if len(crumb) == 2 && crumb[0] == "properties" {
			if name, ok := crumb[1].(string); ok {
				mentioned[name] = true
			}
		}
		md["selected"] = selected && md["inclusion"] != "unsupported"
	}
	if !top {
		md := make(map[string]any)
		selectTop(md, selected)
		list = append(list, map[string]any{"breadcrumb": []any{}, "metadata": md})
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, x := range properties {
		if p, ok := x.(map[string]any); ok && selected && p["inclusion"] != "unsupported" {
			p["selected"] = true
		}
		if !mentioned[name] {
			list = append(list, map[string]any{"breadcrumb": []any{"properties", name}, "metadata": map[string]any{"selected": selected}})
		}
	}
	s["metadata"] = list
}

// selectTop selects a stream in its own metadata, to be replicated in full where the tap
// leaves the choice.
func selectTop(md map[string]any, selected bool) {
	md["selected"] = selected
	if selected && md["forced-replication-method"] == nil {
		md["replication-method"] = "FULL_TABLE"
	}
}

// find returns the place of the stream that a message calls name: its tap_stream_id, or
// its name if only one has it; -1 if there is none.
func (c *catalog) find(name string) int {
	found := -1
	for i, e := range c.entries {
		switch {
		case e.id == name:
			return i
		case e.name == name && found >= 0:
			found = -2
		case e.name == name && found == -1:
			found = i
		}
	}
	return max(found, -1)
}
