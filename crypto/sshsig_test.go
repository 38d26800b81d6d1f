package crypto

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const space = "sallyport-manifest"

func ed25519Key(t testing.TB) *Signer {
	t.Helper()
	private, _, err := GenerateSigningKey("k")
	if err != nil {
		t.Fatal(err)
	}
	return parseSigner(t, private)
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return privatePEM(t, key)
}

func privatePEM(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "k")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func parseSigner(t testing.TB, text []byte) *Signer {
	t.Helper()
	s, err := ParseSigner(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifier(t testing.TB, lines ...string) *Verifier {
	t.Helper()
	v, err := ParseAllowedSigners([]byte(strings.Join(lines, "\n")), "allowed")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sign(t testing.TB, s *Signer, namespace string, doc []byte) []byte {
	t.Helper()
	sig, err := s.Sign(namespace, doc)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// hardwareSigner does in software what a FIDO key of PROTOCOL.u2f does: it signs the
// hashes of its application and of the data, with flags and a counter between.
func hardwareSigner(t testing.TB, flags byte) *Signer {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := ssh.Marshal(struct{ Type, Key, Application string }{ssh.KeyAlgoSKED25519, string(pub), application})
	return hardwareKey(t, key, flags, func(signed []byte) []byte { return ed25519.Sign(priv, signed) })
}

func hardwareECDSASigner(t testing.TB, flags byte) *Signer {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := priv.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key := ssh.Marshal(struct{ Type, Curve, Key, Application string }{ssh.KeyAlgoSKECDSA256, "nistp256", string(point), application})
	return hardwareKey(t, key, flags, func(signed []byte) []byte {
		digest := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, priv, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return ssh.Marshal(struct{ R, S *big.Int }{r, s})
	})
}

const application = "ssh:sallyport"

func hardwareKey(t testing.TB, wire []byte, flags byte, sign func([]byte) []byte) *Signer {
	t.Helper()
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{key: key, sign: func(data []byte) (*ssh.Signature, error) {
		app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
		state := []byte{flags, 0, 0, 0, 7}
		return &ssh.Signature{Format: key.Type(), Blob: sign(slices.Concat(app[:], state, message[:])), Rest: state}, nil
	}}
}

func TestSignaturesVerifyHereAndWithSSHKeygen(t *testing.T) {
	t.Parallel()
	doc := []byte("{\"format\":1}\n")
	for name, s := range map[string]*Signer{
		"Ed25519":        ed25519Key(t),
		"ECDSA P-256":    parseSigner(t, ecdsaKey(t, elliptic.P256())),
		"hardware":       hardwareSigner(t, 1),
		"hardware ECDSA": hardwareECDSASigner(t, 5),
	} {
		sig := sign(t, s, space, doc)
		line := `alice@example.com namespaces="sallyport-*",valid-after="20200101Z" ` + s.PublicKey() + " comment"
		id, err := verifier(t, line).Verify(space, doc, sig, time.Now())
		if err != nil || id.Principal != "alice@example.com" || id.Key != s.PublicKey() || id.Fingerprint != s.Fingerprint() {
			t.Errorf("%s: Verify = %+v, %v", name, id, err)
		}
		dir := t.TempDir()
		_, err = command(t, doc, "ssh-keygen", "-Y", "verify", "-n", space, "-I", "alice@example.com",
			"-f", write(t, dir, "allowed", []byte(line+"\n")), "-s", write(t, dir, "sig", sig))
		if err != nil {
			t.Errorf("%s: ssh-keygen -Y verify: %v", name, err)
		}
	}
}

func TestSignaturesOfSSHKeygenVerify(t *testing.T) {
	t.Parallel()
	doc := []byte("approve plan\n")
	for _, args := range [][]string{{"ed25519"}, {"ecdsa", "-b", "256"}} {
		dir := t.TempDir()
		key := filepath.Join(dir, "key")
		if _, err := command(t, nil, "ssh-keygen", append([]string{"-q", "-N", "", "-f", key, "-t"}, args...)...); err != nil {
			t.Fatal(err)
		}
		s, err := LoadSigner(key)
		if err != nil {
			t.Fatal(err)
		}
		v := verifier(t, `bob namespaces="sallyport-approval" `+s.PublicKey())
		for _, hash := range []string{"sha512", "sha256"} {
			sig, err := command(t, doc, "ssh-keygen", "-Y", "sign", "-f", key, "-n", "sallyport-approval", "-O", "hashalg="+hash)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := v.Verify("sallyport-approval", doc, sig, time.Now()); err != nil || id.Principal != "bob" {
				t.Errorf("%s %s: Verify = %+v, %v", args[0], hash, id, err)
			}
		}
	}
}

func TestRefusalSaysWhy(t *testing.T) {
	t.Parallel()
	doc := []byte("doc")
	s := ed25519Key(t)
	other := ed25519Key(t)
	v := verifier(t,
		`old namespaces="sallyport-*,!sallyport-plan",valid-before="20200101Z" `+s.PublicKey(),
		`old namespaces="sallyport-verified",valid-after="20300101Z" `+s.PublicKey())
	then := time.Date(2019, 5, 5, 0, 0, 0, 0, time.UTC)
	now := time.Date(2025, 5, 5, 0, 0, 0, 0, time.UTC)
	cut := sign(t, s, space, doc)
	cut = cut[:len(cut)-1]
	for _, tc := range []struct {
		name, namespace string
		doc             string
		sig             []byte
		at              time.Time
		want            error
	}{
		{"good", space, "doc", sign(t, s, space, doc), then, nil},
		{"time not asked", space, "doc", sign(t, s, space, doc), time.Time{}, nil},
		{"last second", space, "doc", sign(t, s, space, doc), time.Date(2020, 1, 1, 0, 0, 0, 5, time.UTC), nil},
		{"expired", space, "doc", sign(t, s, space, doc), time.Date(2020, 1, 1, 0, 0, 1, 0, time.UTC), ErrNotValid},
		{"neither line valid", "sallyport-verified", "doc", sign(t, s, "sallyport-verified", doc), now, ErrNotValid},
		{"second line valid", "sallyport-verified", "doc", sign(t, s, "sallyport-verified", doc), now.AddDate(10, 0, 0), nil},
		{"another document", space, "dog", sign(t, s, space, doc), then, ErrBadSignature},
		{"another namespace signed", space, "doc", sign(t, s, "sallyport-abort", doc), then, ErrWrongNamespace},
		{"namespace excluded", "sallyport-plan", "doc", sign(t, s, "sallyport-plan", doc), then, ErrWrongNamespace},
		{"namespace not granted", "git", "doc", sign(t, s, "git", doc), then, ErrWrongNamespace},
		{"another key", space, "doc", sign(t, other, space, doc), then, ErrUnknownSigner},
		{"cut", space, "doc", cut, then, ErrBadSignature},
		{"empty", space, "doc", nil, then, ErrBadSignature},
	} {
		id, err := v.Verify(tc.namespace, []byte(tc.doc), tc.sig, tc.at)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v; want %v", tc.name, err, tc.want)
		}
		if (err == nil) != (id.Principal == "old") {
			t.Errorf("%s: %v with identity %+v", tc.name, err, id)
		}
	}
}

func TestEveryAlteredByteOfASignatureIsRefused(t *testing.T) {
	t.Parallel()
	doc := []byte("doc")
	s := ed25519Key(t)
	v := verifier(t, `a namespaces="sallyport-*" `+s.PublicKey())
	sig := sign(t, s, space, doc)
	for i := range sig {
		for _, bit := range []byte{1, 2, 4, 0x20, 0x80} {
			altered := bytes.Clone(sig)
			altered[i] ^= bit
			if _, err := v.Verify(space, doc, altered, time.Time{}); err == nil {
				t.Errorf("byte %d ^ %#x: accepted", i, bit)
			}
		}
		if _, err := v.Verify(space, doc, sig[:i], time.Time{}); err == nil {
			t.Errorf("cut at %d: accepted", i)
		}
	}
	for name, altered := range map[string][]byte{
		"CRLF":           bytes.ReplaceAll(sig, []byte("\n"), []byte("\r\n")),
		"trailing line":  append(bytes.Clone(sig), '\n'),
		"leading line":   append([]byte("\n"), sig...),
		"other wrapping": bytes.Replace(sig, []byte("\n"), []byte("\n\n"), 2),
		"twice":          append(bytes.Clone(sig), sig...),
	} {
		if _, err := v.Verify(space, doc, altered, time.Time{}); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v; want ErrBadSignature", name, err)
		}
	}
}

func TestMalformedSignaturesAreRefused(t *testing.T) {
	t.Parallel()
	doc := []byte("doc")
	s := ed25519Key(t)
	good, err := parseSignature(sign(t, s, space, doc))
	if err != nil {
		t.Fatal(err)
	}
	wire := wireSignature{Version: 1, PublicKey: good.key.Marshal(), Namespace: space, Hash: "sha512", Signature: ssh.Marshal(good.sig)}
	rsaLike := ssh.Marshal(struct{ Type, Rest string }{"ssh-rsa", "x"})
	for name, change := range map[string]func(*wireSignature){
		"version":      func(w *wireSignature) { w.Version = 2 },
		"no namespace": func(w *wireSignature) { w.Namespace = "" },
		"reserved":     func(w *wireSignature) { w.Reserved = "x" },
		"SHA-1":        func(w *wireSignature) { w.Hash = "sha1" },
		"key type":     func(w *wireSignature) { w.PublicKey = rsaLike },
		"key cut":      func(w *wireSignature) { w.PublicKey = w.PublicKey[:20] },
		"signature type": func(w *wireSignature) {
			w.Signature = ssh.Marshal(&ssh.Signature{Format: "ssh-rsa", Blob: good.sig.Blob})
		},
		"trailing in signature": func(w *wireSignature) {
			w.Signature = ssh.Marshal(&ssh.Signature{Format: good.sig.Format, Blob: good.sig.Blob, Rest: []byte{0}})
		},
	} {
		w := wire
		change(&w)
		if _, err := parseSignature(armor(append([]byte(sigMagic), ssh.Marshal(w)...))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := parseSignature(armor(append([]byte(sigMagic), append(ssh.Marshal(wire), 0)...))); err == nil {
		t.Error("trailing bytes: accepted")
	}
	if _, err := parseSignature(armor(append([]byte("SSHSIK"), ssh.Marshal(wire)...))); err == nil {
		t.Error("magic: accepted")
	}
}

func TestHardwareSignatureWithoutItsUserIsRefused(t *testing.T) {
	t.Parallel()
	doc := []byte("doc")
	for _, absent := range []*Signer{hardwareSigner(t, 0), hardwareECDSASigner(t, 4)} {
		if _, err := absent.Sign(space, doc); err == nil {
			t.Error("a signature without user presence was returned")
		}
		raw, err := absent.sign(signedBytes(space, "sha512", doc))
		if err != nil {
			t.Fatal(err)
		}
		v := verifier(t, `a namespaces="sallyport-*" `+absent.PublicKey())
		for what, state := range map[string][]byte{
			"as signed":                   raw.Rest,
			"presence claimed afterwards": {1, 0, 0, 0, 7},
			"counter cut":                 {1, 0, 0, 0},
			"counter lengthened":          {1, 0, 0, 0, 7, 0},
			"nothing":                     nil,
		} {
			raw.Rest = state
			armored := (&signature{key: absent.key, namespace: space, hash: "sha512", sig: raw}).armor()
			if _, err := v.Verify(space, doc, armored, time.Time{}); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s, %s: %v; want ErrBadSignature", absent.key.Type(), what, err)
			}
		}
	}
}

func TestOnlyTrustedKeyTypesSign(t *testing.T) {
	t.Parallel()
	if _, err := ParseSigner(ecdsaKey(t, elliptic.P384())); err == nil || !strings.Contains(err.Error(), "nistp384") {
		t.Errorf("ECDSA P-384: %v; want a refusal naming the type", err)
	}
	if _, err := ParseSigner([]byte("CANARY")); err == nil || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("junk: %v", err)
	}
	s := ed25519Key(t)
	if _, err := s.Sign("", nil); err == nil {
		t.Error("signed without a namespace")
	}
	if _, err := LoadSigner(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("loaded a key that is not there")
	}
}

func TestAgentSigns(t *testing.T) {
	t.Parallel()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: priv}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			agent.ServeAgent(ring, conn)
			conn.Close()
		}
	}()
	direct := parseSigner(t, privatePEM(t, priv))
	s, err := agentSigner(socket, direct.Fingerprint())
	if err != nil {
		t.Fatal(err)
	}
	sig := sign(t, s, space, []byte("doc"))
	if _, err := verifier(t, `a namespaces="sallyport-*" `+direct.PublicKey()).Verify(space, []byte("doc"), sig, time.Time{}); err != nil {
		t.Error(err)
	}
	if _, err := agentSigner(socket, "SHA256:absent"); err == nil || !strings.Contains(err.Error(), "not this one") {
		t.Errorf("a key the agent does not hold: %v", err)
	}
	if _, err := agentSigner("", direct.Fingerprint()); err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK") {
		t.Errorf("no agent: %v", err)
	}
	if err := ring.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign(space, []byte("doc")); err == nil {
		t.Error("signed with a key the agent no longer holds")
	}
}

