package retention

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A Rule picks records at the source whose time is over.
type Rule struct {
	Name      string    `json:"name"`
	Stream    string    `json:"stream"`
	Because   string    `json:"because"`             // age, decommissioned or basis-expired
	Field     string    `json:"field,omitempty"`     // of age: the member of a record that holds its date
	Before    time.Time `json:"before,omitzero"`     // of age: records from before this may go
	Since     time.Time `json:"since,omitzero"`      // of the others: when the service or the legal basis ended
	Authority string    `json:"authority,omitempty"` // retention schedule, law or decision
}

// Limits bound what one plan, together with what was deleted within a period before it,
// may delete without a second round of approvals.
type Limits struct {
	Items   int           // more than these
	Percent int           // a larger share of any stream than this
	Period  time.Duration // zero: the plan alone counts
}

// An Item is one record to be deleted, as the archive has it.
type Item struct {
	Stream  string          `json:"stream"`
	Key     archive.Key     `json:"key"`
	Ordinal int             `json:"ordinal"`
	Version string          `json:"version,omitempty"` // the source's own id of a version
	Kind    ItemKind        `json:"kind"`
	Rule    int             `json:"rule"` // index into the rules
	Data    json.RawMessage `json:"data"` // as archived: what the source must still have
	Size    int64           `json:"size"` // of the bytes that belong to it
	SHA256  dataset.Hash    `json:"sha256,omitzero"`
	Last    bool            `json:"last,omitempty"` // goes only after all older versions of its key are gone
}

// Record returns the record as a Deleter wants it.
func (i *Item) Record() dataset.Record {
	return dataset.Record{Stream: i.Stream, Key: string(i.Key), Ordinal: i.Ordinal, Data: i.Data}
}

// An ItemKind tells apart what is deleted.
type ItemKind string

// The kinds.
const (
	RecordItem  ItemKind = "record"
	ObjectItem  ItemKind = "object"        // an object of a source without versions
	VersionItem ItemKind = "version"       // one version of an object
	MarkerItem  ItemKind = "delete-marker" // what hides older versions
)

// A KeepCode says why a record that a rule picks is not in the plan.
type KeepCode string

// The codes.
const (
	NotWhole     KeepCode = "not-whole"     // the archive lacks something of it
	UnderHold    KeepCode = "held"          // a legal hold of the archive
	SourceHold   KeepCode = "source-hold"   // a legal hold at the source
	SourceLock   KeepCode = "source-lock"   // retained by the source
	NoDate       KeepCode = "no-date"       // the field is missing, null or no date
	DoubtfulDate KeepCode = "doubtful-date" // in the future, or so early that it is a default value
	OlderStays   KeepCode = "older-stays"   // without it an older version would come back
)

// A Kept is a record that a rule picks and that stays.
type Kept struct {
	Stream  string      `json:"stream"`
	Key     archive.Key `json:"key"`
	Ordinal int         `json:"ordinal"`
	Code    KeepCode    `json:"code"`
}

// A Selection is what rules pick of a snapshot. It is the body of a plan.
type Selection struct {
	Streams []dataset.Stream `json:"streams"` // that items are of, as archived
	Rules   []Rule           `json:"rules"`
	Items   []Item           `json:"items"` // of each key the oldest version first
	Kept    []Kept           `json:"kept"`
}

// A StreamSource is one archived stream.
type StreamSource struct {
	Stream  dataset.Stream
	Count   int64
	Records iter.Seq2[dataset.Record, error]
	Gaps    map[string]bool // keys of which the archive lacks something
}

// Select picks from archived streams what the rules let go at now, minus what holds
// cover. The first rule that picks a record counts. It is a pure function of what the
// streams yield.
func Select(now time.Time, rules []Rule, streams []StreamSource, holds []ActiveHold) (*Selection, error) {
	s := &Selection{Streams: []dataset.Stream{}, Rules: rules, Items: []Item{}, Kept: []Kept{}}
	for i, r := range rules {
		if err := r.check(now); err != nil {
			return nil, fmt.Errorf("rule %d (%s): %w", i+1, r.Name, err)
		}
	}
	for _, src := range streams {
		p := &picker{s, now, src, holds, nil}
		if !slices.ContainsFunc(rules, func(r Rule) bool { return r.Stream == src.Stream.Name }) {
			continue
		}
		s.Streams = append(s.Streams, src.Stream)
		for r, err := range src.Records {
			if err != nil {
				return nil, fmt.Errorf("stream %q: %w", src.Stream.Name, err)
			}
			r.Data = slices.Clone(r.Data)
			if len(p.group) > 0 && p.group[0].Key != r.Key {
				p.flush()
			}
			p.group = append(p.group, r)
		}
		p.flush()
	}
	return s, nil
}

