package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/audit"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/internal/s3conn"
	"github.com/dwp/sallyport/retention"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitIncomplete  = 3
	exitNo          = 4
	exitIntegrity   = 5
	exitPolicy      = 6
	exitTemporary   = 7
	exitNotFound    = 10
	exitNoKey       = 12
	exitCredentials = 13
	exitInterrupted = 130
	exitTerminated  = 143
)

// An exitCode is one line of the table from which help, documentation and exit status
// are made.
type exitCode struct {
	code    int
	name    string
	meaning string
	is      func(error) bool // whether an error means this code; nil if only an exitError does
}

// exitCodes returns the table. An error gets the first code that matches in the order
// of precedence, which is that of the table except that 1 comes last.
func exitCodes() []exitCode {
	return []exitCode{
		{exitOK, "ok", "done, and nothing of what was asked is missing", nil},
		{exitFailed, "failed", "failed", nil},
		{exitUsage, "usage", "wrong usage or configuration", as[*config.Error]},
		{exitIncomplete, "incomplete", "finished but incomplete, or something is overdue", as[*dataset.Gap]},
		{exitNo, "no", "the answer of a verification is no", nil},
		{exitIntegrity, "integrity", "integrity or signature failure", func(err error) bool {
			return as[*archive.DamageError](err) || as[*archive.IntegrityError](err) || errors.Is(err, audit.ErrInconsistent) ||
				is(err, crypto.ErrBadSignature, crypto.ErrUnknownSigner, crypto.ErrWrongNamespace, crypto.ErrNotValid)
		}},
		{exitPolicy, "policy", "refused by policy", func(err error) bool {
			return as[*config.PolicyError](err) || as[*retention.PolicyError](err) || is(err, exporters.ErrNotEmpty, exporters.ErrNotOurs, archive.ErrNoConditionalWrites)
		}},
		{exitTemporary, "temporary", "temporary; run again to resume", func(err error) bool {
			return as[*audit.UnwrittenError](err) || is(err, exporters.ErrTemporary, s3conn.ErrTemporary, durable.ErrLocked, archive.ErrFenced)
		}},
		{exitNotFound, "not-found", "no such store or snapshot", func(err error) bool {
			return is(err, archive.ErrNoStore, archive.ErrNoSnapshot, s3conn.ErrNoSuchBucket)
		}},
		{exitNoKey, "no-key", "no usable key", func(err error) bool { return is(err, crypto.ErrNoKey, crypto.ErrEncryptedKey) }},
		{exitCredentials, "credentials", "the source refused the credentials", func(err error) bool {
			return is(err, exporters.ErrCredentials, s3conn.ErrCredentials)
		}},
		{exitInterrupted, "interrupted", "interrupted (SIGINT); run again to resume", nil},
		{exitTerminated, "terminated", "terminated (SIGTERM); run again to resume", nil},
	}
}

func as[T error](err error) bool { var t T; return errors.As(err, &t) }

func is(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// exitOf returns the table's line for the outcome of a command.
func exitOf(ctx context.Context, err error) exitCode {
	code := exitFailed
	var e *exitError
	var s signalError
	switch {
	case err == nil:
		code = exitOK
	case errors.As(context.Cause(ctx), &s):
		code = s.code()
	case errors.As(err, &e) && e.code != 0:
		code = e.code
	default:
		for _, c := range exitCodes() {
			if c.is != nil && c.is(err) {
				return c
			}
		}
	}
	for _, c := range exitCodes() {
		if c.code == code {
			return c
		}
	}
	return exitCode{code: code, name: "failed"}
}

// exitCodesText is the table for people.
func exitCodesText() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "    %3d  %s\n", c.code, c.meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// An exitError is an error with an exit code, a hint, or both.
type exitError struct {
	code int // 0: as the error inside says
	err  error
	hint string // what the person may do; empty if nothing helps
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func withHint(err error, hint string) error { return &exitError{err: err, hint: hint} }

// usage is a mistake on the command line.
func usage(hint, format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), hint: hint}
}

// A signalError says that a signal ended the run.
type signalError struct{ signal syscall.Signal }

func (s signalError) Error() string { return s.signal.String() }
func (s signalError) code() int     { return 128 + int(s.signal) }

// hintFor says what a person may do about an error; "" if nothing general helps.
func hintFor(err error) string {
	var e *exitError
	switch {
	case errors.As(err, &e) && e.hint != "":
		return e.hint
	case errors.Is(err, crypto.ErrEncryptedKey):
		return "decrypt the key file, or use a key in ssh-agent or hardware"
	case errors.Is(err, crypto.ErrNoKey):
		return "give the data identity with -i FILE, or keys.identities in the configuration"
	case errors.Is(err, crypto.ErrUnknownSigner):
		return "if the signer is to be trusted, add its public key to allowed_signers"
	case errors.Is(err, archive.ErrNoConditionalWrites):
		return "if only one host ever writes to this store, set single_writer: true"
	case errors.Is(err, archive.ErrNoStore):
		return "sallyport init makes a store"
	case errors.Is(err, archive.ErrNoSnapshot):
		return "sallyport snapshots lists them; SERVICE@latest is the newest"
	case errors.Is(err, durable.ErrLocked):
		return "another run goes on; wait for it"
	case errors.Is(err, fs.ErrPermission):
		return "look at the owner and mode of the file, and at whom you are running as"
	}
	return ""
}
