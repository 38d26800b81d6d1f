package retention_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/memory"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

const service = "case-files"

// A court is an archive with everybody who may do something to it, each with a key of
// their own, and the source that it is about.
type court struct {
	store *archivetest.Memory // nil on another store
	on    archive.Remover
	a     *archive.Archive
	src   *memory.Source
	other place // the source, if it is not src
	state string
	log   *log

	monthKeys bool // see [archive.Options]

	signers map[string]*crypto.Signer
	managed *crypto.Opener // the verifier's
	keeper  *crypto.Opener
	toAll   *crypto.Sealer // managed
	toBoth  *crypto.Sealer // managed and keeper's

	mu    sync.Mutex
	clock time.Time // the store's
}

// who may sign what.
var who = map[string]string{
	"exporter": "sallyport-store,sallyport-intent,sallyport-keys,sallyport-manifest,sallyport-checkpoint",
	"verifier": "sallyport-keys,sallyport-verified,sallyport-certificate,sallyport-plan,sallyport-erasure,sallyport-checkpoint",
	"keeper":   "sallyport-abort,sallyport-expiry,sallyport-hold,sallyport-release,sallyport-plan,sallyport-ledger,sallyport-deletion,sallyport-erasure,sallyport-checkpoint",
	"alex":     "sallyport-approval,sallyport-hold,sallyport-release",
	"blair":    "sallyport-approval",
	"casey":    "sallyport-approval",
	"planner":  "sallyport-approval,sallyport-plan",
}

func newCourt(t testing.TB) *court {
	t.Helper()
	c := &court{clock: time.Now().UTC().Truncate(time.Second)}
	c.store = &archivetest.Memory{Time: c.now}
	c.convene(t, c.store)
	return c
}

// convene makes everybody's keys, and an archive on st.
func (c *court) convene(t testing.TB, st archive.Remover) {
	t.Helper()
	c.on, c.state, c.signers, c.src, c.log = st, t.TempDir(), map[string]*crypto.Signer{}, new(memory.Source), &log{}
	var lines strings.Builder
	for name, namespaces := range who {
		c.signers[name] = c.newSigner(t, &lines, name, namespaces)
	}
	c.signers["alex's second"] = c.newSigner(t, &lines, "alex", "sallyport-approval")
	c.signers["exporter's approval"] = c.newSigner(t, &lines, "exporter", "sallyport-approval")
	c.signers["stranger"] = c.newSigner(t, new(strings.Builder), "stranger", "sallyport-*")
	trust, err := crypto.ParseAllowedSigners([]byte(lines.String()), "allowed_signers")
	check(t, err)
	var managed, keeper *crypto.Sealer
	c.managed, managed = newIdentity(t)
	c.keeper, keeper = newIdentity(t)
	c.toAll, c.toBoth = managed, managed.Join(keeper)
	_, err = archive.Init(t.Context(), st, c.signers["exporter"], c.now())
	check(t, err)
	c.a, err = archive.Open(t.Context(), st, trust)
	check(t, err)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c *court) newSigner(t testing.TB, lines *strings.Builder, principal, namespaces string) *crypto.Signer {
	t.Helper()
	private, public, err := crypto.GenerateSigningKey("")
	check(t, err)
	s, err := crypto.ParseSigner(private)
	check(t, err)
	line, err := crypto.NewAllowedSigner(principal, namespaces, strings.TrimSpace(public))
	check(t, err)
	lines.WriteString(line.String() + "\n")
	return s
}

func newIdentity(t testing.TB) (*crypto.Opener, *crypto.Sealer) {
	t.Helper()
	file, recipient, err := crypto.GenerateIdentity(false)
	check(t, err)
	o, err := crypto.ParseIdentities(file, "identity")
	check(t, err)
	s, err := crypto.NewSealer(recipient)
	check(t, err)
	return o, s
}

func (c *court) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock
}

func (c *court) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock = c.clock.Add(d)
}

// A place is a source that others may change.
type place interface {
	Open(ctx context.Context) (exporters.Exporter, error)
	Put(r dataset.Record) error
	Remove(stream, key string, ordinal int) error
}

func (c *court) place() place {
	if c.other != nil {
		return c.other
	}
	return c.src
}

// office is the desk of one of the roles.
func (c *court) office(role string) retention.Office {
	o := retention.Office{Archive: c.a, Signer: c.signers[role], Seal: c.toBoth, Now: c.now}
	switch role {
	case "verifier", "planner":
		o.Open = c.managed
	case "keeper":
		o.Open = c.keeper
	}
	return o
}

func (c *court) keeperDesk() *retention.Keeper {
	return &retention.Keeper{Office: c.office("keeper"), Remover: c.on, Log: c.log, Floor: retention.Floor{Snapshots: 1}, Wait: time.Nanosecond}
}