// check refuses rules that would pick by mistake.
func (r *Rule) check(now time.Time) error {
	switch {
	case r.Because == "age" && (r.Field == "" || r.Before.IsZero() || r.Before.After(now)):
		return fmt.Errorf("an age needs a field and a moment that is past")
	case r.Because != "age" && (r.Since.IsZero() || r.Since.After(now)):
		return fmt.Errorf("%s since a day that has not come", r.Because)
	case r.Stream == "":
		return fmt.Errorf("no stream is named")
	}
	return nil
}

// A picker goes through one stream, key by key.
type picker struct {
	*Selection
	now   time.Time
	src   StreamSource
	holds []ActiveHold
	group []dataset.Record // versions of one key
}

// flush decides about the versions of one key together.
func (p *picker) flush() {
	slices.SortStableFunc(p.group, func(a, b dataset.Record) int { return a.Ordinal - b.Ordinal })
	var items []Item
	all := true
	for i := range p.group {
		r := &p.group[i]
		rule, code := p.judge(r)
		switch {
		case rule < 0:
			all = false
		case code != "":
			p.keep(r, code)
			all = false
		default:
			items = append(items, p.item(r, rule))
		}
	}
	// Versions count from the oldest, which is 0: a version that the archive lacks is
	// missed here.
	if n := len(p.group); n > 0 && p.src.Stream.Blobs && len(items) > 0 {
		newest := &p.group[n-1]
		last := &items[len(items)-1]
		if last.Ordinal == newest.Ordinal {
			if all && newest.Ordinal == n-1 {
				last.Last = n > 1
			} else {
				p.keep(newest, OlderStays)
				items = items[:len(items)-1]
			}
		}
	}
	p.Items = append(p.Items, items...)
	p.group = p.group[:0]
}

func (p *picker) keep(r *dataset.Record, code KeepCode) {
	p.Kept = append(p.Kept, Kept{p.src.Stream.Name, archive.Key(r.Key), r.Ordinal, code})
}

// judge returns the rule that picks a record, or -1, and why it stays nevertheless.
func (p *picker) judge(r *dataset.Record) (rule int, code KeepCode) {
	rule = -1
	for i := range p.Rules {
		if p.Rules[i].Stream != p.src.Stream.Name {
			continue
		}
		picked, why := p.Rules[i].picks(p.now, r)
		if picked {
			rule, code = i, why
			break
		}
	}
	if rule < 0 || code != "" {
		return rule, code
	}
	if _, held := Covers(p.holds, &dataset.Record{Stream: p.src.Stream.Name, Key: r.Key, Data: r.Data}); held {
		return rule, UnderHold
	}
	if missing, ok := dataset.Lookup(r.Data, "not_captured"); p.src.Gaps[r.Key] || ok && string(missing) != "[]" {
		return rule, NotWhole
	}
	return rule, sourceLock(p.now, r.Data)
}

// picks reports whether the rule is about a record; code says why it stays although it
// may be.
func (r *Rule) picks(now time.Time, rec *dataset.Record) (picked bool, code KeepCode) {
	if r.Because != "age" {
		return true, ""
	}
	t, ok := dateOf(rec.Data, r.Field)
	switch {
	case !ok:
		return true, NoDate
	case t.After(now), t.Before(earliest):
		return true, DoubtfulDate
	}
	return t.Before(r.Before), ""
}

// earliest is where dates begin that are no default values: the epoch of Unix, with a
// year to spare, stands for "no date" in too many systems.
var earliest = time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)

