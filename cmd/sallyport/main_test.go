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
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/urfave/cli/v2"
)

func TestReferencePagesAreUpToDate(t *testing.T) {
	for page, want := range map[string]string{
		"cli.md":       reference(newApp(newUI(io.Discard, io.Discard))),
		"exporters.md": exporterReference(kinds()),
	} {
		got, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("docs/%s is not what the command says; run make docs", page)
		}
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

// For each exporter that is built in: what `config check` accepts of its settings the
// published schema accepts, and what it refuses the schema refuses.
func TestPublishedSchemaAgreesWithConfigCheck(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema(kinds())))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(config.SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(config.SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	// JSON is YAML, so one text serves both.
	check := func(what string, exporter string, with map[string]any, want bool) {
		t.Helper()
		text, err := json.Marshal(map[string]any{"version": 1, "store": "archive",
			"keys":     map[string]string{"recipients": "r", "signing_key": "s", "allowed_signers": "a"},
			"services": map[string]any{"x": map[string]any{"owner": "o", "classification": "OFFICIAL", "exporter": exporter, "with": with}}})
		if err != nil {
			t.Fatal(err)
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		_, checkErr := config.Parse("/x/sallyport.yaml", text, config.Options{Kinds: kinds()})
		schemaErr := schema.Validate(instance)
		if (checkErr == nil) != want || (schemaErr == nil) != want {
			t.Errorf("%s: check says %v; the schema says %v", what, checkErr, schemaErr)
		}
	}
	samples := map[exporters.OptionType][2]any{ // a good and a bad value
		exporters.TextOption: {"text", 1}, exporters.PathOption: {"path", 1}, exporters.SecretOption: {"env:NAME", "hunter2"},
		exporters.BoolOption: {true, "yes"}, exporters.IntOption: {3, "3"}, exporters.DurationOption: {"30s", "30"},
		exporters.ListOption: {[]string{"a"}, "a"}, exporters.MapOption: {map[string]any{"a": "b"}, "a"},
	}
	for _, k := range kinds() {
		settings := func(change string, value any) map[string]any {
			with := map[string]any{}
			for _, o := range k.Options {
				with[o.Name] = samples[o.Type][0]
				if o.Enum != nil {
					with[o.Name] = o.Enum[0]
				}
			}
			if change != "" {
				with[change] = value
			}
			return with
		}
		check(k.Name+" with everything", k.Name, settings("", nil), true)
		check(k.Name+" with an unknown setting", k.Name, settings("no_such_setting", 1), false)
		for _, o := range k.Options {
			check(fmt.Sprintf("%s with a wrong %s", k.Name, o.Name), k.Name, settings(o.Name, samples[o.Type][1]), false)
			without := settings("", nil)
			delete(without, o.Name)
			check(fmt.Sprintf("%s without %s", k.Name, o.Name), k.Name, without, !o.Required)
			if o.Enum != nil {
				check(fmt.Sprintf("%s with %s not in the list", k.Name, o.Name), k.Name, settings(o.Name, "no such value"), false)
			}
		}
	}
}

// What was said already is not said again, and takes no other error with it.
func TestEveryErrorOfManyIsPrinted(t *testing.T) {
	said := &exitError{code: exitNo, err: fmt.Errorf("%w: not proven", errSaid)}
	both := fmt.Errorf("%w: %w", exporters.ErrTemporary, errors.New("reset"))
	list := messages(errors.Join(said, errors.Join(errors.New("one"), errors.New("two\nlines")), both))
	var got []string
	for _, m := range list {
		got = append(got, m.Error)
	}
	if want := "one|two|lines|temporary failure: reset"; strings.Join(got, "|") != want {
		t.Errorf("printed %q; want %s", got, want)
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
