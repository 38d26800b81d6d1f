package verify

import "fmt"

// An Outcome is how a check ended. The zero Outcome says that it was not asked.
type Outcome int

// The outcomes.
const (
	NotRun  Outcome = iota // was not asked
	Pass                   // asked, and nothing was wrong
	Fail                   // asked, and something was wrong
	Unknown                // could not be decided
)

var outcomeNames = []string{"not run", "pass", "fail", "unknown"}

func (o Outcome) String() string { return outcomeNames[o] }

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText accepts only what MarshalText writes.
func (o *Outcome) UnmarshalText(b []byte) error {
	for i, n := range outcomeNames {
		if n == string(b) {
			*o = Outcome(i)
			return nil
		}
	}
	return fmt.Errorf("malformed outcome %q", b)
}

// A Finding is something that is wrong with an archive.
type Finding struct {
	Object string `json:"object"` // name in the store, or what it is about
	Detail string `json:"detail"`
}

func (f Finding) String() string { return f.Object + ": " + f.Detail }
