package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// A Value is a Python value. Its dynamic type is one of
//
//	nil               None
//	bool              bool
//	int64, *big.Int   int (a big.Int only where an int64 cannot hold it)
//	Number            int or float, as a JSON lexeme that is kept when written again
//	float64           float
//	string            str
//	Bytes             bytes
//	*List Tuple *Dict *Set
//	DateTime Date TimeDelta Duration
//	*Undefined        what Jinja makes of a name or item that is not there
//
// and some that only exist during an evaluation (functions, methods).
type Value = any

// A Number is a number as a JSON document writes it.
type Number string

// Bytes is a Python bytes object.
type Bytes string

// A List is a Python list. Lists that come from outside an evaluation are not
// modified by it.
type List struct {
	Items []Value

	// Raw is the JSON text the list was parsed from, or nil if there is none or the
	// list was modified since.
	Raw []byte

	view  string // "dict_keys" and the like: such a list prints with this name
	owned bool   // made by this evaluation, so it may be modified
}

// A Tuple is a Python tuple.
type Tuple []Value

// An Undefined stands for a name, attribute or item that is not there.
type Undefined struct{ hint string }

// A Kind is the Python class of an error.
type Kind string

// The kinds of errors callers tell apart.
const (
	UndefinedError Kind = "UndefinedError"
	TypeError      Kind = "TypeError"
	ValueError     Kind = "ValueError"
	SyntaxError    Kind = "TemplateSyntaxError"
	LimitError     Kind = "LimitError" // a bound of this package was reached
	otherError     Kind = "Error"
)

// An Error is what went wrong in a template. Its text quotes the template's names,
// never the values of variables.
type Error struct {
	Kind Kind
	Msg  string
}

func (e *Error) Error() string { return string(e.Kind) + ": " + e.Msg }

func errorf(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

func (u *Undefined) err() error { return &Error{UndefinedError, u.hint} }

// NewList returns a list of items.
func NewList(items ...Value) *List { return &List{Items: items} }

// resolve turns a lexeme into the number it stands for and leaves other values alone.
func resolve(v Value) Value {
	n, ok := v.(Number)
	if !ok {
		return v
	}
	if !strings.ContainsAny(string(n), ".eE") {
		if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			return i
		}
		if b, ok := new(big.Int).SetString(string(n), 10); ok {
			return normal(b)
		}
	}
	f, _ := strconv.ParseFloat(string(n), 64) // out of range is ±Inf, as in Python
	return f
}

// normal returns b as an int64 if that can hold it.
func normal(b *big.Int) Value {
	if b.IsInt64() {
		return b.Int64()
	}
	return b
}

// typeName is Python's name of v's class, for messages.
func typeName(v Value) string {
	switch v := resolve(v).(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case Bytes:
		return "bytes"
	case *List:
		if v.view != "" {
			return v.view
		}
		return "list"
	case Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case *Set:
		return "set"
	case DateTime:
		return "datetime.datetime"
	case Date:
		return "datetime.date"
	case TimeDelta:
		return "datetime.timedelta"
	case Duration:
		return "Duration"
	case *Undefined:
		return "Undefined"
	}
	return "function"
}

// Truth is Python's bool(v).
func Truth(v Value) bool {
	switch v := resolve(v).(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case Bytes:
		return v != ""
	case *List:
		return v.view == "generator" || len(v.Items) > 0
	case Tuple:
		return len(v) > 0
	case *Dict:
		return v.Len() > 0
	case *Set:
		return v.d.Len() > 0
	case TimeDelta:
		return v != 0
	case Duration:
		return v.years != 0 || v.months != 0 || v.delta != 0
	case *Undefined:
		return false
	}
	return true
}

// number returns v as an int (*big.Int or int64) or float64, bools as 0 and 1.
func number(v Value) (Value, bool) {
	switch v := resolve(v).(type) {
	case bool:
		if v {
			return int64(1), true
		}
		return int64(0), true
	case int64, *big.Int, float64:
		return v, true
	}
	return nil, false
}

func toBig(v Value) *big.Int {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v)
	case *big.Int:
		return v
	}
	return new(big.Int)
}

