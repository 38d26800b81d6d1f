package crypto

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// A Signer makes SSH signatures and can do nothing else. It is safe for concurrent
// use. It holds no connection: one to an agent lasts as long as one signature.
type Signer struct {
	key  ssh.PublicKey
	sign func(data []byte) (*ssh.Signature, error)
}

// LoadSigner returns the signer that ref names: the path of an OpenSSH private key
// file, or agent:SHA256:..., the fingerprint of a key that the agent at SSH_AUTH_SOCK
// holds. Keys on FIDO2 and PIV hardware sign through the agent. An encrypted file
// fails with [ErrEncryptedKey].
func LoadSigner(ref string) (*Signer, error) {
	if fingerprint, ok := strings.CutPrefix(ref, "agent:"); ok {
		return agentSigner(os.Getenv("SSH_AUTH_SOCK"), fingerprint)
	}
	text, err := os.ReadFile(ref)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	s, err := ParseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", ref, err)
	}
	return s, nil
}

// ParseSigner returns the signer of an unencrypted Ed25519 or ECDSA P-256 private key,
// given as the text of its file. An encrypted one fails with [ErrEncryptedKey].
func ParseSigner(text []byte) (*Signer, error) {
	private, err := ssh.ParsePrivateKey(text)
	if missing := new(ssh.PassphraseMissingError); errors.As(err, &missing) {
		return nil, fmt.Errorf("%w; load it into ssh-agent and name it agent:SHA256:...", ErrEncryptedKey)
	} else if err != nil {
		// The parser's own words may quote the file.
		return nil, errors.New("not a private key that can be used from a file; hardware keys are named agent:SHA256:...")
	}
	if err := checkKeyType(private.PublicKey()); err != nil {
		return nil, err
	}
	return &Signer{
		key:  private.PublicKey(),
		sign: func(data []byte) (*ssh.Signature, error) { return private.Sign(rand.Reader, data) },
	}, nil
}

func agentSigner(socket, fingerprint string) (*Signer, error) {
	key, err := agentKey(socket, fingerprint)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", fingerprint, err)
	}
	if err := checkKeyType(key); err != nil {
		return nil, fmt.Errorf("signing key %s: %w", fingerprint, err)
	}
	return &Signer{key: key, sign: func(data []byte) (*ssh.Signature, error) {
		conn, err := dialAgent(socket)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		// No deadline: the agent may be waiting for a finger on a key.
		return agent.NewClient(conn).Sign(key, data)
	}}, nil
}

// agentKey asks the agent for the key of a fingerprint.
func agentKey(socket, fingerprint string) (ssh.PublicKey, error) {
	conn, err := dialAgent(socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	for _, k := range keys {
		if ssh.FingerprintSHA256(k) == fingerprint {
			return ssh.ParsePublicKey(k.Blob)
		}
	}
	return nil, fmt.Errorf("ssh-agent holds %d keys and not this one", len(keys))
}

func dialAgent(socket string) (net.Conn, error) {
	if socket == "" {
		return nil, errors.New("ssh-agent: SSH_AUTH_SOCK is not set")
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	return conn, nil
}

// Sign returns the signature of doc under a namespace, armored as ssh-keygen -Y sign
// does it, with SHA-512. It is verified before it is returned.
func (s *Signer) Sign(namespace string, doc []byte) (armored []byte, err error) {
	if namespace == "" {
		return nil, errors.New("sign: no namespace")
	}
	raw, err := s.sign(signedBytes(namespace, "sha512", doc))
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", s.Fingerprint(), err)
	}
	armored = (&signature{key: s.key, namespace: namespace, hash: "sha512", sig: raw}).armor()
	// An agent is another program; what it returned must be what a verifier accepts.
	parsed, err := parseSignature(armored)
	if err == nil {
		err = parsed.verify(doc)
	}
	if err != nil {
		return nil, fmt.Errorf("sign with %s: the key made a bad signature: %w", s.Fingerprint(), err)
	}
	return armored, nil
}

// PublicKey returns the key in the form of authorized_keys, without a comment.
func (s *Signer) PublicKey() string { return authorized(s.key) }

// Fingerprint returns the key's SHA256:... fingerprint, as ssh-keygen -l prints it.
func (s *Signer) Fingerprint() string { return ssh.FingerprintSHA256(s.key) }
