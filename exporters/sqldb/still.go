package sqldb

import (
	"encoding/json"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

var (
	_ exporters.Snapshotter = (*pgView)(nil)
	_ exporters.Snapshotter = (*mysqlView)(nil)
	_ exporters.Snapshotter = (*sqliteView)(nil)
)

// Still implements [exporters.Snapshotter]. A partition that is a foreign table lives in
// a server whose snapshot this is not. How far sequences have counted is no part of any
// snapshot; the view has it as it was when it opened.
func (v *pgView) Still(s dataset.Stream) bool {
	t, ok := v.tables[s.Name]
	if !ok {
		return s.Name == definitionsStream
	}
	var n pgNative
	return json.Unmarshal(t.stream.Schema.Native, &n) == nil &&
		!slices.ContainsFunc(n.Partitions, func(p pgPartition) bool { return p.Foreign })
}

// Still implements [exporters.Snapshotter]: tables of engines without transactions are
// read as they are at that time.
func (v *mysqlView) Still(s dataset.Stream) bool {
	t, err := v.table(s)
	if err != nil {
		return false
	}
	a, ok := attributesOf(t.stream)
	return t.from == "" || ok && !a.BestEffort // the definitions were read as the view opened
}

// Still implements [exporters.Snapshotter]: all of it is one transaction.
func (v *sqliteView) Still(s dataset.Stream) bool {
	_, err := v.table(s)
	return err == nil
}
