package jinja

import (
	"io"
	"strings"
	"time"
)

// An Env is what evaluations may know of the world. The zero Env is not usable: Now
// and Random must be set. It is safe for concurrent use.
type Env struct {
	Now    func() time.Time
	Random io.Reader // for generate_uuid

	Steps  int // of work an evaluation may take; 0 means 2,000,000
	Output int // bytes an evaluation may produce; 0 means 16 MiB
}

// Vars are the variables of an evaluation.
type Vars map[string]Value

// frame is one evaluation.
type frame struct {
	env    *Env
	vars   Vars
	scopes []map[string]Value
	out    *strings.Builder
	steps  int
	limit  int
	depth  int
}

// Render evaluates the template to text. It fails with an *[Error].
func (t *Template) Render(env *Env, vars Vars) (string, error) {
	f := &frame{env: env, vars: vars, scopes: []map[string]Value{{}}, out: new(strings.Builder), steps: env.Steps, limit: env.Output}
	if f.steps == 0 {
		f.steps = 2_000_000
	}
	if f.limit == 0 {
		f.limit = 16 << 20
	}
	if err := f.exec(t.body); err != nil {
		return "", err
	}
	return f.out.String(), nil
}

// spend takes n steps of the evaluation's budget.
func (f *frame) spend(n int) error {
	if f.steps -= n; f.steps < 0 || n < 0 {
		return errorf(LimitError, "the evaluation takes too many steps")
	}
	return nil
}

// made accounts for a text or list of n elements and passes it on.
func (f *frame) made(n int) error {
	if n > f.limit {
		return errorf(LimitError, "the evaluation makes a value of %d bytes", n)
	}
	return f.spend(n/16 + 1)
}

func (f *frame) write(s string) error {
	if f.out.Len()+len(s) > f.limit {
		return errorf(LimitError, "the output is too long")
	}
	f.out.WriteString(s)
	return f.spend(len(s)/16 + 1)
}

func (f *frame) exec(body []stmt) error {
	for _, s := range body {
		if err := f.spend(1); err != nil {
			return err
		}
		if err := s.exec(f); err != nil {
			return err
		}
	}
	return nil
}

// capture runs body and returns what it wrote.
func (f *frame) capture(body []stmt) (string, error) {
	outer := f.out
	f.out = new(strings.Builder)
	defer func() { f.out = outer }()
	err := f.exec(body)
	return f.out.String(), err
}

func (f *frame) pushScope() { f.scopes = append(f.scopes, map[string]Value{}) }
func (f *frame) popScope()  { f.scopes = f.scopes[:len(f.scopes)-1] }
func (f *frame) set(n string, v Value) {
	f.scopes[len(f.scopes)-1][n] = v
}

// assign unpacks v into names.
func (f *frame) assign(names []string, v Value) error {
	if len(names) == 1 {
		f.set(names[0], v)
		return nil
	}
	items, err := f.iterate(v)
	if err != nil {
		return err
	}
	if len(items) != len(names) {
		return errorf(ValueError, "%d values for %d names", len(items), len(names))
	}
	for i, n := range names {
		f.set(n, items[i])
	}
	return nil
}

func (s text) exec(f *frame) error { return f.write(s.s) }

func (s output) exec(f *frame) error {
	v, err := s.x.eval(f)
	if err != nil {
		return err
	}
	t, err := f.str(v)
	if err != nil {
		return err
	}
	return f.write(t)
}

// str is str(v) for text that an evaluation makes.
func (f *frame) str(v Value) (string, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case *List:
		if x.view == "generator" {
			return "", errorf(TypeError, "a generator has no text of its own; add | list")
		}
	case function:
		return "", errorf(TypeError, "a function has no text of its own; call it")
	}
	s := Str(v)
	return s, f.made(len(s))
}

func (s ifStmt) exec(f *frame) error {
	for i, test := range s.tests {
		v, err := test.eval(f)
		if err != nil {
			return err
		}
		if Truth(v) {
			return f.exec(s.bodies[i])
		}
	}
	if len(s.bodies) > len(s.tests) {
		return f.exec(s.bodies[len(s.tests)])
	}
	return nil
}

