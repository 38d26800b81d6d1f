package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/dwp/sallyport/crypto"
)

// references looks at what the file refers to. It runs no command and asks no agent.
func (d *decoder) references(c *Config) {
	readable := map[string]bool{}
	for _, p := range d.paths {
		err := openable(string(p.path))
		if err != nil {
			d.fail(d.line(p.key), p.key, "%v", err)
		}
		readable[p.key] = err == nil
	}
	secrets := Secrets{Dir: d.dir}
	for _, s := range d.secrets {
		if err := secrets.Check(s.ref); err != nil {
			d.fail(d.line(s.key), s.key, "%v", err)
		}
	}
	parse := func(key string, p Path, parse func(text []byte, name string) error) {
		if p == "" || !readable[key] {
			return
		}
		text, err := os.ReadFile(string(p))
		if err == nil {
			err = parse(text, string(p))
		}
		if err != nil {
			d.fail(d.line(key), key, "%v", err)
		}
	}
	recipients := func(text []byte, name string) error {
		_, err := crypto.ParseRecipients(text, name)
		return err
	}
	parse("keys.recipients", c.Keys.Recipients, recipients)
	parse("keys.index_recipients", c.Keys.IndexRecipients, recipients)
	parse("keys.keeper_recipients", c.Keys.KeeperRecipients, recipients)
	parse("keys.allowed_signers", c.Keys.AllowedSigners, func(text []byte, name string) error {
		_, err := crypto.ParseAllowedSigners(text, name)
		return err
	})
	parse("ca", c.CA, func(text []byte, name string) error {
		if !x509.NewCertPool().AppendCertsFromPEM(text) {
			return fmt.Errorf("%s holds no certificate in PEM form", name)
		}
		return nil
	})
	for i, p := range c.Keys.Identities {
		parse(fmt.Sprintf("keys.identities[%d]", i), p, func(text []byte, name string) error {
			_, err := crypto.ParseIdentities(text, name)
			return errors.Join(err, private(name))
		})
	}
	if key := c.Keys.SigningKey; !key.InAgent() {
		parse("keys.signing_key", Path(key), func(text []byte, name string) error {
			_, err := crypto.ParseSigner(text)
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			return errors.Join(err, private(name))
		})
	}
}

// openable says why a file cannot be read.
func openable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// private refuses a private key that everyone on this host may read. Its group may:
// that is how Kubernetes hands out secrets.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return &fs.PathError{Op: "use", Path: path, Err: errors.New("everyone on this host may read the private key; chmod o-rwx")}
	}
	return nil
}
