package verify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/dataset"
)

// A Check checks an archive without any key: every name, every signature, the chain of
// snapshots, the audit logs, and every stored byte.
type Check struct {
	Archive  *archive.Archive
	Service  string                  // empty means all
	Only     []dataset.Hash          // manifests whose packs are read; empty means all un-expired ones
	Bundle   bool                    // the store is a bundle's payload: one snapshot has its packs, its ancestors nothing but decisions
	Pins     map[string][]Pin        // by service: heads that were accepted before
	Quick    bool                    // read no pack: only presence and size
	Sample   float64                 // read this share of the packs, 0 < Sample < 1; 0 means all
	MaxAge   time.Duration           // the newest snapshot must not be older; 0 means any age
	Now      time.Time               // for MaxAge
	Parallel int                     // packs read at once; 0 means 4
	Progress func(done, total int64) // bytes of packs; may be nil; called from any goroutine
}

// A Pin is a head that somebody saw and remembers: if it is no head and no ancestor of
// one any more, the store shows an older state.
type Pin struct {
	Manifest dataset.Hash  `json:"manifest"`
	Run      archive.RunID `json:"run"`
	Sequence int64         `json:"sequence"`
}

// A CheckReport says what a check found.
type CheckReport struct {
	Integrity Outcome         `json:"integrity"`
	Freshness Outcome         `json:"freshness"` // against pins; NotRun if there were none
	Findings  []Finding       `json:"findings"`
	Notes     []string        `json:"notes"` // what is not wrong, and good to know
	Services  []ServiceReport `json:"services"`
	Logs      []LogReport     `json:"logs"` // audit logs, by name
	Objects   int64           `json:"objects"`
	Packs     int64           `json:"packs"`
	PacksRead int64           `json:"packs_read"`
	BytesRead int64           `json:"bytes_read"` // of packs
}

// A ServiceReport is what a check says of one service.
type ServiceReport struct {
	Service   string              `json:"service"`
	Snapshots []*archive.Decision `json:"-"` // un-expired, by sequence
	Heads     []Pin               `json:"heads"`
	Expired   int                 `json:"expired"`
	Aborted   int                 `json:"aborted"`
	Open      []archive.RunID     `json:"open"`
	Unneeded  int                 `json:"unneeded"` // packs, lists and keys that no snapshot names
}

// Run checks. An error means that it could not be found out; a report is returned as
// far as it went.
//
// A store may change while it is checked: what a run is writing, or a collector
// removing, can look wrong in a listing that takes its time. So whatever is found, but
// for bytes that were read and are wrong, counts only if a second look finds it too.
func (c Check) Run(ctx context.Context) (*CheckReport, error) {
	first := newCheckRun(c)
	err := first.all(ctx)
	r := first.report
	if err == nil && first.doubtful() {
		again := newCheckRun(c)
		again.Quick, again.Progress = true, nil
		err = again.all(ctx)
		if err == nil {
			r.Freshness = again.report.Freshness
			r.Findings = slices.DeleteFunc(r.Findings, func(f Finding) bool {
				_, still := again.found[f]
				return !first.found[f] && !still
			})
		}
	}
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Detail, b.Detail))
	})
	slices.Sort(r.Notes)
	switch {
	case len(r.Findings) > 0:
		r.Integrity = Fail
	case err != nil:
		r.Integrity = Unknown
	default:
		r.Integrity = Pass
	}
	return r, err
}

// A checkRun is one look at a store.
type checkRun struct {
	Check
	mu     sync.Mutex
	report *CheckReport
	found  map[Finding]bool // true for what is certain: bytes that were read and are wrong
	done   int64
	total  int64

	audited map[string]*checkedLog               // by log
	present map[string]map[dataset.Hash]struct{} // by service: documents that are there and whole
}

func newCheckRun(c Check) *checkRun {
	return &checkRun{Check: c, found: map[Finding]bool{}, audited: map[string]*checkedLog{}, present: map[string]map[dataset.Hash]struct{}{},
		report: &CheckReport{Findings: []Finding{}, Notes: []string{}, Services: []ServiceReport{}, Logs: []LogReport{}}}
}

// find records what looks wrong.
func (c *checkRun) find(object, format string, args ...any) {
	c.add(Finding{object, fmt.Sprintf(format, args...)}, false)
}

