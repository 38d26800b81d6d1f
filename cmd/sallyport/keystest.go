package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/retention"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func keysTestCommand() command {
	return command{
		name: "test", summary: "find out which identity opens what, and whether the signing key is believed",
		args: "[SERVICE...]", max: -1,
		detail: "Each identity file given with -i, or named by the configuration, is tried by itself on the newest snapshot of each\n" +
			"service, as a restore would use it: run keys are unsealed, and the descriptor is read. Practise it with the recovery\n" +
			"identity: sallyport keys test -i recovery.age\n\n" +
			"With --all every run key of every snapshot is tried, and two tables say who opens each key, to whom it is sealed, and\n" +
			"who can read what. The answer is then yes if each key is opened by at least as many of the identities as --independent\n" +
			"says, and no identity opens nothing. Signing keys that end within 90 days are named.",
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "test every key of every snapshot, not only the newest snapshot"},
			&cli.IntFlag{Name: "independent", Value: 2, Usage: "with --all: identities that must open each key, a `NUMBER`"},
		},
		run: runKeysTest,
	}
}

// A keyTest is one line of the test.
type keyTest struct {
	Key     string         `json:"key"`
	Use     string         `json:"use"` // SERVICE@SNAPSHOT, or "signing"
	Outcome verify.Outcome `json:"outcome"`
	Detail  string         `json:"detail,omitempty"`
}

