package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

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
	d, doc, err := a.document(ctx, service, DecisionName(service, r))
	if err != nil {
		return nil, fmt.Errorf("decision of %s: %w", r, err)
	}
	return &Decision{Run: r, Hash: dataset.Sum(doc), Manifest: d.Manifest, Abort: d.Abort, Signer: d.Signer, Doc: doc}, nil
}

// Intent reads and verifies the intent of a run. It fails with [fs.ErrNotExist] if
// there is none.
func (a *Archive) Intent(ctx context.Context, service string, r RunID) (*Intent, dataset.Hash, error) {
	d, doc, err := a.document(ctx, service, IntentName(service, r))
	if err != nil {
		return nil, dataset.Hash{}, fmt.Errorf("intent of %s: %w", r, err)
	}
	return d.Intent, dataset.Sum(doc), nil
}

// document reads a document, parses it and verifies its signature.
func (a *Archive) document(ctx context.Context, service, name string) (*Document, []byte, error) {
	doc, err := readAll(ctx, a.Store, name, maxDocument)
	if err != nil {
		return nil, nil, err
	}
	d, err := a.Parse(name, doc)
	if err != nil {
		return nil, nil, &IntegrityError{name, err}
	}
	d.Signer, err = a.Verify(ctx, service, d.Namespace, doc, d.At)
	var distrusted *IntegrityError
	switch {
	case errors.As(err, &distrusted):
		return nil, nil, &IntegrityError{name, err}
	case err != nil: // whether it is to be trusted is not known
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, doc, nil
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
		e, _, err := a.document(ctx, sv.Service, info.Name)
		var integrity *IntegrityError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.As(err, &integrity):
			bad = append(bad, err)
			continue
		case err != nil:
			return false, nil, fmt.Errorf("read %s: %w", info.Name, err)
		case e.Expiry.Manifest != d.Hash:
			bad = append(bad, &IntegrityError{info.Name, errors.New("is about another manifest")})
			continue
		}
		expired = true
	}
	return expired, bad, nil
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
		if len(s.All) == 0 && len(s.Expired) > 0 {
			return nil, fmt.Errorf("all have expired, the last of them %s: %w", s.Expired[len(s.Expired)-1].Run, ErrNoSnapshot)
		}
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
