package rest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
)

// Object identifiers of RFC 8018.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}

	pseudorandom = map[string]func() hash.Hash{
		"":                    sha1.New, // the default of PBKDF2
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New,
	}
	keyLengths = map[string]int{ // of AES in CBC mode
		"2.16.840.1.101.3.4.1.2":  16,
		"2.16.840.1.101.3.4.1.22": 24,
		"2.16.840.1.101.3.4.1.42": 32,
	}
)

// An encryptedKey is EncryptedPrivateKeyInfo of RFC 5958, section 3, as PBES2 makes it.
type encryptedKey struct {
	Algorithm struct {
		Scheme     asn1.ObjectIdentifier
		Parameters struct {
			Derivation struct {
				Function   asn1.ObjectIdentifier
				Parameters struct {
					Salt       []byte
					Iterations int
					Length     int                      `asn1:"optional"`
					PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
				}
			}
			Encryption struct {
				Cipher asn1.ObjectIdentifier
				IV     []byte
			}
		}
	}
	Data []byte
}

// maxIterations bounds the work that a key can ask for.
const maxIterations = 2_000_000

// errPassphrase says that a key does not open, and not whether key or passphrase is to blame:
// that cannot be told.
var errPassphrase = errors.New("the passphrase does not open the private key")

// decryptedKey opens an encrypted private key in PEM (PKCS #8, PBES2 with PBKDF2 and
// AES-CBC, which is what openssl writes) and returns it in PEM.
func decryptedKey(text, passphrase string) (string, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return "", errors.New("the secret key is no PEM")
	}
	if block.Type != "ENCRYPTED PRIVATE KEY" {
		return "", fmt.Errorf("there is a passphrase, and the secret key is %s; openssl pkcs8 -topk8 makes an ENCRYPTED PRIVATE KEY of others", block.Type)
	}
	var k encryptedKey
	if rest, err := asn1.Unmarshal(block.Bytes, &k); err != nil || len(rest) > 0 {
		return "", errors.New("the private key is not encrypted by PBES2 with PBKDF2 and AES-CBC")
	}
	p := k.Algorithm.Parameters
	prf := pseudorandom[p.Derivation.Parameters.PRF.Algorithm.String()]
	length := keyLengths[p.Encryption.Cipher.String()]
	n := p.Derivation.Parameters.Iterations
	switch {
	case !k.Algorithm.Scheme.Equal(oidPBES2) || !p.Derivation.Function.Equal(oidPBKDF2) || prf == nil || length == 0 || len(p.Encryption.IV) != aes.BlockSize:
		return "", errors.New("the private key is not encrypted by PBES2 with PBKDF2 and AES-CBC")
	case n < 1 || n > maxIterations:
		return "", fmt.Errorf("the private key wants %d iterations", n)
	case len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0:
		return "", errPassphrase
	}
	key, err := pbkdf2.Key(prf, passphrase, p.Derivation.Parameters.Salt, n, length)
	if err != nil {
		return "", err
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	plain := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(c, p.Encryption.IV).CryptBlocks(plain, k.Data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return "", errPassphrase
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return "", errPassphrase
		}
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain[:len(plain)-pad]})), nil
}
