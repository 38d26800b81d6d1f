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
