package jinja

// args are the evaluated arguments of a call.
type args struct {
	pos []Value
	kw  []keyword
}

type keyword struct {
	name string
	val  Value
}

type (
	function func(f *frame, a args) (Value, error)
	filter   func(f *frame, v Value, a args) (Value, error)
	test     func(f *frame, v Value, a args) (bool, error)
)

// missing marks a parameter that a call leaves out.
type missing struct{}

// take binds the arguments to named parameters, of which the first need are
// required. What a call leaves out is missing{}.
func (a args) take(need int, names ...string) ([]Value, error) {
	if len(a.pos) > len(names) {
		return nil, errorf(TypeError, "takes %d arguments but %d were given", len(names), len(a.pos))
	}
	out := make([]Value, len(names))
	for i := range out {
		out[i] = missing{}
		if i < len(a.pos) {
			out[i] = a.pos[i]
		}
	}
next:
	for _, k := range a.kw {
		for i, n := range names {
			if n == k.name {
				if i < len(a.pos) {
					return nil, errorf(TypeError, "got multiple values for argument '%s'", n)
				}
				out[i] = k.val
				continue next
			}
		}
		return nil, errorf(TypeError, "got an unexpected keyword argument '%s'", k.name)
	}
	for i := range need {
		if _, ok := out[i].(missing); ok {
			return nil, errorf(TypeError, "missing a required argument: '%s'", names[i])
		}
	}
	return out, nil
}

// The or functions read one argument: its value if it is given, else a default.

func textOr(v Value, def string) (string, error) {
	switch v := v.(type) {
	case missing:
		return def, nil
	case string:
		return v, nil
	}
	return "", errorf(TypeError, "must be str, not %s", typeName(v))
}

func intOr(v Value, def int) (int, error) {
	switch v := v.(type) {
	case missing:
		return def, nil
	case *Undefined:
		return 0, v.err()
	}
	if i, ok := Int(v); ok && i >= -1<<31 && i < 1<<31 {
		return int(i), nil
	}
	return 0, errorf(TypeError, "'%s' object cannot be interpreted as an integer", typeName(v))
}

func boolOr(v Value, def bool) bool {
	if _, ok := v.(missing); ok {
		return def
	}
	return Truth(v)
}

func given(v Value) bool {
	_, ok := v.(missing)
	return !ok
}
