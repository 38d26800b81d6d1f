// Package demo does the main job of Sallyport on embedded defaults: it serves a small
// cloud service, a database and a ticket system, takes everything out of them, restores
// it elsewhere, certifies that it did, shows that damage and loss are found, and at last
// empties the bucket, by a plan that two people approve, and brings it back. Everything it
// makes lies in one directory, and it talks to the loopback address only.
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
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/exporters/dir"
	"github.com/dwp/sallyport/exporters/s3"
	"github.com/dwp/sallyport/exporters/sqldb"
	"github.com/dwp/sallyport/verify"
)

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
	bucket  *bucket // of the first service, until the end
	left    *exit   // of the first service
	failed  []error // what did not come out as it must
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
	defer d.store.Close()
	began := time.Now()
	b, err := serveBucket(d.path("source-ca.pem"))
	if err != nil {
		return err
	}
	defer b.stop()
	d.bucket = b
	for _, chapter := range []func(context.Context) error{d.bucketLeaves, d.tampering, d.databaseLeaves, d.deskLeaves, d.objectIsLost, d.serviceIsGivenUp} {
		if err := chapter(ctx); err != nil {
			return err
		}
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

func (d *demo) path(name string) string { return filepath.Join(d.Dir, name) }

// prepare makes keys and the archive.
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
	return nil
}

// makeKeys makes one age identity, one signing key and the keys of two people who
// approve deletions, and leaves them where a reader finds them.
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
	files := map[string][]byte{"identity.age": identity, "recipients.txt": []byte(recipient + "\n"), "signing_key": private}
	for _, person := range []string{"alex", "blair"} {
		key, public, err := crypto.GenerateSigningKey(person)
		if err != nil {
			return err
		}
		files[person] = key
		allowed = append(allowed, person+` namespaces="sallyport-approval" `+public...)
	}
	files["allowed_signers"] = allowed
	for name, text := range files {
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

// bucketLeaves proves the exit from an object store, into another one.
func (d *demo) bucketLeaves(ctx context.Context) error {
	b := d.bucket
	second, err := serveEmpty(d.path("target-ca.pem"))
	if err != nil {
		return err
	}
	defer second.stop()
	target, err := s3.OpenTarget(second.settings)
	if err != nil {
		return err
	}
	defer target.Close()
	d.say("A cloud service: an S3 bucket with %d objects in %d versions, %s.", b.keys, b.versions, humanize.IBytes(uint64(b.bytes)))
	e := &exit{service: bucketName, exporter: s3.Kind.Name, target: target, kind: s3.Kind.Name,
		source: func(ctx context.Context) (exporters.Exporter, error) { return s3.Open(ctx, b.settings) }}
	if err := d.takeOut(ctx, e); err != nil {
		return err
	}
	if err := d.step("restore into a directory too", func() (string, error) { return d.directory(ctx, e.snapshot) }); err != nil {
		return err
	}
	d.left = e
	return d.prove(ctx, e, "restore into another S3 server", verify.Proven)
}

// databaseLeaves proves the exit from a database, and asks questions of the copy.
func (d *demo) databaseLeaves(ctx context.Context) error {
	file := d.path("casework.db")
	rows, err := makeDatabase(ctx, file)
	if err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	target, err := sqldb.SQLite.OpenTarget(ctx, exporters.Config{Options: map[string]any{"url": "sqlite:" + d.path("restored.db")}})
	if err != nil {
		return err
	}
	defer target.Close()
	d.say("\nA database: a case-management system with %s rows in 3 tables.", humanize.Comma(int64(rows)))
	e := exit{service: "casework", exporter: sqldb.SQLite.Name, target: target, kind: sqldb.SQLite.Name, acceptance: questions(),
		source: func(ctx context.Context) (exporters.Exporter, error) {
			return sqldb.SQLite.Open(ctx, exporters.Config{Options: map[string]any{"url": "sqlite:" + file}})
		}}
	if err := d.takeOut(ctx, &e); err != nil {
		return err
	}
	return d.prove(ctx, &e, "restore into another database", verify.Proven)
}

// objectIsLost restores into a target that loses one object and says nothing.
func (d *demo) objectIsLost(ctx context.Context) error {
	b, err := serveLetters(d.path("letters-ca.pem"))
	if err != nil {
		return err
	}
	defer b.stop()
	lossy := &lossyTarget{Target: dir.NewTarget(d.path("lossy"), dir.Options{}), key: lostKey}
	defer lossy.Close()
	d.say("\nA second service, restored into a product that loses one of %d objects and does not say so:", b.keys)
	e := exit{service: "letters", exporter: s3.Kind.Name, target: lossy, kind: dir.Kind.Name,
		source: func(ctx context.Context) (exporters.Exporter, error) { return s3.Open(ctx, b.settings) }}
	if err := d.takeOut(ctx, &e); err != nil {
		return err
	}
	if err := d.prove(ctx, &e, "restore, read back, compare", verify.NotProven); err != nil {
		return err
	}
	d.expect(len(e.named) == 1 && e.named[0] == "missing: objects "+lostKey, "the test named %q; want %s", e.named, lostKey)
	return nil
}
