package model

// A step leads from one state to another.
type step struct {
	who, what string
	to        state
	fault     bool
}

// next returns every step that can be taken from s.
func (v *Variant) next(s *state) []step {
	var steps []step
	for i := range s.writers {
		steps = v.write(steps, s, i)
	}
	for i := range s.collectors {
		steps = v.collect(steps, s, i)
	}
	for r := range runs {
		if s.live(r) {
			to := *s
			to.expired |= 1 << r
			steps = append(steps, step{who: "keeper", what: "expires a snapshot", to: to})
		}
	}
	if s.forged == 0 { // the thief strikes once
		for r := range runs {
			if s.intents.has(r) && s.decisions[r] == none {
				to := *s
				to.decisions[r], to.forged = junk, 1<<7
				steps = append(steps, step{"thief", "leaves an unsigned decision", to, true})
			}
		}
		to := *s
		to.forged = 1
		steps = append(steps, step{"thief", "leaves an unsigned expiry record of run 0", to, true})
	}
	return steps
}

var names = [2]string{"writer 0", "writer 1"}

// write adds the steps of a writer.
func (v *Variant) write(steps []step, s *state, i int) []step {
	w, run := &s.writers[i], 2+i
	add := func(what string, fault bool, f func(to *state, w *writer)) {
		to := *s
		f(&to, &to.writers[i])
		steps = append(steps, step{names[i], what, to, fault})
	}
	// create is a request that takes effect; its reply comes, or is lost and the request
	// repeated.
	create := func(what string, o objects, then writerStep) {
		add(what, false, func(to *state, w *writer) { to.store |= o; w.at = then })
		if s.store&o != o {
			add(what+", reply lost", true, func(to *state, _ *writer) { to.store |= o })
		}
	}
	afterConfirm, afterDecision := w6Decide, committed
	if v.ManifestBeforePacks {
		afterConfirm, afterDecision = committed, w3Pack
	}
	switch w.at {
	case w1Intent:
		if v.RootsBeforeIntent && !w.read {
			return v.readRoots(steps, s, i, w1Intent)
		}
		then := w2Read
		if v.RootsBeforeIntent {
			then = w2Sig
		}
		add("creates its intent", false, func(to *state, w *writer) { to.intents |= 1 << run; w.at = then })
	case w2Read:
		steps = v.readRoots(steps, s, i, w2Sig)
	case w2Sig:
		create("creates the signature of its key's statement", by(ownSig, i), w2Key)
	case w2Key:
		then := w3Pack
		if v.ManifestBeforePacks {
			then = w6Decide
		}
		create("creates its key", by(ownKey, i), then)
	case w3Pack:
		create("creates a pack", by(ownPack, i), w4List)
	case w4List:
		create("creates its list", by(ownList, i), w4Other)
	case w4Other:
		other := w.needs & (listA | by(otherList, i))
		create("creates the list of what it reuses", other, w4Confirm)
	case w4Confirm:
		then := afterConfirm
		if w.needs&^s.store != 0 {
			then = gaveUp
		}
		add("lists what it will name", false, func(_ *state, w *writer) { w.at = then })
	case w6Decide:
		steps = v.decide(steps, s, i, afterDecision)
	}
	if w.at > w2Read && w.at < committed && !v.RootsBeforeIntent {
		add("dies and is resumed", true, func(_ *state, w *writer) { w.at, w.needs = w2Read, 0 })
	}
	return steps
}

// readRoots adds what a writer may decide to reuse: nothing, all of a snapshot, or of
// one with the packs A and B only A.
func (v *Variant) readRoots(steps []step, s *state, i int, then writerStep) []step {
	own := by(ownPack|ownKey|ownSig|ownList, i)
	add := func(what string, needs objects) {
		to := *s
		to.writers[i] = writer{at: then, needs: own | needs, read: true}
		steps = append(steps, step{names[i], "reads the snapshots and " + what, to, false})
	}
	add("reuses nothing", 0)
	for r := range runs {
		if !s.live(r) || r == 2+i {
			continue
		}
		m := s.manifests[r]
		add("reuses all of one", m)
		if m&(packA|packB) == packA|packB {
			list := by(otherList, i)
			if v.SharedLists {
				list = listA
			}
			add("reuses pack A of one", packA|key0|sig0|list)
		}
	}
	return steps
}

// decide adds the outcomes of creating the decision.
func (v *Variant) decide(steps []step, s *state, i int, then writerStep) []step {
	run := 2 + i
	add := func(what string, fault bool, f func(to *state, w *writer)) {
		to := *s
		f(&to, &to.writers[i])
		steps = append(steps, step{names[i], what, to, fault})
	}
	w := s.writers[i]
	if s.decisions[run] == none || v.Overwrites {
		put := func(to *state) {
			to.changed = to.changed || to.decisions[run] == abort
			to.decisions[run], to.manifests[run] = commit, w.needs
		}
		add("creates its decision", false, func(to *state, w *writer) { put(to); w.at = then })
		add("creates its decision, reply lost", true, func(to *state, _ *writer) { put(to) })
		return steps
	}
	mine := s.decisions[run] == commit && s.manifests[run] == w.needs
	if mine || v.TakenForSuccess {
		add("finds its decision there", false, func(_ *state, w *writer) { w.at = then })
	} else {
		add("is fenced", false, func(_ *state, w *writer) { w.at = gaveUp })
	}
	return steps
}
