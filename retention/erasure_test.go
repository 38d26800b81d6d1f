package retention_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/transfer"
)

var jane = []retention.Subject{{Stream: "objects", Key: "file-003"}, {Stream: "rows", Key: "[3]"}}

var request = retention.ErasureAnnex{Authority: "request 4711", Reason: "article 17"}

// restored lists what a restore that obeys the register of an archive brings back.
func restored(t *testing.T, c *court, a *archive.Archive, s *archive.Snapshot) (keys []string, withheld int64) {
	t.Helper()
	o := c.office("verifier")
	o.Archive = a
	register, err := o.Register(t.Context(), service)
	check(t, err)
	withhold, err := o.Withhold(t.Context(), service, register)
	check(t, err)
	target := new(memory.Target)
	r := transfer.Restore{Snapshot: s, Target: target, Test: dataset.NewID(), Withhold: withhold}
	out, err := r.Run(t.Context())
	check(t, err)
	for _, st := range out.Streams {
		withheld += st.Withheld
	}
	c.src = target.Loaded()
	return c.left(t), withheld
}

func TestErasedRecordsDoNotComeBackFromAnyCopyOfTheArchive(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(5)
	s := c.export(t)
	o := c.office("verifier")
	h, err := o.Erase(t.Context(), service, jane, request, []*archive.Snapshot{s})
	check(t, err)
	for _, name := range c.store.Names() {
		if strings.Contains(name, "/erasures/") && (strings.Contains(string(c.store.Bytes(name)), "file-003") || strings.Contains(string(c.store.Bytes(name)), "4711")) {
			t.Errorf("%s names what was erased", name)
		}
	}
	copied := *c.a
	copied.Store = c.store.Clone() // another host, which was given a copy
	keys, withheld := restored(t, c, &copied, s)
	if withheld != 2 || len(keys) != 8 || slices.Contains(keys, "objects file-003/0") || slices.Contains(keys, "rows [3]/0") {
		t.Errorf("withheld %d, restored %v", withheld, keys)
	}
	// A second erasure uses the same key, and both hold.
	_, err = o.Erase(t.Context(), service, []retention.Subject{{Stream: "rows", Key: "[4]"}}, request, []*archive.Snapshot{s})
	check(t, err)
	register, err := o.Register(t.Context(), service)
	check(t, err)
	if len(register.Erasures) != 2 || register.Len() != 3 || register.Erasures[0].HashKey != register.Erasures[1].HashKey {
		t.Errorf("register: %+v", register.Erasures)
	}
	// Without the key nothing is restored rather than too much.
	stranger := o
	stranger.Open, _ = newIdentity(t)
	if _, err := stranger.Withhold(t.Context(), service, register); !errors.Is(err, crypto.ErrNoKey) {
		t.Errorf("a register that cannot be read: %v", err)
	}
	// Junk is reported and obeyed by nobody, and no export relies on packs meanwhile.
	c.store.Put(service+"/erasures/"+h.String()+".json", []byte("{}"))
	if register, err = o.Register(t.Context(), service); err != nil || len(register.Junk) != 1 || len(register.Erasures) != 1 {
		t.Errorf("with a damaged entry: %+v, %v", register, err)
	}
	if _, doubts, err := o.Avoid(t.Context(), service); err != nil || len(doubts) != 1 {
		t.Errorf("with a damaged entry: doubts %v, %v", doubts, err)
	}
}

func TestPacksOfWhatWasErasedAreNotReused(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(5)
	s := c.export(t)
	keeper := c.office("keeper")
	avoid, doubts, err := keeper.Avoid(t.Context(), service)
	if err != nil || len(doubts) > 0 || len(avoid) > 0 {
		t.Fatalf("before: avoid %v, doubts %v, %v", avoid, doubts, err)
	}
	// The keeper cannot look into snapshots, so everything is avoided until a verifier did.
	_, err = keeper.Erase(t.Context(), service, jane, request, nil)
	check(t, err)
	if _, doubts, err = keeper.Avoid(t.Context(), service); err != nil || len(doubts) != 1 {
		t.Errorf("an erasure without packs: doubts %v, %v", doubts, err)
	}
	verifier := c.office("verifier")
	n, err := verifier.NameErased(t.Context(), service, []*archive.Snapshot{s})
	check(t, err)
	avoid, doubts, err = keeper.Avoid(t.Context(), service)
	if err != nil || len(doubts) > 0 || len(avoid) != n || n == 0 {
		t.Errorf("after: avoid %d of %d, doubts %v, %v", len(avoid), n, doubts, err)
	}
	want, err := retention.Touched(t.Context(), s, func(stream, key string) bool {
		return slices.Contains(jane, retention.Subject{Stream: stream, Key: key})
	})
	check(t, err)
	for _, h := range want {
		if !avoid[h] {
			t.Errorf("pack %s holds what was erased and may be reused", h)
		}
	}
	// Erased at the source, and exported again: none of these packs is in the snapshot.
	check(t, c.src.Remove("objects", "file-003", 0))
	check(t, c.src.Remove("rows", "[3]", 0))
	d, err := transfer.Export(t.Context(), transfer.Job{Archive: c.a, Open: c.src.Open,
		Options: archive.Options{Service: service, Exporter: "memory", Classification: "OFFICIAL", Product: "test",
			Signer: c.signers["exporter"], Recipients: c.toAll, State: c.state, Now: c.now, Avoid: avoid}})
	check(t, err)
	next := c.open(t, d)
	for h := range next.Packs {
		if avoid[h] {
			t.Errorf("pack %s was reused", h)
		}
	}
}
