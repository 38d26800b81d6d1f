package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A DateTime is a Python datetime with microseconds. A naive one (no zone) is held
// as if it were UTC.
type DateTime struct {
	t     time.Time
	aware bool
}

// A Date is a Python date.
type Date struct{ t time.Time }

// A TimeDelta is a Python timedelta in microseconds.
type TimeDelta int64

// A Duration is a length of time with calendar months and years, as ISO 8601 and
// the isodate library have it. One without them is a [TimeDelta].
type Duration struct {
	years, months int64
	delta         TimeDelta
}

const (
	microsecond TimeDelta = 1
	second                = 1_000_000 * microsecond
	minute                = 60 * second
	hour                  = 60 * minute
	day                   = 24 * hour
)

// NewDateTime returns t, cut to microseconds, as a datetime with a zone.
func NewDateTime(t time.Time) DateTime { return DateTime{t.Truncate(time.Microsecond), true} }

// Time returns the moment; a naive datetime counts as UTC.
func (d DateTime) Time() time.Time { return d.t }

// Time returns midnight UTC of the date.
func (d Date) Time() time.Time { return d.t }

func dateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{time.Date(y, m, d, 0, 0, 0, 0, time.UTC)}
}

func (d Date) String() string { return isoDate(d.t) }

func isoDate(t time.Time) string {
	y, m, d := t.Date()
	return fmt.Sprintf("%04d-%02d-%02d", y, m, d)
}

func (d DateTime) isoformat(sep string) string {
	s := isoDate(d.t) + sep + d.t.Format("15:04:05")
	if us := d.t.Nanosecond() / 1000; us != 0 {
		s += fmt.Sprintf(".%06d", us)
	}
	if d.aware {
		s += zoneText(d.t, ":")
	}
	return s
}

// zoneText is the UTC offset as +HH<sep>MM, with seconds if it has any.
func zoneText(t time.Time, sep string) string {
	_, off := t.Zone()
	sign := '+'
	if off < 0 {
		sign, off = '-', -off
	}
	s := fmt.Sprintf("%c%02d%s%02d", sign, off/3600, sep, off/60%60)
	if off%60 != 0 {
		s += fmt.Sprintf("%s%02d", sep, off%60)
	}
	return s
}

func (d DateTime) repr() string {
	y, m, day := d.t.Date()
	s := fmt.Sprintf("datetime.datetime(%d, %d, %d, %d, %d", y, m, day, d.t.Hour(), d.t.Minute())
	us := d.t.Nanosecond() / 1000
	if d.t.Second() != 0 || us != 0 {
		s += fmt.Sprintf(", %d", d.t.Second())
	}
	if us != 0 {
		s += fmt.Sprintf(", %d", us)
	}
	if d.aware {
		if _, off := d.t.Zone(); off == 0 {
			s += ", tzinfo=datetime.timezone.utc"
		} else {
			s += ", tzinfo=datetime.timezone(" + (TimeDelta(off) * second).repr() + ")"
		}
	}
	return s + ")"
}

// timestamp is the number of seconds since the epoch, as Python's float.
func (d DateTime) timestamp() float64 {
	return float64(d.t.Unix()) + float64(d.t.Nanosecond()/1000)/1e6
}

// parts splits a timedelta as Python does: only the days may be negative.
func (d TimeDelta) parts() (days, seconds, micros int64) {
	days = int64(d / day)
	rest := d % day
	if rest < 0 {
		days, rest = days-1, rest+day
	}
	return days, int64(rest / second), int64(rest % second)
}

func (d TimeDelta) String() string {
	days, s, us := d.parts()
	var out string
	if days != 0 {
		out = fmt.Sprintf("%d day", days)
		if days != 1 && days != -1 {
			out += "s"
		}
		out += ", "
	}
	out += fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	if us != 0 {
		out += fmt.Sprintf(".%06d", us)
	}
	return out
}

