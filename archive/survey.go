package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A Decision is a run's decision as the store has it, verified: a manifest or an abort.
type Decision struct {
	Run      RunID
	Hash     dataset.Hash
	Manifest *Manifest // nil if the run was aborted
	Abort    *Abort    // nil if the run was committed
	Signer   crypto.Identity
	Doc      []byte
}

// Decision reads and verifies the decision of a run. It fails with [fs.ErrNotExist] if
// there is none.
func (a *Archive) Decision(ctx context.Context, service string, r RunID) (*Decision, error) {
	name := decisionName(service, r)
	doc, err := readAll(ctx, a.Store, name, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("read decision of %s: %w", r, err)
	}
	d, ns, at, err := a.parseDecision(service, r, doc)
	if err != nil {
		return nil, &IntegrityError{name, err}
	}
	d.Signer, err = a.Verify(ctx, service, ns, doc, at)
	if err != nil {
		return nil, &IntegrityError{name, err}
	}
	return d, nil
}

func (a *Archive) parseDecision(service string, r RunID, doc []byte) (d *Decision, namespace string, at time.Time, err error) {
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return nil, "", at, err
	}
	d = &Decision{Run: r, Hash: dataset.Sum(doc), Doc: doc}
	var store dataset.ID
	var of string
	var run RunID
	switch head.Format {
	case manifestFormat:
		if d.Manifest, err = ParseManifest(doc); err != nil {
			return nil, "", at, err
		}
		store, of, run = d.Manifest.Store, d.Manifest.Service, d.Manifest.Run
		namespace, at = nsManifest, d.Manifest.Ended.Time
	case abortFormat:
		d.Abort = new(Abort)
		if err := decode(doc, d.Abort); err != nil {
			return nil, "", at, err
		}
		store, of, run = d.Abort.Store, d.Abort.Service, d.Abort.Run
		namespace, at = nsAbort, d.Abort.Decided.Time
	default:
		return nil, "", at, fmt.Errorf("format %q is not one this version reads", head.Format)
	}
	return d, namespace, at, a.belongs(store, of, run, service, r)
}

// belongs says whether a signed document is about this store, service and run, and
// not a replay of another's.
func (a *Archive) belongs(store dataset.ID, of string, run RunID, service string, r RunID) error {
	switch {
	case store != a.ID:
		return fmt.Errorf("is a document of another store, %s", store)
	case of != service:
		return fmt.Errorf("is a document of another service, %s", of)
	case run != r:
		return fmt.Errorf("is a document of another run, %s", run)
	}
	return nil
}

// Intent reads and verifies the intent of a run. It fails with [fs.ErrNotExist] if
// there is none.
func (a *Archive) Intent(ctx context.Context, service string, r RunID) (*Intent, dataset.Hash, error) {
	name := intentName(service, r)
	doc, err := readAll(ctx, a.Store, name, maxDocument)
	if err != nil {
		return nil, dataset.Hash{}, fmt.Errorf("read intent of %s: %w", r, err)
	}
	var in Intent
	err = decode(doc, &in)
	if err == nil && in.Format != intentFormat {
		err = fmt.Errorf("format %q is not one this version reads", in.Format)
	}
	if err == nil {
		err = a.belongs(in.Store, in.Service, in.Run, service, r)
	}
	if err == nil {
		_, err = a.Verify(ctx, service, nsIntent, doc, in.Started.Time)
	}
	if err != nil {
		return nil, dataset.Hash{}, &IntegrityError{name, err}
	}
	return &in, dataset.Sum(doc), nil
}

// A Survey is what three listings of a service tell: which runs there are and what
// became of them.
type Survey struct {
	Service   string
	Intents   map[RunID]Info
	Decisions map[RunID]Info
	Expired   map[RunID][]Info // expiry records, not verified
}

// Survey lists the intents, decisions and expiry records of a service. Names that are
// none of ours, later versions and delete markers are passed over here; a check
// reports them.
func (a *Archive) Survey(ctx context.Context, service string) (*Survey, error) {
	s := &Survey{service, map[RunID]Info{}, map[RunID]Info{}, map[RunID][]Info{}}
	for _, folder := range []string{"intents", "decisions", "expired"} {
		for info, err := range a.Store.List(ctx, service+"/"+folder+"/") {
			if err != nil {
				return nil, fmt.Errorf("list %s of %s: %w", folder, service, err)
			}
			if info.Later || info.Marker {
				continue
			}
			switch n := ParseName(info.Name); n.Class {
			case IntentObject:
				s.Intents[n.Run] = info
			case DecisionObject:
				s.Decisions[n.Run] = info
			case ExpiryObject:
				s.Expired[n.Run] = append(s.Expired[n.Run], info)
			}
		}
	}
	return s, nil
}

// Open returns the runs that have an intent and no decision, sorted.
func (s *Survey) Open() []RunID {
	var open []RunID
	for r := range s.Intents {
		if _, ok := s.Decisions[r]; !ok {
			open = append(open, r)
		}
	}
	slices.Sort(open)
	return open
}

