package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/dwp/sallyport/archive"
	"github.com/dwp/sallyport/crypto"
	"github.com/dwp/sallyport/dataset"
	"github.com/dwp/sallyport/exporters"
	"github.com/dwp/sallyport/internal/config"
	"github.com/urfave/cli/v2"
)

func TestReferencePageIsUpToDate(t *testing.T) {
	got, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := reference(newApp(newUI(io.Discard, io.Discard))); string(got) != want {
		t.Error("docs/cli.md is not what the commands say; run make docs")
	}
}

func TestErrorsHaveTheirExitCodes(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("export case-files: %w", err) }
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("anything"), exitFailed},
		{usage("", "wrong"), exitUsage},
		{&config.Error{}, exitUsage},
		{&dataset.Gap{Code: dataset.Denied}, exitIncomplete},
		{&archive.DamageError{}, exitIntegrity},
		{crypto.ErrBadSignature, exitIntegrity},
		{&config.PolicyError{}, exitPolicy},
		{exporters.ErrNotEmpty, exitPolicy},
		{archive.ErrNoConditionalWrites, exitPolicy},
		{exporters.ErrTemporary, exitTemporary},
		{archive.ErrNoSnapshot, exitNotFound},
		{crypto.ErrNoKey, exitNoKey},
		{exporters.ErrCredentials, exitCredentials},
	} {
		err := tt.err
		if err != nil {
			err = wrap(err)
		}
		if got := exitOf(t.Context(), err); got.code != tt.want {
			t.Errorf("%v: exit code %d; want %d", tt.err, got.code, tt.want)
		}
	}
}

func TestSignalDecidesTheExitCode(t *testing.T) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: exitInterrupted, syscall.SIGTERM: exitTerminated} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(signalError{sig})
		if got := exitOf(ctx, ctx.Err()); got.code != want {
			t.Errorf("%v: exit code %d; want %d", sig, got.code, want)
		}
		if got := exitOf(ctx, nil); got.code != exitOK {
			t.Errorf("%v after all was done: exit code %d; want 0", sig, got.code)
		}
	}
}

func TestPanicTextHoldsNoValue(t *testing.T) {
	const canary = "canary-plaintext"
	for _, v := range []any{canary, errors.New(canary), []byte(canary), struct{ S string }{canary}} {
		func() {
			defer func() {
				if err := panicError(recover()); strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "main.") && !strings.Contains(err.Error(), "sallyport") {
					t.Errorf("%v", err)
				}
			}()
			panic(v)
		}()
	}
}

func TestErrorTextIsVisible(t *testing.T) {
	for in, want := range map[string]string{
		`open "a\b": no`:         `open "a\b": no`,
		"key \x1b[2Jx":           `key \x1b[2Jx`,
		"\u202eabc\r":            `\u202eabc\r`,
		"caf\u00e9":              "caf\u00e9",
		"bad \xff byte":          `bad \xff byte`,
		`"` + "\x00" + `\` + "x": `"\x00\x`,
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestJSONOutputEndsWithASummary(t *testing.T) {
	for _, args := range [][]string{
		{"sallyport", "version", "--json"},
		{"sallyport", "config", "check", "--json", "-c", "testdata/no-such-file.yaml"},
		{"sallyport", "keys", "list", "--json", "-c", "testdata/no-such-file.yaml"},
	} {
		var out, stderr bytes.Buffer
		code := run(t.Context(), args, &out, &stderr)
		if stderr.Len() > 0 {
			t.Errorf("%q: standard error: %s", args, &stderr)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for n, line := range lines {
			var m message
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Errorf("%q: %q: %v", args, line, err)
			}
			if last := n == len(lines)-1; last != (m.Type == "summary") || last && (m.Code == nil || *m.Code != code) {
				t.Errorf("%q: line %d of %d: %s", args, n+1, len(lines), line)
			}
		}
	}
}

var flagText = regexp.MustCompile(`^[a-z(]|^S3 `)

// Each flag is described, can be set by a variable, and short names are not reused for
// something else.
func TestFlagsAreDescribedAndConsistent(t *testing.T) {
	short := map[string]string{}
	seen := 0
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			path := path + " " + c.Name
			walk(path, c.Subcommands)
			for _, f := range c.Flags {
				seen++
				doc := f.(cli.DocGenerationFlag)
				if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
					continue
				}
				if !flagText.MatchString(strings.TrimLeft(doc.GetUsage(), "`")) || strings.HasSuffix(strings.TrimSuffix(doc.GetUsage(), "..."), ".") {
					t.Errorf("%s --%s: description %q", path, f.Names()[0], doc.GetUsage())
				}
				if len(doc.GetEnvVars()) != 1 {
					t.Errorf("%s --%s: variables %q; want one", path, f.Names()[0], doc.GetEnvVars())
				}
				for _, n := range f.Names()[1:] {
					if long, ok := short[n]; ok && long != f.Names()[0] {
						t.Errorf("%s: -%s is --%s here and --%s elsewhere", path, n, f.Names()[0], long)
					}
					short[n] = f.Names()[0]
				}
			}
		}
	}
	walk("sallyport", newApp(newUI(io.Discard, io.Discard)).Commands)
	if seen < 20 {
		t.Fatalf("%d flags; the walk is broken", seen)
	}
}
