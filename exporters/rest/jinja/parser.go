package jinja

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// A Template is a parsed template. It is immutable and safe for concurrent use.
type Template struct {
	src  string
	body []stmt
	free []string
}

// Parse parses a template. What it cannot evaluate (an unknown filter, test or
// statement) is an error of kind SyntaxError that names it.
func Parse(src string) (*Template, error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks, free: map[string]bool{}}
	p.push()
	body, err := p.statements()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEOF {
		return nil, p.fail("unexpected %q", t.text)
	}
	t := &Template{src: src, body: body, free: make([]string, 0, len(p.free))}
	for n := range p.free {
		t.free = append(t.free, n)
	}
	sort.Strings(t.free)
	return t, nil
}

// Free returns the sorted names that the template takes from its context. Names of
// functions that are always there are not among them.
func (t *Template) Free() []string { return t.free }

type parser struct {
	toks   []token
	pos    int
	depth  int
	free   map[string]bool
	scopes []map[string]bool // names bound by set, for and with
}

func (p *parser) push() { p.scopes = append(p.scopes, map[string]bool{}) }
func (p *parser) pop() map[string]bool {
	s := p.scopes[len(p.scopes)-1]
	p.scopes = p.scopes[:len(p.scopes)-1]
	return s
}
func (p *parser) bind(names ...string) {
	for _, n := range names {
		p.scopes[len(p.scopes)-1][n] = true
	}
}

func (p *parser) use(n string) {
	if _, ok := globals[n]; ok {
		return
	}
	for _, s := range p.scopes {
		if s[n] {
			return
		}
	}
	p.free[n] = true
}

func (p *parser) fail(format string, args ...any) error {
	return errorf(SyntaxError, format, args...)
}

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) isOp(op string) bool {
	t := p.peek()
	return t.kind == tokOp && t.text == op
}

func (p *parser) isName(names ...string) bool {
	t := p.peek()
	return t.kind == tokName && slices.Contains(names, t.text)
}

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) skipName(n string) bool {
	if p.isName(n) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.fail("expected %q, got %s", op, describe(p.peek()))
	}
	return nil
}

func (p *parser) expectEnd() error {
	if p.peek().kind != tokEnd {
		return p.fail("expected the end of the tag, got %s", describe(p.peek()))
	}
	p.pos++
	return nil
}

func describe(t token) string {
	switch t.kind {
	case tokEOF:
		return "the end of the template"
	case tokEnd:
		return "the end of the tag"
	case tokString:
		return "a string"
	}
	return fmt.Sprintf("%q", t.text)
}

// statements parses up to the end or one of the given end tags, whose name is left
// as the next token.
func (p *parser) statements(until ...string) ([]stmt, error) {
	if p.depth++; p.depth > maxDepth/4 {
		return nil, errorf(LimitError, "the template is nested too deeply")
	}
	defer func() { p.depth-- }()
	var body []stmt
	for {
		switch t := p.peek(); {
		case t.kind == tokEOF:
			if until != nil {
				return nil, p.fail("unexpected end of template, %s is missing", strings.Join(until, " or "))
			}
			return body, nil
		case t.kind == tokData:
			p.pos++
			body = append(body, text{t.text})
		case t.kind == tokBegin && t.text == "{{":
			p.pos++
			x, err := p.tuple(true, false)
			if err == nil {
				err = p.expectEnd()
			}
			if err != nil {
				return nil, err
			}
			body = append(body, output{x})
		case t.kind == tokBegin:
			p.pos++
			if p.isName(until...) {
				return body, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			body = append(body, s)
		default:
			return nil, p.fail("unexpected %s", describe(t))
		}
	}
}

func (p *parser) statement() (stmt, error) {
	t := p.next()
	if t.kind == tokName {
		switch t.text {
		case "if":
			return p.ifStatement()
		case "for":
			return p.forStatement()
		case "set":
			return p.setStatement()
		case "with":
			return p.withStatement()
		case "filter":
			return p.filterStatement()
		}
	}
	return nil, p.fail("statement %q is not supported", t.text)
}

func (p *parser) ifStatement() (stmt, error) {
	var s ifStmt
	var bound []map[string]bool
	for {
		test, err := p.tuple(false, false)
		if err == nil {
			err = p.expectEnd()
		}
		if err != nil {
			return nil, err
		}
		s.tests = append(s.tests, test)
		p.push()
		body, err := p.statements("elif", "else", "endif")
		bound = append(bound, p.pop())
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, body)
		if p.skipName("elif") {
			continue
		}
		if p.skipName("else") {
			if err := p.expectEnd(); err != nil {
				return nil, err
			}
			p.push()
			body, err := p.statements("endif")
			bound = append(bound, p.pop())
			if err != nil {
				return nil, err
			}
			s.bodies = append(s.bodies, body)
			// What every branch sets is bound from here on.
			for n := range bound[0] {
				if !slices.ContainsFunc(bound, func(b map[string]bool) bool { return !b[n] }) {
					p.bind(n)
				}
			}
		}
		p.pos++ // endif
		return s, p.expectEnd()
	}
}

