package crypto

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"
)

// tool returns the path of a program that proves that others read what we write. Its
// absence is a failure: without it the promise of no lock-in is not tested.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed (Debian packages age and openssh-client): %v", name, err)
	}
	return path
}

// command runs a program with stdin and returns what it printed and its error.
func command(t testing.TB, stdin []byte, name string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Logf("%s %s: %v: %s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, err
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keypair returns a Sealer and the Opener of the same new key.
func keypair(t testing.TB, postQuantum bool) (*Sealer, *Opener) {
	t.Helper()
	file, recipient, err := GenerateIdentity(postQuantum)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSealer(recipient)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseIdentities(file, "key")
	if err != nil {
		t.Fatal(err)
	}
	return s, o
}

func TestSealedBytesOpenWithEveryRecipientAndNoOther(t *testing.T) {
	t.Parallel()
	for _, pq := range []bool{false, true} {
		s1, o1 := keypair(t, pq)
		s2, o2 := keypair(t, pq)
		_, stranger := keypair(t, pq)
		plain := bytes.Repeat([]byte("record "), 30_000)
		sealed, err := s1.Join(s2).Join(s1).Seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []*Opener{o1, o2, stranger.Join(o2)} {
			if got, err := o.Open(sealed); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("Open = %d bytes, %v; want the plaintext", len(got), err)
			}
		}
		if _, err := stranger.Open(sealed); !errors.Is(err, ErrNoKey) || !errors.Is(err, age.ErrIncorrectIdentity) {
			t.Errorf("Open by a stranger: %v; want ErrNoKey", err)
		}
		at, n, err := o2.DecryptAt(bytes.NewReader(sealed), int64(len(sealed)))
		if err != nil || n != int64(len(plain)) {
			t.Fatalf("DecryptAt = %d, %v; want %d bytes", n, err, len(plain))
		}
		part := make([]byte, 1000)
		if _, err := at.ReadAt(part, 100_001); err != nil || !bytes.Equal(part, plain[100_001:101_001]) {
			t.Errorf("ReadAt: %v", err)
		}
		if _, _, err := stranger.DecryptAt(bytes.NewReader(sealed), int64(len(sealed))); !errors.Is(err, ErrNoKey) {
			t.Errorf("DecryptAt by a stranger: %v; want ErrNoKey", err)
		}
	}
}

func TestDamagedFileNeverOpens(t *testing.T) {
	t.Parallel()
	s, o := keypair(t, false)
	sealed, err := s.Seal([]byte("one record"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		if _, err := o.Open(sealed[:i]); err == nil {
			t.Errorf("cut at %d: opened", i)
		}
		flipped := bytes.Clone(sealed)
		flipped[i] ^= 1
		if _, err := o.Open(flipped); err == nil {
			t.Errorf("bit flipped at %d: opened", i)
		}
	}
	if _, err := o.Open(append(bytes.Clone(sealed), 0)); err == nil {
		t.Error("trailing byte: opened")
	}
	r, err := o.Decrypt(io.MultiReader(bytes.NewReader(sealed[:len(sealed)-1]), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if err == nil {
		t.Error("a failing source was read to a clean end")
	}
}

func TestRecipientsFile(t *testing.T) {
	t.Parallel()
	_, x1, _ := GenerateIdentity(false)
	_, x2, _ := GenerateIdentity(false)
	_, pq, _ := GenerateIdentity(true)
	_, sshKey, _ := GenerateSigningKey("someone")
	sshKey = strings.TrimSpace(sshKey)
	secret, _, _ := GenerateIdentity(false)
	plug := plugin.EncodeRecipient("yubikey", make([]byte, 33))
	for _, tc := range []struct{ name, text, want string }{
		{"comments and blank lines", "# backup keys\n\n" + x1 + "\r\n  " + x2 + "\n", ""},
		{"post-quantum", pq, ""},
		{"SSH", sshKey + "\n" + x1, ""},
		{"plug-in", plug + "\n" + x1, ""},
		{"empty", "# nothing\n", "keys.txt: no recipients"},
		{"junk", x1 + "\nhello\n", "keys.txt:2: unknown kind"},
		{"cut", x1[:40], "keys.txt:1: malformed"},
		{"twice", x1 + "\n" + x2 + "\n" + x1, "keys.txt:3: the same recipient twice"},
		{"private key", "\n\n" + strings.Split(string(secret), "\n")[1], "keys.txt:3: this is a private key"},
		{"mixed strength", pq + "\n" + x1, "keys.txt:2: a post-quantum recipient cannot stand"},
		{"DSA", "ssh-dss AAAA", "keys.txt:1: malformed SSH"},
	} {
		s, err := ParseRecipients([]byte(tc.text), "keys.txt")
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
			t.Errorf("%s: %v; want %s", tc.name, err, tc.want)
		case err != nil && strings.Contains(err.Error(), "AGE-SECRET"):
			t.Errorf("%s: the error shows the key: %v", tc.name, err)
		case err == nil && s.Recipients()[0] != strings.TrimSuffix(firstKey(tc.text), " someone"):
			t.Errorf("%s: Recipients = %q", tc.name, s.Recipients())
		}
	}
}

func firstKey(text string) string {
	for _, line := range lines([]byte(text), " \t\r\n") {
		return line
	}
	return ""
}

func TestJoiningUnequalStrengthFailsToEncrypt(t *testing.T) {
	t.Parallel()
	pq, _ := keypair(t, true)
	x, _ := keypair(t, false)
	if _, err := pq.Join(x).Seal(nil); err == nil {
		t.Error("sealed to a post-quantum key and to another")
	}
	if _, err := new(Sealer).Seal(nil); err == nil {
		t.Error("sealed to no one")
	}
}

func TestMissingPluginIsNamed(t *testing.T) {
	t.Parallel()
	s, err := NewSealer(plugin.EncodeRecipient("absent", make([]byte, 33)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal(nil); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("Seal: %v; want an error naming the plug-in", err)
	}
}

func TestIdentityFile(t *testing.T) {
	t.Parallel()
	file, recipient, err := GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := GenerateSigningKey("k")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		text []byte
		want string
	}{
		{file, recipient},
		{private, strings.TrimSuffix(public, " k\n")},
	} {
		o, err := ParseIdentities(tc.text, "key")
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Recipients(); len(got) != 1 || got[0] != tc.want {
			t.Errorf("Recipients = %q; want %q", got, tc.want)
		}
		s, err := NewSealer(o.Recipients()...)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := s.Seal([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := o.Open(sealed); err != nil || string(got) != "x" {
			t.Errorf("Open = %q, %v", got, err)
		}
	}
	for text, want := range map[string]string{
		"":                                    "key: no identities",
		"age-encryption.org/v1\n-> scrypt":    "key: the key file is encrypted with a passphrase; decrypt",
		"-----BEGIN AGE ENCRYPTED FILE-----":  "key: the key file is encrypted with a passphrase; decrypt",
		"-----BEGIN OPENSSH PRIVATE KEY-----": "key: malformed SSH private key",
		"# x\n" + recipient:                   "key:2: this is a public key",
		"AGE-SECRET-KEY-1CANARY":              "key:1: malformed identity",
		"AGE-PLUGIN-CANARY":                   "key:1: malformed plug-in identity",
		"CANARY":                              "key:1: unknown kind of identity",
	} {
		_, err := ParseIdentities([]byte(text), "key")
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%.20q: %v; want %s", text, err, want)
		}
	}
}

func TestEncryptedSSHKeyIsRefusedClearly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := command(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseIdentities(text, "key"); !errors.Is(err, ErrEncryptedKey) {
		t.Errorf("ParseIdentities: %v; want ErrEncryptedKey", err)
	}
	if _, err := LoadSigner(path); !errors.Is(err, ErrEncryptedKey) {
		t.Errorf("LoadSigner: %v; want ErrEncryptedKey", err)
	}
}

func TestStockAgeReadsWhatWeSealAndWeReadWhatItSeals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, recipient, err := GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	key := write(t, dir, "key", file)
	s, err := NewSealer(recipient)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseIdentities(file, "key")
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("0123456789"), 20_000)
	sealed, err := s.Seal(plain)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := command(t, sealed, "age", "-d", "-i", key); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("age -d gave %d bytes, %v", len(got), err)
	}
	theirs, err := command(t, plain, "age", "-r", recipient)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := o.Open(theirs); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Open gave %d bytes, %v", len(got), err)
	}
}

