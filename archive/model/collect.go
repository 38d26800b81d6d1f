package model

const lostAbort = "aborts a run, reply lost"

var collectorNames = [2]string{"collector 0", "collector 1"}

// collect adds the steps of a collector.
func (v *Variant) collect(steps []step, s *state, i int) []step {
	c := &s.collectors[i]
	add := func(what string, f func(to *state, c *collector)) {
		to := *s
		f(&to, &to.collectors[i])
		steps = append(steps, step{collectorNames[i], what, to, false})
	}
	switch c.at {
	case g1Read:
		if v.IntentsFirst && c.open == 0 {
			// Bit 7 says that the listing was made, even if nothing was open.
			add("lists the open runs", func(_ *state, c *collector) { c.open = s.open() | 1<<7 })
			return steps
		}
		if s.distrusted(v) {
			break
		}
		add("reads the snapshots", func(_ *state, c *collector) {
			c.needed, c.ended, c.at = s.needed(v, 0, true), s.over(v), g1List
		})
	case g1List:
		add("condemns what none names", func(_ *state, c *collector) {
			c.condemned, c.needed, c.at = condemn(s.store, c.needed), 0, g2Intents
			switch {
			case c.condemned == 0:
				*c = collector{at: ended}
			case v.IntentsFirst:
				c.open &^= 1 << 7
				c.at = g3Wait
			case v.NoWait:
				c.at = g4Read
			}
		})
	case g2Intents:
		add("lists the intents", func(_ *state, c *collector) { c.open, c.at = s.intents, g2Decisions })
	case g2Decisions:
		add("lists the decisions", func(_ *state, c *collector) { c.open, c.at = c.open&s.open(), g3Wait })
	case g3Wait:
		steps = v.wait(steps, s, i)
	case g4Read:
		if v.NoRecompute {
			add("does not look again", func(_ *state, c *collector) { c.at = g5Remove })
			return steps
		}
		if s.distrusted(v) {
			break
		}
		add("reads the snapshots again", func(_ *state, c *collector) {
			c.needed, c.ended, c.at = s.needed(v, c.ended, v.FreshExpiries), 0, g4List
		})
	case g4List:
		add("keeps what is named by now", func(_ *state, c *collector) {
			c.condemned, c.needed, c.at = c.condemned&condemn(s.store, c.needed), 0, g5Remove
		})
	case g5Remove:
		if c.condemned == 0 {
			add("ends", func(_ *state, c *collector) { *c = collector{at: ended} })
			break
		}
		o := lowest(c.condemned)
		add("removes an object", func(to *state, c *collector) { to.store &^= o; c.condemned &^= o })
	case ended:
		add("begins again", func(_ *state, c *collector) { *c = collector{} })
	}
	return steps
}

// wait adds the steps of G3: an open run is decided, by itself or by the collector's
// abort, which like any request may lose its reply.
func (v *Variant) wait(steps []step, s *state, i int) []step {
	add := func(what string, f func(to *state, c *collector)) {
		to := *s
		f(&to, &to.collectors[i])
		steps = append(steps, step{collectorNames[i], what, to, what == lostAbort})
	}
	c := &s.collectors[i]
	if c.open == 0 {
		add("has waited for all", func(_ *state, c *collector) { c.at = g4Read })
		return steps
	}
	for r := range runs {
		switch {
		case !c.open.has(r):
		case v.PresumesDead:
			add("presumes a run dead", func(_ *state, c *collector) { c.open &^= 1 << r })
		case s.decisions[r] != none && !v.Overwrites:
			add("sees a run decided", func(_ *state, c *collector) { c.open &^= 1 << r })
		default:
			put := func(to *state) {
				to.changed = to.changed || to.decisions[r] == commit
				to.decisions[r] = abort
			}
			add("aborts a run", func(to *state, c *collector) { put(to); c.open &^= 1 << r })
			if s.decisions[r] == none {
				add(lostAbort, func(to *state, _ *collector) { put(to) })
			}
		}
	}
	return steps
}

// open returns the runs with an intent and no decision.
func (s *state) open() (open runSet) {
	for r := range runs {
		if s.intents.has(r) && s.decisions[r] == none {
			open |= 1 << r
		}
	}
	return open
}

// distrusted reports whether there is anything that stops a collector.
func (s *state) distrusted(v *Variant) bool {
	return s.forged != 0 && !v.ObeysUnsigned
}

// over returns the snapshots that a collector takes for expired.
func (s *state) over(v *Variant) runSet {
	if v.ObeysUnsigned {
		return s.expired | s.forged&0b1111
	}
	return s.expired
}

// needed returns what the snapshots name, but for those of before; and if fresh, for
// all that have expired by now.
func (s *state) needed(v *Variant, before runSet, fresh bool) (o objects) {
	gone := before
	if fresh {
		gone |= s.over(v)
	}
	for r := range runs {
		if s.decisions[r] == commit && !gone.has(r) {
			o |= s.manifests[r]
		}
	}
	return o
}

// condemn returns what none of needed is: signatures go with the key they are about.
func condemn(store, needed objects) objects {
	c := store &^ needed
	for _, k := range []struct{ key, sig objects }{{key0, sig0}, {by(ownKey, 0), by(ownSig, 0)}, {by(ownKey, 1), by(ownSig, 1)}} {
		if c&k.key == 0 {
			c &^= k.sig
		}
	}
	return c
}
