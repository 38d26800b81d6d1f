package jinja

import (
	"slices"
	"strings"
)

// expression parses with the inline if.
func (p *parser) expression() (expr, error) {
	if p.depth++; p.depth > maxDepth/4 {
		return nil, errorf(LimitError, "the expression is nested too deeply")
	}
	defer func() { p.depth-- }()
	x, err := p.or()
	for err == nil && p.skipName("if") {
		c := condition{then: x}
		if c.test, err = p.or(); err != nil {
			return nil, err
		}
		if p.skipName("else") {
			if c.otherwise, err = p.expression(); err != nil {
				return nil, err
			}
		}
		x = c
	}
	return x, err
}

func (p *parser) or() (expr, error) {
	x, err := p.and()
	for err == nil && p.skipName("or") {
		var y expr
		y, err = p.and()
		x = boolOp{true, x, y}
	}
	return x, err
}

func (p *parser) and() (expr, error) {
	x, err := p.not()
	for err == nil && p.skipName("and") {
		var y expr
		y, err = p.not()
		x = boolOp{false, x, y}
	}
	return x, err
}

func (p *parser) not() (expr, error) {
	if p.skipName("not") {
		if p.depth++; p.depth > maxDepth/4 {
			return nil, errorf(LimitError, "the expression is nested too deeply")
		}
		defer func() { p.depth-- }()
		x, err := p.not()
		return unary{"not", x}, err
	}
	return p.compare()
}

func (p *parser) compare() (expr, error) {
	x, err := p.sum()
	if err != nil {
		return nil, err
	}
	c := comparison{first: x}
	for {
		op := ""
		switch t := p.peek(); {
		case t.kind == tokOp && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text):
			op = t.text
			p.pos++
		case p.isName("in"):
			op = "in"
			p.pos++
		case p.isName("not") && p.toks[p.pos+1].kind == tokName && p.toks[p.pos+1].text == "in":
			op = "not in"
			p.pos += 2
		}
		if op == "" {
			break
		}
		y, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, y)
	}
	if c.ops == nil {
		return x, nil
	}
	return c, nil
}

// infix parses a left-associative level of the given operators.
func (p *parser) infix(operand func() (expr, error), ops ...string) (expr, error) {
	x, err := operand()
	for err == nil {
		t := p.peek()
		if t.kind != tokOp || !slices.Contains(ops, t.text) {
			return x, nil
		}
		p.pos++
		var y expr
		y, err = operand()
		x = binary{t.text, x, y}
	}
	return nil, err
}

func (p *parser) sum() (expr, error) { return p.infix(p.concat, "+", "-") }

func (p *parser) concat() (expr, error) {
	x, err := p.product()
	if err != nil || !p.isOp("~") {
		return x, err
	}
	c := concat{[]expr{x}}
	for p.skipOp("~") {
		if x, err = p.product(); err != nil {
			return nil, err
		}
		c.parts = append(c.parts, x)
	}
	return c, nil
}

func (p *parser) product() (expr, error) { return p.infix(p.power, "*", "/", "//", "%") }

func (p *parser) power() (expr, error) {
	return p.infix(func() (expr, error) { return p.unary(true) }, "**")
}

// unary parses a sign, a primary and what follows it. As in Jinja, filters bind to
// the signed value: -1|abs is 1.
func (p *parser) unary(withFilter bool) (expr, error) {
	if p.depth++; p.depth > maxDepth/4 {
		return nil, errorf(LimitError, "the expression is nested too deeply")
	}
	defer func() { p.depth-- }()
	var x expr
	var err error
	switch {
	case p.skipOp("-"):
		x, err = p.unary(false)
		x = unary{"-", x}
	case p.skipOp("+"):
		x, err = p.unary(false)
		x = unary{"+", x}
	default:
		x, err = p.primary()
	}
	if err == nil {
		x, err = p.postfix(x)
	}
	if err == nil && withFilter {
		x, err = p.filters(x)
	}
	return x, err
}

func (p *parser) primary() (expr, error) {
	t := p.next()
	switch {
	case t.kind == tokName:
		switch t.text {
		case "true", "True":
			return constant{true}, nil
		case "false", "False":
			return constant{false}, nil
		case "none", "None":
			return constant{nil}, nil
		}
		p.use(t.text)
		return name{t.text}, nil
	case t.kind == tokString:
		var b strings.Builder
		b.WriteString(t.val.(string))
		for p.peek().kind == tokString {
			b.WriteString(p.next().val.(string))
		}
		return constant{b.String()}, nil
	case t.kind == tokNumber:
		return constant{t.val}, nil
	case t.kind == tokOp && t.text == "(":
		x, err := p.tuple(true, true)
		if err != nil {
			return nil, err
		}
		return x, p.expectOp(")")
	case t.kind == tokOp && t.text == "[":
		items, err := p.items("]")
		return listExpr{items}, err
	case t.kind == tokOp && t.text == "{":
		return p.dict()
	}
	return nil, p.fail("unexpected %s", describe(t))
}

