package retention_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/retention"
)

// D04: a hold that is placed, or that cannot be read, while a deletion goes on. An act
// records its intent first; the hold comes just after each of the intents.
func TestHoldPlacedWhileADeletionGoesOnStopsIt(t *testing.T) {
	t.Parallel()
	arrive := map[string]func(t *testing.T, c *court){
		"placed": func(t *testing.T, c *court) {
			alex := c.office("alex")
			_, err := alex.Place(t.Context(), service, "litigation", retention.HoldAnnex{Authority: "x", Scopes: []retention.Scope{{Key: "file-001"}}})
			check(t, err)
		},
		"unreadable": func(_ *testing.T, c *court) {
			c.store.Fault = func(_ int, op, name string) archivetest.Verdict {
				if op == "list" && strings.HasSuffix(name, "/holds/") {
					return archivetest.Cut
				}
				return archivetest.Works
			}
		},
		"junk": func(_ *testing.T, c *court) {
			c.store.Put(service+"/holds/"+dataset.Sum([]byte("{}")).String()+".json", []byte("{}"))
		},
	}
	for how, hold := range arrive {
		for _, at := range []int{1, 3} { // the intents of the expiry, and of the collection
			c := newCourt(t)
			c.fill(4)
			for i := range 3 {
				c.alter(t, i)
				c.countersign(t, c.export(t))
			}
			_, to := newIdentity(t)
			r := &retention.Rotation{Archive: c.a, Signer: c.signers["verifier"], Open: c.managed, Data: to, Log: c.log, Now: c.now}
			_, err := r.Run(t.Context(), service) // so that there are replaced key files, too
			check(t, err)
			k := c.keeperDesk()
			k.Log = &interruption{log: c.log, at: at, do: func() { hold(t, c) }}
			before := countDeletable(c)
			out, err := apply(t, k, keepLast(1))
			if before != countDeletable(c) {
				t.Errorf("a hold %s at event %d: %d of %d objects are left", how, at, countDeletable(c), before)
			}
			if how == "placed" && at == 1 {
				refused(t, err, "held")
			} else if how != "placed" && err == nil {
				t.Errorf("a hold %s at event %d: %+v without an error", how, at, out)
			}
			if at == 1 && len(out.Expired) > 0 {
				t.Errorf("a hold %s before the expiry: %v expired", how, out.Expired)
			}
		}
	}
}

// And while a key is destroyed: a file that is gone cannot be had back.
func TestHoldPlacedWhileAKeyIsDestroyedStopsIt(t *testing.T) {
	t.Parallel()
	for _, at := range []int{1, 3} { // the intents of the expiry, and of the destruction
		c := newCourt(t)
		c.fill(4)
		s := c.export(t)
		c.countersign(t, s)
		k := c.keeperDesk()
		k.Log = &interruption{log: c.log, at: at, do: func() {
			alex := c.office("alex")
			_, err := alex.Place(t.Context(), service, "litigation", retention.HoldAnnex{Authority: "x", Scopes: []retention.Scope{{}}})
			check(t, err)
		}}
		_, err := k.CryptoErase(t.Context(), service, madeBy(t, s, archive.DataRole), []archive.RunID{s.Run})
		refused(t, err, "held")
		c.readable(t, []*archive.Snapshot{s}, nil)
	}
}

// countDeletable counts what a keeper may remove: packs, lists and sealed keys.
func countDeletable(c *court) (n int) {
	for _, name := range c.store.Names() {
		switch archive.ParseName(name).Class {
		case archive.PackObject, archive.ListObject, archive.KeyObject:
			n++
		}
	}
	return n
}

// An interruption does something just after the n-th event of a log.
type interruption struct {
	*log
	at int
	do func()
}

func (i *interruption) Publish(ctx context.Context) (archive.Checkpoint, error) {
	p, err := i.log.Publish(ctx)
	if i.at--; i.at == 0 {
		i.do()
	}
	return p, err
}

// What a keeper signs must be believed, or the next keeper would have to stop at it.
func TestKeeperWhoseKeyNobodyBelievesDoesNothing(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.fill(4)
	for i := range 3 {
		c.alter(t, i)
		c.countersign(t, c.export(t))
	}
	for role, want := range map[string]error{"exporter": crypto.ErrWrongNamespace, "stranger": crypto.ErrUnknownSigner} {
		k := c.keeperDesk()
		k.Signer = c.signers[role]
		before := len(c.store.Names())
		if _, err := apply(t, k, keepLast(1)); !errors.Is(err, want) {
			t.Errorf("%s as keeper: %v; want %v", role, err, want)
		}
		all, err := c.a.Snapshots(t.Context(), service)
		if err != nil || len(all.Bad) > 0 || len(c.store.Names()) != before {
			t.Errorf("%s as keeper left %v, %v", role, all.Bad, err)
		}
	}
}
