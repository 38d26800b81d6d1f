package jinja

import (
	"math/big"
	"strings"
	"unicode/utf8"
)

func (e constant) eval(f *frame) (Value, error) { return e.val, nil }

func (e name) eval(f *frame) (Value, error) { return f.lookup(e.name), f.spend(1) }

func (e getAttr) eval(f *frame) (Value, error) {
	obj, err := e.obj.eval(f)
	if err != nil {
		return nil, err
	}
	return f.attr(obj, e.name)
}

// attr is Jinja's obj.name: a Python attribute, else an item, else undefined.
func (f *frame) attr(obj Value, n string) (Value, error) {
	if err := f.spend(1); err != nil {
		return nil, err
	}
	if u, ok := obj.(*Undefined); ok {
		return nil, u.err()
	}
	if v, ok := attribute(obj, n); ok {
		return v, nil
	}
	if d, ok := obj.(*Dict); ok {
		if v, ok := d.Get(n); ok {
			return resolve(v), nil
		}
	}
	return &Undefined{"'" + typeName(obj) + " object' has no attribute '" + n + "'"}, nil
}

func (e getItem) eval(f *frame) (Value, error) {
	obj, err := e.obj.eval(f)
	if err != nil {
		return nil, err
	}
	if s, ok := e.key.(slice); ok {
		return s.of(f, obj)
	}
	key, err := e.key.eval(f)
	if err != nil {
		return nil, err
	}
	return f.item(obj, key)
}

// item is Jinja's obj[key]: an item, else (for a text key) an attribute, else
// undefined.
func (f *frame) item(obj, key Value) (Value, error) {
	if err := f.spend(1); err != nil {
		return nil, err
	}
	switch x := obj.(type) {
	case *Undefined:
		return nil, x.err()
	case *Dict:
		if v, ok := x.Get(key); ok {
			return resolve(v), nil
		}
	case *List, Tuple, string, Bytes:
		if i, ok := Int(key); ok {
			if v, ok := index(x, i); ok {
				return resolve(v), nil
			}
		}
	}
	if n, ok := key.(string); ok {
		if v, ok := attribute(obj, n); ok {
			return v, nil
		}
	}
	return &Undefined{"'" + typeName(obj) + " object' has no element " + Repr(key)}, nil
}

// index returns the i-th item of a sequence, counted from the end if negative.
func index(seq Value, i int64) (Value, bool) {
	pick := func(n int) (int, bool) {
		if i < 0 {
			i += int64(n)
		}
		return int(i), i >= 0 && i < int64(n)
	}
	switch x := seq.(type) {
	case *List:
		if x.view != "" {
			return nil, false
		}
		if j, ok := pick(len(x.Items)); ok {
			return x.Items[j], true
		}
	case Tuple:
		if j, ok := pick(len(x)); ok {
			return x[j], true
		}
	case Bytes:
		if j, ok := pick(len(x)); ok {
			return int64(x[j]), true
		}
	case string:
		if j, ok := pick(utf8.RuneCountInString(x)); ok {
			if len(x) == utf8.RuneCountInString(x) {
				return x[j : j+1], true
			}
			return string([]rune(x)[j]), true
		}
	}
	return nil, false
}

func (e slice) eval(f *frame) (Value, error) {
	return nil, errorf(TypeError, "a slice stands alone in its brackets")
}

// of is obj[lo:hi:step].
func (e slice) of(f *frame, obj Value) (Value, error) {
	if u, ok := obj.(*Undefined); ok {
		return nil, u.err()
	}
	var n int
	var runes []rune
	switch x := obj.(type) {
	case string:
		runes = []rune(x)
		n = len(runes)
	case *List:
		if x.view != "" {
			return nil, errorf(TypeError, "'%s' object is not subscriptable", x.view)
		}
		n = len(x.Items)
	case Tuple:
		n = len(x)
	case Bytes:
		n = len(x)
	default:
		return &Undefined{"'" + typeName(obj) + " object' cannot be sliced"}, nil
	}
	at, err := e.indices(f, n)
	if err != nil {
		return nil, err
	}
	if err := f.made(len(at)); err != nil {
		return nil, err
	}
	switch x := obj.(type) {
	case string:
		var b strings.Builder
		for _, i := range at {
			b.WriteRune(runes[i])
		}
		return b.String(), nil
	case Bytes:
		var b strings.Builder
		for _, i := range at {
			b.WriteByte(x[i])
		}
		return Bytes(b.String()), nil
	case *List:
		return own(pickItems(x.Items, at)), nil
	}
	return Tuple(pickItems(obj.(Tuple), at)), nil
}

