package dataset

import (
	"encoding/json"
	"iter"
	"slices"
)

// Fields yields the names and values of the members of a JSON object, in their order.
// Values are slices of obj. Names are unescaped; a lone surrogate comes out in the
// three bytes that UTF-8 would give it, so that different names stay different.
//
// obj must be valid, as [Compact] returns it. Of other bytes the members before the
// first mistake come out; [CheckObject] finds it.
func Fields(obj []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		p := newChecker(obj)
		defer p.release()
		p.each(func(name []byte, _, from, to int) bool {
			return yield(string(name), obj[from:to:to])
		})
	}
}

// Lookup returns the value of the member of obj called name, a slice of obj, and
// whether there is one. obj must be valid, as for [Fields].
func Lookup(obj []byte, name string) (json.RawMessage, bool) {
	p := newChecker(obj)
	defer p.release()
	var value json.RawMessage
	p.each(func(n []byte, _, from, to int) bool {
		if string(n) == name {
			value = obj[from:to:to]
		}
		return value == nil
	})
	return value, value != nil
}

// Omit appends obj without its members called names to dst, and returns how many it
// left out. It fails with a *[SyntaxError] unless obj is a JSON object, and then
// returns dst as it was.
func Omit(dst, obj []byte, names ...string) ([]byte, int, error) {
	p := newChecker(obj)
	defer p.release()
	out, omitted := append(dst, '{'), 0
	start := len(out)
	err := p.each(func(name []byte, at, _, to int) bool {
		if slices.Contains(names, string(name)) {
			omitted++
			return true
		}
		if len(out) > start {
			out = append(out, ',')
		}
		out = append(out, obj[at:to]...)
		return true
	})
	if err != nil {
		return dst, 0, err
	}
	return append(out, '}'), omitted, nil
}

// CheckObject fails with a *[SyntaxError] unless src is a JSON object that [Compact]
// accepts.
func CheckObject(src []byte) error {
	p := newChecker(src)
	defer p.release()
	p.space()
	if !p.at('{') {
		return p.fail("not a JSON object")
	}
	if err := p.value(); err != nil {
		return err
	}
	p.pos--
	return p.endObject()
}

// each calls yield with the unescaped name of each member of the object that is all of
// src, the offset of the name, and those of the value. It stops early when yield
// returns false.
func (p *parser) each(yield func(name []byte, at, from, to int) bool) error {
	p.space()
	if !p.at('{') {
		return p.fail("not a JSON object")
	}
	p.depth++
	p.pos++
	p.space()
	if p.at('}') {
		return p.endObject()
	}
	for {
		at := p.pos
		name, err := p.name()
		if err != nil {
			return err
		}
		from := p.pos
		if err := p.value(); err != nil {
			return err
		}
		if !yield(name, at, from, p.pos) {
			return nil
		}
		p.space()
		if !p.at(',') {
			return p.endObject()
		}
		p.pos++
		p.space()
	}
}

// endObject passes over the end of an object that is all of src.
func (p *parser) endObject() error {
	if !p.at('}') {
		return p.fail("neither , nor } after a member")
	}
	p.pos++
	p.space()
	if p.pos != len(p.src) {
		return p.fail("data after the object")
	}
	return nil
}
