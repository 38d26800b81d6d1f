package crypto

import (
	"errors"
	"fmt"

	"filippo.io/age"

	"github.com/dwp/sallyport/dataset"
)

// A KeyID names a run key: the SHA-256 of its recipient, as ASCII text.
type KeyID = dataset.Hash

// RecipientID returns the id of the key whose public half is recipient.
func RecipientID(recipient string) KeyID { return dataset.Sum([]byte(recipient)) }

// A RunKey is an age identity that one run makes for itself. It is sealed to the
// managed recipients and forgotten; the run goes on with the public half alone, so
// the exporting host cannot read what it wrote. A RunKey is not safe for concurrent
// use.
type RunKey struct {
	// Recipient is the public half. It may be published.
	Recipient string

	secret fmt.Stringer // prints the private half; nil once forgotten
}

// NewRunKey makes a key: X25519, or the post-quantum hybrid that age 1.3 and later
// read.
func NewRunKey(postQuantum bool) (*RunKey, error) {
	if postQuantum {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return nil, fmt.Errorf("make run key: %w", err)
		}
		return &RunKey{Recipient: id.Recipient().String(), secret: id}, nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make run key: %w", err)
	}
	return &RunKey{Recipient: id.Recipient().String(), secret: id}, nil
}

// ID returns the name of the key.
func (k *RunKey) ID() KeyID { return RecipientID(k.Recipient) }

// Sealer returns a Sealer to this key alone. It holds nothing secret and outlives
// Forget.
func (k *RunKey) Sealer() *Sealer {
	s, err := NewSealer(k.Recipient)
	if err != nil {
		// Cannot happen to a key of NewRunKey; one put together by hand seals to no one,
		// and says so when it is used.
		return new(Sealer)
	}
	return s
}

// SealTo returns the private half, sealed: a binary age file whose plaintext is an age
// identity file of one line, so that stock age opens packs with it:
//
//	age -d -i managed.key X.age > run.key
//	age -d -i run.key PACK
//
// It fails after Forget.
func (k *RunKey) SealTo(s *Sealer) ([]byte, error) {
	if k.secret == nil {
		return nil, errors.New("seal run key: it was forgotten already")
	}
	sealed, err := s.Seal([]byte(k.secret.String() + "\n"))
	if err != nil {
		return nil, fmt.Errorf("seal run key: %w", err)
	}
	return sealed, nil
}

// Forget drops the private half. The garbage collector decides when its memory is
// used again; nothing reachable from k leads to it any more.
func (k *RunKey) Forget() { k.secret = nil }

// OpenRunKey opens what [RunKey.SealTo] wrote and returns an Opener with that key
// alone. It fails if the key inside is not the one named want: whoever can write to
// the store could have put another there.
func OpenRunKey(o *Opener, sealed []byte, want KeyID) (*Opener, error) {
	text, err := o.Open(sealed)
	if err != nil {
		return nil, fmt.Errorf("run key %s: %w", want, err)
	}
	inner, err := ParseIdentities(text, "run key "+want.String())
	if err != nil {
		return nil, err
	}
	if len(inner.with) != 1 || inner.with[0].recipient == "" {
		return nil, fmt.Errorf("run key %s: want one native identity", want)
	}
	if got := RecipientID(inner.with[0].recipient); got != want {
		return nil, fmt.Errorf("run key %s: the sealed file holds key %s", want, got)
	}
	return inner, nil
}
