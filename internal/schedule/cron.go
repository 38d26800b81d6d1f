package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Cron is a set of minutes: the five fields of crontab(5) in UTC. Names of months
// and days are written with three letters; Sunday is 0 or 7. The zero Cron never
// fires.
//
// Cron programs disagree about a day of the month and a day of the week that are both
// given when one of them is a step over all values ("*/2"), or is all of them in other
// words than "*" ("0-6"), so both are refused; otherwise either one is enough, as
// crontab(5) says.
type Cron struct {
	text   string
	fields [5]field
}

// The places of the fields.
const (
	minute = iota
	hour
	dayOfMonth
	month
	dayOfWeek
)

// A field is the set of its values, bit n for value n.
type field struct {
	set  uint64
	full bool // every value: the field does not restrict
}

func (f field) has(n int) bool { return f.set&(1<<n) != 0 }

var bounds = [5]struct {
	name     string
	min, max int
	names    []string // name i stands for min+i
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// Pattern is the shape of an expression as a regular expression that both Go and JSON
// Schema understand. What it accepts [ParseCron] may still refuse (a reversed range).
var Pattern = pattern()

func pattern() string {
	num := [5]string{`[0-5]?[0-9]`, `(?:[01]?[0-9]|2[0-3])`, `(?:0?[1-9]|[12][0-9]|3[01])`, `(?:0?[1-9]|1[0-2])`, `0?[0-7]`}
	parts := make([]string, len(num))
	for i, n := range num {
		if names := bounds[i].names; names != nil {
			var fold []string
			for _, s := range names {
				fold = append(fold, foldCase(s))
			}
			n = `(?:` + n + `|` + strings.Join(fold, "|") + `)`
		}
		item := `(?:\*|` + n + `-` + n + `)(?:/[1-9][0-9]?)?|` + n
		parts[i] = `(?:` + item + `)(?:,(?:` + item + `))*`
	}
	return `^` + strings.Join(parts, ` +`) + `$`
}

// foldCase writes s as a pattern that ignores case: JSON Schema has no flag for it.
func foldCase(s string) string {
	var b strings.Builder
	for _, c := range s {
		fmt.Fprintf(&b, "[%c%c]", c, c-'a'+'A')
	}
	return b.String()
}

var shape = regexp.MustCompile(Pattern)

// ParseCron parses five fields separated by spaces, each a list of values, ranges and
// steps ("0 2 * * *", "*/15 8-18 * * mon-fri"). An expression that never fires (30
// February) is an error.
func ParseCron(s string) (Cron, error) {
	if s == "" {
		return Cron{}, errors.New("no cron expression")
	}
	parts := strings.Fields(s)
	if len(parts) != len(bounds) {
		return Cron{}, fmt.Errorf("a cron expression has five fields (minute, hour, day of the month, month, day of the week), not %d", len(parts))
	}
	if strings.Join(parts, "") != strings.ReplaceAll(s, " ", "") {
		return Cron{}, errors.New("fields of a cron expression are separated by spaces")
	}
	c := Cron{text: strings.Join(parts, " ")}
	for i, p := range parts {
		f, err := parseField(p, i)
		if err != nil {
			return Cron{}, fmt.Errorf("%s %q: %w", bounds[i].name, p, err)
		}
		c.fields[i] = f
	}
	if !shape.MatchString(c.text) {
		return Cron{}, fmt.Errorf("%q is not a cron expression", s)
	}
	dom, dow := c.fields[dayOfMonth], c.fields[dayOfWeek]
	if !dom.full && !dow.full && (strings.Contains(parts[dayOfMonth], "*") || strings.Contains(parts[dayOfWeek], "*")) {
		return Cron{}, errors.New(`cron programs disagree about "*/n" where both days are restricted; list the days`)
	}
	if spelt := parts[dayOfMonth] != "*" && parts[dayOfWeek] != "*"; spelt && dom.full != dow.full {
		return Cron{}, errors.New(`cron programs disagree about all days spelt out beside a restriction; write "*"`)
	}
	if c.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Cron{}, errors.New("no such day ever comes")
	}
	return c, nil
}

func parseField(s string, place int) (field, error) {
	b := bounds[place]
	var f field
	for item := range strings.SplitSeq(s, ",") {
		span, stepText, stepped := strings.Cut(item, "/")
		lo, hi := b.min, b.max
		if span != "*" {
			from, to, ranged := strings.Cut(span, "-")
			var err error
			if lo, err = value(from, place); err != nil {
				return field{}, err
			}
			hi = lo
			if ranged {
				if hi, err = value(to, place); err != nil {
					return field{}, err
				}
			} else if stepped {
				return field{}, errors.New(`a step needs a range or "*"`)
			}
			if hi < lo {
				return field{}, fmt.Errorf("range %s ends before it begins", span)
			}
		}
		step := 1
		if stepped {
			var err error
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > 99 {
				return field{}, fmt.Errorf("step %q is not a number from 1 to 99", stepText)
			}
		}
		for n := lo; n <= hi; n += step {
			f.set |= 1 << n
		}
	}
	if place == dayOfWeek && f.has(7) {
		f.set = f.set&^(1<<7) | 1
	}
	values := b.max - b.min + 1
	if place == dayOfWeek {
		values = 7
	}
	f.full = bits.OnesCount64(f.set) == values
	return f, nil
}

