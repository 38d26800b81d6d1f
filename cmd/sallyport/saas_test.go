package main

import (
	"slices"
	"strconv"
	"testing"

	desk "github.com/dwp/sallyport/fixtures/rest"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestSaaSScripts runs scripts that take a ticket desk out, which listens in this
// process.
func TestSaaSScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/saas",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TOKEN", desk.Canary)
			return setup(e)
		},
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "flip": flip, "desk": startDesk},
	})
}

// startDesk starts a desk with tickets, honest or in one of its hostile modes, and sets
// $DESK to its address:
//
//	desk 23 [mode]
func startDesk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: desk tickets [mode]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	d := desk.NewDesk(n)
	if len(args) == 2 {
		i := slices.IndexFunc(desk.Modes, func(m desk.Mode) bool { return m.Name == args[1] })
		if i < 0 {
			ts.Fatalf("no mode %s", args[1])
		}
		d.Before = desk.Modes[i].Before
	}
	ts.Setenv("DESK", d.Start())
	ts.Defer(d.Close)
}
