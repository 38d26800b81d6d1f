package retention

import (
	"context"
	"encoding/json"
	"maps"

	"github.com/dwp/sallyport/dataset"
)

// rehearse goes through the items as a run does, against a rehearsal of the source.
func (r *purgeRun) rehearse(ctx context.Context) (*Purged, error) {
	dry := *r
	dry.book, dry.published, dry.details, dry.rehearsed = r.book.copied(), maps.Clone(r.published), map[int]string{}, true
	out := dry.purged()
	if err := dry.delete(ctx); err != nil {
		return nil, err
	}
	dry.report(out)
	return out, nil
}

// Hash names what becomes of each item of a plan. That of a rehearsal is what
// [Purger.Expect] holds.
func (p *Purged) Hash() dataset.Hash {
	type fate struct {
		Item int  `json:"item"`
		Fate Fate `json:"fate"`
	}
	fates := make([]fate, len(p.Lines))
	for i, l := range p.Lines {
		fates[i] = fate{l.Item, l.Fate}
	}
	text, _ := json.Marshal(map[string]any{"plan": p.Plan.Hash, "fates": fates}) // cannot fail
	return dataset.Sum(text)
}