func (d TimeDelta) repr() string {
	days, s, us := d.parts()
	var args []string
	for _, p := range []struct {
		name string
		n    int64
	}{{"days", days}, {"seconds", s}, {"microseconds", us}} {
		if p.n != 0 {
			args = append(args, p.name+"="+strconv.FormatInt(p.n, 10))
		}
	}
	if args == nil {
		args = []string{"0"}
	}
	return "datetime.timedelta(" + strings.Join(args, ", ") + ")"
}

func (d Duration) String() string {
	var parts []string
	add := func(n int64, unit string) {
		if n == 0 {
			return
		}
		if n != 1 {
			unit += "s"
		}
		parts = append(parts, fmt.Sprintf("%d %s", n, unit))
	}
	add(d.years, "year")
	add(d.months, "month")
	return strings.Join(append(parts, d.delta.String()), ", ")
}

// Add returns t plus the duration, by calendar months first (a day that the month
// lacks becomes its last), then by exact time.
func (d Duration) Add(t time.Time) time.Time {
	y, m, dd := t.Date()
	months := int(m) - 1 + int(d.months) + 12*int(d.years)
	y += floorDiv(months, 12)
	month := time.Month(months-12*floorDiv(months, 12)) + 1
	if last := time.Date(y, month+1, 0, 0, 0, 0, 0, time.UTC).Day(); dd > last {
		dd = last
	}
	t = time.Date(y, month, dd, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	return t.Add(d.delta.Std())
}

// Neg returns -d.
func (d Duration) Neg() Duration { return Duration{-d.years, -d.months, -d.delta} }

// IsZero reports whether d is no time at all.
func (d Duration) IsZero() bool { return d == Duration{} }

// Std returns the exact part of d as a Go duration, capped at its range (292 years).
func (d TimeDelta) Std() time.Duration {
	if d > math.MaxInt64/1000 || d < math.MinInt64/1000 {
		return time.Duration(math.Copysign(math.MaxInt64, float64(d)))
	}
	return time.Duration(d) * time.Microsecond
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// ParseDuration parses an ISO 8601 duration ("P1Y2M", "PT30M", "P1DT12H", "P2W").
func ParseDuration(s string) (Duration, error) {
	bad := errorf(ValueError, "%q is not an ISO 8601 duration", s)
	rest, neg := s, false
	if strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "+") {
		neg, rest = rest[0] == '-', rest[1:]
	}
	rest, ok := strings.CutPrefix(rest, "P")
	if !ok || rest == "" {
		return Duration{}, bad
	}
	var d Duration
	units := "YMWD"
	inTime := false
	for rest != "" {
		if rest[0] == 'T' && !inTime {
			inTime, units, rest = true, "HMS", rest[1:]
			if rest == "" {
				return Duration{}, bad
			}
			continue
		}
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != ',' })
		if n <= 0 || n > 12 {
			return Duration{}, bad
		}
		u := strings.IndexByte(units, rest[n])
		if u < 0 {
			return Duration{}, bad
		}
		f, err := strconv.ParseFloat(strings.Replace(rest[:n], ",", ".", 1), 64)
		if err != nil || f > 1e9 {
			return Duration{}, bad
		}
		unit := string(rest[n])
		units, rest = units[u+1:], rest[n+1:]
		if !d.add(unit, inTime, f) {
			return Duration{}, bad
		}
	}
	if neg {
		d = d.Neg()
	}
	return d, nil
}

// add adds n units, and reports whether they can be held exactly enough.
func (d *Duration) add(unit string, inTime bool, n float64) bool {
	scale := map[string]TimeDelta{"W": 7 * day, "D": day, "H": hour, "S": second, "M": minute}[unit]
	switch {
	case unit == "Y" || unit == "M" && !inTime:
		if n != math.Trunc(n) || n > 10_000 {
			return false
		}
		if unit == "Y" {
			d.years = int64(n)
		} else {
			d.months = int64(n)
		}
		return true
	case n*float64(scale) > math.MaxInt64/4:
		return false
	}
	d.delta += TimeDelta(math.Round(n * float64(scale)))
	return true
}

