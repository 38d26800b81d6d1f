// Package demo does the main job of Sallyport on embedded defaults: it serves a small
// cloud service, takes everything out of it, checks and verifies the archive, restores
// it, and shows that damage is found. Everything it makes lies in one directory, and it
// talks to the loopback address only.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dwp/sallyport/archive"
	archivedir "github.com/dwp/sallyport/archive/dir"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/reconcile"
	"github.com/dwp/sallyport/transfer"
	"github.com/dwp/sallyport/verify"
)

// service is the name of the demonstrated service.
const service = "case-files"

// Options say where and how to demonstrate.
type Options struct {
	Dir     string    // made if it is missing; must be empty
	Out     io.Writer // the story, for people
	Product string    // name and version, for the manifest
}

// A demo is one demonstration.
type demo struct {
	Options
	keys    keyring
	store   *archivedir.Store
	archive *archive.Archive
	bucket  *bucket
	failed  []error
}

// A keyring is what a department would keep on three hosts and in a safe.
type keyring struct {
	signer *crypto.Signer
	trust  *crypto.Verifier
	seal   *crypto.Sealer
	open   *crypto.Opener
}

// Run tells the whole story. It fails if anything in it did not come out as it must.
func Run(ctx context.Context, o Options) error {
	d := &demo{Options: o}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", o.Dir)
	}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	defer d.bucket.stop()
	defer d.store.Close()
	began := time.Now()
	if err := d.story(ctx); err != nil {
		return err
	}
	if len(d.failed) > 0 {
		return errors.Join(d.failed...)
	}
	d.say("\nEverything came out as it should, in %.1f s.", time.Since(began).Seconds())
	return nil
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.Out, format+"\n", args...) }

// step tells one step with its time.
func (d *demo) step(what string, f func() (string, error)) error {
	start := time.Now()
	outcome, err := f()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	d.say("  %-34s %s  (%.2f s)", what, outcome, time.Since(start).Seconds())
	return nil
}

// expect remembers what did not come out as it must.
func (d *demo) expect(ok bool, format string, args ...any) {
	if !ok {
		d.failed = append(d.failed, fmt.Errorf(format, args...))
	}
}

// prepare makes keys, the archive and the service.
func (d *demo) prepare(ctx context.Context) error {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return err
	}
	if err := d.makeKeys(); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	var err error
	if d.store, err = archivedir.Open(d.path("archive")); err != nil {
		return err
	}
	if _, err := archive.Init(ctx, d.store, d.keys.signer, time.Now()); err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	if d.archive, err = archive.Open(ctx, d.store, d.keys.trust); err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	d.bucket, err = serveBucket(d.path("source-ca.pem"))
	return err
}

func (d *demo) path(name string) string { return filepath.Join(d.Dir, name) }

// makeKeys makes one age identity and one signing key, and leaves them where the
// commands that the demo prints find them.
func (d *demo) makeKeys() error {
	identity, recipient, err := crypto.GenerateIdentity(false)
	if err != nil {
		return err
	}
	private, public, err := crypto.GenerateSigningKey("demo")
	if err != nil {
		return err
	}
	allowed := []byte(`demo namespaces="sallyport-*" ` + public)
	for name, text := range map[string][]byte{"identity.age": identity, "recipients.txt": []byte(recipient + "\n"), "signing_key": private, "allowed_signers": allowed} {
		if err := os.WriteFile(d.path(name), text, 0o600); err != nil {
			return err
		}
	}
	if d.keys.signer, err = crypto.ParseSigner(private); err != nil {
		return err
	}
	if d.keys.trust, err = crypto.ParseAllowedSigners(allowed, "allowed_signers"); err != nil {
		return err
	}
	if d.keys.open, err = crypto.ParseIdentities(identity, "identity.age"); err != nil {
		return err
	}
	d.keys.seal, err = crypto.NewSealer(recipient)
	return err
}

func (d *demo) story(ctx context.Context) error {
	d.say("A cloud service: an S3 bucket with %d objects in %d versions, %s.", d.bucket.keys, d.bucket.versions, humanize.IBytes(uint64(d.bucket.bytes)))
	d.say("\nTaking it out:")
	var snapshot *archive.Decision
	if err := d.step("export, encrypted and signed", func() (out string, err error) { snapshot, out, err = d.export(ctx); return }); err != nil {
		return err
	}
	if err := d.step("check, without any key", func() (string, error) { return d.check(ctx, d.store) }); err != nil {
		return err
	}
	snap, err := d.open(ctx, snapshot)
	if err != nil {
		return err
	}
	if err := d.step("verify, with the key", func() (string, error) { return d.verify(ctx, snap) }); err != nil {
		return err
	}
	d.say("\nProving that it can be restored:")
	if err := d.step("restore into another S3 server", func() (string, error) { return d.exitTest(ctx, snap) }); err != nil {
		return err
	}
	if err := d.step("restore into a directory", func() (string, error) { return d.directory(ctx, snap) }); err != nil {
		return err
	}
	d.say("\nTampering with a copy:")
	return d.step("one bit of a pack flipped", func() (string, error) { return d.tamper(ctx) })
}

