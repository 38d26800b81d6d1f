package verify

import (
	"context"
	"fmt"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A csvCheck verifies the CSV of one stream, where the snapshot carries it: each part's
// is decoded and held against the part's records.
type csvCheck struct {
	v     *verifyRun
	e     *archive.StreamEntry
	table *dataset.Table // nil if the stream has no CSV
	got   archive.StreamCSV
}

func newCSVCheck(v *verifyRun, e *archive.StreamEntry) *csvCheck {
	c := &csvCheck{v: v, e: e}
	if e.CSV == nil {
		return c
	}
	table, err := e.CSVTable()
	if err != nil {
		v.find(e.Stream.Name, "%v", err)
		return c
	}
	c.table = table
	c.got = archive.StreamCSV{Bytes: int64(len(e.CSV.Header))}
	return c
}

// part verifies the CSV of one part, whose lines the caller has.
func (c *csvCheck) part(ctx context.Context, part *archive.PartEntry, lines []byte) error {
	switch {
	case c.e.CSV == nil && part.CSV == nil || c.e.CSV != nil && c.table == nil:
		return nil
	case c.e.CSV == nil || part.CSV == nil:
		c.v.find("part "+part.Part, "its CSV is not as the descriptor of its stream says")
		return nil
	}
	c.got.Rows += part.CSV.Rows
	c.got.LeftOut += part.CSV.LeftOut
	c.got.Absent += part.CSV.Absent
	c.got.Bytes += part.CSV.Bytes - int64(len(c.e.CSV.Header))
	csv, err := c.v.Snapshot.CSV(ctx, part)
	if err != nil {
		return err
	}
	c.v.count(0, part.CSV.Bytes, 0)
	if len(csv) < len(c.e.CSV.Header) || string(csv[:len(c.e.CSV.Header)]) != c.e.CSV.Header {
		return fmt.Errorf("the CSV of part %s has another header than its stream", part.Part)
	}
	if err := part.CSV.Check(c.table, lines, csv); err != nil {
		return fmt.Errorf("the CSV of part %s is not what its lines say: %w", part.Part, err)
	}
	return nil
}

// end holds the sums against the descriptor.
func (c *csvCheck) end() {
	if c.table == nil {
		return
	}
	if d := c.e.CSV; c.got.Rows != d.Rows || c.got.LeftOut != d.LeftOut || c.got.Absent != d.Absent || c.got.Bytes != d.Bytes {
		c.v.find(c.e.Stream.Name, "CSV of %d rows of %d, %d left out of %d, %d absent fields of %d, %d bytes of %d",
			c.got.Rows, d.Rows, c.got.LeftOut, d.LeftOut, c.got.Absent, d.Absent, c.got.Bytes, d.Bytes)
	}
}

// leftOut makes sure that the ledger names as many records without a row as each
// stream counts.
func (v *verifyRun) leftOut(ctx context.Context) error {
	named := map[string]int64{}
	for l, err := range v.Snapshot.LeftOut(ctx) {
		if err != nil {
			if v.damage("left out", err) {
				return nil
			}
			return err
		}
		named[l.Stream]++
	}
	for _, r := range v.Snapshot.Descriptor.Resources {
		if c := r.Sallyport.CSV; c != nil && named[r.Title] != c.LeftOut {
			v.find(r.Title, "%d records have no row of CSV, and the ledger names %d", c.LeftOut, named[r.Title])
		}
	}
	return nil
}
