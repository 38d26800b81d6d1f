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

// A Sealer encrypts to a fixed list of age recipients and can do nothing else. It is
// immutable and safe for concurrent use.
type Sealer struct {
	to []recipient
}

// A recipient is a public key and its text form without a comment.
type recipient struct {
	text string
	age  age.Recipient
}

// ParseRecipients reads an age recipients file: one public key a line, empty lines
// and lines beginning with # left out. Keys are X25519 (age1...), post-quantum hybrid
// (age1pq1...), of a plug-in (age1NAME1...), ssh-ed25519 or ssh-rsa. Errors name the
// file as name, and the line. A file without a key, a key given twice, and a
// post-quantum key beside one that is not are errors: the last would take from the
// first what it is there for.
func ParseRecipients(text []byte, name string) (*Sealer, error) {
	s := new(Sealer)
	for n, line := range lines(text, " \t\r\n") {
		r, err := parseRecipient(line)
		if err == nil {
			err = s.add(r)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	if len(s.to) == 0 {
		return nil, fmt.Errorf("%s: no recipients", name)
	}
	return s, nil
}

// NewSealer returns a Sealer for recipients in the forms that [ParseRecipients] takes.
func NewSealer(recipients ...string) (*Sealer, error) {
	s := new(Sealer)
	for _, text := range recipients {
		r, err := parseRecipient(text)
		if err == nil {
			err = s.add(r)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(s.to) == 0 {
		return nil, errors.New("no recipients")
	}
	return s, nil
}

func (s *Sealer) add(r recipient) error {
	if slices.ContainsFunc(s.to, func(o recipient) bool { return o.text == r.text }) {
		return errors.New("the same recipient twice")
	}
	for _, o := range s.to {
		if a, b := quantumSafe(o), quantumSafe(r); a != b && !isPlugin(o) && !isPlugin(r) {
			return errors.New("a post-quantum recipient cannot stand beside one that is not")
		}
	}
	s.to = append(s.to, r)
	return nil
}

func quantumSafe(r recipient) bool {
	_, ok := r.age.(*age.HybridRecipient)
	return ok
}

// isPlugin reports whether only a plug-in knows what r is made of. age asks it, and
// refuses a bad mixture, when encrypting.
func isPlugin(r recipient) bool {
	_, ok := r.age.(*plugin.Recipient)
	return ok
}

// parseRecipient never puts text into an error: it may be a private key in the wrong
// file.
func parseRecipient(text string) (recipient, error) {
	switch {
	case strings.HasPrefix(text, "age1pq1"):
		r, err := age.ParseHybridRecipient(text)
		if err != nil {
			return recipient{}, errors.New("malformed post-quantum recipient")
		}
		return recipient{r.String(), r}, nil
	case strings.HasPrefix(text, "age1") && strings.Count(text, "1") > 1:
		r, err := plugin.NewRecipient(text, terminal())
		if err != nil {
			return recipient{}, errors.New("malformed plug-in recipient")
		}
		return recipient{r.String(), r}, nil
	case strings.HasPrefix(text, "age1"):
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return recipient{}, errors.New("malformed recipient")
		}
		return recipient{r.String(), r}, nil
	case strings.HasPrefix(text, "ssh-"):
		return parseSSHRecipient(text)
	case strings.HasPrefix(text, "AGE-"):
		return recipient{}, errors.New("this is a private key; give the public key, which begins with age1")
	}
	return recipient{}, errors.New("unknown kind of recipient; want age1..., ssh-ed25519 or ssh-rsa")
}

func parseSSHRecipient(text string) (recipient, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) != 0 || len(rest) != 0 {
		return recipient{}, errors.New("malformed SSH public key")
	}
	plain := authorized(key)
	r, err := agessh.ParseRecipient(plain)
	if err != nil {
		return recipient{}, fmt.Errorf("SSH key of type %s cannot be encrypted to", key.Type())
	}
	return recipient{plain, r}, nil
}

// authorized is the authorized_keys form of a public key, without comment or newline.
func authorized(key ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(key)), "\n")
}

// Recipients returns the public keys in the order they were given, without comments.
func (s *Sealer) Recipients() []string {
	var out []string
	for _, r := range s.to {
		out = append(out, r.text)
	}
	return out
}

// Join returns a Sealer for the recipients of both, each once; other may be nil. If a
// post-quantum recipient comes to stand beside one that is not, encrypting fails.
func (s *Sealer) Join(other *Sealer) *Sealer {
	j := &Sealer{to: slices.Clone(s.to)}
	if other == nil {
		return j
	}
	for _, r := range other.to {
		if !slices.ContainsFunc(j.to, func(o recipient) bool { return o.text == r.text }) {
			j.to = append(j.to, r)
		}
	}
	return j
}

// Encrypt returns a writer that encrypts to w as one binary age file. The file is
// whole only when Close has returned nil; Close does not close w.
func (s *Sealer) Encrypt(w io.Writer) (io.WriteCloser, error) {
	to := make([]age.Recipient, len(s.to))
	for i, r := range s.to {
		to[i] = r.age
	}
	wc, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return wc, nil
}

// Seal returns plain as one binary age file.
func (s *Sealer) Seal(plain []byte) ([]byte, error) {
	// Header, nonce and a tag for each chunk of 64 KiB; growing once costs a copy.
	out := bytes.NewBuffer(make([]byte, 0, len(plain)+len(plain)/(64<<10)*16+512+256*len(s.to)))
	w, err := s.Encrypt(out)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out.Bytes(), nil
}
