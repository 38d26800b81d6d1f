package jinja

import (
	"slices"
	"strconv"
	"strings"
)

func edge(at int) filter {
	return func(f *frame, v Value, a args) (Value, error) {
		items, err := f.iterate(v)
		if err != nil {
			return nil, err
		}
		switch {
		case len(items) == 0:
			return &Undefined{"the sequence is empty"}, nil
		case at < 0:
			return items[len(items)-1], nil
		}
		return items[0], nil
	}
}

func listFilter(f *frame, v Value, a args) (Value, error) {
	items, err := f.iterate(v)
	return own(slices.Clone(items)), err
}

func itemsFilter(f *frame, v Value, a args) (Value, error) {
	switch x := v.(type) {
	case *Dict:
		return view("generator", x.pairs()), f.spend(2 * x.Len())
	case *Undefined:
		return view("generator", nil), nil
	}
	return nil, errorf(TypeError, "can only get item pairs from a mapping")
}

func reverseFilter(f *frame, v Value, a args) (Value, error) {
	if s, ok := v.(string); ok {
		r := []rune(s)
		slices.Reverse(r)
		return string(r), f.made(len(s))
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(items)
	slices.Reverse(out)
	return view("generator", out), nil
}

func joinFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "d", "attribute")
	if err != nil {
		return nil, err
	}
	sep := ""
	if given(p[0]) {
		sep = Str(p[0])
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	parts, size := make([]string, len(items)), 0
	for i, e := range items {
		if given(p[1]) && p[1] != nil {
			if e, err = f.path(e, p[1]); err != nil {
				return nil, err
			}
		}
		parts[i] = Str(e)
		if size += len(parts[i]) + len(sep); size > f.limit {
			return nil, f.made(size)
		}
	}
	return strings.Join(parts, sep), f.made(size)
}

// path looks up a dotted attribute ("a.b.0") or an index.
func (f *frame) path(v, attr Value) (Value, error) {
	if _, ok := attr.(string); !ok {
		return f.item(v, attr)
	}
	var err error
	for _, part := range strings.Split(attr.(string), ".") {
		var key Value = part
		if i, convErr := strconv.Atoi(part); convErr == nil && part != "" && part[0] != '-' && part[0] != '+' {
			key = int64(i)
		}
		if v, err = f.item(v, key); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// foldCase is Jinja's ignore_case.
func foldCase(v Value) Value {
	if s, ok := v.(string); ok {
		return strings.ToLower(s)
	}
	return v
}

// sortBy sorts items stably by keys; it fails if two cannot be ordered.
func (f *frame) sortBy(items []Value, key func(Value) (Value, error), reverse bool) ([]Value, error) {
	type entry struct{ key, val Value }
	entries := make([]entry, len(items))
	for i, e := range items {
		k, err := key(e)
		if err != nil {
			return nil, err
		}
		entries[i] = entry{k, e}
	}
	if err := f.spend(len(items) * 4); err != nil {
		return nil, err
	}
	var failed error
	slices.SortStableFunc(entries, func(a, b entry) int {
		c, err := compare(a.key, b.key)
		if err != nil && failed == nil {
			failed = err
		}
		if c == 2 {
			return 0
		}
		if reverse {
			return -c
		}
		return c
	})
	out := make([]Value, len(entries))
	for i, e := range entries {
		out[i] = e.val
	}
	return out, failed
}

// keyOf returns a function that takes an attribute (or a list of them, separated by
// commas, if several is set) of an item.
func (f *frame) keyOf(attr Value, caseSensitive, several bool) func(Value) (Value, error) {
	return func(v Value) (Value, error) {
		fold := func(v Value) Value {
			if caseSensitive {
				return v
			}
			return foldCase(v)
		}
		if !given(attr) || attr == nil {
			return fold(v), nil
		}
		s, isText := attr.(string)
		if !several || !isText || !strings.Contains(s, ",") {
			x, err := f.path(v, attr)
			return fold(x), err
		}
		var keys []Value
		for _, part := range strings.Split(s, ",") {
			x, err := f.path(v, part)
			if err != nil {
				return nil, err
			}
			keys = append(keys, fold(x))
		}
		return own(keys), nil
	}
}

func sortFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "reverse", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	out, err := f.sortBy(items, f.keyOf(p[2], boolOr(p[1], false), true), boolOr(p[0], false))
	return own(out), err
}

func dictSort(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "case_sensitive", "by", "reverse")
	if err != nil {
		return nil, err
	}
	by, err := textOr(p[1], "key")
	if err != nil {
		return nil, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return nil, needs("a mapping", v)
	}
	at, ok := map[string]int{"key": 0, "value": 1}[by]
	if !ok {
		return nil, errorf(otherError, `you can only sort by either "key" or "value"`)
	}
	out, err := f.sortBy(d.pairs(), func(e Value) (Value, error) {
		k := e.(Tuple)[at]
		if boolOr(p[0], false) {
			return k, nil
		}
		return foldCase(k), nil
	}, boolOr(p[2], false))
	return own(out), err
}

