package model

import (
	"os"
	"strings"
	"testing"
)

// scopes are explored one after the other, the cheapest first: that of two actors as far
// as small says, the others as far as limit.
func scopes(small, limit int) []Scope {
	return []Scope{
		{Writers: 1, Collectors: 1, Faults: true, Limit: small},
		{Writers: 2, Collectors: 1, Limit: limit},
		{Writers: 1, Collectors: 2, Limit: limit},
		{Writers: 2, Collectors: 1, Faults: true, Limit: limit},
		{Writers: 1, Collectors: 2, Faults: true, Limit: limit},
	}
}

// TestTheProtocolKeepsItsPromises explores the near part of each scope, and with
// SALLYPORT_EXHAUSTIVE five million states of it (or all, where there are fewer).
func TestTheProtocolKeepsItsPromises(t *testing.T) {
	t.Parallel()
	limit := 100_000
	if os.Getenv("SALLYPORT_EXHAUSTIVE") != "" {
		limit = 5_000_000
	}
	for i, of := range scopes(1_000_000, limit) {
		r := Variant{}.Explore(of)
		if r.Broken != "" {
			t.Errorf("%+v: %s:\n\t%s", of, r.Broken, strings.Join(r.Trace, "\n\t"))
		}
		if i == 0 && r.Cut {
			t.Error("one writer and one collector were not explored to the end")
		}
		t.Logf("%+v: %d states, cut short: %v", of, r.States, r.Cut)
	}
}

func TestEveryWrongVariantIsCaught(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]Variant{
		"intents listed before condemning":              {IntentsFirst: true},
		"roots read before the intent":                  {RootsBeforeIntent: true},
		"a collector that does not wait for decisions":  {NoWait: true},
		"a collector that does not recompute":           {NoRecompute: true},
		"a collector that presumes stale runs dead":     {PresumesDead: true},
		"a decision without If-None-Match":              {Overwrites: true},
		"manifest before packs":                         {ManifestBeforePacks: true},
		"412 taken for success":                         {TakenForSuccess: true},
		"a second look that forgets what expired since": {FreshExpiries: true},
		"lists that are named by their packs alone":     {SharedLists: true},
		"unsigned expiry records obeyed":                {ObeysUnsigned: true},
	} {
		caught := false
		for _, of := range scopes(100_000, 1_500_000) {
			if r := v.Explore(of); r.Broken != "" {
				t.Logf("%s: %s after %d steps (%d states):\n\t%s", name, r.Broken, len(r.Trace), r.States, strings.Join(r.Trace, "\n\t"))
				caught = true
				break
			}
		}
		if !caught {
			t.Errorf("%s: nothing was found wrong with it", name)
		}
	}
}
