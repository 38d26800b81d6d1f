package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// indexAbove is the number of entries from which a Dict keeps a hash index; below
// it a linear search is faster and small records stay small.
const indexAbove = 12

// A Dict is a Python dict: it keeps the order of insertion. The zero Dict is empty.
type Dict struct {
	// Raw is the JSON text the dict was parsed from, or nil if there is none or the
	// dict was modified since.
	Raw []byte

	// Duplicate is a key that the JSON text has twice ("" if none): the last one
	// counts, as in Python.
	Duplicate string

	// Fold makes texts as keys be found in any case, as names of headers are.
	Fold bool

	// Attrs are further attributes that a template reaches with a dot; they are no
	// items of the dict.
	Attrs *Dict

	keys, vals []Value
	index      map[any]int
	owned      bool
}

// A Set is a Python set of hashable values, in order of insertion.
type Set struct{ d *Dict }

// NewDict returns a dict of alternating keys and values.
func NewDict(kv ...Value) *Dict {
	d := new(Dict)
	for i := 0; i+1 < len(kv); i += 2 {
		d.Set(kv[i], kv[i+1])
	}
	return d
}

// hashable maps v to a comparable Go value such that Python-equal keys map to equal
// values. It fails for what Python cannot hash.
func hashable(v Value) (any, error) {
	switch v := resolve(v).(type) {
	case string:
		return v, nil
	case nil:
		return struct{}{}, nil
	case bool:
		n, _ := number(v)
		return n, nil
	case int64:
		return v, nil
	case *big.Int:
		return "int:" + v.String() + "\x00", nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<62 {
			return int64(v), nil
		}
		return v, nil
	case Tuple:
		var b strings.Builder
		for _, e := range v {
			h, err := hashable(e)
			if err != nil {
				return nil, err
			}
			part := Str(h) // with its type and length, so that parts cannot run into each other
			fmt.Fprintf(&b, "%T %d %s,", h, len(part), part)
		}
		return "tuple:" + b.String() + "\x00", nil
	case Bytes, TimeDelta, Duration:
		return v, nil
	case DateTime:
		return "datetime:" + v.t.UTC().String() + strconv.FormatBool(v.aware) + "\x00", nil
	case Date:
		return "date:" + v.String() + "\x00", nil
	case *Undefined:
		return "undefined\x00", nil
	}
	return nil, errorf(TypeError, "unhashable type: '%s'", typeName(v))
}

// Len returns the number of entries.
func (d *Dict) Len() int { return len(d.keys) }

// At returns the i-th entry in order of insertion.
func (d *Dict) At(i int) (key, val Value) { return d.keys[i], d.vals[i] }

func (d *Dict) find(key Value) int {
	if s, ok := key.(string); ok && d.index == nil {
		for i, k := range d.keys {
			if k, ok := k.(string); ok && k == s {
				return i
			}
		}
		return -1
	}
	h, err := hashable(key)
	if err != nil {
		return -1
	}
	if d.index == nil {
		for i, k := range d.keys {
			if kh, _ := hashable(k); kh == h {
				return i
			}
		}
		return -1
	}
	if i, ok := d.index[h]; ok {
		return i
	}
	return -1
}

// Get returns the value of key and whether it is there.
func (d *Dict) Get(key Value) (Value, bool) {
	if i := d.find(key); i >= 0 {
		return d.vals[i], true
	}
	if s, ok := key.(string); ok && d.Fold {
		for i, k := range d.keys {
			if strings.EqualFold(Str(k), s) {
				return d.vals[i], true
			}
		}
	}
	return nil, false
}

// Has reports whether key is there.
func (d *Dict) Has(key Value) bool {
	_, ok := d.Get(key)
	return ok
}

// Text returns the value of key if that is a str, else "".
func (d *Dict) Text(key string) string {
	v, _ := d.Get(key)
	s, _ := v.(string)
	return s
}

// Set gives key a value. An existing key keeps its place. It forgets Raw.
func (d *Dict) Set(key, val Value) {
	d.Raw = nil
	if i := d.find(key); i >= 0 {
		d.vals[i] = val
		return
	}
	d.keys, d.vals = append(d.keys, key), append(d.vals, val)
	switch {
	case d.index != nil:
		h, _ := hashable(key)
		d.index[h] = len(d.keys) - 1
	case len(d.keys) > indexAbove:
		d.reindex()
	}
}

// Delete removes key if it is there. It forgets Raw.
func (d *Dict) Delete(key Value) {
	i := d.find(key)
	if i < 0 {
		return
	}
	d.Raw = nil
	d.keys = append(d.keys[:i], d.keys[i+1:]...)
	d.vals = append(d.vals[:i], d.vals[i+1:]...)
	d.index = nil
	if len(d.keys) > indexAbove {
		d.reindex()
	}
}

func (d *Dict) reindex() {
	d.index = make(map[any]int, 2*len(d.keys))
	for i, k := range d.keys {
		h, _ := hashable(k)
		d.index[h] = i
	}
}

func (d *Dict) equal(o *Dict) bool {
	if d.Len() != o.Len() {
		return false
	}
	for i, k := range d.keys {
		v, ok := o.Get(k)
		if !ok || !Equal(d.vals[i], v) {
			return false
		}
	}
	return true
}

// Clone returns a copy that shares nothing that can be modified with v.
func Clone(v Value) Value {
	switch v := v.(type) {
	case *Dict:
		c := &Dict{Duplicate: v.Duplicate, Raw: v.Raw, keys: append([]Value(nil), v.keys...), vals: make([]Value, len(v.vals))}
		for i, x := range v.vals {
			c.vals[i] = Clone(x)
		}
		if v.index != nil {
			c.reindex()
		}
		return c
	case *List:
		c := &List{Raw: v.Raw, Items: make([]Value, len(v.Items))}
		for i, x := range v.Items {
			c.Items[i] = Clone(x)
		}
		return c
	}
	return v
}
