package main

import (
	"errors"
	"os"
	"strings"

	"github.com/dwp/sallyport/crypto"
)

// What is wrong with a file of keys that somebody named is wrong usage, or a wrong
// configuration. One that is encrypted with a passphrase is a key that cannot be used.
func keyFile(what string, err error) error {
	if err == nil || errors.Is(err, crypto.ErrEncryptedKey) {
		return err
	}
	return usage("", "%s: %w", what, err)
}

// readRecipients reads a file of age public keys; what says which, for errors.
func readRecipients(what, path string) (*crypto.Sealer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, keyFile(what, err)
	}
	s, err := crypto.ParseRecipients(text, path)
	return s, keyFile(what, err)
}

// readIdentities reads a file of age private keys.
func readIdentities(path string) (*crypto.Opener, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, keyFile("identity", err)
	}
	o, err := crypto.ParseIdentities(text, path)
	return o, keyFile("identity", err)
}

// readSigners reads a file of allowed signers.
func readSigners(path string) (*crypto.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, keyFile("allowed signers", err)
	}
	v, err := crypto.ParseAllowedSigners(text, path)
	return v, keyFile("allowed signers", err)
}

// loadSigner opens an SSH private key that somebody named: a file, or one of the agent,
// which may be there in a moment.
func loadSigner(ref string) (*crypto.Signer, error) {
	k, err := crypto.LoadSigner(ref)
	if err != nil && !strings.HasPrefix(ref, "agent:") && !errors.Is(err, crypto.ErrEncryptedKey) {
		err = &exitError{code: exitUsage, err: err}
	}
	return k, err
}
