package jinja

import (
	"math"
	"slices"
	"time"
)

// attribute returns a Python attribute or bound method of v from the tables here.
// Nothing else of a value can be reached.
func attribute(v Value, n string) (Value, bool) {
	switch x := v.(type) {
	case *Dict:
		if m, ok := dictMethods[n]; ok {
			return bindTo(x, m), true
		}
		if x.Attrs != nil {
			return x.Attrs.Get(n)
		}
	case *List:
		if m, ok := listMethods[n]; ok && x.view == "" {
			return bindTo(x, m), true
		}
	case Tuple:
		if m, ok := listMethods[n]; ok && (n == "index" || n == "count") {
			return bindTo(own(x), m), true
		}
	case string:
		if n == "format" {
			return bindTo(x, strFormat), true
		}
		if m, ok := strMethods[n]; ok {
			return bindTo(x, m), true
		}
	case Bytes:
		if n == "decode" {
			return function(func(f *frame, a args) (Value, error) { return string(x), nil }), true
		}
	case float64:
		if n == "is_integer" {
			return function(func(f *frame, a args) (Value, error) { return x == math.Trunc(x), nil }), true
		}
	case DateTime:
		return dateAttribute(x.t, x, n)
	case Date:
		return dateAttribute(x.t, x, n)
	case TimeDelta:
		return deltaAttribute(x, n)
	case Duration:
		switch n {
		case "years":
			return x.years, true
		case "months":
			return x.months, true
		}
	}
	return nil, false
}

func bindTo[T any](v T, m func(*frame, T, args) (Value, error)) function {
	return func(f *frame, a args) (Value, error) { return m(f, v, a) }
}

func view(kind string, items []Value) *List { return &List{Items: items, view: kind} }

// pairs returns the entries of d as tuples.
func (d *Dict) pairs() []Value {
	out := make([]Value, len(d.keys))
	for i, k := range d.keys {
		out[i] = Tuple{k, resolve(d.vals[i])}
	}
	return out
}

var dictMethods = map[string]func(*frame, *Dict, args) (Value, error){
	"get": func(f *frame, d *Dict, a args) (Value, error) {
		v, err := a.take(1, "key", "default")
		if err != nil {
			return nil, err
		}
		if _, err := hashable(v[0]); err != nil {
			return nil, err
		}
		if x, ok := d.Get(v[0]); ok {
			return resolve(x), nil
		}
		if given(v[1]) {
			return v[1], nil
		}
		return nil, nil
	},
	"keys": func(f *frame, d *Dict, a args) (Value, error) {
		return view("dict_keys", d.keys), f.spend(d.Len())
	},
	"values": func(f *frame, d *Dict, a args) (Value, error) {
		return view("dict_values", d.vals), f.spend(d.Len())
	},
	"items": func(f *frame, d *Dict, a args) (Value, error) {
		return view("dict_items", d.pairs()), f.spend(2 * d.Len())
	},
	"copy": func(f *frame, d *Dict, a args) (Value, error) {
		c := &Dict{owned: true}
		for i := range d.keys {
			c.Set(d.keys[i], d.vals[i])
		}
		return c, f.spend(d.Len())
	},
	"update": func(f *frame, d *Dict, a args) (Value, error) {
		if !d.owned {
			return nil, errNotOurs
		}
		more, err := makeDict(f, a)
		if err != nil {
			return nil, err
		}
		for i, k := range more.(*Dict).keys {
			d.Set(k, more.(*Dict).vals[i])
		}
		return nil, f.made(d.Len())
	},
	"pop": func(f *frame, d *Dict, a args) (Value, error) {
		v, err := a.take(1, "key", "default")
		if err != nil {
			return nil, err
		}
		if !d.owned {
			return nil, errNotOurs
		}
		x, ok := d.Get(v[0])
		switch {
		case ok:
			d.Delete(v[0])
			return resolve(x), nil
		case given(v[1]):
			return v[1], nil
		}
		return nil, errorf(otherError, "KeyError: %s", Repr(v[0]))
	},
}

var errNotOurs = errorf(otherError, "a template may only modify values it has made")

var listMethods = map[string]func(*frame, *List, args) (Value, error){
	"append": func(f *frame, l *List, a args) (Value, error) {
		v, err := a.take(1, "object")
		if err != nil {
			return nil, err
		}
		if !l.owned {
			return nil, errNotOurs
		}
		l.Items = append(l.Items, v[0])
		return nil, f.made(len(l.Items))
	},
	"index": func(f *frame, l *List, a args) (Value, error) {
		v, err := a.take(1, "value")
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(l.Items, func(e Value) bool { return Equal(e, v[0]) })
		if i < 0 {
			return nil, errorf(ValueError, "%s is not in list", Repr(v[0]))
		}
		return int64(i), f.spend(len(l.Items))
	},
	"count": func(f *frame, l *List, a args) (Value, error) {
		v, err := a.take(1, "value")
		n := int64(0)
		for _, e := range l.Items {
			if err == nil && Equal(e, v[0]) {
				n++
			}
		}
		return n, err
	},
	"copy": func(f *frame, l *List, a args) (Value, error) {
		return own(slices.Clone(l.Items)), f.made(len(l.Items))
	},
}

