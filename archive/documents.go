package archive

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/dataset"
)

// The formats of documents. A member added later is a new format.
const (
	storeFormat     = "sallyport-store/1"
	intentFormat    = "sallyport-intent/1"
	statementFormat = "sallyport-keys/1"
	listFormat      = "sallyport-list/1"
	manifestFormat  = "sallyport-manifest/1"
	manifestWithCSV = "sallyport-manifest/2" // of a snapshot that carries CSV; else the same
	abortFormat     = "sallyport-abort/1"
	expiryFormat    = "sallyport-expiry/1"
)

// A Time is a UTC time to the second, as documents state it.
type Time struct{ time.Time }

// At rounds t down to what documents can state.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Second)} }

// MarshalText writes RFC 3339 in UTC with whole seconds.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.UTC().Format(time.RFC3339)), nil }

// UnmarshalText accepts only what MarshalText writes.
func (t *Time) UnmarshalText(b []byte) error {
	p, err := time.Parse(time.RFC3339, string(b))
	if err != nil || p.UTC().Format(time.RFC3339) != string(b) {
		return errors.New("malformed time")
	}
	t.Time = p.UTC()
	return nil
}

// MarshalJSON keeps the embedded time's own method from being promoted.
func (t Time) MarshalJSON() ([]byte, error) {
	b, err := t.MarshalText()
	return append(append([]byte{'"'}, b...), '"'), err
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (t *Time) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errors.New("malformed time")
	}
	return t.UnmarshalText(b[1 : len(b)-1])
}

// A StoreDocument makes a place a store. Its ID is in every signed document, so
// nothing of one store counts in another.
type StoreDocument struct {
	Format  string     `json:"format"`
	ID      dataset.ID `json:"id"`
	Created Time       `json:"created"`
}

// An Intent announces a run before it writes anything else.
type Intent struct {
	Format  string     `json:"format"`
	Store   dataset.ID `json:"store"`
	Service string     `json:"service"`
	Run     RunID      `json:"run"`
	Started Time       `json:"started"` // by the writer's clock: a hint
}

// A Role says what a run key opens.
type Role string

// The roles of run keys.
const (
	DataRole  Role = "data"
	IndexRole Role = "index"
)

// A Statement says to whom a run key was sealed.
type Statement struct {
	Format    string       `json:"format"`
	Store     dataset.ID   `json:"store"`
	Service   string       `json:"service"`
	Run       RunID        `json:"run"`
	Role      Role         `json:"role"`
	Recipient string       `json:"recipient"` // the run key's public half
	SealedTo  []string     `json:"sealed_to"` // the managed recipients, sorted
	SHA256    dataset.Hash `json:"age_sha256"`
	Replaces  dataset.Hash `json:"replaces,omitzero"` // the statement that a rotation made obsolete
}

// A State says whether a snapshot has everything it should.
type State string

// The states of snapshots.
const (
	Complete   State = "complete"
	Incomplete State = "incomplete" // committed with gaps
)

// A Grade says how an export was proven to be complete (DESIGN: completeness grades).
type Grade string

// The grades, best first.
const (
	Exact        Grade = "exact"         // a second read in the same view agrees
	DoubleRead   Grade = "double-read"   // a second view agrees, key by key
	CountChecked Grade = "count-checked" // an independent count agrees
	BestEffort   Grade = "best-effort"   // read once; nothing but the source's own listing says that it was all
)

// Counts are the figures that a manifest publishes.
type Counts struct {
	Streams   int64 `json:"streams"`
	Records   int64 `json:"records"`
	Blobs     int64 `json:"blobs"`
	BlobBytes int64 `json:"blob_bytes"`
	Parts     int64 `json:"parts"`
	Packs     int64 `json:"packs"`
	PackBytes int64 `json:"pack_bytes"`
	New       int64 `json:"new_pack_bytes"` // of PackBytes, those this run wrote
	Vanished  int64 `json:"vanished"`
	Unchecked int64 `json:"unchecked_metadata"` // lines whose metadata was not read again
}

// A Checkpoint is a place in an audit log.
type Checkpoint struct {
	Log  string       `json:"log"`
	Size int64        `json:"size"`
	Root dataset.Hash `json:"root"`
}

// A ListRef names a list: the packs of one origin run that a snapshot needs.
type ListRef struct {
	Run    RunID        `json:"run"`
	SHA256 dataset.Hash `json:"sha256"`
	Packs  int64        `json:"packs"`
	Bytes  int64        `json:"bytes"`
}

// A KeyRef names a run key that a snapshot needs.
type KeyRef struct {
	ID        dataset.Hash `json:"id"`
	Run       RunID        `json:"run"`
	Role      Role         `json:"role"`
	Statement dataset.Hash `json:"statement"` // the one that was made with the key
}

