package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": main, "age-plugin-sallytest": agePlugin})
}

// agePlugin is an age plug-in that speaks the real protocol. It wraps X25519 keys: what its
// encodings hold is a native key as text.
func agePlugin() {
	p, err := plugin.New("sallytest")
	if err != nil {
		panic(err)
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) { return age.ParseX25519Recipient(string(data)) })
	p.HandleIdentity(func(data []byte) (age.Identity, error) { return age.ParseX25519Identity(string(data)) })
	os.Exit(p.Main())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setup,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":     exits,
			"json":      jsonCommand,
			"flip":      flip,
			"truncate":  truncate,
			"mode":      mode,
			"pluginkey": pluginKey,
		},
	})
}

// setup gives a script a home of its own.
func setup(e *testscript.Env) error {
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
	e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "xdg"))
	e.Setenv("TMPDIR", filepath.Join(e.WorkDir, ".tmp"))
	return nil
}

// exits runs a command and fails unless it ends with the given code:
//
//	exits 2 sallyport config check
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d; want %d", got, want)
	}
}

// largest returns the largest file that a pattern names: of packs, the one with data.
func largest(ts *testscript.TestScript, pattern string) (name string) {
	files, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	var most int64 = -1
	for _, f := range files {
		info, err := os.Stat(f)
		ts.Check(err)
		if info.Size() > most {
			name, most = f, info.Size()
		}
	}
	if name == "" {
		ts.Fatalf("%s names no file", pattern)
	}
	return name
}

// flip flips the lowest bit of a byte: the middle one, or the one at an offset.
//
//	flip store/case-files/packs/5d/5d02* [17]
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: flip file [offset]")
	}
	name := largest(ts, args[0])
	data, err := os.ReadFile(name)
	ts.Check(err)
	at := len(data) / 2
	if len(args) == 2 {
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	data[at] ^= 1
	ts.Check(os.Chmod(name, 0o600))
	ts.Check(os.WriteFile(name, data, 0o600))
}

// truncate cuts a file to a length.
//
//	truncate store/case-files/packs/5d/5d02* 100
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: truncate file length")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	name := largest(ts, args[0])
	ts.Check(os.Chmod(name, 0o600))
	ts.Check(os.Truncate(name, n))
}

// mode fails unless a file has the given permissions.
//
//	mode 600 keys/signer
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode octal file")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s; want %s", args[1], got, args[0])
	}
}

// pluginkey makes an identity of the plug-in that only its plug-in can use, and its
// recipient:
//
//	pluginkey identity recipient
func pluginKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: pluginkey identity recipient")
	}
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	for name, text := range map[string]string{args[0]: plugin.EncodeIdentity("sallytest", []byte(id.String())),
		args[1]: plugin.EncodeRecipient("sallytest", []byte(id.Recipient().String()))} {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text+"\n"), 0o600))
	}
}

var fence = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// The commands of the README are run in the order in which they stand, in one
// directory, as a reader would.
func TestReadmeCommandsWork(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	blocks := fence.FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md has no commands")
	}
	for _, b := range blocks {
		if strings.HasPrefix(b[1], "make") || strings.HasPrefix(b[1], "go install") {
			continue // building is what this test did before
		}
		script.WriteString(b[1])
	}
	dir := t.TempDir()
	cmd := exec.Command("bash", "-euo", "pipefail", "-x", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME="+dir+"/state", "XDG_CONFIG_HOME="+dir+"/xdg")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
