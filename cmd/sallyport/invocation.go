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

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/archive/dir"
	archives3 "github.com/dwp/sallyport/archive/s3"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/internal/config"
	"github.com/dwp/sallyport/internal/s3conn"
	"github.com/urfave/cli/v2"
)

// A command is one command, or a group of them, in the words of this program.
type command struct {
	name    string
	aliases []string
	summary string // one clause, lower case
	args    string // "SNAPSHOT [STREAM]", for the help
	min     int    // arguments
	max     int    // -1: any number
	detail  string // a paragraph for the help
	flags   []cli.Flag
	uses    []flagGroup // besides outputFlags, which all commands have
	hidden  bool
	run     func(ctx context.Context, i *invocation) error
	group   []command // instead of run
}

// A flagGroup is flags that several commands share.
type flagGroup func() []cli.Flag

func outputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print JSON Lines for programs"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print results and errors only"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say more"},
		&cli.BoolFlag{Name: "no-progress", Usage: "show no progress"},
	}
}

func configFlags() []cli.Flag {
	return []cli.Flag{&cli.PathFlag{Name: "config", Aliases: []string{"c"}, TakesFile: true,
		Usage: "read the configuration from `FILE` (default: ./" + config.FileName + ", else the one in $XDG_CONFIG_HOME/sallyport or /etc/sallyport)"}}
}

func storeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "store", Aliases: []string{"s"}, TakesFile: true, Usage: "the archive: a `DIRECTORY` or s3://bucket/prefix?endpoint=URL&region=NAME"},
		&cli.PathFlag{Name: "allowed-signers", TakesFile: true, Usage: "believe the signers in `FILE`"},
		&cli.PathFlag{Name: "state", TakesFile: true, Usage: "keep state in `DIRECTORY` (default: $XDG_STATE_HOME/sallyport)"},
	}
}

// invocation is one call of a command: its arguments, the flags that commands share,
// and what follows from them together with the configuration.
type invocation struct {
	*ui
	c *cli.Context

	config *config.Config // nil until loadConfig
}

// cli builds the library's command, with an environment variable for each flag.
func (c command) cli(u *ui) *cli.Command {
	out := &cli.Command{
		Name: c.name, Aliases: c.aliases, Usage: c.summary, ArgsUsage: c.args, Description: c.detail,
		Hidden: c.hidden, HideHelpCommand: true, OnUsageError: badFlag,
	}
	if c.group != nil {
		for _, sub := range c.group {
			out.Subcommands = append(out.Subcommands, sub.cli(u))
		}
		out.Action = unknownCommand
		return out
	}
	for _, group := range append(c.uses, outputFlags) {
		out.Flags = append(out.Flags, group()...)
	}
	out.Flags = append(slices.Clone(c.flags), out.Flags...)
	var required []string
	for _, f := range out.Flags {
		if addVariable(f); isRequired(f) {
			required = append(required, f.Names()[0])
		}
	}
	out.Action = func(ctx *cli.Context) error {
		u.json, u.quiet, u.verbose, u.noBars = ctx.Bool("json"), ctx.Bool("quiet"), ctx.Bool("verbose"), ctx.Bool("no-progress")
		if err := c.checkArguments(ctx); err != nil {
			return err
		}
		for _, name := range required {
			if !ctx.IsSet(name) {
				return usage("see "+ctx.Command.HelpName+" --help", "%s wants --%s", ctx.Command.HelpName, name)
			}
		}
		return c.run(ctx.Context, &invocation{ui: u, c: ctx})
	}
	return out
}