// value parses a number or name of the field at place.
func value(s string, place int) (int, error) {
	b := bounds[place]
	for i, name := range b.names {
		if strings.EqualFold(s, name) {
			return b.min + i, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || len(s) > 2 || int(n) < b.min || int(n) > b.max {
		return 0, fmt.Errorf("%q is not a value from %d to %d", s, b.min, b.max)
	}
	return int(n), nil
}

// String returns the expression with single spaces, or "" for the zero Cron.
func (c Cron) String() string { return c.text }

// IsZero reports whether c was never set.
func (c Cron) IsZero() bool { return c.text == "" }

// MarshalText implements [encoding.TextMarshaler].
func (c Cron) MarshalText() ([]byte, error) { return []byte(c.text), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; see [ParseCron].
func (c *Cron) UnmarshalText(b []byte) error {
	parsed, err := ParseCron(string(b))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}

// onDay reports whether c fires on the day of t.
func (c Cron) onDay(t time.Time) bool {
	if !c.fields[month].has(int(t.Month())) {
		return false
	}
	dom, dow := c.fields[dayOfMonth], c.fields[dayOfWeek]
	onDom, onDow := dom.has(t.Day()), dow.has(int(t.Weekday()))
	if !dom.full && !dow.full {
		return onDom || onDow
	}
	return onDom && onDow
}

// leapCycle is more days than the longest wait for a day that exists: 29 February
// falls on a given weekday at least once in forty years.
const leapCycle = 41 * 366

// Next returns the first minute after t at which c fires, or the zero time if there is
// none.
func (c Cron) Next(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Minute).Add(time.Minute)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	from := t.Hour()*60 + t.Minute()
	for range leapCycle {
		if c.onDay(day) {
			for m := from; m < 24*60; m++ {
				if c.fields[hour].has(m/60) && c.fields[minute].has(m%60) {
					return day.Add(time.Duration(m) * time.Minute)
				}
			}
		}
		day, from = day.AddDate(0, 0, 1), 0
	}
	return time.Time{}
}

// Prev returns the last minute at or before t at which c fires, or the zero time if
// there is none.
func (c Cron) Prev(t time.Time) time.Time {
	t = t.UTC().Truncate(time.Minute)
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	from := t.Hour()*60 + t.Minute()
	for range leapCycle {
		if c.onDay(day) {
			for m := from; m >= 0; m-- {
				if c.fields[hour].has(m/60) && c.fields[minute].has(m%60) {
					return day.Add(time.Duration(m) * time.Minute)
				}
			}
		}
		day, from = day.AddDate(0, 0, -1), 24*60-1
	}
	return time.Time{}
}

// LongestGap returns the longest time between two firings of c that follow each other
// within the four years after from, or within 5,000 firings, whichever comes first.
func (c Cron) LongestGap(from time.Time) time.Duration {
	var longest time.Duration
	prev, end := c.Next(from), from.AddDate(4, 0, 0)
	for range 5000 {
		next := c.Next(prev)
		if next.IsZero() {
			break
		}
		longest = max(longest, next.Sub(prev))
		if next.After(end) {
			break
		}
		prev = next
	}
	return longest
}

// A five-field expression written for systemd: one or, where either kind of day is
// enough, two calendar events.
func (c Cron) systemd() []string {
	clock := c.list(hour, "%02d") + ":" + c.list(minute, "%02d") + ":00 UTC"
	months, dom := c.list(month, "%02d"), c.list(dayOfMonth, "%02d")
	var days []string
	for d := range 7 {
		if c.fields[dayOfWeek].has(d) {
			days = append(days, time.Weekday(d).String()[:3])
		}
	}
	dow := strings.Join(days, ",")
	switch {
	case c.fields[dayOfWeek].full:
		return []string{"*-" + months + "-" + dom + " " + clock}
	case c.fields[dayOfMonth].full:
		return []string{dow + " *-" + months + "-* " + clock}
	}
	return []string{"*-" + months + "-" + dom + " " + clock, dow + " *-" + months + "-* " + clock}
}

// list writes the values of a field with commas, or "*" for all of them.
func (c Cron) list(place int, format string) string {
	f := c.fields[place]
	if f.full {
		return "*"
	}
	var values []string
	for n := bounds[place].min; n <= bounds[place].max; n++ {
		if f.has(n) {
			values = append(values, fmt.Sprintf(format, n))
		}
	}
	return strings.Join(values, ",")
}
