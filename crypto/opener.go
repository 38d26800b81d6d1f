package crypto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"
)

var (
	// ErrNoKey says that none of the identities at hand opens a file.
	ErrNoKey = errors.New("no identity opens this")

	// ErrEncryptedKey says that a private key file is itself encrypted, and so of no
	// use to a program that cannot ask for its passphrase.
	ErrEncryptedKey = errors.New("the key file is encrypted with a passphrase")
)

// An Opener decrypts with a fixed list of age identities and can do nothing else. It
// is immutable and safe for concurrent use.
type Opener struct {
	with []identity
}

// An identity is a private key and, where it can be told without asking anyone, the
// text form of its public key.
type identity struct {
	recipient string
	age       age.Identity
}

// ParseIdentities reads an age identity file (one private key or plug-in identity a
// line, empty lines and lines beginning with # left out) or one OpenSSH private key.
// Errors name the file as name, and the line, and never contain what stands there.
// An encrypted file or key fails with [ErrEncryptedKey].
func ParseIdentities(text []byte, name string) (*Opener, error) {
	switch {
	case bytes.HasPrefix(text, []byte("age-encryption.org/")), bytes.HasPrefix(text, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		return nil, fmt.Errorf("%s: %w; decrypt it with age -d first", name, ErrEncryptedKey)
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		id, err := parseSSHIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return &Opener{with: []identity{id}}, nil
	}
	o := new(Opener)
	for n, line := range lines(text, " \t\r\n") {
		id, err := parseIdentity(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		o.with = append(o.with, id)
	}
	if len(o.with) == 0 {
		return nil, fmt.Errorf("%s: no identities", name)
	}
	return o, nil
}

func parseIdentity(text string) (identity, error) {
	switch {
	case strings.HasPrefix(text, "AGE-SECRET-KEY-1"):
		id, err := age.ParseX25519Identity(text)
		if err != nil {
			return identity{}, errors.New("malformed identity")
		}
		return identity{id.Recipient().String(), id}, nil
	case strings.HasPrefix(text, "AGE-SECRET-KEY-PQ-1"):
		id, err := age.ParseHybridIdentity(text)
		if err != nil {
			return identity{}, errors.New("malformed post-quantum identity")
		}
		return identity{id.Recipient().String(), id}, nil
	case strings.HasPrefix(text, "AGE-PLUGIN-"):
		id, err := plugin.NewIdentity(text, terminal())
		if err != nil {
			return identity{}, errors.New("malformed plug-in identity")
		}
		return identity{"", id}, nil
	case strings.HasPrefix(text, "age1"), strings.HasPrefix(text, "ssh-"):
		return identity{}, errors.New("this is a public key; give the private key, which begins with AGE-SECRET-KEY-")
	}
	return identity{}, errors.New("unknown kind of identity")
}

func parseSSHIdentity(text []byte) (identity, error) {
	private, err := ssh.ParsePrivateKey(text)
	if missing := new(ssh.PassphraseMissingError); errors.As(err, &missing) {
		return identity{}, fmt.Errorf("%w; remove it with ssh-keygen -p", ErrEncryptedKey)
	} else if err != nil {
		return identity{}, errors.New("malformed SSH private key")
	}
	id, err := agessh.ParseIdentity(text)
	if err != nil {
		return identity{}, fmt.Errorf("SSH key of type %s cannot decrypt", private.PublicKey().Type())
	}
	return identity{authorized(private.PublicKey()), id}, nil
}

// Recipients returns the public keys of the identities, in order, without those of
// plug-ins, which only the plug-in could tell.
func (o *Opener) Recipients() []string {
	var out []string
	for _, id := range o.with {
		if id.recipient != "" {
			out = append(out, id.recipient)
		}
	}
	return out
}

// Join returns an Opener with the identities of both; other may be nil.
func (o *Opener) Join(other *Opener) *Opener {
	j := &Opener{with: slices.Clone(o.with)}
	if other != nil {
		j.with = append(j.with, other.with...)
	}
	return j
}

// Decrypt reads the binary age file r. It fails with [ErrNoKey] if no identity opens
// it. What the reader returns is authentic but perhaps not all: only io.EOF says that
// the file was whole, and nothing may be relied on before.
func (o *Opener) Decrypt(r io.Reader) (io.Reader, error) {
	plain, err := age.Decrypt(r, o.identities()...)
	if err != nil {
		return nil, openError(err)
	}
	return plain, nil
}

// DecryptAt gives random access to the plaintext of a binary age file of size bytes,
// and the plaintext's own size, which is authenticated before DecryptAt returns. The
// reader is safe for concurrent use if r is. Bytes that were never asked for were
// never checked.
func (o *Opener) DecryptAt(r io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
	plain, n, err := age.DecryptReaderAt(r, size, o.identities()...)
	if err != nil {
		return nil, 0, openError(err)
	}
	return plain, n, nil
}

// Open returns the plaintext of a binary age file, all of it or an error. It fails
// with [ErrNoKey] if no identity opens it.
func (o *Opener) Open(sealed []byte) ([]byte, error) {
	r, err := o.Decrypt(bytes.NewReader(sealed))
	if err != nil {
		return nil, err
	}
	plain := bytes.NewBuffer(make([]byte, 0, len(sealed)+bytes.MinRead))
	if _, err := plain.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return plain.Bytes(), nil
}

func (o *Opener) identities() []age.Identity {
	ids := make([]age.Identity, len(o.with))
	for i, id := range o.with {
		ids[i] = id.age
	}
	return ids
}

func openError(err error) error {
	var none *age.NoIdentityMatchError
	if !errors.As(err, &none) {
		return fmt.Errorf("decrypt: %w", err)
	}
	if slices.Contains(none.StanzaTypes, "scrypt") {
		return fmt.Errorf("decrypt: %w: it was encrypted with a passphrase: %w", ErrNoKey, err)
	}
	return fmt.Errorf("decrypt: %w: %w", ErrNoKey, err)
}
