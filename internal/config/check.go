package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/s3conn"
)

// check finds what is wrong between keys that are right each by itself. It says
// nothing about keys whose own value was refused.
func (d *decoder) check(c *Config, kinds []exporters.Kind) {
	d.checkKeys(c)
	d.checkStore(c)
	if t := string(c.Metrics.Textfile); t != "" && !strings.HasSuffix(t, ".prom") {
		d.fail(d.line("metrics.textfile"), "metrics.textfile", "must end in .prom, or the node exporter will not read it")
	}
	for _, name := range c.Names() {
		s := &service{d: d, c: c, s: c.Services[name], name: name, path: "services." + name}
		if s.s != nil {
			s.check(kinds)
		}
	}
}

// line returns where a key stands, or where the nearest key around it does.
func (d *decoder) line(path string) int {
	for path != "" {
		if n, ok := d.pos[path]; ok {
			return n
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return max(d.pos[""], 1)
}

// present reports whether the file has the key.
func (d *decoder) present(path string) bool { _, ok := d.pos[path]; return ok }

// clean reports whether nothing is wrong at path and below.
func (d *decoder) clean(path string) bool {
	return !slices.ContainsFunc(d.found, func(f Finding) bool { return strings.HasPrefix(f.Path, path) })
}

func (d *decoder) checkKeys(c *Config) {
	switch c.Role {
	case Exporter:
		if d.present("keys.identities") {
			d.refuse(d.line("keys.identities"), "keys.identities",
				"an exporter holds no private age key: whoever breaks into it must not be able to read the archive")
		}
	case Verifier, Keeper:
		if !d.present("keys.identities") {
			d.fail(d.line("keys"), "keys", "identities is missing: a %s needs its private age key", c.Role)
		}
	}
}

func (d *decoder) checkStore(c *Config) {
	if l := c.ObjectLock; l != nil {
		day := 24 * time.Hour
		if l.For != 0 && (l.For.Std()%day != 0) {
			d.fail(d.line("object_lock.for"), "object_lock.for", "must be whole days")
		}
		if c.Store != "" && c.Store.Scheme() != "s3" {
			d.fail(d.line("object_lock"), "object_lock", "only a store in S3 has Object Lock")
		}
	}
	switch c.Store.Scheme() {
	case "":
	case "s3":
		conn, err := s3conn.ParseURL(string(c.Store))
		if err != nil {
			d.fail(d.line("store"), "store", "%v", err)
			return
		}
		d.resident(c, "store", regionOf(conn))
	default:
		d.fail(d.line("store"), "store", "must be a directory or begin with s3://, not %s:", c.Store.Scheme())
	}
}

// resident refuses a region that data must not go to. An unknown one is refused too.
func (d *decoder) resident(c *Config, path string, r Region) {
	switch {
	case len(c.Residency) == 0 || slices.Contains(c.Residency, r):
	case r == "":
		d.refuse(d.line(path), path, "does not say in which region the data lies, and residency allows only %s", regions(c.Residency))
	default:
		d.refuse(d.line(path), path, "lies in %s, and residency allows only %s", r, regions(c.Residency))
	}
}

func regions(rs []Region) string {
	var names []string
	for _, r := range rs {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}

// regionOf returns the region that an S3 URL states, by name or in the name of
// Amazon's own host; "" if it states none.
func regionOf(c s3conn.Config) Region {
	if r := amazonRegion(c.Endpoint); r != "" {
		return r
	}
	return Region(c.Region)
}

// amazonRegion returns the region in a host name of Amazon S3, or "".
func amazonRegion(endpoint string) Region {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	host, ok := strings.CutSuffix(strings.TrimSuffix(u.Hostname(), ".cn"), ".amazonaws.com")
	if !ok {
		return ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if strings.Count(label, "-") >= 2 && !strings.HasPrefix(label, "s3-") && regionShape.MatchString(label) {
			return Region(label)
		}
	}
	return ""
}

// A service is one service under examination.
type service struct {
	d    *decoder
	c    *Config
	s    *Service
	name string
	path string
}

func (s *service) fail(key, format string, args ...any) {
	path := join(s.path, key)
	s.d.fail(s.d.line(path), path, format, args...)
}

func (s *service) check(kinds []exporters.Kind) {
	if s.name == "audit" {
		s.d.fail(s.d.line(s.path), s.path, "audit is the name of the log's own folder; choose another")
	}
	s.kind(kinds)
	s.region()
	s.times()
	s.streams()
	s.exitTest(kinds)
	s.purge()
}

func (s *service) kind(kinds []exporters.Kind) {
	if s.s.Exporter == "" {
		return
	}
	i := slices.IndexFunc(kinds, func(k exporters.Kind) bool { return k.Name == s.s.Exporter })
	if i < 0 {
		var names []string
		for _, k := range kinds {
			names = append(names, k.Name)
		}
		s.fail("exporter", "must be %s, not %q", oneOf(names), s.s.Exporter)
		return
	}
	if s.s.Grade == "exact" && !kinds[i].Snapshots {
		s.fail("grade", "exact needs a source that holds still while it is read, and a view of %s does not; double-read is the best it can have", kinds[i].Name)
	}
	s.d.options(&s.s.With, kinds[i], join(s.path, "with"), s.d.line(s.path), nil)
}

// region compares every place that the service states with the residency.
func (s *service) region() {
	stated, _ := s.s.With.Options["region"].(string)
	endpoint, _ := s.s.With.Options["endpoint"].(string)
	if !s.s.With.mentions("region") {
		stated = "" // a default of the kind states nothing
	}
	place := Region(stated)
	if r := amazonRegion(endpoint); r != "" {
		place = r
	}
	switch {
	case s.s.Region == "" || endpoint == "" && stated != "" || amazonRegion(endpoint) != "":
		if s.s.Region != "" && place != s.s.Region {
			s.fail("region", "is %s, but the exporter reads from %s", s.s.Region, place)
		}
		s.d.resident(s.c, s.path, place)
	default:
		s.d.resident(s.c, s.path, s.s.Region)
	}
}

func (s *service) times() {
	rpo, cron := s.s.Objectives.RPO.Std(), s.s.Schedule
	if rpo > 0 && !cron.IsZero() {
		gap := cron.LongestGap(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if gap > rpo {
			s.fail("schedule", "leaves up to %s between exports, and the rpo is %s", Duration(gap), s.s.Objectives.RPO)
		}
	}
	if k := s.s.Keep; k != nil && s.d.clean(join(s.path, "keep")) && k.Last+k.Hourly+k.Daily+k.Weekly+k.Monthly+k.Yearly == 0 && k.Within.IsZero() && len(k.Tags) == 0 {
		s.fail("keep", "keeps nothing; give at least one rule, or leave it out to keep everything")
	}
}

func (s *service) streams() {
	for i, name := range s.s.Exclude {
		if slices.Contains(s.s.Streams, name) {
			s.fail(fmt.Sprintf("exclude[%d]", i), "%q stands in streams too", name)
		}
	}
	unique(s, "streams", s.s.Streams, func(n string) string { return n })
	unique(s, "exclude", s.s.Exclude, func(n string) string { return n })
	unique(s, "exit_test.checks", s.s.ExitTest.Checks, func(c Check) string { return c.Name })
	unique(s, "waive", s.s.Waive, func(w Waiver) string {
		return strings.Join([]string{w.Stream, string(w.Code), w.Key}, "\x00")
	})
}

// unique reports items of a list whose key came before. Empty keys were reported when
// they were parsed.
func unique[T any](s *service, path string, items []T, key func(T) string) {
	seen := map[string]int{}
	for i, item := range items {
		k := key(item)
		first, again := seen[k]
		if again && strings.Trim(k, "\x00") != "" {
			at := fmt.Sprintf("%s[%d]", path, i)
			s.fail(at, "repeats the entry in line %d", s.d.line(join(s.path, fmt.Sprintf("%s[%d]", path, first))))
		} else if !again {
			seen[k] = i
		}
	}
}

func (s *service) exitTest(kinds []exporters.Kind) {
	to := s.s.ExitTest.RestoreTo
	path := join(s.path, "exit_test.restore_to")
	if to == "" {
		if s.d.present(join(s.path, "exit_test.with")) {
			s.fail("exit_test.with", "is of no use without restore_to")
		}
		return
	}
	if why := s.c.Collision(to, LeaveLinks); why != "" {
		s.d.refuse(s.d.line(path), path, "%s", why)
	}
	if to.Scheme() == "" {
		return
	}
	i := slices.IndexFunc(kinds, func(k exporters.Kind) bool {
		return slices.Contains(k.Schemes, to.Scheme()) && k.OpenTarget != nil && k.FromURL != nil
	})
	if i < 0 {
		s.fail("exit_test.restore_to", "no target understands %s: URLs", to.Scheme())
		return
	}
	given, err := kinds[i].FromURL(string(to))
	if err != nil {
		s.fail("exit_test.restore_to", "%v", err)
		return
	}
	s.d.options(&s.s.ExitTest.With, kinds[i], join(s.path, "exit_test.with"), s.d.line(path), given)
	if to.Scheme() == "s3" {
		if conn, err := s3conn.ParseURL(string(to)); err == nil {
			s.d.resident(s.c, path, regionOf(conn))
		}
	}
}

func (s *service) purge() {
	p := s.s.Purge
	if p == nil {
		return
	}
	unique(s, "purge.rules", p.Rules, func(r PurgeRule) string { return r.Name })
	for i, r := range p.Rules {
		at := fmt.Sprintf("purge.rules[%d]", i)
		given := map[string]bool{"field": r.Field != "", "older_than": !r.OlderThan.IsZero(), "since": !r.Since.IsZero()}
		wants := []string{"since"}
		switch r.Because {
		case "":
			continue
		case "age":
			wants = []string{"field", "older_than"}
		}
		for _, key := range []string{"field", "older_than", "since"} {
			switch wanted := slices.Contains(wants, key); {
			case wanted && !given[key] && !s.d.present(join(s.path, at+"."+key)):
				s.fail(at, "%s is missing: the reason is %s", key, r.Because)
			case !wanted && given[key]:
				s.fail(at+"."+key, "is of no use where the reason is %s", r.Because)
			}
		}
	}
}