func pickItems(items []Value, at []int) []Value {
	out := make([]Value, len(at))
	for i, j := range at {
		out[i] = items[j]
	}
	return out
}

// indices lists the positions that the slice takes of n.
func (e slice) indices(f *frame, n int) ([]int, error) {
	bounds := [3]int64{0, 0, 1}
	given := [3]bool{}
	for i, x := range []expr{e.lo, e.hi, e.step} {
		if x == nil {
			continue
		}
		v, err := x.eval(f)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		k, ok := Int(v)
		if !ok {
			return nil, errorf(TypeError, "slice indices must be integers or None")
		}
		bounds[i], given[i] = k, true
	}
	step := bounds[2]
	if step == 0 {
		return nil, errorf(ValueError, "slice step cannot be zero")
	}
	size := int64(n)
	first, last := int64(0), size
	if step < 0 {
		first, last = size-1, -1
	}
	clamp := func(k int64) int64 {
		if k < 0 {
			k += size
		}
		lo, hi := int64(0), size
		if step < 0 {
			lo, hi = -1, size-1
		}
		return max(lo, min(k, hi))
	}
	if given[0] {
		first = clamp(bounds[0])
	}
	if given[1] {
		last = clamp(bounds[1])
	}
	var at []int
	for i := first; step > 0 && i < last || step < 0 && i > last; i += step {
		at = append(at, int(i))
	}
	return at, nil
}

func (e call) eval(f *frame) (Value, error) {
	fn, err := e.fn.eval(f)
	if err != nil {
		return nil, err
	}
	a, err := e.args.eval(f)
	if err != nil {
		return nil, err
	}
	switch fn := fn.(type) {
	case function:
		if err := f.spend(2); err != nil {
			return nil, err
		}
		return fn(f, a)
	case *Undefined:
		return nil, fn.err()
	}
	return nil, errorf(TypeError, "'%s' object is not callable", typeName(fn))
}

func (a arguments) eval(f *frame) (args, error) {
	var out args
	for _, x := range a.pos {
		v, err := x.eval(f)
		if err != nil {
			return out, err
		}
		out.pos = append(out.pos, v)
	}
	if a.star != nil {
		v, err := a.star.eval(f)
		if err != nil {
			return out, err
		}
		items, err := f.iterate(v)
		if err != nil {
			return out, err
		}
		out.pos = append(out.pos, items...)
	}
	for i, x := range a.kw {
		v, err := x.eval(f)
		if err != nil {
			return out, err
		}
		out.kw = append(out.kw, keyword{a.kwNames[i], v})
	}
	if a.dict != nil {
		v, err := a.dict.eval(f)
		if err != nil {
			return out, err
		}
		d, ok := v.(*Dict)
		if !ok {
			return out, errorf(TypeError, "argument after ** must be a mapping, not %s", typeName(v))
		}
		for i := range d.keys {
			out.kw = append(out.kw, keyword{Str(d.keys[i]), resolve(d.vals[i])})
		}
	}
	return out, nil
}

func (e *filterExpr) eval(f *frame) (Value, error) {
	v, err := e.in.eval(f)
	if err != nil {
		return nil, err
	}
	a, err := e.args.eval(f)
	if err != nil {
		return nil, err
	}
	if err := f.spend(2); err != nil {
		return nil, err
	}
	return e.fn(f, v, a)
}

func (e testExpr) eval(f *frame) (Value, error) {
	v, err := e.in.eval(f)
	if err != nil {
		return nil, err
	}
	a, err := e.args.eval(f)
	if err != nil {
		return nil, err
	}
	ok, err := e.fn(f, v, a)
	return ok != e.not, err
}