// targets parses the names before = or in.
func (p *parser) targets() ([]string, error) {
	var names []string
	paren := p.skipOp("(")
	for {
		t := p.next()
		if t.kind != tokName {
			return nil, p.fail("cannot assign to %s", describe(t))
		}
		names = append(names, t.text)
		if !p.skipOp(",") {
			break
		}
		if p.peek().kind != tokName || p.isName("in") {
			break
		}
	}
	if paren {
		return names, p.expectOp(")")
	}
	return names, nil
}

func (p *parser) forStatement() (stmt, error) {
	var s forStmt
	var err error
	if s.targets, err = p.targets(); err != nil {
		return nil, err
	}
	if !p.skipName("in") {
		return nil, p.fail("expected in, got %s", describe(p.peek()))
	}
	if s.in, err = p.tuple(false, false); err != nil {
		return nil, err
	}
	p.push()
	defer p.pop()
	p.bind(s.targets...)
	if p.skipName("if") {
		if s.where, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.isName("recursive") {
		return nil, p.fail("recursive loops are not supported")
	}
	if err = p.expectEnd(); err != nil {
		return nil, err
	}
	p.bind("loop")
	if s.body, err = p.statements("else", "endfor"); err != nil {
		return nil, err
	}
	if p.skipName("else") {
		if err = p.expectEnd(); err != nil {
			return nil, err
		}
		if s.empty, err = p.statements("endfor"); err != nil {
			return nil, err
		}
	}
	p.pos++
	return s, p.expectEnd()
}

func (p *parser) setStatement() (stmt, error) {
	names, err := p.targets()
	if err != nil {
		return nil, err
	}
	attr := ""
	if len(names) == 1 && p.skipOp(".") {
		attr = p.next().text
		p.use(names[0])
	}
	if p.skipOp("=") {
		x, err := p.tuple(true, false)
		if err == nil {
			err = p.expectEnd()
		}
		if attr == "" {
			p.bind(names...)
		}
		return setStmt{names, attr, x}, err
	}
	if len(names) != 1 || attr != "" {
		return nil, p.fail("a set block sets one name")
	}
	filters, err := p.filterChain()
	if err == nil {
		err = p.expectEnd()
	}
	if err != nil {
		return nil, err
	}
	body, err := p.statements("endset")
	if err != nil {
		return nil, err
	}
	p.pos++
	p.bind(names[0])
	return setBlock{names[0], body, filters}, p.expectEnd()
}

func (p *parser) withStatement() (stmt, error) {
	var s withStmt
	p.push()
	defer p.pop()
	for p.peek().kind != tokEnd {
		if len(s.names) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		t := p.next()
		if t.kind != tokName {
			return nil, p.fail("expected a name, got %s", describe(t))
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.names, s.vals = append(s.names, t.text), append(s.vals, x)
	}
	p.pos++
	p.bind(s.names...)
	var err error
	if s.body, err = p.statements("endwith"); err != nil {
		return nil, err
	}
	p.pos++
	return s, p.expectEnd()
}

func (p *parser) filterStatement() (stmt, error) {
	first, err := p.filter(nil)
	if err != nil {
		return nil, err
	}
	rest, err := p.filterChain()
	if err == nil {
		err = p.expectEnd()
	}
	if err != nil {
		return nil, err
	}
	body, err := p.statements("endfilter")
	if err != nil {
		return nil, err
	}
	p.pos++
	return filterBlock{append([]*filterExpr{first}, rest...), body}, p.expectEnd()
}

// filterChain parses | f | g with no value before it.
func (p *parser) filterChain() ([]*filterExpr, error) {
	var out []*filterExpr
	for p.skipOp("|") {
		f, err := p.filter(nil)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}
