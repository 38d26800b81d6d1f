package crypto

import (
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
	Principal   string `json:"principal"`   // as in the allowed_signers file
	Key         string `json:"key"`         // in the form of authorized_keys, without a comment
	Fingerprint string `json:"fingerprint"` // SHA256:...
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
	who, refusal := v.allowed(namespace, authorized(sig.key), at)
	if errors.Is(refusal, ErrUnknownSigner) {
		return Identity{}, refusal
	}
	if err := sig.verify(doc); err != nil {
		return Identity{}, fmt.Errorf("%w: by key %s: %w", ErrBadSignature, ssh.FingerprintSHA256(sig.key), err)
	}
	return who, refusal
}

// MaySign says whether a signature by a key, in the form of authorized_keys and without a
// comment, would be accepted under namespace for what is dated at; the zero time leaves
// that unchecked. A refusal wraps [ErrUnknownSigner], [ErrWrongNamespace] or
// [ErrNotValid]. Whoever signs asks first: what nobody believes is better not written.
func (v *Verifier) MaySign(namespace, key string, at time.Time) error {
	_, err := v.allowed(namespace, key, at)
	return err
}

// allowed returns whose key may sign.
func (v *Verifier) allowed(namespace, key string, at time.Time) (Identity, error) {
	var refusal error
	for _, s := range v.signers {
		if s.Key() != key {
			continue
		}
		if !matchList(namespace, s.Namespaces) {
			if refusal == nil {
				refusal = fmt.Errorf("%w: key %s of %s may not sign for %q", ErrWrongNamespace, s.Fingerprint(), s.Principal, namespace)
			}
			continue
		}
		if err := s.validAt(at); err != nil {
			refusal = fmt.Errorf("%w: key %s of %s: %w", ErrNotValid, s.Fingerprint(), s.Principal, err)
			continue
		}
		return Identity{Principal: s.Principal, Key: key, Fingerprint: s.Fingerprint()}, nil
	}
	if refusal == nil {
		refusal = fmt.Errorf("%w: key %s is not in the allowed signers", ErrUnknownSigner, fingerprintOf(key))
	}
	return Identity{}, refusal
}

// fingerprintOf is the fingerprint of a key in the form of authorized_keys.
func fingerprintOf(key string) string {
	k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	if err != nil {
		return "that is malformed"
	}
	return ssh.FingerprintSHA256(k)
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
