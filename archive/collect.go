package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A Collector removes what no un-expired snapshot of a service needs. It is the
// keeper's: it signs aborts and is given a [Remover].
//
// It errs to keeping. A decision that cannot be read or trusted, a list that is
// missing, or a key that is unknown stops it for the service with an
// [IntegrityError].
type Collector struct {
	Archive *Archive
	Remover Remover
	Signer  *crypto.Signer         // of aborts
	Now     func() time.Time       // the store's clock; nil asks the store
	Wait    time.Duration          // how long an open run is waited for; 0 means 7 days
	DryRun  bool                   // condemn, and remove nothing
	Keep    func(name string) bool // holds: what must stay; nil keeps nothing more
}

// A Collection says what a collector did.
type Collection struct {
	Condemned int            // objects that no un-expired snapshot names
	Removed   []string       // names, sorted
	Bytes     int64          // of Removed
	Aborted   []RunID        // stale runs that were decided
	Waiting   []RunID        // open runs that are too young: nothing was removed
	Locked    []*LockedError // what the store retains, and until when
	Held      int            // what Keep wants to stay
}

// Collect runs steps G1 to G5 for one service.
func (c *Collector) Collect(ctx context.Context, service string) (*Collection, error) {
	out := new(Collection)
	before, err := c.trusted(ctx, service)
	if err != nil {
		return nil, err
	}
	condemned, err := c.condemn(ctx, service, before.All, before) // G1
	if err != nil {
		return nil, err
	}
	out.Condemned = len(condemned)
	if len(condemned) == 0 {
		return out, nil
	}
	sv, err := c.Archive.Survey(ctx, service) // G2, after G1
	if err != nil {
		return nil, err
	}
	if err := c.settle(ctx, service, sv, out); err != nil { // G3
		return nil, err
	}
	if len(out.Waiting) > 0 {
		return out, nil
	}
	after, err := c.trusted(ctx, service)
	if err != nil {
		return nil, err
	}
	still, err := c.condemn(ctx, service, stillNeeded(before, after), after) // G4
	if err != nil {
		return nil, err
	}
	for _, name := range removalOrder(condemned) {
		if _, ok := still[name]; !ok {
			continue
		}
		if c.Keep != nil && c.Keep(name) {
			out.Held++
			continue
		}
		if err := c.remove(ctx, name, condemned[name], out); err != nil { // G5
			return out, err
		}
	}
	slices.Sort(out.Removed)
	return out, nil
}

// trusted reads the snapshots of a service, and fails if there is any decision or
// expiry record that is not to be trusted: what it would have said is not known.
func (c *Collector) trusted(ctx context.Context, service string) (*Snapshots, error) {
	s, err := c.Archive.Snapshots(ctx, service)
	if err == nil && len(s.Bad) > 0 {
		err = fmt.Errorf("service %s: nothing is collected while there are decisions or expiry records that cannot be trusted: %w", service, errors.Join(s.Bad...))
	}
	return s, err
}

// stillNeeded returns the snapshots whose packs must stay: those that were not expired
// when the packs were condemned. One that was committed and expired in between counts
// too: a run that began after the open runs were listed may have read it before it
// expired, reuse its packs, and be about to commit.
func stillNeeded(before, after *Snapshots) []*Decision {
	ended := map[RunID]bool{}
	for _, d := range before.Expired {
		ended[d.Run] = true
	}
	live := slices.Clone(after.All)
	for _, d := range after.Expired {
		if !ended[d.Run] {
			live = append(live, d)
		}
	}
	return live
}

