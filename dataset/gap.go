package dataset

import "fmt"

// A Gap is something that should be in a snapshot and is not. It is an error, so
// that whatever reads a source can return it and whatever counts gaps can find it
// with errors.As.
type Gap struct {
	Stream  string `json:"stream"`
	Key     string `json:"-"`       // empty if the whole stream is missing; raw bytes
	Ordinal int    `json:"ordinal"` // as in Record
	Code    Code   `json:"code"`    // never empty
	Detail  string `json:"detail"`  // for people; may name source items, so never public
}

func (g *Gap) Error() string {
	switch {
	case g.Key == "" && g.Detail == "":
		return fmt.Sprintf("stream %q: %s", g.Stream, g.Code)
	case g.Key == "":
		return fmt.Sprintf("stream %q: %s: %s", g.Stream, g.Code, g.Detail)
	case g.Detail == "":
		return fmt.Sprintf("%q in stream %q: %s", g.Key, g.Stream, g.Code)
	}
	return fmt.Sprintf("%q in stream %q: %s: %s", g.Key, g.Stream, g.Code, g.Detail)
}

// A Code says why a gap is one. Codes are public, so they name no source item.
type Code string

// The closed table of codes. docs/archive-format.md lists them; a reader refuses
// others.
const (
	ArchivedTier     Code = "archived-tier"      // in cold storage, must be restored by its owner first
	CustomerKey      Code = "customer-key"       // encrypted with a key we were not given (SSE-C)
	Denied           Code = "denied"             // the source refused to let us read it
	Unreadable       Code = "unreadable"         // the source failed to deliver it, whatever we tried
	Unstable         Code = "unstable"           // it changed each time it was read
	TooLarge         Code = "too-large"          // a record above 30 MiB, or beyond a configured limit
	Malformed        Code = "malformed"          // what came is not what the protocol allows
	Unsupported      Code = "unsupported"        // the exporter cannot read this kind of thing
	NotCaptured      Code = "not-captured"       // a property (tags, ACL, a column) could not be read
	DuplicateKey     Code = "duplicate-key"      // two different records claim one key
	StreamFailed     Code = "stream-failed"      // the stream ended in an error; what it had not yielded is missing
	Unplanned        Code = "unplanned"          // the source offers it and the plan does not mention it
	Absent           Code = "absent"             // the plan names it and the source does not offer it
	IgnoredResponse  Code = "ignored-response"   // a connector was told to ignore the answer
	BadAttachment    Code = "bad-attachment"     // a link that yields no file: dead, a log-in page, a wrong length
	ToBeContinued    Code = "to-be-continued"    // the run's time was up; a new run goes on
	PossiblyCut      Code = "possibly-truncated" // counts suggest that the source cut its answer
	DeletedMidRun    Code = "lost-during-run"    // gone before it could be read, and no proof that it was deleted
	ClientUnable     Code = "client-unable"      // a legal name that our client cannot ask for
	UnknownCondition Code = "unknown"            // none of the above; Detail says what
)

// Codes lists the closed table in the order of the documentation.
var Codes = []Code{ArchivedTier, CustomerKey, Denied, Unreadable, Unstable, TooLarge, Malformed, Unsupported,
	NotCaptured, DuplicateKey, StreamFailed, Unplanned, Absent, IgnoredResponse, BadAttachment, ToBeContinued,
	PossiblyCut, DeletedMidRun, ClientUnable, UnknownCondition}