func (d *demo) export(ctx context.Context) (*archive.Decision, string, error) {
	dec, err := transfer.Export(ctx, transfer.Job{
		Archive: d.archive,
		Options: archive.Options{Service: service, Exporter: "s3", Classification: "OFFICIAL", Product: d.Product,
			Signer: d.keys.signer, Recipients: d.keys.seal, State: d.path("state")},
		Open:   func(ctx context.Context) (exporters.Exporter, error) { return s3.Open(ctx, d.bucket.settings) },
		Method: transfer.DoubleRead,
		OnGap:  func(g dataset.Gap) { d.say("  gap: %s", dataset.Escape(g.Error())) },
	})
	if err != nil {
		return nil, "", err
	}
	m := dec.Manifest
	d.expect(m.State == archive.Complete, "the snapshot is %s", m.State)
	return dec, fmt.Sprintf("%s: %d records, %s in %d packs", m.State, m.Counts.Records, humanize.IBytes(uint64(m.Counts.PackBytes)), m.Counts.Packs), nil
}

func (d *demo) check(ctx context.Context, st archive.Store) (string, error) {
	r, err := verify.Check{Archive: &archive.Archive{Store: st, ID: d.archive.ID, Trust: d.archive.Trust}}.Run(ctx)
	if err != nil {
		return "", err
	}
	for _, f := range r.Findings {
		d.say("  finding: %s", dataset.Escape(f.String()))
	}
	d.expect(r.Integrity == verify.Pass, "the check of the archive ended with: %s", r.Integrity)
	return fmt.Sprintf("%s: %d objects, %s read", r.Integrity, r.Objects, humanize.IBytes(uint64(r.BytesRead))), nil
}

func (d *demo) open(ctx context.Context, dec *archive.Decision) (*archive.Snapshot, error) {
	snap, err := d.archive.Snapshot(ctx, service, dec)
	if err != nil {
		return nil, err
	}
	return snap, snap.Unlock(ctx, d.keys.open)
}

func (d *demo) verify(ctx context.Context, snap *archive.Snapshot) (string, error) {
	r, err := verify.Verification{Snapshot: snap}.Run(ctx)
	if err != nil {
		return "", err
	}
	d.expect(r.Content == verify.Pass, "the verification ended with: %s", r.Content)
	return fmt.Sprintf("%s: %d records, %d objects, %s", r.Content, r.Records, r.Blobs, humanize.IBytes(uint64(r.Bytes))), nil
}

// exitTest restores into a second server, reads it back, and compares source, archive
// and copy.
func (d *demo) exitTest(ctx context.Context, snap *archive.Snapshot) (string, error) {
	second, err := serveEmpty(d.path("target-ca.pem"))
	if err != nil {
		return "", err
	}
	defer second.stop()
	target, err := s3.OpenTarget(second.settings)
	if err != nil {
		return "", err
	}
	defer target.Close()
	r, err := verify.ExitTest{Snapshot: snap, Target: target, Kind: "s3",
		Source: func(ctx context.Context) (exporters.Exporter, error) { return s3.Open(ctx, d.bucket.settings) }}.Run(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range r.Errors {
		d.failed = append(d.failed, errors.New(e))
	}
	var same, differing int64
	for _, c := range r.Comparisons {
		for s, n := range c.Restored {
			if s == reconcile.OK {
				same += n
			} else {
				differing += n
			}
		}
		for _, diff := range c.Differences {
			d.say("  %s: %s %s (%s)", diff.Status, dataset.Escape(diff.Stream), dataset.Escape(diff.Key), diff.Between)
		}
	}
	d.expect(differing == 0 && r.GapCount == 0, "%d records differ from the archive, %d were not restored", differing, r.GapCount)
	return fmt.Sprintf("%d records read back: all the same", same), nil
}

// directory restores into a directory and reads it back.
func (d *demo) directory(ctx context.Context, snap *archive.Snapshot) (string, error) {
	target, err := dir.Kind.OpenTarget(ctx, exporters.Config{Options: map[string]any{"path": d.path("restored")}})
	if err != nil {
		return "", err
	}
	defer target.Close()
	p := new(transfer.Progress)
	out, err := transfer.Restore{Snapshot: snap, Target: target, Test: dataset.NewID(), Progress: p}.Run(ctx)
	if err != nil {
		return "", err
	}
	for _, g := range out.Gaps {
		d.failed = append(d.failed, &g)
	}
	return fmt.Sprintf("%d records, %s", p.Records.Load(), humanize.IBytes(uint64(p.Bytes.Load()))), nil
}

// tamper flips one bit in a copy of the archive, and wants the check to name the pack.
func (d *demo) tamper(ctx context.Context) (string, error) {
	if err := os.CopyFS(d.path("tampered"), os.DirFS(d.path("archive"))); err != nil {
		return "", err
	}
	copied, err := archivedir.Open(d.path("tampered"))
	if err != nil {
		return "", err
	}
	defer copied.Close()
	name, err := flip(ctx, copied, d.path("tampered"))
	if err != nil {
		return "", err
	}
	r, err := verify.Check{Archive: &archive.Archive{Store: copied, ID: d.archive.ID, Trust: d.archive.Trust}}.Run(ctx)
	if err != nil {
		return "", err
	}
	d.expect(len(r.Findings) == 1 && r.Findings[0].Object == name, "the check of the tampered copy found %v; want %s", r.Findings, name)
	if len(r.Findings) == 0 {
		return "not found", nil
	}
	return "found: " + r.Findings[0].Detail, nil
}

// flip flips a bit in the middle of the largest pack and returns its name.
func flip(ctx context.Context, st archive.Store, root string) (string, error) {
	var largest archive.Info
	for info, err := range st.List(ctx, service+"/packs/") {
		if err != nil {
			return "", err
		}
		if info.Size > largest.Size {
			largest = info
		}
	}
	path := filepath.Join(root, filepath.FromSlash(largest.Name))
	if err := os.Chmod(path, 0o600); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, largest.Size/2)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, largest.Size/2)
	}
	return largest.Name, errors.Join(err, f.Close())
}