// addVariable lets a flag be set by SALLYPORT_<FLAG>.
func addVariable(f cli.Flag) {
	name := []string{"SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))}
	switch f := f.(type) {
	case *cli.BoolFlag:
		f.EnvVars = name
	case *cli.StringFlag:
		f.EnvVars = name
	case *cli.PathFlag:
		f.EnvVars = name
	case *cli.StringSliceFlag:
		f.EnvVars = name
	case *cli.IntFlag:
		f.EnvVars = name
	case *cli.DurationFlag:
		f.EnvVars = name
	}
}

// isRequired reports whether a flag must be given. It takes that from the library, which
// would complain before it is known how to print a complaint, and with another exit code.
func isRequired(f cli.Flag) (required bool) {
	switch f := f.(type) {
	case *cli.StringFlag:
		required, f.Required = f.Required, false
	case *cli.PathFlag:
		required, f.Required = f.Required, false
	case *cli.StringSliceFlag:
		required, f.Required = f.Required, false
	}
	return required
}

// checkArguments notices flags behind the first argument, which the library takes for
// arguments, and counts.
func (c command) checkArguments(ctx *cli.Context) error {
	args := ctx.Args().Slice()
	for _, a := range args {
		if a == "--" {
			break
		}
		name := strings.TrimLeft(a, "-")
		name, _, _ = strings.Cut(name, "=")
		if strings.HasPrefix(a, "-") && slices.Contains(flagNames(ctx.Command.Flags), name) {
			return usage(fmt.Sprintf("flags come before arguments: %s %s ... %s", ctx.Command.HelpName, a, args[0]),
				"%s stands behind an argument and was not read as a flag", a)
		}
	}
	args = slices.DeleteFunc(args, func(a string) bool { return a == "--" })
	help := "see " + ctx.Command.HelpName + " --help"
	switch {
	case len(args) < c.min:
		return usage(help, "%s wants %s", ctx.Command.HelpName, c.args)
	case c.max >= 0 && len(args) > c.max && c.max == 0:
		return usage(help, "%s takes no argument, not %q", ctx.Command.HelpName, args[0])
	case c.max >= 0 && len(args) > c.max:
		return usage(help, "%s takes %s and nothing else; %q is too much", ctx.Command.HelpName, c.args, args[c.max])
	}
	return nil
}

func flagNames(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	return names
}

// badFlag turns the library's complaint about a flag into ours.
func badFlag(c *cli.Context, err error, isSubcommand bool) error {
	message := err.Error()
	name, unknown := strings.CutPrefix(message, "flag provided but not defined: ")
	if !unknown {
		return usage("see "+c.Command.HelpName+" --help", "%s", message)
	}
	name = strings.TrimLeft(name, "-")
	name = strings.Repeat("-", min(len(name), 2)) + name
	hint := "see " + c.Command.HelpName + " --help"
	if !isSubcommand {
		hint = "flags follow the command: sallyport COMMAND " + name
	}
	return usage(hint, "%s has no flag %s", c.Command.HelpName, name)
}

// unknownCommand is the action of whatever needs a command to follow.
func unknownCommand(c *cli.Context) error {
	subs := c.App.Commands
	if c.Command != nil && len(c.Command.Subcommands) > 0 {
		subs = c.Command.Subcommands
	}
	var names []string
	for _, s := range subs {
		if !s.Hidden {
			names = append(names, s.Name)
		}
	}
	if !c.Args().Present() {
		return usage("", "%s wants one of: %s", c.Command.HelpName, strings.Join(names, ", "))
	}
	return usage("the commands are "+strings.Join(names, ", "), "no such command: %q", c.Args().First())
}

// args returns the arguments.
func (i *invocation) args() []string {
	return slices.DeleteFunc(i.c.Args().Slice(), func(a string) bool { return a == "--" })
}

// arg returns the nth argument, or "".
func (i *invocation) arg(n int) string {
	if args := i.args(); n < len(args) {
		return args[n]
	}
	return ""
}

// configPath finds the configuration: --config, else the first that exists of the usual
// places, else "".
func (i *invocation) configPath() string {
	if p := i.c.Path("config"); p != "" {
		return p
	}
	places := []string{config.FileName}
	if home, err := os.UserConfigDir(); err == nil {
		places = append(places, filepath.Join(home, "sallyport", config.FileName))
	}
	for _, p := range append(places, filepath.Join("/etc/sallyport", config.FileName)) {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// loadConfig reads the configuration.
func (i *invocation) loadConfig(o config.Options) (*config.Config, error) {
	path := i.configPath()
	if path == "" {
		return nil, usage("sallyport init writes one; --config FILE names one", "no %s here", config.FileName)
	}
	o.Kinds = kinds()
	c, err := config.Load(path, o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage("sallyport init writes one", "%w", err)
	}
	i.config = c
	return c, err
}

// parseStore reads a store that was named on the command line.
func parseStore(flag string) (config.Location, error) {
	var l config.Location
	if err := l.UnmarshalText([]byte(flag)); err != nil {
		return "", usage("credentials come from AWS_* variables, never from a URL", "--store must be a directory, or a URL without a password")
	}
	if s := l.Scheme(); s != "" && s != "s3" {
		return "", usage("", "--store must be a directory or begin with s3://, not %s:", s)
	}
	return l, nil
}

// openStore opens the store at l; a directory is made if it is missing and create is
// set. The caller calls the returned function to close it.
func (i *invocation) openStore(ctx context.Context, l config.Location, create bool) (archive.Store, func() error, error) {
	switch l.Scheme() {
	case "":
		info, err := os.Stat(string(l))
		switch {
		case errors.Is(err, fs.ErrNotExist) && !create:
			return nil, nil, fmt.Errorf("store %s: %w", l, archive.ErrNoStore)
		case err == nil && !info.IsDir():
			return nil, nil, usage("a store is a directory, or s3://bucket/prefix?endpoint=URL", "store %s is no directory", l)
		}
		st, err := dir.Open(string(l))
		if err != nil {
			return nil, nil, fmt.Errorf("store: %w", err)
		}
		return st, st.Close, nil
	case "s3":
		conn, err := s3conn.ParseURL(string(l))
		if err != nil {
			return nil, nil, usage("", "store: %w", err)
		}
		var o archives3.Options
		if c := i.config; c != nil {
			if conn.CA == "" {
				conn.CA = string(c.CA)
			}
			if c.ObjectLock != nil {
				o.Lock = archives3.Lock{Mode: strings.ToUpper(c.ObjectLock.Mode), Days: int(c.ObjectLock.For.Std().Hours() / 24)}
			}
		}
		st, err := archives3.Open(ctx, conn, o)
		if err != nil {
			return nil, nil, fmt.Errorf("store: %w", err)
		}
		return st, st.Close, nil
	}
	return nil, nil, usage("a store is a directory, or s3://bucket/prefix?endpoint=URL", "store: no such kind: %s:", l.Scheme())
}

// probe asks whether the store keeps what the commit protocol rests on.
func (i *invocation) probe(ctx context.Context, st archive.Store) error {
	p, ok := st.(archive.Prober)
	if !ok {
		return nil // a directory: links and fsync were relied on from the start
	}
	err := p.Probe(ctx)
	if errors.Is(err, archive.ErrNoConditionalWrites) && i.config != nil && i.config.SingleWriter {
		i.note("the store has no conditional writes; only one host may ever write to it")
		return nil
	}
	return err
}

// signer opens the signing key of the configuration.
func (i *invocation) signer() (*crypto.Signer, error) {
	return loadSigner(string(i.config.Keys.SigningKey))
}