// dateAttribute serves datetime and date; v is the DateTime or Date.
func dateAttribute(t time.Time, v Value, n string) (Value, bool) {
	full, isFull := v.(DateTime)
	method := func(fn function) (Value, bool) { return fn, true }
	switch n {
	case "year":
		return int64(t.Year()), true
	case "month":
		return int64(t.Month()), true
	case "day":
		return int64(t.Day()), true
	case "weekday":
		return method(func(f *frame, a args) (Value, error) { return (int64(t.Weekday()) + 6) % 7, nil })
	case "isoweekday":
		return method(func(f *frame, a args) (Value, error) { return (int64(t.Weekday())+6)%7 + 1, nil })
	case "isocalendar":
		return method(func(f *frame, a args) (Value, error) {
			y, w := t.ISOWeek()
			return Tuple{int64(y), int64(w), (int64(t.Weekday())+6)%7 + 1}, nil
		})
	case "isoformat":
		return method(func(f *frame, a args) (Value, error) {
			if !isFull {
				return Str(v), nil
			}
			p, err := a.take(0, "sep")
			if err != nil {
				return nil, err
			}
			sep, err := textOr(p[0], "T")
			return full.isoformat(sep), err
		})
	case "strftime":
		return method(func(f *frame, a args) (Value, error) {
			p, err := a.take(1, "format")
			if err != nil {
				return nil, err
			}
			format, err := textOr(p[0], "")
			if err != nil {
				return nil, err
			}
			return strftime(t, isFull && full.aware, format), f.made(8 * len(format))
		})
	case "replace":
		return method(func(f *frame, a args) (Value, error) { return replaceDate(t, v, a) })
	case "toordinal":
		return method(func(f *frame, a args) (Value, error) {
			return dateOf(t).t.Unix()/86400 + 719163, nil
		})
	}
	if !isFull {
		return nil, false
	}
	switch n {
	case "hour":
		return int64(t.Hour()), true
	case "minute":
		return int64(t.Minute()), true
	case "second":
		return int64(t.Second()), true
	case "microsecond":
		return int64(t.Nanosecond() / 1000), true
	case "timestamp":
		return method(func(f *frame, a args) (Value, error) { return full.timestamp(), nil })
	case "date":
		return method(func(f *frame, a args) (Value, error) { return dateOf(t), nil })
	case "strptime":
		return method(func(f *frame, a args) (Value, error) {
			p, err := a.take(2, "date_string", "format")
			if err != nil {
				return nil, err
			}
			s, err := textOr(p[0], "")
			if err != nil {
				return nil, err
			}
			format, err := textOr(p[1], "")
			if err != nil {
				return nil, err
			}
			return strptime(s, format)
		})
	}
	return nil, false
}

// replaceDate is .replace(day=1, ...) of a datetime or date.
func replaceDate(t time.Time, v Value, a args) (Value, error) {
	full, isFull := v.(DateTime)
	names := []string{"year", "month", "day", "hour", "minute", "second", "microsecond"}
	if !isFull {
		names = names[:3]
	}
	p, err := a.take(0, names...)
	if err != nil {
		return nil, err
	}
	at := []int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond() / 1000}
	for i := range p {
		if at[i], err = intOr(p[i], at[i]); err != nil {
			return nil, err
		}
	}
	r := time.Date(at[0], time.Month(at[1]), at[2], at[3], at[4], at[5], at[6]*1000, t.Location())
	if r.Year() != at[0] || int(r.Month()) != at[1] || r.Day() != at[2] || r.Hour() != at[3] ||
		r.Minute() != at[4] || r.Second() != at[5] || at[0] < 1 || at[0] > 9999 || at[6] < 0 || at[6] > 999_999 {
		return nil, errorf(ValueError, "the replaced fields make no date")
	}
	if isFull {
		return DateTime{r, full.aware}, nil
	}
	return Date{r}, nil
}

func deltaAttribute(d TimeDelta, n string) (Value, bool) {
	days, s, us := d.parts()
	switch n {
	case "days":
		return days, true
	case "seconds":
		return s, true
	case "microseconds":
		return us, true
	case "total_seconds":
		return function(func(f *frame, a args) (Value, error) { return float64(d) / 1e6, nil }), true
	}
	return nil, false
}