func (e boolOp) eval(f *frame) (Value, error) {
	a, err := e.a.eval(f)
	if err != nil || Truth(a) == e.or {
		return a, err
	}
	return e.b.eval(f)
}

func (e condition) eval(f *frame) (Value, error) {
	t, err := e.test.eval(f)
	switch {
	case err != nil:
		return nil, err
	case Truth(t):
		return e.then.eval(f)
	case e.otherwise == nil:
		return &Undefined{"the inline if-expression was false and has no else"}, nil
	}
	return e.otherwise.eval(f)
}

func (e concat) eval(f *frame) (Value, error) {
	var b strings.Builder
	for _, x := range e.parts {
		v, err := x.eval(f)
		if err != nil {
			return nil, err
		}
		s, err := f.str(v)
		if err != nil {
			return nil, err
		}
		b.WriteString(s)
	}
	return b.String(), f.made(b.Len())
}

func evalAll(f *frame, xs []expr) ([]Value, error) {
	out := make([]Value, len(xs))
	for i, x := range xs {
		v, err := x.eval(f)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, f.spend(len(xs))
}

func (e listExpr) eval(f *frame) (Value, error) {
	items, err := evalAll(f, e.items)
	return own(items), err
}

func (e tupleExpr) eval(f *frame) (Value, error) {
	items, err := evalAll(f, e.items)
	return Tuple(items), err
}

func (e dictExpr) eval(f *frame) (Value, error) {
	d := &Dict{owned: true}
	for i := range e.keys {
		k, err := e.keys[i].eval(f)
		if err != nil {
			return nil, err
		}
		if _, err := hashable(k); err != nil {
			return nil, err
		}
		v, err := e.vals[i].eval(f)
		if err != nil {
			return nil, err
		}
		d.Set(k, v)
	}
	return d, f.spend(len(e.keys))
}

func (e comparison) eval(f *frame) (Value, error) {
	a, err := e.first.eval(f)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		b, err := e.rest[i].eval(f)
		if err != nil {
			return nil, err
		}
		ok, err := f.relation(op, a, b)
		if err != nil || !ok {
			return false, err
		}
		a = b
	}
	return true, nil
}

func (f *frame) relation(op string, a, b Value) (bool, error) {
	if err := f.spend(1); err != nil {
		return false, err
	}
	switch op {
	case "==":
		return Equal(a, b), nil
	case "!=":
		return !Equal(a, b), nil
	case "in", "not in":
		ok, err := f.contains(b, a)
		return ok == (op == "in"), err
	}
	c, err := compare(a, b)
	if err != nil || c == 2 {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

// contains is Python's e in v.
func (f *frame) contains(v, e Value) (bool, error) {
	switch x := v.(type) {
	case string:
		s, ok := e.(string)
		if !ok {
			return false, errorf(TypeError, "'in <string>' requires string as left operand, not %s", typeName(e))
		}
		return strings.Contains(x, s), f.spend(len(x) / 16)
	case *Dict:
		if _, err := hashable(e); err != nil {
			return false, err
		}
		return x.Has(e), nil
	case *Set:
		if _, err := hashable(e); err != nil {
			return false, err
		}
		return x.d.Has(e), nil
	}
	items, err := f.iterate(v)
	if err != nil {
		return false, err
	}
	for _, i := range items {
		if Equal(i, e) {
			return true, nil
		}
	}
	return false, nil
}

func (e unary) eval(f *frame) (Value, error) {
	v, err := e.x.eval(f)
	if err != nil {
		return nil, err
	}
	if e.op == "not" {
		return !Truth(v), nil
	}
	switch x := v.(type) {
	case *Undefined:
		return nil, x.err()
	case TimeDelta:
		if e.op == "-" {
			return -x, nil
		}
		return x, nil
	case Duration:
		if e.op == "-" {
			return x.Neg(), nil
		}
		return x, nil
	}
	n, ok := number(v)
	if !ok {
		return nil, errorf(TypeError, "bad operand type for unary %s: '%s'", e.op, typeName(v))
	}
	if e.op == "+" {
		return n, nil
	}
	if x, ok := n.(float64); ok {
		return -x, nil
	}
	return normal(new(big.Int).Neg(toBig(n))), nil
}
