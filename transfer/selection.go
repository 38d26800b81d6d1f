package transfer

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/dwp/sallyport/dataset"
)

// A Selection says which streams are exported. The zero Selection is all of them.
// Patterns are those of [path.Match] over stream names.
type Selection struct {
	Include []string // if not empty: only these; naming one the source does not have is a gap
	Exclude []string // left out on purpose, and said so in the snapshot
}

// choose splits what the source offers into what is exported and what is missing of
// the plan: streams that are in neither list, and names in the plan that the source
// does not have.
func (s Selection) choose(offered []dataset.Stream) (chosen []dataset.Stream, gaps []dataset.Gap, scope []string, err error) {
	used := map[string]bool{}
	for _, st := range offered {
		excluded, err := matchAny(s.Exclude, st.Name, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		included, err := matchAny(s.Include, st.Name, used)
		if err != nil {
			return nil, nil, nil, err
		}
		switch {
		case excluded:
			scope = append(scope, fmt.Sprintf("stream %q is excluded by the plan", st.Name))
		case included || len(s.Include) == 0:
			chosen = append(chosen, st)
		default:
			gaps = append(gaps, dataset.Gap{Stream: st.Name, Code: dataset.Unplanned, Detail: "the source offers it and the plan neither includes nor excludes it"})
		}
	}
	for _, p := range s.Include {
		if !used[p] {
			gaps = append(gaps, dataset.Gap{Stream: p, Code: dataset.Absent, Detail: "the plan includes it and the source does not offer it"})
		}
	}
	return chosen, gaps, scope, nil
}

func matchAny(patterns []string, name string, used map[string]bool) (bool, error) {
	found := false
	for _, p := range patterns {
		ok, err := path.Match(p, name)
		if err != nil {
			return false, fmt.Errorf("stream pattern %q: %w", p, err)
		}
		if ok = ok || p == name; ok && used != nil {
			used[p] = true
		}
		found = found || ok
	}
	return found, nil
}

// groups puts streams that are read together together, in order of names.
func groups(streams []dataset.Stream) [][]dataset.Stream {
	var gs [][]dataset.Stream
	at := map[string]int{}
	for _, s := range streams {
		i, ok := at[s.Group]
		if s.Group == "" || !ok {
			at[s.Group] = len(gs)
			gs = append(gs, []dataset.Stream{s})
			continue
		}
		gs[i] = append(gs[i], s)
	}
	for _, g := range gs {
		slices.SortFunc(g, func(a, b dataset.Stream) int { return strings.Compare(a.Name, b.Name) })
	}
	return gs
}
