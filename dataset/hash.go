package dataset

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Hash is a SHA-256 digest. Its text form is 64 lower-case hex digits and nothing
// else is accepted.
type Hash [sha256.Size]byte

// Sum returns the SHA-256 of b.
func Sum(b []byte) Hash { return sha256.Sum256(b) }

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h was never set. JSON encoders use it for omitzero.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText implements [encoding.TextMarshaler].
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts only what
// MarshalText writes, and leaves h alone on error.
func (h *Hash) UnmarshalText(b []byte) error { return parseHex(h[:], b, "hash") }

// parseHex sets dst from its lower-case hex digits, or leaves it alone.
func parseHex(dst, text []byte, what string) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(dst) || hex.EncodeToString(b) != string(text) {
		return fmt.Errorf("malformed %s", what)
	}
	copy(dst, b)
	return nil
}

// ParseHash returns the hash whose text form is s.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := h.UnmarshalText([]byte(s))
	return h, err
}

// An ID names a thing uniquely for ever: 26 lower-case base32 characters of 130
// random bits.
type ID string

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewID returns a fresh ID.
func NewID() ID {
	var b [17]byte
	rand.Read(b[:]) // never fails
	return ID(strings.ToLower(idEncoding.EncodeToString(b[:]))[:26])
}
