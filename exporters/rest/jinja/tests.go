package jinja

import (
	"math/big"
	"unicode"
)

// tests are Jinja's own.
var tests = map[string]test{
	"defined":     func(f *frame, v Value, a args) (bool, error) { return !isUndefined(v), nil },
	"undefined":   func(f *frame, v Value, a args) (bool, error) { return isUndefined(v), nil },
	"none":        func(f *frame, v Value, a args) (bool, error) { return v == nil, nil },
	"boolean":     func(f *frame, v Value, a args) (bool, error) { _, ok := v.(bool); return ok, nil },
	"true":        func(f *frame, v Value, a args) (bool, error) { return v == true, nil },
	"false":       func(f *frame, v Value, a args) (bool, error) { return v == false, nil },
	"integer":     func(f *frame, v Value, a args) (bool, error) { return isInt(v), nil },
	"float":       func(f *frame, v Value, a args) (bool, error) { _, ok := v.(float64); return ok, nil },
	"number":      func(f *frame, v Value, a args) (bool, error) { _, ok := number(v); return ok, nil },
	"string":      func(f *frame, v Value, a args) (bool, error) { _, ok := v.(string); return ok, nil },
	"mapping":     func(f *frame, v Value, a args) (bool, error) { _, ok := v.(*Dict); return ok, nil },
	"callable":    func(f *frame, v Value, a args) (bool, error) { _, ok := v.(function); return ok || isUndefined(v), nil },
	"iterable":    func(f *frame, v Value, a args) (bool, error) { _, err := f.iterate(v); return err == nil, nil },
	"sequence":    isSequence,
	"even":        parity(0),
	"odd":         parity(1),
	"divisibleby": divisibleBy,
	"in":          inTest,
	"sameas":      func(f *frame, v Value, a args) (bool, error) { return same(v, a) },
	"lower":       func(f *frame, v Value, a args) (bool, error) { return allCased(Str(v), unicode.IsLower), nil },
	"upper":       func(f *frame, v Value, a args) (bool, error) { return allCased(Str(v), unicode.IsUpper), nil },
	"eq":          relationTest("=="),
	"equalto":     relationTest("=="),
	"==":          relationTest("=="),
	"ne":          relationTest("!="),
	"!=":          relationTest("!="),
	"lt":          relationTest("<"),
	"lessthan":    relationTest("<"),
	"<":           relationTest("<"),
	"le":          relationTest("<="),
	"<=":          relationTest("<="),
	"gt":          relationTest(">"),
	"greaterthan": relationTest(">"),
	">":           relationTest(">"),
	"ge":          relationTest(">="),
	">=":          relationTest(">="),
}

func isUndefined(v Value) bool {
	_, ok := v.(*Undefined)
	return ok
}

func isInt(v Value) bool {
	switch v.(type) {
	case int64, *big.Int:
		return true
	}
	return false
}

func isSequence(f *frame, v Value, a args) (bool, error) {
	switch x := v.(type) {
	case *List:
		return x.view == "", nil
	case Tuple, string, Bytes, *Dict, *Undefined:
		return true, nil
	}
	return false, nil
}

func parity(want int64) test {
	return func(f *frame, v Value, a args) (bool, error) {
		r, err := f.arith("%", v, int64(2))
		return err == nil && Equal(r, want), err
	}
}

func divisibleBy(f *frame, v Value, a args) (bool, error) {
	p, err := a.take(1, "num")
	if err != nil {
		return false, err
	}
	r, err := f.arith("%", v, p[0])
	return err == nil && Equal(r, int64(0)), err
}

func inTest(f *frame, v Value, a args) (bool, error) {
	p, err := a.take(1, "seq")
	if err != nil {
		return false, err
	}
	return f.contains(p[0], v)
}

// same is Python's "is" for the values of which there is one.
func same(v Value, a args) (bool, error) {
	p, err := a.take(1, "other")
	if err != nil {
		return false, err
	}
	return typeName(v) == typeName(p[0]) && Equal(v, p[0]), nil
}

// allCased is Python's islower or isupper of str(v): a cased letter, and none of
// the other case.
func allCased(s string, want func(rune) bool) bool {
	seen := false
	for _, r := range s {
		if unicode.IsUpper(r) || unicode.IsLower(r) {
			if !want(r) {
				return false
			}
			seen = true
		}
	}
	return seen
}

func relationTest(op string) test {
	return func(f *frame, v Value, a args) (bool, error) {
		p, err := a.take(1, "other")
		if err != nil {
			return false, err
		}
		return f.relation(op, v, p[0])
	}
}
