package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Expression is an interpolated string of a manifest: a template whose rendered
// text is read back as a Python literal. It is immutable and safe for concurrent use.
type Expression struct {
	src  string
	tpl  *Template
	text string // if the template is plain text
}

// Compile parses an interpolated string. It fails if the string uses a name that is
// not in scope, so that an export need not find out.
func Compile(src string, scope []string) (*Expression, error) {
	t, err := Parse(src)
	if err != nil {
		return nil, err
	}
	for _, n := range t.free {
		if n == "stream_state" {
			return nil, errorf(UndefinedError, "stream_state is not available to expressions")
		}
		if !slices.Contains(scope, n) {
			return nil, errorf(UndefinedError, "'%s' is not available here (there are %s)", n, strings.Join(scope, ", "))
		}
	}
	e := &Expression{src: src, tpl: t}
	if e.Static() {
		for _, s := range t.body {
			e.text += s.(text).s
		}
	}
	return e, nil
}

// Source returns the text of the expression.
func (e *Expression) Source() string { return e.src }

// Static reports whether the expression is plain text.
func (e *Expression) Static() bool {
	for _, s := range e.tpl.body {
		if _, ok := s.(text); !ok {
			return false
		}
	}
	return true
}

// Uses reports whether the expression takes the variable n.
func (e *Expression) Uses(n string) bool { return slices.Contains(e.tpl.free, n) }

// Types limits which types a literal may have; others stay text. Nil allows all.
type Types func(Value) bool

// TextOrList keeps texts and lists: numbers stay text.
func TextOrList(v Value) bool {
	switch v.(type) {
	case string, *List:
		return true
	}
	return false
}

// OnlyText reads nothing back: every result is a str.
func OnlyText(v Value) bool {
	_, ok := v.(string)
	return ok
}

// errUndefined marks that a default is to be used.
var errUndefined = errors.New("undefined")

// result renders and reads back. It fails with errUndefined if the text is empty or
// an undefined value was used.
func (e *Expression) result(env *Env, vars Vars, types Types) (Value, error) {
	out := e.text
	if !e.Static() {
		var err error
		out, err = e.tpl.Render(env, vars)
		var je *Error
		switch {
		case errors.As(err, &je) && je.Kind == UndefinedError:
			return nil, fmt.Errorf("%w: %w", errUndefined, err)
		case err != nil:
			return nil, fmt.Errorf("expression %q: %w", e.src, err)
		}
	}
	if out == "" {
		return nil, errUndefined
	}
	return read(out, types), nil
}

func read(out string, types Types) Value {
	v, ok := LiteralEval(out)
	if !ok || types != nil && !types(v) {
		return out
	}
	return v
}

// Eval evaluates the expression. As its own default (the rule for plain
// interpolated strings) it fails if it uses what is undefined.
func (e *Expression) Eval(env *Env, vars Vars, types Types) (Value, error) {
	v, err := e.result(env, vars, types)
	if errors.Is(err, errUndefined) {
		if errors.As(err, new(*Error)) {
			return nil, fmt.Errorf("expression %q: %w", e.src, err)
		}
		return "", nil
	}
	return v, err
}

// EvalText is Eval as text: Python's str() of the value.
func (e *Expression) EvalText(env *Env, vars Vars) (string, error) {
	v, err := e.Eval(env, vars, nil)
	if err != nil {
		return "", err
	}
	return Str(v), nil
}

// EvalOr evaluates the expression; if the result is empty or undefined it is def.
func (e *Expression) EvalOr(env *Env, vars Vars, types Types, def Value) (Value, error) {
	v, err := e.result(env, vars, types)
	if errors.Is(err, errUndefined) {
		return def, nil
	}
	return v, err
}

// EvalBool evaluates a condition. Empty and undefined results are false, and so are
// the literal zeros and empties; anything else is true, None included.
func (e *Expression) EvalBool(env *Env, vars Vars) (bool, error) {
	v, err := e.EvalOr(env, vars, nil, false)
	if err != nil {
		return false, err
	}
	switch x := v.(type) {
	case nil:
		return true, nil
	case string:
		return !slices.Contains([]string{"", "False", "false", "{}", "[]", "()", "0", "0.0"}, x), nil
	}
	return Truth(v), nil
}
