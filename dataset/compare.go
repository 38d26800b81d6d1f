package dataset

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Comparer decides whether two records of one stream say the same. It compares their
// compared form: the canonical form (see [Canonical]), in which
//
//   - the top-level fields that the stream calls volatile are withheld;
//   - the fields that the schema gives a type are written by their value: numbers (also
//     those written as text) as [DecimalValue], texts as [Quote];
//   - all other values, and what is nested in objects and arrays, keep their lexemes.
//
// An absent field and a null one differ.
//
// Fingerprints are keyed, HMAC-SHA-256 under a key random per test, so that a spool of
// them is no oracle for guesses, and collision-resistant even for whoever writes the
// source. A Comparer is not safe for concurrent use.
type Comparer struct {
	stream   string
	volatile map[string]bool
	fields   map[string]Field
	mac      hash.Hash
	form     []byte // scratch
	sorted   []byte // scratch
}

// NewComparer returns a Comparer for the records of s.
func NewComparer(key [32]byte, s Stream) *Comparer {
	c := &Comparer{
		stream:   s.Name,
		volatile: make(map[string]bool, len(s.Volatile)),
		fields:   make(map[string]Field),
		mac:      hmac.New(sha256.New, key[:]),
	}
	for _, name := range s.Volatile {
		c.volatile[name] = true
	}
	if s.Schema != nil {
		for _, f := range s.Schema.Fields {
			c.fields[f.Name] = f
		}
	}
	return c
}

// What a fingerprint is of; the first byte under the HMAC.
const (
	idPrint    = 0x00
	valuePrint = 0x01
)

// ID returns the fingerprint of an identity: the stream, the key, the ordinal.
func (c *Comparer) ID(key string, ordinal int) Hash {
	c.form = append(c.form[:0], idPrint)
	c.form = binary.BigEndian.AppendUint64(c.form, uint64(len(c.stream)))
	c.form = append(c.form, c.stream...)
	c.form = binary.BigEndian.AppendUint64(c.form, uint64(ordinal))
	c.form = append(c.form, key...)
	c.mac.Reset()
	c.mac.Write(c.form)
	return Hash(c.mac.Sum(c.form[:0]))
}

// Value returns the fingerprint of a record's compared form and of the SHA-256 of its
// blob, zero if it has none; withheld counts the volatile fields it has. It fails with a
// *[SyntaxError] unless data is a JSON object as [Compact] accepts it.
func (c *Comparer) Value(data []byte, blob Hash) (value Hash, withheld int, err error) {
	form, withheld, err := c.Form(c.form[:0], data)
	if err != nil {
		return Hash{}, 0, err
	}
	c.form = form
	c.mac.Reset()
	c.mac.Write([]byte{valuePrint})
	c.mac.Write(blob[:])
	c.mac.Write(form)
	return Hash(c.mac.Sum(form[:0])), withheld, nil
}

// Form appends the compared form of a record to dst and counts what it withholds.
func (c *Comparer) Form(dst, data []byte) (form []byte, withheld int, err error) {
	if c.sorted, err = canonicalObject(c.sorted[:0], data); err != nil {
		return dst, 0, err
	}
	if len(c.volatile) == 0 && len(c.fields) == 0 {
		return append(dst, c.sorted...), 0, nil
	}
	p := newChecker(c.sorted)
	defer p.release()
	form = append(dst, '{')
	start := len(form)
	err = p.each(func(name []byte, at, from, to int) bool {
		if c.volatile[string(name)] {
			withheld++
			return true
		}
		if len(form) > start {
			form = append(form, ',')
		}
		form = append(form, c.sorted[at:from]...)
		form = appendByValue(form, c.fields[string(name)], c.sorted[from:to])
		return true
	})
	return append(form, '}'), withheld, err
}

