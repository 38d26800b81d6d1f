package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
)

// A Document is a parsed control document: exactly one of its pointers is set.
type Document struct {
	Namespace string          // under which it must be signed
	At        time.Time       // when it says it was signed
	Signer    crypto.Identity // set once the signature was verified

	Intent    *Intent
	Manifest  *Manifest
	Abort     *Abort
	Statement *Statement
	Expiry    *Expiry
}

// Parse parses a control document strictly, and makes sure that it is about the
// store, service and run in whose place it lies, and not a replay of another's. It
// verifies no signature.
func (a *Archive) Parse(name string, doc []byte) (*Document, error) {
	n := ParseName(name)
	d := new(Document)
	var of belonging
	var err error
	switch n.Class {
	case IntentObject:
		d.Intent = new(Intent)
		err = decodeAs(doc, d.Intent, &d.Intent.Format, intentFormat)
		of = belonging{d.Intent.Store, d.Intent.Service, d.Intent.Run}
		d.Namespace, d.At = nsIntent, d.Intent.Started.Time
	case DecisionObject:
		of, err = d.decision(doc)
	case StatementObject:
		d.Statement = new(Statement)
		err = decodeAs(doc, d.Statement, &d.Statement.Format, statementFormat)
		of = belonging{d.Statement.Store, d.Statement.Service, d.Statement.Run}
		n.Run = d.Statement.Run // the name tells the key instead
		if err == nil && crypto.RecipientID(d.Statement.Recipient) != n.Key {
			err = errors.New("is about another key")
		}
		d.Namespace = nsKeys
	case ExpiryObject:
		d.Expiry = new(Expiry)
		err = decodeAs(doc, d.Expiry, &d.Expiry.Format, expiryFormat)
		of = belonging{d.Expiry.Store, d.Expiry.Service, d.Expiry.Run}
		d.Namespace, d.At = nsExpiry, d.Expiry.Decided.Time
	default:
		err = errors.New("is no control document")
	}
	if err == nil {
		err = of.check(a.ID, n.Service, n.Run)
	}
	if err == nil && !n.Hash.IsZero() && n.Hash != dataset.Sum(doc) {
		err = &DamageError{name, n.Hash, dataset.Sum(doc), int64(len(doc))}
	}
	return d, err
}

// decision parses a manifest or an abort.
func (d *Document) decision(doc []byte) (of belonging, err error) {
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return of, err
	}
	switch head.Format {
	case manifestFormat, manifestWithCSV:
		if d.Manifest, err = ParseManifest(doc); err != nil {
			return of, err
		}
		d.Namespace, d.At = nsManifest, d.Manifest.Ended.Time
		return belonging{d.Manifest.Store, d.Manifest.Service, d.Manifest.Run}, nil
	case abortFormat:
		d.Abort = new(Abort)
		err = decodeAs(doc, d.Abort, &d.Abort.Format, abortFormat)
		d.Namespace, d.At = nsAbort, d.Abort.Decided.Time
		return belonging{d.Abort.Store, d.Abort.Service, d.Abort.Run}, err
	}
	return of, errFormat(head.Format)
}

// decodeAs decodes a document of one format.
func decodeAs(doc []byte, v any, format *string, want string) error {
	if err := decode(doc, v); err != nil {
		return err
	}
	if *format != want {
		return errFormat(*format)
	}
	return nil
}

func errFormat(format string) error {
	return fmt.Errorf("format %q is not one this version reads", format)
}

// belonging says what a document is about.
type belonging struct {
	store   dataset.ID
	service string
	run     RunID
}

func (b belonging) check(store dataset.ID, service string, run RunID) error {
	switch {
	case b.store != store:
		return fmt.Errorf("is a document of another store, %s", b.store)
	case b.service != service:
		return fmt.Errorf("is a document of another service, %s", b.service)
	case b.run != run:
		return fmt.Errorf("is a document of another run, %s", b.run)
	}
	return nil
}