func TestAllowedSignersFile(t *testing.T) {
	t.Parallel()
	s := ed25519Key(t)
	key := s.PublicKey()
	o := ed25519Key(t)
	for _, tc := range []struct{ name, text, want string }{
		{"plain", "# people\n\n\talice  namespaces=\"a,b\" " + key + " a comment # with = things", ""},
		{"case and tabs", "alice\tNameSpaces=\"a\",VALID-after=\"202001021504Z\"\t" + key, ""},
		{"same key, same principal", "alice namespaces=\"a\" " + key + "\nalice namespaces=\"b\" " + key, ""},
		{"two keys of one principal", "alice namespaces=\"a\" " + key + "\nalice namespaces=\"a\" " + o.PublicKey(), ""},
		{"space in namespaces", "alice namespaces=\"a b\" " + key, ""},
		{"empty", "#\n", "f: no allowed signers"},
		{"no namespaces", "#\nalice " + key, "f:2: no namespaces"},
		{"other options only", "alice valid-after=\"20200101Z\" " + key, "f:1: no namespaces"},
		{"principal alone", "alice", "f:1: no namespaces"},
		{"empty namespaces", "alice namespaces=\"\" " + key, `f:1: option "namespaces": empty`},
		{"empty pattern", "alice namespaces=\"a,,b\" " + key, `f:1: option "namespaces": empty`},
		{"not quoted", "alice namespaces=a,valid-after=\"20200101Z\" " + key, `f:1: option "namespaces": want a value in quotes`},
		{"quote left open", "alice namespaces=\"a " + key, "f:1: missing end quote"},
		{"text after quote", "alice namespaces=\"a\"b " + key, `f:1: option "namespaces": unexpected text`},
		{"trailing comma", "alice namespaces=\"a\", " + key, `f:1: unknown option ""`},
		{"twice", "alice namespaces=\"a\",namespaces=\"b\" " + key, `f:1: option "namespaces" twice`},
		{"unknown", "alice namespaces=\"a\",verify-required " + key, `f:1: unknown option "verify-required"`},
		{"CA", "alice cert-authority,namespaces=\"a\" " + key, "f:1: cert-authority"},
		{"local time", "alice namespaces=\"a\",valid-after=\"20200101\" " + key, `f:1: option "valid-after": want`},
		{"no such day", "alice namespaces=\"a\",valid-after=\"20200230Z\" " + key, `f:1: option "valid-after": malformed`},
		{"epoch", "alice namespaces=\"a\",valid-before=\"19700101Z\" " + key, `f:1: option "valid-before": malformed`},
		{"odd time", "alice namespaces=\"a\",valid-after=\"2021010100Z\",valid-before=\"20200101Z\" " + key, `f:1: option "valid-after": malformed`},
		{"wrong order", "alice namespaces=\"a\",valid-after=\"20210101Z\",valid-before=\"20200101Z\" " + key, "f:1: valid-before is not"},
		{"pattern", "*@example.com namespaces=\"a\" " + key, "f:1: principal"},
		{"list", "a,b namespaces=\"a\" " + key, "f:1: principal"},
		{"two people, one key", "alice namespaces=\"a\" " + key + "\nbob namespaces=\"a\" " + key, `f:2: the key of "alice" is also given to "bob"`},
		{"no key", "alice namespaces=\"a\"", "f:1: malformed public key"},
		{"wrong type", "alice namespaces=\"a\" ssh-rsa " + strings.Fields(key)[1], "f:1: key of type ssh-ed25519 called"},
		{"CRLF, which ssh-keygen would read as part of the line", "alice namespaces=\"a\" " + key + "\r\n", "f:1: control characters"},
		{"escape sequence", "alice\x1b[31m namespaces=\"a\" " + key, "f:1: control characters"},
	} {
		v, err := ParseAllowedSigners([]byte(tc.text), "f")
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
			t.Errorf("%s: %v; want %s", tc.name, err, tc.want)
		case err == nil && v.Signers()[0].Fingerprint() != s.Fingerprint():
			t.Errorf("%s: another key", tc.name)
		}
	}
	v := verifier(t, "alice namespaces=\"sallyport-*,!sallyport-plan\" "+key)
	for namespace, want := range map[string]bool{"sallyport-hold": true, "sallyport-plan": false, "git": false} {
		if v.Allows(namespace, key) != want || v.Allows(namespace, o.PublicKey()) {
			t.Errorf("Allows(%q) is not %t for the key and false for another", namespace, want)
		}
	}
	a, err := NewAllowedSigner("alice", "sallyport-*", key+" comment")
	if err != nil || a.String() != `alice namespaces="sallyport-*" `+key {
		t.Errorf("NewAllowedSigner = %q, %v", a, err)
	}
}

