package dataset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"sync"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may be nested in a record.
const MaxDepth = 10_000

// A SyntaxError says where bytes are not JSON as it is accepted here: RFC 8259, valid
// UTF-8, no object with two members of one name, nesting up to [MaxDepth].
type SyntaxError struct {
	Offset int // of the first byte that is wrong
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Reason) }

// Compact appends the JSON value src to dst without the white space between its
// tokens. Nothing else changes: numbers, strings (escapes of lone surrogates too) and
// the order of members stay as they are, byte for byte. It fails with a *[SyntaxError]
// and then returns dst as it was.
func Compact(dst, src []byte) ([]byte, error) {
	return rewrite(dst, src, false)
}

// Canonical appends the canonical form of the JSON value src to dst: like [Compact],
// with the members of every object sorted by their unescaped names in byte order.
// Lexemes stay as they are, so 1.0 and 1 differ; compare typed columns by value (see
// [Comparer]).
func Canonical(dst, src []byte) ([]byte, error) {
	return rewrite(dst, src, true)
}

func rewrite(dst, src []byte, sorted bool) ([]byte, error) {
	p := newParser(src)
	defer p.release()
	p.dst, p.sorted = dst, sorted
	p.space()
	if err := p.value(); err != nil {
		return dst, err
	}
	p.space()
	if p.pos != len(src) {
		return dst, p.fail("data after the value")
	}
	p.flush(p.pos)
	return p.dst, nil
}

// A parser walks over one JSON value and appends what it keeps to dst. It recurses,
// and MaxDepth bounds that.
type parser struct {
	src    []byte
	pos    int
	dst    []byte
	kept   int // src before this is in dst, or was left out
	sorted bool
	only   bool // only check: keep nothing
	depth  int

	members []member // of the objects that are open, innermost last
	slots   []uint32 // scratch of unique
	moved   []byte   // scratch of sort
}

// A member of an object that is open.
type member struct {
	name     []byte // unescaped
	at       int    // offset in src
	from, to int    // what became of it in dst; only when sorting
}

// parsers are kept, because records are many and small.
var parsers = sync.Pool{New: func() any { return new(parser) }}

// newChecker returns a parser that keeps nothing.
func newChecker(src []byte) *parser {
	p := newParser(src)
	p.only = true
	return p
}

func newParser(src []byte) *parser {
	p := parsers.Get().(*parser)
	p.src = src
	return p
}

// release gives up p, and all it knows of the data.
func (p *parser) release() {
	clear(p.members[:cap(p.members)])
	if cap(p.members) > 1<<10 || cap(p.moved) > 1<<20 {
		return
	}
	*p = parser{members: p.members[:0], slots: p.slots[:0], moved: p.moved[:0]}
	parsers.Put(p)
}

func (p *parser) fail(reason string) error { return &SyntaxError{p.pos, reason} }

// flush keeps all up to pos.
func (p *parser) flush(pos int) {
	if !p.only {
		p.dst = append(p.dst, p.src[p.kept:pos]...)
	}
	p.kept = pos
}

// space leaves out white space.
func (p *parser) space() {
	if p.pos < len(p.src) && p.src[p.pos] > ' ' {
		return
	}
	start := p.pos
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
			continue
		}
		break
	}
	if p.pos > start {
		p.flush(start)
		p.kept = p.pos
	}
}

// at reports whether the next byte is c.
func (p *parser) at(c byte) bool { return p.pos < len(p.src) && p.src[p.pos] == c }

func (p *parser) value() error {
	if p.pos == len(p.src) {
		return p.fail("ends where a value should be")
	}
	switch c := p.src[p.pos]; c {
	case '"':
		_, err := p.str()
		return err
	case '{', '[':
		if p.depth++; p.depth > MaxDepth {
			return p.fail(fmt.Sprintf("nested deeper than %d", MaxDepth))
		}
		var err error
		if c == '{' {
			err = p.object()
		} else {
			err = p.array()
		}
		p.depth--
		return err
	case 't':
		return p.literal("true")
	case 'f':
		return p.literal("false")
	case 'n':
		return p.literal("null")
	}
	return p.number()
}

func (p *parser) literal(want string) error {
	if !bytes.HasPrefix(p.src[p.pos:], []byte(want)) {
		return p.fail("not a JSON value")
	}
	p.pos += len(want)
	return nil
}

func (p *parser) array() error {
	p.pos++
	p.space()
	if p.at(']') {
		p.pos++
		return nil
	}
	for {
		if err := p.value(); err != nil {
			return err
		}
		p.space()
		switch {
		case p.at(','):
			p.pos++
			p.space()
		case p.at(']'):
			p.pos++
			return nil
		default:
			return p.fail("neither , nor ] after an element")
		}
	}
}

func (p *parser) object() error {
	p.pos++
	p.space()
	if p.at('}') {
		p.pos++
		return nil
	}
	first := len(p.members)
	for {
		m, err := p.member()
		if err != nil {
			return err
		}
		p.members = append(p.members, m)
		switch {
		case p.at(','):
			p.pos++
			p.space()
			continue
		case !p.at('}'):
			return p.fail("neither , nor } after a member")
		}
		break
	}
	check := p.unique
	if p.sorted {
		check = p.sort
	}
	if err := check(p.members[first:]); err != nil {
		return err
	}
	p.members = p.members[:first]
	p.pos++
	return nil
}