// A Snapshots is the un-expired snapshots of a service.
type Snapshots struct {
	All     []*Decision // manifests, by (sequence, hash)
	Heads   []*Decision // those that no other names as parent
	Open    []RunID     // runs without a decision
	Aborted int
	Expired []*Decision // manifests that a valid expiry record ends, by (sequence, hash)
	Bad     []error     // decisions and expiry records that cannot be trusted, each an [IntegrityError]
}

// Snapshots reads and verifies every decision of a service. Decisions that are not
// validly signed are in Bad, and obeyed in nothing.
func (a *Archive) Snapshots(ctx context.Context, service string) (*Snapshots, error) {
	sv, err := a.Survey(ctx, service)
	if err != nil {
		return nil, err
	}
	return a.snapshots(ctx, sv)
}

func (a *Archive) snapshots(ctx context.Context, sv *Survey) (*Snapshots, error) {
	type outcome struct {
		d       *Decision
		expired bool
		bad     []error
	}
	runs := make([]RunID, 0, len(sv.Decisions))
	for r := range sv.Decisions {
		runs = append(runs, r)
	}
	slices.Sort(runs)
	outcomes := make([]outcome, len(runs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16) // waits for the store, not for us
	for i, r := range runs {
		g.Go(func() (err error) {
			o := &outcomes[i]
			var bad *IntegrityError
			o.d, err = a.Decision(gctx, sv.Service, r)
			if errors.As(err, &bad) {
				o.bad = append(o.bad, bad)
				return nil
			}
			if err != nil || o.d.Manifest == nil {
				return err
			}
			o.expired, o.bad, err = a.expired(gctx, sv, o.d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	s := &Snapshots{Open: sv.Open()}
	for _, o := range outcomes {
		s.Bad = append(s.Bad, o.bad...)
		switch {
		case o.d == nil:
		case o.d.Manifest == nil:
			s.Aborted++
		case o.expired:
			s.Expired = append(s.Expired, o.d)
		default:
			s.All = append(s.All, o.d)
		}
	}
	slices.SortFunc(s.All, bySequence)
	slices.SortFunc(s.Expired, bySequence)
	s.Heads = heads(s.All)
	return s, nil
}

// expired reports whether a validly signed record ends a snapshot.
func (a *Archive) expired(ctx context.Context, sv *Survey, d *Decision) (expired bool, bad []error, err error) {
	for _, info := range sv.Expired[d.Run] {
		doc, err := readAll(ctx, a.Store, info.Name, maxDocument)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return false, nil, fmt.Errorf("read %s: %w", info.Name, err)
		}
		if err := a.checkExpiry(ctx, sv.Service, d, info.Name, doc); err != nil {
			bad = append(bad, &IntegrityError{info.Name, err})
			continue
		}
		expired = true
	}
	return expired, bad, nil
}

func (a *Archive) checkExpiry(ctx context.Context, service string, d *Decision, name string, doc []byte) error {
	var e Expiry
	if err := decode(doc, &e); err != nil {
		return err
	}
	if e.Format != expiryFormat {
		return fmt.Errorf("format %q is not one this version reads", e.Format)
	}
	if err := a.belongs(e.Store, e.Service, e.Run, service, d.Run); err != nil {
		return err
	}
	if e.Manifest != d.Hash || ParseName(name).Hash != dataset.Sum(doc) {
		return errors.New("is about another manifest")
	}
	_, err := a.Verify(ctx, service, nsExpiry, doc, e.Decided.Time)
	return err
}

func bySequence(x, y *Decision) int {
	if x.Manifest.Sequence != y.Manifest.Sequence {
		return int(x.Manifest.Sequence - y.Manifest.Sequence)
	}
	return slices.Compare(x.Hash[:], y.Hash[:])
}

// heads returns the snapshots that none of all names as parent.
func heads(all []*Decision) []*Decision {
	parents := map[dataset.Hash]bool{}
	for _, d := range all {
		for _, p := range d.Manifest.Parents {
			parents[p] = true
		}
	}
	var heads []*Decision
	for _, d := range all {
		if !parents[d.Hash] {
			heads = append(heads, d)
		}
	}
	return heads
}

// Find returns the snapshot that ref names: a run id, a unique prefix of one, or
// "latest".
func (s *Snapshots) Find(ref string) (*Decision, error) {
	if ref == "latest" || ref == "" {
		if len(s.All) == 0 {
			return nil, ErrNoSnapshot
		}
		return s.All[len(s.All)-1], nil
	}
	var found []*Decision
	for _, d := range slices.Concat(s.All, s.Expired) {
		if strings.HasPrefix(string(d.Run), ref) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%q: %w", ref, ErrNoSnapshot)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q names %d snapshots, the first %s: %w", ref, len(found), found[0].Run, ErrNoSnapshot)
}

// ErrNoSnapshot says that nothing, or more than one thing, has a given name.
var ErrNoSnapshot = errors.New("no such snapshot")
