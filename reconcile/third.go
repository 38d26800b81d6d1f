package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// How far the records of one stream are read a third time, one by one.
const (
	maxThirds  = 10_000
	thirdsTime = 10 * time.Minute
)

// A Third says what a third reading of a record makes of two that differ.
type Third int

// The outcomes of a third reading. The zero value is that there was none.
const (
	NotRead   Third = iota // the source cannot be asked for the record alone
	Gone                   // the source says that there is none
	AsFirst                // the same as the first reading, or as the archive
	AsSecond               // the same as the second reading
	Newer                  // like neither, and says that it changed after the export
	AsNeither              // like neither, and does not say why
)

// ErrThirds says that so much differs that not all of it is read a third time.
var ErrThirds = errors.New("more records differ than are read a third time")

// Thirds are the third readings of one stream: what differs between two readings is
// asked for once more, one record after the other, until there are too many or it takes
// too long. They are not safe for concurrent use.
type Thirds struct {
	reading *Reading
	getter  exporters.Getter // nil if the source cannot be asked for single records
	stream  dataset.Stream
	left    int
	until   time.Time
}

// Thirds begins the third readings from a view of the source, in which the stream is s.
func (r *Reconciler) Thirds(view exporters.Exporter, s dataset.Stream) *Thirds {
	g, ok := view.(exporters.Getter)
	if !ok || s.Keyless {
		g = nil
	}
	reading := &Reading{r: r, side: SourceNow, comparer: dataset.NewComparer(r.key, r.Stream)}
	return &Thirds{reading: reading, getter: g, stream: s, left: maxThirds, until: time.Now().Add(thirdsTime)}
}

// Read asks for the record of a difference between the archive and the source. It fails
// with [ErrThirds] once too many were asked for or the time is up, and if the source does
// not deliver the record; either leaves the two readings as they are.
func (t *Thirds) Read(ctx context.Context, d *Difference) (Third, error) {
	if t.getter == nil {
		return NotRead, nil
	}
	if t.left--; t.left < 0 || !time.Now().Before(t.until) {
		return NotRead, ErrThirds
	}
	ctx, cancel := context.WithDeadline(ctx, t.until)
	defer cancel()
	rec, err := t.getter.Get(ctx, t.stream, d.Key, d.Ordinal)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Gone, nil
	case errors.Is(err, errors.ErrUnsupported):
		return NotRead, nil
	case err == nil && rec.Gap != nil:
		err = rec.Gap
	}
	if err != nil {
		return NotRead, fmt.Errorf("third reading: %w", err)
	}
	o, err := t.reading.observe(ctx, &rec)
	switch {
	case err != nil:
		return NotRead, fmt.Errorf("third reading: %w", err)
	case o.gap:
		return NotRead, errors.New("third reading: its bytes could not be read")
	case o.value == d.first:
		return AsFirst, nil
	case o.value == d.second:
		return AsSecond, nil
	case o.time > t.reading.r.Exported.UnixNano():
		return Newer, nil
	}
	return AsNeither, nil
}