// condemn finds the packs, lists and keys that none of the live snapshots names, the
// signatures of condemned key statements, and signatures that were left without their
// document.
func (c *Collector) condemn(ctx context.Context, service string, live []*Decision, all *Snapshots) (map[string][]Info, error) {
	needed, err := c.Archive.needed(ctx, service, live)
	if err != nil {
		return nil, err
	}
	condemned := map[string][]Info{}
	statements := map[dataset.Hash]bool{} // condemned
	there := map[dataset.Hash]bool{}      // statements, condemned or not
	for _, folder := range []string{"packs", "lists", "keys"} {
		for info, err := range c.Archive.Store.List(ctx, service+"/"+folder+"/") {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", folder, err)
			}
			n := ParseName(info.Name)
			there[n.Hash] = there[n.Hash] || n.Class == StatementObject
			switch {
			case n.Class == Junk: // reported by a check, removed by nobody
			case n.Class == PackObject && needed.packs[n.Hash], n.Class == ListObject && needed.lists[n.Hash]:
			case (n.Class == KeyObject || n.Class == StatementObject) && needed.keys[n.Key]:
			default:
				condemned[info.Name] = append(condemned[info.Name], info)
				if n.Class == StatementObject {
					statements[n.Hash] = true
				}
			}
		}
	}
	var strays []Info
	for info, err := range c.Archive.Store.List(ctx, service+"/signatures/") {
		if err != nil {
			return nil, fmt.Errorf("list signatures: %w", err)
		}
		n := ParseName(info.Name)
		switch {
		case n.Class != SignatureObject:
		case statements[n.Document]:
			condemned[info.Name] = append(condemned[info.Name], info)
		case strayNamespaces[n.Namespace] && !there[n.Document]:
			strays = append(strays, info)
		}
	}
	strays, err = c.strays(ctx, service, all, strays)
	for _, info := range strays {
		condemned[info.Name] = append(condemned[info.Name], info)
	}
	return condemned, err
}

// strayNamespaces are those of documents whose signatures a collector removes if the
// document is not there. A signature is written before its document, so a writer or
// keeper that died in between, or a keeper that died while it removed them, left it, and
// nobody comes back to it: what is tried again has another time or key in it. Signatures
// of all other documents stay. They may be all that is left of something that was taken
// away.
var strayNamespaces = map[string]bool{nsKeys: true, nsAbort: true, nsExpiry: true}

// strays returns those of some signatures, of no key statement that is there, that are old
// enough and whose document is no abort or expiry record either.
func (c *Collector) strays(ctx context.Context, service string, all *Snapshots, candidates []Info) ([]Info, error) {
	if len(candidates) == 0 {
		return nil, nil
	}
	sv, err := c.Archive.Survey(ctx, service)
	if err != nil {
		return nil, err
	}
	there := map[dataset.Hash]bool{}
	for _, infos := range sv.Expired {
		for _, info := range infos {
			there[ParseName(info.Name).Hash] = true
		}
	}
	for _, d := range slices.Concat(all.All, all.Expired) {
		delete(sv.Decisions, d.Run)
	}
	for _, info := range sv.Decisions { // what is no manifest is an abort
		doc, err := readAll(ctx, c.Archive.Store, info.Name, maxDocument)
		if err != nil {
			return nil, err
		}
		there[dataset.Sum(doc)] = true
	}
	now, err := c.now(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(candidates, func(i Info) bool {
		return there[ParseName(i.Name).Document] || i.Time.IsZero() || now.Sub(i.Time) <= c.wait()
	}), nil
}

// removalOrder sorts names so that a collector that dies leaves nothing that looks
// wrong: a statement goes before its signature and before the key that it is about.
func removalOrder(condemned map[string][]Info) []string {
	rank := map[Class]int{PackObject: 0, ListObject: 1, StatementObject: 2, SignatureObject: 3, KeyObject: 4}
	names := slices.Collect(maps.Keys(condemned))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(rank[ParseName(a).Class]-rank[ParseName(b).Class], strings.Compare(a, b))
	})
	return names
}

// needs is what snapshots name.
type needs struct {
	packs, lists, keys map[dataset.Hash]bool // keys by key id
}

