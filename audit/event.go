package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// An Activity is what was done. The table is closed.
type Activity string

// The activities.
const (
	Export    Activity = "export"
	Check     Activity = "check"
	Verify    Activity = "verify"
	ExitTest  Activity = "exit-test"
	Restore   Activity = "restore"
	KeyChange Activity = "key-change"
	Hold      Activity = "hold"
	Release   Activity = "release"
	Plan      Activity = "plan"
	Approval  Activity = "approval"
	Expiry    Activity = "expiry"
	Collect   Activity = "collect"
	Purge     Activity = "purge"
	Erasure   Activity = "erasure"
	Refusal   Activity = "refusal"
	LogKeep   Activity = "log" // of the log itself: entries adopted, a name taken
)

// ocsfActivity is each activity's activity_id in OCSF's class 6003, API Activity.
var ocsfActivity = map[Activity]int{
	Export: 2, Check: 2, Verify: 2, ExitTest: 2, Restore: 1, KeyChange: 3, Hold: 1, Release: 4, Plan: 1,
	Approval: 3, Expiry: 4, Collect: 4, Purge: 4, Erasure: 1, Refusal: 99, LogKeep: 99,
}

// A Phase says whether an event stands before an act or after it.
type Phase string

// The phases.
const (
	Intent Phase = "intent" // is about to be done
	Result Phase = "result" // was done, or tried; Of names the intent
	Fact   Phase = "fact"   // happened, and has no intent
)

// A Status is how an act ended.
type Status string

// The statuses.
const (
	Unknown Status = "unknown" // not known yet: intents
	Success Status = "success"
	Failure Status = "failure"
)

var ocsfStatus = map[Status]int{Unknown: 0, Success: 1, Failure: 2}

// An Event is one entry of a log.
type Event struct {
	ID       dataset.ID // unique; made by [NewEvent]
	Time     time.Time  // UTC, milliseconds
	Activity Activity
	Phase    Phase
	Of       dataset.ID // of a result: the intent; else empty
	Status   Status

	Service  string           // empty if none is concerned
	Run      archive.RunID    // empty if none is concerned
	Document dataset.Hash     // the plan, manifest, certificate or ledger concerned; zero if none
	Key      dataset.Hash     // the run key concerned; zero if none
	Code     string           // why, as a code: a-z, 0-9 and dash; never free text
	Counts   map[string]int64 // figures by such a code
}

// NewEvent returns an event of an activity that happened, or is about to, at a time.
func NewEvent(activity Activity, phase Phase, at time.Time) Event {
	e := Event{ID: dataset.NewID(), Time: at.UTC().Truncate(time.Millisecond), Activity: activity, Phase: phase, Status: Success}
	if phase == Intent {
		e.Status = Unknown
	}
	return e
}

// ResultOf returns the event that says how the act of intent ended.
func ResultOf(intent Event, status Status, at time.Time) Event {
	e := NewEvent(intent.Activity, Result, at)
	e.Of, e.Status = intent.ID, status
	e.Service, e.Run, e.Document, e.Key = intent.Service, intent.Run, intent.Document, intent.Key
	return e
}

var (
	codeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	idForm   = regexp.MustCompile(`^[a-z2-7]{26}$`)
)

// check reports what an event may not hold. Every text in it is of a closed form, so
// one event stays one entry and one line, and holds nothing personal.
func (e Event) check() error {
	_, known := ocsfActivity[e.Activity]
	_, status := ocsfStatus[e.Status]
	switch {
	case !idForm.MatchString(string(e.ID)):
		return fmt.Errorf("malformed id %q", e.ID)
	case e.Time.Location() != time.UTC || !e.Time.Equal(e.Time.Truncate(time.Millisecond)):
		return errors.New("time is not UTC in milliseconds")
	case e.Time.UnixMilli() < 0 || e.Time.Year() > 9999:
		return fmt.Errorf("time %s is out of range", e.Time)
	case !known:
		return fmt.Errorf("unknown activity %q", e.Activity)
	case e.Phase != Intent && e.Phase != Result && e.Phase != Fact:
		return fmt.Errorf("unknown phase %q", e.Phase)
	case (e.Phase == Result) != (e.Of != "") || e.Of != "" && !idForm.MatchString(string(e.Of)):
		return fmt.Errorf("%s of %q", e.Phase, e.Of)
	case !status || (e.Phase == Intent) != (e.Status == Unknown):
		return fmt.Errorf("%s with status %q", e.Phase, e.Status)
	case e.Run != "" && !e.Run.Valid():
		return fmt.Errorf("malformed run %q", e.Run)
	case e.Code != "" && !codeForm.MatchString(e.Code):
		return fmt.Errorf("malformed code %q", e.Code)
	}
	for name := range e.Counts {
		if !codeForm.MatchString(name) {
			return fmt.Errorf("malformed count %q", name)
		}
	}
	if e.Service != "" {
		return archive.CheckService(e.Service)
	}
	return nil
}

