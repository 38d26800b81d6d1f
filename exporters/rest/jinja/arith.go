package jinja

import (
	"math"
	"math/big"
	"strings"
)

func (e binary) eval(f *frame) (Value, error) {
	a, err := e.a.eval(f)
	if err != nil {
		return nil, err
	}
	b, err := e.b.eval(f)
	if err != nil {
		return nil, err
	}
	return f.arith(e.op, a, b)
}

// arith is Python's a op b.
func (f *frame) arith(op string, a, b Value) (Value, error) {
	if err := f.spend(1); err != nil {
		return nil, err
	}
	a, b = resolve(a), resolve(b)
	if s, ok := a.(string); ok && op == "%" {
		return percentFormat(f, s, b)
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*Undefined); ok {
			return nil, u.err()
		}
	}
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			return f.numeric(op, x, y)
		}
	}
	switch op {
	case "+":
		if v, ok, err := f.join(a, b); ok || err != nil {
			return v, err
		}
	case "*":
		if v, ok, err := f.repeat(a, b); ok || err != nil {
			return v, err
		}
	}
	return times(op, a, b)
}

// join is + of sequences.
func (f *frame) join(a, b Value) (Value, bool, error) {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return x + y, true, f.made(len(x) + len(y))
		}
	case Bytes:
		if y, ok := b.(Bytes); ok {
			return x + y, true, f.made(len(x) + len(y))
		}
	case *List:
		if y, ok := b.(*List); ok && x.view == "" && y.view == "" {
			return own(append(append([]Value(nil), x.Items...), y.Items...)), true, f.made(len(x.Items) + len(y.Items))
		}
	case Tuple:
		if y, ok := b.(Tuple); ok {
			return append(append(Tuple(nil), x...), y...), true, f.made(len(x) + len(y))
		}
	}
	return nil, false, nil
}

// repeat is * of a sequence and an int.
func (f *frame) repeat(a, b Value) (Value, bool, error) {
	n, ok := Int(b)
	seq := a
	if !ok {
		if n, ok = Int(a); !ok {
			return nil, false, nil
		}
		seq = b
	}
	n = max(n, 0)
	check := func(size int) error {
		if size > 0 && n > int64(f.limit/size) {
			return errorf(LimitError, "the evaluation makes a value of %d times %d elements", n, size)
		}
		return f.made(size * int(n))
	}
	items := func(in []Value) []Value {
		var out []Value
		for range n {
			out = append(out, in...)
		}
		return out
	}
	switch x := seq.(type) {
	case string:
		if err := check(len(x)); err != nil || x == "" {
			return "", true, err
		}
		return strings.Repeat(x, int(n)), true, nil
	case *List:
		if err := check(16 * len(x.Items)); err != nil || len(x.Items) == 0 {
			return own(nil), true, err
		}
		return own(items(x.Items)), true, nil
	case Tuple:
		if err := check(16 * len(x)); err != nil || len(x) == 0 {
			return Tuple(nil), true, err
		}
		return Tuple(items(x)), true, nil
	}
	return nil, false, nil
}

// numeric is arithmetic of ints and floats.
func (f *frame) numeric(op string, x, y Value) (Value, error) {
	_, fx := x.(float64)
	_, fy := y.(float64)
	if fx || fy || op == "/" {
		if op == "/" && !fx && !fy {
			return divideInts(toBig(x), toBig(y))
		}
		return floats(op, toFloat(x), toFloat(y))
	}
	if a, ok := x.(int64); ok {
		if b, ok := y.(int64); ok {
			if v, ok := smallInts(op, a, b); ok {
				return v, nil
			}
		}
	}
	a, b, r := toBig(x), toBig(y), new(big.Int)
	if err := f.spend((a.BitLen()*b.BitLen())/4096 + 1); err != nil {
		return nil, err
	}
	switch op {
	case "+":
		return normal(r.Add(a, b)), nil
	case "-":
		return normal(r.Sub(a, b)), nil
	case "*":
		return normal(r.Mul(a, b)), nil
	case "//", "%":
		if b.Sign() == 0 {
			return nil, errorf(otherError, "integer division or modulo by zero")
		}
		m := new(big.Int)
		r.QuoRem(a, b, m)
		if m.Sign() != 0 && m.Sign() != b.Sign() { // Python floors
			r.Sub(r, big.NewInt(1))
			m.Add(m, b)
		}
		if op == "//" {
			return normal(r), nil
		}
		return normal(m), nil
	}
	return f.power(a, b)
}

// smallInts is the fast way, if nothing can overflow.
func smallInts(op string, a, b int64) (Value, bool) {
	const half = 1 << 31
	small := a > -half && a < half && b > -half && b < half
	if !small {
		return nil, false
	}
	switch op {
	case "+":
		return a + b, true
	case "-":
		return a - b, true
	case "*":
		return a * b, true
	}
	return nil, false
}

func (f *frame) power(a, b *big.Int) (Value, error) {
	if b.Sign() < 0 {
		return floats("**", toFloat(normal(a)), toFloat(normal(b)))
	}
	if !b.IsInt64() || a.BitLen() > 1 && b.Int64() > int64(1<<17/a.BitLen()) {
		return nil, errorf(LimitError, "the power is too large")
	}
	if a.BitLen() <= 1 && b.BitLen() > 1 { // -1, 0 or 1: only the exponent's parity counts
		b = big.NewInt(2 + int64(b.Bit(0)))
	}
	return normal(new(big.Int).Exp(a, b, nil)), nil
}