// Patterns mean what they mean to ssh-keygen, which is asked.
func TestNamespacePatternsMatchAsInOpenSSH(t *testing.T) {
	t.Parallel()
	doc := []byte("doc")
	s := ed25519Key(t)
	dir := t.TempDir()
	for i, tc := range []struct {
		patterns, namespace string
		want                bool
	}{
		{"sallyport-*", "sallyport-plan", true},
		{"sallyport-*", "sallyport-", true},
		{"sallyport-*", "sallyport", false},
		{"*", "x", true},
		{"a?c,b", "abc", true},
		{"a?c", "ac", false},
		{"*-plan*", "sallyport-plan", true},
		{"*,!sallyport-plan", "sallyport-plan", false},
		{"!sallyport-plan,*", "sallyport-plan", false},
		{"!sallyport-plan", "git", false},
		{"A", "a", false},
		{"*a*b*c", "xxaxxbxxbc", true},
		{"*a*b*c", "xxaxxbxxbcd", false},
	} {
		line := "alice namespaces=\"" + tc.patterns + "\" " + s.PublicKey()
		sig := sign(t, s, tc.namespace, doc)
		_, err := verifier(t, line).Verify(tc.namespace, doc, sig, time.Time{})
		if (err == nil) != tc.want {
			t.Errorf("%s against %s: %v; want %t", tc.namespace, tc.patterns, err, tc.want)
		}
		sub := strconv.Itoa(i)
		_, err = command(t, doc, "ssh-keygen", "-Y", "verify", "-n", tc.namespace, "-I", "alice",
			"-f", write(t, dir, sub+".allowed", []byte(line+"\n")), "-s", write(t, dir, sub+".sig", sig))
		if (err == nil) != tc.want {
			t.Errorf("ssh-keygen: %s against %s: %v; want %t", tc.namespace, tc.patterns, err, tc.want)
		}
	}
}

