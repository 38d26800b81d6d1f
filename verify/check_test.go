package verify_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// exhaustive asks for every case instead of a sample: make crash.
var exhaustive = os.Getenv("SALLYPORT_EXHAUSTIVE") != ""

// A reference is an archive with something of everything: two services, three
// snapshots and an expired one in the first, an aborted run and one that is open, and an
// audit log about the first.
type reference struct {
	world   *archivetest.World
	store   *archivetest.Memory
	pins    map[string][]verify.Pin
	older   *archivetest.Memory // the store before its last snapshot
	names   []string
	auditor *crypto.Signer // of checkpoints
	state   string         // of the audit log
}

const (
	service = "case-files"
	logName = "exporter-host1"
)

func newReference(t testing.TB, objects int) *reference {
	t.Helper()
	ctx := t.Context()
	old := time.Now().Add(-30 * 24 * time.Hour)
	r := &reference{store: &archivetest.Memory{Time: func() time.Time { return old }}}
	var err error
	if r.world, err = archivetest.NewWorld(ctx, r.store); err != nil {
		t.Fatal(err)
	}
	r.world.PackSize = 8 << 10
	r.keepLog(t)
	content, state := smallContent(7, objects), t.TempDir()
	var first *archive.Decision
	for i := range 4 {
		if i == 3 {
			abandoned(t, r.world, service, content)
			r.store.Time = nil
			if err := r.world.Expire(ctx, service, first); err != nil {
				t.Fatal(err)
			}
			if _, err := r.world.Collector().Collect(ctx, service); err != nil { // aborts what was abandoned
				t.Fatal(err)
			}
			r.older = r.store.Clone()
		}
		d := r.export(t, state, content)
		if i == 0 {
			first = d
		}
		content = content.Changed(uint64(i))
	}
	r.publish(t, 3) // nothing names the newest checkpoint
	if _, err := r.world.Export(ctx, "payroll", t.TempDir(), smallContent(8, objects/4)); err != nil {
		t.Fatal(err)
	}
	abandoned(t, r.world, service, content)
	r.names = r.store.Names()
	report, err := r.check(ctx, r.store, nil)
	if err != nil || report.Integrity != verify.Pass {
		t.Fatalf("the reference is not clean: %v %v", report.Findings, err)
	}
	s := report.Services[0]
	if s.Expired != 1 || s.Aborted != 1 || len(s.Open) != 1 || len(s.Snapshots) != 3 || len(report.Services) != 2 {
		t.Fatalf("the reference is not what it should be: %+v", s)
	}
	r.pins = map[string][]verify.Pin{}
	for _, s := range report.Services {
		r.pins[s.Service] = s.Heads
	}
	return r
}

// keepLog lets a key sign checkpoints.
func (r *reference) keepLog(t testing.TB) {
	t.Helper()
	private, public, err := crypto.GenerateSigningKey("auditor")
	if err != nil {
		t.Fatal(err)
	}
	if r.auditor, err = crypto.ParseSigner(private); err != nil {
		t.Fatal(err)
	}
	allowed := `auditor namespaces="sallyport-checkpoint" ` + public
	for _, s := range r.world.Archive.Trust.Signers() {
		allowed += s.String() + "\n"
	}
	if r.world.Archive.Trust, err = crypto.ParseAllowedSigners([]byte(allowed), "allowed_signers"); err != nil {
		t.Fatal(err)
	}
	r.state = t.TempDir()
}

// publish appends n events about nothing, and those given, to the audit log.
func (r *reference) publish(t testing.TB, n int, events ...audit.Event) archive.Checkpoint {
	t.Helper()
	l, err := audit.Open(audit.Options{Store: r.world.Archive.Store, StoreID: r.world.Archive.ID, Name: logName, Signer: r.auditor, Trust: r.world.Archive.Trust, State: r.state})
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		events = append(events, audit.NewEvent(audit.Refusal, audit.Fact, time.Now()))
	}
	for _, e := range events {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	head, err := l.Publish(t.Context())
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return head
}

// export makes a snapshot that names a checkpoint of the audit log, which says that it was
// made.
func (r *reference) export(t testing.TB, state string, c archivetest.Content) *archive.Decision {
	t.Helper()
	intent := audit.NewEvent(audit.Export, audit.Intent, time.Now())
	intent.Service = service
	head := r.publish(t, 2, intent)
	run, err := archive.Begin(t.Context(), r.world.Archive, r.world.Options(service, state))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archivetest.Fill(t.Context(), run, c); err != nil {
		t.Fatal(err)
	}
	d, err := run.Commit(t.Context(), archive.Summary{Log: &head})
	if err != nil {
		t.Fatal(err)
	}
	result := audit.ResultOf(intent, audit.Success, time.Now())
	result.Run, result.Document = d.Run, d.Hash
	r.publish(t, 0, result)
	return d
}