// divideInts is a / b of ints, correctly rounded.
func divideInts(a, b *big.Int) (Value, error) {
	if b.Sign() == 0 {
		return nil, errorf(otherError, "division by zero")
	}
	q, _ := new(big.Rat).SetFrac(a, b).Float64()
	if a.Sign() == 0 && b.Sign() < 0 {
		q = math.Copysign(0, -1)
	}
	if math.IsInf(q, 0) {
		return nil, errorf(otherError, "integer division result too large for a float")
	}
	return q, nil
}

func floats(op string, x, y float64) (Value, error) {
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "**":
		if x == 0 && y < 0 {
			return nil, errorf(otherError, "0.0 cannot be raised to a negative power")
		}
		r := math.Pow(x, y)
		if math.IsNaN(r) && !math.IsNaN(x) && !math.IsNaN(y) {
			return nil, errorf(otherError, "complex numbers are not supported")
		}
		if math.IsInf(r, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
			return nil, errorf(otherError, "numerical result out of range")
		}
		return r, nil
	}
	if y == 0 {
		return nil, errorf(otherError, "float division by zero")
	}
	if op == "/" {
		return x / y, nil
	}
	// As CPython's float_divmod.
	mod := math.Mod(x, y)
	div := (x - mod) / y
	if mod != 0 {
		if (y < 0) != (mod < 0) {
			mod += y
			div--
		}
	} else {
		mod = math.Copysign(0, y)
	}
	if op == "%" {
		return mod, nil
	}
	if div == 0 {
		return math.Copysign(0, x/y), nil
	}
	floor := math.Floor(div)
	if div-floor > 0.5 {
		floor++
	}
	return floor, nil
}

// times is arithmetic of dates and lengths of time.
func times(op string, a, b Value) (Value, error) {
	bad := errorf(TypeError, "unsupported operand type(s) for %s: '%s' and '%s'", op, typeName(a), typeName(b))
	isDate := func(v Value) bool {
		switch v.(type) {
		case DateTime, Date:
			return true
		}
		return false
	}
	switch {
	case op == "+" && isDate(a):
		return shift(a, b, 1)
	case op == "+" && isDate(b):
		return shift(b, a, 1)
	case op == "-" && isDate(a) && !isDate(b):
		return shift(a, b, -1)
	case op == "-" && isDate(a):
		return dateDifference(a, b, bad)
	}
	x, okX := asDuration(a)
	y, okY := asDuration(b)
	switch {
	case okX && okY && (op == "+" || op == "-"):
		if op == "-" {
			y = y.Neg()
		}
		return Duration{x.years + y.years, x.months + y.months, x.delta + y.delta}.simple(), nil
	case okX && okY:
		return divideDeltas(op, a, b, bad)
	case okX:
		return scale(op, a, b, bad)
	case okY && op == "*":
		return scale(op, b, a, bad)
	}
	return nil, bad
}

func asDuration(v Value) (Duration, bool) {
	switch v := v.(type) {
	case TimeDelta:
		return Duration{delta: v}, true
	case Duration:
		return v, true
	}
	return Duration{}, false
}

// simple returns d as a TimeDelta if it has no months and years.
func (d Duration) simple() Value {
	if d.years == 0 && d.months == 0 {
		return d.delta
	}
	return d
}

func dateDifference(a, b Value, bad error) (Value, error) {
	switch x := a.(type) {
	case DateTime:
		y, ok := b.(DateTime)
		if !ok {
			return nil, bad
		}
		if x.aware != y.aware {
			return nil, errorf(TypeError, "can't subtract offset-naive and offset-aware datetimes")
		}
		return TimeDelta(x.t.UnixMicro() - y.t.UnixMicro()), nil
	case Date:
		if y, ok := b.(Date); ok {
			return TimeDelta(x.t.UnixMicro() - y.t.UnixMicro()), nil
		}
	}
	return nil, bad
}

func divideDeltas(op string, a, b Value, bad error) (Value, error) {
	x, okX := a.(TimeDelta)
	y, okY := b.(TimeDelta)
	if !okX || !okY {
		return nil, bad
	}
	if y == 0 {
		return nil, errorf(otherError, "integer division or modulo by zero")
	}
	switch op {
	case "/":
		return divideInts(big.NewInt(int64(x)), big.NewInt(int64(y)))
	case "//", "%":
		q, m := x/y, x%y
		if m != 0 && (m < 0) != (y < 0) {
			q, m = q-1, m+y
		}
		if op == "//" {
			return int64(q), nil
		}
		return m, nil
	}
	return nil, bad
}

// scale multiplies or divides a length of time by a number.
func scale(op string, v, by Value, bad error) (Value, error) {
	x, ok := v.(TimeDelta)
	n, okN := number(by)
	if !ok || !okN {
		return nil, bad
	}
	var r float64
	switch op {
	case "*":
		if i, ok := n.(int64); ok && i > -1<<20 && i < 1<<20 && x > -1<<42 && x < 1<<42 {
			return x * TimeDelta(i), nil
		}
		r = float64(x) * toFloat(n)
	case "/", "//":
		d := toFloat(n)
		if _, isFloat := n.(float64); isFloat && op == "//" {
			return nil, bad
		}
		if d == 0 {
			return nil, errorf(otherError, "division by zero")
		}
		if r = math.RoundToEven(float64(x) / d); op == "//" {
			r = math.Floor(float64(x) / d)
		}
	default:
		return nil, bad
	}
	if math.IsNaN(r) || math.Abs(r) > math.MaxInt64/2 {
		return nil, errorf(otherError, "timedelta out of range")
	}
	return TimeDelta(math.RoundToEven(r)), nil
}