// dateOf reads a date of a record: RFC 3339, or a day, in a string. A number is no date:
// nobody says whether it counts seconds or milliseconds.
func dateOf(data json.RawMessage, field string) (time.Time, bool) {
	raw, ok := dataset.Lookup(data, field)
	if !ok {
		return time.Time{}, false
	}
	text, err := dataset.Unquote(raw)
	if err != nil {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// sourceLock says whether the source itself retains an object, as far as the archive
// knows: a lock that was set since shows when the deletion is tried.
func sourceLock(now time.Time, data json.RawMessage) KeepCode {
	if hold, ok := dataset.Lookup(data, "legal_hold"); ok && string(hold) == `"ON"` {
		return SourceHold
	}
	if lock, ok := dataset.Lookup(data, "retention"); ok {
		if until, ok := dateOf(lock, "until"); !ok || until.After(now) {
			return SourceLock
		}
	}
	return ""
}

// item makes an item of an archived record.
func (p *picker) item(r *dataset.Record, rule int) Item {
	it := Item{Stream: p.src.Stream.Name, Key: archive.Key(r.Key), Ordinal: r.Ordinal, Rule: rule, Data: r.Data, Kind: RecordItem, Version: versionOf(r.Data)}
	if r.Blob != nil {
		it.Size, it.SHA256 = r.Blob.Size, r.Blob.SHA256
	}
	if p.src.Stream.Blobs {
		it.Kind = ObjectItem
		if marker, ok := dataset.Lookup(r.Data, "delete_marker"); ok && string(marker) == "true" {
			it.Kind = MarkerItem
		} else if it.Version != "" {
			it.Kind = VersionItem
		}
	}
	return it
}

// versionOf returns the source's own id of a version, "" if it has none.
func versionOf(data json.RawMessage) string {
	raw, ok := dataset.Lookup(data, "version_id")
	if !ok {
		return ""
	}
	v, err := dataset.Unquote(raw)
	if err != nil {
		return ""
	}
	return v
}

// Counts are the figures of a selection that may be published.
type Counts struct {
	Items int64              `json:"items"`
	Bytes int64              `json:"bytes"`
	Kinds map[ItemKind]int64 `json:"kinds"`
	Kept  map[KeepCode]int64 `json:"kept"`
	Share int                `json:"share"` // largest share of a stream, in percent, rounded up
}

// Count counts a selection.
func (s *Selection) Count(streams []StreamSource) Counts {
	c := Counts{Kinds: map[ItemKind]int64{}, Kept: map[KeepCode]int64{}}
	per := map[string]int64{}
	for _, it := range s.Items {
		c.Items++
		c.Bytes += it.Size
		c.Kinds[it.Kind]++
		per[it.Stream]++
	}
	for _, k := range s.Kept {
		c.Kept[k.Code]++
	}
	for _, src := range streams {
		if n := per[src.Stream.Name]; n > 0 && src.Count > 0 {
			c.Share = max(c.Share, int((n*100+src.Count-1)/src.Count))
		}
	}
	return c
}

// exceeded says why a selection needs a second round of approvals, given what was deleted
// before within the period; "" if it needs none.
func (l Limits) exceeded(c Counts, items int64, share int) string {
	switch {
	case c.Items > int64(l.Items):
		return fmt.Sprintf("it deletes %d items, and the limit is %d", c.Items, l.Items)
	case c.Share > l.Percent:
		return fmt.Sprintf("it deletes %d %% of a stream, and the limit is %d %%", c.Share, l.Percent)
	case c.Items+items > int64(l.Items):
		return fmt.Sprintf("it deletes %d items after %d within %s, and the limit is %d", c.Items, items, span(l.Period), l.Items)
	case c.Share+share > l.Percent && share > 0:
		return fmt.Sprintf("it deletes %d %% of a stream after %d %% within %s, and the limit is %d %%", c.Share, share, span(l.Period), l.Percent)
	}
	return ""
}

// identity is how an item is found again at the source: by the version's own id where
// there is one, because ordinals move as versions go.
func identity(stream, key string, ordinal int, version string) string {
	if version != "" {
		return strings.Join([]string{stream, key, "v", version}, "\x00")
	}
	return strings.Join([]string{stream, key, "o", fmt.Sprint(ordinal)}, "\x00")
}
