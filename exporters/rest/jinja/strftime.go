package jinja

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// strftime formats t by C's directives as glibc has them in the C locale, with
// Python's %f, and with the flags - _ 0 ^ # and a width.
func strftime(t time.Time, aware bool, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		start := i
		i++
		flag := byte(0)
		for i < len(format) && strings.IndexByte("-_0^#", format[i]) >= 0 {
			flag = format[i]
			i++
		}
		if i == len(format) {
			b.WriteString(format[start:])
			break
		}
		s, ok := directive(t, aware, format[i], flag)
		if !ok {
			s = format[start : i+1] // glibc prints what it does not know
		}
		b.WriteString(s)
	}
	return b.String()
}

// directive formats one directive.
func directive(t time.Time, aware bool, c, flag byte) (string, bool) {
	num := func(n, width int, pad byte) string {
		switch flag {
		case '-':
			return strconv.Itoa(n)
		case '_':
			pad = ' '
		case '0':
			pad = '0'
		}
		s := strconv.Itoa(n)
		if len(s) < width {
			s = strings.Repeat(string(pad), width-len(s)) + s
		}
		return s
	}
	text := func(s string) string {
		if flag == '^' {
			return strings.ToUpper(s)
		}
		return s
	}
	isoYear, isoWeek := t.ISOWeek()
	weekday := int(t.Weekday())
	hour12 := (t.Hour()+11)%12 + 1
	switch c {
	case 'a':
		return text(t.Format("Mon")), true
	case 'A':
		return text(t.Format("Monday")), true
	case 'b', 'h':
		return text(t.Format("Jan")), true
	case 'B':
		return text(t.Format("January")), true
	case 'c':
		return t.Format("Mon Jan _2 15:04:05 2006"), true
	case 'C':
		return num(t.Year()/100, 2, '0'), true
	case 'd':
		return num(t.Day(), 2, '0'), true
	case 'D', 'x':
		return t.Format("01/02/06"), true
	case 'e':
		return num(t.Day(), 2, ' '), true
	case 'f':
		return fmt.Sprintf("%06d", t.Nanosecond()/1000), true
	case 'F':
		return fmt.Sprintf("%d-%s", t.Year(), t.Format("01-02")), true
	case 'g':
		return num(isoYear%100, 2, '0'), true
	case 'G':
		return num(isoYear, 1, '0'), true
	case 'H':
		return num(t.Hour(), 2, '0'), true
	case 'I':
		return num(hour12, 2, '0'), true
	case 'j':
		return num(t.YearDay(), 3, '0'), true
	case 'k':
		return num(t.Hour(), 2, ' '), true
	case 'l':
		return num(hour12, 2, ' '), true
	case 'm':
		return num(int(t.Month()), 2, '0'), true
	case 'M':
		return num(t.Minute(), 2, '0'), true
	case 'n':
		return "\n", true
	case 'p':
		if flag == '#' {
			return strings.ToLower(t.Format("PM")), true
		}
		return t.Format("PM"), true
	case 'P':
		return t.Format("pm"), true
	case 'r':
		return t.Format("03:04:05 PM"), true
	case 'R':
		return t.Format("15:04"), true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'S':
		return num(t.Second(), 2, '0'), true
	case 't':
		return "\t", true
	case 'T', 'X':
		return t.Format("15:04:05"), true
	case 'u':
		return num((weekday+6)%7+1, 1, '0'), true
	case 'U':
		return num((t.YearDay()+6-weekday)/7, 2, '0'), true
	case 'V':
		return num(isoWeek, 2, '0'), true
	case 'w':
		return num(weekday, 1, '0'), true
	case 'W':
		return num((t.YearDay()+6-(weekday+6)%7)/7, 2, '0'), true
	case 'y':
		return num(t.Year()%100, 2, '0'), true
	case 'Y':
		return num(t.Year(), 1, '0'), true
	case 'z':
		if !aware {
			return "", true
		}
		return zoneText(t, ""), true
	case 'Z':
		if !aware {
			return "", true
		}
		if name, off := t.Zone(); off != 0 && name == "" {
			return "UTC" + zoneText(t, ":"), true
		}
		return text(t.Format("MST")), true
	case '%':
		return "%", true
	}
	return "", false
}

// The patterns of strptime's directives, in Python's order of preference.
var strptimePatterns = map[byte]string{
	'd': `(?P<d>3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])`,
	'f': `(?P<f>[0-9]{1,6})`,
	'H': `(?P<H>2[0-3]|[0-1]\d|\d)`,
	'I': `(?P<I>1[0-2]|0[1-9]|[1-9])`,
	'j': `(?P<j>36[0-6]|3[0-5]\d|[1-2]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])`,
	'm': `(?P<m>1[0-2]|0[1-9]|[1-9])`,
	'M': `(?P<M>[0-5]\d|\d)`,
	'S': `(?P<S>6[0-1]|[0-5]\d|\d)`,
	'y': `(?P<y>\d\d)`,
	'Y': `(?P<Y>\d\d\d\d)`,
	'z': `(?P<z>[+-]\d\d:?[0-5]\d(?::?[0-5]\d(?:\.\d{1,6})?)?|(?-i:Z))`,
	'a': `(?:mon|tue|wed|thu|fri|sat|sun)`,
	'A': `(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)`,
	'b': `(?P<b>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)`,
	'B': `(?P<B>january|february|march|april|may|june|july|august|september|october|november|december)`,
	'p': `(?P<p>am|pm)`,
	'w': `(?:[0-6])`,
	'Z': `(?P<Z>utc|gmt)`,
	'%': `%`,
}

