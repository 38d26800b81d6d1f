package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dwp/sallyport/archive"
	archives3 "github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/fixtures"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/verify"
	"github.com/urfave/cli/v2"
)

func doctorCommand() command {
	return command{
		name: "doctor", summary: "find out whether this host can do what it has to, and no more",
		detail: "With --role, what the credential for the store can really do is tried out on a probe object, and more than\n" +
			"the role needs is a failure: an exporter or verifier that can delete or overwrite is one theft away from data loss.",
		uses: []flagGroup{configFlags, storeFlags, identityFlags},
		flags: []cli.Flag{
			&cli.StringFlag{Name: "role", Usage: "examine this host as `ROLE`: exporter, verifier or keeper (default: that of the configuration)"},
			&cli.BoolFlag{Name: "self-test", Usage: "restore the golden archives that are built in, and find the damage in the damaged ones"},
		},
		run: runDoctor,
	}
}

// A complaint is one line of the doctor's.
type complaint struct {
	What    string         `json:"what"`
	Outcome verify.Outcome `json:"outcome"`
	Detail  string         `json:"detail,omitempty"`
}

// A doctor examines one host.
type doctor struct {
	*session
	role config.Role
	list []complaint
}

func runDoctor(ctx context.Context, i *invocation) error {
	s, err := i.newSession()
	if err != nil {
		return err
	}
	d := &doctor{session: s, role: config.Role(i.c.String("role"))}
	if d.role == "" && s.config != nil {
		d.role = s.config.Role
	}
	switch d.role {
	case "", config.Exporter, config.Verifier, config.Keeper:
	default:
		return usage("", "--role is exporter, verifier or keeper, not %q", d.role)
	}
	if i.c.Bool("self-test") {
		d.ask("golden and damaged archives", func() (string, error) { return "read, and refused, as expected", fixtures.SelfTest(ctx) })
	}
	if s.config != nil || i.c.String("store") != "" {
		d.examine(ctx)
		defer s.close()
	}
	return d.verdict()
}

// ask asks one question.
func (d *doctor) ask(what string, f func() (string, error)) bool {
	detail, err := f()
	c := complaint{what, verify.Pass, detail}
	if err != nil {
		c.Outcome, c.Detail = verify.Fail, err.Error()
	}
	d.list = append(d.list, c)
	return err == nil
}

func (d *doctor) examine(ctx context.Context) {
	if d.config != nil {
		d.ask("configuration, and all that it refers to", func() (string, error) {
			_, err := d.loadConfig(config.Options{References: true})
			return d.config.File(), err
		})
	}
	if !d.ask("store", func() (string, error) { return d.storeOpens(ctx) }) {
		return
	}
	d.ask("clock", func() (string, error) { return d.clock(ctx) })
	d.ask("signing key", d.signs)
	d.ask("recipients", d.seals)
	d.ask("identities", func() (string, error) { return d.identities(ctx) })
	if d.role != "" {
		d.ask("powers of the credential", func() (string, error) { return d.powers(ctx) })
	}
	if d.config != nil && (d.role == "" || d.role == config.Exporter) {
		for _, name := range d.config.Names() {
			d.ask("service "+name, func() (string, error) { return d.answers(ctx, name) })
		}
	}
}

func (d *doctor) storeOpens(ctx context.Context) (string, error) {
	if err := d.openArchive(ctx, false); err != nil {
		return "", err
	}
	return "id " + string(d.archive.ID), d.probe(ctx, d.store)
}

// clock compares this host's clock with the store's: nothing is ordered by it, but
// signatures and schedules use it.
func (d *doctor) clock(ctx context.Context) (string, error) {
	c, ok := d.store.(archive.Clock)
	if !ok {
		return "the store has none to compare with", nil
	}
	t, err := c.Now(ctx)
	if err != nil {
		return "", err
	}
	if off := time.Since(t).Abs(); off > 5*time.Minute {
		return "", fmt.Errorf("this host's clock is %s off the store's", off.Truncate(time.Second))
	}
	return "agrees with the store's", nil
}

// roleSigns are what each role signs.
var roleSigns = map[config.Role][]string{config.Exporter: exporterSigns, config.Verifier: verifierSigns, config.Keeper: keeperSigns}