// appendByValue appends the valid compact raw value of a top-level field as it is
// compared. f is the zero Field if the schema does not know it.
func appendByValue(dst []byte, f Field, raw []byte) []byte {
	if k := cellKind(f); k == notACell || k == jsonCell {
		return append(dst, raw...)
	}
	if raw[0] != '"' {
		if v, ok := DecimalValue(string(raw)); ok {
			return append(dst, v...)
		}
		return append(dst, raw...)
	}
	if f.Type == Number || f.Type == Integer {
		if v, ok := DecimalValue(string(raw[1 : len(raw)-1])); ok {
			return quote(dst, v)
		}
	}
	return appendRequoted(dst, raw)
}

// A FieldDiff is one place where two records differ.
type FieldDiff struct {
	Path string          // a JSON Pointer (RFC 6901)
	A, B json.RawMessage // what is there, with the record's own lexemes; nil if nothing
}

// diffDepth is how deep Diff looks into values; below, it names the value that holds the
// difference.
const diffDepth = 16

// Diff names the fields in which two records differ by their compared forms, in order
// of their names, and at most max of them; total counts all. It fails as Value does.
func (c *Comparer) Diff(a, b []byte, max int) (diffs []FieldDiff, total int, err error) {
	left, err := canonicalFields(a)
	if err != nil {
		return nil, 0, fmt.Errorf("first record: %w", err)
	}
	right, err := canonicalFields(b)
	if err != nil {
		return nil, 0, fmt.Errorf("second record: %w", err)
	}
	d := differ{max: max}
	for _, name := range unionOfKeys(left, right) {
		l, r, f := left[name], right[name], c.fields[name]
		if c.volatile[name] || l != nil && r != nil && bytes.Equal(appendByValue(nil, f, l), appendByValue(nil, f, r)) {
			continue
		}
		d.compare(pointer("", name), l, r, 1)
	}
	return d.diffs, d.total, nil
}

func canonicalFields(obj []byte) (map[string]json.RawMessage, error) {
	sorted, err := canonicalObject(nil, obj)
	if err != nil {
		return nil, err
	}
	return maps.Collect(Fields(sorted)), nil
}

func canonicalObject(dst, obj []byte) ([]byte, error) {
	out, err := Canonical(dst, obj)
	if err == nil && out[len(dst)] != '{' {
		return dst, &SyntaxError{0, "not a JSON object"}
	}
	return out, err
}

func unionOfKeys(a, b map[string]json.RawMessage) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// pointer appends a name to a JSON Pointer.
func pointer(parent, name string) string {
	return parent + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// A differ collects differences of canonical values.
type differ struct {
	max, total int
	diffs      []FieldDiff
}

// compare looks for differences of a and b, of which one may be nil, at path.
func (d *differ) compare(path string, a, b json.RawMessage, depth int) {
	switch {
	case bytes.Equal(a, b) && a != nil:
	case a != nil && b != nil && a[0] == '{' && b[0] == '{' && depth < diffDepth:
		left, right := maps.Collect(Fields(a)), maps.Collect(Fields(b))
		for _, name := range unionOfKeys(left, right) {
			d.compare(pointer(path, name), left[name], right[name], depth+1)
		}
	case a != nil && b != nil && a[0] == '[' && b[0] == '[' && depth < diffDepth:
		left, right := elements(a), elements(b)
		for i := range max(len(left), len(right)) {
			d.compare(pointer(path, strconv.Itoa(i)), at(left, i), at(right, i), depth+1)
		}
	default:
		if d.total++; d.total <= d.max {
			d.diffs = append(d.diffs, FieldDiff{path, a, b})
		}
	}
}

func at(values []json.RawMessage, i int) json.RawMessage {
	if i < len(values) {
		return values[i]
	}
	return nil
}

// elements returns the elements of a valid compact array.
func elements(array []byte) []json.RawMessage {
	p := newChecker(array)
	defer p.release()
	var values []json.RawMessage
	for p.pos = 1; p.pos < len(array)-1; p.pos++ { // over the comma
		start := p.pos
		if p.value() != nil {
			return values // cannot be: the array is valid
		}
		values = append(values, array[start:p.pos:p.pos])
	}
	return values
}
