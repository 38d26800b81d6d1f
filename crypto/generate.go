package crypto

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// GenerateIdentity makes an age key: the text of an identity file, which is secret,
// and its recipient. postQuantum asks for the hybrid that age 1.3 and later read.
func GenerateIdentity(postQuantum bool) (file []byte, recipient string, err error) {
	k, err := NewRunKey(postQuantum)
	if err != nil {
		return nil, "", fmt.Errorf("generate identity: %w", err)
	}
	return fmt.Appendf(nil, "# public key: %s\n%s\n", k.Recipient, k.secret), k.Recipient, nil
}

// GenerateSigningKey makes an Ed25519 key as ssh-keygen does: the text of an
// unencrypted OpenSSH private key file, which is secret, and the line of its .pub
// file. The comment may be empty and must be one line.
func GenerateSigningKey(comment string) (private []byte, public string, err error) {
	if strings.ContainsAny(comment, "\r\n") {
		return nil, "", fmt.Errorf("generate signing key: comment %q is not one line", comment)
	}
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("generate signing key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, comment)
	if err != nil {
		return nil, "", fmt.Errorf("generate signing key: %w", err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, "", fmt.Errorf("generate signing key: %w", err)
	}
	public = authorized(key)
	if comment != "" {
		public += " " + comment
	}
	return pem.EncodeToMemory(block), public + "\n", nil
}