func groupBy(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(1, "attribute", "default", "case_sensitive")
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	get := func(e Value) (Value, error) {
		x, err := f.path(e, p[0])
		if _, undefined := x.(*Undefined); undefined && given(p[1]) {
			x = p[1]
		}
		return x, err
	}
	folded := func(e Value) (Value, error) {
		x, err := get(e)
		if boolOr(p[2], false) {
			return x, err
		}
		return foldCase(x), err
	}
	sorted, err := f.sortBy(items, folded, false)
	if err != nil {
		return nil, err
	}
	var groups []Value
	var last Value
	var members *List
	for _, e := range sorted {
		k, err := folded(e)
		if err != nil {
			return nil, err
		}
		if members == nil || !Equal(k, last) {
			shown, err := get(e)
			if err != nil {
				return nil, err
			}
			last, members = k, own(nil)
			groups = append(groups, Tuple{shown, members})
		}
		members.Items = append(members.Items, e)
	}
	return own(groups), nil
}

func uniqueFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	key := f.keyOf(p[1], boolOr(p[0], false), false)
	seen, out := new(Dict), []Value(nil)
	for _, e := range items {
		k, err := key(e)
		if err != nil {
			return nil, err
		}
		if _, err := hashable(k); err != nil {
			return nil, err
		}
		if !seen.Has(k) {
			seen.Set(k, true)
			out = append(out, e)
		}
	}
	return view("generator", out), f.spend(len(items))
}

func extremeFilter(sign int) filter {
	return func(f *frame, v Value, a args) (Value, error) {
		p, err := a.take(0, "case_sensitive", "attribute")
		if err != nil {
			return nil, err
		}
		items, err := f.iterate(v)
		if err != nil {
			return nil, err
		}
		if len(items) == 0 {
			return &Undefined{"No aggregated item, sequence was empty."}, nil
		}
		key := f.keyOf(p[1], boolOr(p[0], false), false)
		var best, bestKey Value
		for i, e := range items {
			k, err := key(e)
			if err != nil {
				return nil, err
			}
			c := sign
			if i > 0 {
				if c, err = compare(k, bestKey); err != nil {
					return nil, err
				}
			}
			if c == sign {
				best, bestKey = e, k
			}
		}
		return best, nil
	}
}

func sumFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(0, "attribute", "start")
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	var total Value = int64(0)
	if given(p[1]) {
		total = p[1]
	}
	for _, e := range items {
		if given(p[0]) && p[0] != nil {
			if e, err = f.path(e, p[0]); err != nil {
				return nil, err
			}
		}
		if total, err = f.arith("+", total, e); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// mapFilter applies a filter by name, or takes an attribute, of each item.
func mapFilter(f *frame, v Value, a args) (Value, error) {
	items, err := f.iterateTrue(v)
	if err != nil {
		return nil, err
	}
	apply := func(e Value) (Value, error) { return nil, errorf(TypeError, "map needs the name of a filter") }
	if len(a.pos) > 0 {
		n, _ := a.pos[0].(string)
		fn, ok := filterNamed(n)
		if !ok {
			return nil, errorf(SyntaxError, "filter %q is not supported", n)
		}
		rest := args{a.pos[1:], a.kw}
		apply = func(e Value) (Value, error) { return fn(f, e, rest) }
	} else {
		p, err := a.take(1, "attribute", "default")
		if err != nil {
			return nil, err
		}
		apply = func(e Value) (Value, error) {
			x, err := f.path(e, p[0])
			if _, undefined := x.(*Undefined); undefined && given(p[1]) {
				x = p[1]
			}
			return x, err
		}
	}
	out := make([]Value, len(items))
	for i, e := range items {
		if out[i], err = apply(e); err != nil {
			return nil, err
		}
	}
	return view("generator", out), f.spend(2 * len(items))
}

// iterateTrue iterates over v, which may be anything false.
func (f *frame) iterateTrue(v Value) ([]Value, error) {
	if !Truth(v) {
		return nil, nil
	}
	return f.iterate(v)
}

// pick is select, reject, selectattr and rejectattr.
func pick(byAttr, keep bool) filter {
	return func(f *frame, v Value, a args) (Value, error) {
		items, err := f.iterateTrue(v)
		if err != nil {
			return nil, err
		}
		rest := a.pos
		get := func(e Value) (Value, error) { return e, nil }
		if byAttr {
			if len(rest) == 0 {
				return nil, errorf(TypeError, "the name of an attribute is missing")
			}
			attr := rest[0]
			rest = rest[1:]
			get = func(e Value) (Value, error) { return f.path(e, attr) }
		}
		check := func(x Value) (bool, error) { return Truth(x), nil }
		if len(rest) > 0 {
			n, _ := rest[0].(string)
			fn, ok := tests[n]
			if !ok {
				return nil, errorf(SyntaxError, "test %q is not supported", n)
			}
			more := args{rest[1:], a.kw}
			check = func(x Value) (bool, error) { return fn(f, x, more) }
		}
		var out []Value
		for _, e := range items {
			x, err := get(e)
			if err != nil {
				return nil, err
			}
			ok, err := check(x)
			if err != nil {
				return nil, err
			}
			if ok == keep {
				out = append(out, e)
			}
		}
		return view("generator", out), f.spend(2 * len(items))
	}
}

func batchFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(1, "linecount", "fill_with")
	if err != nil {
		return nil, err
	}
	n, err := intOr(p[0], 0)
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	var out []Value
	var row []Value
	for _, e := range items {
		if len(row) == n {
			out, row = append(out, own(row)), nil
		}
		row = append(row, e)
	}
	if row != nil {
		if given(p[1]) && p[1] != nil && n > len(row) {
			if err := f.made(n); err != nil {
				return nil, err
			}
			for len(row) < n {
				row = append(row, p[1])
			}
		}
		out = append(out, own(row))
	}
	return view("generator", out), nil
}

func sliceFilter(f *frame, v Value, a args) (Value, error) {
	p, err := a.take(1, "slices", "fill_with")
	if err != nil {
		return nil, err
	}
	n, err := intOr(p[0], 0)
	if err != nil {
		return nil, err
	}
	items, err := f.iterate(v)
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, errorf(otherError, "integer division or modulo by zero")
	}
	if err := f.made(n); err != nil {
		return nil, err
	}
	per, extra, at := len(items)/n, len(items)%n, 0
	var out []Value
	for i := range n {
		size := per
		if i < extra {
			size++
		}
		row := slices.Clone(items[at : at+size])
		at += size
		if given(p[1]) && p[1] != nil && i >= extra {
			row = append(row, p[1])
		}
		out = append(out, own(row))
	}
	return view("generator", out), nil
}
