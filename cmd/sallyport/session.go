package main

import (
	"context"
	"encoding/json"
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
	"github.com/dwp/sallyport/internal/durable"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

// A session is an opened archive and what a command needs to work on it. It comes from
// the configuration, or from flags alone.
type session struct {
	*invocation
	store   archive.Store
	archive *archive.Archive
	state   string
	bag     bool // the store is the payload of a bundle, and is not written to
	closers []func() error
}

func identityFlags() []cli.Flag {
	return []cli.Flag{&cli.StringSliceFlag{Name: "identity", Aliases: []string{"i"}, TakesFile: true, Usage: "open with the age identities in `FILE`"}}
}

func writerFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "recipients", Aliases: []string{"R"}, TakesFile: true, Usage: "encrypt to the age public keys in `FILE`"},
		&cli.StringSliceFlag{Name: "recipient", Usage: "encrypt to the age public key `KEY`"},
		&cli.StringFlag{Name: "signing-key", TakesFile: true, Usage: "sign with the SSH private key `FILE`, or agent:SHA256:..."},
	}
}

// openSession opens the archive of a command that needs nothing else first.
func (i *invocation) openSession(ctx context.Context) (*session, error) {
	s, err := i.newSession()
	if err != nil {
		return nil, err
	}
	return s, s.openArchive(ctx, false)
}

// newSession reads the configuration, if there is one, and opens nothing.
func (i *invocation) newSession() (*session, error) {
	s := &session{invocation: i}
	return s, s.load()
}

// openArchive opens the archive. With create, a place that is no store yet becomes one
// where there is no configuration that says otherwise. After an error nothing is open.
func (s *session) openArchive(ctx context.Context, create bool) error {
	at, err := s.storeLocation()
	if err != nil {
		return err
	}
	store, closer, err := s.openStore(ctx, at, create)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, closer)
	if s.bag = insideBag(at); s.bag {
		store = bagStore{store}
	}
	if s.store, err = crashing(store); err != nil {
		return errors.Join(err, s.close())
	}
	trust, err := s.trust()
	if err != nil {
		return errors.Join(err, s.close())
	}
	s.archive, err = archive.Open(ctx, s.store, trust)
	if errors.Is(err, archive.ErrNoStore) && create {
		s.archive, err = s.initStore(ctx, trust)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("store %s: %w", at, err), s.close())
	}
	return nil
}

// storeLocation returns --store, or the store of the configuration.
func (s *session) storeLocation() (config.Location, error) {
	if flag := s.c.String("store"); flag != "" {
		return parseStore(flag)
	}
	if s.config == nil {
		return "", usage("--store DIRECTORY names one; sallyport init writes a configuration", "no store was named")
	}
	return s.config.Store, nil
}