// needed reads the lists of snapshots. It fails rather than guess.
func (a *Archive) needed(ctx context.Context, service string, live []*Decision) (*needs, error) {
	n := &needs{map[dataset.Hash]bool{}, map[dataset.Hash]bool{}, map[dataset.Hash]bool{}}
	for _, d := range live {
		for _, k := range d.Manifest.Keys {
			n.keys[k.ID] = true
		}
		for _, ref := range d.Manifest.Lists {
			if n.lists[ref.SHA256] {
				continue
			}
			packs, err := a.List(ctx, service, ref)
			if err != nil {
				return nil, &IntegrityError{DecisionName(service, d.Run), err}
			}
			n.lists[ref.SHA256] = true
			for _, p := range packs {
				if !n.keys[p.Key] {
					return nil, &IntegrityError{DecisionName(service, d.Run), fmt.Errorf("pack %s needs key %s, which no snapshot names", p.SHA256, p.Key)}
				}
				n.packs[p.SHA256] = true
			}
		}
	}
	return n, nil
}

// settle waits for open runs: those older than c.Wait by the store's clock are
// decided, as aborts.
func (c *Collector) settle(ctx context.Context, service string, sv *Survey, out *Collection) error {
	now, err := c.now(ctx)
	if err != nil {
		return err
	}
	for _, r := range sv.Open() {
		begun := sv.Intents[r].Time
		if begun.IsZero() || now.Sub(begun) <= c.wait() || c.DryRun {
			out.Waiting = append(out.Waiting, r)
			continue
		}
		if err := c.Archive.Abort(ctx, c.Signer, service, r, AbortStale, now); errors.Is(err, fs.ErrExist) {
			continue // decided in the meantime
		} else if err != nil {
			return fmt.Errorf("abort stale run %s: %w", r, err)
		}
		out.Aborted = append(out.Aborted, r)
	}
	return nil
}

func (c *Collector) wait() time.Duration { return cmp.Or(c.Wait, 7*24*time.Hour) }

func (c *Collector) now(ctx context.Context) (time.Time, error) {
	if c.Now != nil {
		return c.Now(), nil
	}
	if clock, ok := c.Archive.Store.(Clock); ok {
		return clock.Now(ctx)
	}
	return time.Time{}, errors.New("the store does not tell its time, so that stale runs cannot be told from living ones")
}

// Abort decides that a run will never be a snapshot. It fails with [fs.ErrExist] if
// the run has another decision.
func (a *Archive) Abort(ctx context.Context, signer *crypto.Signer, service string, r RunID, reason string, now time.Time) error {
	_, intent, err := a.Intent(ctx, service, r)
	if err != nil {
		return err
	}
	doc, err := encode(Abort{abortFormat, a.ID, service, r, intent, reason, At(now)})
	if err != nil {
		return err
	}
	return PutSigned(ctx, a.Store, signer, service, DecisionName(service, r), nsAbort, doc)
}

// Expire records that a snapshot need not be kept. The caller has made sure that it
// may go.
func (a *Archive) Expire(ctx context.Context, signer *crypto.Signer, service string, d *Decision, rule string, now time.Time) error {
	doc, err := encode(Expiry{expiryFormat, a.ID, service, d.Run, d.Hash, rule, At(now)})
	if err != nil {
		return err
	}
	return PutSigned(ctx, a.Store, signer, service, expiryName(service, d.Run, dataset.Sum(doc)), nsExpiry, doc)
}

// remove deletes every version of an object.
func (c *Collector) remove(ctx context.Context, name string, infos []Info, out *Collection) error {
	if c.DryRun {
		out.Removed = append(out.Removed, name)
		out.Bytes += infos[0].Size
		return nil
	}
	for _, info := range infos {
		err := c.Remover.Remove(ctx, name, info.Version)
		var locked *LockedError
		switch {
		case errors.As(err, &locked):
			out.Locked = append(out.Locked, locked)
			return nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("remove %s: %w", name, err)
		}
		out.Bytes += info.Size
	}
	out.Removed = append(out.Removed, name)
	return nil
}