// export makes a snapshot of the source; the store's clock goes on.
func (c *court) export(t testing.TB) *archive.Snapshot {
	t.Helper()
	c.pass(time.Minute)
	d, err := transfer.Export(t.Context(), transfer.Job{Archive: c.a, Open: c.place().Open,
		Options: archive.Options{Service: service, Exporter: "memory", Classification: "OFFICIAL", Product: "test",
			Signer: c.signers["exporter"], Recipients: c.toAll, State: c.state, Now: c.now, MonthKeys: c.monthKeys}})
	check(t, err)
	c.pass(time.Minute)
	return c.open(t, d)
}

func (c *court) open(t testing.TB, d *archive.Decision) *archive.Snapshot {
	t.Helper()
	d, err := c.a.Decision(t.Context(), service, d.Run) // with its signer
	check(t, err)
	s, err := c.a.Snapshot(t.Context(), service, d)
	check(t, err)
	check(t, s.Unlock(t.Context(), c.managed))
	return s
}

// countersign verifies a snapshot and records it.
func (c *court) countersign(t testing.TB, s *archive.Snapshot, tags ...string) {
	t.Helper()
	r, err := verify.Verification{Snapshot: s}.Run(t.Context())
	check(t, err)
	_, err = verify.WriteVerified(t.Context(), c.a, c.signers["verifier"], s, r, tags, c.now())
	check(t, err)
	c.pass(time.Minute)
}

// certify does an exit test and issues its certificate.
func (c *court) certify(t testing.TB, s *archive.Snapshot) {
	t.Helper()
	report, err := verify.ExitTest{Snapshot: s, Target: new(memory.Target), Kind: "memory", Source: c.place().Open, Now: c.now}.Run(t.Context())
	check(t, err)
	checked, err := verify.Check{Archive: c.a, Service: service, Now: c.now()}.Run(t.Context())
	check(t, err)
	cert, _, err := verify.Issue(t.Context(), verify.Issuance{Archive: c.a, Snapshot: s, Report: report, Check: checked,
		Identities: []verify.Identity{{Name: "managed", Opener: c.managed}}, Signer: c.signers["verifier"], Recipients: c.toAll,
		Product: "test", Now: c.now()})
	check(t, err)
	if cert.Predicate.Verdict != verify.Proven {
		t.Fatalf("certificate is %s: %q", cert.Predicate.Verdict, cert.Predicate.Reasons)
	}
	c.pass(time.Minute)
}

// fill gives the source objects and rows of several ages.
func (c *court) fill(n int) {
	old, young := noon.AddDate(-9, 0, 0).Format(time.RFC3339), time.Now().AddDate(-1, 0, 0).UTC().Format(time.RFC3339)
	var objects, rows []dataset.Record
	for i := range n {
		date := old
		if i%2 == 1 {
			date = young
		}
		objects = append(objects, object(fmt.Sprintf("file-%03d", i), 0, date))
		rows = append(rows, dataset.Record{Key: fmt.Sprintf("[%d]", i), Data: json.RawMessage(fmt.Sprintf(`{"id":%d,"closed":%q}`, i, date))})
	}
	c.src.Add(dataset.Stream{Name: "objects", Blobs: true}, objects...)
	c.src.Add(dataset.Stream{Name: "rows", Schema: &dataset.Schema{Fields: []dataset.Field{{Name: "id", Type: dataset.Integer}}, PrimaryKey: []string{"id"}}}, rows...)
	c.src.Facts = dataset.Facts{Endpoints: []dataset.Endpoint{{URL: "https://source.example", Region: "eu-west-2"}}}
}

// object is a version of an object with a few bytes of its own.
func object(key string, ordinal int, date string) dataset.Record {
	body := fmt.Sprintf("the bytes of version %d of %s\n", ordinal, key)
	return dataset.Record{Key: key, Ordinal: ordinal, Data: json.RawMessage(fmt.Sprintf(`{"last_modified":%q,"etag":"%s"}`, date, dataset.Sum([]byte(body)))),
		Blob: memory.Bytes([]byte(body))}
}

// A log records events in order, and can be made to fail.
type log struct {
	mu        sync.Mutex
	events    []audit.Event
	published int
	fail      error
}

func (l *log) Append(e audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	return nil
}

func (l *log) Publish(ctx context.Context) (archive.Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return archive.Checkpoint{}, l.fail
	}
	l.published = len(l.events)
	return archive.Checkpoint{}, ctx.Err()
}

// refused fails the test unless err is a refusal with the code.
func refused(t testing.TB, err error, code string) {
	t.Helper()
	var p *retention.PolicyError
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("got %v; want a refusal %q", err, code)
	}
}