// smallContent is content of which no object of the store is much longer than others.
func smallContent(seed uint64, n int) archivetest.Content {
	c := archivetest.NewContent(seed, n)
	for key, data := range c.Objects {
		c.Objects[key] = data[:min(len(data), 6000)]
	}
	return c
}

// abandoned leaves a run without a decision.
func abandoned(t testing.TB, w *archivetest.World, service string, c archivetest.Content) {
	t.Helper()
	run, err := archive.Begin(t.Context(), w.Archive, w.Options(service, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archivetest.Fill(t.Context(), run, c); err != nil {
		t.Fatal(err)
	}
	run.Abandon()
}

// check opens the store as a stranger with nothing but trust would, and checks it.
func (r *reference) check(ctx context.Context, st archive.Store, pins map[string][]verify.Pin) (*verify.CheckReport, error) {
	a, err := archive.Open(ctx, st, r.world.Archive.Trust)
	if err != nil {
		return nil, err
	}
	return verify.Check{Archive: a, Pins: pins}.Run(ctx)
}

// found makes sure that a check of st says that something is wrong with object.
func (r *reference) found(ctx context.Context, st archive.Store, pins map[string][]verify.Pin, object string) error {
	report, err := r.check(ctx, st, pins)
	var integrity *archive.IntegrityError
	if errors.As(err, &integrity) || errors.Is(err, archive.ErrNoStore) {
		return nil // store.json is looked at when the store is opened
	}
	if err != nil {
		return fmt.Errorf("%s: %w", object, err)
	}
	if report.Integrity != verify.Fail {
		return fmt.Errorf("%s: integrity is %v", object, report.Integrity)
	}
	if !slices.ContainsFunc(report.Findings, func(f verify.Finding) bool { return named(f, object) }) {
		return fmt.Errorf("%s is not named: %v", object, report.Findings)
	}
	return nil
}

// named reports whether a finding leads to an object: by its name, or where the object
// is a signature, by that of the document, which lacks it now.
func named(f verify.Finding, object string) bool {
	n := archive.ParseName(object)
	switch {
	case f.Object == object, strings.Contains(f.Detail, object):
		return true
	case n.Class == archive.SignatureObject:
		return strings.Contains(f.Detail, "no valid signature")
	case n.Class == archive.AuditObject && strings.HasSuffix(object, ".sig"):
		return strings.Contains(f.Detail, "is not validly signed")
	case n.Class == archive.IntentObject:
		return strings.Contains(f.Detail, "intent of its run") || strings.Contains(f.Detail, "whose intent is missing")
	case n.Class == archive.DecisionObject:
		return strings.Contains(f.Detail, "parent") || strings.Contains(f.Detail, "manifest is missing")
	case n.Class == archive.KeyObject:
		return strings.Contains(f.Object, n.Key.String())
	}
	return false
}

// each runs f for every case, or for a random sample of them.
func each(t *testing.T, cases, sample int, f func(i int) error) {
	t.Helper()
	order := rand.Perm(cases)
	if !exhaustive && sample < cases {
		order = order[:sample]
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range order {
		g.Go(func() error { return f(i) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d cases", len(order), cases)
}

// damage alters byte number at of an object. It is only called for bytes that are there.
type damage func(data []byte, at int) []byte

func flip(data []byte, at int) []byte {
	data = slices.Clone(data)
	data[at] ^= 1 << (at % 8)
	return data
}

func cut(data []byte, at int) []byte { return slices.Clone(data)[:at] }

func TestEveryFlippedByteIsFoundWithoutAKey(t *testing.T) {
	t.Parallel()
	damaged(t, flip)
}

func TestEveryTruncationIsFoundWithoutAKey(t *testing.T) {
	t.Parallel()
	damaged(t, cut)
}

// damaged does damage to single bytes of a reference archive of more than a mebibyte: to
// some of them one by one, and if asked to all of them, in as many objects at once as
// have a byte of that number.
func damaged(t *testing.T, do damage) {
	r := newReference(t, 500)
	total, longest := 0, 0
	var ends []int
	var audited []string
	for _, n := range r.names {
		if archive.ParseName(n).Class == archive.AuditObject {
			audited = append(audited, n)
		}
		total += len(r.store.Bytes(n))
		longest = max(longest, len(r.store.Bytes(n)))
		ends = append(ends, total)
	}
	if total < 1<<20 {
		t.Fatalf("the reference has only %d bytes", total)
	}
	for range 30 {
		i := rand.IntN(total)
		k, _ := slices.BinarySearch(ends, i+1)
		name := r.names[k]
		st := r.store.Clone()
		st.Put(name, do(r.store.Bytes(name), i-(ends[k]-len(r.store.Bytes(name)))))
		if err := r.found(t.Context(), st, nil, name); err != nil {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for range 10 {
		name := audited[rand.IntN(len(audited))]
		st := r.store.Clone()
		st.Put(name, do(r.store.Bytes(name), rand.IntN(len(r.store.Bytes(name)))))
		if err := r.found(t.Context(), st, nil, name); err != nil {
			t.Error(err)
		}
	}
	each(t, longest, 20, func(at int) error { return r.allDamaged(t.Context(), do, at) })
	for at := range r.store.Bytes(archive.StoreName) {
		st := r.store.Clone()
		st.Put(archive.StoreName, do(r.store.Bytes(archive.StoreName), at))
		if err := r.found(t.Context(), st, nil, archive.StoreName); err != nil {
			t.Error(err)
		}
	}
}

// allDamaged does damage to a byte of every object that has one of that number, but for
// store.json, without which there is nothing to check. Each must be named.
func (r *reference) allDamaged(ctx context.Context, do damage, at int) error {
	st := r.store.Clone()
	var names []string
	for _, name := range r.names {
		n := archive.ParseName(name)
		if data := r.store.Bytes(name); at < len(data) && n.Class != archive.StoreObject && (n.Service != "" || n.Class != archive.SignatureObject) {
			st.Put(name, do(data, at))
			names = append(names, name)
		}
	}
	report, err := r.check(ctx, st, nil)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, f := range report.Findings {
		found[f.Object] = true
	}
	for _, name := range names {
		if !found[name] {
			return fmt.Errorf("byte %d of %s: not found", at, name)
		}
	}
	return nil
}

func TestOverwrittenAndAppendedBytesAreFoundWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newReference(t, 20)
	each(t, 3*len(r.names), 40, func(i int) error {
		name := r.names[i/3]
		data := slices.Clone(r.store.Bytes(name))
		switch i % 3 {
		case 0:
			data = append(data, 0)
		case 1:
			data = append(data, data...)
		case 2:
			clear(data)
		}
		st := r.store.Clone()
		st.Put(name, data)
		return r.found(t.Context(), st, nil, name)
	})
}

// undetectable says whether nobody can tell, without a pin, that an object was deleted:
// because what is left is what a run leaves that died, or what was never expired. The
// list is as short as the format allows:
//
//   - the decision of an aborted run, or of the newest snapshot if no audit log says that
//     it was made: the run looks as if it were open. The newest snapshot's is found with a
//     pin.
//   - a checkpoint of an audit log: the writer may have died before it. What it covers is
//     there, or found by a later one that a manifest names.
//   - an expiry record, unless the packs of its snapshot were collected: the snapshot
//     looks as if it were kept. (Without its signature it is found.)
//   - a pack, list, sealed key or key statement that no snapshot names, and the
//     signature of a document that is not there: a collector may remove them.
//   - what was left by the probe of the store.
func (r *reference) undetectable(name string) bool {
	n := archive.ParseName(name)
	switch n.Class {
	case archive.DecisionObject:
		return !r.mentioned(dataset.Sum(r.store.Bytes(name)), name)
	case archive.ExpiryObject, archive.ProbeObject:
		return true
	case archive.AuditObject:
		return strings.Contains(name, "/checkpoints/")
	}
	return r.unneeded(name)
}

// mentioned reports whether any other document, or an audit log, names a hash.
func (r *reference) mentioned(h dataset.Hash, but string) bool {
	return slices.ContainsFunc(r.names, func(name string) bool {
		return name != but && (strings.HasSuffix(name, ".json") || strings.Contains(name, "/tile/entries/")) && strings.Contains(string(r.store.Bytes(name)), h.String())
	})
}

// unneeded reports whether an object belongs to a run that is no snapshot.
func (r *reference) unneeded(name string) bool {
	n := archive.ParseName(name)
	a := r.world.Archive
	snaps, err := a.Snapshots(context.Background(), n.Service)
	if err != nil || n.Service == "" {
		return false
	}
	for _, d := range snaps.All {
		for _, k := range d.Manifest.Keys {
			if n.Class == archive.KeyObject && n.Key == k.ID || n.Class == archive.StatementObject && n.Key == k.ID {
				return false
			}
		}
		s, err := a.Snapshot(context.Background(), n.Service, d)
		if err != nil {
			return false
		}
		if _, ok := s.Packs[n.Hash]; ok && n.Class == archive.PackObject {
			return false
		}
		for _, l := range d.Manifest.Lists {
			if n.Class == archive.ListObject && l.SHA256 == n.Hash {
				return false
			}
		}
	}
	switch n.Class {
	case archive.PackObject, archive.ListObject, archive.KeyObject, archive.StatementObject:
		return true
	}
	return false
}

func TestEveryDeletedObjectIsFoundWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newReference(t, 30)
	silent := map[archive.Class]int{}
	for _, name := range r.names {
		st := r.store.Clone()
		st.Put(name, nil)
		n := archive.ParseName(name)
		if r.undetectable(name) || n.Class == archive.SignatureObject && !r.documentIsThere(n) {
			silent[n.Class]++
			if err := r.silent(t.Context(), st, name); err != nil {
				t.Error(err)
			}
			continue
		}
		if err := r.found(t.Context(), st, nil, name); err != nil {
			t.Errorf("deleted: %v", err)
		}
	}
	// The head of the service without a log, one abort; one expiry; one open run's keys.
	if silent[archive.DecisionObject] != 2 || silent[archive.ExpiryObject] > 1 {
		t.Errorf("deletions that nobody can find: %v", silent)
	}
	for service, pins := range r.pins {
		for _, p := range pins {
			st := r.store.Clone()
			name := archive.DecisionName(service, p.Run)
			st.Put(name, nil)
			if err := r.found(t.Context(), st, r.pins, name); err != nil {
				t.Errorf("deleted, with a pin: %v", err)
			}
		}
	}
}

// silent makes sure that a deletion which is said to be beyond detection is no false
// alarm about anything else: nothing, or the object itself, is found.
func (r *reference) silent(ctx context.Context, st archive.Store, name string) error {
	report, err := r.check(ctx, st, nil)
	if err != nil {
		return fmt.Errorf("%s deleted: %w", name, err)
	}
	for _, f := range report.Findings {
		service, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(f.Object, service) {
			return fmt.Errorf("%s deleted: found %v", name, f)
		}
	}
	return nil
}

func (r *reference) documentIsThere(n archive.Name) bool {
	return slices.ContainsFunc(r.names, func(other string) bool {
		return archive.ParseName(other).Class != archive.SignatureObject && dataset.Sum(r.store.Bytes(other)) == n.Document
	})
}

func TestDeletedAndSwappedPairsAreFoundWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	n := len(r.names)
	each(t, n*(n-1)/2, 30, func(i int) error {
		a, b := pair(i)
		x, y := r.names[a], r.names[b]
		swapped := r.store.Clone()
		swapped.Put(x, r.store.Bytes(y))
		swapped.Put(y, r.store.Bytes(x))
		if err := errors.Join(r.found(t.Context(), swapped, nil, x), r.found(t.Context(), swapped, nil, y)); err != nil {
			return fmt.Errorf("%s and %s swapped: %w", x, y, err)
		}
		if r.undetectable(x) || r.undetectable(y) || archive.ParseName(x).Class == archive.SignatureObject || archive.ParseName(y).Class == archive.SignatureObject {
			return nil // one of them alone is found, or both are a run's that died
		}
		deleted := r.store.Clone()
		deleted.Put(x, nil)
		deleted.Put(y, nil)
		if r.found(t.Context(), deleted, nil, x) != nil && r.found(t.Context(), deleted, nil, y) != nil {
			return fmt.Errorf("%s and %s deleted: neither is found", x, y)
		}
		return nil
	})
}

// pair returns the i-th pair of two different numbers, the larger one first.
func pair(i int) (int, int) {
	a := 1
	for i >= a {
		i -= a
		a++
	}
	return a, i
}

func TestAnOlderStateIsFoundWithAPin(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	report, err := r.check(t.Context(), r.older, nil)
	if err != nil || report.Integrity != verify.Pass || report.Freshness != verify.NotRun {
		t.Errorf("without a pin: %v, freshness %v, %v", report.Findings, report.Freshness, err)
	}
	report, err = r.check(t.Context(), r.older, r.pins)
	if err != nil || report.Freshness != verify.Fail || report.Integrity != verify.Fail {
		t.Errorf("with a pin: %v, freshness %v, %v", report.Findings, report.Freshness, err)
	}
	report, err = r.check(t.Context(), r.store, r.pins)
	if err != nil || report.Freshness != verify.Pass || report.Integrity != verify.Pass {
		t.Errorf("the newer state: %v, freshness %v, %v", report.Findings, report.Freshness, err)
	}
	later := r.store.Clone()
	w := r.world.On(later)
	if _, err := w.Export(t.Context(), service, t.TempDir(), archivetest.NewContent(9, 5)); err != nil {
		t.Fatal(err)
	}
	if report, err = r.check(t.Context(), later, r.pins); err != nil || report.Freshness != verify.Pass {
		t.Errorf("a state that has grown: %v, freshness %v, %v", report.Findings, report.Freshness, err)
	}
}
