package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"
)

// Why a signature is not obeyed.
var (
	// ErrUnknownSigner says that the signing key is not in the allowed_signers file.
	ErrUnknownSigner = errors.New("unknown signer")

	// ErrWrongNamespace says that the signature is for another kind of document, or
	// that its key may not sign this kind.
	ErrWrongNamespace = errors.New("wrong namespace")

	// ErrBadSignature says that the signature is malformed, or not of these bytes.
	ErrBadSignature = errors.New("bad signature")

	// ErrNotValid says that the key was not yet, or no longer, valid at the time.
	ErrNotValid = errors.New("signing key is not valid at this time")
)

// An Identity says who made a signature.
type Identity struct {
	Principal   string // as in the allowed_signers file
	Key         string // in the form of authorized_keys, without a comment
	Fingerprint string // SHA256:...
}

// A Verifier checks SSH signatures against an allowed_signers file and can do nothing
// else. It is immutable and safe for concurrent use.
type Verifier struct {
	signers []AllowedSigner
}

// Verify checks that armored is a signature of doc under namespace by an allowed key,
// and says by whose. The key must be valid at the time at; the zero time leaves that
// unchecked. A refusal wraps [ErrUnknownSigner], [ErrWrongNamespace],
// [ErrBadSignature] or [ErrNotValid].
func (v *Verifier) Verify(namespace string, doc, armored []byte, at time.Time) (Identity, error) {
	sig, err := parseSignature(armored)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	if sig.namespace != namespace {
		return Identity{}, fmt.Errorf("%w: signed for %q; want %q", ErrWrongNamespace, sig.namespace, namespace)
	}
	fingerprint := ssh.FingerprintSHA256(sig.key)
	var mine []AllowedSigner
	for _, s := range v.signers {
		if bytes.Equal(s.key.Marshal(), sig.key.Marshal()) {
			mine = append(mine, s)
		}
	}
	if len(mine) == 0 {
		return Identity{}, fmt.Errorf("%w: key %s is not in the allowed signers", ErrUnknownSigner, fingerprint)
	}
	if err := sig.verify(doc); err != nil {
		return Identity{}, fmt.Errorf("%w: by key %s: %w", ErrBadSignature, fingerprint, err)
	}
	refusal := fmt.Errorf("%w: key %s of %s may not sign for %q", ErrWrongNamespace, fingerprint, mine[0].Principal, namespace)
	for _, s := range mine {
		if !matchList(namespace, s.Namespaces) {
			continue
		}
		if err := s.validAt(at); err != nil {
			refusal = fmt.Errorf("%w: key %s of %s: %w", ErrNotValid, fingerprint, s.Principal, err)
			continue
		}
		return Identity{Principal: s.Principal, Key: authorized(s.key), Fingerprint: fingerprint}, nil
	}
	return Identity{}, refusal
}

// Allows reports whether a key, in the form of authorized_keys and without a comment,
// may sign under namespace at some time.
func (v *Verifier) Allows(namespace, key string) bool {
	for _, s := range v.signers {
		if s.Key() == key && matchList(namespace, s.Namespaces) {
			return true
		}
	}
	return false
}

// Signers returns the lines of the allowed_signers file, in order.
func (v *Verifier) Signers() []AllowedSigner { return append([]AllowedSigner(nil), v.signers...) }