// items parses expressions up to the closing operator.
func (p *parser) items(end string) ([]expr, error) {
	var items []expr
	for !p.skipOp(end) {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp(end) {
				break
			}
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return items, nil
}

func (p *parser) dict() (expr, error) {
	var d dictExpr
	for !p.skipOp("}") {
		if len(d.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp("}") {
				break
			}
		}
		k, err := p.expression()
		if err == nil {
			err = p.expectOp(":")
		}
		if err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys, d.vals = append(d.keys, k), append(d.vals, v)
	}
	return d, nil
}

// tuple parses one expression, or several with commas as a tuple. Empty is only
// allowed between parentheses.
func (p *parser) tuple(withCondition, parens bool) (expr, error) {
	parse := p.or
	if withCondition {
		parse = p.expression
	}
	var items []expr
	isTuple := false
	for {
		if t := p.peek(); t.kind == tokEnd || t.kind == tokOp && t.text == ")" {
			break
		}
		x, err := parse()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.skipOp(",") {
			break
		}
		isTuple = true
	}
	switch {
	case isTuple || parens && items == nil:
		return tupleExpr{items}, nil
	case items == nil:
		return nil, p.fail("expected an expression, got %s", describe(p.peek()))
	}
	return items[0], nil
}

func (p *parser) postfix(x expr) (expr, error) {
	for {
		var err error
		switch {
		case p.skipOp("."):
			t := p.next()
			switch t.kind {
			case tokName:
				x = getAttr{x, t.text}
			case tokNumber:
				x = getItem{x, constant{t.val}}
			default:
				return nil, p.fail("expected a name or number after the dot, got %s", describe(t))
			}
		case p.skipOp("["):
			x, err = p.subscript(x)
		case p.isOp("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript(x expr) (expr, error) {
	var keys []expr
	for !p.skipOp("]") {
		if len(keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		k, err := p.slicePart()
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	switch len(keys) {
	case 0:
		return nil, p.fail("expected a subscript")
	case 1:
		return getItem{x, keys[0]}, nil
	}
	return getItem{x, tupleExpr{keys}}, nil
}

// slicePart parses an index or lo:hi:step.
func (p *parser) slicePart() (expr, error) {
	var parts [3]expr
	n := 0
	for !p.isOp("]") && !p.isOp(",") {
		if p.skipOp(":") {
			if n++; n > 2 {
				return nil, p.fail("a slice has at most two colons")
			}
			continue
		}
		x, err := p.expression()
		if err != nil {
			return nil, err
		}
		parts[n] = x
		if !p.isOp(":") {
			break
		}
	}
	if n == 0 {
		if parts[0] == nil {
			return nil, p.fail("expected a subscript")
		}
		return parts[0], nil
	}
	return slice{parts[0], parts[1], parts[2]}, nil
}

// filters parses filters, tests and calls after a value.
func (p *parser) filters(x expr) (expr, error) {
	for {
		var err error
		switch {
		case p.skipOp("|"):
			x, err = p.filter(x)
		case p.skipName("is"):
			x, err = p.test(x)
		case p.isOp("("):
			x, err = p.call(x)
		default:
			return x, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) filter(x expr) (*filterExpr, error) {
	t := p.next()
	if t.kind != tokName {
		return nil, p.fail("expected the name of a filter, got %s", describe(t))
	}
	fn, ok := filterNamed(t.text)
	if !ok {
		return nil, p.fail("filter %q is not supported", t.text)
	}
	f := &filterExpr{in: x, name: t.text, fn: fn}
	if p.isOp("(") {
		var err error
		if f.args, err = p.arguments(); err != nil {
			return nil, err
		}
	}
	return f, p.checkRegex(f)
}

// checkRegex compiles constant patterns now, so that one we cannot run is refused
// when the template is parsed and not in the middle of an export.
func (p *parser) checkRegex(f *filterExpr) error {
	if f.name != "regex_search" && f.name != "regex_replace" || len(f.args.pos) == 0 {
		return nil
	}
	if c, ok := f.args.pos[0].(constant); ok {
		if s, ok := c.val.(string); ok {
			_, err := CompileRegex(s)
			return err
		}
	}
	return nil
}

func (p *parser) test(x expr) (expr, error) {
	t := testExpr{in: x, not: p.skipName("not")}
	n := p.next()
	if n.kind != tokName {
		return nil, p.fail("expected the name of a test, got %s", describe(n))
	}
	t.name = n.text
	fn, ok := tests[n.text]
	if !ok {
		return nil, p.fail("test %q is not supported", n.text)
	}
	t.fn = fn
	if p.isOp("(") {
		var err error
		t.args, err = p.arguments()
		return t, err
	}
	next := p.peek()
	takes := next.kind == tokName || next.kind == tokString || next.kind == tokNumber ||
		next.kind == tokOp && (next.text == "[" || next.text == "{")
	if takes && !p.isName("else", "or", "and") {
		if p.isName("is") {
			return nil, p.fail("tests cannot be chained")
		}
		arg, err := p.primary()
		if err == nil {
			arg, err = p.postfix(arg)
		}
		if err != nil {
			return nil, err
		}
		t.args.pos = []expr{arg}
	}
	return t, nil
}

func (p *parser) call(fn expr) (expr, error) {
	args, err := p.arguments()
	return call{fn, args}, err
}

// arguments parses (a, b, *c, k=d, **e).
func (p *parser) arguments() (arguments, error) {
	var a arguments
	p.pos++ // the opening parenthesis
	for first := true; !p.skipOp(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.skipOp(")") {
				break
			}
		}
		switch {
		case p.skipOp("*"):
			x, err := p.expression()
			if err != nil {
				return a, err
			}
			a.star = x
		case p.skipOp("**"):
			x, err := p.expression()
			if err != nil {
				return a, err
			}
			a.dict = x
		case p.peek().kind == tokName && p.toks[p.pos+1].kind == tokOp && p.toks[p.pos+1].text == "=":
			n := p.next().text
			p.pos++
			x, err := p.expression()
			if err != nil {
				return a, err
			}
			a.kwNames, a.kw = append(a.kwNames, n), append(a.kw, x)
		default:
			if a.kw != nil || a.star != nil || a.dict != nil {
				return a, p.fail("a positional argument follows a named one")
			}
			x, err := p.expression()
			if err != nil {
				return a, err
			}
			a.pos = append(a.pos, x)
		}
	}
	return a, nil
}
