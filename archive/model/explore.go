package model

import "fmt"

// A Result says what an exploration found.
type Result struct {
	States int
	Broken string   // which promise; empty if none
	Trace  []string // the shortest way to break it
	Cut    bool     // there are more states than the limit
}

// A Scope says who acts, and how much to explore.
type Scope struct {
	Writers, Collectors int  // at most two of each
	Faults              bool // replies are lost, runs die and are resumed, a thief is about
	Limit               int  // of states
}

// Explore visits every state that can be reached, nearest first, and stops at the first
// that breaks a promise or when it has seen as many states as it may.
func (v Variant) Explore(of Scope) Result {
	type visit struct {
		s         state
		parent    int32
		who, what string
	}
	first := start(of.Writers, of.Collectors)
	visits := []visit{{s: first, parent: -1}}
	seen := map[state]struct{}{first: {}}
	for i := 0; i < len(visits); i++ {
		s := visits[i].s
		for _, st := range v.next(&s) {
			if st.fault && !of.Faults {
				continue
			}
			st.to.forget()
			if _, ok := seen[st.to]; ok {
				continue
			}
			if len(seen) == of.Limit {
				return Result{States: len(seen), Cut: true}
			}
			seen[st.to] = struct{}{}
			visits = append(visits, visit{st.to, int32(i), st.who, st.what})
			if promise := st.to.broken(); promise != "" {
				r := Result{States: len(seen), Broken: promise}
				for at := int32(len(visits) - 1); at > 0; at = visits[at].parent {
					r.Trace = append([]string{fmt.Sprintf("%s %s", visits[at].who, visits[at].what)}, r.Trace...)
				}
				return r
			}
		}
	}
	return Result{States: len(seen)}
}
