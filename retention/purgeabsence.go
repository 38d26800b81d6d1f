package retention

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
)

// absence reads the source again, in a view of its own, and looks for what should be
// gone.
func (r *purgeRun) absence(ctx context.Context) Absence {
	gone := map[string]int{}
	streams := map[string][]dataset.Record{}
	for n := range r.body.Items {
		it := &r.body.Items[n]
		if r.book.fates[n].gone() {
			gone[identity(it.Stream, string(it.Key), it.Ordinal, it.Version)] = n
			streams[it.Stream] = nil
		}
	}
	view, err := r.Source(ctx)
	if err != nil {
		return Absence{Unasked: fmt.Sprintf("open source: %v", err)}
	}
	a := Absence{Found: []int{}}
	for _, s := range r.body.Streams {
		if _, ok := streams[s.Name]; !ok {
			continue
		}
		if err := r.relist(ctx, view, s, gone, &a); err != nil {
			a.Unasked = fmt.Sprintf("read stream %q again: %v", s.Name, err)
			break
		}
	}
	if err := view.Close(); err != nil && a.Unasked == "" {
		a.Unasked = err.Error()
	}
	if a.Unasked == "" {
		a.Checked = r.now()
	}
	slices.Sort(a.Found)
	slices.Sort(a.Altered)
	return a
}

// relist reads one stream. A record that is there as archived was not deleted. One whose
// identity came back with other data may be a new record, or one that the source only
// marked as deleted: nobody can tell.
func (r *purgeRun) relist(ctx context.Context, view exporters.Exporter, s dataset.Stream, gone map[string]int, a *Absence) error {
	for rec, err := range view.Read(ctx, exporters.Query{Streams: []dataset.Stream{s}}) {
		if err != nil {
			return err
		}
		if rec.Gap != nil {
			if rec.Gap.Key == "" {
				return rec.Gap
			}
			rec.Key, rec.Ordinal = rec.Gap.Key, rec.Gap.Ordinal
		}
		n, ok := gone[identity(s.Name, rec.Key, rec.Ordinal, versionOf(rec.Data))]
		switch {
		case !ok:
		case rec.Gap != nil: // unreadable, and so there
			a.Found = append(a.Found, n)
		case bytes.Equal(rec.Data, r.body.Items[n].Data) || versionOf(rec.Data) != "":
			a.Found = append(a.Found, n)
		default:
			a.Altered = append(a.Altered, n)
		}
	}
	return nil
}