func runKeysTest(ctx context.Context, i *invocation) error {
	s, err := i.openSession(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if i.c.IsSet("independent") && !i.c.Bool("all") {
		return usage("", "--independent is for --all")
	}
	identities, err := s.identities()
	if err != nil {
		return err
	}
	for n, path := range s.identityFiles() { // a file is the key of one holder, and named as such
		identities[n].Name = path
	}
	services := i.args()
	if len(services) == 0 {
		if services, err = s.archive.Services(ctx); err != nil {
			return err
		}
	}
	s.warnExpiry(time.Now())
	if i.c.Bool("all") {
		return s.testAllKeys(ctx, services, identities)
	}
	list := []keyTest{s.signingTest()}
	for _, name := range services {
		all, err := s.snapshots(ctx, name)
		if err != nil {
			return err
		}
		if len(all.All) == 0 {
			s.note("%s has no snapshot", name)
			continue
		}
		for _, id := range identities {
			t, err := s.opens(ctx, name, all.All[len(all.All)-1], id)
			if err != nil {
				return err
			}
			list = append(list, t)
		}
	}
	return s.printKeyTests(list)
}

// signingTest signs something, and looks whether the allowed signers would believe it.
func (s *session) signingTest() keyTest {
	t := keyTest{Use: "signing", Outcome: verify.Fail}
	k, err := s.signingKey()
	if err != nil {
		t.Outcome, t.Detail = verify.Unknown, err.Error()
		return t
	}
	t.Key = k.Fingerprint()
	for _, list := range roleSigns {
		for _, what := range list {
			ns := "sallyport-" + what
			if err := s.archive.Trust.MaySign(ns, k.PublicKey(), time.Now()); err != nil {
				if errors.Is(err, crypto.ErrNotValid) {
					t.Detail = err.Error()
				}
				continue
			}
			if _, err := k.Sign(ns, []byte("sallyport keys test\n")); err != nil {
				t.Detail = err.Error()
				return t
			}
			t.Outcome, t.Detail = verify.Pass, ""
			return t
		}
	}
	if t.Detail == "" {
		t.Detail = "allowed_signers believes it for nothing"
	}
	return t
}

// opens tries one identity on one snapshot. An error means that it could not be tried.
func (s *session) opens(ctx context.Context, service string, d *archive.Decision, id verify.Identity) (keyTest, error) {
	t := keyTest{Key: id.Name, Use: service + "@" + string(d.Run)}
	snap, err := s.archive.Snapshot(ctx, service, d)
	if err == nil {
		err = snap.Unlock(ctx, id.Opener)
	}
	switch {
	case errors.Is(err, crypto.ErrNoKey):
		t.Outcome, t.Detail = verify.Fail, "is not among those it is sealed to"
		return t, nil
	case err != nil:
		return t, fmt.Errorf("%s: %w", t.Use, err)
	}
	t.Outcome = verify.Pass
	for _, k := range d.Manifest.Keys {
		_, err := s.archive.OpenKey(ctx, service, k, id.Opener)
		if errors.Is(err, crypto.ErrNoKey) {
			t.Detail = "reads names, and no contents"
		} else if err != nil {
			return t, fmt.Errorf("%s: %w", t.Use, err)
		}
	}
	return t, nil
}

func (s *session) printKeyTests(list []keyTest) error {
	var rows [][]string
	failed := 0
	for _, t := range list {
		if t.Outcome != verify.Pass {
			failed++
		}
		rows = append(rows, []string{t.Outcome.String(), t.Use, t.Key, t.Detail})
	}
	s.table([]string{"outcome", "use", "key", "detail"}, rows)
	s.result = list
	if failed > 0 {
		return &exitError{code: exitNo, err: fmt.Errorf("%w: %s", errSaid, count(failed, "failure"))}
	}
	return nil
}

// A serviceKeys is what --json says of the keys of a service.
type serviceKeys struct {
	Service string              `json:"service"`
	Keys    []retention.KeyTest `json:"keys"`
	Readers []retention.Reader  `json:"readers"`
}

// testAllKeys tries all identities on all keys.
func (s *session) testAllKeys(ctx context.Context, services []string, identities []verify.Identity) error {
	var results []serviceKeys
	var keys, readers [][]string
	tested, short, blind := 0, 0, 0
	for _, name := range services {
		if err := archive.CheckService(name); err != nil {
			return usage("", "%w", err)
		}
		tests, err := retention.TestKeys(ctx, s.archive, name, identities)
		if err != nil {
			return err
		}
		r := serviceKeys{name, tests, retention.Readers(tests, identities)}
		results = append(results, r)
		for _, t := range tests {
			tested++
			if len(t.Opened) < s.c.Int("independent") {
				short++
			}
			for _, p := range t.Problems {
				s.note("key %s: %s", t.Key.ID, visible(p))
			}
			keys = append(keys, keyRow(name, &t))
		}
		for _, who := range r.Readers {
			if who.Contents+who.Names == 0 && len(tests) > 0 {
				blind++
			}
			readers = append(readers, []string{name, who.Identity, fmt.Sprint(who.Contents), fmt.Sprint(who.Names), fmt.Sprint(who.Nothing)})
		}
	}
	s.table([]string{"service", "key", "role", "snapshots", "opened by", "sealed to"}, keys)
	s.table([]string{"service", "identity", "reads contents of", "names only of", "nothing of"}, readers)
	s.result = results
	s.printf("%s tested with %s\n", count(tested, "key"), countOf(len(identities), "identity", "identities"))
	var why []string
	if short > 0 {
		why = append(why, fmt.Sprintf("%s opened by fewer than %d of the identities given", count(short, "key"), s.c.Int("independent")))
	}
	if blind > 0 {
		why = append(why, countOf(blind, "identity opens", "identities open")+" nothing of a service")
	}
	if len(why) > 0 {
		return &exitError{code: exitNo, err: errors.New(strings.Join(why, "; "))}
	}
	return nil
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func keyRow(service string, t *retention.KeyTest) []string {
	opened := "nobody"
	if len(t.Opened) > 0 {
		opened = strings.Join(t.Opened, " ")
	}
	sealed := make([]string, len(t.SealedTo))
	for i, r := range t.SealedTo {
		sealed[i] = abridged(r)
	}
	return []string{service, t.Key.ID.String(), string(t.Key.Role), fmt.Sprint(len(t.Snapshots)), opened, strings.Join(sealed, " ")}
}

// abridged is a public key as a table has room for it: post-quantum ones have 2,000
// characters, and the last of each are its checksum.
func abridged(recipient string) string {
	if len(recipient) <= 100 {
		return recipient
	}
	return recipient[:16] + "..." + recipient[len(recipient)-16:]
}

// warnExpiry says which signing keys end soon.
func (s *session) warnExpiry(now time.Time) {
	for _, a := range s.archive.Trust.Signers() {
		switch left := a.ValidBefore.Sub(now); {
		case a.ValidBefore.IsZero() || left > 90*24*time.Hour:
		case left < 0:
			s.note("the signing key %s of %s ended on %s", a.Fingerprint(), a.Principal, a.ValidBefore.Format(time.DateOnly))
		default:
			s.note("the signing key %s of %s ends on %s", a.Fingerprint(), a.Principal, a.ValidBefore.Format(time.DateOnly))
		}
	}
}
