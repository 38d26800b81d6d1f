package sqldb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// native reports whether definitions are run in the target.
func (l *layout) native() bool {
	return slices.ContainsFunc(l.Tables, func(t *tableLayout) bool { return t.Native })
}

// checkNative refuses a native restore without the definitions, which would be one of
// bare tables.
func (l *layout) checkNative() error {
	if l.native() && l.table(definitionsStream) == nil {
		return errors.New(`option "native" needs the stream "(definitions)", which was not selected`)
	}
	return nil
}

// errForeign says that the statement of a definition is not of its kind.
var errForeign = errors.New("the statement is not of that kind")

// A statement is a definition that a native restore makes.
type statement struct {
	definition
	of definitionKind
}

// check refuses a statement that does not begin as those of its kind do.
func (s statement) check() error {
	if !slices.ContainsFunc(s.of.begins, func(b string) bool { return strings.HasPrefix(s.sql, b) }) {
		return fmt.Errorf("%w: %.40q", errForeign, s.sql)
	}
	return nil
}

// sortDefinitions returns the definitions of the kinds, in the order of those.
func sortDefinitions(defs []definition, kinds []definitionKind) []statement {
	var all []statement
	for _, k := range kinds {
		for _, d := range defs {
			if d.kind == k.name {
				all = append(all, statement{d, k})
			}
		}
	}
	return all
}

// define makes what statements say, those that need others after them. make reports
// whether the server refused a statement, and whether because something was missing;
// what it goes on refusing is noted. Other errors are returned.
func (s *targetState) define(pending []statement, make func(statement) (refused, missing bool, err error)) []error {
	var errs []error
	for again := true; again; {
		again = false
		var later []statement
		var reasons []error
		for _, d := range pending {
			refused, missing, err := make(d)
			switch {
			case err == nil:
				again = true
			case missing:
				later, reasons = append(later, d), append(reasons, err)
			case refused:
				s.note("Not made: %s %q: %v.", d.kind, d.name, err)
			default:
				errs = append(errs, fmt.Errorf("%s %q: %w", d.kind, d.name, err))
			}
		}
		if pending = later; again {
			continue
		}
		for i, d := range pending {
			s.note("Not made: %s %q: %v.", d.kind, d.name, reasons[i])
		}
	}
	return errs
}
