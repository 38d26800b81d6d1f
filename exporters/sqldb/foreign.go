package sqldb

import (
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// foreignKey is a foreign key with its clause in SQL.
type foreignKey struct{ dataset.ForeignKey }

// actions are the referential actions that are repeated. Others are not SQL.
var actions = []string{"CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT"}

// sql is the clause that makes the key, without a name: names must be unique in some
// products and are nothing that data depends on.
func (k foreignKey) sql(quote func(string) string, t, ref *tableLayout, refName string) string {
	s := "FOREIGN KEY (" + strings.Join(t.columnsOf(quote, k.Fields), ", ") + ") REFERENCES " + refName +
		" (" + strings.Join(ref.columnsOf(quote, k.RefFields), ", ") + ")"
	if slices.Contains(actions, k.OnDelete) {
		s += " ON DELETE " + k.OnDelete
	}
	if slices.Contains(actions, k.OnUpdate) {
		s += " ON UPDATE " + k.OnUpdate
	}
	return s
}