// load reads the configuration if there is one, and finds the state directory.
func (s *session) load() error {
	switch path := s.configPath(); {
	case path == "":
	case s.c.String("store") != "" && s.c.Path("config") == "":
		s.note("%s is not read, because --store names another place; --config %[1]s has its keys used", path)
	default:
		if _, err := s.loadConfig(config.Options{}); err != nil {
			return err
		}
	}
	s.state = s.c.Path("state")
	if s.state == "" {
		home := os.Getenv("XDG_STATE_HOME")
		if home == "" {
			user, err := os.UserHomeDir()
			if err != nil {
				return usage("--state DIRECTORY names one", "no state directory: %w", err)
			}
			home = filepath.Join(user, ".local", "state")
		}
		s.state = filepath.Join(home, "sallyport")
	}
	if err := os.MkdirAll(s.state, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

func (s *session) initStore(ctx context.Context, trust *crypto.Verifier) (*archive.Archive, error) {
	signer, err := s.signingKey()
	if err != nil {
		return nil, err
	}
	if err := s.probe(ctx, s.store); err != nil {
		return nil, err
	}
	if _, err := archive.Init(ctx, s.store, signer, time.Now()); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	s.note("made a new store")
	return archive.Open(ctx, s.store, trust)
}

func (s *session) close() error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// signersFile is the allowed signers' file; "" if there is none.
func (s *session) signersFile() string {
	if path := s.c.Path("allowed-signers"); path != "" || s.config == nil {
		return path
	}
	return string(s.config.Keys.AllowedSigners)
}

// trust reads the allowed signers: those of the flag, of the configuration, or of this
// host's own key.
func (s *session) trust() (*crypto.Verifier, error) {
	if path := s.signersFile(); path != "" {
		return readSigners(path)
	}
	k, err := s.signingKey()
	if err != nil {
		return nil, err
	}
	s.detail("only this host's own signatures are believed; --allowed-signers FILE names others")
	return crypto.ParseAllowedSigners([]byte(`this-host namespaces="sallyport-*" `+k.PublicKey()+"\n"), "this host's key")
}

// signingKey opens the key of the flag, of the configuration, or this host's own, which
// is made when it is first needed.
func (s *session) signingKey() (*crypto.Signer, error) {
	if ref := s.c.String("signing-key"); ref != "" {
		return loadSigner(ref)
	}
	if s.config != nil {
		return loadSigner(string(s.config.Keys.SigningKey))
	}
	path := filepath.Join(s.state, "signing_key")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeSigningKey(s.state); err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		s.note("made a signing key for this host: %s", path)
	}
	k, err := crypto.LoadSigner(path)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return k, nil
}

func makeSigningKey(dir string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	private, public, err := crypto.GenerateSigningKey("sallyport@" + host)
	if err != nil {
		return err
	}
	d, err := durable.OpenPrivate(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Create("signing_key", private); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.Replace("signing_key.pub", []byte(public))
}

// recipients reads the managed recipients, and those of the index.
func (s *session) recipients() (data, index *crypto.Sealer, err error) {
	for _, path := range s.c.StringSlice("recipients") {
		if data, err = joinRecipients(data, path); err != nil {
			return nil, nil, err
		}
	}
	if keys := s.c.StringSlice("recipient"); len(keys) > 0 {
		more, err := crypto.NewSealer(keys...)
		if err != nil {
			return nil, nil, usage("an age public key begins with age1", "--recipient: %w", err)
		}
		if data == nil {
			data = more
		} else {
			data = data.Join(more)
		}
	}
	if data != nil {
		return data, nil, nil
	}
	if s.config == nil {
		return nil, nil, usage("--recipients FILE, or --recipient age1...; sallyport keys generate makes a key", "whom to encrypt to was not said")
	}
	if data, err = joinRecipients(nil, string(s.config.Keys.Recipients)); err != nil {
		return nil, nil, err
	}
	if path := string(s.config.Keys.IndexRecipients); path != "" {
		index, err = joinRecipients(nil, path)
	}
	return data, index, err
}

func joinRecipients(to *crypto.Sealer, path string) (*crypto.Sealer, error) {
	more, err := readRecipients("recipients", path)
	if err != nil || to == nil {
		return more, err
	}
	return to.Join(more), nil
}

// identityFiles are those of the flag, or of the configuration.
func (s *session) identityFiles() []string {
	paths := s.c.StringSlice("identity")
	if len(paths) == 0 && s.config != nil {
		for _, p := range s.config.Keys.Identities {
			paths = append(paths, string(p))
		}
	}
	return paths
}

// opener reads the identities.
func (s *session) opener() (*crypto.Opener, error) {
	paths := s.identityFiles()
	if len(paths) == 0 {
		return nil, withHint(fmt.Errorf("no identity was named: %w", crypto.ErrNoKey), "-i FILE names one")
	}
	var all *crypto.Opener
	for _, p := range paths {
		o, err := readIdentities(p)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = o
		} else {
			all = all.Join(o)
		}
	}
	return all, nil
}

// find returns the snapshot that ref names: SERVICE@latest, SERVICE@PREFIX, or a prefix
// of its id that no other snapshot of the archive has.
func (s *session) find(ctx context.Context, ref string) (service string, d *archive.Decision, err error) {
	if service, rest, ok := strings.Cut(ref, "@"); ok {
		if rest == "" { // an empty variable in a script must not mean the newest
			return "", nil, usage("SERVICE@latest is the newest", "%q names no snapshot", ref)
		}
		all, err := s.snapshots(ctx, service)
		if err != nil {
			return "", nil, err
		}
		d, err := all.Find(rest)
		return service, d, err
	}
	services, err := s.archive.Services(ctx)
	if err != nil {
		return "", nil, err
	}
	for _, name := range services {
		all, err := s.snapshots(ctx, name)
		if err != nil {
			return "", nil, err
		}
		for _, x := range slices.Concat(all.All, all.Expired) {
			switch {
			case ref == "" || !strings.HasPrefix(string(x.Run), ref):
			case d != nil:
				return "", nil, withHint(fmt.Errorf("%q is a snapshot of %s and of %s: %w", ref, service, name, archive.ErrNoSnapshot), "write more of the id, or SERVICE@"+ref)
			default:
				service, d = name, x
			}
		}
	}
	if d == nil {
		return "", nil, fmt.Errorf("%q: %w", ref, archive.ErrNoSnapshot)
	}
	return service, d, nil
}

// snapshots reads the snapshots of a service, and says which it passed over.
func (s *session) snapshots(ctx context.Context, service string) (*archive.Snapshots, error) {
	if err := archive.CheckService(service); err != nil {
		return nil, usage("", "%w", err)
	}
	all, err := s.archive.Snapshots(ctx, service)
	if err != nil {
		return nil, err
	}
	for _, bad := range all.Bad {
		s.warn(fmt.Errorf("passed over: %w", bad))
	}
	return all, nil
}

// unlock opens the snapshot that ref names with the identities.
func (s *session) unlock(ctx context.Context, ref string) (*archive.Snapshot, error) {
	service, d, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.openSnapshot(ctx, service, d)
}

func (s *session) openSnapshot(ctx context.Context, service string, d *archive.Decision) (*archive.Snapshot, error) {
	o, err := s.opener()
	if err != nil {
		return nil, err
	}
	snap, err := s.archive.Snapshot(ctx, service, d)
	if err != nil {
		return nil, err
	}
	if err := snap.Unlock(ctx, o); err != nil {
		return nil, fmt.Errorf("open %s@%s: %w", service, d.Run, err)
	}
	return snap, nil
}

// pins reads which heads this host has accepted of the store.
func (s *session) pins() (map[string][]verify.Pin, error) {
	b, err := os.ReadFile(s.pinFile())
	pins := map[string][]verify.Pin{}
	if errors.Is(err, fs.ErrNotExist) {
		return pins, nil
	} else if err == nil {
		err = json.Unmarshal(b, &pins)
	}
	if err != nil {
		return nil, fmt.Errorf("remembered heads: %w", err)
	}
	return pins, nil
}

func (s *session) pinFile() string {
	return filepath.Join(s.state, "heads", string(s.archive.ID)+".json")
}

// remember stores the heads that a check accepted.
func (s *session) remember(pins map[string][]verify.Pin) error {
	b, err := json.MarshalIndent(pins, "", "  ")
	if err != nil {
		return err
	}
	d, err := durable.OpenPrivate(filepath.Dir(s.pinFile()))
	if err != nil {
		return err
	}
	return errors.Join(d.Replace(filepath.Base(s.pinFile()), b), d.Close())
}

// lock makes sure that this host does one thing at a time with a service.
func (s *session) lock(service string) (func() error, error) {
	dir := filepath.Join(s.state, "locks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	l, err := durable.TryLock(filepath.Join(dir, string(s.archive.ID)+"-"+service))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service, err)
	}
	return l.Unlock, nil
}