func toFloat(v Value) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f
	case float64:
		return v
	}
	return math.NaN()
}

// Equal is Python's a == b.
func Equal(a, b Value) bool {
	a, b = resolve(a), resolve(b)
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && compareNumbers(x, y) == 0
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		y, ok := b.(string)
		return ok && a == y
	case Bytes:
		y, ok := b.(Bytes)
		return ok && a == y
	case *List:
		y, ok := b.(*List)
		return ok && equalItems(a.Items, y.Items)
	case Tuple:
		y, ok := b.(Tuple)
		return ok && equalItems(a, y)
	case *Dict:
		y, ok := b.(*Dict)
		return ok && a.equal(y)
	case *Set:
		y, ok := b.(*Set)
		return ok && a.d.equal(y.d)
	case *Undefined:
		_, ok := b.(*Undefined)
		return ok
	case DateTime:
		y, ok := b.(DateTime)
		return ok && a.aware == y.aware && a.t.Equal(y.t)
	case Date:
		y, ok := b.(Date)
		return ok && a.t.Equal(y.t)
	case TimeDelta:
		return a == b
	case Duration:
		return a == b
	}
	return false
}

func equalItems(a, b []Value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// compareNumbers returns -1, 0 or 1, or 2 if one is not a number (NaN).
func compareNumbers(x, y Value) int {
	fx, okx := x.(float64)
	fy, oky := y.(float64)
	if okx && math.IsNaN(fx) || oky && math.IsNaN(fy) {
		return 2
	}
	switch {
	case !okx && !oky:
		if a, ok := x.(int64); ok {
			if b, ok := y.(int64); ok {
				return cmpInt(a, b)
			}
		}
		return toBig(x).Cmp(toBig(y))
	case okx && oky:
		switch {
		case fx < fy:
			return -1
		case fx > fy:
			return 1
		}
		return 0
	case okx:
		return -compareNumbers(y, x)
	}
	// An int against a float: Python compares exactly.
	if math.IsInf(fy, 0) {
		return -int(math.Copysign(1, fy))
	}
	return new(big.Float).SetPrec(2048).SetInt(toBig(x)).Cmp(big.NewFloat(fy))
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// compare orders two values as Python's < does: -1, 0, 1, or 2 if neither (NaN).
func compare(a, b Value) (int, error) {
	a, b = resolve(a), resolve(b)
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			return compareNumbers(x, y), nil
		}
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), nil // UTF-8 sorts by code point
		}
	case Bytes:
		if y, ok := b.(Bytes); ok {
			return strings.Compare(string(x), string(y)), nil
		}
	case *List:
		if y, ok := b.(*List); ok && x.view == "" && y.view == "" {
			return compareItems(x.Items, y.Items)
		}
	case Tuple:
		if y, ok := b.(Tuple); ok {
			return compareItems(x, y)
		}
	case DateTime:
		if y, ok := b.(DateTime); ok && x.aware == y.aware {
			return x.t.Compare(y.t), nil
		}
	case Date:
		if y, ok := b.(Date); ok {
			return x.t.Compare(y.t), nil
		}
	case TimeDelta:
		if y, ok := b.(TimeDelta); ok {
			return cmpInt(int64(x), int64(y)), nil
		}
	case *Undefined:
		return 0, x.err()
	}
	if u, ok := b.(*Undefined); ok {
		return 0, u.err()
	}
	return 0, errorf(TypeError, "'%s' and '%s' cannot be ordered", typeName(a), typeName(b))
}

func compareItems(a, b []Value) (int, error) {
	for i := 0; i < len(a) && i < len(b); i++ {
		if !Equal(a[i], b[i]) {
			return compare(a[i], b[i])
		}
	}
	return cmpInt(int64(len(a)), int64(len(b))), nil
}

// Int returns v as an int64 if it is a Python int (or bool) that fits.
func Int(v Value) (int64, bool) {
	n, ok := number(v)
	if !ok {
		return 0, false
	}
	i, ok := n.(int64)
	return i, ok
}

// Float returns v as a float64 if it is a Python number.
func Float(v Value) (float64, bool) {
	n, ok := number(v)
	return toFloat(n), ok
}