// shift adds a TimeDelta or Duration to a DateTime or Date; sign is 1 or -1.
func shift(v, by Value, sign int) (Value, error) {
	var d Duration
	switch by := by.(type) {
	case TimeDelta:
		d.delta = by
	case Duration:
		d = by
	default:
		return nil, errorf(TypeError, "a %s cannot be added to a %s", typeName(by), typeName(v))
	}
	if _, ok := v.(Date); ok { // a date moves by whole days
		days, _, _ := d.delta.parts()
		d.delta = TimeDelta(days) * day
	}
	if sign < 0 {
		d = d.Neg()
	}
	in := func(t time.Time) error {
		if t.Year() < 1 || t.Year() > 9999 {
			return errorf(otherError, "date value out of range")
		}
		return nil
	}
	switch v := v.(type) {
	case DateTime:
		t := d.Add(v.t)
		return DateTime{t, v.aware}, in(t)
	case Date:
		t := d.Add(v.t)
		return Date{t}, in(t)
	}
	return nil, errorf(TypeError, "a %s is no date", typeName(v))
}

// ParseISO parses an ISO 8601 date or datetime ("2026-01-15", "20260115T102030Z",
// "2026-01-15T10:20:30.123+01:00"), as dateutil's isoparse does. Without a zone it
// is UTC.
func ParseISO(s string) (DateTime, error) {
	bad := errorf(ValueError, "%q is not an ISO 8601 date", s)
	date, clock := s, ""
	if len(s) > 8 {
		if i := strings.IndexAny(s, "T "); i > 0 {
			date, clock = s[:i], s[i+1:]
			if clock == "" {
				return DateTime{}, bad
			}
		}
	}
	var t time.Time
	var err error
	for _, layout := range []string{"2006-01-02", "20060102", "2006-01", "2006"} {
		if len(layout) != len(date) {
			continue
		}
		if t, err = time.Parse(layout, date); err == nil {
			break
		}
	}
	if err != nil || t.IsZero() && date != "0001-01-01" {
		return DateTime{}, bad
	}
	if clock == "" {
		return DateTime{t, true}, nil
	}
	zone := time.UTC
	if i := strings.IndexAny(clock, "Z+-"); i >= 0 {
		off, ok := parseZone(clock[i:])
		if !ok {
			return DateTime{}, bad
		}
		if off != 0 {
			zone = time.FixedZone("", off)
		}
		clock = clock[:i]
	}
	clock = strings.Replace(clock, ",", ".", 1)
	for _, layout := range []string{"15", "15:04", "1504", "15:04:05", "150405"} {
		whole, _, _ := strings.Cut(clock, ".")
		if len(layout) != len(whole) {
			continue
		}
		if c, err := time.Parse(layout, clock); err == nil {
			y, m, d := t.Date()
			return DateTime{time.Date(y, m, d, c.Hour(), c.Minute(), c.Second(), c.Nanosecond()/1000*1000, zone), true}, nil
		}
	}
	return DateTime{}, bad
}

// parseZone parses Z, +HH, +HHMM, +HH:MM and those with seconds, in seconds.
func parseZone(s string) (int, bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	digits := strings.ReplaceAll(s[1:], ":", "")
	if len(digits) != 2 && len(digits) != 4 && len(digits) != 6 {
		return 0, false
	}
	digits += strings.Repeat("0", 6-len(digits))
	n, err := strconv.ParseUint(digits, 10, 32)
	h, m, sec := int(n/10000), int(n/100%100), int(n%100)
	if err != nil || h > 23 || m > 59 || sec > 59 {
		return 0, false
	}
	off := h*3600 + m*60 + sec
	if s[0] == '-' {
		off = -off
	}
	return off, true
}
