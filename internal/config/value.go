package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/schedule"
)

// A shape describes a scalar type: how it is asked for in a message, and its pattern
// in the JSON Schema. A type with a shape implements encoding.TextUnmarshaler.
type shape struct {
	what    string // "a duration, such as 24h, 90d or 4w"
	pattern string
	not     string // pattern that it must not match; Go's expressions cannot look ahead
	secret  bool   // the text given instead may be a secret, so no message repeats it
}

const (
	durationPattern = `^[1-9][0-9]{0,5}[smhdw]$`
	secretPattern   = `^(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+|exec:.+)$`
	signingPattern  = `^(?:agent:SHA256:[A-Za-z0-9+/]{43}|[^-:\x00][^:\x00]*)$`
	anyText         = `^[^\x00]+$`
	passwordPattern = `^[^/?#]*://[^/?#]*:[^/?#]*@` // a URL with a password
)

// shapes lists the scalar types. Sentences about values are made of `what`.
var shapes = map[reflect.Type]shape{
	reflect.TypeFor[Duration]():       {what: "a duration: a whole number and s, m, h, d or w (24h, 90d, 4w)", pattern: durationPattern},
	reflect.TypeFor[Age]():            {what: "an age: a whole number and d, w, mo or y (90d, 18mo, 7y)", pattern: `^[1-9][0-9]{0,4}(?:d|w|mo|y)$`},
	reflect.TypeFor[Date]():           {what: "a day (2027-03-31)", pattern: `^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$`},
	reflect.TypeFor[Cron]():           {what: `five cron fields in quotes ("0 2 * * *")`, pattern: schedule.Pattern},
	reflect.TypeFor[Path]():           {what: "a path", pattern: anyText},
	reflect.TypeFor[Location]():       {what: "a directory or a URL without a password", pattern: anyText, not: passwordPattern, secret: true},
	reflect.TypeFor[SigningKey]():     {what: "the path of an SSH private key, or agent:SHA256:...", pattern: signingPattern, secret: true},
	reflect.TypeFor[URL]():            {what: "an https URL, or a reference to one (env:NAME, file:PATH, exec:COMMAND)", pattern: `^(?:env:[A-Za-z_][A-Za-z0-9_]*|file:.+|exec:.+|https://[^/?#@]+(?:[/?#].*)?)$`, secret: true},
	reflect.TypeFor[Region]():         {what: "the name of a region (eu-west-2)", pattern: `^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`},
	reflect.TypeFor[Code]():           {what: "a code of the table in docs/archive-format.md", pattern: codePattern()},
	reflect.TypeFor[Classification](): {what: "OFFICIAL or OFFICIAL-SENSITIVE", pattern: `^OFFICIAL(?:-SENSITIVE)?$`},
}

var errShape = errors.New("malformed")

// A Duration is a length of time of one unit: s, m (minutes), h, d (24 hours), w
// (7 days). It is never zero in a file.
type Duration time.Duration

var durationUnits = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

var durationShape = regexp.MustCompile(durationPattern)

// Std returns d as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	if !durationShape.Match(b) {
		return errShape
	}
	last := len(b) - 1
	n, err := strconv.ParseInt(string(b[:last]), 10, 64)
	unit := durationUnits[b[last]]
	if err != nil || n > int64(1<<63-1)/int64(unit) {
		return errShape
	}
	*d = Duration(time.Duration(n) * unit)
	return nil
}

// String writes d in the greatest unit that leaves no remainder.
func (d Duration) String() string {
	for _, u := range []byte("wdhm") {
		if unit := durationUnits[u]; d != 0 && time.Duration(d)%unit == 0 {
			return fmt.Sprintf("%d%c", time.Duration(d)/unit, u)
		}
	}
	return fmt.Sprintf("%ds", time.Duration(d)/time.Second)
}

// An Age is a length of time of the calendar: days, weeks, months (mo) or years (y).
// The zero Age is none.
type Age struct {
	n    int
	unit string
}

// IsZero reports whether a was never set.
func (a Age) IsZero() bool { return a.n == 0 }

// Before returns the moment that lies the age before t.
func (a Age) Before(t time.Time) time.Time {
	switch a.unit {
	case "w":
		return t.AddDate(0, 0, -7*a.n)
	case "mo":
		return t.AddDate(0, -a.n, 0)
	case "y":
		return t.AddDate(-a.n, 0, 0)
	}
	return t.AddDate(0, 0, -a.n)
}

// String returns the age as it was written.
func (a Age) String() string { return strconv.Itoa(a.n) + a.unit }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Age) UnmarshalText(b []byte) error {
	digits := strings.TrimRight(string(b), "dwmoy")
	n, err := strconv.Atoi(digits)
	unit := string(b[len(digits):])
	if err != nil || n < 1 || n > 99999 || strconv.Itoa(n) != digits || !slices.Contains([]string{"d", "w", "mo", "y"}, unit) {
		return errShape
	}
	*a = Age{n, unit}
	return nil
}

