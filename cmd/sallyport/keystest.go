package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func keysTestCommand() command {
	return command{
		name: "test", summary: "find out whether each identity opens the newest snapshot of each service, and whether the signing key is believed",
		args: "[SERVICE...]", max: -1,
		detail: "Practise it with the recovery identity: sallyport keys test -i recovery.age\n" +
			"A key is opened as a restore would open it: its run keys are unsealed, and the descriptor is read.",
		uses:  []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "test all snapshots, not only the newest"}},
		run:   runKeysTest,
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
	identities, err := s.identities()
	if err != nil {
		return err
	}
	list := []keyTest{s.signingTest()}
	services := i.args()
	if len(services) == 0 {
		if services, err = s.archive.Services(ctx); err != nil {
			return err
		}
	}
	for _, name := range services {
		all, err := s.snapshots(ctx, name)
		if err != nil {
			return err
		}
		tested := all.All
		if n := len(tested); n > 0 && !i.c.Bool("all") {
			tested = tested[n-1:]
		}
		for _, d := range tested {
			for _, id := range identities {
				t, err := s.opens(ctx, name, d, id)
				if err != nil {
					return err
				}
				list = append(list, t)
			}
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
			if !s.archive.Trust.Allows(ns, k.PublicKey()) {
				continue
			}
			if _, err := k.Sign(ns, []byte("sallyport keys test\n")); err != nil {
				t.Detail = err.Error()
				return t
			}
			t.Outcome = verify.Pass
			return t
		}
	}
	t.Detail = "allowed_signers believes it for nothing"
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
	case err == nil:
		t.Outcome = verify.Pass
	case errors.Is(err, crypto.ErrNoKey):
		t.Outcome, t.Detail = verify.Fail, "is not among those it is sealed to"
	default:
		return t, fmt.Errorf("%s: %w", t.Use, err)
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
