package archive

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// parsePlain reads a line whose key and path need no escapes, which nearly all are, ten
// times as fast as encoding/json does. What it does not know, it leaves to that: ok is
// false then, and the line may be good or bad. What it accepts is exactly what appendLine
// writes. Strings and data are those of the line's own bytes.
func parsePlain(line []byte) (l *Line, ok bool) {
	l = new(Line)
	p := plainParser{text: string(line)}
	if !p.skip(`{"key":"`) || !p.plain(&l.Key) || !p.skip(`,"ordinal":`) {
		return nil, false
	}
	n, ok := p.number()
	if !ok || !p.skip(`,"data":`) {
		return nil, false
	}
	l.Ordinal = int(n)
	from, to := p.pos, len(line)-1
	if i := bytes.LastIndex(line, locationMember); i > from && bytes.HasSuffix(line, []byte("]}")) {
		if to, ok = p.blob(l, i); !ok {
			return nil, false
		}
	} else if line[to] != '}' {
		return nil, false
	}
	if from >= to || line[from] != '{' || line[to-1] != '}' || dataset.CheckObject(line[from:to]) != nil {
		return nil, false
	}
	l.Data = json.RawMessage(line[from:to:to])
	return l, true
}

// A plainParser goes through a line from left to right.
type plainParser struct {
	text string
	pos  int
}

func (p *plainParser) skip(want string) bool {
	if !strings.HasPrefix(p.text[p.pos:], want) {
		return false
	}
	p.pos += len(want)
	return true
}

// plain reads what is left of a string that needs no escapes, with its closing quote.
func (p *plainParser) plain(s *string) bool {
	n := strings.IndexByte(p.text[p.pos:], '"')
	if n < 0 || !plain(p.text[p.pos:p.pos+n]) {
		return false
	}
	*s = p.text[p.pos : p.pos+n]
	p.pos += n + 1
	return true
}

// number reads an integer in its one form, of at most 18 digits and not negative.
func (p *plainParser) number() (int64, bool) {
	end := p.pos
	for end < len(p.text) && p.text[end] >= '0' && p.text[end] <= '9' {
		end++
	}
	digits := p.text[p.pos:end]
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && len(digits) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	p.pos = end
	return n, err == nil
}

// blob reads the members that follow the data. The locations begin at the given place,
// and before it nothing has a quote but what stands around path and hash. It returns
// where the data end.
func (p *plainParser) blob(l *Line, locations int) (end int, ok bool) {
	const pathMember, hashMember, sizeMember = `","path":"`, `,"sha256":"`, `,"size":`
	head := p.text[:locations]
	if !strings.HasSuffix(head, `"`) {
		return 0, false
	}
	path := strings.LastIndexByte(head[:len(head)-1], '"') + 1
	l.HasBlob, l.Path = true, head[path:len(head)-1]
	hash := path - len(pathMember) - 2*len(l.SHA256)
	if !plain(l.Path) || hash < 0 || head[path-len(pathMember):path] != pathMember || l.SHA256.UnmarshalText([]byte(head[hash:hash+2*len(l.SHA256)])) != nil {
		return 0, false
	}
	digits := hash - len(hashMember)
	if digits < 0 || head[digits:hash] != hashMember {
		return 0, false
	}
	end = strings.LastIndexByte(head[:digits], ',')
	if end < p.pos {
		return 0, false
	}
	at := plainParser{p.text, end}
	if !at.skip(sizeMember) {
		return 0, false
	}
	if l.Size, ok = at.number(); !ok || at.pos != digits {
		return 0, false
	}
	at.pos = locations + len(locationMember)
	return end, at.locations(l)
}

// locations reads the rest of the line, behind the bracket that opens the locations.
func (p *plainParser) locations(l *Line) bool {
	l.Location = []Location{}
	if p.text[p.pos:] == "]}" {
		return true
	}
	for {
		var s Location
		var pack int64
		var ok [4]bool
		if !p.skip(`{"pack":`) {
			return false
		}
		pack, ok[0] = p.number()
		if !p.skip(`,"offset":`) {
			return false
		}
		s.Offset, ok[1] = p.number()
		if !p.skip(`,"length":`) {
			return false
		}
		s.Length, ok[2] = p.number()
		if !p.skip(`,"member":"`) || !p.plain(&s.Member) || !p.skip(`,"size":`) {
			return false
		}
		s.Size, ok[3] = p.number()
		if ok != [4]bool{true, true, true, true} || !p.skip("}") {
			return false
		}
		s.Pack = int(pack)
		l.Location = append(l.Location, s)
		switch {
		case p.text[p.pos:] == "]}":
			return true
		case !p.skip(","):
			return false
		}
	}
}
