package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/verify"
)

// requiredGrade is how well an export must be proven for the service's certificate.
func requiredGrade(src source) archive.Grade {
	switch src.service.Grade {
	case "count-checked":
		return archive.CountChecked
	case "double-read":
		return archive.DoubleRead
	case "exact":
		return archive.Exact
	}
	return archive.BestEffort
}

// grades from the weakest to the strongest.
var grades = []archive.Grade{archive.BestEffort, archive.CountChecked, archive.DoubleRead, archive.Exact}

// suffices reports whether every stream of a snapshot is proven at least as want says.
func suffices(m *archive.Manifest, want archive.Grade) bool {
	for g, n := range m.Grades {
		if n > 0 && slices.Index(grades, g) < slices.Index(grades, want) {
			return false
		}
	}
	return true
}

// testable returns the newest good snapshot of a service whose grade suffices, unlocked.
// Where there is none the service is exported first, if this host may and the source is
// not to be left alone. A snapshot that is damaged where it says what it holds comes back
// closed, with the damage.
func (s *session) testable(ctx context.Context, src source) (snap *archive.Snapshot, damage *verify.Finding, err error) {
	all, err := s.archive.Snapshots(ctx, src.name)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range slices.Backward(all.All) {
		good, err := s.good(ctx, src, d)
		if f, ok := verify.Damage(err); ok {
			return &archive.Snapshot{Decision: d, Service: src.name}, &f, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if good && suffices(d.Manifest, requiredGrade(src)) {
			return s.openDamaged(ctx, src, d)
		}
	}
	why := fmt.Sprintf("no complete snapshot of %s is proven as %s or better", src.name, requiredGrade(src))
	switch {
	case s.stressed(src):
		return nil, nil, &exitError{code: exitIncomplete, err: errors.New(why), hint: "a stressed test exports nothing; run sallyport export " + src.name}
	case s.config.Role == config.Verifier || s.config.Role == config.Keeper:
		return nil, nil, &exitError{code: exitIncomplete, err: errors.New(why), hint: "run sallyport export " + src.name + " on the exporter"}
	}
	s.note("%s: exporting first", why)
	r, err := s.export(ctx, src)
	if err != nil {
		return nil, nil, err
	}
	if all, err = s.archive.Snapshots(ctx, src.name); err != nil {
		return nil, nil, err
	}
	d, err := all.Find(string(r.Snapshot))
	if err != nil {
		return nil, nil, err
	}
	return s.openDamaged(ctx, src, d)
}

// openDamaged opens a snapshot, or says what of it is damaged.
func (s *session) openDamaged(ctx context.Context, src source, d *archive.Decision) (*archive.Snapshot, *verify.Finding, error) {
	snap, err := s.openSnapshot(ctx, src.name, d)
	if f, ok := verify.Damage(err); ok {
		return &archive.Snapshot{Decision: d, Service: src.name}, &f, nil
	}
	return snap, nil, err
}

// good reports whether a snapshot counts as a backup: it is complete, or the owner
// accepted every one of its gaps. Whether he did is in the sealed ledger of gaps, so a
// host without an identity counts complete ones only.
func (s *session) good(ctx context.Context, src source, d *archive.Decision) (bool, error) {
	if d.Manifest.State == archive.Complete {
		return true, nil
	}
	waived := waivers(src)
	for code := range d.Manifest.Gaps {
		if !slices.ContainsFunc(waived, func(w config.Waiver) bool { return dataset.Code(w.Code) == code }) {
			return false, nil
		}
	}
	snap, err := s.openSnapshot(ctx, src.name, d)
	if errors.Is(err, crypto.ErrNoKey) {
		s.detail("%s@%s has gaps; without an identity nobody can tell whether they are all accepted", src.name, d.Run)
		return false, nil
	} else if err != nil {
		return false, err
	}
	counter := gapCounter{ui: s.ui, now: time.Now(), waivers: waived}
	for g, err := range snap.Gaps(ctx) {
		if err != nil {
			return false, err
		}
		if !counter.accepts(&dataset.Gap{Stream: g.Stream, Key: string(g.Key), Code: g.Code}) {
			return false, nil
		}
	}
	return true, nil
}

func certifiedWaivers(src source) []verify.Waiver {
	var list []verify.Waiver
	for _, w := range src.service.Waive {
		list = append(list, verify.Waiver{Stream: w.Stream, Code: dataset.Code(w.Code), Key: w.Key, Reason: w.Reason, Until: w.Until.End()})
	}
	return list
}

// identities are the identities of this host one by one, named by what may be published.
func (s *session) identities() ([]verify.Identity, error) {
	paths := s.identityFiles()
	if len(paths) == 0 {
		return nil, withHint(fmt.Errorf("no identity was named: %w", crypto.ErrNoKey), "-i FILE names one")
	}
	var list []verify.Identity
	for n, p := range paths {
		o, err := readIdentities(p)
		if err != nil {
			return nil, err
		}
		name := strings.Join(o.Recipients(), " ")
		if name == "" {
			name = fmt.Sprintf("plug-in identity %d", n+1)
		}
		list = append(list, verify.Identity{Name: name, Opener: o})
	}
	return list, nil
}