// A Manifest makes a run a snapshot: it is the decision to commit. It is public and
// names nothing of the source.
type Manifest struct {
	Format         string                 `json:"format"`
	Store          dataset.ID             `json:"store"`
	Service        string                 `json:"service"`
	Run            RunID                  `json:"run"`
	Parents        []dataset.Hash         `json:"parents"` // all heads seen, sorted; empty for a first run
	Sequence       int64                  `json:"sequence"`
	Started        Time                   `json:"started"`
	Ended          Time                   `json:"ended"`
	State          State                  `json:"state"`
	Writer         string                 `json:"writer"`   // product and version
	Exporter       string                 `json:"exporter"` // kind
	Classification string                 `json:"classification"`
	Counts         Counts                 `json:"counts"`
	Gaps           map[dataset.Code]int64 `json:"gaps"`
	Grades         map[Grade]int64        `json:"grades"` // streams a grade
	Descriptor     MemberRef              `json:"descriptor"`
	Lists          []ListRef              `json:"lists"` // by run
	Keys           []KeyRef               `json:"keys"`  // by id
	Intent         dataset.Hash           `json:"intent"`
	Log            *Checkpoint            `json:"log"`
	Endpoints      []dataset.Endpoint     `json:"endpoints"`
	Root           dataset.Hash           `json:"root"`
}

// A MemberRef finds one member of a pack.
type MemberRef struct {
	Pack   dataset.Hash `json:"pack"`
	Offset int64        `json:"offset"` // in the zstd stream
	Length int64        `json:"length"` // of the frames that hold the member
	Member string       `json:"member"`
}

// An Abort decides that a run will never be a snapshot.
type Abort struct {
	Format  string       `json:"format"`
	Store   dataset.ID   `json:"store"`
	Service string       `json:"service"`
	Run     RunID        `json:"run"`
	Intent  dataset.Hash `json:"intent"`
	Reason  string       `json:"reason"` // one of a closed table; see AbortReasons
	Decided Time         `json:"decided"`
}

// The reasons for aborts.
const (
	AbortStale  = "stale"   // no decision for longer than the collector waits
	AbortGaveUp = "gave-up" // the writer itself will not go on
)

// An Expiry says that a snapshot need not be kept any longer.
type Expiry struct {
	Format   string       `json:"format"`
	Store    dataset.ID   `json:"store"`
	Service  string       `json:"service"`
	Run      RunID        `json:"run"`
	Manifest dataset.Hash `json:"manifest"`
	Rule     string       `json:"rule"` // why, in public words
	Decided  Time         `json:"decided"`
}

// HasCSV reports whether the snapshot carries CSV beside JSON Lines.
func (m *Manifest) HasCSV() bool { return m.Format == manifestWithCSV }

// ParseManifest accepts only the canonical form of a well-formed manifest.
func ParseManifest(doc []byte) (*Manifest, error) {
	var m Manifest
	if err := decode(doc, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &m, nil
}

func (m *Manifest) check() error {
	switch {
	case m.Format != manifestFormat && m.Format != manifestWithCSV:
		return errFormat(m.Format)
	case CheckService(m.Service) != nil:
		return CheckService(m.Service)
	case !m.Run.Valid():
		return errors.New("malformed run id")
	case m.State != Complete && m.State != Incomplete:
		return fmt.Errorf("state %q is neither complete nor incomplete", m.State)
	case m.State == Complete && len(m.Gaps) != 0:
		return errors.New("a complete snapshot has no gaps")
	case m.Sequence < 1:
		return errors.New("sequence below 1")
	case (m.Sequence == 1) != (len(m.Parents) == 0):
		return errors.New("a first snapshot, and no other, has no parents and sequence 1")
	case len(m.Keys) == 0 || len(m.Lists) == 0:
		return errors.New("a snapshot needs keys and packs")
	case !memberName(m.Descriptor.Member) || m.Descriptor.Offset < 0 || m.Descriptor.Length < 1:
		return errors.New("malformed place of the descriptor")
	}
	for code, n := range m.Gaps {
		if !slices.Contains(dataset.Codes, code) || n < 1 {
			return fmt.Errorf("gap code %q with count %d", code, n)
		}
	}
	for i := 1; i < len(m.Parents); i++ {
		if slices.Compare(m.Parents[i-1][:], m.Parents[i][:]) >= 0 {
			return errors.New("parents do not rise")
		}
	}
	for i := 1; i < len(m.Lists); i++ {
		if m.Lists[i-1].Run >= m.Lists[i].Run {
			return errors.New("lists do not rise by run")
		}
	}
	for i, k := range m.Keys {
		if i > 0 && slices.Compare(m.Keys[i-1].ID[:], k.ID[:]) >= 0 {
			return errors.New("keys do not rise by id")
		}
		if k.Role != DataRole && k.Role != IndexRole {
			return fmt.Errorf("key of role %q", k.Role)
		}
	}
	return nil
}