// wrong records bytes that were read and are not what they should be.
func (c *checkRun) wrong(object, format string, args ...any) {
	c.add(Finding{object, fmt.Sprintf(format, args...)}, true)
}

func (c *checkRun) add(f Finding, certain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.found[f]; !ok {
		c.report.Findings = append(c.report.Findings, f)
	}
	c.found[f] = certain
}

func (c *checkRun) doubtful() bool {
	for _, certain := range c.found {
		if !certain {
			return true
		}
	}
	return false
}

func (c *checkRun) note(format string, args ...any) {
	c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
}

func (c *checkRun) all(ctx context.Context) error {
	inv, err := c.inventory(ctx)
	if err != nil {
		return err
	}
	if err := c.storeDocument(ctx, inv); err != nil {
		return err
	}
	for _, service := range inv.services() {
		if c.Service != "" && service != c.Service {
			continue
		}
		if err := c.service(ctx, inv, service); err != nil {
			return err
		}
	}
	if err := c.logs(ctx, inv); err != nil {
		return err
	}
	for service := range c.Pins {
		if !slices.Contains(inv.services(), service) && (c.Service == "" || c.Service == service) {
			c.report.Freshness = Fail
			c.find(service, "snapshots of this service were seen before, and there is nothing of it now")
		}
	}
	return nil
}

// An inventory is every object of the store by service and class.
type inventory struct {
	byService map[string]*serviceObjects
	sigs      map[dataset.Hash][]archive.Info // of the store document
	probe     bool
	logs      map[string]int // objects of audit logs
}

type serviceObjects struct {
	names map[string]archive.Info // but packs and signatures
	packs map[dataset.Hash]archive.Info
	sigs  map[dataset.Hash][]archive.Info // by document
}

func (inv *inventory) services() []string {
	names := make([]string, 0, len(inv.byService))
	for s := range inv.byService {
		names = append(names, s)
	}
	slices.Sort(names)
	return names
}

// inventory lists the whole store. What has no name of ours, and what was written
// twice, is a finding.
func (c *checkRun) inventory(ctx context.Context) (*inventory, error) {
	inv := &inventory{byService: map[string]*serviceObjects{}, sigs: map[dataset.Hash][]archive.Info{}, logs: map[string]int{}}
	for info, err := range c.Archive.Store.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("list store: %w", err)
		}
		c.report.Objects++
		n := archive.ParseName(info.Name)
		switch {
		case n.Class == archive.Junk:
			c.find(info.Name, "is nothing that belongs into a store")
			continue
		case n.Class == archive.AuditObject: // the log itself says what is wrong with it
			log, _, _ := strings.Cut(strings.TrimPrefix(info.Name, "audit/"), "/")
			inv.logs[log]++
			continue
		case info.Marker:
			c.find(info.Name, "was deleted: the bucket has a delete marker, version %s", info.Version)
			continue
		case info.Later:
			c.find(info.Name, "was written again: version %s is not the first", info.Version)
			continue
		}
		inv.add(n, info)
	}
	return inv, nil
}

func (inv *inventory) add(n archive.Name, info archive.Info) {
	if n.Service == "" {
		switch n.Class {
		case archive.SignatureObject:
			inv.sigs[n.Document] = append(inv.sigs[n.Document], info)
		case archive.ProbeObject:
			inv.probe = true
		}
		return
	}
	s := inv.byService[n.Service]
	if s == nil {
		s = &serviceObjects{map[string]archive.Info{}, map[dataset.Hash]archive.Info{}, map[dataset.Hash][]archive.Info{}}
		inv.byService[n.Service] = s
	}
	switch n.Class {
	case archive.PackObject:
		s.packs[n.Hash] = info
	case archive.SignatureObject:
		s.sigs[n.Document] = append(s.sigs[n.Document], info)
	default:
		s.names[info.Name] = info
	}
}

// storeDocument checks what belongs to no service. That store.json has a good signature
// was settled when the archive was opened.
func (c *checkRun) storeDocument(ctx context.Context, inv *inventory) error {
	doc, err := c.get(ctx, archive.StoreName)
	if err != nil {
		return err
	}
	var sigs []string
	for h, infos := range inv.sigs {
		if h != dataset.Sum(doc) {
			c.note("%s of a store document that is not there", plural(int64(len(infos)), "signature"))
			continue
		}
		for _, info := range infos {
			sigs = append(sigs, info.Name)
		}
	}
	if err := c.each(ctx, sigs, func(name string, sig []byte) { c.signature(name, sig, doc, time.Time{}) }); err != nil {
		return err
	}
	if inv.probe {
		text, err := c.get(ctx, archive.ProbeName)
		if err != nil {
			return err
		}
		if string(text) != archive.ProbeText {
			c.find(archive.ProbeName, "is damaged")
		}
	}
	return nil
}

