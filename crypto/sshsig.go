package crypto

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

// The format is that of OpenSSH's PROTOCOL.sshsig. What is accepted is less than what
// it allows: exactly what ssh-keygen prints, so that parsing and printing are inverses
// and one signature has one name.
const (
	armorBegin = "-----BEGIN SSH SIGNATURE-----\n"
	armorEnd   = "-----END SSH SIGNATURE-----\n"
	armorLine  = 70       // characters of base64 in a line
	armorMax   = 64 << 10 // no key or signature comes near; keeps a hostile file small

	sigMagic   = "SSHSIG"
	sigVersion = 1
)

// keyTypes are the signature keys that are trusted to make signatures.
var keyTypes = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256}

// A signature is a parsed SSH signature. Nothing in it was verified.
type signature struct {
	key       ssh.PublicKey
	namespace string
	hash      string // sha256 or sha512
	sig       *ssh.Signature
}

// wireSignature is the signature's outer form, after the magic.
type wireSignature struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// wireSigned is what is signed, after the magic.
type wireSigned struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

// parseSignature is the inverse of signature.armor and accepts nothing else.
func parseSignature(armored []byte) (*signature, error) {
	if len(armored) > armorMax {
		return nil, errors.New("longer than any signature")
	}
	body, ok := bytes.CutPrefix(armored, []byte(armorBegin))
	if !ok {
		return nil, errors.New("not an SSH signature")
	}
	body, ok = bytes.CutSuffix(body, []byte(armorEnd))
	if !ok {
		return nil, errors.New("not an SSH signature, or cut short")
	}
	blob, err := base64.StdEncoding.Strict().AppendDecode(nil, bytes.ReplaceAll(body, []byte("\n"), nil))
	if err != nil {
		return nil, errors.New("malformed base64")
	}
	if !bytes.Equal(armor(blob), armored) {
		return nil, errors.New("armor is not as ssh-keygen writes it")
	}
	return parseSignatureBlob(blob)
}

func parseSignatureBlob(blob []byte) (*signature, error) {
	rest, ok := bytes.CutPrefix(blob, []byte(sigMagic))
	var w wireSignature
	if !ok || ssh.Unmarshal(rest, &w) != nil || !bytes.Equal(ssh.Marshal(w), rest) {
		return nil, errors.New("malformed signature")
	}
	switch {
	case w.Version != sigVersion:
		return nil, fmt.Errorf("signature version %d is not supported", w.Version)
	case w.Namespace == "":
		return nil, errors.New("signature without a namespace")
	case w.Reserved != "":
		return nil, errors.New("signature with reserved data")
	case w.Hash != "sha256" && w.Hash != "sha512":
		return nil, fmt.Errorf("hash algorithm %q is not supported", w.Hash)
	}
	key, err := parsePublicKey(w.PublicKey)
	if err != nil {
		return nil, err
	}
	s := &signature{key: key, namespace: w.Namespace, hash: w.Hash, sig: new(ssh.Signature)}
	if ssh.Unmarshal(w.Signature, s.sig) != nil || !bytes.Equal(ssh.Marshal(s.sig), w.Signature) {
		return nil, errors.New("malformed signature")
	}
	if s.sig.Format != key.Type() {
		return nil, fmt.Errorf("signature of type %q by a key of type %s", s.sig.Format, key.Type())
	}
	// Only hardware keys have something after the signature: flags and a counter
	// (PROTOCOL.u2f), which the key's Verify parses.
	if hardware := key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256; !hardware && len(s.sig.Rest) != 0 {
		return nil, errors.New("malformed signature: trailing bytes")
	}
	return s, nil
}

// parsePublicKey accepts the one encoding of a key of a trusted type.
func parsePublicKey(wire []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		return nil, errors.New("malformed public key")
	}
	if err := checkKeyType(key); err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Marshal(), wire) {
		return nil, errors.New("public key is not in its canonical encoding")
	}
	return key, nil
}

func checkKeyType(key ssh.PublicKey) error {
	if slices.Contains(keyTypes, key.Type()) {
		return nil
	}
	return fmt.Errorf("keys of type %s do not sign here; want Ed25519 or ECDSA P-256, or their sk- forms", key.Type())
}

// armor is the inverse of parseSignature.
func (s *signature) armor() []byte {
	return armor(append([]byte(sigMagic), ssh.Marshal(wireSignature{
		Version:   sigVersion,
		PublicKey: s.key.Marshal(),
		Namespace: s.namespace,
		Hash:      s.hash,
		Signature: ssh.Marshal(s.sig),
	})...))
}

func armor(blob []byte) []byte {
	text := base64.StdEncoding.EncodeToString(blob)
	out := make([]byte, 0, len(armorBegin)+len(text)+len(text)/armorLine+1+len(armorEnd))
	out = append(out, armorBegin...)
	for len(text) > 0 {
		n := min(armorLine, len(text))
		out = append(out, text[:n]...)
		out = append(out, '\n')
		text = text[n:]
	}
	return append(out, armorEnd...)
}

// verify reports whether the signature is the key's own over doc. It says nothing on
// whether the key may be trusted. Hardware keys must have seen their user.
func (s *signature) verify(doc []byte) error {
	return s.key.Verify(signedBytes(s.namespace, s.hash, doc), s.sig)
}

// signedBytes is what a key signs instead of doc itself.
func signedBytes(namespace, hash string, doc []byte) []byte {
	var digest []byte
	if hash == "sha256" {
		d := sha256.Sum256(doc)
		digest = d[:]
	} else {
		d := sha512.Sum512(doc)
		digest = d[:]
	}
	return append([]byte(sigMagic), ssh.Marshal(wireSigned{Namespace: namespace, Hash: hash, Digest: digest})...)
}
