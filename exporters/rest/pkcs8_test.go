package rest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

// The same key thrice, of no use but here, as openssl pkcs8 -topk8 wrote it. Its public half
// is publicKey.
const (
	keyPassphrase = "hunter2-pass"
	publicKey     = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExBYkG8p8/NPnHbwf3W2pXEWhq0SCZXpZZkbaNpRN+voSbkEh/RdPGKmViDvIITBazVHnqr6lCIWlLKGUVlemuw=="
)

var encryptedKeys = map[string]string{
	"AES-256, SHA-256": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgOV2Lu06/z/AICA+gw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELANVwQZ0XEknLhAoGvmoXIEgZC/
h6fYsf/MQNQGoXZWrGC5VNAwMbn20oSpa+0TFK2YTbES2uE9DXXB/d6toF7FQcmK
5iJLwKesC0HbLY1mYbgZH6Nc64OyrEFcIKte6HLu8mshrmW5n9ksZLq9AK88JlCp
O7AH1jGU5zo3lskxPZ42mZtv9SmapjWY7kVmB3TM0jo1cywA9+MDixUpeJZjB/8=
-----END ENCRYPTED PRIVATE KEY-----
`,
	"AES-128, SHA-1": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHeMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAglmrrbfB0LIwICA+gw
HQYJYIZIAWUDBAECBBAm06HwrG2o25PYWLo22jQoBIGQLLaaJU93NVQznlCXKMe7
s1dnULikSyU4X5s6ittxx4KwdITgvdQs9ZXEvuBidOvMIFHmySbDgBnd1L/KHrOa
+8+rqNBwqSc1qa3ToZfdZ4H5N3JPN2UqtMWClsXecOeG+68sH/B4x56jZ5w9vJMl
1GP0QWSSY6823sNSNTlhIYdM1MKedr/JhAoqIJ9P3i4E
-----END ENCRYPTED PRIVATE KEY-----
`,
}

// tripleDES is the key by a scheme that is not supported.
const tripleDES = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGxMBwGCiqGSIb3DQEMAQMwDgQIsto83jWrvXQCAgPoBIGQbbO9l+aoTizHakKb
Rb7MwEwybe6pSgsrUeSMCr2HAICkPY25kRblYXhvbwrTkrGB5fp7N1+9OThBLVsw
UF7aPamQfisZRkDgnssSjnZ8S7PSD45uTmiJSaUjh/wU28ErCSQctisORZLBzceb
pdG3TQo1oMfN9+mYwfwNjxLCa1vn6dKTkPGZmxKAbK2LEJ4f
-----END ENCRYPTED PRIVATE KEY-----
`

func TestEncryptedKeysOpenWithTheirPassphraseAlone(t *testing.T) {
	t.Parallel()
	for name, text := range encryptedKeys {
		plain, err := decryptedKey(text, keyPassphrase)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		k, err := privateKey(plain)
		ec, ok := k.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			t.Fatalf("%s: %T, %v", name, k, err)
		}
		der, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
		if got := base64.StdEncoding.EncodeToString(der); err != nil || got != publicKey {
			t.Errorf("%s: public half %s, %v", name, got, err)
		}
		if _, err := decryptedKey(text, "wrong"); !errors.Is(err, errPassphrase) {
			t.Errorf("%s with another passphrase: %v", name, err)
		}
		block, _ := pem.Decode([]byte(text))
		for cut := range block.Bytes {
			short := string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:cut]}))
			if _, err := decryptedKey(short, keyPassphrase); err == nil {
				t.Errorf("%s: %d bytes of it opened", name, cut)
			}
		}
	}
	plain, err := decryptedKey(encryptedKeys["AES-256, SHA-256"], keyPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{{tripleDES, "PBES2"}, {plain, "topk8"}, {"no pem", "no PEM"}} {
		if _, err := decryptedKey(c.text, keyPassphrase); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want an error with %q", err, c.want)
		}
	}
}

// FuzzDecryptedKey: no key panics or takes long.
func FuzzDecryptedKey(f *testing.F) {
	for _, text := range encryptedKeys {
		block, _ := pem.Decode([]byte(text))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}))
		if plain, err := decryptedKey(text, keyPassphrase); err == nil && plain == "" {
			t.Error("nothing, and no error")
		}
	})
}