// A Date is a day, in UTC. The zero Date is none.
type Date struct{ time.Time }

// End returns the first moment after the day.
func (d Date) End() time.Time { return d.AddDate(0, 0, 1) }

// String writes the day as 2006-01-02.
func (d Date) String() string { return d.Format(time.DateOnly) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Date) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.DateOnly, string(b))
	if err != nil {
		return errShape
	}
	d.Time = t
	return nil
}

// A Cron is a [schedule.Cron]; the zero Cron is none.
type Cron struct{ schedule.Cron }

// A Path names a file or directory of this host. It is absolute once loaded.
type Path string

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Path) UnmarshalText(b []byte) error {
	if len(b) == 0 || slices.Contains(b, 0) {
		return errShape
	}
	*p = Path(b)
	return nil
}

func (p *Path) rebase(dir string) { *p = Path(rebase(dir, string(*p))) }

func rebase(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// A Location is a URL, or a path, which is absolute once loaded.
type Location string

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// Scheme returns the URL's scheme in lower case, or "" for a path.
func (l Location) Scheme() string {
	return strings.ToLower(strings.TrimSuffix(scheme.FindString(string(l)), ":"))
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (l *Location) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "" || strings.ContainsRune(s, 0) || holdsPassword(s) {
		return errShape
	}
	if scheme.MatchString(s) {
		if _, err := url.Parse(s); err != nil {
			return errShape // url's own error would repeat the text
		}
	}
	*l = Location(s)
	return nil
}

func (l *Location) rebase(dir string) {
	if l.Scheme() == "" {
		*l = Location(rebase(dir, string(*l)))
	}
}

var password = regexp.MustCompile(passwordPattern)

// holdsPassword reports whether s is a URL with a password.
func holdsPassword(s string) bool { return password.MatchString(s) }

// A SigningKey is the path of an SSH private key, absolute once loaded, or the
// fingerprint of one in ssh-agent behind "agent:". A path with a colon is not
// understood.
type SigningKey string

// InAgent reports whether the key is in ssh-agent.
func (k SigningKey) InAgent() bool { return strings.HasPrefix(string(k), "agent:") }

var signingShape = regexp.MustCompile(signingPattern)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *SigningKey) UnmarshalText(b []byte) error {
	if !signingShape.Match(b) {
		return errShape
	}
	*k = SigningKey(b)
	return nil
}

func (k *SigningKey) rebase(dir string) {
	if !k.InAgent() {
		*k = SigningKey(rebase(dir, string(*k)))
	}
}

// A URL is an https URL or a reference to one, for [Secrets].
type URL string

var urlShape = regexp.MustCompile(`^https://[^/?#@]+(?:[/?#].*)?$`)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (u *URL) UnmarshalText(b []byte) error {
	if !secretShape.Match(b) && !urlShape.Match(b) {
		return errShape
	}
	*u = URL(b)
	return nil
}

func (u *URL) rebase(dir string) { *u = URL(rebaseSecret(dir, string(*u))) }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Region) UnmarshalText(b []byte) error {
	if !regionShape.Match(b) {
		return errShape
	}
	*r = Region(b)
	return nil
}

var regionShape = regexp.MustCompile(shapes[reflect.TypeFor[Region]()].pattern)

// A Code is a gap's code of the closed table.
type Code dataset.Code

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Code) UnmarshalText(b []byte) error {
	if !slices.Contains(dataset.Codes, dataset.Code(b)) {
		return errShape
	}
	*c = Code(b)
	return nil
}

func codePattern() string {
	var codes []string
	for _, c := range dataset.Codes {
		codes = append(codes, string(c))
	}
	return `^(?:` + strings.Join(codes, "|") + `)$`
}

// A Classification is a marking of the Government Security Classifications policy.
type Classification string

// The classifications that Sallyport may be used for.
const (
	Official          Classification = "OFFICIAL"
	OfficialSensitive Classification = "OFFICIAL-SENSITIVE"
)

// ErrTooHigh says that a classification is above what Sallyport may be used for.
var ErrTooHigh = errors.New("above OFFICIAL's tiers: Sallyport must not be used for it")

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Classification) UnmarshalText(b []byte) error {
	switch v := Classification(b); v {
	case Official, OfficialSensitive:
		*c = v
		return nil
	}
	switch strings.NewReplacer("-", " ", "_", " ").Replace(strings.ToUpper(string(b))) {
	case "SECRET", "TOP SECRET":
		return ErrTooHigh
	}
	return errShape
}