// wire is an event in the shape of OCSF 1.3, class API Activity (6003).
type wire struct {
	ActivityID  int      `json:"activity_id"`
	CategoryUID int      `json:"category_uid"`
	ClassUID    int      `json:"class_uid"`
	TypeUID     int      `json:"type_uid"`
	SeverityID  int      `json:"severity_id"`
	StatusID    int      `json:"status_id"`
	Time        int64    `json:"time"` // milliseconds since 1970
	Metadata    metadata `json:"metadata"`
	Actor       actor    `json:"actor"`
	API         api      `json:"api"`
	Source      endpoint `json:"src_endpoint"`
	Unmapped    unmapped `json:"unmapped"`
}

type metadata struct {
	Version        string     `json:"version"`
	UID            dataset.ID `json:"uid"`
	CorrelationUID dataset.ID `json:"correlation_uid"`
	Product        product    `json:"product"`
	LogName        string     `json:"log_name"`
}

type product struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

type actor struct {
	App string `json:"app_name"`
}

type api struct {
	Operation Activity `json:"operation"`
}

type endpoint struct {
	Name string `json:"name"` // the log: one for each host and role
}

type unmapped struct {
	Phase    Phase            `json:"phase"`
	Service  string           `json:"service,omitempty"`
	Run      archive.RunID    `json:"run,omitempty"`
	Document dataset.Hash     `json:"document,omitzero"`
	Key      dataset.Hash     `json:"key,omitzero"`
	Code     string           `json:"code,omitempty"`
	Counts   map[string]int64 `json:"counts,omitempty"`
}

const ocsfVersion = "1.3.0"

// maxEntry is what tlog-tiles can hold.
const maxEntry = 1<<16 - 1

// encode returns the entry of an event in a log: one line of JSON without its LF.
func (e Event) encode(log string) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	id, severity, of := ocsfActivity[e.Activity], 1, e.Of
	if e.Status == Failure || e.Activity == Refusal {
		severity = 3
	}
	if e.Phase == Intent {
		of = e.ID // what belongs together has one correlation_uid
	}
	entry, err := json.Marshal(wire{
		ActivityID: id, CategoryUID: 6, ClassUID: 6003, TypeUID: 600300 + id,
		SeverityID: severity, StatusID: ocsfStatus[e.Status], Time: e.Time.UnixMilli(),
		Metadata: metadata{ocsfVersion, e.ID, of, product{"Sallyport", "DWP"}, log},
		Actor:    actor{"sallyport"},
		API:      api{e.Activity},
		Source:   endpoint{log},
		Unmapped: unmapped{e.Phase, e.Service, e.Run, e.Document, e.Key, e.Code, e.Counts},
	})
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(entry) > maxEntry {
		return nil, fmt.Errorf("event: %d bytes are more than an entry holds", len(entry))
	}
	return entry, nil
}

// decodeEvent is the inverse of encode and accepts nothing else.
func decodeEvent(log string, entry []byte) (Event, error) {
	var w wire
	if err := json.Unmarshal(entry, &w); err != nil {
		return Event{}, errors.New("entry is not an event")
	}
	e := Event{
		ID: w.Metadata.UID, Time: time.UnixMilli(w.Time).UTC(), Activity: w.API.Operation, Phase: w.Unmapped.Phase,
		Service: w.Unmapped.Service, Run: w.Unmapped.Run, Document: w.Unmapped.Document, Key: w.Unmapped.Key,
		Code: w.Unmapped.Code, Counts: w.Unmapped.Counts,
	}
	if e.Phase == Result {
		e.Of = w.Metadata.CorrelationUID
	}
	for status, id := range ocsfStatus {
		if id == w.StatusID {
			e.Status = status
		}
	}
	again, err := e.encode(log)
	if err != nil {
		return Event{}, err
	}
	if !bytes.Equal(again, entry) {
		return Event{}, errors.New("entry is not in canonical form")
	}
	return e, nil
}

// An Entry is an event and its place in a log.
type Entry struct {
	Index int64
	Event Event
	JSON  []byte // as stored, without a line feed
}

// Syslog returns the entry as a line of RFC 5424 without a line feed: facility 13 (log
// audit), the event as its message. The host must be a name without spaces; empty
// means that it is not known.
func (e Entry) Syslog(host string) string {
	severity := 6
	if e.Event.Status == Failure || e.Event.Activity == Refusal {
		severity = 4
	}
	if host == "" {
		host = "-"
	}
	return fmt.Sprintf("<%d>1 %s %s sallyport - %s - %s", 13*8+severity,
		e.Event.Time.Format("2006-01-02T15:04:05.000Z"), host, e.Event.Activity, e.JSON)
}

// A Filter chooses entries. The zero Filter chooses all.
type Filter struct {
	Activities []Activity // any of them; empty means all
	Service    string     // empty means all
	Run        archive.RunID
	Since      time.Time // inclusive; zero means from the beginning
	Until      time.Time // exclusive; zero means to the end
	Failures   bool      // failures and refusals only
}

// Match reports whether the filter chooses an event.
func (f Filter) Match(e Event) bool {
	return (len(f.Activities) == 0 || slices.Contains(f.Activities, e.Activity)) &&
		(f.Service == "" || f.Service == e.Service) &&
		(f.Run == "" || f.Run == e.Run) &&
		(f.Since.IsZero() || !e.Time.Before(f.Since)) &&
		(f.Until.IsZero() || e.Time.Before(f.Until)) &&
		(!f.Failures || e.Status == Failure || e.Activity == Refusal)
}
