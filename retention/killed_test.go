package retention_test

import (
	"fmt"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// The keeper is stopped at every operation of the store, before and after it took effect.
// Started again it ends where it would have ended, and what is kept is whole.
func TestKeeperStoppedAnywhereLosesNothingAndConverges(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(3)
	var last *archive.Snapshot
	for i := range 4 {
		check(t, c.src.Put(dataset.Record{Stream: "rows", Key: "[0]", Data: fmt.Appendf(nil, `{"id":0,"n":%d}`, i)}))
		last = c.export(t)
		c.countersign(t, last)
	}
	base := c.store
	whole := base.Clone()
	on := func(st *archivetest.Memory) *court {
		a := *c.a
		a.Store = st
		return &court{store: st, on: st, a: &a, log: &log{}, signers: c.signers, managed: c.managed, keeper: c.keeper, toAll: c.toAll, toBoth: c.toBoth, clock: c.now()}
	}
	objects := func(st *archivetest.Memory) (n int) { // a stop may leave signatures of what is gone or never came
		for _, name := range st.Names() {
			if archive.ParseName(name).Class != archive.SignatureObject {
				n++
			}
		}
		return n
	}
	world := on(whole)
	_, err := apply(t, world.keeperDesk(), keepLast(1))
	check(t, err)
	ops, want := whole.Ops(), objects(whole)
	step := max(1, ops/rounds(ops, 10))
	for k := 1; k <= ops; k += step {
		for _, verdict := range []archivetest.Verdict{archivetest.Stop, archivetest.StopAfter, archivetest.LostReply} {
			st := base.Clone()
			world := on(st)
			st.Fault = func(n int, _, _ string) archivetest.Verdict {
				if n == k {
					return verdict
				}
				return archivetest.Works
			}
			_, err := apply(t, world.keeperDesk(), keepLast(1))
			st.Heal()
			if err != nil {
				if _, err = apply(t, world.keeperDesk(), keepLast(1)); err != nil {
					t.Fatalf("operation %d, %v: started again: %v", k, verdict, err)
				}
			}
			if _, err = apply(t, world.keeperDesk(), keepLast(1)); err != nil {
				t.Fatalf("operation %d, %v: once more: %v", k, verdict, err)
			}
			r, err := verify.Verification{Snapshot: world.open(t, last.Decision)}.Run(t.Context())
			if err != nil || r.Content != verify.Pass {
				t.Fatalf("operation %d, %v: what is kept: %+v, %v", k, verdict, r, err)
			}
			if got := objects(st); got != want {
				t.Errorf("operation %d, %v: %d objects are left; want %d", k, verdict, got, want)
			}
		}
	}
}