func FuzzSignature(f *testing.F) {
	s := ed25519Key(f)
	f.Add(sign(f, s, space, []byte("doc")))
	f.Add(sign(f, parseSigner(f, ecdsaKey(f, elliptic.P256())), space, nil))
	f.Add(sign(f, hardwareSigner(f, 1), "x", []byte("doc")))
	f.Add([]byte(armorBegin + armorEnd))
	f.Fuzz(func(t *testing.T, armored []byte) {
		parsed, err := parseSignature(armored)
		if err != nil {
			return
		}
		if got := parsed.armor(); !bytes.Equal(got, armored) {
			t.Errorf("parsed and printed: %q; want %q", got, armored)
		}
		parsed.verify([]byte("doc")) // must not panic
	})
}

func FuzzAllowedSigners(f *testing.F) {
	s := ed25519Key(f)
	f.Add([]byte("# c\nalice namespaces=\"a,!b\",valid-after=\"20200101Z\",valid-before=\"20300101Z\" " + s.PublicKey() + " c\n"))
	f.Add([]byte("alice cert-authority " + s.PublicKey()))
	f.Add([]byte("bob namespaces=\"*\" " + hardwareSigner(f, 1).PublicKey()))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := ParseAllowedSigners(text, "f")
		if err != nil {
			return
		}
		var printed []string
		for _, a := range v.Signers() {
			printed = append(printed, a.String())
		}
		again, err := ParseAllowedSigners([]byte(strings.Join(printed, "\n")), "printed")
		if err != nil {
			t.Fatalf("%q: %v", printed, err)
		}
		for i, a := range again.Signers() {
			if a.String() != printed[i] {
				t.Errorf("printed twice: %q; want %q", a, printed[i])
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	s := ed25519Key(b)
	doc := make([]byte, 10_000)
	for b.Loop() {
		sign(b, s, space, doc)
	}
}

func BenchmarkVerify(b *testing.B) {
	s := ed25519Key(b)
	v := verifier(b, `a namespaces="sallyport-*" `+s.PublicKey())
	doc := make([]byte, 10_000)
	sig := sign(b, s, space, doc)
	for b.Loop() {
		if _, err := v.Verify(space, doc, sig, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	s, _ := keypair(b, false)
	plain := make([]byte, 8<<20)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		if _, err := s.Seal(plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s, o := keypair(b, false)
	plain := make([]byte, 8<<20)
	sealed, err := s.Seal(plain)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		if _, err := o.Open(sealed); err != nil {
			b.Fatal(err)
		}
	}
}
