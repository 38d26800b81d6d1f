package rest

import (
	"context"
	"fmt"

	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// groupRouter puts the values of several partitions into one.
type groupRouter struct {
	inner router
	size  int
	dedup bool
}

func (r *groupRouter) parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error {
	var key jinja.Value
	var vals []jinja.Value
	seen := new(jinja.Dict)
	flush := func() error {
		if len(vals) == 0 {
			return nil
		}
		p := part{partition: jinja.NewDict(key, jinja.NewList(vals...))}
		vals = nil
		return yield(p)
	}
	err := r.inner.parts(ctx, v, emit, func(p part) error {
		k, val := p.partition.At(0)
		if r.dedup && seen.Has(val) {
			return nil
		}
		seen.Set(val, true)
		key, vals = k, append(vals, val)
		if len(vals) == r.size {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// unionRouter yields the partitions of several routers that have one field in common, each
// value once. What else a partition holds becomes a further field of its slice.
type unionRouter struct {
	field   *expr
	routers []router
}

func (r *unionRouter) parts(ctx context.Context, v *view, emit func(dataset.Gap) error, yield func(part) error) error {
	field, err := v.scope().text(r.field)
	if err != nil {
		return err
	}
	seen := new(jinja.Dict)
	for _, from := range r.routers {
		err := from.parts(ctx, v, emit, func(p part) error {
			val, ok := p.partition.Get(field)
			if !ok {
				return fmt.Errorf("a router of a union has no %q in its partition %s", field, p.label())
			}
			if _, isDict := val.(*jinja.Dict); isDict {
				return fmt.Errorf("the value %s of a union of routers cannot be told from others", jinja.Repr(val))
			}
			if seen.Has(val) {
				return nil
			}
			seen.Set(val, true)
			u := part{partition: jinja.NewDict(field, val), extra: new(jinja.Dict)}
			for _, d := range []*jinja.Dict{p.extra, p.partition} {
				if d == nil {
					continue
				}
				for i := range d.Len() {
					if k, x := d.At(i); k != field || d == p.extra {
						u.extra.Set(k, x)
					}
				}
			}
			return yield(u)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
