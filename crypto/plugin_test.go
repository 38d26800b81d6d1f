package crypto

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

// TestMain lets the test binary be a plug-in when it is called by a plug-in's name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "age-plugin-sallytest" {
		os.Exit(testPlugin())
	}
	os.Exit(m.Run())
}

// testPlugin wraps X25519 keys: what its encodings hold is a native key as text.
func testPlugin() int {
	p, err := plugin.New("sallytest")
	if err != nil {
		return 1
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) { return age.ParseX25519Recipient(string(data)) })
	p.HandleIdentity(func(data []byte) (age.Identity, error) { return age.ParseX25519Identity(string(data)) })
	return p.Main()
}

// It changes PATH, so it is not parallel.
func TestPluginKeysSealAndOpen(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "age-plugin-sallytest")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	file, native, err := GenerateIdentity(false)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Split(string(file), "\n")[1]
	s, err := NewSealer(plugin.EncodeRecipient("sallytest", []byte(native)))
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseIdentities([]byte(plugin.EncodeIdentity("sallytest", []byte(secret))), "key")
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Recipients(); len(got) != 0 {
		t.Errorf("Recipients = %q; only the plug-in could tell", got)
	}
	k, err := NewRunKey(false)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.SealTo(s)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := OpenRunKey(o, sealed, k.ID())
	if err != nil {
		t.Fatal(err)
	}
	if got := inner.Recipients(); len(got) != 1 || got[0] != k.Recipient {
		t.Errorf("Recipients = %q; want the run key", got)
	}
}
