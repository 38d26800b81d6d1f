package s3conn

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A scanner reads the subset of XML that S3 answers are written in: elements, text,
// the predefined entities and character references, comments and CDATA. Attributes
// are skipped. It refuses document types, so there are no entities to expand, and
// nesting beyond maxDepth. A listing of 100,000 objects is 100 such documents, which
// encoding/xml would take longer to parse than a server to send.
type scanner struct {
	src   string
	pos   int
	stack []string
	empty bool // the element just opened was <name/>; its end is due
}

type tokenKind int

const (
	endOfDocument tokenKind = iota
	startElement
	endElement
	textRun
)

const maxDepth = 32

var errXML = errors.New("malformed XML")

// next returns the next token: the name of an element or the raw text between two.
func (s *scanner) next() (tokenKind, string, error) {
	if s.empty {
		s.empty = false
		return endElement, s.pop(), nil
	}
	for {
		rest := s.src[s.pos:]
		switch {
		case rest == "":
			if len(s.stack) > 0 {
				return 0, "", fmt.Errorf("%w: ends within <%s>", errXML, clean(s.stack[len(s.stack)-1], 64))
			}
			return endOfDocument, "", nil
		case rest[0] != '<':
			n := strings.IndexByte(rest, '<')
			if n < 0 {
				n = len(rest)
			}
			s.pos += n
			if len(s.stack) == 0 {
				if strings.Trim(rest[:n], " \t\r\n\ufeff") != "" {
					return 0, "", fmt.Errorf("%w: text outside the root", errXML)
				}
				continue
			}
			return textRun, rest[:n], nil
		case strings.HasPrefix(rest, "<?"):
			if err := s.skip("?>"); err != nil {
				return 0, "", err
			}
		case strings.HasPrefix(rest, "<!--"):
			if err := s.skip("-->"); err != nil {
				return 0, "", err
			}
		case rest[1:] != "" && rest[1] == '!':
			return 0, "", fmt.Errorf("%w: declarations are refused", errXML)
		case strings.HasPrefix(rest, "</"):
			return s.end(rest)
		default:
			return s.start(rest)
		}
	}
}

func (s *scanner) skip(until string) error {
	n := strings.Index(s.src[s.pos:], until)
	if n < 0 {
		return fmt.Errorf("%w: no %s", errXML, until)
	}
	s.pos += n + len(until)
	return nil
}

func (s *scanner) start(rest string) (tokenKind, string, error) {
	n := strings.IndexByte(rest, '>')
	if n < 2 {
		return 0, "", fmt.Errorf("%w: unfinished tag", errXML)
	}
	inner := rest[1:n]
	s.pos += n + 1
	if strings.HasSuffix(inner, "/") {
		inner, s.empty = inner[:len(inner)-1], true
	}
	name := inner
	if i := strings.IndexAny(inner, " \t\r\n"); i >= 0 {
		name = inner[:i]
		if strings.ContainsAny(inner[i:], "<&") || strings.Count(inner[i:], `"`)%2 != 0 {
			return 0, "", fmt.Errorf("%w: attributes of <%s>", errXML, clean(name, 64))
		}
	}
	if name == "" || strings.ContainsAny(name, "<&\"'=/") {
		return 0, "", fmt.Errorf("%w: bad tag", errXML)
	}
	if len(s.stack) >= maxDepth {
		return 0, "", fmt.Errorf("%w: nested too deeply", errXML)
	}
	if len(s.stack) == 0 && s.pos > n+1 && strings.Contains(s.src[:s.pos-n-1], "</") {
		return 0, "", fmt.Errorf("%w: two roots", errXML)
	}
	s.stack = append(s.stack, name)
	return startElement, name, nil
}

func (s *scanner) end(rest string) (tokenKind, string, error) {
	n := strings.IndexByte(rest, '>')
	if n < 0 {
		return 0, "", fmt.Errorf("%w: unfinished tag", errXML)
	}
	name := strings.TrimRight(rest[2:n], " \t\r\n")
	if len(s.stack) == 0 || s.stack[len(s.stack)-1] != name {
		return 0, "", fmt.Errorf("%w: </%s> closes nothing", errXML, clean(name, 64))
	}
	s.pos += n + 1
	return endElement, s.pop(), nil
}

func (s *scanner) pop() string {
	name := s.stack[len(s.stack)-1]
	s.stack = s.stack[:len(s.stack)-1]
	return name
}

// text returns the text of the element just opened and consumes its end. Elements
// within it are an error.
func (s *scanner) text() (string, error) {
	var out string
	for {
		kind, v, err := s.next()
		switch {
		case err != nil:
			return "", err
		case kind == textRun:
			if v, err = unescapeXML(v); err != nil {
				return "", err
			}
			out += v
		case kind == endElement:
			return out, nil
		default:
			return "", fmt.Errorf("%w: <%s> where text is due", errXML, clean(v, 64))
		}
	}
}

// skipElement consumes the rest of the element just opened.
func (s *scanner) skipElement() error {
	for depth := len(s.stack); len(s.stack) >= depth; {
		if _, _, err := s.next(); err != nil {
			return err
		}
	}
	return nil
}

// children calls f for each element directly within the one just opened, and consumes
// its end. f must consume its element: with text, skipElement or children.
func (s *scanner) children(f func(name string) error) error {
	for {
		kind, v, err := s.next()
		switch {
		case err != nil:
			return err
		case kind == endElement:
			return nil
		case kind == startElement:
			if err := f(v); err != nil {
				return err
			}
		case strings.Trim(v, " \t\r\n") != "":
			return fmt.Errorf("%w: stray text", errXML)
		}
	}
}

var entities = map[string]string{"lt": "<", "gt": ">", "amp": "&", "quot": `"`, "apos": "'"}

// unescapeXML resolves references. Text without any is returned as it is.
func unescapeXML(s string) (string, error) {
	i := strings.IndexByte(s, '&')
	if i < 0 {
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i >= 0 {
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], ';')
		if end < 2 || end > 12 {
			return "", fmt.Errorf("%w: bad reference", errXML)
		}
		name := s[i+1 : i+end]
		if r, ok := entities[name]; ok {
			b.WriteString(r)
		} else if r, ok := charRef(name); ok {
			b.WriteRune(r)
		} else {
			return "", fmt.Errorf("%w: unknown reference &%s;", errXML, clean(name, 16))
		}
		s = s[i+end+1:]
		i = strings.IndexByte(s, '&')
	}
	b.WriteString(s)
	return b.String(), nil
}

func charRef(name string) (rune, bool) {
	digits, ok := strings.CutPrefix(name, "#")
	if !ok {
		return 0, false
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || !utf8.ValidRune(rune(n)) {
		return 0, false
	}
	return rune(n), true
}