// strptime parses s by format as Python's datetime.strptime does: the result is
// naive unless the format has %z.
func strptime(s, format string) (DateTime, error) {
	var p strings.Builder
	p.WriteString(`(?i)^`)
	for i := 0; i < len(format); i++ {
		c := format[i]
		switch {
		case c == '%' && i+1 < len(format):
			i++
			pat, ok := strptimePatterns[format[i]]
			if !ok {
				return DateTime{}, errorf(ValueError, "'%c' is a bad directive in format %q", format[i], format)
			}
			p.WriteString(pat)
		case c == ' ' || c == '\t' || c == '\n':
			for i+1 < len(format) && strings.IndexByte(" \t\n", format[i+1]) >= 0 {
				i++
			}
			p.WriteString(`\s+`)
		default:
			p.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	re, err := regexp.Compile(p.String() + `$`)
	if err != nil {
		return DateTime{}, errorf(ValueError, "format %q has a directive twice", format)
	}
	m := re.FindStringSubmatch(s)
	if m == nil {
		return DateTime{}, errorf(ValueError, "time data %q does not match format %q", s, format)
	}
	f := map[string]string{}
	for i, name := range re.SubexpNames() {
		if name != "" {
			f[name] = strings.TrimSpace(m[i])
		}
	}
	return assemble(f, s)
}

// assemble makes a datetime of the fields that strptime found.
func assemble(f map[string]string, s string) (DateTime, error) {
	n := func(k string, otherwise int) int {
		if f[k] == "" {
			return otherwise
		}
		i, _ := strconv.Atoi(f[k])
		return i
	}
	year, month, mday := n("Y", 1900), n("m", 1), n("d", 1)
	if f["y"] != "" {
		if year = n("y", 0) + 2000; year > 2068 {
			year -= 100
		}
	}
	for _, k := range []string{"b", "B"} {
		if len(f[k]) >= 3 {
			month = strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(f[k])[:3])/3 + 1
		}
	}
	hour := n("H", 0)
	if f["I"] != "" {
		hour = n("I", 0) % 12
		if strings.EqualFold(f["p"], "pm") {
			hour += 12
		}
	}
	micros := 0
	if f["f"] != "" {
		micros, _ = strconv.Atoi((f["f"] + "00000")[:6])
	}
	if f["j"] != "" && f["m"] == "" && f["b"] == "" && f["B"] == "" {
		t := time.Date(year, 1, n("j", 1), 0, 0, 0, 0, time.UTC)
		month, mday = int(t.Month()), t.Day()
	}
	loc, aware := time.UTC, false
	if z := f["z"]; z != "" {
		off, ok := parseZone(z)
		if !ok {
			return DateTime{}, errorf(ValueError, "time data %q has a malformed zone", s)
		}
		aware = true
		if off != 0 {
			loc = time.FixedZone("", off)
		}
	}
	t := time.Date(year, time.Month(month), mday, hour, n("M", 0), n("S", 0), micros*1000, loc)
	if t.Day() != mday || t.Minute() != n("M", 0) || n("S", 0) > 59 || year < 1 {
		return DateTime{}, errorf(ValueError, "time data %q is no date", s)
	}
	return DateTime{t, aware}, nil
}

// ParseTime parses text or a number by a date format of the low-code framework:
// those of strptime and %s, %s_as_float, %ms, %epoch_microseconds, %_ms. Without a
// zone the result is UTC.
func ParseTime(v Value, format string) (DateTime, error) {
	text := Str(v)
	if scale, ok := map[string]int64{"%s": 1_000_000, "%ms": 1000, "%epoch_microseconds": 1}[format]; ok {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if f, isFloat := resolve(v).(float64); isFloat { // Python's int(1.5) is 1
			n, err = int64(f), nil
		}
		if err != nil || n > math.MaxInt64/scale || n < math.MinInt64/scale {
			return DateTime{}, errorf(ValueError, "time data %q does not match format %q", text, format)
		}
		return checkYear(DateTime{time.UnixMicro(n * scale).UTC(), true}, text)
	}
	if format == "%s_as_float" {
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.Abs(f) > 1e12 {
			return DateTime{}, errorf(ValueError, "time data %q does not match format %q", text, format)
		}
		return checkYear(DateTime{time.UnixMicro(int64(math.RoundToEven(f * 1e6))).UTC(), true}, text)
	}
	d, err := strptime(text, strings.ReplaceAll(format, "%_ms", "%f"))
	d.aware = true
	return d, err
}

func checkYear(d DateTime, text string) (DateTime, error) {
	if y := d.t.Year(); y < 1 || y > 9999 {
		return DateTime{}, errorf(ValueError, "year %d of %q is out of range", y, text)
	}
	return d, nil
}

// FormatTime formats a moment by a date format of the low-code framework.
func FormatTime(d DateTime, format string) string {
	switch format {
	case "%s":
		return strconv.FormatInt(int64(d.timestamp()), 10)
	case "%s_as_float":
		return FormatFloat(d.timestamp())
	case "%epoch_microseconds":
		return strconv.FormatInt(d.t.UnixMicro(), 10)
	case "%ms":
		return strconv.FormatInt(d.t.UnixMicro()/1000, 10)
	}
	if strings.Contains(format, "%_ms") {
		format = strings.ReplaceAll(format, "%_ms", fmt.Sprintf("%03d", d.t.Nanosecond()/1_000_000))
	}
	return strftime(d.t, d.aware, format)
}
