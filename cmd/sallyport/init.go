package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/internal/config"
	"github.com/urfave/cli/v2"
)

func initCommand() command {
	return command{
		name: "init", summary: "write a first configuration with its keys, and make the store", args: "[DIRECTORY]", max: 1,
		detail: "In a DIRECTORY (default: the present one) without " + config.FileName + ", init writes one, makes keys\n" +
			"for a host that does everything, and makes the store. Where there is one already, init makes\n" +
			"the store that it names. With --roles it writes a directory for each of the three hosts that\n" +
			"should do the work instead, and one for the recovery key, and leaves the store to the keeper.",
		flags: []cli.Flag{
			&cli.StringFlag{Name: "store", Aliases: []string{"s"}, Value: "archive", TakesFile: true,
				Usage: "the archive: a `DIRECTORY` or s3://bucket/prefix?endpoint=URL&region=NAME"},
			&cli.BoolFlag{Name: "roles", Usage: "write configurations, keys, S3 policies and allowed signers for exporter, verifier and keeper"},
			&cli.BoolFlag{Name: "post-quantum", Usage: "make identities of the hybrid that age 1.3 and later read"},
		},
		run: runInit,
	}
}

func runInit(ctx context.Context, i *invocation) error {
	to := i.arg(0)
	if to == "" {
		to = "."
	}
	store, err := i.storeFlag(to)
	if err != nil {
		return err
	}
	if i.c.Bool("roles") {
		return i.initRoles(to, store)
	}
	file := filepath.Join(to, config.FileName)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := i.initHost(to, store); err != nil {
			return err
		}
	} else if err != nil {
		return err
	} else if i.c.IsSet("store") {
		return usage("leave --store out to make the store that it names", "%s exists", file)
	}
	if i.config, err = config.Load(file, config.Options{Kinds: kinds()}); err != nil {
		return err
	}
	return i.initStore(ctx)
}

// storeFlag returns --store, checked before anything is written, as the configuration in
// the directory dir has to name it.
func (i *invocation) storeFlag(dir string) (config.Location, error) {
	l, err := parseStore(i.c.String("store"))
	if err != nil {
		return "", err
	}
	if l.Scheme() == "" && i.c.IsSet("store") && filepath.Clean(dir) != "." && !i.c.Bool("roles") {
		abs, err := filepath.Abs(string(l))
		return config.Location(abs), err
	}
	return l, nil
}

// initStore makes the store of the configuration.
func (i *invocation) initStore(ctx context.Context) error {
	signer, err := i.signer()
	if err != nil {
		return err
	}
	st, closeStore, err := i.openStore(ctx, i.config.Store, true)
	if err != nil {
		return err
	}
	defer closeStore()
	if err := i.probe(ctx, st); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	id, err := archive.Init(ctx, st, signer, time.Now())
	if errors.Is(err, fs.ErrExist) {
		return usage("", "%s is a store already", i.config.Store)
	}
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	i.result = map[string]string{"config": i.config.File(), "store": string(i.config.Store), "store_id": string(id)}
	i.printf("store %s made at %s\n", id, i.config.Store)
	return nil
}

// Who may sign what. Approvers are people and sign with keys of their own.
var (
	exporterSigns = []string{"intent", "keys", "manifest", "checkpoint"}
	verifierSigns = []string{"keys", "verified", "certificate", "plan", "erasure", "checkpoint"}
	keeperSigns   = []string{"store", "abort", "expiry", "hold", "release", "ledger", "deletion", "checkpoint"}
)

// signerLine is a line of allowed_signers.
func signerLine(principal, public string, signs []string) (string, error) {
	names := make([]string, len(signs))
	for i, s := range signs {
		names[i] = "sallyport-" + s
	}
	a, err := crypto.NewAllowedSigner(principal, strings.Join(names, ","), public)
	if err != nil {
		return "", err
	}
	return a.String() + "\n", nil
}

const approversNote = "\n# People who approve deletions, each with a key of their own:\n" +
	`# alex namespaces="sallyport-approval,sallyport-hold,sallyport-release" ssh-ed25519 AAAA...` + "\n"

// initHost writes the configuration and keys of one host that does everything.
func (i *invocation) initHost(dir string, store config.Location) error {
	identity, recipient, err := generate("identity", i.c.Bool("post-quantum"), "")
	if err != nil {
		return err
	}
	private, public, err := generate("signer", false, "")
	if err != nil {
		return err
	}
	var seen []string
	var all []string
	for _, list := range [][]string{exporterSigns, verifierSigns, keeperSigns} {
		all = append(all, list...)
	}
	for _, s := range all {
		if !slices.Contains(seen, s) {
			seen = append(seen, s)
		}
	}
	line, err := signerLine("host", public, seen)
	if err != nil {
		return err
	}
	err = writeFiles(dir, []newFile{
		{"keys/identity.age", string(identity), 0o600},
		{"keys/recipients.txt", "# Whoever holds one of these identities can read the archive.\n" + recipient + "\n", 0o644},
		{"keys/signer", string(private), 0o600},
		{"keys/signer.pub", public + "\n", 0o644},
		{"keys/allowed_signers", line + approversNote, 0o644},
		{config.FileName, hostConfig(store, i.c.Bool("post-quantum")), 0o644},
	})
	if err != nil {
		return err
	}
	i.printf("%s\n", filepath.Join(dir, config.FileName))
	i.note("keys/identity.age opens the archive; keep a copy of it away from this host and away from the archive")
	return nil
}

// A newFile is a file to write, its name relative.
type newFile struct {
	name, text string
	mode       fs.FileMode
}

// writeFiles writes files under dir, none of which may exist.
func writeFiles(dir string, files []newFile) error {
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if _, err := os.Lstat(name); err == nil {
			return usage("move it away first, if it is not needed", "%s exists", name)
		}
	}
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := createFile(name, []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	return nil
}
