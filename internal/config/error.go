package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Finding is one thing that is wrong with a configuration.
type Finding struct {
	File    string `json:"file"`
	Line    int    `json:"line"`           // from 1
	Path    string `json:"path,omitempty"` // "services.case-files.schedule"; empty for the whole file
	Message string `json:"message"`        // a clause; never holds a secret
	Policy  bool   `json:"policy"`         // understood, and refused
}

func (f Finding) String() string {
	s := fmt.Sprintf("%s:%d: ", f.File, f.Line)
	if f.Path != "" {
		s += f.Path + ": "
	}
	return s + f.Message
}

// Findings are in the order of the file.
type Findings []Finding

func (f Findings) String() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// An Error lists everything that is wrong with a configuration, policy included.
type Error struct{ Findings Findings }

func (e *Error) Error() string { return e.Findings.String() }

// A PolicyError says that a configuration is well-formed and asks for what must not be
// done.
type PolicyError struct{ Findings Findings }

func (e *PolicyError) Error() string { return e.Findings.String() }

// asError returns the findings as an *Error, as a *PolicyError if policy is all that
// is wrong, or nil if there are none.
func (f Findings) asError() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Path, b.Path))
	})
	if slices.ContainsFunc(f, func(x Finding) bool { return !x.Policy }) {
		return &Error{f}
	}
	return &PolicyError{f}
}
