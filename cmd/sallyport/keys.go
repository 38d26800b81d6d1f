package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/internal/config"
	"github.com/urfave/cli/v2"
)

func keysCommand() command {
	return command{
		name: "keys", summary: "make, list and test keys",
		group: []command{keysGenerateCommand(), keysListCommand(), keysTestCommand(), keysRotateCommand()},
	}
}

func keysGenerateCommand() command {
	return command{
		name: "generate", summary: "make a private key, and print its public half", args: "identity|signer FILE", min: 2, max: 2,
		detail: "An identity is an age key: whoever holds it reads what is encrypted to its recipient.\n" +
			"A signer is an SSH key; its public half goes to FILE.pub too.\n" +
			"Neither file has a passphrase, so that timers can use it; guard it with the host, or use\n" +
			"ssh-agent, a hardware key or an age plug-in instead.",
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "post-quantum", Usage: "make an identity of the hybrid that age 1.3 and later read"},
			&cli.StringFlag{Name: "comment", Usage: "write `TEXT` into a signer's public half"},
		},
		run: func(_ context.Context, i *invocation) error {
			kind, path := i.arg(0), i.arg(1)
			private, public, err := generate(kind, i.c.Bool("post-quantum"), i.c.String("comment"))
			if err != nil {
				return err
			}
			if err := createFile(path, private, 0o600); err != nil {
				return err
			}
			if kind == "signer" {
				if err := createFile(path+".pub", []byte(public+"\n"), 0o644); err != nil {
					return err
				}
			}
			i.result = map[string]string{"kind": kind, "file": path, "public": public}
			i.printf("%s\n", public)
			return nil
		},
	}
}

func generate(kind string, postQuantum bool, comment string) (private []byte, public string, err error) {
	switch {
	case kind == "identity" && comment != "":
		return nil, "", usage("", "--comment is for signers")
	case kind == "identity":
		private, public, err = crypto.GenerateIdentity(postQuantum)
	case kind == "signer" && postQuantum:
		return nil, "", usage("", "--post-quantum is for identities; OpenSSH has no such signatures yet")
	case kind == "signer":
		private, public, err = crypto.GenerateSigningKey(comment)
	default:
		return nil, "", usage("", "keys are of kind identity or signer, not %q", kind)
	}
	if err != nil {
		return nil, "", fmt.Errorf("make %s: %w", kind, err)
	}
	return private, strings.TrimSpace(public), nil
}

// createFile writes a new file, and never over one that is there.
func createFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return usage("move it away first, if it is not needed", "%s exists", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func keysListCommand() command {
	return command{
		name: "list", summary: "list the keys that the configuration names, by their public halves",
		uses: []flagGroup{configFlags},
		run: func(_ context.Context, i *invocation) error {
			c, err := i.loadConfig(config.Options{})
			if err != nil {
				return err
			}
			keys, err := listKeys(c)
			if err != nil {
				return err
			}
			i.result = keys
			var rows [][]string
			for _, k := range keys {
				rows = append(rows, []string{k.Use, k.Key, k.Detail, k.File})
			}
			i.table([]string{"use", "key", "detail", "file"}, rows)
			return nil
		},
	}
}

// A keyLine is one key of the configuration.
type keyLine struct {
	Use    string `json:"use"` // the key of the configuration that names it
	Key    string `json:"key"` // recipient or fingerprint; never private
	Detail string `json:"detail,omitempty"`
	File   string `json:"file"`
}

func listKeys(c *config.Config) ([]keyLine, error) {
	var keys []keyLine
	for _, r := range []struct {
		use  string
		path config.Path
	}{
		{"recipients", c.Keys.Recipients},
		{"index_recipients", c.Keys.IndexRecipients},
		{"keeper_recipients", c.Keys.KeeperRecipients},
	} {
		if r.path == "" {
			continue
		}
		s, err := readRecipients(r.use, string(r.path))
		if err != nil {
			return nil, err
		}
		for _, key := range s.Recipients() {
			keys = append(keys, keyLine{Use: r.use, Key: key, File: string(r.path)})
		}
	}
	for _, path := range c.Keys.Identities {
		o, err := readIdentities(string(path))
		if err != nil {
			return nil, err
		}
		public := o.Recipients()
		if len(public) == 0 {
			keys = append(keys, keyLine{Use: "identities", Key: "(only its plug-in can tell)", File: string(path)})
		}
		for _, key := range public {
			keys = append(keys, keyLine{Use: "identities", Key: key, File: string(path)})
		}
	}
	return signingKeys(c, keys)
}

// signingKeys adds the signing key and the allowed signers.
func signingKeys(c *config.Config, keys []keyLine) ([]keyLine, error) {
	signer, err := loadSigner(string(c.Keys.SigningKey))
	if err != nil {
		return nil, err
	}
	keys = append(keys, keyLine{Use: "signing_key", Key: signer.Fingerprint(), File: string(c.Keys.SigningKey)})
	path := string(c.Keys.AllowedSigners)
	v, err := readSigners(path)
	if err != nil {
		return nil, err
	}
	for _, s := range v.Signers() {
		detail := s.Principal + ": " + strings.ReplaceAll(strings.ReplaceAll(s.Namespaces, "sallyport-", ""), ",", " ")
		if !s.ValidBefore.IsZero() {
			detail += ", until " + s.ValidBefore.UTC().Format("2006-01-02")
		}
		keys = append(keys, keyLine{Use: "allowed_signers", Key: s.Fingerprint(), Detail: detail, File: path})
	}
	return keys, nil
}
