package rest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dwp/sallyport/exporters/rest/jinja"
)

// jwtAuth signs a JSON Web Token (RFC 7519) and uses it for half of its life.
type jwtAuth struct {
	fixed
	key, passphrase  *expr
	encodeKey        bool
	alg              string
	lifetime         int64
	prefix           *expr
	headers, payload *template // of registered names
	moreHeaders      *template
	morePayload      *template
	option           *requestOption

	mu      sync.Mutex
	current string
	until   time.Time
}

func (n node) jwt() authenticator {
	a := &jwtAuth{key: n.expr("secret_key"), encodeKey: n.flag("base64_encode_secret_key", false), alg: n.d.Text("algorithm"), lifetime: 1200, prefix: n.expr("header_prefix"),
		passphrase: n.expr("passphrase")}
	if t, ok := jinja.Int(n.value("token_duration")); ok {
		a.lifetime = t
	}
	for name, into := range map[string]**template{"jwt_headers": &a.headers, "jwt_payload": &a.payload, "additional_jwt_headers": &a.moreHeaders, "additional_jwt_payload": &a.morePayload} {
		if v := n.value(name); v != nil {
			*into = n.template(name, v)
		}
	}
	if a.alg == "ES256K" {
		n.problem("algorithm", "ES256K is not supported")
	}
	if o, ok := n.child("request_option"); ok {
		a.option = o.requestOption()
	}
	return a
}

func (a *jwtAuth) options(ctx context.Context, v *view, s scope) (options, error) {
	o := newOptions()
	token, err := a.token(v, s)
	if err != nil {
		return o, fmt.Errorf("sign a token: %w", err)
	}
	if a.option != nil {
		return o, a.option.inject(s, o, token)
	}
	prefix, err := s.textOr(a.prefix, "")
	if err != nil {
		return o, err
	}
	if prefix != "" {
		token = prefix + " " + token
	}
	o.headers.Set("Authorization", token)
	return o, nil
}

// token makes and signs a token.
func (a *jwtAuth) token(v *view, s scope) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current != "" && v.now().Before(a.until) {
		return a.current, nil
	}
	now := v.now().Unix()
	header, err := claims(s, jinja.NewDict("alg", a.alg, "typ", "JWT"), a.headers, a.moreHeaders)
	if err != nil {
		return "", err
	}
	payload, err := claims(s, jinja.NewDict("iat", now, "exp", now+a.lifetime, "nbf", now), a.payload, a.morePayload)
	if err != nil {
		return "", err
	}
	key, err := s.text(a.key)
	if err != nil {
		return "", fmt.Errorf("secret_key: %w", err)
	}
	v.secrets.add(key)
	if a.passphrase != nil {
		passphrase, err := s.text(a.passphrase)
		if err != nil {
			return "", fmt.Errorf("passphrase: %w", err)
		}
		if v.secrets.add(passphrase); passphrase != "" {
			if key, err = decryptedKey(key, passphrase); err != nil {
				return "", err
			}
		}
	}
	if a.encodeKey {
		key = base64.StdEncoding.EncodeToString([]byte(key))
	}
	text := header + "." + payload
	sig, err := sign(a.alg, key, []byte(text))
	if err != nil {
		return "", err
	}
	token := text + "." + base64.RawURLEncoding.EncodeToString(sig)
	v.secrets.add(token)
	a.current, a.until = token, v.now().Add(time.Duration(a.lifetime)*time.Second/2)
	return token, nil
}

// claims evaluates and encodes one part of a token.
func claims(s scope, d *jinja.Dict, more ...*template) (string, error) {
	for _, t := range more {
		if t == nil {
			continue
		}
		v, err := s.tree(t, nil, true)
		if err != nil {
			return "", err
		}
		if v, ok := v.(*jinja.Dict); ok {
			for i := range v.Len() {
				k, x := v.At(i)
				d.Set(k, x)
			}
		}
	}
	b, err := jinja.AppendJSON(nil, d)
	return base64.RawURLEncoding.EncodeToString(b), err
}

// sign signs text by an algorithm of RFC 7518 or RFC 8037.
func sign(alg, key string, text []byte) ([]byte, error) {
	if len(alg) < 5 {
		return nil, fmt.Errorf("algorithm %q is not supported", alg)
	}
	if alg == "EdDSA" {
		k, err := privateKey(key)
		ed, ok := k.(ed25519.PrivateKey)
		if err != nil || !ok {
			return nil, errors.New("the secret key is no Ed25519 private key in PEM")
		}
		return ed25519.Sign(ed, text), nil
	}
	hash, ok := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	if !ok {
		return nil, fmt.Errorf("algorithm %q is not supported", alg)
	}
	if alg[:2] == "HS" {
		m := hmac.New(hash.New, []byte(key))
		m.Write(text)
		return m.Sum(nil), nil
	}
	k, err := privateKey(key)
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(text)
	digest := h.Sum(nil)
	switch k := k.(type) {
	case *rsa.PrivateKey:
		if alg[:2] == "RS" {
			return rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
		}
		if alg[:2] == "PS" {
			return rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	case *ecdsa.PrivateKey:
		if alg[:2] == "ES" {
			r, s, err := ecdsa.Sign(rand.Reader, k, digest)
			if err != nil {
				return nil, err
			}
			size := (k.Curve.Params().BitSize + 7) / 8
			out := make([]byte, 2*size)
			r.FillBytes(out[:size])
			s.FillBytes(out[size:])
			return out, nil
		}
	}
	return nil, fmt.Errorf("the secret key does not fit algorithm %s", alg)
}

func privateKey(text string) (any, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the secret key is no PEM")
	}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	return nil, errors.New("the secret key is no private key that we can read")
}