func TestRunKeyOpensPacksWithStockAge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, recipient, err := GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	managed, err := NewSealer(recipient)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewRunKey(false)
	if err != nil {
		t.Fatal(err)
	}
	sealedKey, err := k.SealTo(managed)
	if err != nil {
		t.Fatal(err)
	}
	k.Forget()
	pack, err := k.Sealer().Seal([]byte("pack"))
	if err != nil {
		t.Fatal(err)
	}
	run, err := command(t, sealedKey, "age", "-d", "-i", write(t, dir, "managed.key", file))
	if err != nil {
		t.Fatal(err)
	}
	got, err := command(t, pack, "age", "-d", "-i", write(t, dir, "run.key", run))
	if err != nil || string(got) != "pack" {
		t.Errorf("age -d = %q, %v; want the pack", got, err)
	}
}

func TestRunKeyIsForgottenAndItsIDChecked(t *testing.T) {
	t.Parallel()
	managed, opener := keypair(t, false)
	for _, pq := range []bool{false, true} {
		k, err := NewRunKey(pq)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := k.SealTo(managed)
		if err != nil {
			t.Fatal(err)
		}
		k.Forget()
		if _, err := k.SealTo(managed); err == nil {
			t.Error("a forgotten key was sealed")
		}
		inner, err := OpenRunKey(opener, sealed, k.ID())
		if err != nil {
			t.Fatal(err)
		}
		if got := inner.Recipients(); len(got) != 1 || RecipientID(got[0]) != k.ID() {
			t.Errorf("Recipients = %q; want %q", got, k.Recipient)
		}
		if _, err := OpenRunKey(opener, sealed, RecipientID("age1other")); err == nil || !strings.Contains(err.Error(), "the sealed file holds key") {
			t.Errorf("OpenRunKey under another id: %v", err)
		}
		if _, err := OpenRunKey(inner, sealed, k.ID()); !errors.Is(err, ErrNoKey) {
			t.Errorf("OpenRunKey with the wrong identity: %v; want ErrNoKey", err)
		}
	}
	two, err := managed.Seal([]byte(strings.Repeat("AGE-PLUGIN-X-1", 3)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRunKey(opener, two, KeyID{}); err == nil {
		t.Error("a sealed file without a run key was opened as one")
	}
}

func TestGeneratedSigningKeyIsReadByOpenSSH(t *testing.T) {
	t.Parallel()
	private, public, err := GenerateSigningKey("exporter at host")
	if err != nil {
		t.Fatal(err)
	}
	got, err := command(t, nil, "ssh-keygen", "-y", "-f", write(t, t.TempDir(), "key", private))
	if err != nil || string(got) != public {
		t.Errorf("ssh-keygen -y = %q, %v; want %q", got, err, public)
	}
	if _, _, err := GenerateSigningKey("a\nb"); err == nil {
		t.Error("a comment of two lines was accepted")
	}
	if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public)); err != nil {
		t.Error(err)
	}
}
