package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
	"github.com/dwp/sallyport/internal/spool"
)

// A reader turns the items of one Read into records.
type reader struct {
	v              *view
	st             *stream
	records, files bool
	seen           *spool.Repeats
	yield          func(dataset.Record) error
	buf, canon     []byte
}

// gap yields a gap under an identity that nothing else has: the first record of a key
// that came twice has ordinal 0, and gaps of one slice are counted.
func (r *reader) gap(g dataset.Gap) error {
	g.Stream = r.st.name
	taken, err := r.seen.Count("gap " + g.Key)
	if err != nil {
		return err
	}
	g.Ordinal = taken
	if g.Code == dataset.DuplicateKey {
		g.Ordinal++
	}
	g.Detail = r.v.secrets.clean(g.Detail)
	return r.yield(dataset.Record{Stream: r.st.name, Key: g.Key, Ordinal: g.Ordinal, Gap: &g})
}

// maxRecord is the largest record that an archive takes.
const maxRecord = 30 << 20

func (r *reader) item(ctx context.Context, it item) error {
	if it.gap != nil {
		return r.gap(*it.gap)
	}
	raw := it.raw.(*jinja.Dict)
	if raw.Duplicate != "" {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: fmt.Sprintf("the record has the member %q twice", raw.Duplicate)})
	}
	data, err := r.data(it)
	if err != nil {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: err.Error()})
	}
	if len(data) > maxRecord {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.TooLarge, Detail: fmt.Sprintf("the record has %d bytes", len(data))})
	}
	if r.canon, err = dataset.Canonical(r.canon[:0], data); err != nil {
		return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: err.Error()})
	}
	if r.st.schema != nil {
		r.v.facts.compare(r.st.name, r.st.schema, it.out)
	}
	rec := dataset.Record{Stream: r.st.name, Data: data}
	if len(r.st.key) == 0 {
		rec.Key = dataset.KeylessKey(r.canon)
		if rec.Ordinal, err = r.seen.Count(rec.Key); err != nil {
			return err
		}
	} else {
		if rec.Key, err = r.st.keyOf(it); err != nil {
			return r.gap(dataset.Gap{Key: it.label(), Code: dataset.Malformed, Detail: err.Error()})
		}
		before, same, err := r.seen.Record(rec.Key, r.canon)
		switch {
		case err != nil:
			return err
		case same:
			r.v.facts.repeat(r.st.name)
			return nil
		case before:
			return r.gap(dataset.Gap{Key: rec.Key, Code: dataset.DuplicateKey, Detail: "two records of this key differ"})
		}
	}
	if r.records {
		if err := r.yield(rec); err != nil {
			return err
		}
	}
	if r.files {
		return r.v.attachments[r.st.name].each(ctx, r.v, r.st, it, rec.Key, rec.Ordinal, r.yield)
	}
	return nil
}

// data makes the JSON of a record: as received, with the partition it is of as its
// last member; or as transformed; or both.
func (r *reader) data(it item) (json.RawMessage, error) {
	var partition []byte
	var err error
	if r.st.router != nil {
		if partition, err = it.part.json(); err != nil {
			return nil, err
		}
	}
	raw := it.raw.(*jinja.Dict).Raw
	if raw == nil { // not from JSON
		if raw, err = jinja.AppendJSON(nil, it.raw); err != nil {
			return nil, err
		}
	}
	if raw, err = dataset.Compact(r.buf[:0], raw); err != nil {
		return nil, err
	}
	r.buf = raw
	with := func(b []byte) ([]byte, error) {
		if partition == nil {
			return b, nil
		}
		if it.raw.(*jinja.Dict).Has(partitionMember) {
			return nil, fmt.Errorf("the record has a member %s of its own", partitionMember)
		}
		b = b[:len(b)-1]
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, `"`+partitionMember+`":`...)
		return append(append(b, partition...), '}'), nil
	}
	if r.v.records == "raw" {
		return with(raw)
	}
	out, err := jinja.AppendJSON(nil, it.out)
	if err != nil {
		return nil, err
	}
	if out, err = dataset.Compact(nil, out); err != nil {
		return nil, err
	}
	if r.v.records == "transformed" {
		return with(out)
	}
	b := append(append(append([]byte(`{"raw":`), raw...), `,"transformed":`...), out...)
	return with(append(b, '}'))
}

// json is the partition as compact JSON with the lexemes of the parent's record.
func (p part) json() ([]byte, error) {
	d := p.partition
	if d == nil {
		d = new(jinja.Dict)
	}
	return jinja.AppendJSON(nil, trimmed(d))
}

// trimmed leaves out empty parent slices.
func trimmed(d *jinja.Dict) *jinja.Dict {
	out := new(jinja.Dict)
	for i := range d.Len() {
		k, v := d.At(i)
		if up, ok := v.(*jinja.Dict); ok && k == "parent_slice" {
			if up.Len() == 0 {
				continue
			}
			v = trimmed(up)
		}
		out.Set(k, v)
	}
	return out
}

// keyOf makes the key of a record from the transformed record, for the manifest's
// primary key is of that.
func (st *stream) keyOf(it item) (string, error) {
	var vals []json.RawMessage
	for _, path := range st.key {
		found := find(it.out, path)
		if len(found) != 1 || found[0].val == nil {
			return "", fmt.Errorf("the record has no %s, which is of its primary key", strings.Join(path, "."))
		}
		b, err := jinja.AppendJSON(nil, found[0].val)
		if err != nil {
			return "", err
		}
		vals = append(vals, b)
	}
	if st.router != nil {
		b, err := it.part.json()
		if err != nil {
			return "", err
		}
		vals = append(vals, b)
	}
	return dataset.Key(vals)
}