// signs makes sure that the signing key opens, and is believed for what the role signs
// and for nothing of the other roles.
func (d *doctor) signs() (string, error) {
	k, err := d.signingKey()
	if err != nil {
		return "", err
	}
	var wrong []error
	for role, list := range roleSigns {
		for _, what := range list {
			may := d.archive.Trust.Allows("sallyport-"+what, k.PublicKey())
			switch {
			case !may && (d.role == role || d.role == ""):
				wrong = append(wrong, fmt.Errorf("allowed_signers does not believe this key for sallyport-%s", what))
			case may && d.role != "" && !slices.Contains(roleSigns[d.role], what):
				wrong = append(wrong, fmt.Errorf("allowed_signers believes this key for sallyport-%s, which is for the %s", what, role))
			}
		}
	}
	return k.Fingerprint(), errors.Join(wrong...)
}

// seals wants two independent recipients: with one, a lost key is lost data.
func (d *doctor) seals() (string, error) {
	data, _, err := d.recipients()
	if err != nil {
		return "", err
	}
	n := len(data.Recipients())
	if n < 2 {
		return fmt.Sprintf("%s; a second one, kept elsewhere, would survive the loss of the first", count(n, "recipient")), nil
	}
	return count(n, "recipient"), nil
}

// identities makes sure that an exporter has none, and that a verifier's opens the
// newest snapshot.
func (d *doctor) identities(ctx context.Context) (string, error) {
	named := len(d.c.StringSlice("identity")) > 0 || d.config != nil && len(d.config.Keys.Identities) > 0
	switch {
	case d.role == config.Exporter && named:
		return "", errors.New("an exporter must not be able to read the archive, and this host has an identity")
	case !named:
		return "none on this host", nil
	case d.role == config.Keeper:
		return "the keeper's own", nil
	}
	o, err := d.opener()
	if err != nil {
		return "", err
	}
	services, err := d.archive.Services(ctx)
	if err != nil {
		return "", err
	}
	opened := 0
	for _, name := range services {
		all, err := d.archive.Snapshots(ctx, name)
		if err != nil || len(all.All) == 0 {
			continue
		}
		snap, err := d.archive.Snapshot(ctx, name, all.All[len(all.All)-1])
		if err == nil {
			err = snap.Unlock(ctx, o)
		}
		if err != nil {
			return "", fmt.Errorf("newest snapshot of %s: %w", name, err)
		}
		opened++
	}
	return "opens the newest snapshot of " + count(opened, "service"), nil
}

// powers tries out what the credential can do.
func (d *doctor) powers(ctx context.Context) (string, error) {
	st, ok := d.store.(*archives3.Store)
	if !ok {
		if d.role == config.Keeper {
			return "a directory's owner can delete", nil
		}
		return "", errors.New("whoever can write to a directory can delete from it: use an object store, or copy the directory to where this host cannot write")
	}
	p, err := archives3.Remover{Store: st}.Powers(ctx)
	switch {
	case err != nil:
		return "", err
	case p.Overwrite:
		return "", errors.New("it can overwrite objects: its policy must demand If-None-Match on every PutObject")
	case p.Delete && d.role != config.Keeper:
		return "", fmt.Errorf("it can delete objects: the %s must not", d.role)
	case !p.Delete && d.role == config.Keeper:
		return "", errors.New("it cannot delete objects: the keeper must")
	}
	return "create and read" + map[bool]string{true: ", delete"}[p.Delete] + "; not overwrite", nil
}

// answers makes sure that a service can be read.
func (d *doctor) answers(ctx context.Context, name string) (string, error) {
	src, err := d.source(name)
	if err != nil {
		return "", err
	}
	view, err := d.open(ctx, src)
	if err != nil {
		return "", err
	}
	streams, err := view.Streams(ctx)
	return "offers " + count(len(streams), "stream"), errors.Join(err, view.Close())
}

// verdict prints what was found.
func (d *doctor) verdict() error {
	if len(d.list) == 0 {
		return usage("sallyport init writes a configuration; --self-test needs none", "there is nothing to examine")
	}
	var rows [][]string
	failed := 0
	for _, c := range d.list {
		if c.Outcome != verify.Pass {
			failed++
		}
		rows = append(rows, []string{c.Outcome.String(), c.What, c.Detail})
	}
	d.table([]string{"outcome", "what", "detail"}, rows)
	d.result = d.list
	if failed > 0 {
		return &exitError{code: exitNo, err: fmt.Errorf("%w: %s", errSaid, count(failed, "failure"))}
	}
	return nil
}