// get reads an object that is no pack, as far as one of its class can be long and a
// byte further.
func (c *checkRun) get(ctx context.Context, name string) ([]byte, error) {
	limit := int64(16 << 20)
	switch archive.ParseName(name).Class {
	case archive.ListObject:
		limit = 256 << 20
	case archive.SignatureObject:
		limit = 16 << 10
	}
	r, err := c.Archive.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// each reads objects, many at once, and hands them on one by one in order of names.
// What was removed since it was listed is passed over: what needs it will say so.
func (c *checkRun) each(ctx context.Context, names []string, f func(name string, doc []byte)) error {
	slices.Sort(names)
	for batch := range slices.Chunk(names, 64) {
		docs := make([][]byte, len(batch))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(16) // waits for the store, not for us
		for i, name := range batch {
			g.Go(func() (err error) {
				docs[i], err = c.get(gctx, name)
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, name := range batch {
			if docs[i] != nil {
				f(name, docs[i])
			}
		}
	}
	return nil
}

// signature verifies one signature of a document that is there.
func (c *checkRun) signature(name string, sig, doc []byte, at time.Time) bool {
	n := archive.ParseName(name)
	if n.Hash != dataset.Sum(sig) {
		c.wrong(name, "is damaged: its %d bytes have sha256 %s", len(sig), dataset.Sum(sig))
		return false
	}
	if _, err := c.Archive.Trust.Verify(n.Namespace, doc, sig, at); err != nil {
		c.find(name, "%v", err)
		return false
	}
	return true
}

// service checks one service.
func (c *checkRun) service(ctx context.Context, inv *inventory, service string) error {
	s := newServiceRun(c, inv.byService[service], service)
	if err := s.documents(ctx); err != nil {
		return err
	}
	if err := s.signatures(ctx); err != nil {
		return err
	}
	if err := s.snapshots(ctx); err != nil {
		return err
	}
	c.report.Services = append(c.report.Services, s.report)
	c.present[service] = map[dataset.Hash]struct{}{}
	for h := range s.docs {
		c.present[service][h] = struct{}{}
	}
	return nil
}

// verifyPack reads a pack and holds it against its name.
func (c *checkRun) verifyPack(ctx context.Context, service string, ref archive.PackRef) error {
	name := archive.PackName(service, ref.SHA256)
	var got dataset.Hash
	var n int64
	for range 2 { // a flip on the way is not damage: read once more
		h := sha256.New()
		r, err := c.Archive.Store.Open(ctx, name, 0, -1)
		if err == nil {
			n, err = io.Copy(h, r)
			err = errors.Join(err, r.Close())
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.find(name, "pack %s is missing", ref.SHA256)
			return nil
		case errors.Is(err, archive.ErrNotReadable):
			return fmt.Errorf("pack %s: %w", ref.SHA256, err)
		case err != nil:
			return fmt.Errorf("read pack %s: %w", ref.SHA256, err)
		}
		if h.Sum(got[:0]); got == ref.SHA256 {
			c.advance(n)
			return nil
		}
	}
	c.wrong(name, "%v", &archive.DamageError{Name: name, Want: ref.SHA256, Got: got, Size: n})
	c.advance(n)
	return nil
}

func (c *checkRun) advance(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.PacksRead++
	c.report.BytesRead += n
	c.done += n
	if c.Progress != nil {
		c.Progress(c.done, c.total)
	}
}

// packs reads the packs that snapshots need.
func (c *checkRun) packs(ctx context.Context, service string, refs []archive.PackRef) error {
	c.report.Packs += int64(len(refs))
	if c.Quick {
		return nil
	}
	if c.Sample > 0 {
		refs = slices.DeleteFunc(slices.Clone(refs), func(archive.PackRef) bool { return rand.Float64() >= c.Sample })
	}
	for _, p := range refs {
		c.total += p.Size
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(c.Parallel, 4))
	for _, p := range refs {
		g.Go(func() error { return c.verifyPack(gctx, service, p) })
	}
	return g.Wait()
}
