// Package model is the commit protocol of package archive as a small state machine,
// and an explorer that visits every state it can reach: every interleaving of writers,
// collectors and a keeper who expires snapshots, with every request's reply lost, every
// run crashed and resumed at every step, and a thief who leaves unsigned documents. A
// lost request is a step not taken; a process that dies is one that is never scheduled
// again.
//
// Its tests show that the protocol keeps its promise, and that each tempting
// simplification of it does not. It is a statement of why the steps are in the order
// they are, and no part of the program.
package model

import "math/bits"

// objects is a set of stored objects, one bit each.
type objects uint32

// What the store holds in the beginning: run 0 is a snapshot of the packs A and B, run
// 1 an expired one that needed only A.
const (
	packA objects = 1 << iota
	packB
	key0
	sig0 // of the statement of key0
	listAB
	listA // what the expired snapshot needed of run 0
	firstOwn
)

// What a writer makes.
const (
	ownPack objects = firstOwn << iota
	ownKey
	ownSig  // of its key's statement
	ownList // of its own packs
	otherList
	ownEnd
)

const perWriter = 5 // bits

// by turns one of a writer's own objects into the bit it has for that writer.
func by(o objects, writer int) objects { return o << (perWriter * writer) }

func owns(o objects) (all objects) { return by(o, 0) | by(o, 1) }

// A decision of a run.
type decision uint8

const (
	none   decision = iota
	commit          // a signed manifest
	abort           // a signed abort
	junk            // something that nobody signed
)

const (
	runs    = 4 // 0 and 1 are there in the beginning, 2 and 3 belong to the writers
	writers = 2
)

type runSet uint8

func (s runSet) has(r int) bool { return s>>r&1 == 1 }

// A state is everything that matters.
type state struct {
	store     objects
	intents   runSet
	decisions [runs]decision
	manifests [runs]objects // what the decision names
	expired   runSet
	forged    runSet // runs with an expiry record that nobody signed
	changed   bool   // a decision was overwritten

	writers    [writers]writer
	collectors [2]collector
}

// Steps of a writer.
type writerStep uint8

const (
	w1Intent writerStep = iota
	w2Read
	w2Sig
	w2Key
	w3Pack
	w4List
	w4Other
	w4Confirm
	w6Decide
	committed
	gaveUp
	unused
)

type writer struct {
	at    writerStep
	needs objects // what its manifest will name
	read  bool    // roots were read, before the intent
}

// Steps of a collector.
type collectorStep uint8

const (
	g1Read collectorStep = iota
	g1List
	g2Intents
	g2Decisions
	g3Wait
	g4Read
	g4List
	g5Remove
	ended
	idle
)

type collector struct {
	at        collectorStep
	needed    objects
	condemned objects
	ended     runSet // snapshots that had expired when the collector began
	open      runSet
}

// A Variant is a protocol: the zero Variant is the right one, and each field is a way
// to get it wrong.
type Variant struct {
	IntentsFirst        bool // the collector lists open runs before it condemns
	RootsBeforeIntent   bool // the writer reads what it may reuse before it announces itself
	NoWait              bool // the collector does not wait for decisions
	NoRecompute         bool // the collector does not look again before it removes
	PresumesDead        bool // the collector waits for stale runs by forgetting them
	Overwrites          bool // a decision is created without If-None-Match
	ManifestBeforePacks bool
	TakenForSuccess     bool // the writer takes 412 for success
	FreshExpiries       bool // the second look no longer counts what expired since the first
	SharedLists         bool // a list is named by its packs alone, and one that is there is relied on
	ObeysUnsigned       bool // an expiry record counts though nobody signed it
}

func start(nWriters, nCollectors int) state {
	s := state{store: packA | packB | key0 | sig0 | listAB | listA}
	s.intents = 0b0011
	s.decisions = [runs]decision{commit, commit}
	s.manifests = [runs]objects{packA | packB | key0 | sig0 | listAB, packA | key0 | sig0 | listA}
	s.expired = 0b0010
	for i := range writers {
		if i >= nWriters {
			s.writers[i].at = unused
		}
	}
	for i := range s.collectors {
		if i >= nCollectors {
			s.collectors[i].at = idle
		}
	}
	return s
}

// live reports whether a run is an un-expired snapshot.
func (s *state) live(r int) bool { return s.decisions[r] == commit && !s.expired.has(r) }

// broken says what promise a state breaks; empty if none.
func (s *state) broken() string {
	if s.changed {
		return "a run has had two decisions"
	}
	for r := range runs {
		if s.live(r) && s.manifests[r]&^s.store != 0 {
			return "a committed, un-expired snapshot has lost something it names"
		}
	}
	for i, w := range s.writers {
		if w.at == committed && s.decisions[2+i] != commit {
			return "a writer believes in a snapshot that is none"
		}
	}
	return ""
}

// lowest returns one element of a set.
func lowest(o objects) objects { return 1 << bits.TrailingZeros32(uint32(o)) }

// forget drops what makes no difference any more, so that fewer states are told apart.
func (s *state) forget() {
	for i := range s.writers {
		w := &s.writers[i]
		if w.at >= committed && w.at < unused {
			*w = writer{at: w.at}
		}
		w.read = w.read && w.at == w1Intent
	}
	for r := range runs {
		if s.decisions[r] != commit {
			s.manifests[r] = 0
		}
	}
}
