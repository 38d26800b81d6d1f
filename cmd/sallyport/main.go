// Command sallyport takes an organisation's data out of cloud services and proves that
// it did: encrypted, signed, restorable and checkable with stock tools.
//
// Each command is one small file of this package: flags, one call into a package, one
// print. What they share is in invocation.go (flags, configuration, stores and keys),
// ui.go (every word that is printed) and exit.go (exit codes).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// memoryLimit is what the garbage collector works towards, in bytes: the promise is
// 256 MiB resident. GOMEMLIMIT overrides it.
const memoryLimit = 224 << 20

// growth is how far the heap may grow between two collections, in percent of what is in
// use. That is mostly packs and segments, without pointers: looking through them costs
// next to nothing, and memory that the collector does not know of, SQLite's, has room
// beside them. GOGC overrides it.
const growth = 50

func main() {
	// A core dump would hold keys and plaintext. Where the limit cannot be lowered it
	// is left as it is: dumps are then the host's own doing.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(growth)
	}
	ctx := untilSignal(context.Background())
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM, its cause a
// signalError. The second signal ends the process at once.
func untilSignal(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		signal.Stop(signals)
		if s, ok := s.(syscall.Signal); ok {
			cancel(signalError{s})
		}
	}()
	return ctx
}

// run runs one command line and returns the exit code. It is the only place where
// errors are printed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	u := newUI(stdout, stderr)
	u.json = wantsJSON(args)
	defer func() {
		if v := recover(); v != nil {
			code = u.finish(ctx, panicError(v))
		}
	}()
	return u.finish(ctx, newApp(u).RunContext(ctx, args))
}

// wantsJSON reports whether a command line asks for JSON, also one that cannot be read for
// another reason: then that is said in JSON.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	on, err := strconv.ParseBool(os.Getenv("SALLYPORT_JSON"))
	return slices.Contains(args, "--json") || slices.Contains(args, "-json") || err == nil && on
}

// panicError describes a panic without its value, which may hold plaintext or secrets;
// only the runtime's own errors speak.
func panicError(v any) error {
	what := fmt.Sprintf("%T", v)
	var re runtime.Error
	if err, ok := v.(error); ok && errors.As(err, &re) {
		what = re.Error()
	}
	var where []string
	pcs := make([]uintptr, 24)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, "github.com/dwp/sallyport/") || strings.HasPrefix(f.Function, "main.") {
			where = append(where, fmt.Sprintf("%s:%d", f.Function, f.Line))
		}
		if !more {
			break
		}
	}
	return withHint(fmt.Errorf("panic (%s) in %s", what, strings.Join(where, " < ")),
		"this is a defect of sallyport; no snapshot was committed by this run unless it said so")
}

// newApp puts the commands together.
func newApp(u *ui) *cli.App {
	app := &cli.App{
		Name:  "sallyport",
		Usage: "leave a cloud service, and prove that you can",
		Description: "Sallyport exports what a cloud service holds into encrypted, signed, portable archives, restores\n" +
			"them, compares record by record, and certifies the result.\n\n" + exitCodesText(),
		Writer: u.out, ErrWriter: u.err,
		HideVersion: true,
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print the version"}},
		// The library would exit by itself.
		ExitErrHandler:       func(*cli.Context, error) {},
		EnableBashCompletion: true,
		OnUsageError:         badFlag,
	}
	for _, c := range commands() {
		app.Commands = append(app.Commands, c.cli(u))
	}
	app.Action = func(c *cli.Context) error {
		switch {
		case c.Bool("version"):
			return printVersion(u)
		case c.Args().Present():
			return unknownCommand(c)
		}
		return cli.ShowAppHelp(c)
	}
	return app
}

// commands lists all commands in the order of the help.
func commands() []command {
	return []command{
		initCommand(),
		demoCommand(),
		doctorCommand(),
		statusCommand(),
		discoverCommand(),
		exportCommand(),
		snapshotsCommand(),
		lsCommand(),
		catCommand(),
		diffCommand(),
		checkCommand(),
		verifyCommand(),
		restoreCommand(),
		exitTestCommand(),
		certificateCommand(),
		bundleCommand(),
		proveCommand(),
		retentionCommand(),
		holdCommand(),
		purgeCommand(),
		erasureCommand(),
		auditCommand(),
		keysCommand(),
		scheduleCommand(),
		configCommand(),
		completionCommand(),
		manCommand(),
		versionCommand(),
		docsCommand(),
	}
}
