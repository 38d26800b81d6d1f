package jinja

import (
	"crypto/rand"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // so that today_with_timezone needs no file of the machine
)

// globals are the names that every template has: the macros of the low-code
// framework and two of Jinja's own. range, lipsum, cycler and joiner are not there.
var globals = map[string]function{
	"now_utc":                  nowUTC,
	"today_utc":                todayUTC,
	"today_with_timezone":      todayWithTimezone,
	"timestamp":                timestamp,
	"max":                      extremeMacro(1),
	"min":                      extremeMacro(-1),
	"day_delta":                dayDelta,
	"duration":                 durationMacro,
	"format_datetime":          formatDatetime,
	"str_to_datetime":          strToDatetime,
	"sanitize_url":             sanitizeURL,
	"camel_case_to_snake_case": camelToSnake,
	"generate_uuid":            generateUUID,
	"dict":                     makeDict,
	"namespace":                makeDict,
}

func now(f *frame) DateTime { return NewDateTime(f.env.Now().UTC()) }

func nowUTC(f *frame, a args) (Value, error) {
	_, err := a.take(0)
	return now(f), err
}

func todayUTC(f *frame, a args) (Value, error) {
	_, err := a.take(0)
	return dateOf(now(f).t), err
}

func todayWithTimezone(f *frame, a args) (Value, error) {
	v, err := a.take(1, "timezone")
	if err != nil {
		return nil, err
	}
	zone, err := textOr(v[0], "")
	if err != nil {
		return nil, err
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "" || zone == "Local" {
		return nil, errorf(otherError, "unknown time zone %q", zone)
	}
	return dateOf(f.env.Now().In(loc)), nil
}

func timestamp(f *frame, a args) (Value, error) {
	v, err := a.take(1, "dt")
	if err != nil {
		return nil, err
	}
	if n, ok := number(v[0]); ok {
		return truncate(n)
	}
	if d, ok := v[0].(DateTime); ok {
		return d.timestamp(), nil
	}
	s, err := textOr(v[0], "")
	if err != nil {
		return nil, err
	}
	d, err := ParseISO(s)
	return d.timestamp(), err
}

func strToDatetime(f *frame, a args) (Value, error) {
	v, err := a.take(1, "s")
	if err != nil {
		return nil, err
	}
	s, err := textOr(v[0], "")
	if err != nil {
		return nil, err
	}
	d, err := ParseISO(s)
	return DateTime{d.t.UTC(), true}, err
}

func extremeMacro(sign int) function {
	return func(f *frame, a args) (Value, error) {
		if len(a.kw) > 0 || len(a.pos) == 0 {
			return nil, errorf(TypeError, "takes one iterable or several values")
		}
		items := a.pos
		if len(items) == 1 {
			var err error
			if items, err = f.iterate(items[0]); err != nil {
				return nil, err
			}
		}
		if len(items) == 0 {
			return nil, errorf(ValueError, "the sequence is empty")
		}
		best := items[0]
		for _, v := range items[1:] {
			c, err := compare(v, best)
			if err != nil {
				return nil, err
			}
			if c == sign {
				best = v
			}
		}
		return best, nil
	}
}

func dayDelta(f *frame, a args) (Value, error) {
	v, err := a.take(1, "num_days", "format")
	if err != nil {
		return nil, err
	}
	format, err := textOr(v[1], "%Y-%m-%dT%H:%M:%S.%f%z")
	if err != nil {
		return nil, err
	}
	days, ok := Float(v[0])
	if !ok || days > 1e6 || days < -1e6 {
		return nil, errorf(TypeError, "day_delta takes a number of days")
	}
	d, err := shift(now(f), TimeDelta(days*float64(day)), 1)
	if err != nil {
		return nil, err
	}
	t := d.(DateTime)
	return strftime(t.t, true, format), nil
}

func durationMacro(f *frame, a args) (Value, error) {
	v, err := a.take(1, "datestring")
	if err != nil {
		return nil, err
	}
	s, err := textOr(v[0], "")
	if err != nil {
		return nil, err
	}
	d, err := ParseDuration(s)
	return d.simple(), err
}

func formatDatetime(f *frame, a args) (Value, error) {
	v, err := a.take(2, "dt", "format", "input_format")
	if err != nil {
		return nil, err
	}
	format, err := textOr(v[1], "")
	if err != nil {
		return nil, err
	}
	input := ""
	if v[2] != nil {
		if input, err = textOr(v[2], ""); err != nil {
			return nil, err
		}
	}
	var d DateTime
	switch x := v[0].(type) {
	case DateTime:
		return strftime(x.t, x.aware, format), nil
	case string:
		if input == "" {
			d, err = ParseISO(x)
			d.t = d.t.UTC()
		} else {
			d, err = strptime(x, input)
			d.aware = true
		}
	case *Undefined:
		return nil, x.err()
	default:
		if _, isInt := Int(x); !isInt {
			return nil, errorf(TypeError, "format_datetime takes a datetime, a text or an int, not a %s", typeName(x))
		}
		if input == "" {
			input = "%s"
		}
		d, err = ParseTime(x, input)
	}
	if err != nil {
		return nil, err
	}
	return FormatTime(d, format), nil
}

func sanitizeURL(f *frame, a args) (Value, error) {
	v, err := a.take(1, "value")
	if err != nil {
		return nil, err
	}
	s, err := textOr(v[0], "")
	return QuotePlus(s), err
}

// QuotePlus is Python's urllib.parse.quote_plus.
func QuotePlus(s string) string { return strings.ReplaceAll(quote(s, " "), " ", "+") }

// quote percent-encodes all bytes but ASCII letters, digits, _.-~ and those of safe.
func quote(s, safe string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-~"+safe, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

var upperRune = regexp.MustCompile(`[A-Z]`)

func camelToSnake(f *frame, a args) (Value, error) {
	v, err := a.take(1, "value")
	if err != nil {
		return nil, err
	}
	s, err := textOr(v[0], "")
	if err != nil {
		return nil, err
	}
	return CamelToSnake(s), nil
}

// CamelToSnake puts an underscore before each upper-case ASCII letter but the first
// character, and lowers the text.
func CamelToSnake(s string) string {
	t := upperRune.ReplaceAllString(s, "_$0")
	if s != "" && s[0] >= 'A' && s[0] <= 'Z' {
		t = t[1:]
	}
	return strings.ToLower(t)
}

func generateUUID(f *frame, a args) (Value, error) {
	if _, err := a.take(0); err != nil {
		return nil, err
	}
	var b [16]byte
	src := f.env.Random
	if src == nil {
		src = rand.Reader
	}
	if _, err := io.ReadFull(src, b[:]); err != nil {
		return nil, errorf(otherError, "no random bytes: %v", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

func makeDict(f *frame, a args) (Value, error) {
	d := &Dict{owned: true}
	for _, v := range a.pos {
		src, ok := v.(*Dict)
		if !ok || len(a.pos) > 1 {
			return nil, errorf(TypeError, "dict takes one mapping and named values")
		}
		for i := range src.keys {
			d.Set(src.keys[i], src.vals[i])
		}
	}
	for _, k := range a.kw {
		d.Set(k.name, k.val)
	}
	return d, f.spend(d.Len())
}