func (s forStmt) exec(f *frame) error {
	v, err := s.in.eval(f)
	if err != nil {
		return err
	}
	items, err := f.iterate(v)
	if err != nil {
		return err
	}
	f.pushScope()
	defer f.popScope()
	if s.where != nil {
		var kept []Value
		for _, e := range items {
			if err := f.assign(s.targets, e); err != nil {
				return err
			}
			ok, err := s.where.eval(f)
			if err != nil {
				return err
			}
			if Truth(ok) {
				kept = append(kept, e)
			}
		}
		items = kept
	}
	if len(items) == 0 {
		return f.exec(s.empty)
	}
	for i, e := range items {
		if err := f.spend(16); err != nil { // what a turn of a loop costs
			return err
		}
		f.scopes[len(f.scopes)-1] = map[string]Value{}
		if err := f.assign(s.targets, e); err != nil {
			return err
		}
		f.set("loop", loopVar(items, i))
		if err := f.exec(s.body); err != nil {
			return err
		}
	}
	return nil
}

func loopVar(items []Value, i int) Value {
	at := func(j int) Value {
		if j < 0 || j >= len(items) {
			return &Undefined{"there is no such loop item"}
		}
		return items[j]
	}
	n := int64(len(items))
	d := NewDict("index", int64(i+1), "index0", int64(i), "first", i == 0, "last", i == len(items)-1,
		"length", n, "revindex", n-int64(i), "revindex0", n-int64(i)-1, "previtem", at(i-1), "nextitem", at(i+1),
		"depth", int64(1), "depth0", int64(0))
	d.Set("cycle", function(func(f *frame, a args) (Value, error) {
		if len(a.pos) == 0 {
			return nil, errorf(TypeError, "no items for cycling given")
		}
		return a.pos[i%len(a.pos)], nil
	}))
	return d
}

func (s setStmt) exec(f *frame) error {
	v, err := s.x.eval(f)
	if err != nil {
		return err
	}
	if s.attr == "" {
		return f.assign(s.targets, v)
	}
	ns, ok := f.lookup(s.targets[0]).(*Dict)
	if !ok || !ns.owned {
		return errorf(TypeError, "cannot assign an attribute of what is no namespace")
	}
	ns.Set(s.attr, v)
	return f.made(ns.Len())
}

func (s setBlock) exec(f *frame) error {
	out, err := f.capture(s.body)
	if err != nil {
		return err
	}
	v, err := applyChain(f, s.filters, out)
	if err != nil {
		return err
	}
	f.set(s.target, v)
	return nil
}

func (s filterBlock) exec(f *frame) error {
	out, err := f.capture(s.body)
	if err != nil {
		return err
	}
	v, err := applyChain(f, s.filters, out)
	if err != nil {
		return err
	}
	t, err := f.str(v)
	if err != nil {
		return err
	}
	return f.write(t)
}

func applyChain(f *frame, chain []*filterExpr, v Value) (Value, error) {
	for _, x := range chain {
		a, err := x.args.eval(f)
		if err == nil {
			v, err = x.fn(f, v, a)
		}
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (s withStmt) exec(f *frame) error {
	vals := make([]Value, len(s.vals))
	for i, x := range s.vals {
		v, err := x.eval(f)
		if err != nil {
			return err
		}
		vals[i] = v
	}
	f.pushScope()
	defer f.popScope()
	for i, n := range s.names {
		f.set(n, vals[i])
	}
	return f.exec(s.body)
}

// lookup finds a name: bound by the template, given as a variable, a function that
// is always there, else undefined.
func (f *frame) lookup(n string) Value {
	for i := len(f.scopes) - 1; i >= 0; i-- {
		if v, ok := f.scopes[i][n]; ok {
			return v
		}
	}
	if v, ok := f.vars[n]; ok {
		return resolve(v)
	}
	if g, ok := globals[n]; ok {
		return g
	}
	return &Undefined{"'" + n + "' is undefined"}
}

// iterate returns the items of an iterable.
func (f *frame) iterate(v Value) ([]Value, error) {
	var items []Value
	switch v := resolve(v).(type) {
	case *List:
		items = v.Items
	case Tuple:
		items = v
	case *Dict:
		items = v.keys
	case *Set:
		items = v.d.keys
	case string:
		items = make([]Value, 0, len(v))
		for _, r := range v {
			items = append(items, string(r))
		}
	case Bytes:
		for i := 0; i < len(v); i++ {
			items = append(items, int64(v[i]))
		}
	case *Undefined:
	default:
		return nil, errorf(TypeError, "'%s' object is not iterable", typeName(v))
	}
	if err := f.spend(len(items)); err != nil {
		return nil, err
	}
	out := items
	for i, e := range items {
		if n, ok := e.(Number); ok { // resolve lexemes, without touching the source
			if &out[0] == &items[0] {
				out = append([]Value(nil), items...)
			}
			out[i] = resolve(n)
		}
	}
	return out, nil
}

// own makes a list that the evaluation may modify.
func own(items []Value) *List { return &List{Items: items, owned: true} }
