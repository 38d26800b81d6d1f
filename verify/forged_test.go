package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/archivetest"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/verify"
)

// A forgery is a control object that must be named by a check and obeyed by nobody.
type forgery struct {
	what, name string
	objects    map[string][]byte
}

// document is a control document in canonical form, and how it should be signed.
type document struct {
	name, namespace string
	doc             []byte
	signer          *crypto.Signer // who may sign such a thing
}

func canonical(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(err) // a struct of ours
	}
	return b.Bytes()
}

// documents makes a well-formed document of every class, about real runs.
func (r *reference) documents(t *testing.T) []document {
	t.Helper()
	w := r.world
	snaps, err := w.Archive.Snapshots(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	live, open := snaps.All[0], snaps.Open[0]
	_, intent, err := w.Archive.Intent(t.Context(), service, open)
	if err != nil {
		t.Fatal(err)
	}
	fresh := archive.NewRunID(time.Now())
	now := archive.At(time.Now())
	manifest := *live.Manifest
	manifest.Run, manifest.Intent = open, intent
	key, err := crypto.NewRunKey(false)
	if err != nil {
		t.Fatal(err)
	}
	statement := archive.Statement{Format: "sallyport-keys/1", Store: w.Archive.ID, Service: service, Run: live.Run, Role: archive.DataRole,
		Recipient: key.Recipient, SealedTo: []string{}, SHA256: dataset.Sum([]byte("sealed"))}
	expiry := archive.Expiry{Format: "sallyport-expiry/1", Store: w.Archive.ID, Service: service, Run: live.Run, Manifest: live.Hash, Rule: "forged", Decided: now}
	record := canonical(map[string]any{"store": w.Archive.ID, "service": service, "run": live.Run})
	named := func(folder string, doc []byte) string {
		return service + "/" + folder + "/" + dataset.Sum(doc).String() + ".json"
	}
	docs := []document{
		{archive.IntentName(service, fresh), "sallyport-intent", canonical(archive.Intent{Format: "sallyport-intent/1", Store: w.Archive.ID, Service: service, Run: fresh, Started: now}), w.Exporter},
		{archive.DecisionName(service, open), "sallyport-manifest", canonical(manifest), w.Exporter},
		{archive.DecisionName(service, open), "sallyport-abort", canonical(archive.Abort{Format: "sallyport-abort/1", Store: w.Archive.ID, Service: service, Run: open, Intent: intent, Reason: archive.AbortStale, Decided: now}), w.Keeper},
		{named("keys/"+key.ID().String(), canonical(statement)), "sallyport-keys", canonical(statement), w.Exporter},
		{named("expired/"+string(live.Run), canonical(expiry)), "sallyport-expiry", canonical(expiry), w.Keeper},
		{named("verified/"+string(live.Run), record), "sallyport-verified", record, w.Keeper},
		{named("certificates/"+string(live.Run), record), "sallyport-certificate", record, nil},
		{named("holds", record), "sallyport-hold", record, w.Keeper},
		{named("purges/x", record), "sallyport-plan", record, nil},
	}
	return docs
}

// signed returns the name and bytes of a signature that claims a namespace and was made
// under another, or the same.
func signed(t *testing.T, by *crypto.Signer, d document, really string) (string, []byte) {
	t.Helper()
	sig, err := by.Sign(really, d.doc)
	if err != nil {
		t.Fatal(err)
	}
	return archive.SignatureName(service, dataset.Sum(d.doc), d.namespace, sig), sig
}

func (r *reference) forgeries(t *testing.T) (all []forgery) {
	add := func(what string, d document, by *crypto.Signer, really string) {
		objects := map[string][]byte{d.name: d.doc}
		if by != nil {
			name, sig := signed(t, by, d, really)
			objects[name] = sig
		}
		all = append(all, forgery{what + " " + d.namespace, d.name, objects})
	}
	for _, d := range r.documents(t) {
		add("unsigned", d, nil, "")
		add("a stranger's", d, r.world.Stranger, d.namespace)
		wrong := r.world.Exporter
		if d.signer == wrong {
			wrong = r.world.Keeper
		}
		add("the wrong role's", d, wrong, d.namespace)
		if d.signer != nil {
			add("for another purpose signed", d, d.signer, map[bool]string{true: "sallyport-store", false: "sallyport-hold"}[d.signer == r.world.Exporter])
		}
		spaced := d
		spaced.doc = append(bytes.TrimSuffix(d.doc, []byte("\n")), " \n"...)
		if d.signer != nil && !strings.Contains(d.name, dataset.Sum(d.doc).String()) {
			add("not canonical", spaced, d.signer, d.namespace)
		}
	}
	return append(append(all, r.replays(t)...), r.junk()...)
}

// replays are genuine documents in the place of others.
func (r *reference) replays(t *testing.T) (all []forgery) {
	t.Helper()
	other := &archivetest.Memory{}
	w := r.world.On(other)
	if _, err := archive.Init(t.Context(), other, w.Exporter, time.Now()); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.Archive, err = archive.Open(t.Context(), other, w.Archive.Trust); err != nil {
		t.Fatal(err)
	}
	d, err := w.Export(t.Context(), service, "", smallContent(3, 5))
	if err != nil {
		t.Fatal(err)
	}
	everything := map[string][]byte{}
	for _, name := range other.Names() {
		if strings.HasPrefix(name, service+"/") {
			everything[name] = other.Bytes(name)
		}
	}
	all = append(all, forgery{"another store's snapshot", archive.DecisionName(service, d.Run), everything})
	snaps, err := r.world.Archive.Snapshots(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	payroll := map[string][]byte{}
	var theirs string
	for _, name := range r.names {
		rest, ok := strings.CutPrefix(name, "payroll/")
		if ok {
			payroll[service+"/"+rest] = r.store.Bytes(name)
		}
		if archive.ParseName(name).Class == archive.DecisionObject && ok {
			theirs = service + "/" + rest
		}
	}
	all = append(all, forgery{"another service's snapshot", theirs, payroll})
	open := archive.DecisionName(service, snaps.Open[0])
	return append(all, forgery{"another run's decision", open, map[string][]byte{open: snaps.All[0].Doc}})
}

// junk is what has no business in a store.
func (r *reference) junk() (all []forgery) {
	junk := []byte("junk")
	h := dataset.Sum(junk).String()
	key := ""
	for _, n := range r.names {
		if p := archive.ParseName(n); p.Class == archive.KeyObject && p.Service == service && !r.unneeded(n) {
			key = p.Key.String()
		}
	}
	run := string(archive.NewRunID(time.Now()))
	for _, name := range []string{
		"x", "store.json.bak", ".hidden", service, service + "/x", service + "/packs/" + h, service + "/packs/aa/" + h,
		service + "/lists/" + h + ".json", service + "/lists/" + strings.ToUpper(h), service + "/lists/" + dataset.Sum(nil).String(),
		service + "/intents/x.json", service + "/intents/" + run + ".json", service + "/decisions/" + run + ".json",
		service + "/decisions/" + run, service + "/expired/" + run + "/" + h + ".json", service + "/keys/" + key + "/" + h + ".age",
		service + "/keys/" + key + "/" + h + ".json", service + "/annexes/" + dataset.Sum(nil).String() + ".age", service + "/holds/x",
		service + "/signatures/" + h + "/sallyport-other/" + h + ".sig", "signatures/" + h + ".sig", "AUDIT/x", "Case-Files/intents/" + run + ".json",
	} {
		all = append(all, forgery{"junk", name, map[string][]byte{name: junk}})
	}
	return all
}

func TestForgedControlObjectsAreNamedAndNotObeyed(t *testing.T) {
	t.Parallel()
	r := newReference(t, 20)
	before, err := r.world.Archive.Snapshots(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	forgeries := r.forgeries(t)
	if len(forgeries) < 50 {
		t.Fatalf("only %d forgeries", len(forgeries))
	}
	for _, f := range forgeries {
		st := r.store.Clone()
		for name, data := range f.objects {
			st.Put(name, data)
		}
		report, err := r.check(t.Context(), st, nil)
		if err != nil {
			t.Errorf("%s: %v", f.what, err)
			continue
		}
		if !slices.ContainsFunc(report.Findings, func(x verify.Finding) bool { return x.Object == f.name }) {
			t.Errorf("%s %s is not found: %v", f.what, f.name, report.Findings)
		}
		w := r.world.On(st)
		after, err := w.Archive.Snapshots(t.Context(), service)
		if err != nil {
			t.Errorf("%s: %v", f.what, err)
			continue
		}
		if len(after.All) != len(before.All) || len(after.Expired) != len(before.Expired) || after.Aborted != before.Aborted {
			t.Errorf("%s %s is obeyed: %d snapshots, %d expired, %d aborted", f.what, f.name, len(after.All), len(after.Expired), after.Aborted)
		}
		names := st.Names()
		if _, err := w.Collector().Collect(t.Context(), service); len(after.Bad) > 0 && err == nil {
			t.Errorf("%s %s: a collector went on", f.what, f.name)
		} else if len(after.Bad) > 0 && len(names) != len(st.Names()) {
			t.Errorf("%s %s: a collector removed something", f.what, f.name)
		}
	}
}

func TestJunkBesideGenuineObjectsHidesNothing(t *testing.T) {
	t.Parallel()
	r := newReference(t, 10)
	st := r.store.Clone()
	long := bytes.Repeat([]byte("long "), 300<<10)
	for _, name := range r.names {
		switch n := archive.ParseName(name); n.Class {
		case archive.SignatureObject: // strangers' signatures and giants beside every good one
			dir := name[:strings.LastIndexByte(name, '/')+1]
			st.Put(dir+dataset.Sum(long).String()+".sig", long)
			st.Put(dir+dataset.Sum([]byte("x")).String()+".sig", []byte("x"))
		case archive.KeyObject:
			dir := name[:strings.LastIndexByte(name, '/')+1]
			st.Put(dir+dataset.Sum(long).String()+".age", long)
		}
	}
	w := r.world.On(st)
	if _, err := r.check(t.Context(), st, nil); err != nil {
		t.Errorf("check: %v", err)
	}
	snaps, err := w.Archive.Snapshots(t.Context(), service)
	if err != nil || len(snaps.All) != 3 || len(snaps.Bad) > 0 {
		t.Fatalf("%d snapshots, %v, %v", len(snaps.All), snaps.Bad, err)
	}
	for _, d := range snaps.All {
		s, err := w.Archive.Snapshot(t.Context(), service, d)
		if err == nil {
			err = s.Unlock(t.Context(), w.Identity)
		}
		if err != nil {
			t.Errorf("snapshot %s: %v", d.Run, err)
		}
	}
}

func TestCleanArchivesRaiseNoAlarm(t *testing.T) {
	t.Parallel()
	each(t, 1000, 25, func(i int) error {
		rnd := rand.New(rand.NewPCG(uint64(i), 3))
		st := new(archivetest.Memory)
		start := time.Now()
		now := start
		w, err := archivetest.NewWorld(t.Context(), st)
		if err != nil {
			return err
		}
		w.Now = func() time.Time { return now }
		st.Time = w.Now
		w.PackSize = 1 << (12 + rnd.IntN(8))
		content := smallContent(uint64(i), rnd.IntN(12))
		for range 1 + rnd.IntN(5) {
			now = now.Add(time.Duration(rnd.IntN(200)) * time.Hour)
			if err := step(t.Context(), w, rnd, content); err != nil {
				return err
			}
			content = content.Changed(rnd.Uint64())
			report, err := verify.Check{Archive: w.Archive}.Run(t.Context())
			if err != nil || report.Integrity != verify.Pass {
				return fmt.Errorf("run %d: %v %v", i, report.Findings, err)
			}
		}
		return st.Misuse()
	})
}

// step does one thing that people do with archives.
func step(ctx context.Context, w *archivetest.World, rnd *rand.Rand, c archivetest.Content) error {
	if rnd.IntN(4) == 0 {
		run, err := archive.Begin(ctx, w.Archive, w.Options(service, ""))
		if err != nil {
			return err
		}
		_, err = archivetest.Fill(ctx, run, c)
		run.Abandon()
		return err
	}
	if _, err := w.Export(ctx, service, "", c); err != nil {
		return err
	}
	snaps, err := w.Archive.Snapshots(ctx, service)
	if err != nil {
		return err
	}
	if rnd.IntN(2) == 0 && len(snaps.All) > 1 {
		if err := w.Expire(ctx, service, snaps.All[0]); err != nil {
			return err
		}
	}
	if rnd.IntN(2) == 0 {
		_, err = w.Collector().Collect(ctx, service)
	}
	return err
}

func TestACheckBesideWritersAndACollectorRaisesNoAlarm(t *testing.T) {
	t.Parallel()
	st := new(archivetest.Memory)
	w, err := archivetest.NewWorld(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Export(t.Context(), service, "", smallContent(1, 5)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	for i := range 2 {
		state, content := t.TempDir(), smallContent(uint64(i), 20)
		g.Go(func() error {
			for ctx.Err() == nil {
				if _, err := w.Export(t.Context(), service, state, content); err != nil && !errors.Is(err, archive.ErrFenced) {
					return fmt.Errorf("export: %w", err)
				}
				content = content.Changed(1)
			}
			return nil
		})
	}
	g.Go(func() error {
		for ctx.Err() == nil {
			snaps, err := w.Archive.Snapshots(t.Context(), service)
			if err != nil {
				return err
			}
			for _, d := range snaps.All[:max(0, len(snaps.All)-3)] {
				if err := w.Expire(t.Context(), service, d); err != nil {
					return err
				}
			}
			c := w.Collector()
			c.Wait = 20 * time.Millisecond // so that it aborts some that live
			if _, err := c.Collect(t.Context(), service); err != nil {
				return fmt.Errorf("collect: %w", err)
			}
		}
		return nil
	})
	enough := time.Now().Add(1500 * time.Millisecond)
	for checks := 0; checks < 3 || time.Now().Before(enough); checks++ {
		report, err := verify.Check{Archive: w.Archive}.Run(t.Context())
		if err != nil {
			t.Errorf("check %d: %v", checks, err)
			break
		}
		for _, f := range report.Findings {
			t.Errorf("check %d: %v", checks, f)
		}
	}
	stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}