// member passes over one member and the white space behind it.
func (p *parser) member() (member, error) {
	m := member{at: p.pos}
	if p.sorted {
		p.flush(p.pos)
		m.from = len(p.dst)
	}
	var err error
	if m.name, err = p.name(); err != nil {
		return m, err
	}
	if err := p.value(); err != nil {
		return m, err
	}
	p.space()
	if p.sorted {
		p.flush(p.pos)
		m.to = len(p.dst)
	}
	return m, nil
}

// name passes over a member's name, the colon and the white space around it, and
// returns the name unescaped.
func (p *parser) name() ([]byte, error) {
	if !p.at('"') {
		return nil, p.fail("a member does not begin with its name")
	}
	start := p.pos
	escaped, err := p.str()
	if err != nil {
		return nil, err
	}
	name := p.src[start+1 : p.pos-1]
	if escaped {
		name = unescape(nil, name)
	}
	p.space()
	if !p.at(':') {
		return nil, p.fail("no : after a member's name")
	}
	p.pos++
	p.space()
	return name, nil
}

func duplicate(m member) error {
	return &SyntaxError{m.at, fmt.Sprintf(`second member called "%s"`, Escape(string(m.name)))}
}

// sort puts the members, which are the end of dst, in order.
func (p *parser) sort(members []member) error {
	byName := func(a, b member) int { return bytes.Compare(a.name, b.name) }
	start := members[0].from
	inOrder := slices.IsSortedFunc(members, byName)
	if !inOrder {
		slices.SortStableFunc(members, byName)
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(members[i-1].name, members[i].name) {
			return duplicate(members[i])
		}
	}
	if inOrder {
		return nil
	}
	p.moved = append(p.moved[:0], p.dst[start:]...)
	p.dst = p.dst[:start]
	for i, m := range members {
		if i > 0 {
			p.dst = append(p.dst, ',')
		}
		p.dst = append(p.dst, p.moved[m.from-start:m.to-start]...)
	}
	return nil
}

// unique fails if two members have one name.
func (p *parser) unique(members []member) error {
	if len(members) <= 8 {
		for i := 1; i < len(members); i++ {
			for j := range i {
				if bytes.Equal(members[i].name, members[j].name) {
					return duplicate(members[i])
				}
			}
		}
		return nil
	}
	// An open hash table at most half full, with a seed that nobody can aim at.
	seed := maphash.MakeSeed()
	size := 1 << bits.Len(uint(2*len(members)))
	p.slots = slices.Grow(p.slots[:0], size)[:size]
	clear(p.slots)
	for i, m := range members {
		at := int(maphash.Bytes(seed, m.name)) & (size - 1)
		for ; p.slots[at] != 0; at = (at + 1) & (size - 1) {
			if bytes.Equal(members[p.slots[at]-1].name, m.name) {
				return duplicate(m)
			}
		}
		p.slots[at] = uint32(i + 1)
	}
	return nil
}

// str passes over a string and reports whether it holds escapes.
func (p *parser) str() (escaped bool, err error) {
	s, i := p.src, p.pos+1
	for {
		for i+8 <= len(s) {
			special := specialBytes(binary.LittleEndian.Uint64(s[i:]))
			if special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
			i += 8
		}
		if i >= len(s) {
			p.pos = len(s)
			return false, p.fail("ends inside a string")
		}
		switch c := s[i]; {
		case c == '"':
			p.pos = i + 1
			return escaped, nil
		case c == '\\':
			n := escapeLen(s[i:])
			if n == 0 {
				p.pos = i
				return false, p.fail("not an escape of JSON")
			}
			escaped = true
			i += n
		case c < ' ':
			p.pos = i
			return false, p.fail("control character inside a string")
		case c < utf8.RuneSelf:
			i++
		default:
			for i < len(s) && s[i] >= utf8.RuneSelf {
				r, n := utf8.DecodeRune(s[i:])
				if r == utf8.RuneError && n == 1 {
					p.pos = i
					return false, p.fail("not valid UTF-8")
				}
				i += n
			}
		}
	}
}

// specialBytes returns a word whose lowest set bit is in the first byte of w that a
// string does not simply hold: a quote, a backslash, a control, or beyond ASCII. (Bits
// above the lowest may be wrong, for the subtractions borrow.)
func specialBytes(w uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^(ones*'"'), w^(ones*'\\')
	return (w | (w-ones*' ')&^w | (quote-ones)&^quote | (backslash-ones)&^backslash) & tops
}

// escapeLen returns the length of the escape that s begins with, or 0.
func escapeLen(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(s) >= 6 && hex4(s[2:6]) >= 0 {
			return 6
		}
	}
	return 0
}

// number passes over a number.
func (p *parser) number() error {
	s, i := p.src, p.pos
	if s[i] == '-' {
		i++
	}
	whole := digits(s[i:])
	switch {
	case whole == 0:
		return p.fail("not a JSON value")
	case whole > 1 && s[i] == '0':
		return p.fail("number with a leading zero")
	}
	i += whole
	if i < len(s) && s[i] == '.' {
		i++
		n := digits(s[i:])
		if n == 0 {
			p.pos = i
			return p.fail("number without digits after its point")
		}
		i += n
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		n := digits(s[i:])
		if n == 0 {
			p.pos = i
			return p.fail("number without digits in its exponent")
		}
		i += n
	}
	p.pos = i
	return nil
}

// digits returns how many decimal digits s begins with.
func digits(s []byte) int {
	for i, c := range s {
		if c < '0' || '9' < c {
			return i
		}
	}
	return len(s)
}
