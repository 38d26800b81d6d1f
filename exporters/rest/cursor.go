package rest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// A cursor cuts a stream into stretches of time, from the start date to the end. An
// export always begins at the start: it keeps no state.
type cursor struct {
	count              bool // IncrementingCountCursor
	startValue         *expr
	start, end         *moment
	format             string
	formats            []string // of records, before format
	step               jinja.Duration
	stepped            bool
	granularity        jinja.Duration
	startKey, endKey   *expr
	startOpt, endOpt   *requestOption
	field              *expr
	lookback           *expr
	clientSide         bool
	dataFeed, strictly bool
}

// moment is a MinMaxDatetime.
type moment struct {
	at, format, least, most *expr
}

func (n node) moment(field string) *moment {
	switch v := n.value(field).(type) {
	case nil:
		return nil
	case *jinja.Dict:
		c, _ := n.child(field)
		if !c.check() {
			return nil
		}
		return &moment{c.expr("datetime"), c.expr("datetime_format"), c.expr("min_datetime"), c.expr("max_datetime")}
	default:
		return &moment{at: n.compile(field, jinja.Str(v))}
	}
}

func (n node) cursor() *cursor {
	if !n.check() {
		return nil
	}
	c := &cursor{field: n.expr("cursor_field")}
	if n.typ() == "IncrementingCountCursor" {
		c.count, c.startValue = true, n.expr("start_value")
		if o, ok := n.child("start_value_option"); ok {
			c.startOpt = o.requestOption()
		}
		return c
	}
	c.start, c.end, c.format = n.moment("start_datetime"), n.moment("end_datetime"), n.d.Text("datetime_format")
	c.formats = n.texts("cursor_datetime_formats")
	c.step, c.stepped = n.duration("step")
	var gran bool
	c.granularity, gran = n.duration("cursor_granularity")
	if c.stepped != gran {
		n.problem("step", "and cursor_granularity must be set together")
	}
	if c.stepped && !c.step.Add(time.Unix(0, 0)).After(time.Unix(0, 0)) {
		n.problem("step", "is not a positive duration")
	}
	c.startKey, c.endKey = n.expr("partition_field_start"), n.expr("partition_field_end")
	if o, ok := n.child("start_time_option"); ok {
		c.startOpt = o.requestOption()
	}
	if o, ok := n.child("end_time_option"); ok {
		c.endOpt = o.requestOption()
	}
	if n.has("clamping") {
		n.problem("clamping", "is not supported")
	}
	c.lookback = n.expr("lookback_window")
	c.clientSide, c.dataFeed, c.strictly = n.flag("is_client_side_incremental", false), n.flag("is_data_feed", false), n.flag("is_compare_strictly", false)
	return c
}

// value evaluates a moment; formats are its own or that of the cursor.
func (m *moment) value(s scope, fallback string) (time.Time, error) {
	format, err := s.textOr(m.format, "")
	if err != nil {
		return time.Time{}, err
	}
	parse := func(x *expr) (time.Time, bool, error) {
		if x == nil {
			return time.Time{}, false, nil
		}
		v, err := s.value(x, nil)
		if err != nil {
			return time.Time{}, false, err
		}
		if v == "" || v == nil {
			return time.Time{}, false, nil
		}
		for _, f := range []string{format, fallback} {
			if f == "" {
				continue
			}
			if t, perr := jinja.ParseTime(v, f); perr == nil {
				return t.Time(), true, nil
			} else if f == format || format == "" {
				err = perr
			}
		}
		if iso, perr := jinja.ParseISO(jinja.Str(v)); perr == nil {
			return iso.Time(), true, nil
		}
		return time.Time{}, false, err
	}
	t, ok, err := parse(m.at)
	if err != nil {
		return t, err
	}
	if !ok {
		return t, errors.New("the date is empty")
	}
	if least, ok, err := parse(m.least); err != nil || ok && t.Before(least) {
		if err != nil {
			return t, err
		}
		t = least
	}
	if most, ok, err := parse(m.most); err != nil || ok && t.After(most) {
		if err != nil {
			return t, err
		}
		t = most
	}
	return t, nil
}

// bounds evaluates start and end.
func (c *cursor) bounds(v *view) (from, to time.Time, err error) {
	s := v.scope()
	if from, err = c.start.value(s, c.format); err != nil {
		return from, to, fmt.Errorf("start_datetime: %w", err)
	}
	to = v.started
	if c.end != nil {
		if to, err = c.end.value(s, c.format); err != nil {
			return from, to, fmt.Errorf("end_datetime: %w", err)
		}
	}
	return from, to, nil
}

// maxIntervals bounds the slices of one cursor.
const maxIntervals = 1_000_000

// intervals yields the stretches of time, as additions to base.
func (c *cursor) intervals(v *view, base part, yield func(part) error) error {
	s := v.scope()
	if c.count {
		start := jinja.Value(int64(0))
		if c.startValue != nil {
			var err error
			if start, err = s.value(c.startValue, nil); err != nil {
				return err
			}
		}
		p := base
		p.interval = jinja.NewDict("start", start)
		if c.startOpt != nil {
			p.inject = append(slices.Clone(base.inject), injection{c.startOpt, start})
		}
		return yield(p)
	}
	from, to, err := c.bounds(v)
	if err != nil {
		return err
	}
	emit := func(a, b time.Time) error {
		p, err := c.stretch(v, base, a, b)
		if err != nil {
			return err
		}
		return yield(p)
	}
	if !from.Before(to) {
		return fmt.Errorf("the start date %s is not before the end %s, so nothing would be read", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	if !c.stepped {
		return emit(from, to)
	}
	for n, a := 0, from; a.Before(to); n++ {
		if n >= maxIntervals {
			return fmt.Errorf("more than %d slices from %s", maxIntervals, from)
		}
		next := c.step.Add(a)
		if !next.After(a) {
			return errors.New("the step does not move on")
		}
		b := c.granularity.Neg().Add(next)
		if !next.Before(to) {
			b = to
		}
		if err := emit(a, b); err != nil {
			return err
		}
		a = next
	}
	return nil
}

// stretch is the slice of base from a to b.
func (c *cursor) stretch(v *view, base part, a, b time.Time) (part, error) {
	s := v.scope()
	startKey, err := s.textOr(c.startKey, "start_time")
	if err != nil {
		return part{}, err
	}
	endKey, err := s.textOr(c.endKey, "end_time")
	if err != nil {
		return part{}, err
	}
	lo, hi := jinja.FormatTime(jinja.NewDateTime(a), c.format), jinja.FormatTime(jinja.NewDateTime(b), c.format)
	p := base
	p.stretch = &stretch{base, a, b}
	p.interval = jinja.NewDict(startKey, lo, endKey, hi)
	p.inject = slices.Clone(base.inject)
	if c.startOpt != nil {
		p.inject = append(p.inject, injection{c.startOpt, lo})
	}
	if c.endOpt != nil {
		p.inject = append(p.inject, injection{c.endOpt, hi})
	}
	return p, nil
}

// at is the time of a record, if it has one that can be read.
func (c *cursor) at(v *view, rec *jinja.Dict) (time.Time, bool) {
	field, err := v.scope().text(c.field)
	if err != nil || rec == nil {
		return time.Time{}, false
	}
	found := find(rec, splitPath(field))
	if len(found) != 1 || found[0].val == nil {
		return time.Time{}, false
	}
	for _, f := range append(slices.Clone(c.formats), c.format) {
		if t, err := jinja.ParseTime(found[0].val, f); err == nil {
			return t.Time(), true
		}
	}
	return time.Time{}, false
}
